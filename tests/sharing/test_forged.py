"""Forged parameters: owner, issuer, cursors, identifiers and bodies that nobody honest sends.

Nothing of this shows what one may not see, and nothing is answered with a 5xx.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.patients import link_id
from tests.sharing import scenes
from tests.sharing.api import Api, api_over
from tests.sharing.scenes import PATIENT, STUDY, Scene
from tests.sharing.test_every_route import ROUTES, ROWS, parameters
from tests.world import OIDS, A, B, C

HOSTILE = [
    "", " ", "\0", "é" * 300, "x" * 501, "x" * 5000, "#", "~", "../..", "' OR 1=1 --", "{}", "[]", "null", "-1", "0",
    "1e9", "9" * 30, "٣", "%00", "\r\nX-Injected: 1", "=", "&owner=", "A" * 43, "0" * 20, "0" * 24, "0" * 32, "2" * 64,
    "9999-12-31T23:59:59+00:00#" + "0" * 32, "0001-01-01T00:00:00+23:59", "I#1#2", A, B, C, OIDS[A], f"{OIDS[A]}/x", STUDY,
    PATIENT,
]  # fmt: skip
NAMES = (
    "owner",
    "issuer",
    "cursor",
    "since",
    "limit",
    "offset",
    "wait",
    "status",
    "direction",
    "from",
    "to",
    "patient",
    "format",
)


def some_of(values: list[str], *seed: object) -> list[str]:
    """Every eleventh value; which ones depends on the seed, so that over all routes every value is tried often."""
    start = zlib.crc32(repr(seed).encode()) % 11
    return values[start::11]


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Mondino, which is no party of anything, beside a transfer of San Matteo to Maugeri."""
    return scenes.build("stranger", settled=True)


@pytest.fixture(scope="module")
def api(scene: Scene) -> Iterator[Api]:
    with api_over(scene.world) as api:
        yield api


def shown(body: bytes) -> bool:
    """Whether an answer says anything of the study or its patient that the caller did not say itself."""
    return any(text in body for text in (b"Bianchi", b"TC TORACE", b"memory://get"))


READS = [route for route in ROUTES if route.startswith("GET ") and "/view/" not in route and route in ROWS]


@pytest.mark.parametrize("route", READS)
def test_no_parameter_shows_what_one_may_not_see(api: Api, scene: Scene, route: str) -> None:
    method, path = route.split(" ")
    base = {"direction": "outgoing"} if path == "/transfers" else {}
    for name in NAMES:
        for value in some_of(HOSTILE, route, name):
            if name == "wait" and value == "9" * 30:
                continue
            query = [*(base | {name: value}).items()]
            answer = api.call(C, method, path, query, headers=ROWS[route].headers, **parameters(scene, path))
            assert answer.status < 500, (name, value, answer.body)
            assert not shown(answer.body), (name, value, answer.body)


@pytest.mark.parametrize("route", [route for route in ROUTES if "{" in route and "/view/" not in route and route in ROWS])
def test_no_path_shows_what_one_may_not_see(api: Api, scene: Scene, route: str) -> None:
    method, path = route.split(" ")
    right = parameters(scene, path)
    row = ROWS[route]
    for name in right:
        for value in filter(None, some_of(HOSTILE, route, name)):
            body = row.body(scene) if row.body else None
            answer = api.call(C, method, path, row.query, body, row.headers, **(right | {name: value}))
            assert answer.status < 500, (name, value, answer.body)
            assert not shown(answer.body), (name, value, answer.body)


def bodies(right: Any) -> Iterator[bytes]:
    """A body, and what else it could be."""
    for text in ("", "null", "[]", "{}", "0", '"x"', "{", '{"a":', "\xff", "[" * 100_000, '{"x": 1' + "0" * 5000 + "}"):
        yield text.encode("latin-1")
    if not isinstance(right, dict):
        return
    wrong: list[Any] = [
        None,
        "",
        0,
        -1,
        True,
        [],
        {},
        "x" * 10_000,
        "\ud800",
        "a\0b",
        ["\ud800"],
        {"id": "\ud800"},
        {"id": ["x"]},
        1e400,
    ]
    for name in right:
        for value in wrong:
            yield json.dumps(right | {name: value}).encode()
        yield json.dumps({key: value for key, value in right.items() if key != name}).encode()
    yield json.dumps(right | {"unknown": 1, "\ud800": 2}).encode()
    for name in right:
        text = json.dumps(right | {name: "\ud800"})
        yield from (text.encode("utf-16"), text.encode("utf-16-be"), text.encode("utf-32"))
        yield text.encode().replace(b"\\ud800", b"\xed\xa0\x80")  # as CESU-8 has it
        yield json.dumps(right | {name: 10**309}).encode()
    for name, value in right.items():
        if isinstance(value, dict):
            for inner in value:
                for other in wrong:
                    yield json.dumps(right | {name: value | {inner: other}}).encode()


