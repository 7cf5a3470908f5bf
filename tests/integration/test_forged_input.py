"""Whatever is sent, the answer is about the request: never a 5xx, and never somebody else's data."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.described import document
from tests.harness import Client, RunningCity

PARTS = {
    "{transfer}": "0" * 32, "{patient}": "P1", "{institution}": "forged", "{emergency}": "x", "{study}": "1.2.3",
}  # fmt: skip


def bodies() -> list[tuple[str, str, tuple[str, ...]]]:
    """(method, path, fields) of every route that takes JSON, by their names in docs/openapi.yaml."""
    found = [("POST", "/dicomweb/commitment-requests/1.2.3", ("00081199",))]
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            if schema is None:
                continue
            if "$ref" in schema:
                schema = document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            found.append((method.upper(), filled(path), tuple(schema["properties"])))
    return found


def filled(path: str) -> str:
    for name, value in PARTS.items():
        path = path.replace(name, value)
    assert "{" not in path, f"{path}: say what stands there"
    return path


BODIES = bodies()
LISTS = (
    "/transfers", "/changes", "/audit", "/institutions", "/emergency-access", "/studies/1.2.3/manifest", "/studies/1.2.3/priors",
    "/patients/P1/timeline", "/patients/P1/links", "/patients/P1/accesses", "/dicomweb/studies", "/dicomweb/series",
    "/dicomweb/instances", "/dicomweb/studies/1.2.3/series", "/dicomweb/wado",
)  # fmt: skip
NAMES = (
    "direction", "status", "accepted", "cursor", "limit", "since", "wait", "patient", "issuer", "from", "to", "owner", "offset",
    "includefield",
    "PatientID", "00100010", "StudyDate", "StudyInstanceUID", "ModalitiesInStudy", "fuzzymatching", "requestType", "studyUID",
    "contentType", "format", "language",
)  # fmt: skip

PATHS = (
    "/studies/{}/manifest", "/transfers/{}", "/patients/{}/timeline", "/dicomweb/studies/{}/series", "/studies/{}/priors",
    "/dicomweb/studies/1.2/series/{}/instances", "/patients/{}/links", "/studies/1.2/reports/{}", "/dicomweb/studies/{}/metadata",
)  # fmt: skip

_TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(
        ["\x00", "x" * 600, "é" * 3000, "1.2.3", "-1", "0", "9" * 30, "2026-03-02", "null", "*", "\\", "..", "%00", "\U0001f3e5"]
    ),
)
_FIELDS = st.sampled_from(["id", "issuer", "name", "sha256", "size"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_FIELDS | _TEXT, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_the_bodies_are_those_of_many_routes() -> None:
    assert len(BODIES) > 15
    assert ("POST", "/emergency-access/x/review", ("conclusion", "note")) in BODIES


@pytest.fixture(scope="module")
def hospital(city: RunningCity) -> Client:
    return city.client("san-matteo")


@pytest.fixture(scope="module")
def operator(city: RunningCity) -> Client:
    return city.client("operator")


def assert_proper(answer: Any, what: object) -> None:
    assert answer.status_code < 500, (what, answer.text)
    if answer.status_code >= 400 and answer.headers["Content-Type"] == "application/problem+json":
        problem = answer.json()
        assert {"type", "title", "status", "detail", "request_id"} <= problem.keys()
        assert problem["status"] == answer.status_code


@FEW
@given(data=st.data())
def test_no_json_body_makes_the_archive_fail(hospital: Client, operator: Client, data: st.DataObject) -> None:
    method, path, fields = data.draw(st.sampled_from(BODIES))
    body = data.draw(st.dictionaries(st.sampled_from(fields), _VALUES, max_size=len(fields)) | _VALUES)
    client = operator if path.startswith("/institutions") else hospital
    answer = client.request(method, path, data=json.dumps(body), headers={"Content-Type": "application/json"})
    assert_proper(answer, (method, path, body))


@FEW
@given(data=st.data())
def test_no_query_makes_the_archive_fail(hospital: Client, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(LISTS))
    query = data.draw(st.lists(st.tuples(st.sampled_from(NAMES) | _TEXT.filter(bool), _TEXT), max_size=5))
    query = [("wait", "0") if name == "wait" else (name, value) for name, value in query]
    assert_proper(hospital.get(path, params=query), (path, query))


@FEW
@given(data=st.data())
def test_no_path_makes_the_archive_fail(hospital: Client, data: st.DataObject) -> None:
    part = data.draw(
        st.sampled_from(["%00", "%ff", "%2e%2e", "a%2Fb", "%ED%A0%80", "1.2.3", "x" * 300, "%F0%9F%8F%A5", "' OR 1=1", "<x>"])
    )
    path = data.draw(st.sampled_from(PATHS))
    assert_proper(hospital.get(path.format(part)), (path, part))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'"\\ud800"',
        b"9" * 10_000,
        b"NaN",
        b"null",
        b"{}" * 2,
        b"\x00" * 100,
    ],
)
@pytest.mark.parametrize("path", ["/uploads", "/transfers", "/links", "/emergency-access"])
def test_a_body_that_is_not_json_or_much_too_deep_is_a_bad_request(hospital: Client, path: str, body: bytes) -> None:
    answer = hospital.post(path, data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["type"] == "urn:contenitore:problem:bad-request"


@pytest.mark.parametrize("value", ["0", "-1", "1001", "x", "1e3", "٣", "9" * 40])
@pytest.mark.parametrize("path", ["/transfers?direction=incoming&limit=", "/studies/1.2.3/manifest?limit="])
def test_a_limit_out_of_bounds_is_refused_by_its_name(hospital: Client, path: str, value: str) -> None:
    answer = hospital.get(path + value)
    assert (answer.status_code, answer.json()["parameter"]) == (400, "limit")


@pytest.mark.parametrize(
    "path", ["/transfers?direction=&status=&cursor=&limit=", "/changes?since=&limit=&wait=", "/audit?patient=&from=&to=&cursor="]
)
def test_a_parameter_without_a_value_says_nothing(hospital: Client, path: str) -> None:
    assert hospital.get(path).status_code == 200


def test_what_is_asked_twice_is_refused(hospital: Client) -> None:
    answer = hospital.get("/transfers?direction=incoming&direction=outgoing")
    assert (answer.status_code, answer.json()["parameter"]) == (400, "direction")


def _cursor(text: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(text).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor", ["x", "%00", "e30", _cursor("F#STUDY#maugeri#1.2"), _cursor(["I#"]), _cursor("I#" + "1" * 300), "é"]
)
def test_a_cursor_that_the_archive_did_not_give_is_refused(hospital: Client, cursor: str) -> None:
    for path in (f"/studies/1.2.3/manifest?cursor={cursor}", f"/transfers?direction=incoming&cursor={cursor}"):
        answer = hospital.get(path)
        assert answer.status_code in (400, 404), answer.text


def test_more_than_five_hundred_instances_at_once_are_refused(hospital: Client) -> None:
    answer = hospital.post("/uploads/status", json={"sha256": ["0" * 64] * 501})
    assert (answer.status_code, answer.json()["parameter"]) == (400, "sha256")
    assert hospital.post("/uploads/status", json={"sha256": ["0" * 64] * 500}).status_code == 200


def test_absent_hidden_and_guessed_look_the_same(city: RunningCity, hospital: Client) -> None:
    """But for the request's own number."""
    seen = set()
    for path in ("/studies/9.9.9/manifest", f"/transfers/{uuid.uuid4().hex}", "/transfers/x", "/patients/nobody/timeline"):
        for client in (hospital, city.client("mondino")):
            answer = client.get(path)
            body = answer.json()
            body.pop("request_id")
            seen.add((answer.status_code, json.dumps(body), answer.headers["Content-Type"]))
    assert len(seen) == 1
    assert next(iter(seen))[0] == 404


@pytest.mark.parametrize("value", ["x" * 65, "\x7f", "a\tb"])
def test_a_person_that_cannot_be_is_refused(hospital: Client, value: str) -> None:
    answer = hospital.get("/institutions", headers={"X-On-Behalf-Of": value})
    assert answer.status_code in (400, 403), answer.text  # 403: the signature was made over another form of it


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/transfers", {"patient": {"id": "P1"}, "to": "maugeri", "reason": "\ud800 half a character"}),
        (
            "/emergency-access",
            {"patient": {"id": "P1"}, "reason": "half \ud800 character", "practitioner": {"id": "1", "name": "\ud800"}},
        ),
        ("/links", {"patient": {"id": "P1"}, "practitioner": {"id": "1", "name": "x"}, "purpose": "\udfff"}),
    ],
)
def test_half_a_character_is_no_text(hospital: Client, path: str, body: object) -> None:
    assert hospital.post(path, data=json.dumps(body), headers={"Content-Type": "application/json"}).status_code == 400
