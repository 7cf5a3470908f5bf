"""What was read from the store, on this disk: bounded, and gone as soon as something that it may hold is withdrawn or ends.

It decides nothing. Who may read is asked of the archive each time, which records it and names the object; only the bytes of an
object, which never change under its key, come from here.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from forwarder.archive.changes import NOW, Pace, changes
from forwarder.archive.client import Archive
from forwarder.archive.link import Link
from forwarder.errors import ArchiveError, Failure
from forwarder.logs import log

LOOK_SECONDS = 1.0
PAUSE_SECONDS = 10.0
LARGEST_PART = 4
"""An object may have this part of the whole, so that one study does not put out all others."""
SPARES = frozenset(
    {
        "study-arrived", "report-arrived", "transfer-opened", "transfer-accepted", "transfer-waiting", "transfer-extended",
        "link-proposed", "emergency-access",
    }
)  # fmt: skip
"""Kinds of changes that take nothing from anybody. All others empty the cache, also those that only a newer archive knows."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An object's bytes in a file, and the store's headers for them."""

    path: Path
    size: int
    headers: Mapping[str, str]


class Cache:
    """A folder of objects, the least lately read put out first. Empty at every start: nothing was followed meanwhile."""

    def __init__(self, folder: Path, limit: int, reserve: int) -> None:
        self._folder, self._limit, self._reserve = folder, limit, reserve
        self._lock = threading.Lock()
        self._all: OrderedDict[str, Kept] = OrderedDict()
        self._bytes = 0
        self._generation = 0
        shutil.rmtree(folder, ignore_errors=True)

    def get(self, key: str) -> Kept | None:
        """The object of a key, if it is here."""
        with self._lock:
            found = self._all.get(key)
            if found is not None:
                self._all.move_to_end(key)
            return found

    def take(self, key: str, size: int | None) -> Taking | None:
        """Begin to keep an object of this size; None where it is not to be kept."""
        if size is None or size * LARGEST_PART > self._limit:
            return None
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if shutil.disk_usage(self._folder).free - size > 2 * self._reserve:
                path = self._folder / secrets.token_hex(16)
                file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
                return Taking(self, key, size, path, file, self._generation)
        return None

    def drop(self, key: str) -> None:
        """Let go of what is kept under a key."""
        with self._lock:
            self._forget(key)

    def _forget(self, key: str) -> None:
        """Under the lock."""
        old = self._all.pop(key, None)
        if old is not None:
            old.path.unlink(missing_ok=True)
            self._bytes -= old.size

    def empty(self) -> None:
        """Let go of everything, also of what is just being taken."""
        with self._lock:
            self._generation += 1
            for kept in self._all.values():
                kept.path.unlink(missing_ok=True)
            self._all.clear()
            self._bytes = 0

    def _keep(self, key: str, kept: Kept, generation: int) -> None:
        with self._lock:
            if generation != self._generation:
                kept.path.unlink(missing_ok=True)
                return
            self._forget(key)
            self._all[key] = kept
            self._bytes += kept.size
            while self._bytes > self._limit:
                _, oldest = self._all.popitem(last=False)
                oldest.path.unlink(missing_ok=True)
                self._bytes -= oldest.size

    def follow(self, archive: Archive, line: Link, stop: threading.Event) -> None:
        """Follow the archive's feed until told to stop, and empty the cache by it, at the beginning too."""
        self.empty()
        cursor, pace = NOW, Pace(archive)
        while not stop.is_set():
            wait = LOOK_SECONDS
            try:
                if not line.closed_for():
                    found, cursor = changes(archive, cursor)
                    if any(str(change.get("kind")) not in SPARES for change in found):
                        self.empty()
                    wait = pace.after(bool(found))
            except ArchiveError as error:
                log.debug("the archive's feed cannot be read", kind=error.failure.value)
                if error.failure is not Failure.NETWORK:
                    self.empty()  # what the feed would have told is not known
                    cursor = NOW
                wait = PAUSE_SECONDS
            if wait:
                stop.wait(wait)


class Taking:
    """An object on its way into the cache: `write` each piece, then `keep`, or `drop`. What the disk refuses is dropped."""

    def __init__(self, cache: Cache, key: str, size: int, path: Path, file: BinaryIO, generation: int) -> None:
        self._cache, self._key, self._size, self._path, self._generation = cache, key, size, path, generation
        self._file: BinaryIO | None = file
        self._written = 0

    def write(self, data: bytes) -> None:
        if self._file is None:
            return
        try:
            self._file.write(data)
            self._written += len(data)
        except OSError:
            self.drop()

    def keep(self, headers: Mapping[str, str]) -> None:
        """All pieces were written: from now on the object is here, if it is as long as it should be."""
        if self._file is None or self._written != self._size:
            self.drop()
            return
        try:
            self._file.close()
        except OSError:
            self.drop()
            return
        self._file = None
        self._cache._keep(self._key, Kept(self._path, self._size, headers), self._generation)

    def drop(self) -> None:
        """It did not come whole, or may not be kept."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
            self._path.unlink(missing_ok=True)
