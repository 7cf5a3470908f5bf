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
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from forwarder.errors import SpoolError

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]
Entry = tuple[Work, Future[Any], bool]
"""What to do, who waits for it, whether it has to be on the disk then."""

SCHEMA = """
CREATE TABLE instances (
    digest TEXT PRIMARY KEY,             -- SHA-256 of the bytes as received
    size INTEGER NOT NULL,
    state TEXT NOT NULL,                 -- waiting, stored; indexed, echo; rejected, conflict, discarded
    reason TEXT,                         -- why it is not indexed
    packed_digest TEXT,                  -- of the losslessly compressed form, once there is one
    packed_size INTEGER,
    packing TEXT NOT NULL DEFAULT 'todo',  -- todo, packed, plain
    study TEXT, sop_class TEXT, sop_instance TEXT, modality TEXT, calling TEXT,
    rank REAL NOT NULL,                  -- the smallest goes first
    attempts INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0,
    received_at REAL NOT NULL,
    stored_at REAL,
    settled_at REAL
) WITHOUT ROWID;
CREATE INDEX instances_to_send ON instances (rank, digest) WHERE state = 'waiting';
CREATE INDEX instances_to_poll ON instances (not_before) WHERE state = 'stored';
CREATE INDEX instances_pending ON instances (received_at) WHERE state IN ('waiting', 'stored');
CREATE INDEX instances_aside ON instances (settled_at) WHERE state IN ('rejected', 'conflict');
CREATE INDEX instances_settled ON instances (settled_at) WHERE state IN ('indexed', 'echo', 'discarded');
CREATE INDEX instances_study ON instances (study, received_at);
CREATE INDEX instances_sop ON instances (sop_instance);
CREATE INDEX instances_packed ON instances (packed_digest) WHERE packed_digest IS NOT NULL;

CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES
    ('received', 0), ('waiting', 0), ('stored', 0), ('indexed', 0), ('echo', 0),
    ('rejected', 0), ('conflict', 0), ('discarded', 0), ('bytes_waiting', 0);

CREATE TRIGGER instance_received AFTER INSERT ON instances BEGIN
    UPDATE counters SET value = value + 1 WHERE name IN ('received', NEW.state);
    UPDATE counters SET value = value + NEW.size
        WHERE name = 'bytes_waiting' AND NEW.state IN ('waiting', 'stored');
END;
CREATE TRIGGER instance_moved AFTER UPDATE OF state ON instances WHEN OLD.state != NEW.state BEGIN
    UPDATE counters SET value = value - 1 WHERE name = OLD.state;
    UPDATE counters SET value = value + 1 WHERE name = NEW.state;
    UPDATE counters SET value = value
        + NEW.size * (NEW.state IN ('waiting', 'stored')) - OLD.size * (OLD.state IN ('waiting', 'stored'))
        WHERE name = 'bytes_waiting';
END;
-- Forgetting a row whose story has ended changes no counter: what was received stays received.
CREATE TRIGGER instance_kept BEFORE DELETE ON instances
    WHEN OLD.state NOT IN ('indexed', 'echo', 'discarded') BEGIN
    SELECT RAISE(ABORT, 'an instance that is not settled cannot be forgotten');
END;

CREATE TABLE commitments (
    transaction_uid TEXT NOT NULL,
    caller TEXT NOT NULL,
    requested_at REAL NOT NULL,
    items TEXT NOT NULL,                 -- JSON: [[sop class, sop instance], …]
    attempts INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (transaction_uid, caller)
) WITHOUT ROWID;

CREATE TABLE watched (path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL) WITHOUT ROWID;
"""

