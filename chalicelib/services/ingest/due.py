"""What is to be looked at later: items in partitions of the hour or the day in which they are due, gone through in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from chalicelib.domain import keys
from chalicelib.domain.ports import Item, Put, Table
from chalicelib.domain.rfc3339 import iso

_PAGE = 10


@dataclass(frozen=True)
class DueList:
    """`partition` answers that of an hour, or of a day where it is not `hourly`; `progress` holds how far it was gone through.

    Nobody looks further back than `furthest`, and no further in one run once it did `most`.
    """

    partition: Callable[[str], str]
    progress: str
    hourly: bool
    furthest: timedelta
    most: int

    def item(self, due: datetime, rest: str, data: dict[str, object], expires: datetime) -> Item:
        """An item that is due then; `rest` tells it from others of the same second."""
        at = iso(due)
        return Item(self._partition(at), f"{at}#{rest}", data, expires=int(expires.timestamp()))

    def go_through(self, table: Table, now: datetime, handle: Callable[[Item], int | None]) -> None:
        """Hand over what is due since the last run, in order; `handle` answers how much it did, or None to be asked another time.

        Where it raises, the next run begins again from where this one did. Without anything due, one item and a partition or two
        are read.
        """
        last_key = self.progress, keys.LAST
        last = table.get(*last_key)
        place = max(str(last.data["place"]) if last else "", iso(now - self.furthest))
        done = 0
        for item in self._due(table, place, now):
            did = handle(item) if done < self.most else None
            if did is None:
                break
            done, place = done + did, f"{item.sk}!"
        else:
            place = f"{iso(now)}~"
        table.put(Put(Item(*last_key, {"place": place})))

    def _due(self, table: Table, place: str, now: datetime) -> Iterator[Item]:
        width, step = (13, timedelta(hours=1)) if self.hourly else (10, timedelta(days=1))
        at = datetime.fromisoformat(f"{place[:width]}{'' if self.hourly else 'T00'}:00:00Z")
        while at <= now:
            yield from table.query_all(self._partition(iso(at)), between=(place, f"{iso(now)}~"), page=_PAGE)
            at += step

    def _partition(self, at: str) -> str:
        return self.partition(at[: 13 if self.hourly else 10])
