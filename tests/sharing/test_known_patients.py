"""What a hospital's registration says of its own patients, also before there is any image."""

from __future__ import annotations

import random
from typing import Any

import pytest

from chalicelib.domain.errors import BadRequest, NotFound
from chalicelib.services.identity import known_patients
from tests.sharing.api import Api
from tests.sharing.codes import fiscal_code
from tests.sharing.images import image
from tests.sharing.test_identifiers import CF, joined
from tests.world import OIDS, A, B, C, World

ADA, TWIN, UGO = fiscal_code("19600315", "F"), fiscal_code("19600315", "F", "G388"), fiscal_code("19600315", "M")


def coded(code: str, **more: Any) -> dict[str, Any]:
    said = {"name": "Bianchi^Ada", "birth_date": "19600315", "sex": "F", "event": "A01"}
    return {**said, "identifiers": [{"issuer": CF, "id": code}], **more}


def put(api: Api, who: str, patient: str, body: Any) -> Any:
    return api.call(who, "PUT", "/patients/{patient}", body=body, patient=patient)


def history(world: World) -> list[dict[str, object]]:
    return [item.data for (_, sk), item in sorted(world.table.memory.items().items()) if sk.startswith("ADT#")]


def test_what_is_said_is_answered_kept_and_written_once(api: Api) -> None:
    said = coded(ADA, birth_date="1960-03-15", sex="f")
    first = put(api, A, "PV 12/34", said)
    assert first.status == 200
    assert {**first.json, "at": ""} == {
        "patient": {"id": "PV 12/34", "issuer": OIDS[A]}, "name": "Bianchi^Ada", "birth_date": "19600315", "sex": "F",
        "identifiers": [{"issuer": CF, "id": ADA}], "event": "A01", "at": "",
    }  # fmt: skip
    assert put(api, A, "PV 12/34", said).json == first.json, "the same again"
    assert put(api, A, "PV 12/34", {**said, "event": "A08", "name": "Bianchi^Ada Maria"}).json["name"] == "Bianchi^Ada Maria"
    assert put(api, A, "PV 12/34", {}).json["name"] == ""
    assert [entry["event"] for entry in history(api.world)] == ["A01", "A08", ""]
    assert {entry["by"] for entry in history(api.world)} == {A}
    kinds = [item.data.get("kind") for (pk, _), item in api.world.table.memory.items().items() if pk.startswith("F#AUDIT#")]
    assert kinds.count("patient-stated") == 3


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ([], "body"), (None, "body"), ({"surname": "X"}, "surname"), ({"name": 7}, "name"), ({"name": "x" * 195}, "name"),
        ({"name": "a\nb"}, "name"), ({"name": "a\\b"}, "name"), ({"birth_date": "1960"}, "birth_date"),
        ({"birth_date": "19601332"}, "birth_date"), ({"birth_date": "15/03/1960"}, "birth_date"),
        ({"birth_date": 19600315}, "birth_date"), ({"birth_date": "١٩٦٠٠٣١٥"}, "birth_date"), ({"sex": "X"}, "sex"),
        ({"sex": "female"}, "sex"), ({"event": "x" * 65}, "event"), ({"event": {}}, "event"),
        ({"identifiers": {}}, "identifiers"),
        ({"identifiers": [{"issuer": CF, "id": ADA}] * 17}, "identifiers"), ({"identifiers": ["x"]}, "identifiers"),
        ({"identifiers": [{"id": ADA}]}, "identifiers"), ({"identifiers": [{"issuer": "", "id": "x"}]}, "identifiers"),
        ({"identifiers": [{"issuer": None, "id": "x"}]}, "identifiers"),
        ({"identifiers": [{"issuer": CF, "id": 7}]}, "identifiers"),
        ({"identifiers": [{"issuer": "x" * 129, "id": "x"}]}, "identifiers"),
    ],
)  # fmt: skip
def test_what_is_no_patient_is_refused_naming_the_field(api: Api, body: Any, parameter: str) -> None:
    answer = put(api, A, "1", body if body is not None else b"null")
    assert (answer.status, answer.json.get("parameter")) == (400, parameter)
    assert history(api.world) == []