REPORTS = """
CREATE TABLE reports (                   -- each a document of one study, out of an HL7 message
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order in which they came
    digest TEXT NOT NULL UNIQUE,         -- of the message without its time, and the number within it
    size INTEGER NOT NULL,
    state TEXT NOT NULL,                 -- waiting; sent; aside, discarded
    reason TEXT,                         -- why it is not sent
    sender TEXT NOT NULL,                -- MSH-3@MSH-4
    study TEXT NOT NULL, accession TEXT NOT NULL,  -- one of the two may be empty
    patients TEXT NOT NULL,              -- JSON: the numbers in PID-3
    document TEXT NOT NULL,              -- versions of one document go in order
    part INTEGER NOT NULL,
    title TEXT NOT NULL, media_type TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0,
    received_at REAL NOT NULL,
    settled_at REAL,
    content BLOB                         -- NULL once it is sent or discarded, and where the sender took a report back
);
CREATE INDEX reports_waiting ON reports (document, seq, not_before) WHERE state = 'waiting';
CREATE INDEX reports_settled ON reports (settled_at) WHERE state IN ('sent', 'discarded');
CREATE INDEX reports_document ON reports (document, seq);

INSERT INTO counters VALUES
    ('reports_received', 0), ('reports_waiting', 0), ('reports_sent', 0), ('reports_aside', 0), ('reports_discarded', 0);
CREATE TRIGGER report_received AFTER INSERT ON reports BEGIN
    UPDATE counters SET value = value + 1 WHERE name IN ('reports_received', 'reports_' || NEW.state);
END;
CREATE TRIGGER report_moved AFTER UPDATE OF state ON reports WHEN OLD.state != NEW.state BEGIN
    UPDATE counters SET value = value - 1 WHERE name = 'reports_' || OLD.state;
    UPDATE counters SET value = value + 1 WHERE name = 'reports_' || NEW.state;
END;
CREATE TRIGGER report_kept BEFORE DELETE ON reports WHEN OLD.state NOT IN ('sent', 'discarded') BEGIN
    SELECT RAISE(ABORT, 'a report that is not settled cannot be forgotten');
END;
"""
REPORTS_HAVE_DATES = """
ALTER TABLE reports ADD COLUMN at TEXT NOT NULL DEFAULT '';        -- when it was written; '' in one of before
ALTER TABLE reports ADD COLUMN status TEXT NOT NULL DEFAULT '';    -- what the archive is told
ALTER TABLE reports ADD COLUMN replaces TEXT NOT NULL DEFAULT '';  -- another document that it stands in for
"""
REPORTS_KNOW_THEIR_CONTENT = """
ALTER TABLE reports ADD COLUMN sha256 TEXT NOT NULL DEFAULT '';    -- of the content; '' in one of before
"""
DELIVERIES = """
CREATE TABLE deliver_feed (one INTEGER PRIMARY KEY CHECK (one = 1), cursor TEXT NOT NULL);  -- how far /changes was followed
CREATE TABLE deliver_looks (             -- what is to be looked at anew: a patient's number, a study, a transfer
    kind TEXT NOT NULL, name TEXT NOT NULL, asked INTEGER NOT NULL DEFAULT 1,
    attempts INTEGER NOT NULL DEFAULT 0, not_before REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE deliver_numberless (        -- accepted transfers of patients of whom no number of ours is known
    transfer TEXT PRIMARY KEY, since REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE deliver_studies (
    study TEXT NOT NULL, owner TEXT NOT NULL,
    number TEXT NOT NULL,                -- the patient's, here
    state TEXT NOT NULL,                 -- waiting; done; changed (done, and told of since); gone (not to be seen any more)
    reason TEXT,                         -- why it waits or is gone
    rank TEXT NOT NULL,                  -- the smallest goes first
    coerced_at TEXT NOT NULL,            -- the moment that stands in the coerced files: the same at every try
    asked INTEGER NOT NULL DEFAULT 1,    -- raised with each wish, so that none is lost while one is fulfilled
    attempts INTEGER NOT NULL DEFAULT 0, not_before REAL NOT NULL DEFAULT 0,
    since REAL NOT NULL,
    PRIMARY KEY (study, owner)
) WITHOUT ROWID;
CREATE INDEX deliver_next ON deliver_studies (rank) WHERE state = 'waiting';
CREATE TABLE deliver_instances (
    study TEXT NOT NULL, owner TEXT NOT NULL, sop_instance TEXT NOT NULL,
    sha256 TEXT NOT NULL,                -- of the bytes in the archive
    state TEXT NOT NULL,                 -- waiting, delivered, there (the PACS had it), aside
    reason TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    since REAL NOT NULL,
    PRIMARY KEY (study, owner, sop_instance, sha256)
) WITHOUT ROWID;
CREATE INDEX deliver_sop ON deliver_instances (sop_instance);
CREATE INDEX deliver_states ON deliver_instances (state);
CREATE TABLE deliver_recalls (           -- what is in the PACS and should not stand there unseen
    study TEXT NOT NULL, owner TEXT NOT NULL, reason TEXT NOT NULL, since REAL NOT NULL,
    PRIMARY KEY (study, owner, reason)
) WITHOUT ROWID;
"""
REGISTRATION = """
CREATE TABLE adt_events (                -- what the hospital's registration told, each event of one patient
    digest TEXT PRIMARY KEY,             -- of the message without its time, and the number within it
    control_id TEXT NOT NULL, trigger TEXT NOT NULL,
    number TEXT NOT NULL, other TEXT NOT NULL, birth_date TEXT NOT NULL,
    received_at REAL NOT NULL,
    content TEXT NOT NULL                -- JSON
) WITHOUT ROWID;
CREATE INDEX adt_events_number ON adt_events (number);
CREATE INDEX adt_events_other ON adt_events (other) WHERE other != '';
CREATE INDEX adt_events_arrivals ON adt_events (birth_date) WHERE trigger IN ('A01', 'A04', 'A05');
CREATE TABLE adt_acts (                  -- what follows of it, done or to be done at the archive
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,                  -- patient, link, opening, acceptance
    number TEXT NOT NULL, visit TEXT NOT NULL,
    subject TEXT NOT NULL,               -- institution, transfer or second number
    cause TEXT NOT NULL, actor TEXT NOT NULL,  -- the event, and under which name it acts
    content TEXT NOT NULL,               -- JSON: what is said
    state TEXT NOT NULL,                 -- waiting, held, done; undo, undone; aside, dropped
    reason TEXT,
    result TEXT NOT NULL DEFAULT '',     -- the transfer that was opened, the link that was made
    tried_at REAL,                       -- when first; then the archive may have done it
    attempts INTEGER NOT NULL DEFAULT 0, not_before REAL NOT NULL DEFAULT 0,
    since REAL NOT NULL
);
CREATE INDEX adt_acts_due ON adt_acts (not_before) WHERE state IN ('waiting', 'undo');
CREATE INDEX adt_acts_number ON adt_acts (number, kind);
CREATE INDEX adt_acts_tried ON adt_acts (tried_at) WHERE kind IN ('opening', 'acceptance');
CREATE TABLE adt_proposals (             -- numbers that a person may accept a transfer under
    transfer TEXT NOT NULL, number TEXT NOT NULL, evidence TEXT NOT NULL, against TEXT NOT NULL, since REAL NOT NULL,
    PRIMARY KEY (transfer, number)
) WITHOUT ROWID;
CREATE TABLE adt_counts (                -- how many events came to what, and codes of destinations that are nobody's
    what TEXT NOT NULL, code TEXT NOT NULL DEFAULT '', count INTEGER NOT NULL, last_at REAL NOT NULL,
    PRIMARY KEY (what, code)
) WITHOUT ROWID;
"""
DELIVERIES_ARE_CONFIRMED = """
ALTER TABLE deliver_studies ADD COLUMN opened_by TEXT NOT NULL DEFAULT '[]';  -- JSON: the transfers that open it
ALTER TABLE deliver_studies ADD COLUMN instances INTEGER NOT NULL DEFAULT 0;  -- as the timeline counts them
ALTER TABLE deliver_instances ADD COLUMN sop_class TEXT NOT NULL DEFAULT '';
ALTER TABLE deliver_instances ADD COLUMN series TEXT NOT NULL DEFAULT '';
ALTER TABLE deliver_instances ADD COLUMN confirmed TEXT;      -- by what: commitment, find, journal; NULL: not yet
ALTER TABLE deliver_instances ADD COLUMN recalled TEXT;       -- why this one alone of its study is to be recalled
CREATE INDEX deliver_unconfirmed ON deliver_instances (study, owner) WHERE state = 'delivered' AND confirmed IS NULL;
CREATE TABLE deliver_made (              -- what was made here of a report that the PACS does not take as it is
    sop_instance TEXT PRIMARY KEY, sop_class TEXT NOT NULL, series TEXT NOT NULL,
    study TEXT NOT NULL, owner TEXT NOT NULL, original TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX deliver_made_of ON deliver_made (study, owner, original);
CREATE TABLE deliver_confirmations (     -- studies of which the PACS is to be asked whether it keeps them
    study TEXT NOT NULL, owner TEXT NOT NULL,
    transaction_uid TEXT NOT NULL DEFAULT '',  -- of the request for storage commitment that is open
    attempts INTEGER NOT NULL DEFAULT 0, not_before REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (study, owner)
) WITHOUT ROWID;
CREATE TABLE deliver_patients (          -- our numbers of those whose exams are or were wanted
    number TEXT PRIMARY KEY, name TEXT NOT NULL,   -- under which it is told where no patient may be named
    looked_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX deliver_looked ON deliver_patients (looked_at);
CREATE INDEX deliver_number ON deliver_studies (number);
ALTER TABLE deliver_recalls ADD COLUMN rejected_at REAL;      -- when the PACS took a rejection note
ALTER TABLE deliver_recalls ADD COLUMN rejection TEXT;        -- why it has none
ALTER TABLE deliver_recalls ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliver_recalls ADD COLUMN not_before REAL NOT NULL DEFAULT 0;
ALTER TABLE deliver_numberless ADD COLUMN accepted INTEGER NOT NULL DEFAULT 1;
ALTER TABLE deliver_numberless ADD COLUMN proposal TEXT NOT NULL DEFAULT '';  -- the PACS's number of that patient, perhaps
ALTER TABLE deliver_numberless ADD COLUMN evidence TEXT NOT NULL DEFAULT '';  -- what agrees
"""
ORDERS = """
CREATE TABLE orders (                    -- examinations that are about to be made
    digest TEXT PRIMARY KEY,             -- of the message without its time, and the number within it
    control_id TEXT NOT NULL, number TEXT NOT NULL,
    content TEXT NOT NULL,               -- JSON
    state TEXT NOT NULL,                 -- waiting; done; aside (the archive could not be asked)
    reason TEXT,
    answer TEXT NOT NULL DEFAULT '[]',   -- JSON: exams of other hospitals that are relevant, best first
    attempts INTEGER NOT NULL DEFAULT 0, not_before REAL NOT NULL DEFAULT 0,
    received_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX orders_waiting ON orders (not_before) WHERE state = 'waiting';
CREATE TABLE deliver_ordered (           -- exams that are relevant for what was ordered lately, best first
    number TEXT NOT NULL, study TEXT NOT NULL, owner TEXT NOT NULL, place INTEGER NOT NULL, since REAL NOT NULL,
    PRIMARY KEY (number, study, owner)
) WITHOUT ROWID;
"""
REGISTRATION_IS_LARGE = """
CREATE INDEX adt_acts_patients ON adt_acts (since) WHERE kind = 'patient' AND state = 'waiting';
CREATE INDEX adt_acts_others ON adt_acts (seq) WHERE kind != 'patient' AND state IN ('waiting', 'undo');
CREATE INDEX adt_acts_counted ON adt_acts (kind, state);
CREATE INDEX adt_events_updates ON adt_events (number, received_at) WHERE trigger IN ('A08', 'A31');
"""
TOLD = """
CREATE TABLE told (                      -- what waits for a person, and was written of by mail
    kind TEXT NOT NULL, key TEXT NOT NULL, told_at REAL NOT NULL,
    PRIMARY KEY (kind, key)
) WITHOUT ROWID;
"""
SENT_UNDER_ANOTHER_UID = """
ALTER TABLE instances ADD COLUMN sent_as TEXT;  -- the SOP Instance UID of C-STORE or file meta, where the data set has another
CREATE INDEX instances_sent_as ON instances (sent_as) WHERE sent_as IS NOT NULL;
"""
READABLE = """
CREATE TABLE readable (                  -- since which version of the journal a forwarder reads and writes this one
    one INTEGER PRIMARY KEY CHECK (one = 1), since INTEGER NOT NULL
);
INSERT INTO readable (one, since) VALUES (1, 12);
"""
REPORTS_KNOW_THEIR_EXAM = """
ALTER TABLE reports ADD COLUMN examined TEXT NOT NULL DEFAULT '';  -- when the exam was made, as the message says
"""
SCHEMAS = (
    SCHEMA, REPORTS, REPORTS_HAVE_DATES, REPORTS_KNOW_THEIR_CONTENT, DELIVERIES, REGISTRATION, DELIVERIES_ARE_CONFIRMED, ORDERS,
    REGISTRATION_IS_LARGE, TOLD, SENT_UNDER_ANOTHER_UID, READABLE,
    REPORTS_KNOW_THEIR_EXAM,
)  # fmt: skip
"""What each version of the journal added; an older journal gets what it lacks when it is opened.

A hospital goes back to the version before. So what is added is new tables, indices, and columns that have a default, which
forwarders of before pass over; a version that must do otherwise raises `readable.since` to its own number.
"""

