"""A body that is no object says nothing: no route takes it for an empty one, which may mean everything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

import app
from tests.sharing.api import OPERATOR, Answer, Api, api_over
from tests.sharing.images import image
from tests.world import A, B

NO_OBJECTS = (None, [], ["x"], "x", "", 1, 0, True, False)
TAKES_NO_JSON = {
    "POST /dicomweb/studies", "POST /dicomweb/studies/{study}", "POST /studies/{study}/reports", "POST /view/session/keep",
    "POST /studies/{study}/versions/{sha256}/current",
}  # fmt: skip
ROUTES = sorted(
    f"{method} {path}"
    for path, methods in app.app.routes.items()
    for method in methods
    if method in {"POST", "PUT", "PATCH"} and f"{method} {path}" not in TAKES_NO_JSON
)
OF_THE_OPERATOR = {"/institutions/{institution}", "/institutions/{institution}/erasure"}
MAY_BE_NULL = {"PUT /retention"}
"""Where `null` is said to mean that there is none: no rule, by which everything stays."""
STUDY = "1.2.826.0.1.3680043.8.498.71"


@dataclass(frozen=True)
class Set:
    """An API in which everything is there that a path may name."""

    api: Api
    names: dict[str, str]

    def call(self, route: str, body: object) -> Answer:
        method, path = route.split(" ")
        who = OPERATOR if path in OF_THE_OPERATOR else B if path.endswith("receiving-patient") else A
        names = {name: value for name, value in self.names.items() if "{" + name + "}" in path}
        caller = None if path.startswith("/view") else who
        return self.api.call(caller, method, path, body=json.dumps(body).encode(), **names)


@pytest.fixture(scope="module")
def everything() -> Iterator[Set]:
    with api_over() as api:
        world = api.world
        world.send(A, image("own", STUDY, 1))
        world.settle()
        transfer = world.open(A, "own", B)
        world.settle()
        emergency = world.declare_emergency(B, "own", world.member(A).patient_id_issuer)
        world.settle()
        yield Set(api, {
            "patient": "own", "study": STUDY, "transfer": transfer, "institution": A, "emergency": emergency,
            "transaction": "1.2.3.4",
        })  # fmt: skip


@pytest.mark.parametrize("route", ROUTES)
def test_what_is_no_object_is_a_bad_request(everything: Set, route: str) -> None:
    for body in NO_OBJECTS[1:] if route in MAY_BE_NULL else NO_OBJECTS:
        answer = everything.call(route, body)
        assert (answer.status, answer.json["type"]) == (400, "urn:contenitore:problem:bad-request"), (route, body, answer.body)


def test_an_objection_without_a_body_or_with_an_empty_one_is_of_the_whole_patient(everything: Set) -> None:
    sees = everything.api.world.sees
    for body in (None, {}):
        made = everything.api.call(A, "POST", "/patients/{patient}/objections", body=body, patient="own")
        assert (made.status, sees(B, STUDY)) == (201, False)
        path = "/patients/{patient}/objections/{objection}"
        assert everything.api.call(A, "DELETE", path, patient="own", objection=made.json["id"]).status == 200
        assert sees(B, STUDY)


@pytest.mark.parametrize(
    ("route", "body", "field"),
    [
        ("POST /patients/{patient}/objections", {"study_instance_uid": None}, "study_instance_uid"),
        ("POST /studies/{study}/withdrawals", {"reason": "wrong", "sop_instance_uids": None}, "sop_instance_uids"),
        ("POST /studies/{study}/withdrawals", {"reason": "wrong", "sop_instance_uids": []}, "sop_instance_uids"),
        ("PUT /transfers/{transfer}/receiving-patient", {"id": None}, "id"),
        ("PATCH /transfers/{transfer}", {"expires_at": None}, "expires_at"),
    ],
)
def test_a_field_that_is_there_and_says_nothing_does_not_mean_everything(
    everything: Set, route: str, body: dict[str, object], field: str
) -> None:
    """A client that lost what it meant to name hides, withdraws and accepts nothing."""
    answer = everything.call(route, body)
    assert (answer.status, answer.json.get("parameter")) == (400, field)
    assert everything.api.world.sees(B, STUDY)