@pytest.mark.parametrize("route", [route for route in ROUTES if route in ROWS and ROWS[route].body is not None])
@pytest.mark.parametrize("who", [A, C])
def test_no_body_is_answered_with_a_5xx(who: str, route: str) -> None:
    method, path = route.split(" ")
    scene = scenes.build("owner" if who == A else "stranger", settled=True)
    row = ROWS[route]
    assert row.body is not None
    with api_over(scene.world) as api:
        for body in bodies(row.body(scene)):
            answer = api.call(
                None if "session" in path else who, method, path, row.query, body, row.headers, **parameters(scene, path)
            )
            assert answer.status < 500, (body[:200], answer.body)
            assert who == A or not shown(answer.body)


@pytest.mark.parametrize(
    "name", ["X-On-Behalf-Of", "Idempotency-Key", "Accept", "If-None-Match", "Authorization", "Content-Type"]
)
def test_no_header_is_answered_with_a_5xx(api: Api, name: str) -> None:
    for value in [*HOSTILE, "Bearer x", f"Bearer {'A' * 43}.{'B' * 43}", "*/*;q=x", "a/b" * 200]:
        if "\n" in value:
            continue  # no server hands such a header over
        for method, path, body in (
            ("GET", "/dicomweb/studies", None),
            ("POST", "/transfers", {"patient": {"id": "1"}, "to": A, "reason": "x"}),
        ):
            assert api.call(C, method, path, body=body, headers={name: value}).status < 500, value
        assert api.call(None, "GET", "/view/timeline", headers={name: value}).status == 404


@pytest.mark.parametrize("path", ["/audit", "/patients/{patient}/accesses"])
@pytest.mark.parametrize("moment", ["0001-01-01", "0001-01-01T00:00:00Z", "0001-01-02", "9999-12-31", "9999-12-31T23:59:59Z"])
def test_the_ends_of_the_calendar_are_no_error_of_ours(api: Api, path: str, moment: str) -> None:
    for name in ("from", "to"):
        assert api.call(A, "GET", path, [(name, moment)], patient=PATIENT).status in (200, 400), (name, moment)


def test_a_cursor_says_only_where_to_go_on_in_what_is_decided_on_anew(scene: Scene) -> None:
    """One that was given to the receiver opens nothing to a stranger, nor another study to the receiver."""

    def cursor(text: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(text).encode()).decode().rstrip("=")

    with api_over(scene.world) as api:
        given = api.call(B, "GET", "/studies/{study}/manifest", [("limit", "1")], study=STUDY).json["next"]
        assert api.call(C, "GET", "/studies/{study}/manifest", [("cursor", given)], study=STUDY).status == 404
        assert len(api.call(B, "GET", "/studies/{study}/manifest", [("cursor", given)], study=STUDY).json["instances"]) == 1
        for text in ("I#", "I#\ud800#1", "W#1", "I#1#1#1", f"I#{'1' * 100}#1", 7, None, {"pk": "x"}, ["I#1#2"], "OPEN"):
            answer = api.call(B, "GET", "/studies/{study}/manifest", [("cursor", cursor(text))], study=STUDY)
            assert (answer.status, answer.json.get("parameter")) == (400, "cursor"), text
        listed = api.call(A, "GET", "/transfers", [("direction", "outgoing"), ("limit", "1")]).json["transfers"]
        place = f"{listed[0]['opened_at']}#{listed[0]['id']}"
        forged = base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")
        for who in (C, B):
            answer = api.call(who, "GET", "/transfers", [("direction", "outgoing"), ("cursor", forged)])
            assert answer.json == {"transfers": []}


def test_guessing_a_link_between_a_number_of_ones_own_and_anothers_tells_nothing(scene: Scene) -> None:
    with api_over(scene.world) as api:
        path = "/patients/{patient}/links/{link}"
        for mine in ("own", "R-9"):
            guessed = link_id(PatientIdentifier(OIDS[C], mine), PatientIdentifier(OIDS[A], PATIENT))
            assert api.call(C, "DELETE", path, patient=mine, link=guessed).status == 404


def test_an_owner_that_is_forged_finds_nothing(scene: Scene) -> None:
    """The caller is its role: `owner` only picks one of several owners of a UID."""
    with api_over(scene.world) as api:
        for owner in (A, B, C, "operator", f"{A}#1", "*"):
            assert api.call(C, "GET", "/studies/{study}/manifest", [("owner", owner)], study=STUDY).status == 404
            found = api.call(C, "GET", "/dicomweb/studies", [("owner", owner), ("StudyInstanceUID", STUDY)])
            assert found.status in (200, 400)
            assert found.status == 400 or found.json == []
        headers = {"X-Institution": A, "X-On-Behalf-Of": A}
        assert api.call(C, "GET", "/studies/{study}/manifest", headers=headers, study=STUDY).status == 404


def test_a_transfer_of_another_hospitals_number_opens_nothing_and_says_nothing(scene: Scene) -> None:
    with api_over(scene.world) as api:
        answers = []
        for number in (PATIENT, "nobody"):
            body = {"patient": {"id": number, "issuer": OIDS[A]}, "to": A, "reason": "curiosity"}
            answers.append(api.call(C, "POST", "/transfers", body=body))
        assert [answer.status for answer in answers] == [400, 400]
        assert {**answers[0].json, "request_id": ""} == {**answers[1].json, "request_id": ""}
