"""Handlers of reading sessions: links for those who sign, and `/view/…` for the browser that opened one.

Nothing below `/view/` is signed: a link's token, a session's key (`Authorization: Bearer`) or its pass (in the path) says
what it opens, and facts decide at every request whether it still does. Answers may be read by the viewer's own page only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from chalice.app import Response

from chalicelib.api.call import Call
from chalicelib.api.registry import handler
from chalicelib.api.responses import answer
from chalicelib.domain import identifiers
from chalicelib.domain.audit import Entry
from chalicelib.domain.errors import BadRequest, Conflict, NotFound, TooLarge
from chalicelib.domain.fields import fields
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.ports import Table
from chalicelib.domain.report_versions import ListedReport
from chalicelib.domain.timelines import TimelineStudy
from chalicelib.domain.viewer_sessions import browser_secret
from chalicelib.services.finding import cited_priors, priors
from chalicelib.services.finding.priors import OrderedExam, RankedPrior
from chalicelib.services.ingest import at_once, documents, reports
from chalicelib.services.ingest.instance_items import StoredObject
from chalicelib.services.sharing import readings
from chalicelib.services.sharing.readings import OvertakenReading
from chalicelib.services.viewer import images, news, sessions, timeline
from chalicelib.services.viewer.sessions import Reader
from chalicelib.services.viewer.timeline import SessionTimeline

_BEARER = "Bearer "
_LARGEST_PLAIN = 4_600_000
"""Bytes of JSON that fit an answer of Lambda after base64; line breaks and quotes take two each."""
_MOST_AT_ONCE = 400
"""Images of an exam that is answered with the session itself; of a larger one they are asked for."""
_INERT = "sandbox; default-src 'none'; style-src 'unsafe-inline'; "


@handler("POST", "/links")
def make_link(call: Call) -> Response:
    """201 with the link: `{"id", "url", "expires_at"}`. 400; 404 for what the caller may not see; 409 without a viewer page."""
    viewer_url = call.archive.config.viewer_base_url
    if viewer_url is None:
        raise Conflict("This archive has no viewer page: VIEWER_BASE_URL is not set.")
    made = sessions.make(call.archive.table, call.caller, call.json(), viewer_url.rstrip("/"), call.now, call.act, call.record)
    return answer(made, 201)


@handler("DELETE", "/links/{link}")
def end_link(call: Call, link: str) -> Response:
    """200 with status `ended`, for the institution that made it, however often. 404."""
    return answer(sessions.end_by_institution(call.archive.table, call.caller, link, call.now, call.act, call.record))


@handler("POST", "/view/session", public=True)
def open_session(call: Call) -> Response:
    """201 with a key, a pass, the timeline, the exam to look at first (the newest with images), its best prior, and the images of
    these two, for `{"token", "browser"?}`.

    `browser` is a secret that this browser keeps: with it, and with nothing else, the link opens again. 400; 404 for an
    unknown token; 410 for one that has ended, or (`opened-elsewhere`) was opened by another browser.
    """
    body = fields(call.json())
    browser = browser_secret(body.get("browser"))
    reader, keys = sessions.open_link(call.archive.table, body.get("token"), browser, call.now)
    _act_as(call, reader)
    call.record(sessions.session_entry(reader.link, "opened"))
    shown = timeline.shown_timeline(call.archive.table, reader, call.now, call.record)
    news.begin(call.archive.table, reader, shown.studies, call.now)
    begins = _beginning(call.archive.table, shown, reader.link.scope.current)
    lists = [_images(call, reader, *study.key) for study in _first_shown(shown, begins)]
    opened = {
        "key": keys.key,
        "pass": keys.pass_,
        "etag": _etag(shown),
        "timeline": _with_courses(call.archive.table, shown),
        **begins.to_json(),
        "images": lists,
    }
    return view_answer(call, opened, 201)


@handler("DELETE", "/view/session", public=True)
def close_session(call: Call) -> Response:
    """200: the reading session has ended, for every key and pass of it. 404, 410."""
    sessions.end(bearer(call), call.now, call.act, call.record)
    return view_answer(call, {"status": "ended"})


@handler("POST", "/view/session/keep", public=True)
def keep_session(call: Call) -> Response:
    """200 with the session's end: a person is there, so that it does not go idle. 400, 404, 410.

    `{"shown": [{"study_instance_uid", "owner"?}]}` says what is on the screen: it is recorded, so that a patient's report
    says for how long somebody looked; and it is news to that person no longer.
    """
    body = fields(call.json(optional=True))
    who, table = bearer(call), call.archive.table
    seen = images.on_screen(table, who, body.get("shown", []), call.now, call.record)
    if seen and who.link.scope.patient is not None:
        shown = timeline.shown_timeline(table, who, call.now, _nothing_shown)
        news.looked_at(table, who, [study for study in shown.studies if study.key in seen], call.now)
    reader = sessions.keep(table, who, call.now)
    return view_answer(call, timeline.shown_session(reader))


@handler("GET", "/view/timeline", public=True)
def get_timeline(call: Call) -> Response:
    """200 with the timeline that the link opens, and an ETag. 404 when nothing of it may be seen any more; 410.

    A study is `new` that came, became complete or was reported on since the reader first saw the patient, until it was on the
    reader's screen.
    """
    shown = timeline.shown_timeline(call.archive.table, bearer(call), call.now, call.record)
    return view_answer(call, _with_courses(call.archive.table, shown), etag=_etag(shown))


@handler("GET", "/view/events", public=True)
def get_events(call: Call) -> Response:
    """200 with the ETag that the timeline has now, and nothing else: has anything changed? 404, 410 as the timeline."""
    shown = timeline.shown_timeline(call.archive.table, bearer(call), call.now, _nothing_shown)
    return view_answer(call, {"etag": _etag(shown)})


@handler("POST", "/view/acknowledgements", public=True)
def acknowledge(call: Call) -> Response:
    """200: the reader took note that a report, or an exam, that was read is corrected or withdrawn; again: the same answer.

    `{"study_instance_uid", "owner", "sop_instance_uid"?}`, as the timeline's `corrections` name it. 400, 404, 410.
    """
    named = ("study_instance_uid", "owner", "sop_instance_uid")
    body = fields(call.json(), named, named[:2])
    for name, value in body.items():
        if not isinstance(value, str):
            raise BadRequest(f"{name} must be a text.", name)
    study, report = identifiers.uid(body["study_instance_uid"], "study_instance_uid"), body.get("sop_instance_uid")
    report = None if report is None else identifiers.uid(report, "sop_instance_uid")
    reader, table = bearer(call), call.archive.table
    shown = timeline.shown_timeline(table, reader, call.now, _nothing_shown)
    waiting = timeline.pending(table, reader, shown.studies, call.now)
    meant = OvertakenReading(body["owner"], study, report)
    return view_answer(call, readings.take_note(table, reader.person, waiting, meant, call.now, call.act, call.record))


@handler("GET", "/view/studies/{study}/images", public=True)
def get_images(call: Call, study: str) -> Response:
    """200 with series and instances in reading order. 400, 404, 410.

    With `ahead` the page asks before anybody looks: recorded as that (`ahead`), and not yet read by anybody whom a correction
    would have to reach, or who would stand in the patient's report; when somebody looks, it asks again without.
    """
    reader = bearer(call)
    uid = identifiers.uid(study, "study")
    read = call.parameter("ahead") is None
    return view_answer(call, _images(call, reader, uid, call.parameter("owner"), read=read))


@handler("GET", "/view/studies/{study}/priors", public=True)
def get_view_priors(call: Call, study: str) -> Response:
    """200 with the priors of a study among those that the link opens. 400, 404, 410."""
    reader = bearer(call)
    uid = identifiers.uid(study, "study")
    owner = images.visible_owner(call.archive.table, reader, uid, call.parameter("owner"), call.now, call.record)
    shown = timeline.shown_timeline(call.archive.table, reader, call.now, call.record)
    limit = call.number("limit", priors.DEFAULT_LIMIT, priors.MAX_LIMIT)
    return view_answer(call, priors.among(call.archive.table, shown.studies, uid, owner, limit).to_json())


@handler("GET", "/view/studies/{study}/reports/{sop}", public=True)
def get_view_report(call: Call, study: str, sop: str) -> Response:
    """200 with a report as plain text and by its sections: `{"kind", "title", "text", "sections"}`. 400, 404, 406, 410, 413.

    The sections are the same text, and say which earlier exams of the timeline they cite. A PDF has neither, and is shown by its
    address.
    """
    reader = bearer(call)
    stored, _, uid = _report(call, reader, study, sop)
    document = documents.read_document(call.archive.objects, stored)
    sections = cited_priors.sections(call.archive.table, document.sections, uid, stored.institution, lambda: _exams(call, reader))
    response = view_answer(call, {"kind": document.kind, "title": document.title, "text": document.text, "sections": sections})
    if len(response.body) > _LARGEST_PLAIN and not call.accepts_gzip:
        raise TooLarge("This report is too large to be answered without compression: send Accept-Encoding: gzip.")
    return response


@handler("GET", "/view/{reader}/studies/{study}/reports/{sop}", public=True)
def show_report(call: Call, reader: str, study: str, sop: str) -> Response:
    """200 with a PDF for a frame of the page to show, or 307 to one that is too large. 400, 404 (for any other
    report, too), 406, 410."""
    stored, report, uid = _report(call, passing(call, reader), study, sop)
    if report.kind != "pdf":
        raise NotFound
    try:
        content = documents.read_document(call.archive.objects, stored).content
    except TooLarge:
        below = f"studies/{uid}/series/{report.series_instance_uid}/instances/{report.sop_instance_uid}/rendered"
        address = f"{call.base_url}/view/{quote(reader)}/dicomweb/{below}?owner={quote(stored.institution)}"
        return for_viewer(call, Response(b"", {"Location": address, "Cache-Control": "no-store"}, 307))
    headers = {
        "Content-Type": "application/pdf",
        "Content-Disposition": "inline; filename=report.pdf",
        "Cache-Control": "no-store",
    }
    return for_viewer(call, Response(content, headers, 200))


@handler("GET", "/studies/{study}/priors")
def get_priors(call: Call, study: str) -> Response:
    """200 with earlier studies of the same patient, best first, each with its reasons and whether it is `relevant`. 400, 404."""
    uid = identifiers.uid(study, "study_instance_uid")
    limit = call.number("limit", priors.DEFAULT_LIMIT, priors.MAX_LIMIT)
    owner = call.parameter("owner")
    found = priors.priors_of(call.archive.table, call.caller, uid, owner, limit, call.now, call.record)
    return answer(found.to_json())


@handler("GET", "/patients/{patient}/priors")
def get_priors_of_order(call: Call, patient: str) -> Response:
    """200 with studies of a patient, best first for an exam that is ordered: `description`, `modality`, `code` say which. 400;
    404 when nothing of the patient is to be seen."""
    said = [call.parameter(name) or "" for name in ("description", "modality", "code")]
    if not any(said):
        raise BadRequest("description, modality or code must say which exam is ordered.", "description")
    limit = call.number("limit", priors.DEFAULT_LIMIT, priors.MAX_LIMIT)
    issuer, table = call.parameter("issuer"), call.archive.table
    found = priors.priors_of_order(table, call.caller, patient, issuer, OrderedExam(*said), limit, call.now, call.record)
    return answer(found.to_json())


def bearer(call: Call) -> Reader:
    """Who reads with the key in `Authorization: Bearer`. Raises NotFound, Gone."""
    header = call.request.headers.get("authorization") or ""
    if not header.startswith(_BEARER):
        raise NotFound
    return _act_as(call, sessions.reader(call.archive.table, header.removeprefix(_BEARER), "key", call.now))


def passing(call: Call, pass_: str) -> Reader:
    """Who reads with the pass in the path. Raises NotFound, Gone."""
    return _act_as(call, sessions.reader(call.archive.table, pass_, "pass", call.now))


def _images(call: Call, reader: Reader, study: str, owner: str | None, *, read: bool = True) -> JsonObject:
    """A study's images as the page shows them; `read`: somebody looks at them. Raises NotFound."""
    table = call.archive.table
    freshen = at_once.read_study_again(table, call.archive.objects)
    return images.images(table, reader, study, owner, call.now, call.record, freshen, read=read)


