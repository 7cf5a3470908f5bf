"""Reading transfers: one, or an institution's own in pages, each as it stands now."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice

from chalicelib.domain import cursors, keys, transfers
from chalicelib.domain.audit import Kind, Recorder
from chalicelib.domain.errors import BadRequest
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.ports import Item, Table
from chalicelib.domain.transfers import Transfer
from chalicelib.services.registry import Caller
from chalicelib.services.sharing import acceptance
from chalicelib.services.sharing.transfers import ShownTransfer, entry, get_transfer

DEFAULT_LIMIT = 100
STATUSES = frozenset({"active", "expired", "revoked"})


@dataclass(frozen=True)
class TransferFilter:
    """Which of an institution's transfers are asked for; what is None or empty asks for any.

    `direction` `incoming` or `outgoing`; `statuses` any of these, divided by commas; `accepted` `true`, or `false` for what
    waits: active, if no other status is asked for; `institution` the other party's id; `patient` a number that the transfer
    names; `order` `newest` or `oldest` first. Raises BadRequest.
    """

    direction: str | None = None
    statuses: str | None = None
    accepted: str | None = None
    institution: str | None = None
    patient: str | None = None
    order: str | None = None

    def __post_init__(self) -> None:
        if self.direction not in (None, *_INDEXES):
            raise BadRequest("direction must be incoming or outgoing.", "direction")
        if not self.wanted <= STATUSES:
            raise BadRequest("status must be active, expired or revoked, or several of them divided by commas.", "status")
        if self.accepted not in (None, "true", "false"):
            raise BadRequest("accepted must be true or false.", "accepted")
        if self.order not in (None, "newest", "oldest"):
            raise BadRequest("order must be newest or oldest.", "order")

    @property
    def wanted(self) -> frozenset[str]:
        """The statuses that are asked for; none: all."""
        if self.statuses is not None:
            return frozenset(self.statuses.split(","))
        return frozenset({"active"}) if self.accepted == "false" else frozenset()

    @property
    def is_selective(self) -> bool:
        """Whether anything but a direction and an order is asked for."""
        return any((self.statuses, self.accepted, self.institution, self.patient))

    def matches(self, transfer: Transfer, now: datetime) -> bool:
        """Whether a transfer, as it stands, is one that is asked for."""
        return (
            (not self.wanted or transfer.status(now) in self.wanted)
            and self.accepted in (None, "false" if transfer.accepted_at is None else "true")
            and self.institution in (None, transfer.sender, transfer.receiver)
            and (self.patient is None or self.patient in transfer.numbers)
        )


@dataclass(frozen=True)
class TransferPage:
    """Transfers, in the order asked for, and the cursor that goes on after them, None where there are no more."""

    transfers: tuple[ShownTransfer, ...]
    next: str | None = None

    def to_json(self) -> JsonObject:
        """As `GET /transfers` answers it."""
        shown = [transfer.to_json() for transfer in self.transfers]
        return {"transfers": shown, **({"next": self.next} if self.next else {})}


_ID = re.compile(r"[0-9a-f]{32}")
_PAGE = 100
_MAX_EXAMINED = 1000
_PARALLEL = 8
_FORESEEN = 3
"""Later versions that are asked for together with everything else; few transfers have more."""
_INDEXES = {"outgoing": ("gsi1", "FROM"), "incoming": ("gsi2", "TO")}


def read_transfer(
    table: Table, caller: Caller, transfer_id: str, compare: str | None, now: datetime, record: Recorder
) -> ShownTransfer:
    """What `GET /transfers/{id}` answers; with `compare`, a number of the receiver's, how its codice fiscale compares with the
    patient's. Raises NotFound, BadRequest, Forbidden."""
    transfer = get_transfer(table, caller, transfer_id)
    codes = acceptance.compare_codes(table, caller, transfer, compare) if compare else None
    record(entry(Kind.READ, transfer))
    return replace(acceptance.waiting_with_numbers(table, caller, [transfer], now)[0], codes=codes)


def list_transfers(
    table: Table, caller: Caller, asked: TransferFilter, cursor: str | None, limit: int, now: datetime
) -> TransferPage:
    """The caller's transfers, of both directions unless one is asked for, newest first unless otherwise asked, a page at a time.

    Work is bounded: where few are what is asked for, a page is shorter than `limit`, and says where to go on.
    """
    newest = asked.order != "oldest"
    sides = [_INDEXES[asked.direction]] if asked.direction else list(_INDEXES.values())
    size = max(limit + 1, _PAGE if asked.is_selective else 1)
    found = heapq.merge(
        *(_in_order(table, *side, caller.member.id, cursor, size, newest_first=newest) for side in sides),
        key=_place, reverse=newest,
    )  # fmt: skip
    chosen: list[Transfer] = []
    examined = 0
    while chunk := list(islice(found, size - 1)):
        for item, transfer in zip(chunk, _as_they_stand(table, chunk), strict=True):
            examined += 1
            if asked.matches(transfer, now):
                chosen.append(transfer)
            if len(chosen) == limit or examined == _MAX_EXAMINED:
                more = item is not chunk[-1] or next(found, None) is not None
                return _listed(table, caller, chosen, cursors.encode(_place(item)) if more else None, now)
    return _listed(table, caller, chosen, None, now)


def _listed(table: Table, caller: Caller, chosen: Sequence[Transfer], cursor: str | None, now: datetime) -> TransferPage:
    return TransferPage(tuple(acceptance.waiting_with_numbers(table, caller, chosen, now)), cursor)


def _in_order(
    table: Table, index: str, side: str, institution: str, cursor: str | None, size: int, *, newest_first: bool
) -> Iterator[Item]:
    """The transfers on one side of which an institution stands, after the one that the cursor names, `size` at a time."""
    hash_value = f"{side}#{institution}"
    start = _start(index, hash_value, cursor) if cursor else None
    while True:
        page = table.query(hash_value, index=index, start=start, limit=size, descending=newest_first)
        yield from page.items
        start = page.next
        if start is None:
            return


def _place(item: Item) -> str:
    """Where a transfer stands in either index."""
    return item.indexes["gsi1"][1]


def _as_they_stand(table: Table, opened: Sequence[Item]) -> list[Transfer]:
    """Transfers, from the facts that opened them, with what was changed since, and whether they were ended."""
    facts = [keys.transfer_version(number) for number in range(1, _FORESEEN + 1)]
    there = table.batch_get((item.pk, key) for item in opened for key in (keys.END, *facts))
    many = [item.pk for item in opened if (item.pk, facts[-1]) in there]
    latest: dict[str, Item] = {}
    if many:
        with ThreadPoolExecutor(min(_PARALLEL, len(many))) as pool:
            latest = dict(zip(many, pool.map(lambda pk: _latest(table, pk), many), strict=True))
    found: list[Transfer] = []
    for item in opened:
        versions = [there[key] for key in ((item.pk, fact) for fact in facts) if key in there]
        last = latest.get(item.pk, versions[-1] if versions else item)
        found.append(replace(transfers.as_of(item, last), ended=(item.pk, keys.END) in there))
    return found


def _latest(table: Table, pk: str) -> Item:
    (item,) = table.query(pk, keys.begins(keys.transfer_version), limit=1, descending=True).items
    return item


def _start(index: str, hash_value: str, cursor: str) -> dict[str, str]:
    place, transfer_id = cursors.place(cursor, _ID)
    return {"pk": keys.transfer_facts(transfer_id), "sk": keys.OPEN, f"{index}pk": hash_value, f"{index}sk": place}
