"""The journal's tables, by the version that added them, and how a journal of before gets what it lacks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from forwarder.errors import SpoolError

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
MERGES = """
CREATE TABLE adt_merges (                -- merges that a person has to look at
    number TEXT NOT NULL, other TEXT NOT NULL,   -- that stays, that was given up
    concerns TEXT NOT NULL,              -- JSON: why
    since REAL NOT NULL,
    PRIMARY KEY (number, other)
) WITHOUT ROWID;
"""
SCHEMAS = (
    SCHEMA, REPORTS, REPORTS_HAVE_DATES, REPORTS_KNOW_THEIR_CONTENT, DELIVERIES, REGISTRATION, DELIVERIES_ARE_CONFIRMED, ORDERS,
    REGISTRATION_IS_LARGE, TOLD, SENT_UNDER_ANOTHER_UID, READABLE, REPORTS_KNOW_THEIR_EXAM,
    MERGES,
)  # fmt: skip
"""What each version of the journal added; an older journal gets what it lacks when it is opened.

A hospital goes back to the version before. So what is added is new tables, indices, and columns that have a default, which
forwarders of before pass over; a version that must do otherwise raises `readable.since` to its own number.
"""


def upgrade(connection: sqlite3.Connection) -> None:
    """Give a journal of before, or an empty file, what it lacks, in one transaction.

    Raises sqlite3.Error; SpoolError for a journal of later that says that this forwarder does not read it.
    """
    connection.execute("BEGIN IMMEDIATE")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    for script in SCHEMAS[version:]:
        for statement in statements(script):
            connection.execute(statement)
    if version < len(SCHEMAS):  # else nothing is written: it has to open on a full disk too
        connection.execute(f"PRAGMA user_version = {len(SCHEMAS)}")
    connection.execute("COMMIT")
    if version > len(SCHEMAS) < connection.execute("SELECT since FROM readable").fetchone()[0]:
        raise SpoolError(
            "The journal was written by a newer forwarder, and this one cannot read it; install that version again."
            " Nothing of it was changed."
        )


def statements(script: str) -> Iterator[str]:
    """The statements of a script one by one: `executescript` would commit on its own."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
