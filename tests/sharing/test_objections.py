"""Objections, protections and consents: of numbers that are one patient's, and said twice."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sharing.api import Api
from tests.sharing.images import image
from tests.world import OIDS, A, B

GIVEN_UP, STAYS = "P-0", "P-1"
OLD, NEW = "1.2.1", "1.2.2"
OBJECTIONS, OBJECTION = "/patients/{patient}/objections", "/patients/{patient}/objections/{objection}"
CONSENTS = "/patients/{patient}/consents"


@pytest.fixture
def hospital(api: Api) -> Api:
    """San Matteo has an exam under each of two numbers, and sent the patient of the second one to Maugeri."""
    for number, study in ((GIVEN_UP, OLD), (STAYS, NEW)):
        api.world.send(A, image(number, study))
    api.world.settle()
    opened = {"patient": {"id": STAYS}, "to": B, "reason": "r"}
    assert api.call(A, "POST", "/transfers", body=opened).status == 201
    return api


def merge(api: Api) -> str:
    """The two numbers are one patient's from now on; the link."""
    answer = api.call(A, "POST", "/patients/{patient}/links", body={"id": GIVEN_UP}, patient=STAYS)
    assert answer.status == 201, answer.body
    api.world.settle()
    return str(answer.json["link"])


def say(api: Api, route: str, number: str, **body: object) -> Any:
    answer = api.call(A, "POST", route, body=body, patient=number)
    assert answer.status == 201, answer.body
    return answer.json


def shown(api: Api, number: str) -> dict[str, Any]:
    found: dict[str, Any] = api.call(A, "GET", "/patients/{patient}/sharing", [("to", B)], patient=number).json
    return found


def seen(api: Api) -> set[str]:
    return {study for study in (OLD, NEW) if api.call(B, "GET", "/studies/{study}/manifest", study=study).status == 200}


def test_an_objection_under_the_number_given_up_is_shown_under_the_one_that_stays_and_ends_there(hospital: Api) -> None:
    objection = say(hospital, OBJECTIONS, GIVEN_UP)["id"]
    link = merge(hospital)
    assert seen(hospital) == set()
    page = shown(hospital, STAYS)
    assert {study["study_instance_uid"]: study["rule"] for study in page["studies"]}[NEW] == "objection"
    number = {"issuer": OIDS[A], "id": GIVEN_UP}
    assert [(told["id"], told["patient"]) for told in page["objections"]] == [(objection, number)]
    listed = hospital.call(A, "GET", OBJECTIONS, patient=STAYS).json["objections"]
    assert [(told["id"], told["patient"]) for told in listed] == [(objection, number)]

    undone = hospital.call(A, "DELETE", "/patients/{patient}/links/{link}", patient=STAYS, link=link)
    assert undone.status == 200
    assert shown(hospital, STAYS)["objections"] == [] and seen(hospital) == {NEW}
    assert hospital.call(A, "DELETE", OBJECTION, patient=STAYS, objection=objection).status == 404, "it is another patient's"

    merge(hospital)
    for _ in range(2):
        ended = hospital.call(A, "DELETE", OBJECTION, patient=STAYS, objection=objection)
        assert (ended.status, ended.json["status"]) == (200, "withdrawn")
    assert shown(hospital, STAYS)["objections"] == [] == shown(hospital, GIVEN_UP)["objections"]
    assert seen(hospital) == {OLD, NEW}
    for trail in (STAYS, GIVEN_UP):
        events = hospital.call(A, "GET", "/audit", [("patient", trail)]).body.decode()
        assert events.count("objection-withdrawn") >= 1, "in the trail of both numbers"


def test_an_objection_under_the_number_that_stays_is_shown_under_the_one_given_up(hospital: Api) -> None:
    merge(hospital)
    objection = say(hospital, OBJECTIONS, STAYS)["id"]
    assert seen(hospital) == set()
    assert [(told["id"], told["patient"]["id"]) for told in shown(hospital, GIVEN_UP)["objections"]] == [(objection, STAYS)]


def test_the_exams_of_both_numbers_are_objected_to_protected_and_consented_to_under_the_one_that_stays(hospital: Api) -> None:
    merge(hospital)
    assert seen(hospital) == {OLD, NEW}
    assert {study["study_instance_uid"] for study in shown(hospital, STAYS)["studies"]} == {OLD, NEW}
    say(hospital, "/patients/{patient}/protections", GIVEN_UP, study_instance_uid=OLD)
    assert [told["study_instance_uid"] for told in shown(hospital, STAYS)["protections"]] == [OLD]
    assert seen(hospital) == {NEW}
    consent = say(hospital, CONSENTS, STAYS, study_instance_uid=OLD, to=B)["id"]
    assert seen(hospital) == {OLD, NEW}
    for number in (STAYS, GIVEN_UP):
        assert [told["id"] for told in shown(hospital, number)["consents"]] == [consent]
    assert hospital.call(A, "DELETE", CONSENTS + "/{consent}", patient=GIVEN_UP, consent=consent).status == 200
    assert seen(hospital) == {NEW}
    objection = say(hospital, OBJECTIONS, STAYS, study_instance_uid=NEW)["id"]
    assert seen(hospital) == set()
    assert hospital.call(A, "DELETE", OBJECTION, patient=GIVEN_UP, objection=objection).status == 200


def test_what_another_hospital_says_of_a_number_that_is_linked_is_not_told(hospital: Api) -> None:
    hospital.world.send(B, image("M-1", "1.2.3"))
    hospital.world.settle()
    (transfer,) = (each["id"] for each in hospital.world.transfers(B))
    hospital.world.accept(B, transfer, "M-1")
    assert hospital.call(B, "POST", OBJECTIONS, body={}, patient="M-1").status == 201
    assert shown(hospital, STAYS)["objections"] == []
    assert {study["study_instance_uid"] for study in shown(hospital, STAYS)["studies"]} == {NEW}
