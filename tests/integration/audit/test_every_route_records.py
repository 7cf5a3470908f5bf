"""Every route of the app records what it does, or is on the short list of those that need not.

Generated from the app's route table: a GET route is called with its placeholders filled; every other one needs a row in
`CALLS`. A new route that records nothing fails here, as does one that nobody says how to call.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import requests
from pydicom.uid import generate_uid

import app
from chalicelib.adapters.dynamodb import DynamoTable
from chalicelib.adapters.vault import S3Vault
from chalicelib.api.recording import UNRECORDED
from chalicelib.domain.audit import Record
from chalicelib.services.audit.anchor import anchor_heads
from infra import audit as command
from tests.browser import hospital
from tests.browser.hospital import Patient
from tests.harness import Client, RunningCity, wait_until

READER = "reader-of-every-route"
BROWSER = "B" * 43
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF"
ROUTES = sorted(f"{method} {path}" for path, methods in app.app.routes.items() for method in methods if method != "HEAD")


def actor(route: str) -> str:
    """A person that calls this route only."""
    return "p-" + hashlib.sha256(route.encode()).hexdigest()[:16]


def _made(answer: requests.Response) -> dict[str, Any]:
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


class Tour:
    """A patient of two hospitals, and everything that the routes name."""

    def __init__(self, city: RunningCity) -> None:
        self.city = city
        self.patient = Patient()
        self.image = hospital.image(self.patient, "san-matteo")
        self.later = hospital.image(self.patient, "san-matteo", date="20260302")
        own = hospital.image(self.patient, "maugeri", date="20260310")
        hospital.send(city.client("san-matteo"), self.image, self.later)
        hospital.send(city.client("maugeri"), own)
        self.transfer = hospital.transfer(city, self.patient)
        hospital.wait_for_studies(city, self.patient, 3)
        link = hospital.link(city, patient={"id": self.patient.at["maugeri"]}, practitioner={"id": READER, "name": "Anna Rossi"})
        self.link, self.token = link["id"], link["url"].split("#")[1]
        opened = city.client(None).post("/view/session", json={"token": self.token, "browser": BROWSER}).json()
        self.key, self.pass_ = opened["key"], opened["pass"]
        self.text = self.report(b"no finding", "text/plain; charset=utf-8")
        self.pdf = self.report(PDF, "application/pdf")
        sender = city.client("san-matteo")
        later = {"study_instance_uid": self.study_later}
        self.objection = _made(sender.post(f"{self.of_patient}/objections", json=later))["id"]
        _made(sender.post(f"{self.of_patient}/protections", json=later))
        self.consent = _made(sender.post(f"{self.of_patient}/consents", json={**later, "to": "maugeri"}))["id"]
        self.emergency = self._emergency(city.client("mondino"))
        self.transaction = str(generate_uid())

    @property
    def study_later(self) -> str:
        return str(self.later.StudyInstanceUID)

    @property
    def of_patient(self) -> str:
        """The patient's path at San Matteo."""
        return f"/patients/{self.patient.at['san-matteo']}"

    def report(self, content: bytes, media_type: str) -> str:
        """Add a report of the patient's exam, or a version of it."""
        sent = self.city.client("san-matteo").post(
            f"/studies/{self.image.StudyInstanceUID}/reports", data=content, headers={"Content-Type": media_type}
        )
        return str(_made(sent)["sop_instance_uid"])

    def _emergency(self, client: Client) -> str:
        body = {
            "patient": {"id": self.patient.at["san-matteo"], "issuer": self._issuer("san-matteo")}, "reason": "unconscious",
            "practitioner": {"id": "bianchi", "name": "Dr. Bianchi"},
        }  # fmt: skip
        return str(_made(client.post("/emergency-access", json=body))["id"])

    def _issuer(self, institution: str) -> str:
        listed = self.city.client("operator").get("/institutions").json()["institutions"]
        return str(next(member["patient_id_issuer"] for member in listed if member["id"] == institution))

    def client(self, route: str, institution: str) -> Client:
        """The institution's client, for the one person that calls this route."""
        return self.city.client(institution).as_person(actor(route))

    def fill(self, path: str, institution: str, session: bool) -> str:
        """A route's path with what it names."""
        report = self.pdf if "{reader}/studies" in path else self.text
        values = {
            "study": self.image.StudyInstanceUID, "series": self.image.SeriesInstanceUID, "instance": self.image.SOPInstanceUID,
            "sop": report, "frames": "1", "bulkdata": "7FE00010", "reader": self.pass_, "transfer": self.transfer,
            "patient": self.patient.at.get("maugeri" if session else institution, "X"), "transaction": self.transaction,
        }  # fmt: skip
        if "{sha256}" in path:
            listed = self.city.client("san-matteo").get(f"/studies/{values['study']}/manifest").json()["instances"]
            values["sha256"] = listed[0]["sha256"]
        return path.format_map(values)


