"""A watched folder: the DICOM files put there are taken into the spool. It looks instead of listening, so that shares work too.

What is no DICOM file stays there and is counted by reason (`forwarder.files`); its name, which may be a patient's, is nowhere.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from forwarder.alerts import Reason
from forwarder.config import WatchConfig
from forwarder.errors import ConfigError, ForwarderError, SpoolError
from forwarder.files import NotSentError, SourceFile, opened_dicom, stamp_of, walk
from forwarder.logs import log
from forwarder.spool.spool import Rank, Spool

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
        self._left: dict[Path, tuple[tuple[int, int] | None, Reason]] = {}  # what is not taken, as long as it does not change
        self._folder = Path(config.folder)
        self.heard: Callable[[str], None] = lambda _: None  # is told that something came
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
        refused: set[Path] = set()
        for source, stamp in self._files(refused):
            path = source.path
            present.add(path)
            before = self._seen.get(path)
            now = time.monotonic()
            if before is None or before[0] != stamp:
                self._seen[path] = (stamp, now)
                before = self._seen[path]
            if now - before[1] < self._config.settled_seconds:
                continue
            if self._take(source, stamp):
                taken += 1
                self._seen.pop(path, None)
            else:
                self._seen[path] = (stamp, now + AGAIN_AFTER)
        for gone in self._seen.keys() - present:
            del self._seen[gone]
        for gone in self._left.keys() - present - refused:
            del self._left[gone]
        return taken

    @property
    def left(self) -> dict[str, int]:
        """How many files lie there that are not taken, by reason."""
        return dict(Counter(str(reason) for _, reason in tuple(self._left.values())))

    def _leave(self, path: Path, stamp: tuple[int, int] | None, reason: Reason) -> None:
        if path not in self._left and len(self._left) < SEEN_AT_MOST:
            log.warning("file of the watched folder left where it is", reason=reason, size=stamp and stamp[0])
        self._left[path] = (stamp, reason)

    def _files(self, refused: set[Path]) -> Iterator[tuple[SourceFile, tuple[int, int]]]:
        """What may be taken, with size and time of its last change; what may not is told, and added to `refused`."""

        def leave(path: Path, reason: Reason) -> None:
            refused.add(path)
            self._leave(path, None, reason)

        for source in walk([self._folder], leave):
            path = source.path
            if len(self._seen) >= SEEN_AT_MOST:
                return
            try:
                stamp = _stamp(path)
            except OSError:  # it went away, or the share has a bad moment: the others are not to wait for it
                continue
            if self._left.get(path, (None,))[0] == stamp:
                refused.add(path)
            elif stamp[0] and not (self._config.after == "keep" and self._was_taken(path, stamp)):
                yield source, stamp

    def _was_taken(self, path: Path, stamp: tuple[int, int]) -> bool:
        with self._spool.journal.read() as connection:
            row = connection.execute(
                "SELECT 1 FROM watched WHERE path = ? AND size = ? AND mtime_ns = ?", (_as_text(path), *stamp)
            ).fetchone()
        return row is not None

    def _take(self, source: SourceFile, stamp: tuple[int, int]) -> bool:
        """Whether the file is in the spool and, where it should go, gone. What fails is tried again after `AGAIN_AFTER`."""
        path = source.path
        try:
            with opened_dicom(source) as file:
                if stamp_of(file)[2:] != stamp:
                    return False  # it is being written again
                self._spool.admit_file(file, CALLING, self._rank)
            self.heard(CALLING)
            if self._config.after == "keep":
                row = (_as_text(path), *stamp)
                self._spool.journal.note(
                    lambda connection: connection.execute(
                        "INSERT OR REPLACE INTO watched (path, size, mtime_ns) VALUES (?, ?, ?)", row
                    )
                )
            elif _stamp(path) == stamp:  # what has taken its place meanwhile is another file
                path.unlink()
        except NotSentError as error:
            self._leave(path, stamp, error.reason)
            return False
        except SpoolError as error:
            log.warning("file of the watched folder not taken", detail=str(error))
            return False
        except OSError as error:
            log.warning("file of the watched folder cannot be read or removed", detail=error.strerror)
            return False
        return True


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of the last change. Raises OSError."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _as_text(path: Path) -> str:
    """A name of any bytes, as a text that the journal takes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
