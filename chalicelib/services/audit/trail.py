"""Recording: what a request did is appended to the audit trail before its answer leaves.

Whatever cannot be recorded is not done and not shown: the caller gets `TryAgain`. All records of a request go to one shard
in one transaction, together with the act itself where there is one.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache

from chalicelib.domain import audit, audit_chain, audit_repeats, keys
from chalicelib.domain.audit import Entry, Record, RequestContext
from chalicelib.domain.audit_chain import ChainHead
from chalicelib.domain.audit_repeats import Whole
from chalicelib.domain.errors import TryAgain
from chalicelib.domain.ports import Table, Write

_MAX_WRITES = 100
_TRIES = 8
_WAIT_SECONDS = 5.0
_PAUSE_SECONDS = 0.02
_MOST_KNOWN = 500
_YEAR = timedelta(days=365.25)


@dataclass(eq=False)
class _Shard:
    """A chain, and its head where this process knows it."""

    name: str
    head: ChainHead | None = None
    whole: dict[str, Whole] = field(default_factory=dict)
    """What this process wrote whole here and may repeat, by signature; nothing of it holds once another process was here."""


class _Free:
    """The shards of an institution that no thread of this process is writing to, the one written to last at the end."""

    def __init__(self, institution: str) -> None:
        names = audit_chain.shards(institution)
        self._shards = deque(_Shard(name) for name in random.sample(names, len(names)))
        self._changed = threading.Condition()

    def take(self) -> _Shard:
        """The shard whose head is most likely still known. Raises TryAgain when none becomes free."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._shards, _WAIT_SECONDS):
                raise TryAgain
            return self._shards.pop()

    def give_back(self, shard: _Shard) -> None:
        with self._changed:
            self._shards.append(shard)
            self._changed.notify()

    def another(self, shard: _Shard) -> _Shard:
        """Any other shard for one in whose way another process was; or the same again, when all others are taken."""
        with self._changed:
            self._shards.appendleft(shard)
            self._shards.rotate(random.randrange(len(self._shards)))  # noqa: S311 (spreads load)
            return self._shards.pop()


class Trail:
    """The audit trail as one process writes it. Threads may share it.

    A process keeps to the shard that it wrote to last, whose head it still knows, so that a record costs one
    transaction and no read, and what is the same again within minutes is written in short (`domain.audit_repeats`). When
    another process was there meanwhile, it goes on with another shard.
    """

    def __init__(self, table: Table, retention_years: float) -> None:
        self._table = table
        self._retention = _YEAR * retention_years
        self._free = cache(_Free)

    def append(self, context: RequestContext, entries: Sequence[Entry], acts: Sequence[Write] = ()) -> list[bool]:
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
        shard = free.take()
        try:
            for attempt in range(_TRIES):
                head = shard.head or audit_chain.head_of(table.get(keys.audit_records(shard.name), keys.HEAD))
                known = shard.whole if shard.head is not None and len(shard.whole) <= _MOST_KNOWN else {}
                shard.head = None  # unknown until the transaction has told
                short, whole = audit_repeats.shorten(new, head.seq, known)
                chained = audit_chain.chain(head, shard.name, short, expires)
                held = table.transact([*acts, *audit_chain.appending(shard.name, head, chained)])
                if not held:
                    shard.head = ChainHead(int(str(chained[-1]["seq"])), str(chained[-1]["hash"]))
                    shard.whole = known | whole
                    return []
                if not all(held[: len(acts)]):
                    return held[: len(acts)]
                shard = free.another(shard)
                time.sleep(random.uniform(0, _PAUSE_SECONDS) * attempt)  # noqa: S311 (spreads load)
        finally:
            free.give_back(shard)
        raise TryAgain
