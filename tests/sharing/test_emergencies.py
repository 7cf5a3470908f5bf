"""Emergency access: a named person and a reason open what is known of a patient for a day; its owners are told and review it."""

from __future__ import annotations

import random
from typing import Any
from urllib.parse import quote

import pytest

from chalicelib.domain import cursors
from chalicelib.domain.errors import BadRequest, NotFound
from chalicelib.services import access
from chalicelib.services.sharing import emergencies
from tests.sharing.codes import fiscal_code
from tests.sharing.test_identifiers import CF
from tests.world import OIDS, A, B, C, World, patient


def reviews(world: World, who: str, status: str | None = None, cursor: str | None = None, limit: int = 100) -> dict[str, Any]:
    return emergencies.list_reviews(world.table, world.caller(who), status, cursor, limit, world.tell)


def listed(world: World, who: str, status: str | None = None) -> list[str]:
    found = reviews(world, who, status)["reviews"]
    assert isinstance(found, list)
    return [str(emergency["id"]) for emergency in found]


def test_it_opens_every_owners_studies_for_a_day_and_is_reviewed_by_each(world: World) -> None:
    code = fiscal_code()
    world.arrive(A, "1", "1.2.1", other_ids=[(code, CF)])
    world.arrive(B, "9", "1.2.2", other_ids=[(code, CF)])
    world.settle()
    assert not world.sees(C, "1.2.1")
    emergency = world.declare_emergency(C, code, CF)
    assert world.sees(C, "1.2.1"), "at once"
    assert world.sees(C, "1.2.2")
    world.settle()
    assert world.found(C, ("PatientID", code)) == {"1.2.1", "1.2.2"}
    assert sorted(alert["owner"] for kind, alert in world.alerts.sent if kind == "emergency-access") == [B, A]
    for owner in (A, B):
        assert listed(world, owner) == [emergency]
        assert [change["kind"] for change in world.changes(owner) if change["kind"] == "emergency-access"] == ["emergency-access"]
    assert listed(world, C) == []
    world.later(hours=23, minutes=59)
    assert world.sees(C, "1.2.1")
    world.later(minutes=2)
    assert not world.sees(C, "1.2.1")
    assert world.found(C) == set()
    assert listed(world, A) == [emergency], "the review waits for as long as it takes"


def test_each_owner_finds_its_own_numbers_of_the_patient_also_when_the_link_is_undone(world: World) -> None:
    """Who declares an emergency of a number that nobody knows, and says only then whose it is, reads by that."""
    code = fiscal_code()
    world.arrive(A, "1", "1.2.1", other_ids=[(code, CF)])
    world.settle()
    world.declare_emergency(C, "7")
    world.later(minutes=1)
    world.arrive(C, "7", "1.2.7", other_ids=[(code, CF)])
    world.settle()
    assert world.sees(C, "1.2.1")
    for _ in range(2):
        (review,) = reviews(world, A)["reviews"]
        assert review["linked_patients"] == [{"issuer": OIDS[A], "id": "1"}]
        links = access.load_deciding(world.table, patient(C, "7").hash).links
        world.undo(C, "7", next(link.id for link in links if CF in (link.one.issuer, link.other.issuer)))
        assert not world.sees(C, "1.2.1")


def test_the_owners_of_what_comes_later_are_told_too_and_once(world: World) -> None:
    world.arrive(A, "1", "1.2.1")
    world.settle()
    emergency = world.declare_emergency(C, "1", OIDS[A])
    world.settle()
    world.arrive(B, "1", "1.2.2", universal=OIDS[A])
    world.arrive(B, "1", "1.2.3", universal=OIDS[A])
    world.settle(random.Random(1))
    assert world.sees(C, "1.2.2")
    assert listed(world, B) == [emergency]
    assert [alert["owner"] for _, alert in world.alerts.sent] == [A, B]
    assert sum(change["kind"] == "emergency-access" for change in world.changes(B)) == 1


def test_alerts_name_no_patient(world: World) -> None:
    world.arrive(A, "1", "1.2.1")
    world.declare_emergency(C, "1", OIDS[A])
    world.settle()
    ((_, content),) = world.alerts.sent
    assert set(content) == {"id", "institution", "owner", "at"}


