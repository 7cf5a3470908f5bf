"""Reports as DICOM instances: made from what a RIS sends, and read back for people.

PS3.3 A.45.1 (Encapsulated PDF), A.45.2 (Encapsulated CDA), A.35.1 (Basic Text SR).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian

from chalicelib.dicom.cda import CdaHeader, UnreadableDocument, read_cda, without_padding
from chalicelib.dicom.header import Head
from chalicelib.dicom.identity import single_uid
from chalicelib.dicom.report_identity import MAX_DOCUMENT, OURS, encapsulated
from chalicelib.dicom.values import items_of, text_of, values_of
from chalicelib.domain import report_sections, tags
from chalicelib.domain.attributes import IN_REPORTS
from chalicelib.domain.dicom_json import Attributes
from chalicelib.domain.report_sections import Section
from chalicelib.domain.report_versions import UNFINISHED
from chalicelib.domain.studies import REPORT_KINDS
from chalicelib.domain.tags import Tag

PDF = "1.2.840.10008.5.1.4.1.1.104.1"
CDA = "1.2.840.10008.5.1.4.1.1.104.2"
BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
MEDIA_TYPES = {"application/pdf": PDF, "application/hl7-cda+xml": CDA, "text/plain": BASIC_TEXT_SR}

ENCAPSULATED_DOCUMENT = tags.EncapsulatedDocument.number
LONG = frozenset({ENCAPSULATED_DOCUMENT, tags.TextValue.number})
"""Encapsulated Document and Text Value: what may be as long as a report is."""
PDF_HEADER, _BEFORE_HEADER = b"%PDF-", 1024
"""How a PDF begins, and bytes that may stand before it, as every reader of PDFs takes them (ISO 32000-1 annex H.3)."""
NO_VALUE = "—"
"""What stands where a structured report has a number without a value, and does not say why."""
_IMPLEMENTATION = "2.25.177834251793203581744915382104418301926"
_MAX_DEPTH = 40
_LOINC = "2.16.840.1.113883.6.1"
_RADIOLOGY_REPORT = ("68604-8", "LN", "Radiology Diagnostic study note")


@dataclass(frozen=True)
class ReportIdentity:
    """UIDs and number of the instance that a report becomes, and of the document it stands for."""

    series_instance_uid: str
    sop_instance_uid: str
    version: int
    title: str
    date: str
    time: str
    """When it was written, in the hospital's time zone: YYYYMMDD, and HHMMSS[.ffffff] or empty."""
    made_at: datetime
    """When the instance is made, in the hospital's time zone."""
    predecessors: tuple[str, ...] = ()
    """SOP Instance UIDs of the versions that it replaces, of the same class and series."""
    status: str = ""
    """One of `domain.report_versions.STATUSES`, or empty where nothing was said."""
    document: str = ""
    """The digest of its document's name."""
    report: str = ""
    """The digest of the name of the report that it is one of the documents of, or empty."""
    replaced: tuple[str, ...] = ()
    """The digests of the names of other documents that it replaces."""
    repeated: bool = False
    """Of date and time, as `domain.report_versions.WrittenMoment`."""


@dataclass(frozen=True)
class Document:
    """A report read back: `media_type` and `content` as they were sent (text for a structured report), plain `text`, and its
    sections, which are the same text (none of one that is longer than `report_sections.MAX_TEXT`)."""

    kind: str
    title: str
    media_type: str
    content: bytes
    text: str
    sections: tuple[Section, ...] = ()


