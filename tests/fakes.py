"""The world in memory: a `Table` and `Objects` as `chalicelib.domain.ports` wants them, and what watches each call.

`tests/contract` holds the same suite against these and against an emulated cloud. What DynamoDB refuses, this refuses.
"""

from __future__ import annotations

import hashlib
import json
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from chalicelib.domain.assembly import ObjectRange, UploadPart
from chalicelib.domain.errors import NotFound
from chalicelib.domain.ports import Delete, Item, Key, Listed, Page, Put, PutNew, PutVersion, StoredVersion, Table, Version, Write

MAX_TRANSACTION = 100
MAX_TRANSACTION_BYTES = 4 * 1024 * 1024
MAX_PAGE = 250
"""Items in one page, standing for the 1 MB of DynamoDB."""


class MemoryTable:
    """The table. `page` items at the most come in one answer, so that whoever forgets to go on is seen."""

    def __init__(self, page: int = MAX_PAGE) -> None:
        self._items: dict[Key, Item] = {}
        self._page = page
        self._lock = threading.Lock()
        self.created = datetime(2020, 1, 1, tzinfo=UTC)

    def created_at(self) -> datetime:
        return self.created

    def get(self, pk: str, sk: str) -> Item | None:
        with self._lock:
            return self._copy(self._items[pk, sk]) if (pk, sk) in self._items else None

    def batch_get(self, keys: Iterable[Key]) -> dict[Key, Item]:
        with self._lock:
            return {key: self._copy(self._items[key]) for key in dict.fromkeys(keys) if key in self._items}

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
        if not pk or (limit is not None and limit < 1):
            raise ValueError("DynamoDB refuses an empty partition and a limit below 1")
        with self._lock:
            candidates = [item for item in self._items.values() if index is not None or item.pk == pk]
        placed = [(place, item) for item in candidates if (place := self._place(item, index)) is not None and place[0] == pk]
        found = sorted(placed, key=lambda entry: entry[0])
        if between is not None:
            found = [(place, item) for place, item in found if between[0] <= place[1] <= between[1]]
        else:
            found = [(place, item) for place, item in found if place[1].startswith(prefix)]
        if descending:
            found.reverse()
        if start is not None:
            after = tuple(start[name] for name in _names(index))
            found = [(place, item) for place, item in found if (place < after if descending else place > after)]
        most = min(limit or self._page, self._page)
        items = [self._copy(item) for _, item in found[:most]]
        if len(items) < most:
            return Page(items, None)
        last = found[most - 1][0]
        return Page(items, dict(zip(_names(index), last, strict=True)))

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
        start: dict[str, str] | None = None
        while True:
            answer = self.query(pk, prefix, index=index, between=between, start=start, limit=page, descending=descending)
            yield from answer.items
            start = answer.next
            if start is None:
                return

    def put(self, write: Write) -> bool:
        return not self._write([write])

    def transact(self, writes: Sequence[Write]) -> list[bool]:
        keys = [_key(write) for write in writes]
        if not 1 <= len(writes) <= MAX_TRANSACTION or len(set(keys)) != len(keys):
            raise ValueError("a transaction has 1 to 100 writes of different keys")
        if sum(_size(write.item) for write in writes if not isinstance(write, Delete)) > MAX_TRANSACTION_BYTES:
            raise ValueError("a transaction is larger than 4 MB")
        return self._write(writes)

    def copied(self) -> MemoryTable:
        """Another table with the same items."""
        with self._lock:
            other = MemoryTable(self._page)
            other._items = dict(self._items)
            return other

    def items(self) -> dict[Key, Item]:
        """Everything, by key: for tests to look at."""
        with self._lock:
            return {key: self._copy(item) for key, item in sorted(self._items.items())}

    def _write(self, writes: Sequence[Write]) -> list[bool]:
        with self._lock:
            held = [self._holds(write) for write in writes]
            if not all(held):
                return held
            for write in writes:
                if isinstance(write, Delete):
                    self._items.pop(_key(write), None)
                else:
                    self._items[_key(write)] = _checked(write.item)
            return []

    def _holds(self, write: Write) -> bool:
        there = self._items.get(_key(write))
        if isinstance(write, PutNew):
            return there is None
        if isinstance(write, PutVersion):
            return there is None if write.expected == 0 else there is not None and there.version == write.expected
        return True

    @staticmethod
    def _copy(item: Item) -> Item:
        return replace(item, data=json.loads(json.dumps(item.data)), indexes=dict(item.indexes))

    @staticmethod
    def _place(item: Item, index: str | None) -> tuple[str, ...] | None:
        if index is None:
            return item.key
        return (*item.indexes[index], *item.key) if index in item.indexes else None


def _names(index: str | None) -> tuple[str, ...]:
    return ("pk", "sk") if index is None else (f"{index}pk", f"{index}sk", "pk", "sk")


def _key(write: Write) -> Key:
    return (write.pk, write.sk) if isinstance(write, Delete) else write.item.key


def _checked(item: Item) -> Item:
    """The item as it comes back: its content through JSON and UTF-8. Raises ValueError for what DynamoDB refuses."""
    keys = [(item.pk, item.sk), *item.indexes.values()]
    for partition, sort in keys:
        if not 1 <= len(partition.encode()) <= 2048 or not 1 <= len(sort.encode()) <= 1024:
            raise ValueError("a key is empty or too long")
    text = json.dumps(item.data, ensure_ascii=False).encode()
    if len(text) > 390 * 1024:
        raise ValueError("an item is larger than 400 KB")
    return replace(item, data=json.loads(text), indexes={name: (pk, sk) for name, (pk, sk) in item.indexes.items()})