def test_two_hospitals_are_joined_by_what_their_registrations_know_before_there_is_any_image(world: World) -> None:
    world.make_known(A, "1", **coded(ADA))
    transfer = world.open(A, "1", B)
    world.make_known(B, "9", **coded(ADA))
    world.settle()
    assert joined(world, A, "1", OIDS[B], "9")
    assert world.transfer(B, transfer)["linked_patients"] == [{"id": "9", "issuer": OIDS[B]}]
    world.accept(B, transfer)
    world.arrive(B, "9", "1.2.2", date="20260401")
    world.arrive(A, "1", "1.2.1")
    world.settle()
    assert world.on_timeline(A, "1") == world.on_timeline(B, "9") == {"1.2.1", "1.2.2"}


@pytest.mark.parametrize("said", [{"birth_date": "19600316"}, {"sex": "M"}, {"birth_date": None}, {"sex": None}])
def test_a_registration_that_does_not_agree_with_its_code_joins_nothing(world: World, said: dict[str, str | None]) -> None:
    world.arrive(A, "1", "1.2.1", other_ids=[(ADA, CF)])
    world.make_known(B, "9", **coded(ADA, **said))
    world.settle()
    assert not joined(world, A, "1", OIDS[B], "9")


def test_what_stands_under_another_issuer_is_no_code_and_another_hospitals_number_counts_for_nothing(world: World) -> None:
    world.arrive(A, "1", "1.2.1", other_ids=[(ADA, CF)])
    numbers = [{"issuer": OIDS[B], "id": ADA}, {"issuer": "1.2.3.4", "id": ADA}, {"issuer": OIDS[A], "id": "1"}]
    world.make_known(B, "9", **coded(ADA, identifiers=numbers))
    world.settle()
    assert not joined(world, B, "9", OIDS[A], "1")
    assert not joined(world, B, "9", CF, ADA)


@pytest.mark.parametrize(
    "later",
    [coded(TWIN), coded(UGO, sex="M"), coded(ADA, birth_date="19600316"), coded(ADA, sex="M"), coded(TWIN, birth_date=None)],
)
@pytest.mark.parametrize("shuffled", [None, 1, 2])
def test_what_is_said_later_and_contradicts_ends_the_automatic_link_for_good(
    world: World, later: dict[str, Any], shuffled: int | None
) -> None:
    world.arrive(A, "1", "1.2.1", other_ids=[(ADA, CF)])
    world.make_known(B, "9", **coded(ADA))
    transfer = world.open(A, "1", B)
    world.settle()
    world.accept(B, transfer)
    world.arrive(B, "9", "1.2.2", date="20260401")
    world.settle()
    assert world.sees(A, "1.2.2")
    world.make_known(B, "9", **later)
    world.settle(random.Random(shuffled) if shuffled else None)
    assert not joined(world, A, "1", OIDS[B], "9")
    assert not world.sees(A, "1.2.2")
    assert "accepted_at" not in world.transfer(A, transfer), "the acceptance ends with the link that it rests on"
    world.make_known(B, "9", **coded(ADA))
    world.settle()
    assert not joined(world, A, "1", OIDS[B], "9")


def test_a_later_word_without_a_code_leaves_what_is_joined(world: World) -> None:
    world.arrive(A, "1", "1.2.1", other_ids=[(ADA, CF)])
    world.make_known(B, "9", **coded(ADA))
    world.settle()
    world.make_known(B, "9", **coded(ADA, identifiers=[], event="A08"))
    world.settle()
    assert joined(world, A, "1", OIDS[B], "9")


def header(world: World, who: str, patient: str, issuer: str | None = None) -> tuple[str, str, str] | None:
    timeline = world.timeline(who, patient, issuer)
    return None if timeline is None else tuple(timeline["patient"][name] for name in ("name", "birth_date", "sex"))  # type: ignore[return-value]


