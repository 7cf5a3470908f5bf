"""Transfers: opening, listing, ending, and naming the receiver's own number of the patient."""

from __future__ import annotations

import heapq
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from itertools import islice
from typing import Any

from chalicelib.domain import identifiers, patients, transfers
from chalicelib.domain.audit import Act, Entry, Kind, Recorder
from chalicelib.domain.errors import BadRequest, Conflict, Forbidden, NotFound, TryAgain
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.patients import Record
from chalicelib.domain.ports import Item, Put, PutNew, Table, Write
from chalicelib.domain.transfers import Transfer, iso, partition
from chalicelib.services import access, linking
from chalicelib.services.registry import Caller

_ID = re.compile(r"[0-9a-f]{32}")
_KNOWN = frozenset({"patient", "to", "reason", "expires_at", "receiving_patient_id"})
DEFAULT_LIMIT = 100
_PAGE = 100
_MAX_EXAMINED = 1000
_PARALLEL = 8
_ATTEMPTS = 3
_INDEXES = {"outgoing": ("gsi1", "FROM"), "incoming": ("gsi2", "TO")}


def open_transfer(
    table: Table, caller: Caller, body: object, idempotency_key: str | None, now: datetime, act: Act, record: Recorder
) -> dict[str, Any]:
    """Open a transfer of one of the caller's patients. Raises BadRequest, or Conflict for a key used for another one."""
    transfer = _parse(caller, body, _new_id(caller.member.id, idempotency_key), now)
    facts = transfers.opening(transfer)
    own = replace(facts[0], data=facts[0].data | {"by": caller.actor})
    for _ in range(_ATTEMPTS):
        writes: list[Write] = [PutNew(own), *(Put(fact) for fact in facts[1:])]
        if transfer.receiving is not None:
            writes += _naming_link(table, caller, transfer.patient, transfer.receiving, now)
        if not act(writes, *_entries(Kind.TRANSFER_OPENED, transfer)):
            return shown(transfer, now)
        known = transfers.from_facts(table.query_all(partition(transfer.id)))
        if known is not None and not _same_terms(known, transfer, body):
            raise Conflict("This Idempotency-Key was used for another transfer.")
        if known is not None:
            record(_entry(Kind.READ, known))
            return shown(known, now)
    raise TryAgain


def read_transfer(table: Table, caller: Caller, transfer_id: str, now: datetime, record: Recorder) -> dict[str, Any]:
    """The answer of `GET /transfers/{id}`. Raises NotFound."""
    transfer = get_transfer(table, caller, transfer_id)
    record(_entry(Kind.READ, transfer))
    return shown(transfer, now)


def get_transfer(table: Table, caller: Caller, transfer_id: str) -> Transfer:
    """A transfer that the caller is a party of. Raises NotFound."""
    if not _ID.fullmatch(transfer_id):
        raise NotFound
    transfer = transfers.from_facts(table.query_all(partition(transfer_id)))
    if transfer is None or caller.member.id not in (transfer.sender, transfer.receiver):
        raise NotFound
    return transfer


def end_transfer(table: Table, caller: Caller, transfer_id: str, now: datetime, act: Act, record: Recorder) -> dict[str, Any]:
    """End a transfer, from the next request on. Either party may; again gives the same answer. One write."""
    transfer = get_transfer(table, caller, transfer_id)
    end = Item(partition(transfer.id), "END", {"at": iso(now), "by": caller.member.id, "actor": caller.actor})
    if transfer.ended or act([PutNew(end)], *_entries(Kind.TRANSFER_ENDED, transfer)):
        record(_entry(Kind.READ, transfer))
    return shown(replace(transfer, ended=True), now)


def name_receiving_patient(
    table: Table, caller: Caller, transfer_id: str, body: object, now: datetime, act: Act, record: Recorder
) -> dict[str, Any]:
    """The receiver says which of its own numbers the patient has; saying another one undoes the first. Receiver only.

    Raises Forbidden, BadRequest, NotFound; Conflict for a transfer that has ended, and where the codici fiscali differ.
    """
    transfer = get_transfer(table, caller, transfer_id)
    if caller.member.id != transfer.receiver:
        raise Forbidden("Only the receiver names its own number of the patient.")
    if not isinstance(body, dict) or set(body) != {"id"}:
        raise BadRequest('The body must be {"id": "<the receiver\'s number of the patient>"}.', "id")
    number = identifiers.patient_identifier(body["id"], None, caller.member.patient_id_issuer)
    for _ in range(_ATTEMPTS):
        transfer = get_transfer(table, caller, transfer_id)
        if transfer.status(now) != "active":
            raise Conflict("This transfer has ended.")
        theirs, mine = access.load_deciding(table, transfer.patient.hash), access.load_deciding(table, number.hash)
        if linking.different_codes(theirs, mine):
            raise Conflict("The two records carry different codici fiscali: they are not the same patient's.")
        writes = linking.linking_writes(theirs, transfer.patient, number, "transfer", caller.member.id, (), now)
        if number == transfer.receiving and not writes:
            record(_entry(Kind.READ, transfer))
            return shown(transfer, now)
        named = replace(transfer, receiving=number, receiving_version=transfer.receiving_version + 1)
        first, *copies = transfers.naming(named)
        said = replace(first, data=first.data | {"by": caller.actor, "at": iso(now)})
        writes += [PutNew(said), *(Put(fact) for fact in copies)]
        if transfer.receiving is not None and number != transfer.receiving:
            writes += _unnaming(theirs, transfer, caller.member.id, now)
        if not act(writes, *_entries(Kind.LINK_CONFIRMED, named)):
            return shown(named, now)
    raise TryAgain("The transfer was changed at the same moment. Please look, and send it again.")


