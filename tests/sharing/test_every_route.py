"""Every route × every relation: what one may see is seen by every route, and what one may not is absent from every one.

Generated from the app's route table: a route without a row in `ROWS` fails. Each is played twice: with all facts projected, and
with the projector as late as can be, since facts decide and views only find.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import app
from chalicelib.domain.rfc3339 import iso
from tests.sharing import scenes
from tests.sharing.api import OPERATOR, UNREGISTERED, Answer, api_over
from tests.sharing.images import image
from tests.sharing.scenes import INSTANCE, PATIENT, RELATIONS, SERIES, STUDY, Scene
from tests.world import A, B, C

ROUTES = sorted(f"{method} {path}" for path, methods in app.app.routes.items() for method in methods)
SEEN = frozenset({200, 307})
REPORT = f"{STUDY}.1.77"
Body = Callable[[Scene], Any]


@dataclass(frozen=True)
class Row:
    """What to expect of a route, and what it is called with."""

    kind: str
    query: tuple[tuple[str, str], ...] = ()
    body: Body | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    done: frozenset[int] = SEEN


def reads(*query: tuple[str, str], **headers: str) -> Row:
    """Answers for a study that one may see, else 404."""
    return Row("study", query, headers={name.replace("_", "-"): value for name, value in headers.items()})


def finds(*query: tuple[str, str]) -> Row:
    """Lists what one may see, and nothing else."""
    return Row("list", query)


def in_session(*query: tuple[str, str]) -> Row:
    """As `reads`, but for whoever holds a reading session; not signed."""
    return Row("session", query)


def own(kind: str, body: Any = None, *done: int, **headers: str) -> Row:
    """Does something to the caller's own; `kind` says to what."""
    fixed: Body | None = body if callable(body) else None if body is None else (lambda _: body)
    return Row(kind, (), fixed, {k.replace("_", "-"): v for k, v in headers.items()}, frozenset(done) or frozenset({200, 201}))


def _wado() -> tuple[tuple[str, str], ...]:
    return (("requestType", "WADO"), ("studyUID", STUDY), ("seriesUID", SERIES), ("objectUID", INSTANCE),
            ("contentType", "application/dicom"))  # fmt: skip


def _stow(scene: Scene) -> bytes:
    new = image("own", f"{STUDY}.8" if scene.owner != scene.viewer else STUDY, 5)
    return b"--x\r\nContent-Type: application/dicom\r\n\r\n" + new + b"\r\n--x--\r\n"


def _commit(scene: Scene) -> dict[str, Any]:
    return {"00081199": {"vr": "SQ", "Value": [{
        "00081150": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]}, "00081155": {"vr": "UI", "Value": [INSTANCE]},
    }]}}  # fmt: skip


PART10 = 'multipart/related; type="application/dicom"'
_DICOM = {"GET": reads(Accept=f"{PART10}; transfer-syntax=*"), "HEAD": reads(Accept=f"{PART10}; transfer-syntax=*")}
_BULK = reads(Accept='multipart/related; type="application/octet-stream"; transfer-syntax=*')
_ANY = reads(Accept="*/*")
_S, _I = "/dicomweb/studies/{study}", "/dicomweb/studies/{study}/series/{series}/instances/{instance}"
_V = "/view/{reader}/dicomweb"
_PERSON = {"patient": {"id": "own"}, "reason": "unconscious after a fall", "practitioner": "verdi"}