def _get(route: str, tour: Tour) -> requests.Response:
    """A GET as it is: of a session under /view, else of the hospital whose study it is."""
    path = route.split(" ", 1)[1]
    if path.startswith("/view"):
        session = tour.city.client(None)
        headers = {"Authorization": f"Bearer {tour.key}"} if "{reader}" not in path else {}
        return session.get(tour.fill(path, "maugeri", True) + _query(path, tour), headers=headers, allow_redirects=False)
    client = tour.client(route, "san-matteo")
    return client.get(tour.fill(path, "san-matteo", False) + _query(path, tour), allow_redirects=False)


def _query(path: str, tour: Tour) -> str:
    image = tour.image
    uids = f"studyUID={image.StudyInstanceUID}&seriesUID={image.SeriesInstanceUID}&objectUID={image.SOPInstanceUID}"
    wado = f"?requestType=WADO&{uids}&contentType=application/dicom"
    asked = {"/transfers": "?direction=outgoing", "/patients/{patient}/priors": "?description=TC%20TORACE"}
    return {"/dicomweb/wado": wado, "/view/{reader}/wado": wado, **asked}.get(path, "")


def _post(institution: str, route: str, tour: Tour, body: Any, headers: dict[str, str] | None = None) -> requests.Response:
    method, path = route.split(" ", 1)
    client = tour.client(route, institution)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    path = tour.fill(path, institution, False)
    return client.request(method, path, data=content, headers={"Content-Type": "application/json"} | (headers or {}))


def _dicom(tour: Tour) -> tuple[bytes, dict[str, str]]:
    """A STOW request body (PS3.18 10.5) with one new instance of the tour's study."""
    new = hospital.image(tour.patient, "san-matteo", StudyInstanceUID=tour.image.StudyInstanceUID)
    buffer = io.BytesIO()
    new.save_as(buffer, enforce_file_format=True)
    body = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + buffer.getvalue() + b"\r\n--x--\r\n"
    return body, {"Content-Type": 'multipart/related; type="application/dicom"; boundary=x'}


def _commit(route: str, tour: Tour) -> requests.Response:
    """A commitment request (PS3.18 13) for an instance that is stored."""
    reference = {"00081150": _ui(tour.image.SOPClassUID), "00081155": _ui(tour.image.SOPInstanceUID)}
    body = [{"00081199": {"vr": "SQ", "Value": [reference]}}]
    return _post("san-matteo", route, tour, body, {"Content-Type": "application/dicom+json"})


def _ui(value: str) -> dict[str, Any]:
    return {"vr": "UI", "Value": [str(value)]}


def _with(suffix: str, route: str, tour: Tour, institution: str = "san-matteo", body: Any = None) -> requests.Response:
    """A request whose path ends in something that is not the tour's own."""
    method, path = route.split(" ", 1)
    path = tour.fill(path[: path.rindex("{")], institution, False) + suffix
    return tour.client(route, institution).request(method, path, data=json.dumps(body).encode() if body is not None else None)


def _new_institution(route: str, tour: Tour) -> requests.Response:
    body = {
        "name": "Test",
        "role_arn": "arn:aws:iam::123456789012:role/every-route",
        "patient_id_issuer": "2.16.840.1.113883.2.9.99.9",
    }
    return _with("every-route", route, tour, "operator", body)


def _confirm_role(route: str, tour: Tour) -> requests.Response:
    """A role that the operator proposed for an institution, which confirms it."""
    operator, role = tour.city.client("operator"), "arn:aws:iam::222222222222:role/confirms"
    body = {"name": "Test", "role_arn": role, "patient_id_issuer": "2.16.840.1.113883.2.9.99.10"}
    assert operator.put("/institutions/confirms", json=body).status_code == 201
    assert operator.put("/institutions/confirms", json={"role_arn": role + "-new"}).status_code == 200
    return tour.client(route, "confirms").post("/institutions/confirms/confirm", json={})


def _erased(route: str, tour: Tour) -> requests.Response:
    """What the operator decides on an institution that left."""
    method, path = route.split(" ", 1)
    body = {"reason": "it left"} if method == "PUT" else None
    return tour.client(route, "operator").request(method, path.replace("{institution}", "every-route"), json=body)


def _erasure_taken_back(route: str, tour: Tour) -> requests.Response:
    """An order to erase a patient who is known by registration only."""
    client, path = tour.city.client("san-matteo"), "/patients/NEVER-SEEN/erasures"
    assert client.put("/patients/NEVER-SEEN", json={"name": "Neri^Ugo"}).status_code == 200
    shown = client.post(path, json={}).json()
    ordered = client.post(path, json={"reason": "asked for", "confirm": shown["confirm"]})
    assert ordered.status_code == 201, ordered.text
    return tour.client(route, "san-matteo").delete(f"{path}/{ordered.json()['id']}")


