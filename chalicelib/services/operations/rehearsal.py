"""A table on which the projector is tried without anything being written: what it would write is kept beside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from chalicelib.domain.ports import Delete, Item, Key, Page, PutNew, PutVersion, Table, Write


class Rehearsal:
    """Fulfils `ports.Table` on top of another one. `written` is what was written, None for what was removed.

    What is found by an index is not overlaid: an index finds, and never decides.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self.written: dict[Key, Item | None] = {}

    def get(self, pk: str, sk: str) -> Item | None:
        """See `ports.Table.get`."""
        return self.batch_get([(pk, sk)]).get((pk, sk))

    def batch_get(self, keys: Iterable[Key]) -> dict[Key, Item]:
        """See `ports.Table.batch_get`."""
        wanted = list(dict.fromkeys(keys))
        laid = self.written
        found = self._table.batch_get(key for key in wanted if key not in laid)
        return found | {key: item for key in wanted if (item := laid.get(key)) is not None}

    def created_at(self) -> datetime:
        """See `ports.Table.created_at`."""
        return self._table.created_at()

    def query(
        self,
        pk: str,
        prefix: str = "",
        *,
        index: str | None = None,
        between: Key | None = None,
        start: dict[str, str] | None = None,
        limit: int | None = None,
        descending: bool = False,
    ) -> Page:
        """See `ports.Table.query`. Of the table itself all that was asked for is answered at once, without `limit`."""
        if index is not None:
            return self._table.query(pk, prefix, index=index, between=between, start=start, limit=limit, descending=descending)
        return Page(list(self.query_all(pk, prefix, between=between, descending=descending)), None)

    def query_all(
        self,
        pk: str,
        prefix: str = "",
        *,
        index: str | None = None,
        between: Key | None = None,
        descending: bool = False,
        page: int | None = None,
    ) -> Iterator[Item]:
        """See `ports.Table.query_all`."""
        found = self._table.query_all(pk, prefix, index=index, between=between, descending=descending, page=page)
        if index is not None:
            yield from found
            return
        first, last = between or (prefix, prefix + "\U0010ffff")
        laid = {key: item for key, item in self.written.items() if key[0] == pk and first <= key[1] <= last}
        if not laid:
            yield from found
            return
        every = {item.key: item for item in found if item.key not in laid} | {
            key: item for key, item in laid.items() if item is not None
        }
        yield from (every[key] for key in sorted(every, reverse=descending))

    def put(self, write: Write) -> bool:
        """See `ports.Table.put`: kept beside."""
        return not self.transact([write])

    def transact(self, writes: Sequence[Write]) -> list[bool]:
        """See `ports.Table.transact`: kept beside."""
        held = [self._holds(write) for write in writes]
        if not all(held):
            return held
        for write in writes:
            if isinstance(write, Delete):
                self.written[write.pk, write.sk] = None
            else:
                self.written[write.item.key] = write.item
        return []

    def _holds(self, write: Write) -> bool:
        if isinstance(write, PutNew):
            return self.get(*write.item.key) is None
        if isinstance(write, PutVersion):
            there = self.get(*write.item.key)
            return (there.version or 0 if there is not None else 0) == write.expected
        return True