ROWS: dict[str, Row] = {
    "GET /health": own("anybody"),
    "OPTIONS /dicomweb": own("anyone known"),
    "GET /institutions": own("anyone known"),
    "PUT /institutions/{institution}": own("operator", {
        "name": "Nuova", "role_arn": "arn:aws:iam::123456789012:role/contenitore-nuova", "patient_id_issuer": "1.2.3.4.5",
    }),
    "POST /institutions/{institution}/confirm": own("itself", {}),
    "DELETE /institutions/{institution}": own("operator"),
    "GET /institutions/{institution}/erasure": own("operator"),
    "PUT /institutions/{institution}/erasure": own("operator", {"reason": "left"}, 200, 409),
    "DELETE /institutions/{institution}/erasure": own("operator", None, 200, 409),
    "GET /retention": own("anyone"),
    "PUT /retention": own("anyone", {"years": 10}),
    "GET /procedure-names": own("anyone"),
    "PUT /forwarder": own("anyone", {"version": "0.1.0"}),
    "PUT /procedure-names": own("anyone", {"names": [{"phrase": "torace letto", "places": ["chest"]}]}),
    # What one may see of a study
    **{f"{method} {_S}{below}": _DICOM[method] for below in ("", "/series/{series}", "/series/{series}/instances/{instance}")
       for method in ("GET", "HEAD")},
    **{f"{method} {_S}{below}/{what}": _ANY for below in ("", "/series/{series}", "/series/{series}/instances/{instance}")
       for what in ("metadata", "rendered", "thumbnail") for method in ("GET", "HEAD")},
    **{f"{method} {_S}{below}/{what}": _BULK for below in ("", "/series/{series}", "/series/{series}/instances/{instance}")
       for what in ("bulkdata", "pixeldata") for method in ("GET", "HEAD")},
    **{f"{method} {_S}{below}": _ANY for below in ("/series", "/instances", "/series/{series}/instances")
       for method in ("GET", "HEAD")},
    **{f"{method} {_I}/{what}": _ANY for what in ("frames/{frames}", "frames/{frames}/rendered", "frames/{frames}/thumbnail",
       "bulkdata/{bulkdata}") for method in ("GET", "HEAD")},
    "GET /dicomweb/wado": reads(*_wado()),
    "HEAD /dicomweb/wado": reads(*_wado()),
    "GET /studies/{study}/manifest": reads(),
    "GET /studies/{study}/priors": reads(),
    "GET /studies/{study}/reports": reads(),
    "GET /studies/{study}/reports/{sop}": Row("report"),
    # What one may find
    "GET /dicomweb/studies": finds(),
    "HEAD /dicomweb/studies": Row("head"),
    "GET /dicomweb/series": finds(("StudyInstanceUID", STUDY)),
    "HEAD /dicomweb/series": Row("head"),
    "GET /dicomweb/instances": finds(("SOPInstanceUID", INSTANCE)),
    "HEAD /dicomweb/instances": Row("head"),
    "GET /patients/{patient}/timeline": Row("timeline"),
    "GET /patients/{patient}/priors": Row("timeline", (("description", "TC TORACE"),)),
    "GET /changes": Row("feed"),
    "GET /audit": Row("audit", (("from", "2020-01-01T00:00:00Z"),)),
    # What one does with one's own
    "POST /dicomweb/studies": own("anyone", _stow, 200, Content_Type=f"{PART10}; boundary=x"),
    "POST /dicomweb/studies/{study}": own("anyone", _stow, 200, 409, Content_Type=f"{PART10}; boundary=x"),
    "POST /dicomweb/commitment-requests/{transaction}": own("anyone", _commit, 200, 202, Content_Type="application/dicom+json"),
    "GET /dicomweb/commitment-requests/{transaction}": own("nobody's"),
    "HEAD /dicomweb/commitment-requests/{transaction}": own("nobody's"),
    "POST /uploads": own("anyone", {"instances": [{"sha256": "a" * 64, "size": 1}]}),
    "POST /uploads/status": own("anyone", {"sha256": ["a" * 64]}),
    "DELETE /uploads/{sha256}": own("nobody's"),
    "POST /studies/{study}/reports": own("own study", lambda _: b"nothing found", Content_Type="text/plain; charset=utf-8"),
    "POST /studies/{study}/withdrawals": own("own study", {"reason": "wrong patient"}),
    "GET /studies/{study}/withdrawals": own("own study"),
    "GET /studies/{study}/readings": own("own study"),
    "DELETE /studies/{study}/withdrawals/{withdrawal}": own("nobody's"),
    "GET /studies/{study}/versions": own("own study"),
    "POST /studies/{study}/versions/{sha256}/current": own("nobody's"),
    "PUT /patients/{patient}": own("anyone", {"name": "Verdi^Mia", "event": "A01"}),
    "GET /patients/{patient}/links": own("own number"),
    "POST /patients/{patient}/links": own("anyone", {"id": "another"}),
    "DELETE /patients/{patient}/links/{link}": own("own fact"),
    "GET /patients/{patient}/sharing": own("own number"),
    "GET /patients/{patient}/objections": own("own number"),
    "POST /patients/{patient}/objections": own("own number"),
    "DELETE /patients/{patient}/objections/{objection}": own("own fact"),
    "POST /patients/{patient}/protections": own("own patient", {"study_instance_uid": STUDY}),
    "POST /patients/{patient}/erasures": own("own number", {}),
    "DELETE /patients/{patient}/erasures/{erasure}": own("nobody's"),
    "POST /patients/{patient}/consents": own("own patient", {"study_instance_uid": STUDY, "to": C}),
    "DELETE /patients/{patient}/consents/{consent}": own("own fact"),
    "GET /patients/{patient}/accesses": own("anyone"),
    "POST /emergency-access": own("anyone", _PERSON),
    "GET /emergency-access": own("anyone"),
    "POST /emergency-access/{emergency}/review": own("own fact", {"conclusion": "justified"}),
    "POST /transfers": own("anyone", lambda scene: {
        "patient": {"id": "own"}, "to": A if scene.viewer != A else B, "reason": "discharge"}),
    "GET /transfers": Row("anyone", (("direction", "incoming"),)),
    "GET /transfers/{transfer}": own("party"),
    "PATCH /transfers/{transfer}": own("sender", lambda _: {"expires_at": iso(datetime.now(UTC) + timedelta(days=500))}),
    "DELETE /transfers/{transfer}": own("party"),
    "PUT /transfers/{transfer}/receiving-patient": own("receiver", {"id": "R-1"}),
    "DELETE /transfers/{transfer}/receiving-patient": own("receiver"),
    "POST /links": Row("link", (), lambda _: {
        "study_instance_uids": [STUDY], "practitioner": {"id": "v", "name": "V"}, "purpose": "reading"}, {}, frozenset({201})),
    "DELETE /links/{link}": own("nobody's"),
    # What a reading session opens
    "POST /view/session": own("nobody's token", {"token": "A" * 43}),
    "DELETE /view/session": own("any session"),
    "POST /view/session/keep": own("any session"),
    "POST /view/acknowledgements": own("any session", {"study_instance_uid": STUDY, "owner": A}, 404),
    "GET /view/timeline": Row("session timeline"),
    "GET /view/events": Row("session timeline"),
    "GET /view/studies/{study}/images": in_session(),
    "GET /view/studies/{study}/priors": in_session(),
    "GET /view/studies/{study}/reports/{sop}": Row("session report"),
    "GET /view/{reader}/studies/{study}/reports/{sop}": Row("session report"),
    f"GET {_V}/studies": Row("session list"),
    "GET /view/{reader}/wado": in_session(*_wado()),
    **{f"GET {_V}/studies/{{study}}{below}": in_session() for below in (
        "/series", "/instances", "/metadata", "/thumbnail", "/series/{series}/instances", "/series/{series}/metadata",
        "/series/{series}/thumbnail", *("/series/{series}/instances/{instance}" + below_instance for below_instance in (
            "", "/metadata", "/rendered", "/thumbnail", "/frames/{frames}", "/frames/{frames}/rendered",
            "/bulkdata/{bulkdata}")))},
}  # fmt: skip


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    assert set(ROUTES) == set(ROWS)


