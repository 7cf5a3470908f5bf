"""Recording: what a request did is appended to the audit trail before its answer leaves.

Whatever cannot be recorded is not done and not shown: the caller gets `TryAgain`. All records of a request go to one shard
in one transaction, together with the act itself where there is one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from queue import Empty, LifoQueue

from chalicelib.domain import audit, audit_chain
from chalicelib.domain.audit import Context, Entry, Record
from chalicelib.domain.audit_chain import Head
from chalicelib.domain.errors import TryAgain
from chalicelib.domain.ports import Table, Write

_MAX_WRITES = 100
_TRIES = 8
_WAIT_SECONDS = 5.0
_YEAR = timedelta(days=365.25)


@dataclass
class _Shard:
    name: str
    head: Head | None = None


class Trail:
    """The audit trail as one process writes it. Threads may share it.

    A process keeps to the shard that it wrote to last, whose head it still knows, so that a record costs one
    transaction and no read. When another process was there meanwhile, it goes on with another shard.
    """

    def __init__(self, table: Table, retention_years: float) -> None:
        self._table = table
        self._retention = _YEAR * retention_years
        self._free = cache(_shuffled)

    def append(self, context: Context, entries: Sequence[Entry], acts: Sequence[Write] = ()) -> list[bool]:
        """Record `entries`, and do `acts` in the same transaction as the first of them.

        Empty when all was written. Else nothing was, and the answer says for each act whether its condition held, as
        `Table.transact` does. Raises TryAgain when the table does not take the records. At most 98 acts.
        """
        new = audit.records(context, entries)
        if not new:
            raise ValueError("an act needs at least one entry")
        expires = int((context.at + self._retention).timestamp())
        while new:
            room = _MAX_WRITES - 1 - len(acts)
            held = self._append(context.institution, new[:room], expires, acts)
            if held:
                return held
            new, acts = new[room:], ()
        return []

    def _append(self, institution: str, new: list[Record], expires: int, acts: Sequence[Write]) -> list[bool]:
        table, free = self._table, self._free(institution)
        shard = _take(free)
        try:
            for _ in range(_TRIES):
                head = shard.head or audit_chain.head_of(table.get(audit_chain.partition(shard.name), audit_chain.HEAD))
                shard.head = None  # unknown until the transaction has told
                chained = audit_chain.chain(head, shard.name, new, expires)
                held = table.transact([*acts, *audit_chain.appending(shard.name, head, chained)])
                if not held:
                    shard.head = Head(int(str(chained[-1]["seq"])), str(chained[-1]["hash"]))
                    return []
                if not all(held[: len(acts)]):
                    return held[: len(acts)]
                shard = _another(free, shard)
        finally:
            free.put(shard)
        raise TryAgain


def _shuffled(institution: str) -> LifoQueue[_Shard]:
    names = audit_chain.shards(institution)
    random.shuffle(names)
    free: LifoQueue[_Shard] = LifoQueue()
    for name in names:
        free.put(_Shard(name))
    return free


def _take(free: LifoQueue[_Shard]) -> _Shard:
    try:
        return free.get(timeout=_WAIT_SECONDS)
    except Empty:
        raise TryAgain from None


def _another(free: LifoQueue[_Shard], shard: _Shard) -> _Shard:
    """Another shard that is free, given back this one; or this one again."""
    try:
        other = free.get_nowait()
    except Empty:
        return shard
    free.put(shard)
    return other