def _link_id(tour: Tour) -> str:
    client = tour.city.client("san-matteo")
    return str(client.get(f"{tour.of_patient}/links").json()["links"][0]["link"])


def _withdrawal_id(tour: Tour) -> str:
    listed = tour.city.client("san-matteo").get(f"/studies/{tour.image.StudyInstanceUID}/withdrawals").json()
    return str(listed["withdrawals"][0]["id"])


def _remove(route: str, tour: Tour) -> requests.Response:
    """What is no DICOM, sent and rejected."""
    client, content = tour.city.client("san-matteo"), b"a letter, and no image at all"
    sha = hashlib.sha256(content).hexdigest()
    (offer,) = client.post("/uploads", json={"instances": [{"sha256": sha, "size": len(content)}]}).json()["instances"]
    put = offer["upload"]
    assert requests.put(put["url"], data=content, headers=put["headers"], timeout=60).status_code == 200
    status = partial(client.post, "/uploads/status", json={"sha256": [sha]})
    wait_until(lambda: status().json()["instances"][0]["state"] == "rejected")
    return _with(sha, route, tour)


def _confirm(route: str, tour: Tour) -> requests.Response:
    """A link to another number that San Matteo itself gave to the patient."""
    return _post("san-matteo", route, tour, {"id": f"OTHER-{tour.patient.at['san-matteo']}"})


def _acknowledge(_: str, tour: Tour) -> requests.Response:
    """The reader takes note that a report that was read is replaced."""
    tour.report(b"nothing found", "text/plain; charset=utf-8")
    session = tour.city.client(None)
    bearer = {"Authorization": f"Bearer {tour.key}"}
    waiting = wait_until(lambda: session.get("/view/timeline", headers=bearer).json()["corrections"])
    body = {name: waiting[0][name] for name in ("study_instance_uid", "owner", "sop_instance_uid")}
    return session.post("/view/acknowledgements", json=body, headers=bearer)


