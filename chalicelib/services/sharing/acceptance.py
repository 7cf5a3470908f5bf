"""Acceptance: what the receiver of a transfer does so that the sender may follow the patient, and how it takes that back.

The receiver accepts by naming its own number of the patient, which links that number to the transfer's. Its word alone does so:
what the sender proposed, or a person of the sender confirmed, counts for nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from chalicelib.domain import identifiers, italian, patients, transfers
from chalicelib.domain.audit import Act, Kind, Recorder
from chalicelib.domain.errors import BadRequest, Conflict, Forbidden, TryAgain
from chalicelib.domain.fields import fields
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.patients import AUTOMATIC, IdentityLink, Record
from chalicelib.domain.ports import PutNew, Table, Write
from chalicelib.domain.transfers import Transfer
from chalicelib.services import access
from chalicelib.services.access import LoadedPatient
from chalicelib.services.identity import linking
from chalicelib.services.registry import Caller
from chalicelib.services.sharing.transfers import (
    OVER,
    ShownTransfer,
    change_writes,
    check_unchanged,
    entries,
    entry,
    get_transfer,
)

_ATTEMPTS = 5
BASIS = "transfer"
"""That of the link which an acceptance makes."""


def accept(
    table: Table,
    caller: Caller,
    transfer_id: str,
    body: object,
    now: datetime,
    act: Act,
    record: Recorder,
    if_match: str | None = None,
) -> ShownTransfer:
    """The receiver accepts the patient, under the number of its own that `body` names, or that is linked already.

    Naming another number undoes the first. Raises Forbidden, BadRequest, NotFound; Conflict for a transfer that is over, where
    the codici fiscali differ, for a national code that is not known to be the patient's, and, with their count, where not just
    one number is linked; PreconditionFailed.
    """
    transfer = _received(table, caller, transfer_id, "accepts the patient")
    named = _named(caller, body)
    for _ in range(_ATTEMPTS):
        check_unchanged(transfer, if_match, now)
        if transfer.status(now) != "active":
            raise Conflict(OVER)
        known = _known(table, [transfer])[transfer.patient.hash]
        theirs, number = known.record, named or transfer.receiving or _only(own_numbers(caller, known))
        if linking.compare_codes(theirs, access.load_deciding(table, number.hash)) == "different":
            raise Conflict("The two records carry different codici fiscali: they are not the same patient's.")
        if number == transfer.receiving:
            record(entry(Kind.READ, transfer))
            return shown_to_receiver(transfer, (), now)
        if italian.kind(number) != "hospital" and not _is_the_patients(number, transfer, theirs):
            raise Conflict("This national code is not known to be the patient's: name a number of your own.")
        accepted = transfer.accepted(number, now)
        writes = linking.linking_writes(theirs, transfer.patient, number, BASIS, caller.member.id, (), now)
        writes += change_writes(transfers.changing(accepted), caller, now)
        writes += _unnaming(table, theirs, transfer, caller, now)
        if not act(writes, *entries(Kind.TRANSFER_ACCEPTED, accepted, number)):
            return shown_to_receiver(accepted, (), now)
        transfer = get_transfer(table, caller, transfer_id)
    raise TryAgain("The transfer was changed at the same moment. Please look, and send it again.")


def take_back(
    table: Table, caller: Caller, transfer_id: str, now: datetime, act: Act, record: Recorder, if_match: str | None = None
) -> ShownTransfer:
    """The receiver takes its acceptance back, from the next request on, and with it the link that nothing else made.

    Again: the same answer. Raises Forbidden, NotFound; Conflict for a transfer that is over; PreconditionFailed.
    """
    transfer = _received(table, caller, transfer_id, "takes its acceptance back")
    for _ in range(_ATTEMPTS):
        check_unchanged(transfer, if_match, now)
        if transfer.status(now) != "active":
            raise Conflict(OVER)
        known = _known(table, [transfer])[transfer.patient.hash]
        if transfer.receiving is None:
            record(entry(Kind.READ, transfer))
            return shown_to_receiver(transfer, own_numbers(caller, known), now)
        waiting = transfer.unaccepted()
        undone = _unnaming(table, known.record, transfer, caller, now)
        writes = change_writes(transfers.changing(waiting), caller, now) + undone
        if not act(writes, *entries(Kind.ACCEPTANCE_ENDED, waiting, transfer.receiving)):
            left = [own_number for own_number in own_numbers(caller, known) if not undone or own_number != transfer.receiving]
            return shown_to_receiver(waiting, left, now)
        transfer = get_transfer(table, caller, transfer_id)
    raise TryAgain("The transfer was changed at the same moment. Please look, and send it again.")


def compare_codes(table: Table, caller: Caller, transfer: Transfer, number: str) -> str:
    """How the codici fiscali of a transfer's patient and of a number of the receiver's own compare, for the receiver; from facts
    that decide whether it is accepted, too. Raises Forbidden, BadRequest."""
    if caller.member.id != transfer.receiver:
        raise Forbidden("Only the receiver compares its numbers with the patient's.")
    own = identifiers.patient_identifier(number, None, caller.member.patient_id_issuer, ("compare", "compare"))
    records = (access.load_deciding(table, patient.hash) for patient in (transfer.patient, own))
    return linking.compare_codes(*records)


def own_numbers(caller: Caller, patient: LoadedPatient) -> list[PatientIdentifier]:
    """The receiver's own numbers that are linked to a transfer's patient: by a codice fiscale, or by the receiver's own word."""
    counting = {link.beyond(patient.record.patient) for link in patient.record.links if not link.ended and _counts(link, caller)}
    own = (number for number in patient.numbers if caller.registry.by_issuer(number.issuer) == caller.institution)
    return sorted(number for number in own if number in counting)


