"""What a codice fiscale joined ends with either number's link to the code, and where a record denies it; in every order."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.domain import italian, patients
from chalicelib.domain.errors import NotFound
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import PutNew
from chalicelib.services import access
from chalicelib.services.finding import priors
from tests.conftest import THOROUGH
from tests.sharing.api import api_over
from tests.sharing.codes import fiscal_code
from tests.sharing.images import image
from tests.world import OIDS, A, B, C, World

CF = italian.CODICE_FISCALE
ADA = fiscal_code("19600315", "F")
EVA = fiscal_code("19610210", "F")
NUMBERS = {A: "1", B: "9", C: "5"}
STUDY = {A: "1.2.1", B: "1.2.9", C: "1.2.5"}


def carry(world: World, who: str, suffix: str = "") -> None:
    world.arrive(who, NUMBERS[who], STUDY[who] + suffix, other_ids=[(ADA, CF)])


def deny(world: World, who: str, **says: Any) -> None:
    world.arrive(who, NUMBERS[who], f"{STUDY[who]}.7", **says)


def undo(world: World, who: str) -> bool:
    """Undo the number's link to the code, if there is one."""
    try:
        links = world.links(who, NUMBERS[who])
    except NotFound:
        return False
    found = [link for link in links if link["status"] == "confirmed" and link["identifier"] == {"issuer": CF, "id": ADA}]
    for link in found:
        world.undo(who, NUMBERS[who], link["link"])
    return bool(found)


def number(who: str) -> PatientIdentifier:
    return PatientIdentifier(OIDS[who], NUMBERS[who])


def joined(world: World, one: str, other: str) -> bool:
    """Whether what decides on the one reads the other, either way round: the same both ways."""
    known = access.load_facts(world.table, [number(one).hash, number(other).hash]).known
    there, back = (number(b) in known[number(a).hash].numbers for a, b in ((one, other), (other, one)))
    assert there == back
    return there


@pytest.fixture
def shared(world: World) -> World:
    """A's patient was transferred to B, which knows it by the code only."""
    carry(world, A)
    carry(world, B)
    world.settle()
    world.open(A, NUMBERS[A], B)
    world.settle()
    assert world.on_timeline(B, NUMBERS[B]) == {STUDY[A], STUDY[B]}
    return world


def found_under_its_number(world: World) -> set[str]:
    """What B finds under its own number by every way."""
    by_search = world.found(B, ("PatientID", NUMBERS[B]))
    assert by_search == world.found(B, ("PatientID", NUMBERS[B]), ("IssuerOfPatientID", OIDS[B]))
    assert by_search == world.on_timeline(B, NUMBERS[B])
    for result in world.find(B, ("StudyInstanceUID", STUDY[A])):
        assert "04000561" not in result
        assert result["00100020"]["Value"] == [NUMBERS[A]]
    near = priors.priors_of(world.table, world.caller(B), STUDY[B], None, 10, world.now, world.tell).to_json()["priors"]
    assert {study["study_instance_uid"] for study in near} == by_search - {STUDY[B]}
    return by_search


@pytest.mark.parametrize("who", [A, B])
def test_ending_either_numbers_link_to_the_code_ends_the_join_at_once(shared: World, who: str) -> None:
    assert undo(shared, who)
    assert not joined(shared, A, B)
    assert found_under_its_number(shared) == {STUDY[B]}
    shared.settle()
    assert found_under_its_number(shared) == {STUDY[B]}
    assert shared.sees(B, STUDY[A])  # the transfer is of A's own number still
    for hospital in (A, B):
        assert (
            not [link for link in shared.links(hospital, NUMBERS[hospital]) if link.get("basis") == "codice-fiscale"]
            or hospital != who
        )


def test_what_comes_later_joins_nothing_to_a_number_whose_link_was_undone(shared: World) -> None:
    undo(shared, B)
    shared.settle()
    carry(shared, C)
    carry(shared, B, ".2")
    carry(shared, A, ".2")
    shared.settle()
    assert joined(shared, A, C)
    assert not joined(shared, B, C)
    assert not joined(shared, A, B)
    assert found_under_its_number(shared) == {STUDY[B], f"{STUDY[B]}.2"}


def test_an_emergency_under_the_number_opens_nothing_of_the_other_any_more(shared: World) -> None:
    shared.declare_emergency(C, NUMBERS[B], OIDS[B])
    shared.settle()
    assert shared.sees(C, STUDY[A])
    undo(shared, A)
    assert not shared.sees(C, STUDY[A])
    assert shared.sees(C, STUDY[B])


def test_the_feed_goes_on_without_what_was_joined(shared: World) -> None:
    transfer = shared.open(A, NUMBERS[A], C)
    shared.accept(C, transfer, NUMBERS[C])
    shared.settle()
    undo(shared, B)
    before = shared.changes(A)[-1]["cursor"]
    shared.later(days=1)
    world_day = shared.now.strftime("%Y%m%d")
    shared.arrive(B, NUMBERS[B], f"{STUDY[B]}.3", date=world_day, other_ids=[(ADA, CF)])
    shared.settle()
    assert not shared.sees(A, f"{STUDY[B]}.3")
    assert shared.changes(A, before) == []


DENIALS: dict[str, dict[str, Any]] = {
    "birth date": {"birth": "19600316"},
    "sex": {"sex": "M"},
    "another code": {"other_ids": [(EVA, CF)], "birth": None, "sex": None},
}


