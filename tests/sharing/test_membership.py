"""Membership over time, with the clock in the test's hand: a role that nobody confirms; what is older than the rules."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.domain import keys
from chalicelib.domain.errors import Conflict, NotFound, TryAgain
from chalicelib.domain.ports import Item, PutNew
from chalicelib.services import membership, registry
from chalicelib.services.registry import Caller, load_registry
from chalicelib.services.sharing import protection
from tests.world import OIDS, A, B, C, World

NEW = "arn:aws:iam::123456789012:role/contenitore-another"


def operator(world: World) -> Caller:
    return Caller(None, "operator", load_registry(world.table))


def put(world: World, institution: str, **body: Any) -> None:
    membership.register(world.table, operator(world), institution, body, world.now, world.act, world.tell)


def role_of(world: World, institution: str) -> str:
    return load_registry(world.table).members[institution].role_arn


def told(world: World, institution: str) -> list[str]:
    return [change["change"] for change in world.changes(institution) if change["kind"] == "membership-changed"]


def test_a_role_that_nobody_confirms_counts_after_72_hours_and_rings_twice() -> None:
    world = World()
    before = role_of(world, B)
    put(world, B, role_arn=NEW)
    world.settle()
    world.later(hours=71, minutes=59)
    assert membership.take_effect(world.table, world.now, world.act) == 0
    assert role_of(world, B) == before
    world.later(minutes=1)
    assert membership.take_effect(world.table, world.now, world.act) == 1
    assert membership.take_effect(world.table, world.now, world.act) == 0
    world.settle()
    assert role_of(world, B) == NEW
    assert told(world, B) == ["role-proposed", "role-changed"]
    assert told(world, A) == []
    assert [(kind, alert["owner"], alert["change"]) for kind, alert in world.alerts.sent] == [
        ("membership-changed", B, "role-proposed"),
        ("membership-changed", B, "role-changed"),
    ]


def test_however_often_and_late_the_projector_hears_of_it_it_is_told_once() -> None:
    world = World()
    put(world, B, role_arn=NEW)
    pending = list(world.table.pending)
    for _ in range(3):
        world.deliver(pending)
    assert told(world, B) == ["role-proposed"]
    assert len(world.alerts.sent) == 1


def test_a_confirmation_of_what_was_replaced_meanwhile_is_refused() -> None:
    world = World()
    put(world, B, role_arn=NEW)
    member = Caller(world.member(B), "rossi", load_registry(world.table))
    put(world, B, role_arn=NEW + "-2")
    with pytest.raises(TryAgain):
        membership.confirm(world.table, member, B, {"role_arn": NEW}, world.now, world.act)
    with pytest.raises(Conflict):
        membership.confirm(world.table, world.caller(B), B, {"role_arn": NEW}, world.now, world.act)
    with pytest.raises(Conflict):
        membership.confirm(world.table, world.caller(B), B, {}, world.now, world.act)
    confirmed = membership.confirm(world.table, world.caller(B), B, {"role_arn": NEW + "-2"}, world.now, world.act)
    assert confirmed.role_arn == NEW + "-2"
    put(world, B, role_arn=NEW + "-3")
    assert membership.confirm(world.table, world.caller(B), B, {}, world.now, world.act).role_arn == NEW + "-3", (
        "the only one since"
    )


def test_a_role_that_takes_the_place_of_one_that_was_withdrawn_is_not_confirmed_unnamed() -> None:
    world = World()
    has = world.member(B).role_arn
    for role in (NEW, has, NEW + "-2"):
        put(world, B, role_arn=role)
    with pytest.raises(Conflict):
        membership.confirm(world.table, world.caller(B), B, {}, world.now, world.act)
    assert world.member(B).role_arn == has


def test_only_one_of_a_confirmation_and_its_72_hours_counts() -> None:
    world = World()
    put(world, B, role_arn=NEW)
    world.later(hours=72)
    done = threading.Barrier(2)
    failed: list[Exception] = []

    def confirm() -> None:
        caller = world.caller(B)
        done.wait(10)
        try:
            membership.confirm(world.table, caller, B, {}, world.now, world.act)
        except (Conflict, TryAgain) as error:
            failed.append(error)

    thread = threading.Thread(target=confirm)
    thread.start()
    done.wait(10)
    try:
        membership.take_effect(world.table, world.now, world.act)
    except TryAgain as error:
        failed.append(error)
    thread.join(10)
    assert role_of(world, B) == NEW
    world.settle()
    assert told(world, B) == ["role-proposed", "role-changed"]


def test_a_transfer_to_an_institution_is_enough_to_name_its_issuer() -> None:
    world = World()
    world.arrive(A, "SM-1", "1.2.3")
    world.settle()
    world.open(A, "SM-1", B)
    with pytest.raises(Conflict):
        put(world, B, patient_id_issuer="2.16.1.77")
    put(world, C, patient_id_issuer="2.16.1.77")


def of_a_corrected_issuer() -> World:
    """San Matteo's OID was corrected after it had sent: its new transfer is of the new number, the study lies under the old."""
    world = World()
    world.arrive(A, "SM-1", "1.2.3")
    world.settle()
    world.open(A, "SM-1", B)
    world.settle()
    assert world.sees(B, "1.2.3")
    data = next(world.table.query_all(keys.REGISTRY, f"{registry.VERSIONS}{A}#")).data
    corrected = data | {"patient_id_issuer": "2.16.1.99", "version": 2}
    world.table.put(PutNew(Item(keys.REGISTRY, f"{registry.VERSIONS}{A}#000002", corrected)))
    assert world.member(A).patient_id_issuer == "2.16.1.99" != OIDS[A]
    return world


@pytest.mark.parametrize("study", [None, "1.2.3"])
@pytest.mark.parametrize("sent_since", [True, False])
def test_where_an_issuer_was_changed_before_that_was_refused_an_objection_hides_what_lies_under_the_old_one(
    study: str | None, sent_since: bool
) -> None:
    world = of_a_corrected_issuer()
    if sent_since:
        world.arrive(A, "SM-1", "1.2.4")
        world.settle()
    objection = world.object(A, "SM-1", study)
    assert not world.sees(B, "1.2.3"), "answered 201, and hid nothing"
    protection.withdraw_objection(world.table, world.caller(A), "SM-1", objection, world.now, world.act)
    assert world.sees(B, "1.2.3")


def test_there_a_study_under_the_old_one_is_protected_and_consented_to_as_any_other() -> None:
    world = of_a_corrected_issuer()
    caller, body = world.caller(A), {"study_instance_uid": "1.2.3"}
    protection.protect(world.table, caller, "SM-1", body, world.now, world.act)
    assert not world.sees(B, "1.2.3")
    given = protection.consent(world.table, caller, "SM-1", {**body, "to": B}, world.now, world.act)["id"]
    assert world.sees(B, "1.2.3")
    protection.revoke_consent(world.table, caller, "SM-1", given, world.now, world.act)
    assert not world.sees(B, "1.2.3")


def test_there_what_is_nobodys_is_not_found_as_before() -> None:
    world = of_a_corrected_issuer()
    for patient, study in (("SM-2", None), ("SM-1", "1.2.9")):
        with pytest.raises(NotFound):
            world.object(A, patient, study)


def test_72_hours_are_72_hours() -> None:
    from chalicelib.domain.membership import WAITING

    assert timedelta(hours=72) == WAITING
