"""The spool: bytes are durable, under the name of their content, before anyone is told that they arrived.

    incoming/              what is just arriving; nothing here was ever acknowledged
    instances/ab/abcd…     the bytes as received, named by their SHA-256
    packed/ab/abcd…        the losslessly compressed form of the same, under the same name
    journal.sqlite3        what has become of each (`forwarder.spool.journal`)

The order is what makes it safe: write, rename into place, fsync file and directory, commit the journal, and only then
say yes. The commit is not waited for on the disk, since the file tells the same: it bears the name of its content, so
a whole file without a row is one whose row a power failure took, and `recover` takes it on again. What the files cannot
tell, that an instance may be dropped, is on the disk before the file goes. So a row without its file cannot happen, and is
reported if it does.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from forwarder.alerts import Reason
from forwarder.errors import SpoolError
from forwarder.header import STUDY_INSTANCE_UID, read_header
from forwarder.spool import instances
from forwarder.spool.instances import NEEDS_NO_BYTES, SETTLED_WELL, About, InstanceState
from forwarder.spool.journal import Journal, tally

NUDGE = "retry-now"  # a file in the spool by which `retry` tells a running forwarder
SYNCING = 8  # folders that are synced at once
LOOK_EVERY = 64 * 1024 * 1024  # bytes of one instance after which the disk is looked at again
HEAD = 64 * 1024  # bytes of the beginning that are looked at
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class SpoolFullError(SpoolError):
    """Out of space, or too near to it: the sender should try later."""


@dataclass(slots=True)
class Recovery:
    """What was found after a start: files removed since nobody needs them or they are not whole, files taken on again whose
    row a power failure took, instances whose file is missing."""

    removed: int = 0
    adopted: int = 0
    missing: int = 0
    postponed: int = 0  # to be taken on again, once the journal can be written


class Arrival(BytesIO):
    """The bytes of one instance on their way to the disk, hashed as they come.

    It looks like a BytesIO because that is what a DICOM library writes to. A disk that fails does not break the
    reception: the bytes still have to be read from the line before an answer can be given. `failure` remembers it.
    """

    def __init__(self, spool: Spool) -> None:
        super().__init__()
        self.digest = hashlib.sha256()
        self.size = 0
        self.failure: SpoolError | None = None
        self.head = b""  # the first bytes, for a look at the header
        self._spool = spool
        self._look_at = LOOK_EVERY
        self.path = spool.new_path()
        self._file: int | None = None
        try:
            spool.check_space()
            self._file = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        except (OSError, SpoolError) as error:
            self._fail(error)

    def write(self, data: Any) -> int:
        """Append `data`; after a failure it goes nowhere."""
        view = memoryview(data)
        if self._file is not None:
            try:
                written = 0
                while written < len(view):
                    written += os.write(self._file, view[written:])
                self.digest.update(view)
                self.size += len(view)
                if self.size >= self._look_at:
                    self._look_at = self.size + LOOK_EVERY
                    self._spool.check_space()
                if len(self.head) < HEAD:
                    self.head += bytes(view[: HEAD - len(self.head)])
            except (OSError, SpoolError) as error:
                self._fail(error)
        return len(view)

    def _fail(self, error: OSError | SpoolError) -> None:
        self.failure = error if isinstance(error, SpoolError) else from_os(error)
        self.discard()

    def discard(self) -> None:
        """Forget the bytes."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        with contextlib.suppress(OSError):  # on a failing disk it stays, and `recover` removes it
            self.path.unlink(missing_ok=True)

    def take_file(self) -> int:
        """The open descriptor, to be fsynced and closed by the caller. Raises SpoolError if writing failed."""
        if self.failure is not None or self._file is None:
            raise self.failure or SpoolError("The instance was already taken.")
        file, self._file = self._file, None
        return file


def from_os(error: OSError) -> SpoolError:
    """An OSError in the forwarder's words."""
    kind = SpoolFullError if error.errno in FULL else SpoolError
    return kind(f"The spool's disk says: {error.strerror or error}.")