GROUP = 256  # pieces of work in one transaction
LONGEST_PAUSES = {
    "instances": 2 * 3600.0, "commitments": 3600.0, "reports": 12 * 3600.0, "deliver_studies": 3600.0, "deliver_looks": 3600.0,
    "adt_acts": 2 * 3600.0, "orders": 2 * 3600.0, "deliver_confirmations": 86400.0, "deliver_recalls": 86400.0,
}  # fmt: skip
"""Seconds, by table; generously."""
CLOCK_JUMP = 60.0
"""Seconds by which a clock is put, rather than drifts."""
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
                _prepare(self._connection)
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


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    for script in SCHEMAS[version:]:
        for statement in _statements(script):
            connection.execute(statement)
    if version < len(SCHEMAS):  # else nothing is written: it has to open on a full disk too
        connection.execute(f"PRAGMA user_version = {len(SCHEMAS)}")
    connection.execute("COMMIT")
    if version > len(SCHEMAS) < connection.execute("SELECT since FROM readable").fetchone()[0]:
        raise SpoolError(
            "The journal was written by a newer forwarder, and this one cannot read it; install that version again."
            " Nothing of it was changed."
        )


def _statements(script: str) -> Iterator[str]:
    """The statements of a script one by one: `executescript` would commit on its own."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def straighten(journal: Journal, back: float = 0.0) -> None:
    """Put right what a wrong clock put off: what would wait for longer than any pause lasts is due now; what was put off while
    the clock was `back` seconds ahead is due that much earlier. What came in the future tells at a start by how much that was.

    Raises SpoolError.
    """
    now = time.time()

    def work(connection: sqlite3.Connection) -> None:
        last = connection.execute(
            "SELECT max(received_at, coalesce(stored_at, 0)) AS at FROM instances WHERE state IN ('waiting', 'stored')"
            " ORDER BY at DESC LIMIT 1"
        ).fetchone()
        ahead = max(back, last["at"] - now if last is not None and last["at"] > now + CLOCK_JUMP else 0.0)
        for table, longest in LONGEST_PAUSES.items():
            connection.execute(f"UPDATE {table} SET not_before = 0 WHERE not_before > ?", (now + longest,))  # noqa: S608
            if ahead:
                connection.execute(f"UPDATE {table} SET not_before = max(0, not_before - ?) WHERE not_before > ?", (ahead, now))  # noqa: S608

    journal.note(work)


def tally(connection: sqlite3.Connection) -> dict[str, int]:
    """The counters, of one moment."""
    return {row["name"]: row["value"] for row in connection.execute("SELECT name, value FROM counters")}