def parameters(scene: Scene, path: str) -> dict[str, str]:
    values = {
        "study": STUDY, "series": SERIES, "instance": INSTANCE, "frames": "1", "bulkdata": "7FE00010", "sop": REPORT,
        "patient": PATIENT, "transfer": scene.transfer, "emergency": scene.emergency, "objection": scene.objection,
        "consent": scene.consent, "link": scene.link, "reader": scene.session[1] or "x", "transaction": "1.2.3.4",
        "institution": "nuova", "withdrawal": "0" * 24, "sha256": "0" * 64, "erasure": "0" * 24,
    }  # fmt: skip
    if "/objections/" in path or "/consents/" in path:
        values["patient"] = "own"
    if path == "/links/{link}":
        values["link"] = "A" * 43
    return {name: value for name, value in values.items() if "{" + name + "}" in path}


def call(scene: Scene, route: str, row: Row) -> Answer:
    method, path = route.split(" ", 1)
    query, headers = list(row.query), dict(row.headers)
    if row.kind == "timeline":
        query.append(("issuer", scene.world.member(scene.owner).patient_id_issuer))
    if row.kind in ("any session",) or ("session" in row.kind and "{reader}" not in path):
        headers["Authorization"] = f"Bearer {scene.session[0]}"
    who = None if "session" in row.kind or row.kind in ("anybody", "nobody's token") else scene.viewer
    values = parameters(scene, path)
    if row.kind == "timeline":
        values["patient"] = scene.patient
    with api_over(scene.world) as api:
        return api.call(who, method, path, query, row.body(scene) if row.body else None, headers, **values)