def test_an_objection_and_a_protection_hold_in_an_emergency(world: World) -> None:
    world.arrive(A, "1", "1.2.1")
    world.arrive(A, "1", "1.2.2")
    world.settle()
    world.object(A, "1", "1.2.1")
    world.declare_emergency(C, "1", OIDS[A])
    world.settle()
    assert world.found(C) == {"1.2.2"}


def test_a_wrong_link_undone_closes_what_it_opened(world: World) -> None:
    """An emergency is the declared number's, and of those linked to it as long as they are."""
    world.arrive(A, "1", "1.2.1")
    world.arrive(B, "9", "1.2.2")
    world.open(A, "1", B, receiving="9")
    world.settle()
    world.declare_emergency(C, "9", OIDS[B])
    world.settle()
    assert world.found(C) == {"1.2.1", "1.2.2"}
    (link,) = [link for link in world.links(B, "9") if link["status"] == "confirmed"]
    world.undo(B, "9", link["link"])
    assert not world.sees(C, "1.2.1")
    world.settle()
    assert world.found(C) == {"1.2.2"}


def test_a_patient_with_very_many_numbers_is_opened_in_one_transaction(world: World) -> None:
    world.arrive(A, "1", "1.2.1")
    world.settle()
    for number in range(60):
        world.confirm(A, "1", {"id": f"n{number}"})
    world.declare_emergency(C, "1", OIDS[A])
    assert world.sees(C, "1.2.1")
    world.declare_emergency(C, "n59", OIDS[A])


def test_the_answer_does_not_say_whether_anything_is_known(world: World) -> None:
    world.arrive(A, "1", "1.2.1")
    world.settle()
    world.declare_emergency(C, "another", OIDS[A])
    costs = []
    for number in ("1", "nobody"):
        body = {"patient": {"id": number, "issuer": OIDS[A]}, "reason": "unconscious", "practitioner": {"id": "verdi"}}
        with world.counted() as requests:
            answer = emergencies.declare(world.table, world.caller(C), body, world.now, world.act)
        costs.append((dict(requests), sorted(answer)))
    assert costs[0] == costs[1]


@pytest.mark.parametrize(
    "change",
    [
        {"reason": ""},
        {"reason": "   "},
        {"reason": None},
        {"reason": "x" * 501},
        {"practitioner": None},
        {"practitioner": ""},
        {"practitioner": {"name": "Verdi"}},
        {"practitioner": {"id": "verdi\n"}},
        {"patient": None},
        {"patient": {"id": ""}},
        {"more": 1},
    ],
)
def test_without_a_named_person_and_a_reason_there_is_none(world: World, change: dict[str, object]) -> None:
    world.arrive(A, "1", "1.2.1")
    body = {"patient": {"id": "1", "issuer": OIDS[A]}, "reason": "unconscious", "practitioner": "verdi"} | change
    with pytest.raises(BadRequest):
        emergencies.declare(world.table, world.caller(C), body, world.now, world.act)


def test_the_owners_reviewer_closes_it_and_the_first_conclusion_stands(world: World) -> None:
    world.arrive(A, "1", "1.2.1")
    world.settle()
    emergency = world.declare_emergency(C, "1", OIDS[A])

    def close(who: str, conclusion: str) -> dict[str, object]:
        body = {"conclusion": conclusion, "note": "seen"}
        return emergencies.close_review(world.table, world.caller(who), emergency, body, world.now, world.act, world.tell)

    for who in (B, C):
        with pytest.raises(NotFound):
            close(who, "justified")
    first = close(A, "not-justified")
    assert close(A, "justified") == first
    assert listed(world, A) == []
    assert listed(world, A, "closed") == [emergency]


def test_reviews_come_in_pages_and_none_is_lost(world: World) -> None:
    world.arrive(A, "1", "1.2.1")
    world.settle()
    declared = []
    for _ in range(7):
        world.later(seconds=1)
        declared.append(world.declare_emergency(C, "1", OIDS[A]))
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = reviews(world, A, None, cursor, 2)
        assert isinstance(page["reviews"], list)
        seen += [review["id"] for review in page["reviews"]]
        if "next" not in page:
            break
        cursor = str(page["next"])
        assert quote(cursor, safe="") == cursor
    assert seen == declared[::-1]
    for forged in ("", "x", "2026-01-01T00:00:00Z#" + "g" * 32, "#" + "a" * 32):
        for given in filter(None, (forged, cursors.encode(forged))):
            with pytest.raises(BadRequest):
                reviews(world, A, None, given)
