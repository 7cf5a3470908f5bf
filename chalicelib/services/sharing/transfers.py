"""Transfers: opening, extending and ending. What the receiver does is in `services.sharing.acceptance`."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256

from chalicelib.domain import identifiers, keys, transfers
from chalicelib.domain.audit import Act, Entry, Kind, Recorder
from chalicelib.domain.errors import BadRequest, Conflict, Forbidden, NotFound, PreconditionFailed, TryAgain
from chalicelib.domain.fields import fields
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.ports import Item, PutNew, Table, Write
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.transfers import Transfer
from chalicelib.services.identity import known_patients
from chalicelib.services.registry import Caller
from chalicelib.services.sharing import proposals


@dataclass(frozen=True)
class ShownTransfer:
    """A transfer as a party of it sees it at the moment `at`.

    `linked`: for its receiver, while it waits, the numbers of its own that are linked to the patient; None where that is not
    asked. What the sender proposed is its own word, and is shown as that, right or wrong. `codes`: how a codice fiscale compares,
    for a receiver who asks (`linking.compare_codes`).
    """

    transfer: Transfer
    at: datetime
    linked: tuple[PatientIdentifier, ...] | None = None
    codes: str | None = None

    def to_json(self) -> JsonObject:
        """As it is answered."""
        transfer = self.transfer
        answer: JsonObject = {
            "id": transfer.id,
            "from": transfer.sender,
            "to": transfer.receiver,
            "patient": transfer.patient.to_item(),
            "status": transfer.status(self.at),
            "opened_at": iso(transfer.opened_at),
            "expires_at": iso(transfer.expires_at),
            "reason": transfer.reason,
            "state": transfer.state(self.at),
        }
        if transfer.proposed is not None:
            answer["proposed_patient"] = transfer.proposed.to_item()
        if transfer.receiving is not None and transfer.accepted_at is not None:
            answer |= {"receiving_patient": transfer.receiving.to_item(), "accepted_at": iso(transfer.accepted_at)}
        if self.linked is not None:
            answer["linked_patients"] = [number.to_item() for number in self.linked]
        if self.codes is not None:
            answer["codice_fiscale"] = self.codes
        return answer


_ID = re.compile(r"[0-9a-f]{32}")
_KNOWN = frozenset({"patient", "to", "reason", "expires_at", "receiving_patient_id"})
_ATTEMPTS = 5
OVER = "This transfer has ended."


def open_transfer(
    table: Table, caller: Caller, body: object, idempotency_key: str | None, now: datetime, act: Act, record: Recorder
) -> ShownTransfer:
    """Open a transfer of one of the caller's patients.

    What it takes for the receiver's number is written down as its word, whatever it is, and looked up nowhere. Raises BadRequest;
    NotFound for a patient that is none of the caller's; TooMany; Conflict for a key used for another transfer.
    """
    transfer_id = _new_id(caller.member.id, idempotency_key)
    known = _history(table, transfer_id) if idempotency_key is not None else []
    transfer = _parse(caller, body, transfer_id, now, known[0] if known else None)
    if not known_patients.has(table, caller, transfer.patient, now):
        raise NotFound
    own, copy = transfers.opening(transfer)
    own = replace(own, data=own.data | {"by": caller.actor})
    for _ in range(_ATTEMPTS):
        if known and not _same_terms(known[0], transfer, body):
            raise Conflict("This Idempotency-Key was used for another transfer.")
        if known:
            record(entry(Kind.READ, known[-1]))
            return ShownTransfer(known[-1], now)
        writes: list[Write] = [PutNew(own), PutNew(copy)]
        if transfer.proposed is not None:
            writes.append(proposals.counting(table, caller.member.id, now))
        if not act(writes, *entries(Kind.TRANSFER_OPENED, transfer, transfer.proposed)):
            return ShownTransfer(transfer, now)
        known = _history(table, transfer_id) if idempotency_key is not None else []
    raise TryAgain


def _history(table: Table, transfer_id: str) -> list[Transfer]:
    return transfers.history(table.query_all(keys.transfer_facts(transfer_id)))


def get_transfer(table: Table, caller: Caller, transfer_id: str) -> Transfer:
    """A transfer that the caller is a party of. Raises NotFound."""
    if not _ID.fullmatch(transfer_id):
        raise NotFound
    transfer = transfers.from_facts(table.query_all(keys.transfer_facts(transfer_id)))
    if transfer is None or caller.member.id not in (transfer.sender, transfer.receiver):
        raise NotFound
    return transfer


def check_unchanged(transfer: Transfer, if_match: str | None, now: datetime) -> None:
    """Raises PreconditionFailed for a transfer that is not as the caller saw it."""
    if not transfer.matches(if_match, now):
        raise PreconditionFailed


def end_transfer(
    table: Table, caller: Caller, transfer_id: str, now: datetime, act: Act, record: Recorder, if_match: str | None = None
) -> ShownTransfer:
    """End a transfer, from the next request on. Either party may; again gives the same answer. One write.

    Raises NotFound; PreconditionFailed.
    """
    transfer = get_transfer(table, caller, transfer_id)
    check_unchanged(transfer, if_match, now)
    end = Item(keys.transfer_facts(transfer.id), keys.END, {"at": iso(now), "by": caller.member.id, "actor": caller.actor})
    if transfer.ended or act([PutNew(end)], *entries(Kind.TRANSFER_ENDED, transfer, transfer.receiving)):
        record(entry(Kind.READ, transfer))
    return ShownTransfer(replace(transfer, ended=True), now)


def extend_transfer(
    table: Table,
    caller: Caller,
    transfer_id: str,
    body: object,
    now: datetime,
    act: Act,
    record: Recorder,
    if_match: str | None = None,
) -> ShownTransfer:
    """Let a transfer last longer; the same expiry again changes nothing. Sender only.

    Raises NotFound, Forbidden, BadRequest for an earlier expiry or one too far, Conflict for one that is over,
    PreconditionFailed.
    """
    transfer = get_transfer(table, caller, transfer_id)
    if caller.member.id != transfer.sender:
        raise Forbidden("Only the sender extends a transfer; either party ends it.")
    said = fields(body, ("expires_at",), ("expires_at",))
    for _ in range(_ATTEMPTS):
        check_unchanged(transfer, if_match, now)
        if transfer.status(now) != "active":
            raise Conflict(OVER)
        extended = transfer.extended(transfers.later_expiry(transfer, said["expires_at"]))
        if extended.expires_at == transfer.expires_at:
            record(entry(Kind.READ, transfer))
            return ShownTransfer(transfer, now)
        facts = change_writes(transfers.extending(extended), caller, now)
        if not act(facts, *entries(Kind.TRANSFER_EXTENDED, extended, extended.receiving)):
            return ShownTransfer(extended, now)
        transfer = get_transfer(table, caller, transfer_id)
    raise TryAgain


def change_writes(facts: list[Item], caller: Caller, now: datetime) -> list[Write]:
    """The writes of a later version of a transfer: once, or whoever was slower looks again. Its own says by whom and when."""
    own, copy = facts
    return [PutNew(replace(own, data=own.data | {"by": caller.actor, "at": iso(now)})), PutNew(copy)]


def entry(kind: Kind, transfer: Transfer) -> Entry:
    """What happened to a transfer, for the audit trail of the patient's sender."""
    return Entry(kind, transfer.sender, (transfer.patient,), subject=transfer.id)


