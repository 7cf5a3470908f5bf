"""Handlers of reports: sent by a RIS, read by people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from chalice.app import Response

from chalicelib.api.call import Call
from chalicelib.api.registry import handler
from chalicelib.api.responses import answer
from chalicelib.dicomweb.media_types import parse_media_type
from chalicelib.domain import identifiers
from chalicelib.domain.errors import BadRequest, TooLarge, UnsupportedMediaType
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.sharing import HOSPITAL_TIME
from chalicelib.services.ingest import at_once, documents, reports
from chalicelib.services.ingest.reports import SentReport
from chalicelib.services.sharing import readings

if TYPE_CHECKING:
    from chalicelib.dicom.documents import Document

MAX_TITLE = 64
T = TypeVar("T")


@handler("POST", "/studies/{study}/reports")
def add_report(call: Call, study: str) -> Response:
    """201 with the report, now an instance of the caller's study; 200 when it is the newest version already.

    Body: `application/pdf`, `text/plain; charset=utf-8` or `application/hl7-cda+xml`. Query: `title`, `document` (which
    document this is a version of; a CDA's setId is its own), `report` (which report it is one of the documents of: a later
    version of the report replaces them all), `date` (when it was written; a CDA's effectiveTime is its own),
    `status` (a CDA that appends to another is an addendum), `replaces` (ids of other documents). 400, 404, 409 for a CDA that
    says that it is of another patient, 413, 415.
    """
    uid = identifiers.uid(study, "study_instance_uid")
    title = call.parameter("title") or ""
    if len(title) > MAX_TITLE or not title.isprintable():
        raise BadRequest(f"title must be at most {MAX_TITLE} printable characters.", "title")
    sent = _sent(call, title, reports.check_document(call.parameter("document")))
    written = reports.check_date(call.parameter("date"))
    status, replaces = reports.check_status(call.parameter("status")), reports.check_replaces(call.parameter("replaces"))
    written = sent.written if sent.written.date else written
    of_report = reports.check_document(named, "report") if (named := call.parameter("report")) else ""
    sent = replace(sent, written=written, status=sent.status or status, replaces=replaces, report=of_report)
    table, objects = call.archive.table, call.archive.objects
    report, is_new = reports.add_report(
        table,
        objects,
        at_once.index_one(table, objects, call.archive.trail),
        documents.build_report,
        call.caller,
        uid,
        sent,
        call.now,
        call.record,
    )
    return answer({"study_instance_uid": uid, **report}, 201 if is_new else 200)


@handler("GET", "/studies/{study}/reports")
def list_reports(call: Call, study: str) -> Response:
    """200 with the reports of a study, newest first. 400, 404."""
    uid = identifiers.uid(study, "study_instance_uid")
    owner = call.parameter("owner")
    return answer(reports.list_reports(call.archive.table, call.caller, uid, owner, call.now, call.record))


@handler("GET", "/studies/{study}/reports/{sop}")
def read_report(call: Call, study: str, sop: str) -> Response:
    """200 with the document as it was sent (PDF, CDA), or a structured report as text; `format=text`: as text. 400, 404, 406,
    413."""
    uid, instance = identifiers.uid(study, "study_instance_uid"), identifiers.uid(sop, "sop_instance_uid")
    wanted = call.parameter("format")
    if wanted not in (None, "text"):
        raise BadRequest("format may be text.", "format")
    table, caller = call.archive.table, call.caller
    stored, report = reports.find_report(table, caller, uid, instance, call.parameter("owner"), call.now, call.record)
    if report.newest and call.request.headers.get("x-on-behalf-of"):
        readings.remember_for(table, caller, stored.institution, uid, instance, call.now)
    return document_response(documents.read_document(call.archive.objects, stored), as_text=wanted == "text")


def document_response(document: Document, *, as_text: bool) -> Response:
    """A document as an answer that a browser shows and never runs."""
    as_it_is = document.kind == "pdf" or not as_text
    headers = {
        "Content-Type": document.media_type if as_it_is else "text/plain; charset=utf-8",
        "Content-Disposition": f"inline; filename=report.{'pdf' if document.kind == 'pdf' else 'txt'}",
        "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; object-src 'self'",
        "Cache-Control": "no-store",
    }
    return Response(document.content if as_it_is else document.text.encode(), headers, 200)


def _sent(call: Call, title: str, document: str) -> SentReport:
    from chalicelib.dicom import cda, documents  # pydicom is imported only where a document is read or made

    sent = parse_media_type(call.request.headers.get("content-type") or "")
    sop_class = documents.MEDIA_TYPES.get(sent.name) if sent is not None else None
    charset = sent.parameter("charset") if sent is not None else None
    if sop_class is None or (sop_class == documents.BASIC_TEXT_SR and (charset or "utf-8").lower() != "utf-8"):
        taken = "application/pdf, text/plain; charset=utf-8, application/hl7-cda+xml"
        raise UnsupportedMediaType(f"A report is one of {taken}.")
    content = call.request.raw_body or b""
    if len(content) > reports.MAX_BYTES:
        raise TooLarge(f"A report here has at most {reports.MAX_BYTES} bytes; larger ones are sent as DICOM by /uploads.")
    if sop_class == documents.PDF:
        _checked(lambda: documents.check_pdf(content))
        return SentReport("pdf", title or "Referto", document, content)
    if sop_class == documents.BASIC_TEXT_SR:
        _checked(lambda: documents.check_text(content))
        return SentReport("sr", title or "Referto", document, content)
    header = _checked(lambda: cda.read_cda(content)).header
    version = header.version if header.set_id else None
    named = (PatientIdentifier(root, extension) for root, _, extension in (said.partition("^") for said in header.patients))
    document = header.set_id or document
    return SentReport(
        "cda", title or header.title or "Referto", document, content, version, header.when(HOSPITAL_TIME),
        status="addendum" if header.appends else "", patients=tuple(named),
    )  # fmt: skip


def _checked(check: Callable[[], T]) -> T:
    from chalicelib.dicom import cda

    try:
        return check()
    except cda.UnreadableDocument as error:
        raise BadRequest(str(error), "body") from error
