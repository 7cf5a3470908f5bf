"""S3 objects as files: what replaces the emulator's in-memory keys, and how they survive a restart.

The body of every version is one file under `DIR/objects`; its facts are a row in the state. The file is
complete before the row is written, and the row is written before the request is answered, so that a killed
process loses nothing that it acknowledged. A file without a row is a request that was never answered; it is
removed at the next start.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from moto.s3.models import FakeBucket, FakeDeleteMarker, FakeKey

from local.state import State

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Body:
    """A body that was streamed into a file: where it lies, its size in bytes, its MD5 (the ETag) in hex."""

    path: Path
    size: int
    md5: str


def new_body_path(directory: Path) -> Path:
    """A fresh file name, spread over 256 folders."""
    name = uuid.uuid4().hex
    folder = directory / name[:2]
    folder.mkdir(exist_ok=True)
    return folder / name


class StoredKey(FakeKey):  # type: ignore[misc]
    """moto's FakeKey with its value in a file. `directory` is set once by `local.emulation.moto_patches.install`."""

    directory: Path
    path: Path
    disposed: bool
    _etag: str | None

    @property
    def value(self) -> bytes:
        return self.path.read_bytes()

    @value.setter
    def value(self, new: bytes | Body) -> None:
        if isinstance(new, Body):
            self.path, self.contentsize, self._etag = new.path, new.size, self._etag or new.md5
            return
        self.path = new_body_path(self.directory)
        self.path.write_bytes(new)
        self.contentsize = len(new)

    @property
    def _value_buffer(self) -> IO[bytes]:
        return self.path.open("rb")

    @_value_buffer.setter
    def _value_buffer(self, unused: Any) -> None:
        """moto assigns a temporary file, which is not needed."""

    @property
    def etag(self) -> str:
        if self._etag is None:
            digest = hashlib.md5(usedforsecurity=False)
            with self.path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
            self._etag = digest.hexdigest()
        return f'"{self._etag}"'

    def dispose(self, garbage: bool = False) -> None:
        if garbage or self.disposed:
            return
        self.disposed = True
        self.path.unlink(missing_ok=True)
        if self.multipart:
            self.multipart.dispose()

    def __deepcopy__(self, memo: dict[int, Any]) -> StoredKey:
        """The emulator copies versions to list them; the file behind them is one and the same."""
        copied = StoredKey.__new__(StoredKey)
        copied.__dict__.update(self.__dict__)
        return copied

    def __del__(self) -> None:
        """A version lives until it is deleted, not until it is forgotten."""


_PLAIN = (
    "encryption",
    "kms_key_id",
    "bucket_key_enabled",
    "checksum_algorithm",
    "checksum_value",
    "checksum_type",
    "lock_mode",
    "lock_legal_status",
    "lock_until",
)


def save_versions(state: State, bucket: FakeBucket, names: Iterable[str]) -> None:
    """Write what the emulator holds under these names, all versions and delete markers, into the state."""
    with state.transaction() as database:
        for name in names:
            database.execute("DELETE FROM objects WHERE bucket = ? AND name = ?", (bucket.name, name))
            rows = [
                (bucket.name, name, position, str(version.version_id), json.dumps(_facts(version)))
                for position, version in enumerate(bucket.keys.getlist(name, []))
            ]
            database.executemany("INSERT INTO objects VALUES (?, ?, ?, ?, ?)", rows)


def save_newest(state: State, bucket: FakeBucket, name: str) -> None:
    """Write the version that was just added under this name."""
    versions = bucket.keys.getlist(name)
    last = len(versions) - 1
    row = (bucket.name, name, last, str(versions[last].version_id), json.dumps(_facts(versions[last])))
    with state.transaction() as database:
        database.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", row)


def _facts(version: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {"last_modified": version.last_modified.isoformat()}
    if isinstance(version, FakeDeleteMarker):
        return facts
    facts |= {name: value for name in _PLAIN if (value := getattr(version, name)) is not None}
    facts |= {
        "file": version.path.name,
        "size": version.contentsize,
        "etag": version.etag.strip('"'),
        "storage": version.storage_class,
        "versioned": version._is_versioned,
        "metadata": dict(version.metadata),
    }
    return facts


def load_versions(state: State, backend: Any) -> int:
    """Put every saved version back into its bucket; remove files that no row knows. Returns the number of
    versions."""
    known: set[str] = set()
    with state.lock:
        rows = state.database.execute(
            "SELECT bucket, name, version, facts FROM objects ORDER BY bucket, name, position"
        ).fetchall()
    for bucket_name, name, version_id, text in rows:
        facts = json.loads(text)
        if "file" in facts:
            known.add(facts["file"])
        bucket = backend.buckets.get(bucket_name)
        if bucket is None:
            continue
        versions = bucket.keys.getlist(name, [])
        version = _restored(backend, bucket, name, version_id, facts, versions)
        if version is not None:
            bucket.keys.setlist(name, [*versions, version])
    for folder in (state.directory / "objects").iterdir():
        for file in folder.iterdir():
            if file.name not in known:
                file.unlink(missing_ok=True)
    return len(rows)


def _restored(backend: Any, bucket: FakeBucket, name: str, version_id: str, facts: dict[str, Any], earlier: list[Any]) -> Any:
    modified = datetime.datetime.fromisoformat(facts["last_modified"])
    if "file" not in facts:
        if not earlier:
            return None
        marker = FakeDeleteMarker(key=earlier[-1])
        marker.last_modified, marker._version_id = modified, version_id
        return marker
    body = Body(StoredKey.directory / facts["file"][:2] / facts["file"], facts["size"], facts["etag"])
    key = StoredKey(
        name=name,
        value=body,
        account_id=backend.account_id,
        region_name=backend.region_name,
        bucket_name=bucket.name,
        storage=facts["storage"],
        etag=facts["etag"],
        is_versioned=facts["versioned"],
        version_id=version_id,
    )
    for attribute in _PLAIN:
        setattr(key, attribute, facts.get(attribute))
    key.last_modified = modified
    key.set_metadata(dict(facts["metadata"]), replace=True)
    return key