def _naming_link(
    table: Table, caller: Caller, patient: PatientIdentifier, receiving: PatientIdentifier, now: datetime
) -> list[Write]:
    """The link that the sender's word makes. None between different codici fiscali, and the sender is not told of that."""
    theirs, mine = access.load_deciding(table, receiving.hash), access.load_deciding(table, patient.hash)
    if linking.different_codes(mine, theirs):
        return []
    return linking.linking_writes(mine, patient, receiving, "transfer", caller.member.id, (), now)


def _unnaming(record: Record, transfer: Transfer, by: str, now: datetime) -> list[Write]:
    """The writes that undo the link to the number that was named before, if nothing but this transfer made it."""
    if transfer.receiving is None or any(t.id != transfer.id and t.receiving == transfer.receiving for t in record.transfers):
        return []
    links = [link for link in linking.between(record, transfer.receiving) if not link.ended and link.basis == "transfer"]
    return [PutNew(fact) for link in links for fact in patients.unlinking(link, by, now)]


def list_transfers(
    table: Table,
    caller: Caller,
    direction: str | None,
    status: str | None,
    cursor: str | None,
    limit: int,
    now: datetime,
) -> dict[str, Any]:
    """The caller's transfers, those of both directions unless one is asked for, newest first, a page at a time.

    Work is bounded: where few have the status that is asked for, a page is shorter than `limit`, and says where to go on.
    """
    if direction not in (None, *_INDEXES):
        raise BadRequest("direction must be incoming or outgoing.", "direction")
    if status not in (None, "active", "expired", "revoked"):
        raise BadRequest("status must be active, expired or revoked.", "status")
    sides = [_INDEXES[direction]] if direction else list(_INDEXES.values())
    size = max(limit + 1, _PAGE if status else 1)
    found = heapq.merge(
        *(_newest_first(table, *side, caller.member.id, cursor, size) for side in sides), key=_place, reverse=True
    )
    chosen: list[Transfer] = []
    examined = 0
    while chunk := list(islice(found, size - 1)):
        for item, transfer in zip(chunk, _with_ends(table, chunk), strict=True):
            examined += 1
            if status in (None, transfer.status(now)):
                chosen.append(transfer)
            if len(chosen) == limit or examined == _MAX_EXAMINED:
                more = item is not chunk[-1] or next(found, None) is not None
                return _listed(table, chosen, _place(item) if more else None, now)
    return _listed(table, chosen, None, now)


def _newest_first(table: Table, index: str, side: str, institution: str, cursor: str | None, size: int) -> Iterator[Item]:
    """The transfers on one side of which an institution stands, after the one that the cursor names, `size` at a time."""
    hash_value = f"{side}#{institution}"
    start = _start(index, hash_value, cursor) if cursor else None
    while True:
        page = table.query(hash_value, index=index, start=start, limit=size, descending=True)
        yield from page.items
        start = page.next
        if start is None:
            return


def _place(item: Item) -> str:
    """Where a transfer stands in either index, which is also the cursor that goes on after it."""
    return item.indexes["gsi1"][1]


def _entry(kind: Kind, transfer: Transfer) -> Entry:
    """What happened to a transfer, for the audit trail of the patient's sender."""
    return Entry(kind, transfer.sender, (transfer.patient,), subject=transfer.id)


def _entries(kind: Kind, transfer: Transfer) -> list[Entry]:
    """The same for both parties, each under its own number of the patient, where it is known."""
    entries = [_entry(kind, transfer)]
    if transfer.receiving is not None:
        entries.append(replace(entries[0], owner=transfer.receiver, patients=(transfer.receiving,)))
    return entries


