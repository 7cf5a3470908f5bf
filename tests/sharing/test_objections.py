"""Objections, protections and consents: of numbers that are one patient's, and said twice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest

from chalicelib.domain.audit import Entry
from chalicelib.domain.ports import Table, Write
from chalicelib.services.sharing import protection
from tests.interleaving import interleave
from tests.sharing.api import Api
from tests.sharing.images import image
from tests.world import OIDS, A, B, World

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


SAID = [(OBJECTIONS, {}), (OBJECTIONS, {"study_instance_uid": NEW}), (CONSENTS, {"study_instance_uid": NEW, "to": B})]


@pytest.mark.parametrize(("route", "body"), SAID, ids=["all", "one exam", "consent"])
def test_what_is_said_twice_is_said_once_and_its_end_is_the_end(hospital: Api, route: str, body: dict[str, str]) -> None:
    say(hospital, "/patients/{patient}/protections", STAYS, study_instance_uid=NEW)
    kind, opens = route.rsplit("/", 1)[1], route == CONSENTS
    ids = []
    for _ in range(2):
        first, again = (say(hospital, route, STAYS, **body)["id"] for _ in range(2))
        assert first == again
        assert [told["id"] for told in shown(hospital, STAYS)[kind]] == [first]
        assert (seen(hospital) == {NEW}) is opens
        ended = hospital.call(A, "DELETE", f"{route}/{{{kind[:-1]}}}", patient=STAYS, **{kind[:-1]: first})
        assert ended.status == 200 and shown(hospital, STAYS)[kind] == []
        ids.append(first)
    assert len(set(ids)) == 2, "what is said anew after its end is said anew"
    other = say(hospital, OBJECTIONS, GIVEN_UP)["id"]
    assert other not in ids and shown(hospital, STAYS)["objections"] == [], "of another patient"


def test_what_was_said_of_an_exam_under_the_number_given_up_is_not_said_again_under_the_one_that_stays(hospital: Api) -> None:
    say(hospital, "/patients/{patient}/protections", GIVEN_UP, study_instance_uid=OLD)
    merge(hospital)
    consents = {say(hospital, CONSENTS, number, study_instance_uid=OLD, to=B)["id"] for number in (GIVEN_UP, STAYS)}
    assert len(consents) == 1
    objections = {say(hospital, OBJECTIONS, number)["id"] for number in (GIVEN_UP, STAYS)}
    assert len(objections) == 2, "of all exams: each holds for its number when they are two again"


@pytest.mark.parametrize("choices", list(product((0, 1), repeat=5))[::4])
def test_two_clerks_who_record_the_same_at_once_record_it_once(choices: tuple[int, ...]) -> None:
    world = World(audited=False)
    world.arrive(A, STAYS, NEW)
    world.settle()
    caller, found = world.caller(A), []

    def objects(table: Table) -> None:
        def act(writes: Sequence[Write], *_: Entry) -> list[bool]:
            return table.transact(writes) if writes else []

        found.append(protection.object_to_sharing(table, caller, STAYS, {}, world.now, act)["id"])

    interleave(world.table, [objects, objects], choices)
    assert len(set(found)) == 1
    listed = protection.list_objections(world.table, caller, STAYS, world.tell)["objections"]
    assert [told["id"] for told in listed] == found[:1]