@pytest.mark.parametrize("says", DENIALS.values(), ids=DENIALS)
@pytest.mark.parametrize("who", [A, B])
@pytest.mark.parametrize("first", [False, True])
def test_an_image_that_says_it_is_somebody_else_ends_what_the_code_joined(
    world: World, who: str, says: dict[str, Any], first: bool
) -> None:
    """Though the image itself carries no code, and whenever it comes."""
    steps: list[Callable[[], None]] = [lambda: carry(world, A), lambda: carry(world, B), lambda: deny(world, who, **says)]
    for step in reversed(steps) if first else steps:
        step()
        world.settle()
    assert not joined(world, A, B)
    carry(world, who, ".8")
    world.settle()
    assert not joined(world, A, B)


REGISTERED: dict[str, dict[str, Any]] = {
    "birth date": {"birth_date": "19600316"},
    "sex": {"sex": "M"},
    "another code": {"identifiers": [{"issuer": CF, "id": EVA}]},
}


@pytest.mark.parametrize("says", REGISTERED.values(), ids=REGISTERED)
@pytest.mark.parametrize("who", [A, B])
@pytest.mark.parametrize("first", [False, True])
def test_a_registration_that_says_it_is_somebody_else_ends_what_the_codes_of_images_joined(
    world: World, who: str, says: dict[str, Any], first: bool
) -> None:
    """Whichever hospital's, and whenever it comes; and it is not joined again by what comes later."""
    steps: list[Callable[[], None]] = [
        lambda: carry(world, A),
        lambda: carry(world, B),
        lambda: world.make_known(who, NUMBERS[who], name="Verdi^Mia", **says),
    ]
    for step in reversed(steps) if first else steps:
        step()
        world.settle()
    assert not joined(world, A, B)
    carry(world, who, ".8")
    world.make_known(who, NUMBERS[who], name="Bianchi^Ada", event="A08")
    world.settle()
    assert not joined(world, A, B)


def test_a_join_of_before_whose_code_was_undone_before_holds_no_more(shared: World) -> None:
    """As an earlier release left it: the link to the code ended, the link of the two numbers not."""
    record = access.load_deciding(shared.table, number(B).hash)
    (link,) = [link for link in record.links if link.beyond(record.patient) == PatientIdentifier(CF, ADA)]
    for fact in patients.unlinking(link, "somebody", shared.now):
        shared.table.put(PutNew(fact))
    assert not joined(shared, A, B)
    assert found_under_its_number(shared) == {STUDY[B]}
    shared.settle()
    assert found_under_its_number(shared) == {STUDY[B]}
    assert not [
        link for link in access.load_deciding(shared.table, number(A).hash).links if link.rests_on_code and not link.ended
    ]


EVENTS = (*(("carry", who) for who in (A, B, C)), ("undo", A), ("undo", B), ("deny", B))


@settings(max_examples=60 if THOROUGH else 20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.permutations(EVENTS), st.lists(st.booleans(), min_size=len(EVENTS), max_size=len(EVENTS)), st.integers())
def test_in_every_order_the_join_is_of_those_who_carry_it_and_neither_undid_nor_deny_it(
    events: Sequence[tuple[str, str]], settled: Sequence[bool], seed: int
) -> None:
    world = World(audited=False)
    carried, out = set(), set()
    for (what, who), settle in zip(events, settled, strict=True):
        if what == "carry":
            carry(world, who)
            carried.add(who)
        elif what == "deny":
            deny(world, who, birth="19600316")
            out.add(who)
        elif undo(world, who):
            out.add(who)
            for other in set(NUMBERS) - {who}:
                assert not joined(world, who, other)
        if settle:
            world.settle(random.Random(seed))
    world.settle(random.Random(seed))
    for number, other in itertools.combinations(NUMBERS, 2):
        assert joined(world, number, other) == ({number, other} <= carried - out)


def test_through_the_doors_the_number_is_alone_again() -> None:
    with api_over() as api:
        api.world.send(A, image("1", STUDY[A], code=ADA))
        api.world.send(B, image("9", STUDY[B], code=ADA))
        api.world.settle()
        asked = {"patient": {"id": "1"}, "to": B, "reason": "discharge"}
        assert api.call(A, "POST", "/transfers", body=asked).status == 201
        api.world.now = datetime.now(UTC)
        api.world.settle()

        def seen() -> set[str]:
            timeline = api.call(B, "GET", "/patients/{patient}/timeline", patient="9").json["studies"]
            search = api.call(B, "GET", "/dicomweb/studies", [("PatientID", "9")]).json
            assert {study["study_instance_uid"] for study in timeline} == {result["0020000D"]["Value"][0] for result in search}
            return {study["study_instance_uid"] for study in timeline}

        assert seen() == {STUDY[A], STUDY[B]}
        links = api.call(B, "GET", "/patients/{patient}/links", patient="9").json["links"]
        (code,) = [link for link in links if link["identifier"] == {"issuer": CF, "id": ADA}]
        assert api.call(B, "DELETE", "/patients/{patient}/links/{link}", patient="9", link=code["link"]).status == 200
        assert seen() == {STUDY[B]}
        left = api.call(B, "GET", "/patients/{patient}/links", patient="9").json["links"]
        assert [link for link in left if link["status"] == "confirmed"] == []