def build(sop_class: str, of_study: Attributes, identity: ReportIdentity, content: bytes, cda: CdaHeader | None = None) -> bytes:
    """A report as a DICOM file (PS3.10). `of_study`: DICOM JSON of patient and study attributes to put it under."""
    data = Dataset.from_json({tag: value for tag, value in of_study.items() if tag in IN_REPORTS})
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID, data.SOPInstanceUID = sop_class, identity.sop_instance_uid
    data.SeriesInstanceUID = identity.series_instance_uid
    data.Modality = "SR" if sop_class == BASIC_TEXT_SR else "DOC"
    data.SeriesNumber, data.InstanceNumber = 9000, identity.version
    data.SeriesDescription = identity.title[:64]
    data.Manufacturer = "Contenitore"
    data.ContentDate, data.ContentTime = identity.date, identity.time
    made_at = identity.made_at
    data.InstanceCreationDate, data.InstanceCreationTime = made_at.strftime("%Y%m%d"), made_at.strftime("%H%M%S")
    _fill_private(data, identity)
    if sop_class == BASIC_TEXT_SR:
        _fill_text(data, identity, content.decode("utf-8-sig"))
        _fill_predecessors(data, sop_class, identity)
    else:
        _fill_document(data, sop_class, identity, content, cda)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, identity.sop_instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _IMPLEMENTATION
    data.file_meta = meta
    written = io.BytesIO()
    dcmwrite(written, data, enforce_file_format=True)
    return written.getvalue()


def read(head: Head) -> Document:
    """The document that an instance is, whose head was read with its long values (`LONG`). Raises UnreadableDocument."""
    data = head.dataset
    element = data.get_item(ENCAPSULATED_DOCUMENT)
    encapsulated = element.value if element is not None and isinstance(element.value, bytes) else None
    title = text_of(data, tags.DocumentTitle, "ST") or _concept(data) or text_of(data, tags.SeriesDescription, "LO")
    if encapsulated is not None:
        content = _unpadded(encapsulated, values_of(data, tags.EncapsulatedDocumentLength, "UL"))
        if PDF_HEADER in content[:_BEFORE_HEADER] or (not content and single_uid(data, tags.SOPClassUID) == PDF):
            return Document("pdf", title, "application/pdf", content, "")  # an empty one is told as such by who shows it
        content = without_padding(content)
        document = read_cda(content)
        sections = report_sections.of_coded(document.sections) if len(document.text) <= report_sections.MAX_TEXT else ()
        return Document("cda", title or document.header.title, "application/hl7-cda+xml", content, document.text, sections)
    content_items = items_of(data, tags.ContentSequence)
    if len(content_items) == 1 and text_of(content_items[0], tags.ValueType, "CS") == "TEXT":
        text = _sr_value(content_items[0], "TEXT")  # nothing but one text: its name says nothing to a reader
        sections = report_sections.split(text) if len(text) <= report_sections.MAX_TEXT else ()
    else:
        text = "\n".join(_sr_lines(data, 0))
        sections = report_sections.of_coded(_sr_sections(content_items)) if len(text) <= report_sections.MAX_TEXT else ()
    if not text and REPORT_KINDS.get(single_uid(data, tags.SOPClassUID)) != "sr":
        raise UnreadableDocument("The instance holds no document.")
    return Document("sr", title, "text/plain; charset=utf-8", text.encode(), text, sections)


def _unpadded(content: bytes, declared: list[Any]) -> bytes:
    """A document without NULs behind it, but for those that its declared length counts in; one that is too short cuts nothing."""
    length = declared[0] if declared and isinstance(declared[0], int) and declared[0] <= len(content) else 0
    return content[: max(length, len(without_padding(content)))]


def conclusion(head: Head, fetch: Callable[[int, int], bytes]) -> str:
    """The line that a list shows of a report (`report_sections.conclusion`), whose head was read without its long values.

    Empty for what is no report, for a PDF, and for one that is longer than what is read when it is indexed, or not readable.
    """
    kind = REPORT_KINDS.get(single_uid(head.dataset, tags.SOPClassUID))
    try:
        if kind == "cda":
            content = encapsulated(head, fetch)
            if content is None or len(content) >= MAX_DOCUMENT:
                return ""
            whole = read_cda(content)
            sections, text = report_sections.of_coded(whole.sections), whole.text
        elif kind == "sr" and not any(element.path[-1] in LONG for element in head.left_out):
            document = read(head)
            sections, text = document.sections, document.text
        else:
            return ""
    except UnreadableDocument:
        return ""
    return report_sections.conclusion(sections, text)


def check_pdf(content: bytes) -> None:
    """Raises UnreadableDocument for what does not begin and end like a PDF (ISO 32000-1 7.5)."""
    if not content.startswith(b"%PDF-") or b"%%EOF" not in content[-2048:]:
        raise UnreadableDocument("The body is not a PDF.")