@dataclass(frozen=True)
class _Beginning:
    """With what a reading begins: the exam that one looks at first, (UID, owner), and its best prior."""

    current: tuple[str, str] | None = None
    priors: tuple[RankedPrior, ...] = ()

    def to_json(self) -> JsonObject:
        """As the session's answer says it."""
        current = {"study_instance_uid": self.current[0], "owner": self.current[1]} if self.current else None
        return {"current": current, "priors": [prior.to_json() for prior in self.priors]}


def _first_shown(shown: SessionTimeline, begins: _Beginning) -> list[TimelineStudy]:
    """The exams that the page shows first, as far as an answer has room for the lists of their images."""
    keys = [begins.current, *(ranked.entry.key for ranked in begins.priors if ranked.prior.relevant)]
    return [study for study in shown.studies if study.key in keys and study.instances <= _MOST_AT_ONCE]


def _report(call: Call, reader: Reader, study: str, sop: str) -> tuple[StoredObject, ListedReport, str]:
    """(the object that holds a report, the report as it is listed, its study's UID). Raises BadRequest, NotFound."""
    uid, instance = identifiers.uid(study, "study"), identifiers.uid(sop, "report")
    meant = images.visible_owner(call.archive.table, reader, uid, call.parameter("owner"), call.now, call.record)
    stored, report = reports.find_report(call.archive.table, reader.caller, uid, instance, meant, call.now, call.record)
    if report.newest:
        timeline.remember(call.archive.table, reader, meant, uid, instance, call.now)
    return stored, report, uid