class Spool:
    """The spool in `folder`. `step` is called with the name of each step that was just done, here and by
    the outbox: tests die there."""

    def __init__(self, folder: Path, reserve_bytes: int = 0, steps: Callable[[str], None] = lambda _: None) -> None:
        self.folder = folder
        self.reserve_bytes = reserve_bytes
        self.step = steps
        self._number = 0
        self._syncing = ThreadPoolExecutor(SYNCING, thread_name_prefix="sync")
        try:
            for name in ("incoming", "instances", "packed"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            for shard in range(256):
                for name in ("instances", "packed"):
                    (folder / name / f"{shard:02x}").mkdir(exist_ok=True)
            for name in ("", "instances", "packed"):
                _fsync_folder(folder / name)
        except OSError as error:
            raise SpoolError(f"The spool “{folder}” cannot be used: {error.strerror or error}.") from error
        self.journal = Journal(folder / "journal.sqlite3")

    def close(self) -> None:
        self._syncing.shutdown()
        self.journal.close()

    def new_path(self) -> Path:
        """A name in incoming/ that nothing else has."""
        self._number += 1
        return self.folder / "incoming" / f"{os.getpid()}-{time.monotonic_ns()}-{self._number}"

    def path(self, digest: str) -> Path:
        """Where the bytes as received are."""
        return self.folder / "instances" / digest[:2] / digest

    def packed_path(self, digest: str) -> Path:
        """Where the compressed form of `digest` is, if there is one."""
        return self.folder / "packed" / digest[:2] / digest

    def free_bytes(self) -> int:
        """Free space of the spool's disk. Raises SpoolError."""
        try:
            disk = os.statvfs(self.folder)
        except OSError as error:
            raise from_os(error) from error
        return disk.f_bavail * disk.f_frsize

    def read_only(self) -> bool:
        """Whether the spool's disk takes no writing, as after a failure. Raises SpoolError."""
        try:
            return bool(os.statvfs(self.folder).f_flag & os.ST_RDONLY)
        except OSError as error:
            raise from_os(error) from error

    def check_space(self) -> None:
        """Raises SpoolFullError when what is free is less than what is kept in reserve."""
        if self.free_bytes() < self.reserve_bytes:
            raise SpoolFullError("The spool's disk is nearly full.")

    def arrival(self) -> Arrival:
        """Begin to receive an instance."""
        return Arrival(self)

    def admit(self, arrival: Arrival, about: About, rank: float | None = None) -> str:
        """Make an arrival durable and the forwarder responsible for it; returns its digest (SHA-256, hex).

        The same bytes again are the same instance: nothing is kept twice, and the answer is as good. Raises SpoolError
        (SpoolFullError for lack of space): then the forwarder is not responsible, and nothing stays behind.
        """
        digest = arrival.digest.hexdigest()
        now = time.time()
        home = self.path(digest)
        try:
            file = arrival.take_file()
            try:
                self.step("written")
                arrival.path.rename(home)
                self.step("renamed")
                folder = self._syncing.submit(_fsync_folder, home.parent)  # both at once: one wait instead of two
                os.fsync(file)
            finally:
                os.close(file)
            folder.result()
            self.step("synced")
        except OSError as error:
            arrival.discard()
            raise from_os(error) from error
        going = now if rank is None else rank
        try:
            state = self.journal.note(lambda connection: instances.take_on(connection, digest, arrival.size, about, now, going))
        except SpoolError:
            self._take_back(digest)
            raise
        self.step("journaled")
        if state in SETTLED_WELL:
            self.drop_files(digest)
        elif not home.exists():
            raise SpoolError("The instance was discarded in the moment in which it came.")
        return digest

    def _take_back(self, digest: str) -> None:
        """Remove a file that could not be journaled, unless the same bytes were taken on before."""
        with contextlib.suppress(SpoolError, OSError), self.journal.read() as connection:  # else `recover` sees to it
            if not instances.is_known(connection, digest):
                self.path(digest).unlink(missing_ok=True)

    def admit_file(self, file: BinaryIO, calling: str | None = None, rank: Rank | None = None) -> str:
        """Take a copy of an open file in. Raises SpoolError as `admit`, and if the file cannot be read."""
        arrival = self.arrival()
        try:
            while block := file.read(1024 * 1024):
                arrival.write(block)
        except OSError as error:
            arrival.discard()
            raise SpoolError(f"A file of the watched folder cannot be read: {error.strerror}.") from error
        about = look_at(arrival.head, calling)
        return self.admit(arrival, about, rank(about) if rank else None)

    def drop_files(self, digest: str) -> None:
        """Remove the bytes of an instance whose journal entry no longer needs them."""
        for path in (self.path(digest), self.packed_path(digest)):
            path.unlink(missing_ok=True)

    def forget(self, before: float) -> int:
        """Remove the rows of what was settled `before` (seconds since the epoch); returns how many."""
        total = 0
        while True:
            gone = self.journal.note(lambda connection: instances.forget_some(connection, before))
            total += gone
            if gone < instances.FORGOTTEN_AT_ONCE:
                return total

    def tally(self) -> dict[str, int]:
        """Received, waiting, stored, indexed, … of one moment."""
        with self.journal.read() as connection:
            return tally(connection)

    def recover(self) -> Recovery:
        """After a start: make files and journal agree. Constant memory for any number of shards. Raises SpoolError."""
        found = Recovery()
        try:
            for leftover in (self.folder / "incoming").iterdir():
                leftover.unlink(missing_ok=True)
                found.removed += 1
            for shard in range(256):
                self._sweep(f"{shard:02x}", found)
        except OSError as error:
            raise from_os(error) from error
        with self.journal.read() as connection:
            absent = [digest for digest in instances.pending(connection) if not self.path(digest).exists()]
        entries = instances.InstanceTable(self.journal)
        for digest in absent:
            entries.settle(digest, InstanceState.REJECTED, Reason.LOST_FROM_SPOOL)
            found.missing += 1
        return found

    def _sweep(self, shard: str, found: Recovery) -> None:
        with self.journal.read() as connection:
            states = instances.states_of(connection, shard)
        for name in ("instances", "packed"):
            for path in (self.folder / name / shard).iterdir():
                state = states.get(path.name)
                if state is None and name == "instances" and _is_whole(path):
                    try:
                        self._adopt(path)
                        found.adopted += 1
                    except SpoolError:  # a full disk must not keep the forwarder from starting, and so from emptying it
                        found.postponed += 1
                elif state is None or state in NEEDS_NO_BYTES:
                    path.unlink(missing_ok=True)
                    found.removed += 1

    def adopt_postponed(self) -> Recovery:
        """Try again what `recover` had to postpone; harmless while instances arrive. Raises SpoolError."""
        found = Recovery()
        try:
            for shard in range(256):
                self._sweep(f"{shard:02x}", found)
        except OSError as error:
            raise from_os(error) from error
        return found

    def _adopt(self, path: Path) -> None:
        """Take on a file whose row a power failure took. Raises SpoolError, OSError."""
        with path.open("rb") as file:
            os.fsync(file.fileno())
            _fsync_folder(path.parent)
            about, found = look_at(file.read(HEAD)), os.fstat(file.fileno())
        came, size = found.st_mtime, found.st_size
        self.journal.note(lambda connection: instances.take_on(connection, path.name, size, about, came, came))


def _is_whole(path: Path) -> bool:
    """Whether a file is what its name says; else it was never acknowledged. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == path.name


Rank = Callable[[About], float]
"""How soon an instance is to be sent: the smallest goes first."""


def look_at(head: bytes, calling: str | None = None) -> About:
    """What the beginning of a file tells, as far as it can be read."""
    header = read_header(head, last=STUDY_INSTANCE_UID)
    if header is None:
        return About(calling=calling)
    sent_as = header.media_storage_sop_instance_uid
    return About(
        study=header.study_instance_uid,
        sop_class=header.sop_class_uid,
        sop_instance=header.sop_instance_uid,
        modality=header.modality,
        calling=calling,
        sent_as=sent_as if sent_as != header.sop_instance_uid else None,
    )


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
