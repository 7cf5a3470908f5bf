"""Handlers of the audit trail: what happened to the caller's own patients, for its officers and for the patients themselves."""

from __future__ import annotations

from urllib.parse import urlencode

from chalice.app import Response

from chalicelib.api import access_report
from chalicelib.api.access_report import Words
from chalicelib.api.audit_event import CONTENT_TYPE, audit_event, bundle
from chalicelib.api.call import Call
from chalicelib.api.registry import handler
from chalicelib.api.responses import answer
from chalicelib.api.words import LANGUAGES, language_of, words
from chalicelib.dicomweb.media_types import Representation, negotiate
from chalicelib.domain.audit import Entry, Kind, Purpose, Record
from chalicelib.domain.audit_sessions import sessions
from chalicelib.domain.errors import BadRequest
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.rfc3339 import iso
from chalicelib.services.audit import reading
from chalicelib.services.audit.reading import DEFAULT_LIMIT, MAX_LIMIT, Period

MAX_ROWS, MAX_READ = 2000, 10_000
"""Lines in one PDF, and records that are read for them, the newest; more are had by asking for an earlier period."""
_FORMATS = {"json": "application/json", "pdf": "application/pdf"}
_OFFERS = (Representation("application/json"), Representation("application/pdf"))


@handler("GET", "/audit")
def read_audit(call: Call) -> Response:
    """200 with a FHIR Bundle of AuditEvents, newest first: accesses to the caller's own patients, or to one of them. 400."""
    when, limit = _period(call), call.number("limit", DEFAULT_LIMIT, MAX_LIMIT)
    patient, asked = None, call.parameter("patient")
    if asked is not None:
        patient = reading.own_patient(call.caller, asked, call.parameter("issuer"))
    page = reading.accesses(call.archive.table, call.caller, patient, when, call.parameter("cursor"), limit)
    call.record(_entry(call, patient, Purpose.OPERATIONS, len(page.records)))
    names = {member.id: member.name for member in call.caller.registry.members.values()}
    events = [audit_event(record, names) for record in page.records]
    here = [(name, value) for name, value in call.query if name != "cursor"]
    following = _address(call, [*here, ("cursor", page.next)]) if page.next is not None else None
    return answer(bundle(events, call.base_url, _address(call, call.query), following), 200, CONTENT_TYPE)


@handler("GET", "/patients/{patient}/accesses")
def report_accesses(call: Call, patient: str) -> Response:
    """200 with the report that a patient may ask for: JSON, or a PDF in Italian or English. 400, 406."""
    who = reading.own_patient(call.caller, patient, call.parameter("issuer"))
    when, language, as_pdf = _period(call), _language(call), _format(call) == "application/pdf"
    if as_pdf:
        records, following = _newest(call, who, when)
    else:
        limit = call.number("limit", MAX_LIMIT, MAX_LIMIT)
        page = reading.accesses(call.archive.table, call.caller, who, when, call.parameter("cursor"), limit)
        records, following = page.records, page.next
    found = reading.details(call.archive.table, call.caller, records)
    call.record(_entry(call, who, Purpose.PATIENT_REQUEST, len(records)))
    readings = sessions(records)
    if as_pdf:
        cut = following is not None or len(readings) > MAX_ROWS
        lines = access_report.lines(readings[:MAX_ROWS], found, call.caller.registry, words(language))
        return _pdf(call, who, when, lines, cut, language)
    member = call.caller.member
    return answer(
        {
            "patient": {"id": who.value, "issuer": who.issuer},
            "institution": {"id": member.id, "name": member.name},
            "from": iso(when.since) if when.since else None,
            "to": iso(when.until) if when.until else None,
            "generated_at": iso(call.now),
            "language": language,
            "accesses": [access_report.entry(reading, found, call.caller.registry, words(language)) for reading in readings],
            **({"next": following} if following is not None else {}),
        }
    )


def _period(call: Call) -> Period:
    return reading.period(call.parameter("from"), call.parameter("to"))


def _entry(call: Call, patient: PatientIdentifier | None, purpose: Purpose, count: int) -> Entry:
    """That the trail was read: the trail of that patient says so, too."""
    return Entry(Kind.AUDIT_USED, call.caller.member.id, (patient,) if patient else (), None, purpose, count=count)


def _newest(call: Call, who: PatientIdentifier, when: Period) -> tuple[list[Record], str | None]:
    records: list[Record] = []
    cursor: str | None = None
    while True:
        page = reading.accesses(call.archive.table, call.caller, who, when, cursor, MAX_LIMIT)
        records, cursor = records + page.records, page.next
        if cursor is None or len(records) >= MAX_READ:
            return records, cursor


def _language(call: Call) -> str:
    asked = call.parameter("lang")
    if asked is not None and asked not in LANGUAGES:
        raise BadRequest(f"lang must be {' or '.join(LANGUAGES)}.", "lang")
    return language_of(asked, call.request.headers.get("accept-language"))


def _format(call: Call) -> str:
    """`format` wins over Accept, for a link in a page. Raises BadRequest, NotAcceptable."""
    asked = call.parameter("format")
    if asked is None:
        return negotiate(_OFFERS, call.request.headers.get("accept")).offer.media_type
    if asked not in _FORMATS:
        raise BadRequest(f"format must be {' or '.join(_FORMATS)}.", "format")
    return _FORMATS[asked]


def _pdf(call: Call, who: PatientIdentifier, when: Period, lines: list[access_report.Line], cut: bool, language: str) -> Response:
    from chalicelib.api import access_pdf  # pydyf is needed here only

    _: Words = words(language)
    years, bounds = call.archive.config.audit_retention_years, (when.since, when.until)
    title, introduction, headings, closing = access_report.frame(
        call.caller.member.name, who, bounds, call.now, len(lines), cut, years, _
    )
    rows = [(line.when, line.who, line.what, line.why) for line in lines]
    name = _("accesses")
    content = access_pdf.render(title, introduction, headings, rows, closing, language)
    headers: JsonObject = {
        "Content-Type": "application/pdf",
        "Content-Language": language,
        "Content-Disposition": f'inline; filename="{name}.pdf"',
        "Cache-Control": "no-store",
    }
    return Response(content, headers, 200)


def _address(call: Call, query: list[tuple[str, str]]) -> str:
    text = urlencode(query)
    return f"{call.base_url}/audit" + (f"?{text}" if text else "")