CALLS: dict[str, Callable[[str, Tour], requests.Response]] = {
    "POST /view/acknowledgements": _acknowledge,
    "POST /uploads": lambda r, t: _post("san-matteo", r, t, {"instances": [{"sha256": "a" * 64, "size": 1}]}),
    "DELETE /uploads/{sha256}": _remove,
    "POST /dicomweb/studies": lambda r, t: _post("san-matteo", r, t, *_dicom(t)),
    "POST /dicomweb/studies/{study}": lambda r, t: _post("san-matteo", r, t, *_dicom(t)),
    "POST /dicomweb/commitment-requests/{transaction}": _commit,
    "GET /dicomweb/commitment-requests/{transaction}": _get,
    "PUT /institutions/{institution}": _new_institution,
    "POST /institutions/{institution}/confirm": _confirm_role,
    "DELETE /institutions/{institution}": lambda r, t: _with("every-route", r, t, "operator"),
    "PUT /institutions/{institution}/erasure": _erased,
    "GET /institutions/{institution}/erasure": _erased,
    "DELETE /institutions/{institution}/erasure": _erased,
    "POST /patients/{patient}/erasures": lambda r, t: _post("san-matteo", r, t, {}),
    "DELETE /patients/{patient}/erasures/{erasure}": _erasure_taken_back,
    "PUT /retention": lambda r, t: _post("mondino", r, t, {"years": 100}),
    "PUT /procedure-names": lambda r, t: _post("maugeri", r, t, {}),
    "POST /links": lambda r, t: _post(
        "maugeri",
        r,
        t,
        {"patient": {"id": t.patient.at["maugeri"]}, "practitioner": {"id": "x", "name": "X"}, "purpose": "report"},
    ),
    "DELETE /links/{link}": lambda r, t: _with(
        hospital.link(t.city, patient={"id": t.patient.at["maugeri"]})["id"], r, t, "maugeri"
    ),
    "POST /patients/{patient}/objections": lambda r, t: _post("san-matteo", r, t, {"study_instance_uid": t.study_later}),
    "DELETE /patients/{patient}/objections/{objection}": lambda r, t: _with(t.objection, r, t),
    "POST /patients/{patient}/protections": lambda r, t: _post("san-matteo", r, t, {"study_instance_uid": t.study_later}),
    "POST /patients/{patient}/consents": lambda r, t: _post(
        "san-matteo", r, t, {"study_instance_uid": t.study_later, "to": "maugeri"}
    ),
    "DELETE /patients/{patient}/consents/{consent}": lambda r, t: _with(t.consent, r, t),
    "POST /patients/{patient}/links": _confirm,
    "DELETE /patients/{patient}/links/{link}": lambda r, t: _with(_link_id(t), r, t),
    "POST /emergency-access": lambda r, t: _post(
        "mondino", r, t, {"patient": {"id": "X1"}, "reason": "unconscious", "practitioner": {"id": "b", "name": "B"}}
    ),
    "POST /emergency-access/{emergency}/review": lambda r, t: t.client(r, "san-matteo").post(
        f"/emergency-access/{t.emergency}/review", json={"conclusion": "justified"}
    ),
    "POST /studies/{study}/reports": lambda r, t: _post(
        "san-matteo", r, t, b"still none", {"Content-Type": "text/plain; charset=utf-8"}
    ),
    "POST /transfers": lambda r, t: _post(
        "san-matteo", r, t, {"patient": {"id": t.patient.at["san-matteo"]}, "to": "mondino", "reason": "stroke"}
    ),
    "PATCH /transfers/{transfer}": lambda r, t: t.client(r, "san-matteo").patch(
        f"/transfers/{t.transfer}", json={"expires_at": (datetime.now(UTC) + timedelta(days=500)).isoformat()}
    ),
    "PUT /transfers/{transfer}/receiving-patient": lambda r, t: _post("maugeri", r, t, {"id": f"NEW-{t.patient.at['maugeri']}"}),
    "DELETE /transfers/{transfer}/receiving-patient": lambda r, t: t.client(r, "maugeri").delete(
        f"/transfers/{t.transfer}/receiving-patient"
    ),
    "PUT /patients/{patient}": lambda r, t: _post("san-matteo", r, t, {"name": "Verdi^Mia", "event": "A08"}),
    "POST /view/session": lambda r, t: t.city.client(None).post("/view/session", json={"token": t.token, "browser": BROWSER}),
    "POST /studies/{study}/versions/{sha256}/current": lambda r, t: _post("san-matteo", r, t, {}),
    "POST /studies/{study}/withdrawals": lambda r, t: _post("san-matteo", r, t, {"reason": "wrong patient"}),
    "DELETE /studies/{study}/withdrawals/{withdrawal}": lambda r, t: _with(_withdrawal_id(t), r, t),
    "DELETE /transfers/{transfer}": lambda r, t: _with(t.transfer, r, t),
    "DELETE /view/session": lambda r, t: t.city.client(None).delete(
        "/view/session", headers={"Authorization": f"Bearer {t.key}"}
    ),
}
"""How each route is called that no plain GET calls, in an order in which each still finds what it needs."""


def _call_of(route: str) -> Callable[[str, Tour], requests.Response] | None:
    return CALLS.get(route) or (_get if route.startswith("GET ") else None)


@pytest.fixture(scope="module")
def toured(city: RunningCity) -> tuple[dict[str, requests.Response], list[Record]]:
    """What every route answered, and all records since."""
    started = datetime.now(UTC)
    tour = Tour(city)
    order = [*(route for route in ROUTES if route not in CALLS), *(route for route in CALLS if route in ROUTES)]
    calls = {route: call for route in order if route not in UNRECORDED and (call := _call_of(route))}
    answers = {route: partial(call, route, tour)() for route, call in calls.items()}
    out = io.StringIO()
    command.export(DynamoTable(city.aws("dynamodb"), city.outputs()["TableName"]), out, started, None, as_records=True)
    return answers, [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("route", [route for route in ROUTES if route not in UNRECORDED])
def test_a_route_that_succeeds_is_recorded(toured: tuple[dict[str, requests.Response], list[Record]], route: str) -> None:
    answers, records = toured
    assert route in answers, "say in CALLS how this route is called"
    assert answers[route].status_code < 400, f"{answers[route].status_code} {answers[route].text[:300]}"
    mine = [record for record in records if record["route"] == route and record["actor"] in (actor(route), READER)]
    assert mine, "it answered without a record"
    assert {record["outcome"] for record in mine} == {"success"}


def test_the_list_of_routes_without_a_record_is_short_and_names_routes_only() -> None:
    assert set(UNRECORDED) <= set(ROUTES)
    assert len(UNRECORDED) <= 8
    assert all(reason for reason in UNRECORDED.values())


def test_what_was_recorded_on_the_way_is_sound(city: RunningCity, toured: object) -> None:
    outputs = city.outputs()
    vault = S3Vault(city.aws("s3"), outputs["AuditAnchorBucketName"])
    anchor_heads(DynamoTable(city.aws("dynamodb"), outputs["TableName"]), vault, datetime.now(UTC), 10)
    assert command.main(["verify", "--endpoints", str(city.state / "endpoints.json")]) == 0
