"""What the services need from the world, as protocols. `adapters/` fulfils them; tests fulfil them in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeAlias

from chalicelib.domain.assembly import ObjectRange, UploadPart

Key: TypeAlias = tuple[str, str]
"""(pk, sk) of an item."""


@dataclass(frozen=True)
class Item:
    """One item of the table: its key, its JSON content, the attributes that indexes use, and its version and expiry.

    `data` is what the item says, as a JSON object. `indexes` maps an index's name to its (partition, sort) values.
    `expires` is in seconds since the epoch. `version` is only on what is written under optimistic locking.
    """

    pk: str
    sk: str
    data: dict[str, object] = field(default_factory=dict)
    indexes: dict[str, Key] = field(default_factory=dict)
    version: int | None = None
    expires: int | None = None

    @property
    def key(self) -> Key:
        """Its (pk, sk)."""
        return self.pk, self.sk


@dataclass(frozen=True)
class PutNew:
    """Write if nothing is there yet: what was written first stands."""

    item: Item


@dataclass(frozen=True)
class PutVersion:
    """Write if the item still has version `expected` (0: if it is absent): what was read is still what is there."""

    item: Item
    expected: int


@dataclass(frozen=True)
class Put:
    """Write, whatever is there: for what is the same however often it is written."""

    item: Item


@dataclass(frozen=True)
class Delete:
    """Remove, if there."""

    pk: str
    sk: str


Write: TypeAlias = PutNew | PutVersion | Put | Delete


@dataclass(frozen=True)
class Page:
    """Items in key order, and the position after the last one when there may be more."""

    items: list[Item]
    next: dict[str, str] | None


class Table(Protocol):
    """The table of facts and views. Reads of items are consistent; reads of an index are not (they find, never decide)."""

    def created_at(self) -> datetime:
        """When the table itself was made (aware): of one that was restored, when that was."""
        ...

    def get(self, pk: str, sk: str) -> Item | None:
        """One item, read consistently."""
        ...

    def batch_get(self, keys: Iterable[Key]) -> dict[Key, Item]:
        """Those of the items that exist, read consistently."""
        ...

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
        """One request's worth of a partition: sort keys with `prefix`, or `between` two values, in order."""
        ...

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
        """All of a partition, page by page (`page` items at a time), as it is consumed."""
        ...

    def put(self, write: Write) -> bool:
        """One write; False when its condition did not hold."""
        ...

    def transact(self, writes: Sequence[Write]) -> list[bool]:
        """All writes or none (at most 100, different keys). Empty when done, else for each write whether its condition held."""
        ...


@dataclass(frozen=True)
class Version:
    """One of the versions that the bucket keeps of an object; a delete marker has no bytes."""

    id: str
    marker: bool = False


@dataclass(frozen=True)
class StoredVersion:
    """A version of an object as the bucket lists it: where, which, and its size in bytes (0 of a delete marker)."""

    key: str
    version: Version
    size: int


@dataclass(frozen=True)
class Listed:
    """An object as the bucket lists it: its size in bytes, and when it was written."""

    key: str
    size: int
    modified: datetime


class Objects(Protocol):
    """The bucket."""

    def existing(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys that are stored."""
        ...

    def sizes(self, keys: Sequence[str]) -> dict[str, int]:
        """The size in bytes of those of the keys that are stored."""
        ...

    def keys_after(self, prefix: str, after: str, count: int) -> list[Listed]:
        """The next objects with a prefix, in the order of their keys; "" begins. Fewer than `count` (1 to 1,000): the end."""
        ...

    def read(self, key: str, start: int, length: int) -> bytes:
        """At most `length` bytes from `start`; shorter at the object's end."""
        ...

    def put_new(self, key: str, body: bytes, sha256: str) -> bool:
        """Write these bytes (SHA-256 in hex) under a new key; False when the key is taken."""
        ...

    def write(self, key: str, body: bytes, content_type: str) -> None:
        """Write computed bytes under a key, whatever is there: never an instance."""
        ...

    def assemble(self, key: str, parts: Sequence[UploadPart], content_type: str) -> None:
        """Write an object made of bytes and of ranges of others (`domain.assembly.plan`), a few parts in memory at a time."""
        ...

    def checksums(self, extracts: Sequence[ObjectRange]) -> list[int]:
        """The CRC-32 of each extract. Raises TryAgain when an object is shorter than it should be."""
        ...

    def presign_put(self, key: str, sha256: str, seconds: int) -> tuple[str, dict[str, str]]:
        """(URL, headers) of one PUT of exactly the bytes with this SHA-256 (hex), if the key is new."""
        ...

    def presign_get(self, key: str, seconds: int, **response: str) -> str:
        """URL of a GET; `response` overrides headers of the answer, such as `content_type`."""
        ...

    def presign_head(self, key: str, seconds: int, **response: str) -> str:
        """URL of a HEAD, which that of a GET does not serve."""
        ...


class Versions(Protocol):
    """The versions of what is in the bucket: where bytes are removed for good, and nowhere else."""

    def of(self, key: str) -> list[Version]:
        """The versions of exactly this key, noncurrent ones and delete markers included: 1,000 at the most."""
        ...

    def read(self, key: str, version: str, length: int) -> bytes:
        """At most the first `length` bytes of a version. Raises NotFound when it is gone."""
        ...

    def below(self, prefix: str) -> list[StoredVersion]:
        """The first versions of objects with a prefix, in the order of their keys, 1,000 at the most; empty: there is nothing."""
        ...

    def remove(self, key: str, version: str) -> None:
        """Remove a version or a delete marker for good, if it is there."""
        ...


class Remover(Protocol):
    """The function that removes what is no DICOM, which nothing else does."""

    def remove(self, institution: str, sha256: str) -> bool:
        """Have what an institution sent, and was rejected as no DICOM, removed. False where it is kept. Raises TryAgain."""
        ...


class ArchiveApi(Protocol):
    """The archive as a hospital sees it from outside. Each call answers (HTTP status, body); 0 where nothing answered."""

    def call(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """A signed request to the API."""
        ...

    def follow(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> tuple[int, bytes]:
        """A request to an address that an answer named, with exactly these headers."""
        ...


class Alerts(Protocol):
    """Where what cannot wait is told to people."""

    def alert(self, kind: str, content: dict[str, str]) -> None:
        """Publish an alert. `content` holds no personal data: the receiver looks it up."""
        ...


class Announcer(Protocol):
    """Where S3 tells which objects were stored."""

    def announce(self, sizes: Mapping[str, int]) -> None:
        """Tell again, as S3 does, that objects are stored: their sizes in bytes, by key. Raises TryAgain."""
        ...


class PixelDecoder(Protocol):
    """The function that decodes pixels, which nothing else does."""

    def run(self, job: Mapping[str, object]) -> str | None:
        """Do a job (`pixels.handler`): None when its target is written, else why it cannot be done. Raises TryAgain."""
        ...


class Vault(Protocol):
    """Where what is written stays as it is: a bucket that locks its objects."""

    def put_new(self, key: str, content: bytes) -> bool:
        """Write if nothing is there under this key; False if something is."""
        ...

    def read(self, key: str) -> bytes:
        """What is there under this key."""
        ...