def check_text(content: bytes) -> str:
    """The text of a report. Raises UnreadableDocument for what is not UTF-8, or is empty."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableDocument("The body is not UTF-8.") from error
    if not any(mark.isprintable() and not mark.isspace() for mark in text):
        raise UnreadableDocument("The body is empty.")
    return text


def _fill_text(data: Dataset, identity: ReportIdentity, text: str) -> None:
    """SR Document Content (PS3.3 C.17.3): one CONTAINER with one TEXT."""
    unfinished = identity.status in UNFINISHED
    data.CompletionFlag, data.VerificationFlag = "PARTIAL" if unfinished else "COMPLETE", "UNVERIFIED"
    if identity.status:
        data.PreliminaryFlag = "PRELIMINARY" if unfinished else "FINAL"
    data.ReferencedPerformedProcedureStepSequence = []
    data.PerformedProcedureCodeSequence = []
    data.ValueType, data.ContinuityOfContent = "CONTAINER", "SEPARATE"
    data.ConceptNameCodeSequence = [_code("18748-4", "LN", identity.title[:64] or "Diagnostic imaging report")]
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "TEXT"
    item.ConceptNameCodeSequence = [_code("121070", "DCM", "Findings")]
    item.TextValue = text
    data.ContentSequence = [item]


def _fill_private(data: Dataset, identity: ReportIdentity) -> None:
    data.add_new(tags.ReportPrivateCreator.number, "LO", OURS)
    if identity.status:
        data.add_new(tags.ReportStatus.number, "LO", identity.status.upper())
    if identity.document:
        data.add_new(tags.ReportDocument.number, "LO", identity.document)
    if identity.report:
        data.add_new(tags.ReportName.number, "LO", identity.report)
    if identity.replaced:
        data.add_new(tags.ReportReplaces.number, "LO", list(identity.replaced))
    if identity.repeated:
        data.add_new(tags.ReportTimeRepeated.number, "LO", "YES")


def _fill_predecessors(data: Dataset, sop_class: str, identity: ReportIdentity) -> None:
    """Predecessor Documents Sequence (PS3.3 C.17.2), where this is a later version."""
    if not identity.predecessors:
        return
    series, study = Dataset(), Dataset()
    series.ReferencedSOPSequence = [_reference(sop_class, sop) for sop in identity.predecessors]
    series.SeriesInstanceUID = identity.series_instance_uid
    study.ReferencedSeriesSequence = [series]
    study.StudyInstanceUID = data.StudyInstanceUID
    data.PredecessorDocumentsSequence = [study]


def _reference(sop_class: str, sop: str) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = sop_class, sop
    return reference


def _fill_document(data: Dataset, sop_class: str, identity: ReportIdentity, content: bytes, cda: CdaHeader | None) -> None:
    """Encapsulated Document (PS3.3 C.24.2)."""
    data.BurnedInAnnotation, data.ConversionType = "YES", "WSD"
    data.AcquisitionDateTime = ""
    data.DocumentTitle = identity.title[:64]
    data.ConceptNameCodeSequence = [_document_code(identity, cda)]
    data.MIMETypeOfEncapsulatedDocument = "application/pdf" if sop_class == PDF else "text/XML"
    if cda is not None:
        data.HL7InstanceIdentifier = cda.id[:1024] or identity.sop_instance_uid
    data.EncapsulatedDocumentLength = len(content)
    data.EncapsulatedDocument = content + b"\0" * (len(content) % 2)


def _document_code(identity: ReportIdentity, cda: CdaHeader | None) -> Dataset:
    """What kind of document it is: as a CDA says by LOINC, else a radiology report."""
    value, system = cda.code if cda is not None else ("", "")
    if system != _LOINC or not value or value == _RADIOLOGY_REPORT[0]:
        return _code(*_RADIOLOGY_REPORT)
    return _code(value, "LN", identity.title[:64] or value)


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _sr_lines(item: Dataset, depth: int) -> Iterator[str]:
    """A structured report's content tree as lines: name, colon, value; deeper ones indented (PS3.3 C.17.3)."""
    if depth > _MAX_DEPTH:
        return
    for child in items_of(item, tags.ContentSequence):
        name = _concept(child)
        kind = text_of(child, tags.ValueType, "CS")
        value = _sr_value(child, kind)
        if kind == "CONTAINER":
            if name:
                yield f"{'  ' * depth}{name}"
        elif value:
            yield f"{'  ' * depth}{name + ': ' if name else ''}{value}"
        yield from _sr_lines(child, depth + 1)


