"""After a restore what ended or hid something holds again, nothing that opened does, and the same again writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chalicelib.domain import keys
from chalicelib.domain.ports import Key
from chalicelib.services import membership
from chalicelib.services.erasure import erase_patient, orders, retention
from chalicelib.services.ingest import withdrawals
from chalicelib.services.registry import load_registry
from chalicelib.services.sharing import protection
from infra import carry_over
from infra.carry_over import Restored
from tests.world import A, B, World, patient

STUDY, OTHER = "1.2.91", "1.2.92"
Acts = Callable[[World], None]


@pytest.fixture(scope="module")
def then() -> World:
    """A has two studies of a patient, which B sees by a transfer that it accepted."""
    world = World()
    world.arrive(A, "P1", STUDY)
    world.arrive(A, "P1", OTHER)
    world.arrive(B, "Q1", "1.2.93")
    world.project_all()
    world.open(A, "P1", B, receiving="Q1")
    world.settle()
    return world


def carried(now: World, restored: World) -> dict[tuple[str, str], int]:
    """Carry over from the table of `now` into the restored one, and project what was written."""

    def part() -> Iterator[list[Key]]:
        yield sorted(now.memory.items())

    found = carry_over.carry_over(Restored(now.memory, restored.table, restored.act, restored.now), [part])
    restored.settle()
    return dict(found)


def lost(then: World, *acts: Acts) -> tuple[World, World, dict[tuple[str, str], int]]:
    """What was done after the moment restored to, and the restored world after carrying over, with what that said."""
    now, restored = then.copied(), then.copied()
    for act in acts:
        now.later(minutes=1)
        act(now)
    restored.now, restored.audited = now.now, True
    return now, restored, carried(now, restored)


def objects(study: str | None = None) -> Acts:
    body: dict[str, object] = {} if study is None else {"study_instance_uid": study}

    def act(world: World) -> None:
        protection.object_to_sharing(world.table, world.caller(A), "P1", body, world.now, world.act)

    return act


def protects(world: World) -> None:
    protection.protect(world.table, world.caller(A), "P1", {"study_instance_uid": STUDY}, world.now, world.act)


def withdraws(world: World) -> None:
    protection.withdraw(world.table, world.caller(A), STUDY, {"reason": "wrong"}, world.now, world.act)


def withdraws_an_instance(world: World) -> None:
    body = {"reason": "wrong", "sop_instance_uids": [f"{STUDY}.1.1"]}
    protection.withdraw(world.table, world.caller(A), STUDY, body, world.now, world.act)


def ends_the_transfer(world: World) -> None:
    (only,) = world.transfers(B)
    world.end(A, only["id"])


def a_member_leaves(world: World) -> None:
    world.remove(B)


@pytest.mark.parametrize(
    ("act", "who", "what", "count"),
    [
        (objects(), A, "objections", 1),
        (objects(STUDY), A, "objections", 1),
        (protects, A, "protections", 1),
        (withdraws, A, "withdrawals", 1),
        (withdraws_an_instance, A, "withdrawals", 1),
        (ends_the_transfer, A, "transfers ended", 1),
        (a_member_leaves, B, "memberships ended", 1),
    ],
)
def test_what_hid_or_ended_does_so_again(then: World, act: Acts, who: str, what: str, count: int) -> None:
    assert then.sees(B, STUDY)
    now, restored, found = lost(then, act)
    assert found[who, what] == count
    assert not (B in load_registry(restored.table).members and restored.sees(B, STUDY))
    written = restored.memory.items()
    assert carried(now, restored) == {}
    assert restored.memory.items() == written
    recorded = restored.table.query_all(keys.audit_of_owner(who), index="gsi3")
    assert [what in str(item.data["text"]) for item in recorded if item.data.get("subject") == "carry-over"] == [True]


def test_what_was_said_and_taken_back_before_it_was_lost_is_not_brought_back(then: World) -> None:
    def objected_and_agreed(world: World) -> None:
        args = world.now, world.act
        said = protection.object_to_sharing(world.table, world.caller(A), "P1", {}, *args)
        protection.withdraw_objection(world.table, world.caller(A), "P1", said["id"], *args)

    def withdrew_and_showed(world: World) -> None:
        args = world.now, world.act
        said = protection.withdraw(world.table, world.caller(A), STUDY, {"reason": "wrong"}, *args)
        withdrawals.end_withdrawal(world.table, world.caller(A), STUDY, str(said["id"]), *args)

    _, restored, found = lost(then, objected_and_agreed, withdrew_and_showed)
    assert found == {}
    assert restored.sees(B, STUDY)


def test_nothing_that_opens_is_carried_over(then: World) -> None:
    before = then.copied()
    objects()(before)
    protects(before)
    before.settle()

    def opens(world: World) -> None:
        args = world.now, world.act
        (known,) = protection.list_objections(world.table, world.caller(A), "P1", world.tell)["objections"]
        protection.withdraw_objection(world.table, world.caller(A), "P1", known["id"], *args)
        protection.consent(world.table, world.caller(A), "P1", {"study_instance_uid": STUDY, "to": B}, *args)
        world.open(A, "P1", B)

    _, restored, found = lost(before, opens)
    assert found == {}
    assert not restored.sees(B, STUDY)
    assert not restored.sees(B, OTHER)


def test_a_consent_that_was_revoked_is_so_again(then: World) -> None:
    before = then.copied()
    protects(before)
    args = before.now, before.act
    given = protection.consent(before.table, before.caller(A), "P1", {"study_instance_uid": STUDY, "to": B}, *args)
    before.settle()
    assert before.sees(B, STUDY)

    def revokes(world: World) -> None:
        protection.revoke_consent(world.table, world.caller(A), "P1", given["id"], world.now, world.act)

    _, restored, found = lost(before, revokes)
    assert found == {(A, "consents revoked"): 1}
    assert not restored.sees(B, STUDY)


def test_a_link_that_was_undone_is_so_again_unless_it_was_made_again(then: World) -> None:
    before = then.copied()
    before.link(A, "P1", patient(A, "P2"))

    def undoes(world: World) -> None:
        (known,) = live_links(world)
        world.undo(A, "P1", known["link"])

    def makes_again(world: World) -> None:
        world.link(A, "P1", patient(A, "P2"))

    _, restored, found = lost(before, undoes)
    assert found == {(A, "links ended"): 2}, "in the partitions of both numbers"
    assert live_links(restored) == []
    _, restored, found = lost(before, undoes, makes_again)
    assert found == {}
    assert len(live_links(restored)) == 1


def live_links(world: World) -> list[dict[str, Any]]:
    other = patient(A, "P2")
    return [link for link in world.links(A, "P1") if link["identifier"]["id"] == other.value and link["status"] == "confirmed"]


def test_a_withdrawal_that_had_ended_and_was_made_again_holds(then: World) -> None:
    before = then.copied()
    withdraws(before)
    (marker,) = [item for item in before.memory.items().values() if item.sk == keys.WITHDRAWN]
    withdrawals.end_withdrawal(before.table, before.caller(A), STUDY, str(marker.data["id"]), before.now, before.act)
    before.settle()
    assert before.sees(B, STUDY)
    _, restored, found = lost(before, withdraws)
    assert found[A, "withdrawals"] == 1
    assert not restored.sees(B, STUDY)


def test_an_acceptance_that_its_receiver_took_back_waits_again(then: World) -> None:
    def takes_back(world: World) -> None:
        (only,) = world.transfers(B)
        world.take_back(B, only["id"])

    now, restored, found = lost(then, takes_back)
    assert found[A, "acceptances taken back"] == 1
    assert [entry.get("receiving_patient") for entry in restored.transfers(B)] == [
        entry.get("receiving_patient") for entry in now.transfers(B)
    ]


def ordered(world: World) -> str:
    args = world.now, world.act, world.tell
    shown, _ = orders.order(world.table, world.caller(A), "P1", {}, *args)
    said = {"reason": "asked", "after_days": 0, "confirm": shown["confirm"]}
    return str(orders.order(world.table, world.caller(A), "P1", said, *args)[0]["id"])


def orders_an_erasure(world: World) -> None:
    ordered(world)


def test_an_erasure_that_was_taken_back_is_so_again_and_one_that_was_ordered_waits(then: World) -> None:
    before = then.copied()
    id = ordered(before)

    def takes_back(world: World) -> None:
        orders.take_back(world.table, world.caller(A), "P1", id, world.act)

    _, restored, found = lost(before, takes_back)
    assert found == {(A, "erasures taken back"): 1}
    assert [made.cancelled for made in erase_patient.waiting(restored.table, A)] == [True]
    now, restored, found = lost(then, orders_an_erasure)
    assert found[A, "erasures that wait"] == 1
    assert [made.waits for made in erase_patient.waiting(restored.table, A)] == [True]
    assert carried(now, restored) == {}


def test_a_rule_said_since_holds_what_it_holds_and_is_tried_only(then: World) -> None:
    before = then.copied()
    retention.put(before.table, before.caller(A), {"years": 10}, before.now, before.act)

    def holds(world: World) -> None:
        retention.put(world.table, world.caller(A), {"years": 10, "held": [STUDY]}, world.now, world.act)

    now, restored, found = lost(before, holds)
    assert found == {(A, "retention rules"): 1}
    known = retention.load(restored.table, A)
    assert known.policy is not None
    assert (known.policy.held, known.policy.execute) == ({STUDY}, False)
    assert carried(now, restored) == {}


def test_who_was_registered_or_changed_since_is_named(then: World) -> None:
    now = then.copied()
    member = now.member(B)
    said = {"name": "Another name", "role_arn": member.role_arn, "patient_id_issuer": member.patient_id_issuer}
    membership.register(now.table, now.operator, B, said, now.now, now.act, now.tell)
    assert carry_over.changed_since(now.memory, then.memory) == [B]
    assert carry_over.changed_since(then.memory, then.memory) == []
