"""The state directory of a local city: one process at a time, one SQLite file, one format.

Everything that has to survive is written as part of the request that changes it, before that request is
answered. The database runs with `synchronous=OFF`: a killed process loses nothing, a machine that loses power
may lose its last seconds, which is what this stand-in for a cloud may do.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

FORMAT = 1
"""Raised whenever a newer city can no longer read what an older one wrote, or the other way round."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS stream (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS checkpoints (
    consumer TEXT PRIMARY KEY, source TEXT NOT NULL, sequence INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS objects (
    bucket TEXT NOT NULL, name TEXT NOT NULL, position INTEGER NOT NULL, version TEXT NOT NULL, facts TEXT NOT NULL,
    PRIMARY KEY (bucket, name, position));
CREATE TABLE IF NOT EXISTS stacks (
    name TEXT PRIMARY KEY, region TEXT NOT NULL, template TEXT NOT NULL, parameters TEXT NOT NULL, tags TEXT NOT NULL,
    resources TEXT NOT NULL, created INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS credentials (
    access_key TEXT PRIMARY KEY, secret TEXT NOT NULL, token TEXT NOT NULL, role_arn TEXT NOT NULL,
    session TEXT NOT NULL, expires REAL NOT NULL);
"""


class StateError(Exception):
    """The state directory cannot be used; the text tells the user why and what to do."""


class State:
    """An open state directory.

    `lock` guards the one connection; hold it through `transaction()`, which may be nested: the outermost one
    commits, an inner one that raises undoes only its own part.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock_file = _lock(directory / "lock")
        except OSError as error:
            raise StateError(f"The state directory {directory} cannot be used: {error.strerror}.") from error
        (directory / "logs").mkdir(exist_ok=True)
        (directory / "objects").mkdir(exist_ok=True)
        self.lock = threading.RLock()
        self._depth = 0
        self.stream_listeners: list[threading.Event] = []
        self._appended: dict[tuple[str, ...], int] = {}
        self.database = sqlite3.connect(
            directory / "city.sqlite", isolation_level=None, check_same_thread=False, cached_statements=512
        )
        try:
            self._prepare()
        except (StateError, sqlite3.DatabaseError) as error:
            self.close()
            if isinstance(error, StateError):
                raise
            raise StateError(f"The state in {directory} is damaged ({error}): move it away.") from error

    def _prepare(self) -> None:
        self.database.execute("PRAGMA journal_mode=WAL")
        self.database.execute("PRAGMA synchronous=OFF")
        self.database.execute("PRAGMA cache_size=-32000")
        found = self.database.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, FORMAT):
            raise StateError(
                f"The state in {self.directory} has format {found}, this city reads format {FORMAT}: "
                "use the version that wrote it, or another directory."
            )
        if not found and self.database.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise StateError(f"The file city.sqlite in {self.directory} was not written by a local city.")
        # At once: tables without a format are taken for another program's.
        self.database.executescript(f"BEGIN IMMEDIATE;{_SCHEMA};PRAGMA user_version={FORMAT};COMMIT")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; reentrant within a thread."""
        with self.lock:
            self._depth += 1
            mark = f"level{self._depth}"
            self.database.execute(f"SAVEPOINT {mark}")
            try:
                yield self.database
            except BaseException:
                self.database.execute(f"ROLLBACK TO {mark}")
                raise
            finally:
                self.database.execute(f"RELEASE {mark}")
                self._depth -= 1
                if self._depth == 0 and self._appended:
                    self._appended.clear()
                    for listener in self.stream_listeners:
                        listener.set()

    def append_to_stream(self, source: str, key: tuple[str, str], record: dict[str, Any]) -> None:
        """Add a change of a table to its stream. Call it within a transaction.

        One request makes one record of an item, so that a second change of `key` in the same (outermost)
        transaction is merged into the first: the emulator writes an item that an update creates twice.
        """
        earlier = self._appended.get((source, *key))
        row = None
        if earlier is not None:
            row = self.database.execute("SELECT record FROM stream WHERE sequence = ?", (earlier,)).fetchone()
        if row is not None:
            first = json.loads(row[0])
            merged = {**record, "eventName": first["eventName"]}
            merged["dynamodb"].pop("OldImage", None)
            if "OldImage" in first["dynamodb"]:
                merged["dynamodb"]["OldImage"] = first["dynamodb"]["OldImage"]
            self.database.execute("UPDATE stream SET record = ? WHERE sequence = ?", (json.dumps(merged), earlier))
            return
        cursor = self.database.execute("INSERT INTO stream (source, record) VALUES (?, ?)", (source, json.dumps(record)))
        self._appended[(source, *key)] = int(cursor.lastrowid or 0)

    def setting(self, name: str) -> Any:
        with self.lock:
            row = self.database.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def set_setting(self, name: str, value: Any) -> None:
        with self.transaction() as database:
            database.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, json.dumps(value)))

    def close(self) -> None:
        with self.lock:
            self.database.close()
            self._lock_file.close()


def _lock(path: Path) -> IO[str]:
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise StateError(
            f"Another local city (process {owner}) is running with the state in {path.parent}: stop it first."
        ) from error
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file so that a reader sees either the old or the new one; `mode` from the first byte on."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)