def _exams(call: Call, reader: Reader) -> Sequence[TimelineStudy]:
    """The exams that the link opens."""
    return timeline.shown_timeline(call.archive.table, reader, call.now, call.record).studies


def _act_as(call: Call, reader: Reader) -> Reader:
    """From here on the call is the practitioner's of the link: for the log and the audit trail."""
    call.act_as(reader.caller)
    return reader


def view_answer(call: Call, body: object, status: int = 200, **headers: str) -> Response:
    """JSON for the viewer's page alone."""
    return for_viewer(call, answer(body, status, **headers))


def for_viewer(call: Call, response: Response) -> Response:
    """Let the viewer's page read the answer and no other site's, and keep the address out of every Referer, and it off the disk.

    What is opened by its address alone is inert, and may be framed by the viewer's page only. A PDF is not sandboxed, since
    browsers then do not show it.
    """
    response.headers["Access-Control-Allow-Origin"] = _viewer_origin(call)
    framed = f"frame-ancestors {_viewer_origin(call)}"
    inert = "" if response.headers.get("Content-Type") == "application/pdf" else _INERT
    response.headers["Content-Security-Policy"] = inert + framed
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    response.headers.setdefault("Vary", "Origin")
    return response


def _viewer_origin(call: Call) -> str:
    viewer = urlsplit(call.archive.config.viewer_base_url or "")
    return f"{viewer.scheme}://{viewer.netloc}" if viewer.netloc else "null"