def expected(scene: Scene, row: Row) -> frozenset[int]:
    """The statuses that the relation may be answered with."""
    four, three = frozenset({404}), frozenset({403})
    if row.kind == "anybody":
        return row.done
    if row.kind == "nobody's token":
        return four
    if "session" in row.kind:
        if not scene.member:
            return four
        if row.kind == "any session":
            return row.done
        if row.kind == "session report":
            return four
        if row.kind == "session list":
            return frozenset({200, 404})
        if row.kind == "session timeline":
            return SEEN if scene.visible or not scene.session_of_study else four
        return SEEN if scene.visible else four
    if scene.viewer in (UNREGISTERED, None):
        return three
    if row.kind == "anyone known":
        return row.done
    if row.kind == "itself":  # another institution's role is no secret, and none waits
        return three if scene.viewer == OPERATOR else frozenset({403, 409})
    if row.kind == "operator":
        return row.done | four if scene.viewer == OPERATOR else three
    if scene.viewer == OPERATOR:
        return row.done | three if row.kind == "audit" else three
    allowed = {
        "study": scene.visible, "link": scene.visible, "report": False, "list": True, "feed": True, "head": True, "audit": True,
        "anyone": True, "nobody's": False, "own study": scene.owns, "own patient": scene.owns and scene.owner == A,
        "own number": scene.viewer == A,
        "own fact": scene.viewer == A and scene.objection != "0" * 24, "party": scene.viewer in scene.parties,
        "receiver": False, "sender": False,
    }  # fmt: skip
    if row.kind == "timeline":
        return SEEN if scene.visible else SEEN | four
    if row.kind in ("receiver", "sender"):
        if scene.viewer not in scene.parties:
            return four
        return frozenset({200, 403, 409})
    return row.done if allowed[row.kind] else four


GONE = {
    "type": "urn:contenitore:problem:not-found", "title": "Not found", "status": 404,
    "detail": "There is nothing here that you may see.",
}  # fmt: skip
_LISTS = ("list", "timeline", "session list", "session timeline")


def faults(scene: Scene, route: str, row: Row, answer: Answer, *, settled: bool) -> list[str]:
    """What is wrong with an answer."""
    found = []
    if answer.status not in expected(scene, row):
        found.append(f"{answer.status} {answer.body[:200]!r}, not {sorted(expected(scene, row))}")
    if answer.status == 404 and answer.body and {**answer.json, "request_id": ""} != {**GONE, "request_id": ""}:
        found.append(f"{answer.body!r} is not what every 404 says")
    if answer.status == 200 and row.kind in _LISTS and not route.endswith("/events"):
        shown = STUDY.encode() in answer.body
        if shown and not scene.visible:
            found.append("the study is listed")
        if settled and scene.visible and not shown and (scene.session_of_study or "session" not in row.kind):
            found.append("the study is missing")
    if answer.status == 200 and row.kind == "feed" and not scene.visible and STUDY.encode() in answer.body:
        kinds = {change["kind"] for change in answer.json["changes"] if change.get("study_instance_uid") == STUDY}
        if kinds != {"study-withdrawn"}:
            found.append(f"the feed tells of {kinds}")
    return found


def changes_something(route: str) -> bool:
    return route.split()[0] not in ("GET", "HEAD", "OPTIONS")


def played_late(route: str) -> bool:
    """Looking only: HEAD decides as GET does, and what changes something is played once."""
    return route.startswith("GET ")


PLAYED = [(route, settled) for route in ROUTES if route in ROWS for settled in (True, False) if settled or played_late(route)]


@pytest.mark.parametrize(("route", "settled"), PLAYED, ids=[f"{route}{'' if settled else ' late'}" for route, settled in PLAYED])
def test_every_relation_gets_from_a_route_exactly_what_is_its_own(route: str, settled: bool) -> None:
    row = ROWS[route]
    wrong = []
    for relation in RELATIONS:
        scene = (scenes.build if changes_something(route) else scenes.shared)(relation, settled=settled)
        answer = call(scene, route, row)
        wrong += [f"{relation}: {fault}" for fault in faults(scene, route, row, answer, settled=settled)]
    assert wrong == []
