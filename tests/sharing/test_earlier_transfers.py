"""Transfers that were written before acceptance was known."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from chalicelib.domain import keys
from chalicelib.domain import transfers as domain
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Item, PutNew
from chalicelib.services import access
from chalicelib.services.identity import linking
from chalicelib.services.sharing import earlier_transfers
from tests.sharing.test_acceptance import ADA, FOLLOW_UP, PRIOR
from tests.sharing.test_identifiers import CF, joined
from tests.world import OIDS, A, B, World


def of_before(
    world: World, transfer: str, proposed: str | None = None, named: str | None = None, key: str = "1"
) -> domain.Transfer:
    """A transfer as it was written before acceptance was known: the sender's number made a link, and so did the receiver's."""
    earlier = domain.Transfer(
        transfer, A, B, PatientIdentifier(OIDS[A], key), world.now, world.now + timedelta(days=365), "discharge"
    )
    terms: dict[str, object] = {
        "id": earlier.id, "from": A, "to": B, "patient": {"issuer": OIDS[A], "id": key},
        "opened_at": domain.iso(earlier.opened_at),
        "expires_at": domain.iso(earlier.expires_at), "reason": "discharge",
    }  # fmt: skip
    version = 0
    facts = []
    if proposed is not None:
        version = 1
        terms |= {"receiving": {"issuer": OIDS[B], "id": proposed}, "receiving_version": 1}
        facts += stated(earlier, terms, 1)
    facts = [*opened(earlier, terms), *facts]
    if named is not None:
        later = terms | {"receiving": {"issuer": OIDS[B], "id": named}, "receiving_version": version + 1}
        own, copy = stated(earlier, later, version + 1)
        facts += [replace(own, data=own.data | {"by": "bianchi", "at": "2026-03-05T08:00:00.000Z"}), copy]
    for number, by in ((proposed, A), (named, B)):
        if number is not None:
            record = access.load_record(world.table, earlier.patient.hash)
            for write in linking.linking_writes(
                record, earlier.patient, PatientIdentifier(OIDS[B], number), "transfer", by, (), world.now
            ):
                world.table.put(write)
    for fact in facts:
        world.table.put(PutNew(fact))
    return earlier


def stated(of: domain.Transfer, terms: dict[str, object], version: int) -> list[Item]:
    return [
        Item(keys.transfer_facts(of.id), f"RECEIVER#{version:06d}", terms),
        Item(keys.patient_facts(of.patient.hash), f"TRANSFER#{of.id}#{version:06d}", terms),
    ]


def opened(of: domain.Transfer, terms: dict[str, object]) -> list[Item]:
    own, copy = domain.opening(of)
    return [replace(own, data=terms | {"by": "rossi"}), replace(copy, data=terms)]


def test_of_transfers_of_before_those_that_the_receiver_had_named_are_accepted_and_the_others_wait(world: World) -> None:
    world.arrive(A, "1", PRIOR)
    world.arrive(A, "2", "1.2.20")
    world.arrive(B, "9", FOLLOW_UP, date="20260401")
    world.arrive(B, "8", "1.2.8", date="20260401")
    by_sender, by_receiver = "a" * 32, "b" * 32
    of_before(world, by_sender, proposed="9")
    of_before(world, by_receiver, named="8", key="2")
    world.settle()
    for _ in range(2):
        assert not world.sees(A, FOLLOW_UP), "the sender's word alone had opened it"
        assert world.sees(A, "1.2.8")
        assert world.sees(B, PRIOR)
        waiting, accepted = world.transfer(A, by_sender), world.transfer(A, by_receiver)
        assert "accepted_at" not in waiting
        assert waiting["proposed_patient"]["id"] == "9"
        assert (accepted["receiving_patient"]["id"], accepted["accepted_at"]) == ("8", "2026-03-05T08:00:00.000Z")
        assert [transfer["id"] for transfer in world.transfers(B) if "accepted_at" not in transfer] == [by_sender]
        while earlier_transfers.bring_up_to_date(world.table, world.now):
            world.settle()
    for who in (A, B):
        told = [change["transfer_id"] for change in world.changes(who) if change["kind"] == "transfer-waiting"]
        assert told == [by_sender]
        assert not [
            change
            for change in world.changes(who)
            if change["kind"] == "transfer-accepted" and change["transfer_id"] == by_sender
        ]
    assert not joined(world, A, "1", OIDS[B], "9"), "the link that nothing but the sender's word had made"
    assert joined(world, A, "2", OIDS[B], "8")
    world.accept(B, by_sender, "9")
    world.settle()
    assert world.found(A, ("PatientID", "1")) == {PRIOR, FOLLOW_UP}


def test_a_number_that_both_named_or_a_code_joins_stays_linked(world: World) -> None:
    world.arrive(A, "1", PRIOR, other_ids=[(ADA, CF)])
    world.arrive(B, "9", FOLLOW_UP, date="20260401")
    of_before(world, "a" * 32, proposed="9")
    world.arrive(B, "9", "1.2.3", date="20260401", other_ids=[(ADA, CF)])
    world.arrive(A, "2", "1.2.20")
    of_before(world, "b" * 32, proposed="7", key="2")
    of_before(world, "c" * 32, named="7", key="2")
    world.settle()
    while earlier_transfers.bring_up_to_date(world.table, world.now):
        world.settle()
    assert joined(world, A, "1", OIDS[B], "9")
    assert joined(world, A, "2", OIDS[B], "7")
    assert not world.sees(A, FOLLOW_UP)


def test_a_number_of_before_that_was_undone_since_is_no_acceptance(world: World) -> None:
    world.arrive(A, "1", PRIOR)
    world.arrive(B, "9", FOLLOW_UP, date="20260401")
    transfer = "a" * 32
    earlier = of_before(world, transfer, named="9")
    (link,) = [known for known in world.links(B, "9") if known["status"] == "confirmed"]
    world.undo(B, "9", link["link"])
    assert "accepted_at" not in world.transfer(A, earlier.id)
    assert not world.sees(A, FOLLOW_UP)


def test_looking_at_many_transfers_of_before_goes_on_where_it_stopped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.arrive(A, "1", PRIOR)
    for number in range(7):
        of_before(world, f"{number:032x}")
    monkeypatch.setattr(earlier_transfers, "_AT_ONCE", 3)
    looked = [earlier_transfers.bring_up_to_date(world.table, world.now) for _ in range(5)]
    assert sum(looked) == 7
    assert looked[-1] == 0
    assert len([change for change in world.changes(B) if change["kind"] == "transfer-waiting"]) == 7
    with world.counted() as requests:
        earlier_transfers.bring_up_to_date(world.table, world.now)
    assert dict(requests) == {"get": 1}, "once all is done, one read a minute"
