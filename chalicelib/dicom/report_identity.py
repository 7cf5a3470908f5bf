"""Which document a report's instance stands for, and which ones it replaces: what orders the versions of reports.

Structured reports say it in Predecessor Documents Sequence (PS3.3 C.17.2); CDA documents in their own header (CDA R2 4.2: id,
setId, versionNumber, relatedDocument RPLC and APND), which also stands first, so that little of a document is read. Identifiers
are kept as digests: they are compared and never shown, and a sender may have put a patient's number into one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace

from pydicom.dataset import Dataset

from chalicelib.dicom import cda
from chalicelib.dicom.header import Head
from chalicelib.dicom.identity import single_uid
from chalicelib.dicom.metadata import find_value
from chalicelib.dicom.values import items_of, text_of, values_of
from chalicelib.domain import tags
from chalicelib.domain.report_versions import STATUSES, UNFINISHED, DeclaredDocument
from chalicelib.domain.sharing import HOSPITAL_TIME
from chalicelib.domain.studies import REPORT_KINDS

MAX_DOCUMENT = 1024 * 1024
"""Bytes of an encapsulated document that are read when it is indexed: of a larger one, its header and not its digest."""
OURS = "CONTENITORE"
"""Creator of the private block (0041,xx00) of the reports that the archive makes: what the standard has no attribute for."""
_MAX_PREDECESSORS = 32
_DIGEST = 32
_ENCAPSULATED_DOCUMENT = tags.EncapsulatedDocument.number


def identify(head: Head, fetch: Callable[[int, int], bytes]) -> DeclaredDocument | None:
    """What a report says of its document; None for what is no report. What is missing or unreadable is left out."""
    kind = REPORT_KINDS.get(single_uid(head.dataset, tags.SOPClassUID))
    if kind is None:
        return None
    flags = {text_of(head.dataset, tag, "CS") for tag in (tags.CompletionFlag, tags.PreliminaryFlag)}
    declared = DeclaredDocument(
        replaces=tuple(dict.fromkeys(_predecessors(head.dataset)))[:_MAX_PREDECESSORS],
        preliminary=bool(flags & {"PARTIAL", "PRELIMINARY"}),
    )
    declared = _of_ours(head.dataset, declared)
    return _of_cda(head, fetch, declared) if kind == "cda" else declared


def _predecessors(dataset: Dataset) -> Iterator[str]:
    """What it replaces of its own study: a report of another one, whose content it may include, stays as it is."""
    own = single_uid(dataset, tags.StudyInstanceUID)
    for study in items_of(dataset, tags.PredecessorDocumentsSequence):
        if text_of(study, tags.StudyInstanceUID, "UI") == own:
            for series in items_of(study, tags.ReferencedSeriesSequence):
                for reference in items_of(series, tags.ReferencedSOPSequence):
                    if sop := text_of(reference, tags.ReferencedSOPInstanceUID, "UI"):
                        yield sop[:64]


def _of_ours(dataset: Dataset, declared: DeclaredDocument) -> DeclaredDocument:
    """With what the private block of `dicom.documents` says."""
    if text_of(dataset, tags.ReportPrivateCreator.number, "LO") != OURS:
        return declared
    status = text_of(dataset, tags.ReportStatus.number, "LO").lower()
    digests = [str(digest)[:_DIGEST] for digest in values_of(dataset, tags.ReportReplaces.number, "LO") if digest]
    return replace(
        declared,
        named=text_of(dataset, tags.ReportDocument.number, "LO")[:_DIGEST],
        report=text_of(dataset, tags.ReportName.number, "LO")[:_DIGEST],
        replaces_named=tuple(digests[:_MAX_PREDECESSORS]),
        status=status if status in STATUSES else "",
        preliminary=declared.preliminary or status in UNFINISHED,
        repeated=text_of(dataset, tags.ReportTimeRepeated.number, "LO") == "YES",
    )


def _of_cda(head: Head, fetch: Callable[[int, int], bytes], declared: DeclaredDocument) -> DeclaredDocument:
    """With what the document's own header says; where it cannot be read, with the id that the data set has of it."""
    declared = replace(declared, id=_digest(text_of(head.dataset, tags.HL7InstanceIdentifier, "ST")))
    content = encapsulated(head, fetch)
    if content is None:
        return declared
    try:
        header = cda.read_header(content)
    except cda.UnreadableDocument:
        return declared
    written = header.when(HOSPITAL_TIME)
    return replace(
        declared,
        id=_digest(header.id) or declared.id,
        set=_digest(header.set_id),
        replaces_ids=tuple(cda.same(replaced) for replaced in header.replaces),
        status="addendum" if header.appends else declared.status,
        date=written.date,
        time=written.time,
        repeated=written.repeated if written.date else declared.repeated,
        content=hashlib.sha256(content.rstrip(b"\0")).hexdigest()[:32] if len(content) < MAX_DOCUMENT else "",
        version=header.version,
    )


def encapsulated(head: Head, fetch: Callable[[int, int], bytes]) -> bytes | None:
    """The document, or its beginning; None where it has none, or a large one in a deflated data set."""
    element = head.dataset.get_item(_ENCAPSULATED_DOCUMENT)
    if element is not None and isinstance(element.value, bytes):
        return element.value
    place = find_value(head, (_ENCAPSULATED_DOCUMENT,))
    if place is None or not place.length or head.deflated:
        return None
    return fetch(place.offset, min(place.length, MAX_DOCUMENT))


def _digest(identifier: str) -> str:
    return cda.same(identifier) if identifier.strip() else ""