def _sr_sections(content_items: list[Dataset]) -> Iterator[tuple[str, str, str]]:
    """(code, name, text) of each heading and each text at the top of a structured report (PS3.16 TID 2000).

    What stands between them, such as who observed, goes together, without a name.
    """
    between: list[str] = []
    for item in content_items:
        kind = text_of(item, tags.ValueType, "CS")
        name, code = _concept(item), _concept(item, (tags.CodeValue, "SH"))
        if kind == "CONTAINER" and name:
            below = "\n".join(_sr_lines(item, 0))
        elif kind == "TEXT" and report_sections.of_code(code):
            below = "\n".join([_sr_value(item, kind), *_sr_lines(item, 0)])
        else:
            lines = (
                []
                if kind == "CONTAINER"
                else [f"{name + ': ' if name else ''}{value}" for value in [_sr_value(item, kind)] if value]
            )
            between += [*lines, *_sr_lines(item, 0)]
            continue
        if between:
            yield "", "", "\n".join(between)
            between = []
        yield code, name, below
    if between:
        yield "", "", "\n".join(between)


def _sr_value(item: Dataset, kind: str) -> str:
    if kind == "NUM":
        return _number(item)
    if kind == "CODE":
        return _coded(item, tags.ConceptCodeSequence)
    simple = {
        "TEXT": (tags.TextValue, "UT"),
        "DATE": (tags.Date, "DA"),
        "TIME": (tags.Time, "TM"),
        "DATETIME": (tags.DateTime, "DT"),
    }
    if kind in simple:
        return text_of(item, *simple[kind])
    return text_of(item, tags.PersonName, "PN") if kind == "PNAME" else ""


def _number(item: Dataset) -> str:
    """A number with its unit, or why there is none (PS3.3 C.18.1). A finding that was not measured is not left out."""
    measured = items_of(item, tags.MeasuredValueSequence)[:1]
    number = text_of(measured[0], tags.NumericValue, "DS") if measured else ""
    said = [f"{number} {_unit(measured[0])}".strip()] if number else []
    qualifier = _coded(item, tags.NumericValueQualifierCodeSequence)
    return " ".join([*said, f"({qualifier})" if said else qualifier] if qualifier else said) or NO_VALUE


def _unit(measured: Dataset) -> str:
    """A unit as people write it: nothing for UCUM's unity, and in words what UCUM annotates ("{H.B.}/min")."""
    units = items_of(measured, tags.MeasurementUnitsCodeSequence)[:1]
    symbol = text_of(units[0], tags.CodeValue, "SH") if units else ""
    if symbol == "1":
        return ""
    return text_of(units[0], tags.CodeMeaning, "LO") or symbol if "{" in symbol else symbol


def _coded(item: Dataset, sequence: Tag) -> str:
    """Code Meaning of a sequence's first item; of one without a meaning the code itself."""
    for code in items_of(item, sequence)[:1]:
        readings = ((tags.CodeMeaning, "LO"), (tags.CodeValue, "SH"), (tags.LongCodeValue, "UC"), (tags.URNCodeValue, "UR"))
        return next(filter(None, (text_of(code, *reading) for reading in readings)), "")
    return ""


def _concept(item: Dataset, attribute: tuple[Tag, str] = (tags.CodeMeaning, "LO")) -> str:
    """Code Meaning, or another attribute, of Concept Name Code Sequence (PS3.3 C.17.3)."""
    names = items_of(item, tags.ConceptNameCodeSequence)[:1]
    return text_of(names[0], *attribute) if names else ""
