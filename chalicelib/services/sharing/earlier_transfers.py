"""Transfers of before acceptance was known: brought up to date once, and then never looked at again.

What they mean is read from them as they are (`transfers.as_of`), from the first moment on. Here it is written down: where the
receiver had named its number, that is its acceptance; the others wait, and both parties are told so, once. A link that the
sender's word alone had made ends, unless both numbers carry the same codice fiscale.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from chalicelib.domain import keys, patients, transfers
from chalicelib.domain.patients import IdentityLink
from chalicelib.domain.ports import Item, Put, PutNew, Table, Write
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.transfers import Transfer
from chalicelib.services import access, changes
from chalicelib.services.identity import linking

_STATE = (keys.EXPIRIES, keys.EARLIER)
"""(pk, sk) of how far this has come: without it everything is looked at again, with the same outcome."""
_AT_ONCE = 100


def bring_up_to_date(table: Table, now: datetime) -> int:
    """Look at the next transfers, by their expiry; how many. Safe to repeat, by several at once. Raises TryAgain."""
    state = table.get(*_STATE)
    if state is not None and state.data.get("done"):
        return 0
    start = state.data.get("start") if state is not None else None
    page = table.query(keys.EXPIRING, index="gsi3", start=_text_map(start) if isinstance(start, dict) else None, limit=_AT_ONCE)
    for item in page.items:
        if item.sk == keys.OPEN and transfers.is_of_before(item):
            _bring(table, list(table.query_all(item.pk)), now)
    data: dict[str, object] = {"at": iso(now), "start": page.next, "done": page.next is None}
    table.put(Put(Item(*_STATE, data)))
    return len(page.items)


def _text_map(start: dict[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in start.items()}


def _bring(table: Table, facts: list[Item], now: datetime) -> None:
    transfer = transfers.from_facts(facts)
    latest = max(
        (item for item in facts if item.sk.startswith(keys.begins(keys.transfer_version))), key=lambda item: item.sk, default=None
    )
    if transfer is None or (latest is not None and not transfers.is_of_before(latest)):
        return
    if transfer.accepted_at is not None and latest is not None:
        own, copy = transfers.changing(replace(transfer, version=transfer.version + 1))
        by = {"by": latest.data.get("by", ""), "at": iso(transfer.accepted_at)}
        table.transact([PutNew(replace(own, data=own.data | by)), PutNew(copy)])
        return
    ending = [PutNew(fact) for link in _by_word(table, transfer) for fact in patients.unlinking(link, linking.ARCHIVE, now)]
    if ending:
        writes: list[Write] = [*ending]
        table.transact(writes)
    if transfer.status(now) == "active":
        changes.tell(table, changes.transfer_waiting(transfer), now)


def _by_word(table: Table, transfer: Transfer) -> list[IdentityLink]:
    """The links that the sender made by proposing a number, and that nothing else holds."""
    if transfer.proposed is None:
        return []
    record = access.load_deciding(table, transfer.patient.hash)
    if any(other.receiving == transfer.proposed for other in record.transfers):
        return []
    if record.codes & access.load_deciding(table, transfer.proposed.hash).codes:
        return []
    found = linking.between(record, transfer.proposed)
    return [link for link in found if not link.ended and link.basis == "transfer" and link.by == transfer.sender]
