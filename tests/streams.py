"""The stores of a world, watched: what each call costs, and what the table's stream would hand to the projector."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from chalicelib.domain.errors import ContenitoreError
from chalicelib.domain.ports import Delete, Item, Key, Table, Write
from chalicelib.services.projection import facts
from infra import templates
from local.lambda_runtime import filters
from tests.fakes import MemoryObjects, MemoryTable, Watched

MOMENT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


@cache
def stream_patterns() -> list[Any]:
    """What the stream's event source lets through, as the template says."""
    resource = templates.load(templates.FUNCTIONS)["Resources"]["ProjectFacts"]
    (source,) = resource["Properties"]["Events"].values()
    return [json.loads(pattern["Pattern"]) for pattern in source["Properties"]["FilterCriteria"]["Filters"]]


def streamed(pk: str, sk: str) -> bool:
    """Whether a change of this item reaches the projector."""
    return filters.passes(stream_patterns(), {"dynamodb": {"Keys": {"pk": {"S": pk}, "sk": {"S": sk}}}})


class Requests(Counter[str]):
    """Requests by kind. Exact, whichever threads make them."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def made(self, kind: str, count: int = 1) -> None:
        with self._lock:
            self[kind] += count


class StreamedTable(Watched):
    """The table: counts requests by kind, and remembers what its stream would deliver."""

    def __init__(self, memory: MemoryTable) -> None:
        self.memory = memory
        self.requests = Requests()
        self.pending: list[Key] = []
        self.deliver_at_once: Callable[[], None] | None = None
        self._delivering = threading.Lock()
        super().__init__(memory, self.requests.made)

    def batch_get(self, keys: Iterable[Key]) -> dict[Key, Item]:
        asked = list(dict.fromkeys(keys))
        self.requests.made("batch_get", -(-len(asked) // 100))
        return self.memory.batch_get(asked)

    def put(self, write: Write) -> bool:
        done = super().put(write)
        self._tell([write] if done else [])
        return done

    def transact(self, writes: Sequence[Write]) -> list[bool]:
        held = super().transact(writes)
        self._tell([] if held else writes)
        return held

    def _tell(self, writes: Iterable[Write]) -> None:
        for write in writes:
            if isinstance(write, Delete):
                record = stream_record((write.pk, write.sk), None)
            else:
                record = stream_record(write.item.key, write.item)
            if filters.passes(stream_patterns(), record):
                self.pending += [(pk, sk) for _, pk, sk in facts.stream_keys([record])]
        if self.deliver_at_once is not None and self._delivering.acquire(blocking=False):
            try:
                self.deliver_at_once()
            finally:
                self._delivering.release()


class CountedObjects(MemoryObjects):
    """The bucket: counts requests by kind, in the table's counter, so that one number says what a request cost."""

    def __init__(self, requests: Requests) -> None:
        super().__init__()
        self._requests = requests

    def existing(self, keys: Sequence[str]) -> set[str]:
        self._requests.made("object", len(keys))
        return super().existing(keys)

    def sizes(self, keys: Sequence[str]) -> dict[str, int]:
        self._requests.made("object", len(keys))
        return super().sizes(keys)

    def read(self, key: str, start: int, length: int) -> bytes:
        self._requests.made("object")
        return super().read(key, start, length)

    def write(self, key: str, body: bytes, content_type: str) -> None:
        self._requests.made("object")
        super().write(key, body, content_type)


@dataclass
class Told:
    """What went out as alerts."""

    sent: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def alert(self, kind: str, content: dict[str, str]) -> None:
        self.sent.append((kind, dict(content)))


def views_of(memory: MemoryTable) -> dict[Key, Item]:
    """The views in a table, without what depends on how often or when they were written."""
    return {key: replace(item, version=None) for key, item in memory.items().items() if item.pk.startswith("V#")}


def changed_keys(items: Iterable[Item], *, by_keys: bool = False) -> list[Key]:
    """The keys of those of the items, just written, that the stream hands to the projector, and this takes for news.

    `by_keys`: of the items nothing but their keys is known, as when an operator hands them over.
    """
    records = [stream_record(item.key, item, with_image=not by_keys) for item in items]
    return [
        (pk, sk) for _, pk, sk in facts.stream_keys(record for record in records if filters.passes(stream_patterns(), record))
    ]


def stream_record(key: Key, written: Item | None, *, with_image: bool = True) -> dict[str, Any]:
    """The stream's record of an item that was written, or, where there is none, removed."""
    change: dict[str, Any] = {"SequenceNumber": "0", "Keys": {"pk": {"S": key[0]}, "sk": {"S": key[1]}}}
    if written is not None and with_image:
        change["NewImage"] = {"data": {"S": json.dumps(written.data, separators=(",", ":"))}}
    return {"eventName": "MODIFY" if written is not None else "REMOVE", "dynamodb": change}


def project(table: Table, changes: Sequence[tuple[str, str, str]], now: datetime = MOMENT) -> tuple[str, ContenitoreError] | None:
    """Hand changed facts, as (sequence number, pk, sk), to the projector; what failed, and from where on."""
    return facts.project(table, Told(), changes, lambda: now)