def entries(kind: Kind, transfer: Transfer, number: PatientIdentifier | None) -> list[Entry]:
    """The same for both parties, the receiver's under the `number` of its own that this is about, if it is about one.

    So each hospital finds in its own trail who named its numbers, whether or not they were the patient's.
    """
    found = [entry(kind, transfer)]
    if number is not None:
        found.append(replace(found[0], owner=transfer.receiver, patients=(number,)))
    return found


def _parse(caller: Caller, body: object, transfer_id: str, now: datetime, before: Transfer | None) -> Transfer:
    """The transfer that is asked for. What was opened `before` by the same request was right then."""
    said = fields(body, _KNOWN)
    to = identifiers.institution_id(said.get("to"), "to")
    receiver = caller.registry.members.get(to)
    if receiver is not None:
        issuer = receiver.patient_id_issuer
    elif before is not None and before.receiver == to:
        issuer = before.proposed.issuer if before.proposed is not None else ""
    else:
        raise BadRequest("No institution with this id is registered.", "to")
    if to == caller.member.id:
        raise BadRequest("A transfer goes to another institution.", "to")
    reason = said.get("reason")
    if not isinstance(reason, str) or not 1 <= len(reason.strip()) <= transfers.MAX_REASON:
        raise BadRequest(f"reason must be 1 to {transfers.MAX_REASON} characters.", "reason")
    proposed: PatientIdentifier | None = None
    if said.get("receiving_patient_id") is not None:
        proposed = identifiers.patient_identifier(said["receiving_patient_id"], None, issuer, ("receiving_patient_id", "to"))
    return Transfer(
        transfer_id,
        caller.member.id,
        to,
        _patient(caller, said.get("patient")),
        now.replace(microsecond=now.microsecond // 1000 * 1000),
        transfers.expiry(said.get("expires_at"), before.opened_at if before is not None else now),
        reason.strip(),
        proposed,
    )


def _patient(caller: Caller, patient: object) -> PatientIdentifier:
    said = fields(patient, of="patient")
    number = identifiers.patient_identifier(said.get("id"), said.get("issuer"), caller.member.patient_id_issuer)
    if caller.registry.by_issuer(number.issuer) not in (None, caller.institution):
        raise BadRequest("A transfer is of one of your own patients, not of another institution's number.", "patient.issuer")
    return number


def _same_terms(known: Transfer, asked: Transfer, body: object) -> bool:
    """Whether a transfer, as it was opened, is the one that is asked for."""
    expires = known.expires_at == asked.expires_at or fields(body).get("expires_at") is None
    terms = [(transfer.receiver, transfer.patient, transfer.reason, transfer.proposed) for transfer in (known, asked)]
    return expires and terms[0] == terms[1]


def _new_id(institution: str, idempotency_key: str | None) -> str:
    if idempotency_key is None:
        return secrets.token_hex(16)
    if not 1 <= len(idempotency_key) <= 200 or not idempotency_key.isprintable():
        raise BadRequest("Idempotency-Key must be 1 to 200 printable characters.", "Idempotency-Key")
    return sha256(f"{institution}\n{idempotency_key}".encode()).hexdigest()[:32]
