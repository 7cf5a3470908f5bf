"""A watched folder: what is put there is taken into the spool. It looks instead of listening, so that shares work too."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from forwarder.config import WatchConfig
from forwarder.errors import ConfigError, ForwarderError, SpoolError
from forwarder.files import walk
from forwarder.logs import log
from forwarder.spool import Rank, Spool

CALLING = "WATCHED FOLDER"
SEEN_AT_MOST = 100_000
AGAIN_AFTER = 30.0  # seconds, and `settled_seconds`


class Watcher:
    """Looks at the folder; a file is taken in once size and time have stood still for `settled_seconds`."""

    def __init__(self, config: WatchConfig, spool: Spool, rank: Rank) -> None:
        self._config = config
        self._spool = spool
        self._rank = rank
        self._seen: dict[Path, tuple[tuple[int, int], float]] = {}
        self._folder = Path(config.folder)
        self.failing = False  # whether the folder could not be read the last time
        if not self._folder.is_dir():
            raise ConfigError(f"The key “watch.folder” names a folder that does not exist: {config.folder}")

    def run(self, stop: threading.Event) -> None:
        """Look until told to stop."""
        while not stop.wait(self._config.every_seconds):
            try:
                self.look()
                self.failing = False
            except (OSError, ForwarderError) as error:  # a share that went away may come back, a disk recover
                self.failing = True
                log.warning("watched folder cannot be read", detail=type(error).__name__)

    def look(self) -> int:
        """Take in what is settled; returns how many files. Raises OSError and ForwarderError where nothing can be read."""
        taken = 0
        present = set()
        for path, stamp in self._files():
            present.add(path)
            before = self._seen.get(path)
            now = time.monotonic()
            if before is None or before[0] != stamp:
                self._seen[path] = (stamp, now)
                before = self._seen[path]
            if now - before[1] < self._config.settled_seconds:
                continue
            if self._take(path, stamp):
                taken += 1
                self._seen.pop(path, None)
            else:
                self._seen[path] = (stamp, now + AGAIN_AFTER)
        for gone in self._seen.keys() - present:
            del self._seen[gone]
        return taken

    def _files(self) -> Iterator[tuple[Path, tuple[int, int]]]:
        for path in walk([self._folder]):
            if len(self._seen) >= SEEN_AT_MOST:
                return
            try:
                found = path.stat()
            except OSError:  # it went away, or the share has a bad moment: the others are not to wait for it
                continue
            stamp = (found.st_size, found.st_mtime_ns)
            if found.st_size and not (self._config.after == "keep" and self._was_taken(path, stamp)):
                yield path, stamp

    def _was_taken(self, path: Path, stamp: tuple[int, int]) -> bool:
        with self._spool.journal.read() as connection:
            row = connection.execute(
                "SELECT 1 FROM watched WHERE path = ? AND size = ? AND mtime_ns = ?", (_as_text(path), *stamp)
            ).fetchone()
        return row is not None

    def _take(self, path: Path, stamp: tuple[int, int]) -> bool:
        """Whether the file is in the spool and, where it should go, gone. What fails is tried again after `AGAIN_AFTER`."""
        try:
            self._spool.admit_file(path, CALLING, self._rank)
            if self._config.after == "keep":
                row = (_as_text(path), *stamp)
                self._spool.journal.note(
                    lambda connection: connection.execute("INSERT OR REPLACE INTO watched VALUES (?, ?, ?)", row)
                )
            else:
                path.unlink(missing_ok=True)
        except SpoolError as error:
            log.warning("file of the watched folder not taken", detail=str(error))
            return False
        except OSError as error:
            log.warning("file of the watched folder cannot be removed", detail=error.strerror)
            return False
        return True


def _as_text(path: Path) -> str:
    """A name of any bytes, as a text that the journal takes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