def _with_courses(table: Table, shown: SessionTimeline) -> JsonObject:
    """A timeline with the course to which each study belongs (what it shows, and how), and whether it is new to the reader."""
    courses = priors.courses(table, shown.studies)
    unseen = news.unseen(table, shown.reader, shown.studies)
    studies = [
        study.to_json() | {"course": course} | ({"new": True} if study.key in unseen else {})
        for study, course in zip(shown.studies, courses, strict=True)
    ]
    return shown.to_json() | {"studies": studies}


def _beginning(table: Table, shown: SessionTimeline, named: tuple[str, str] | None) -> _Beginning:
    """The exam that one looks at first, `named` by the link or not, and its best prior, so that a page has both at once."""
    entries = shown.studies
    first = next((entry for entry in entries if entry.key == named), None)
    first = first or priors.first_to_read(entries, shown.today)
    if first is None:
        return _Beginning()
    return _Beginning(first.key, priors.among(table, entries, *first.key, 1).priors)


def _nothing_shown(entry: Entry) -> None:
    """Whether something changed tells nothing of a patient, and is asked every few seconds: not a reading to record."""
    del entry


def _etag(shown: SessionTimeline) -> str:
    """A strong ETag of the timeline; the session's own end does not count."""
    content = {key: value for key, value in shown.to_json().items() if key != "session"}
    return '"' + hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32] + '"'