def _known(table: Table, found: Sequence[Transfer]) -> Mapping[str, LoadedPatient]:
    return access.load_facts(table, [transfer.patient.hash for transfer in found]).known


def _counts(link: IdentityLink, caller: Caller) -> bool:
    return link.basis == AUTOMATIC or link.by.split("/")[0] == caller.member.id


def waiting_with_numbers(table: Table, caller: Caller, found: Sequence[Transfer], now: datetime) -> list[ShownTransfer]:
    """Transfers as the caller sees them; those that wait for it, with the numbers of its own that are linked already."""
    mine = [transfer for transfer in found if _waits_for(caller, transfer, now)]
    known = _known(table, mine)
    waits = {transfer.id for transfer in mine}
    return [
        shown_to_receiver(transfer, own_numbers(caller, known[transfer.patient.hash]), now)
        if transfer.id in waits
        else ShownTransfer(transfer, now)
        for transfer in found
    ]


def shown_to_receiver(transfer: Transfer, linked: Sequence[PatientIdentifier], now: datetime) -> ShownTransfer:
    """A transfer as its receiver sees it: while it waits, with the numbers of its own that are linked to the patient."""
    waits = transfer.accepted_at is None and transfer.status(now) == "active"
    return ShownTransfer(transfer, now, tuple(linked) if waits else None)


def _waits_for(caller: Caller, transfer: Transfer, now: datetime) -> bool:
    return transfer.receiver == caller.member.id and transfer.accepted_at is None and transfer.status(now) == "active"


def _received(table: Table, caller: Caller, transfer_id: str, what: str) -> Transfer:
    transfer = get_transfer(table, caller, transfer_id)
    if caller.member.id != transfer.receiver:
        raise Forbidden(f"Only the receiver {what}.")
    return transfer


def _named(caller: Caller, body: object) -> PatientIdentifier | None:
    """The number that the receiver names: one of its own, or a national code that it files the patient under; None for none."""
    said = fields(body, ("id", "issuer"))
    if not said:
        return None
    number = identifiers.patient_identifier(said.get("id"), said.get("issuer"), caller.member.patient_id_issuer, ("id", "issuer"))
    if caller.is_anothers(number):
        raise BadRequest("The number must be one of your own, or a national code.", "issuer")
    return number


def _is_the_patients(number: PatientIdentifier, transfer: Transfer, theirs: Record) -> bool:
    """Whether a national code is one that the patient has by the archive's word or the sender's: it is everybody's number, and
    what every hospital has under it would become that patient's."""
    links = (link for link in linking.between(theirs, number) if not link.ended)
    return number == transfer.patient or any(link.is_word_of(transfer.sender) for link in links)


def _only(numbers: Sequence[PatientIdentifier]) -> PatientIdentifier:
    if len(numbers) != 1:
        raise Conflict(
            f"{len(numbers)} of your numbers are linked to this patient: name the one that is meant.", count=len(numbers)
        )
    return numbers[0]


def _unnaming(table: Table, record: Record, transfer: Transfer, caller: Caller, now: datetime) -> list[Write]:
    """The writes that undo the link to the number that was accepted, if nothing but this transfer made it."""
    number = transfer.receiving
    if number is None or any(other.id != transfer.id and other.receiving == number for other in record.transfers):
        return []
    links = [link for link in linking.between(record, number) if not link.ended and link.basis == BASIS]
    if not links:
        return []
    if italian.kind(number) == "hospital" and record.codes & access.load_deciding(table, number.hash).codes:
        return []
    return [PutNew(fact) for link in links for fact in patients.unlinking(link, caller.member.id, now)]
