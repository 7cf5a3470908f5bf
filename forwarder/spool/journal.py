"""The journal: what the forwarder has taken responsibility for, in SQLite, with group commit.

Whoever has something to write puts it on a list and takes the writer's lock; who gets the lock writes all that is on the
list in one transaction. So many associations share one commit, and one alone writes without a change of thread.

There are two promises. When `write` returns, it is on the disk (WAL mode, `synchronous=FULL`). When `note` returns, every
reader sees it and the death of this process cannot take it back; a power failure can, until the next `write`. That is enough
for what the files of the spool tell as well (`forwarder.spool.spool`), and for what would only be asked or done once more.

The counters are kept by triggers in the same transactions as the rows, so that
received = waiting + indexed + rejected holds in every state that any reader can see.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from forwarder.errors import SpoolError
from forwarder.spool import schema

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]
Entry = tuple[Work, Future[Any], bool]
"""What to do, who waits for it, whether it has to be on the disk then."""

GROUP = 256  # pieces of work in one transaction
PATIENCE = 30  # seconds for which other connections are waited for


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection with the journal's settings. Raises SpoolError."""
    with ExitStack() as opened:
        try:
            connection = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode={'ro' if read_only else 'rwc'}",
                uri=True,
                timeout=PATIENCE,
                isolation_level=None,
                check_same_thread=False,
            )
            opened.callback(connection.close)
            if not read_only:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA cache_size = -1000")
            connection.row_factory = sqlite3.Row
        except sqlite3.Error as error:
            raise SpoolError(f"The journal “{path}” cannot be opened: {error}.") from error
        opened.pop_all()
    return connection


def open_read_only(folder: Path) -> sqlite3.Connection:
    """The journal of a spool, for a look from another process. Raises SpoolError."""
    path = folder / "journal.sqlite3"
    if not path.exists():
        raise SpoolError(f"There is no spool in “{folder}”.")
    return connect(path, read_only=True)


def shorten(connection: sqlite3.Connection) -> bool:
    """Begin the log anew, so that nothing that was removed or written over stays in it; whether no reader was in the way.

    Raises sqlite3.Error.
    """
    (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


class Journal:
    """The open journal. `write` from any thread; `read` gives a consistent view."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = connect(path)
        with ExitStack() as opened:
            opened.callback(self._connection.close)
            try:
                schema.upgrade(self._connection)
            except sqlite3.Error as error:
                raise SpoolError(f"The journal “{path}” cannot be used: {error}.") from error
            opened.pop_all()
        self._waiting: deque[Entry] = deque()
        self._synchronous: bool | None = None  # as the connection was told
        self._writer = threading.Lock()
        self._readers: list[sqlite3.Connection] = []  # idle ones: as many as were ever used at once
        self._soon = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._write_what_is_soon, name="journal", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what was handed over and stop."""
        self._closing = True
        self._soon.set()
        self._thread.join()
        with self._writer:
            self._write_group()
            self._connection.close()
        self._close_readers()

    def _close_readers(self) -> None:
        with suppress(IndexError):
            while True:
                self._readers.pop().close()

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` in a transaction and return its result once it is on the disk.

        Raises SpoolError when the disk does not take it; then nothing of it has happened.
        """
        return self._done(work, durable=True)

    def note(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` in a transaction and return its result once it is committed, though perhaps not on the disk yet.

        Raises SpoolError when the disk does not take it; then nothing of it has happened.
        """
        return self._done(work, durable=False)

    def note_soon(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Hand `work` over; the future is done when it is committed as by `note`, or carries SpoolError."""
        future: Future[T] = Future()
        self._waiting.append((work, future, False))
        self._soon.set()
        return future

    def _done(self, work: Callable[[sqlite3.Connection], T], *, durable: bool) -> T:
        future: Future[T] = Future()
        self._waiting.append((work, future, durable))
        while not future.done():
            with self._writer:
                if not future.done():
                    self._write_group()
        return future.result()

    def _write_what_is_soon(self) -> None:
        while not self._closing:
            self._soon.wait()
            self._soon.clear()
            while self._waiting:
                with self._writer:
                    self._write_group()

    def shorten(self) -> bool:
        """As the function, but readers are waited for no longer than a moment: it can be tried again. Raises SpoolError."""
        with self._writer:
            try:
                self._connection.execute("PRAGMA busy_timeout = 100")
                try:
                    return shorten(self._connection)
                finally:
                    self._connection.execute(f"PRAGMA busy_timeout = {PATIENCE * 1000}")
            except sqlite3.Error as error:
                raise SpoolError(f"The journal cannot be written: {error}.") from error

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One consistent view of the journal (a read transaction). Raises SpoolError."""
        try:
            connection = self._readers.pop()
        except IndexError:
            connection = connect(self._path)
        try:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            connection.close()
            raise SpoolError(f"The journal cannot be read: {error}.") from error
        except BaseException:
            connection.close()
            raise
        self._readers.append(connection)
        if self._closing:  # who reads longer than the journal is open
            self._close_readers()

    def _write_group(self) -> None:
        """Write what is waiting, at most `GROUP`, in one transaction. The caller has the writer's lock."""
        group: list[Entry] = []
        while self._waiting and len(group) < GROUP:
            group.append(self._waiting.popleft())
        if not group:
            return
        connection = self._connection
        try:
            self._synchronise(any(durable for _, _, durable in group))
            connection.execute("BEGIN IMMEDIATE")
            done = [(future, result) for work, future, _ in group for result in _results(connection, work, future)]
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._connection = self._reopened(connection)
            for _, future, _ in group:
                if not future.done():
                    future.set_exception(SpoolError(f"The journal cannot be written: {error}."))
            return
        for future, result in done:
            future.set_result(result)

    def _synchronise(self, durable: bool) -> None:
        """Have the next commit wait for the disk, or not."""
        if self._synchronous is not durable:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._synchronous = durable

    def _reopened(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        """After a disk error the connection's state is not to be trusted: take a new one if the disk gives it."""
        self._synchronous = None
        try:
            connection.close()
            return connect(self._path)
        except (sqlite3.Error, SpoolError):
            return connection


def _results(connection: sqlite3.Connection, work: Work, future: Future[Any]) -> list[Any]:
    """The result of one piece of work, in a list; an empty one if it failed for its own reasons, which its owner hears."""
    connection.execute("SAVEPOINT work")
    try:
        results = [work(connection)]
    except sqlite3.IntegrityError as error:
        connection.execute("ROLLBACK TO work")
        future.set_exception(SpoolError(f"The journal refused an entry: {error}."))
        results = []
    except sqlite3.Error:
        raise  # the disk's trouble, and so that of all who share the transaction
    except Exception as error:  # a mistake of one must not keep the others waiting
        connection.execute("ROLLBACK TO work")
        future.set_exception(error)
        results = []
    connection.execute("RELEASE work")
    return results


def tally(connection: sqlite3.Connection) -> dict[str, int]:
    """The counters, of one moment."""
    return {row["name"]: row["value"] for row in connection.execute("SELECT name, value FROM counters")}