def _size(item: Item) -> int:
    keys = [item.key, *item.indexes.values()]
    return len(json.dumps(item.data, ensure_ascii=False).encode()) + sum(len("".join(key).encode()) for key in keys)


class MemoryObjects:
    """The bucket."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    def store(self, institution: str, content: bytes) -> str:
        """What a presigned PUT does; the SHA-256."""
        sha = hashlib.sha256(content).hexdigest()
        self.contents.setdefault(f"instances/{institution}/{sha}", content)
        return sha

    def existing(self, keys: Sequence[str]) -> set[str]:
        return {key for key in keys if key in self.contents}

    def keys_after(self, prefix: str, after: str, count: int) -> list[Listed]:
        keys = sorted(key for key in self.contents if key.startswith(prefix) and key > after)
        return [Listed(key, len(self.contents[key]), datetime(2026, 1, 1, tzinfo=UTC)) for key in keys[:count]]

    def read(self, key: str, start: int, length: int) -> bytes:
        if key not in self.contents:
            raise NotFound
        return self.contents[key][start : start + length]

    def sizes(self, keys: Sequence[str]) -> dict[str, int]:
        return {key: len(self.contents[key]) for key in keys if key in self.contents}

    def put_new(self, key: str, body: bytes, sha256: str) -> bool:
        if hashlib.sha256(body).hexdigest() != sha256:
            raise ValueError("S3 refuses bytes with another checksum")
        return self.contents.setdefault(key, body) is body

    def write(self, key: str, body: bytes, content_type: str) -> None:
        self.contents[key] = body

    def assemble(self, key: str, parts: Sequence[UploadPart], content_type: str) -> None:
        pieces = [piece for part in parts for piece in part.pieces]
        self.contents[key] = b"".join(
            piece if isinstance(piece, bytes) else self.read(piece.key, piece.start, piece.length) for piece in pieces
        )

    def checksums(self, extracts: Sequence[ObjectRange]) -> list[int]:
        return [zlib.crc32(self.read(extract.key, extract.start, extract.length)) for extract in extracts]

    def presign_head(self, key: str, seconds: int, **response: str) -> str:
        return f"memory://head/{key}?seconds={seconds}"

    def presign_put(self, key: str, sha256: str, seconds: int) -> tuple[str, dict[str, str]]:
        return f"memory://put/{key}?seconds={seconds}", {"x-sha256": sha256}

    def presign_get(self, key: str, seconds: int, **response: str) -> str:
        return f"memory://get/{key}?seconds={seconds}"


class MemoryVersions:
    """The versions of what is in a bucket in memory: one each, another one as soon as other bytes are written."""

    def __init__(self, objects: MemoryObjects) -> None:
        self._objects = objects

    def of(self, key: str) -> list[Version]:
        return [stored.version for stored in self.below(key) if stored.key == key]

    def below(self, prefix: str) -> list[StoredVersion]:
        contents = dict(self._objects.contents)  # others remove meanwhile
        found = sorted(key for key in contents if key.startswith(prefix))[:MAX_PAGE]
        return [StoredVersion(key, Version(self._id(contents[key])), len(contents[key])) for key in found]

    def read(self, key: str, version: str, length: int) -> bytes:
        return self._objects.read(key, 0, length)

    def remove(self, key: str, version: str) -> None:
        if key in self._objects.contents and self._id(self._objects.contents[key]) == version:
            self._objects.contents.pop(key, None)

    @staticmethod
    def _id(content: bytes) -> str:
        return hashlib.sha256(content).hexdigest()[:16]


class Watched:
    """A table that calls `before(name)` ahead of each call: to count, to hold a thread, to die."""

    def __init__(self, table: Table, before: Callable[[str], None]) -> None:
        self._table, self._before = table, before

    def created_at(self) -> datetime:
        self._before("created_at")
        return self._table.created_at()

    def get(self, pk: str, sk: str) -> Item | None:
        self._before("get")
        return self._table.get(pk, sk)

    def batch_get(self, keys: Iterable[Key]) -> dict[Key, Item]:
        self._before("batch_get")
        return self._table.batch_get(keys)

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
        self._before("query")
        return self._table.query(pk, prefix, index=index, between=between, start=start, limit=limit, descending=descending)

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
        start: dict[str, str] | None = None
        while True:
            answer = self.query(pk, prefix, index=index, between=between, start=start, limit=page, descending=descending)
            yield from answer.items
            start = answer.next
            if start is None:
                return

    def put(self, write: Write) -> bool:
        self._before("put")
        return self._table.put(write)

    def transact(self, writes: Sequence[Write]) -> list[bool]:
        self._before("transact")
        return self._table.transact(writes)


class ShortPages(Watched):
    """A table whose pages are full with two items, whatever was asked for: as DynamoDB's are with 1 MB."""

    def __init__(self, table: Table) -> None:
        super().__init__(table, lambda _: None)

    def query(self, *arguments: Any, **named: Any) -> Page:
        return super().query(*arguments, **named | {"limit": min(named.get("limit") or 2, 2)})


class WatchedObjects(MemoryObjects):
    """A bucket that calls `before(name)` ahead of each read and write."""

    def __init__(self, contents: dict[str, bytes], before: Callable[[str], None]) -> None:
        super().__init__()
        self.contents = contents
        self._before = before

    def read(self, key: str, start: int, length: int) -> bytes:
        self._before("read")
        return super().read(key, start, length)

    def write(self, key: str, body: bytes, content_type: str) -> None:
        self._before("write")
        super().write(key, body, content_type)


__all__ = [
    "Delete", "MemoryObjects", "MemoryTable", "MemoryVersions", "Put", "PutNew", "PutVersion", "ShortPages", "Watched",
    "WatchedObjects",
]  # fmt: skip
