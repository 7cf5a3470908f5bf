"""Documents as DICOM: reports that are made, and those that are read (PS3.3 A.35, A.45)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from chalicelib.domain.dicom_json import Attributes
from chalicelib.domain.errors import NotAcceptable, TooLarge
from chalicelib.domain.ports import Objects
from chalicelib.domain.rejections import Rejected
from chalicelib.services.ingest.instance_items import StoredObject
from chalicelib.services.ingest.reports import MAX_BYTES, ReportPlace, SentReport

if TYPE_CHECKING:
    from chalicelib.dicom.documents import Document


def build_report(sent: SentReport, of_study: Attributes, place: ReportPlace, at: datetime) -> bytes:
    """`services.ingest.reports.Build`."""
    from chalicelib.dicom import cda, documents

    sop_class = {"pdf": documents.PDF, "cda": documents.CDA, "sr": documents.BASIC_TEXT_SR}[sent.kind]
    identity = documents.ReportIdentity(
        place.series, place.sop, place.number, sent.title, place.written.date, place.written.time, at,
        place.replaces, sent.status, place.document, place.report, place.replaced, place.written.repeated,
    )  # fmt: skip
    header = cda.read_cda(sent.content).header if sent.kind == "cda" else None
    return documents.build(sop_class, of_study, identity, sent.content, header)


def read_document(objects: Objects, stored: StoredObject) -> Document:
    """The document in a stored object. Raises NotAcceptable when it holds none that can be read, TooLarge over `MAX_BYTES`."""
    from chalicelib.dicom import cda, documents
    from chalicelib.dicom.header import DEFAULT_LIMITS, read_head

    limits = replace(DEFAULT_LIMITS, value=MAX_BYTES + 1)  # one byte of padding
    too_large = TooLarge("This document is too large to be answered here; the whole instance is in the study's manifest.")
    try:
        head = read_head(lambda start, length: objects.read(stored.key, start, length), stored.size, limits)
    except Rejected as error:  # it was taken when its long values were not read
        raise too_large from error
    if any(element.path[-1] in documents.LONG for element in head.left_out):
        raise too_large
    try:
        document = documents.read(head)
    except cda.UnreadableDocument as error:
        raise NotAcceptable(f"This report cannot be read: {error} The whole instance is in the study's manifest.") from error
    if len(document.text) > MAX_BYTES or len(document.text.encode()) > MAX_BYTES:
        raise too_large
    return document
