"""What is to be erased and is older than its table came with a restore: nothing of it goes until it is decided on anew."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.domain import keys
from chalicelib.domain.erasures import ErasureState
from chalicelib.domain.errors import BadRequest, Conflict, NotFound
from chalicelib.domain.ports import Item, PutNew
from chalicelib.domain.retention import RetentionPolicy
from chalicelib.services.erasure import erase_patient, orders, retention, run
from chalicelib.services.erasure import institutions as leavers
from tests.unit.services.test_erasing import city, decided, eraser, leaves, ordered, records
from tests.world import A, B, World

__all__ = ["city"]
MOMENT = timedelta(milliseconds=1)


def restored(world: World, after: timedelta = timedelta(0)) -> None:
    """The table is another one, made `after` what was decided last."""
    world.memory.created = world.now + after
    world.later(minutes=5)


def runs(world: World) -> tuple[dict[str, int], Counter[str]]:
    """What one run says, and of whom it says that something waits."""
    told: Counter[str] = Counter()
    return run.erase_due(eraser(world, world.table), lambda institution, count: told.update({institution: count})), told


def objects(world: World) -> int:
    return sum(key.startswith(f"instances/{A}/") for key in world.objects.contents)


def audited(world: World, word: str) -> list[dict[str, Any]]:
    found = world.table.query_all(keys.audit_of_owner(A), index="gsi3")
    return [item.data for item in found if word in str(item.data.get("text"))]


def test_a_patients_order_waits_until_its_hospital_confirms_it_anew(city: World) -> None:
    world = city.copied()
    id = ordered(world)["id"]
    restored(world)
    for _ in range(2):
        assert runs(world) == ({"institutions": 0, "orders": 0, "rules": 0, "waiting": 1, "failed": 0}, Counter({A: 1}))
    assert objects(world) == 4
    assert [record["subject"] for record in audited(world, "put back")] == [id], "recorded when it began to wait"
    with pytest.raises(NotFound):
        confirmed(world, B, "Q1", id)
    with pytest.raises(NotFound):
        confirmed(world, A, "P2", id)
    assert confirmed(world, A, "P1", id)["instances"] == 3
    with pytest.raises(Conflict):
        confirmed(world, A, "P1", id)
    assert runs(world)[0]["waiting"] == 0
    assert objects(world) == 1
    assert {proof["count"] for proof in records(world, A)} == {3}


def confirmed(world: World, who: str, number: str, id: str) -> dict[str, Any]:
    caller, args = world.caller(who), (world.now, world.act, world.tell)
    return orders.order(world.table, caller, number, {"order": id}, *args)[0]


@pytest.mark.parametrize(("after", "waits"), [(-MOMENT, False), (timedelta(0), True), (MOMENT, True)])
def test_what_was_given_after_the_table_was_made_goes(city: World, after: timedelta, waits: bool) -> None:
    world = city.copied()
    ordered(world)
    restored(world, after)
    assert runs(world)[0]["waiting"] == waits
    assert objects(world) == (4 if waits else 1)


def test_an_order_that_waits_is_taken_back_even_if_it_had_begun_and_its_study_is_one_again(city: World) -> None:
    world = city.copied()
    id = ordered(world)["id"]
    (made,) = erase_patient.waiting(world.table, A)
    begun = made.to_item() | {"begun": True}
    world.memory.put(made.from_item(begun, made.version).write())
    world.memory.put(PutNew(Item(keys.study_facts(A, made.studies[0]), keys.ERASING)))
    with pytest.raises(Conflict):
        orders.take_back(world.table, world.caller(A), "P1", id, world.act)
    restored(world)
    runs(world)
    assert orders.take_back(world.table, world.caller(A), "P1", id, world.act)["status"] == "cancelled"
    assert runs(world)[0]["waiting"] == 0
    assert objects(world) == 4
    assert list(erase_patient.waiting(world.table, A)) == []
    assert world.memory.get(keys.study_facts(A, made.studies[0]), keys.ERASING) is None


def test_an_order_is_confirmed_by_its_id_alone(city: World) -> None:
    world = city.copied()
    id = ordered(world)["id"]
    args = world.now, world.act, world.tell
    for body in ({"order": id, "reason": "again"}, {"order": 7}):
        with pytest.raises(BadRequest):
            orders.order(world.table, world.caller(A), "P1", body, *args)
    with pytest.raises(Conflict):
        orders.order(world.table, world.caller(A), "P1", {"order": id}, *args)


def test_the_erasure_of_an_institution_is_asked_for_again_and_goes_once_another_operator_confirms(city: World) -> None:
    world = city.copied()
    leaves(world)
    restored(world)
    assert runs(world)[1] == Counter({A: 1})
    assert (decided(world).state, decided(world).asked_by) == (ErasureState.ASKED, "rossi")
    assert objects(world) == 4
    assert runs(world)[1] == Counter()
    shown = {"confirm": decided(world).confirmation}
    with pytest.raises(Conflict):
        leavers.put(world.table, world.operator, "rossi", A, shown, world.now, world.act)
    leavers.put(world.table, world.operator, "verdi", A, shown, world.now, world.act)
    runs(world)
    assert decided(world).state is ErasureState.DONE
    assert objects(world) == 0


def test_a_rule_is_tried_and_no_more_until_its_owner_says_anew_that_it_is_carried_out(city: World) -> None:
    world = city.copied()
    world.arrive(A, "P9", "1.2.89", date="20010101")
    world.project_all()
    rule: dict[str, object] = {"years": 20}
    for execute in (False, True):
        retention.put(world.table, world.caller(A), rule | {"execute": execute}, world.now, world.act)
        if not execute:
            runs(world)
    restored(world)
    there = objects(world)
    assert runs(world)[1] == Counter({A: 1})
    assert objects(world) == there
    known = retention.load(world.table, A)
    assert (known.policy, known.is_tried) == (RetentionPolicy(20), True)
    assert audited(world, "put back")
    retention.put(world.table, world.caller(A), rule | {"execute": True}, world.now, world.act)
    assert runs(world)[1] == Counter()
    assert objects(world) == there - 1