def test_the_timelines_header_is_what_registrations_say_where_there_are_no_studies(world: World) -> None:
    ada, nothing = ("Bianchi^Ada", "19600315", "F"), ("", "", "")
    world.make_known(A, "1", **coded(ADA))
    assert header(world, A, "1") == ada
    for who in (B, C):
        assert header(world, who, "1", OIDS[A]) is None
        assert header(world, who, "1") is None
    transfer = world.open(A, "1", B)
    assert header(world, B, "1", OIDS[A]) == ada, "the receiver must know who it is"
    world.accept(B, transfer, "9")
    assert header(world, B, "9") == ada
    world.make_known(B, "9", name="Bianchi^A.", birth_date="19600315")
    assert header(world, B, "9") == ("Bianchi^A.", "19600315", ""), "its own registration comes first"
    objection = world.object(A, "1")
    assert header(world, B, "1", OIDS[A]) in (("Bianchi^A.", "19600315", ""), nothing)
    world.take_back(B, transfer)
    assert header(world, B, "1", OIDS[A]) == nothing, "the patient objected"
    assert objection
    world.end(A, transfer)
    world.arrive(A, "1", "1.2.1", name="Bianchi^Ada Maria")
    world.settle()
    assert header(world, A, "1") == ("Bianchi^Ada Maria", "19600315", "F"), "images come first"
    assert header(world, C, "1", OIDS[A]) is None


def test_a_patient_objects_before_there_is_any_image(world: World) -> None:
    with pytest.raises(NotFound):
        world.object(A, "1")
    world.make_known(A, "1", name="Bianchi^Ada")
    world.object(A, "1")
    assert world.links(A, "1") == []
    world.open(A, "1", B)
    world.arrive(A, "1", "1.2.1")
    world.settle()
    assert not world.sees(B, "1.2.1")


def test_each_hospital_says_something_of_its_own_numbers_only(api: Api) -> None:
    api.world.send(A, image("1", "1.2.1"))
    api.world.settle()
    assert put(api, B, "1", {"name": "Forged^Name"}).json["patient"]["issuer"] == OIDS[B]
    assert header(api.world, A, "1") == ("Bianchi^Ada", "19600315", "F")
    answer = api.call(B, "PUT", "/patients/{patient}", [("issuer", OIDS[A])], {"name": "Forged^Name"}, patient="2")
    assert answer.json["patient"]["issuer"] == OIDS[B]
    assert put(api, "operator", "1", {}).status == 403
    with pytest.raises(BadRequest):
        known_patients.make_known(api.world.table, api.world.caller(A), "\\", {}, api.world.now, api.world.act, api.world.tell)


def test_what_a_registration_says_of_a_code_stays_where_a_correction_takes_the_only_image_away(api: Api) -> None:
    world = api.world
    world.send(B, image("9", "1.2.2", code=ADA))
    world.send(A, image("1", "1.2.1", code=ADA), image("3", "1.2.3", code=UGO, sex="M"))
    world.settle()
    put(api, A, "1", coded(ADA))
    world.send(A, image("2", "1.2.1"))
    world.send(A, image("4", "1.2.3"))
    world.settle()
    assert world.on_timeline(A, "1") == set()
    assert joined(world, A, "1", OIDS[B], "9"), "it is still that patient's number"
    assert not joined(world, A, "3", CF, UGO), "what only the image said went with it"


def test_a_timeline_is_headed_by_who_has_the_number_at_the_hospital_whose_it_is(world: World) -> None:
    """Two numbers that were linked by mistake: the page of each has to say who that is, or nobody would notice."""
    world.arrive(A, "1", "1.2.1", name="Bianchi^Ada", date="20260301")
    world.arrive(B, "9", "1.2.2", name="Verdi^Ugo", sex="M", birth="19520101", date="20250101")
    transfer = world.open(A, "1", B)
    world.settle()

    def heading(who: str, number: str, issuer: str | None = None) -> list[str]:
        patient = (world.timeline(who, number, issuer) or {})["patient"]
        return [patient["name"], patient["birth_date"], patient["sex"]]

    ada, ugo = ["Bianchi^Ada", "19600315", "F"], ["Verdi^Ugo", "19520101", "M"]
    world.accept(B, transfer, "9")
    world.settle()
    assert world.on_timeline(B, "9") == {"1.2.1", "1.2.2"}
    assert heading(B, "9") == ugo
    assert heading(B, "1", OIDS[A]) == ada
    world.arrive(B, "9", "1.2.3", name="Verdi^Ugo", sex="M", birth="19520101", date="20991231")
    world.settle()
    assert heading(A, "1") == ada
    assert heading(A, "9", OIDS[B]) == ugo
    world.accept(B, transfer, "10")
    world.settle()
    assert heading(B, "10") == ada, "nothing is known here but what came with the patient"
    world.make_known(B, "10", name="Neri^Ida", birth_date="19450607", sex="F")
    assert heading(B, "10") == ["Neri^Ida", "19450607", "F"], "of whom there is no image here yet"