def shown(transfer: Transfer, now: datetime) -> dict[str, Any]:
    """A transfer as its parties see it."""
    answer: dict[str, Any] = {
        "id": transfer.id,
        "from": transfer.sender,
        "to": transfer.receiver,
        "patient": {"id": transfer.patient.value, "issuer": transfer.patient.issuer},
        "status": transfer.status(now),
        "opened_at": iso(transfer.opened_at),
        "expires_at": iso(transfer.expires_at),
        "reason": transfer.reason,
    }
    if transfer.receiving is not None:
        answer["receiving_patient"] = {"id": transfer.receiving.value, "issuer": transfer.receiving.issuer}
    return answer


def _with_ends(table: Table, opened: list[Item]) -> list[Transfer]:
    """The transfers as they were opened, and whether they were ended."""
    found = [transfers.from_terms(item.data) for item in opened]
    ends = table.batch_get((partition(transfer.id), "END") for transfer in found)
    return [replace(transfer, ended=(partition(transfer.id), "END") in ends) for transfer in found]


def _listed(table: Table, chosen: Sequence[Transfer], cursor: str | None, now: datetime) -> dict[str, Any]:
    """A page, with the receivers' numbers as they were named last."""
    named = table.batch_get((partition(transfer.id), "RECEIVER#000001") for transfer in chosen)
    later = [transfer.id for transfer in chosen if (partition(transfer.id), "RECEIVER#000001") in named]
    latest: dict[str, Transfer] = {}
    if later:
        with ThreadPoolExecutor(min(_PARALLEL, len(later))) as pool:
            latest = dict(zip(later, pool.map(lambda one: _latest(table, one), later), strict=True))
    shown_now = [replace(latest.get(one.id, one), ended=one.ended) for one in chosen]
    return {"transfers": [shown(one, now) for one in shown_now], **({"next": cursor} if cursor else {})}


def _latest(table: Table, transfer_id: str) -> Transfer:
    (item,) = table.query(partition(transfer_id), "RECEIVER#", limit=1, descending=True).items
    return transfers.from_terms(item.data)


def _parse(caller: Caller, body: object, transfer_id: str, now: datetime) -> Transfer:
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.")
    for field in body:
        if field not in _KNOWN:
            raise BadRequest(f"Unknown field; known are {', '.join(sorted(_KNOWN))}.", str(field)[:40])
    to = identifiers.institution_id(body.get("to"), "to")
    receiver = caller.registry.members.get(to)
    if receiver is None:
        raise BadRequest("No institution with this id is registered.", "to")
    if receiver == caller.institution:
        raise BadRequest("A transfer goes to another institution.", "to")
    reason = body.get("reason")
    if not isinstance(reason, str) or not 1 <= len(reason.strip()) <= transfers.MAX_REASON:
        raise BadRequest(f"reason must be 1 to {transfers.MAX_REASON} characters.", "reason")
    receiving: PatientIdentifier | None = None
    if body.get("receiving_patient_id") is not None:
        receiving = identifiers.patient_identifier(body["receiving_patient_id"], None, receiver.patient_id_issuer)
    return Transfer(
        transfer_id,
        caller.member.id,
        to,
        _patient(caller, body.get("patient")),
        now.replace(microsecond=now.microsecond // 1000 * 1000),
        transfers.expiry(body.get("expires_at"), now),
        reason.strip(),
        receiving,
        1 if receiving else 0,
    )


def _patient(caller: Caller, patient: object) -> PatientIdentifier:
    if not isinstance(patient, Mapping):
        raise BadRequest('patient must be {"id", "issuer"?}.', "patient")
    number = identifiers.patient_identifier(patient.get("id"), patient.get("issuer"), caller.member.patient_id_issuer)
    if caller.registry.by_issuer(number.issuer) not in (None, caller.institution):
        raise BadRequest("A transfer is of one of your own patients, not of another institution's number.", "patient.issuer")
    return number


def _same_terms(known: Transfer, asked: Transfer, body: object) -> bool:
    expires = known.expires_at == asked.expires_at or (isinstance(body, dict) and body.get("expires_at") is None)
    return expires and (known.receiver, known.patient, known.reason) == (
        asked.receiver,
        asked.patient,
        asked.reason,
    )


def _new_id(institution: str, idempotency_key: str | None) -> str:
    if idempotency_key is None:
        return secrets.token_hex(16)
    if not 1 <= len(idempotency_key) <= 200 or not idempotency_key.isprintable():
        raise BadRequest("Idempotency-Key must be 1 to 200 printable characters.", "Idempotency-Key")
    return sha256(f"{institution}\n{idempotency_key}".encode()).hexdigest()[:32]


def _start(index: str, hash_value: str, cursor: str) -> dict[str, str]:
    opened_at, _, transfer_id = cursor.partition("#")
    if not _ID.fullmatch(transfer_id) or len(opened_at) > 40:
        raise BadRequest("This cursor is not one that the archive gave.", "cursor")
    transfers.parse_moment(opened_at, "cursor")
    return {"pk": partition(transfer_id), "sk": "OPEN", f"{index}pk": hash_value, f"{index}sk": cursor}
