"""The tables of deliveries in the journal, and the statements that several rooms of the ledger share."""

from __future__ import annotations

import sqlite3
import time

from forwarder.deliver.deliveries import InPacs, Look, RecallReason, Task
from forwarder.spool.journal import Journal


class Tables:
    """The journal, with the tables of deliveries."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal


def are_known(connection: sqlite3.Connection) -> bool:
    """Whether the journal is one of a forwarder that knows of deliveries as this one does, or is not yet."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'deliver_made'").fetchone() is not None


def ask_to_look(connection: sqlite3.Connection, kind: str, name: str) -> None:
    """Have something looked at before all that was asked for earlier: somebody waits for the patient who was accepted last."""
    connection.execute(
        "INSERT INTO deliver_looks (kind, name, not_before) VALUES (?, ?, ?)"
        " ON CONFLICT (kind, name) DO UPDATE SET asked = asked + 1, attempts = 0, not_before = excluded.not_before",
        (kind, name, -time.time()),  # the least goes first
    )


def look_later(connection: sqlite3.Connection, look: Look, seconds: float) -> None:
    connection.execute(
        "UPDATE deliver_looks SET attempts = attempts + 1, not_before = ? WHERE kind = ? AND name = ?",
        (time.time() + seconds, look.kind, look.name),
    )


def looked_at(connection: sqlite3.Connection, look: Look) -> None:
    """It was looked at as it was when it was asked for; if it was asked for again meanwhile, it is looked at again."""
    connection.execute("DELETE FROM deliver_looks WHERE kind = ? AND name = ? AND asked = ?", (look.kind, look.name, look.asked))


def finish_study(connection: sqlite3.Connection, task: Task) -> None:
    key = {"study": task.study, "owner": task.owner, "asked": task.asked}
    connection.execute(
        "UPDATE deliver_studies SET state = 'done', reason = NULL, attempts = 0"
        " WHERE study = :study AND owner = :owner AND asked = :asked AND state = 'waiting'",
        key,
    )
    connection.execute(
        "INSERT OR IGNORE INTO deliver_confirmations (study, owner) SELECT :study, :owner WHERE EXISTS (SELECT 1 FROM"
        " deliver_instances WHERE study = :study AND owner = :owner AND state = 'delivered' AND confirmed IS NULL)",
        key,
    )


def recall(
    connection: sqlite3.Connection, where: str, values: tuple[str, ...], reason: RecallReason, seconds: float = 0.0
) -> None:
    """List what was brought of these studies for a recall, of which the PACS is told after so many seconds."""
    now = time.time()
    connection.execute(
        "INSERT OR IGNORE INTO deliver_recalls (study, owner, reason, since, not_before)"  # noqa: S608
        f" SELECT study, owner, ?, ?, ? FROM deliver_studies WHERE {where} AND EXISTS"
        " (SELECT 1 FROM deliver_instances AS instance WHERE instance.study = deliver_studies.study"
        " AND instance.owner = deliver_studies.owner AND instance.state = 'delivered')",
        (reason, now, now + seconds, *values),
    )


def in_pacs(connection: sqlite3.Connection, study: str, owner: str, condition: str = "", *values: str) -> tuple[InPacs, ...]:
    """What of a study came into the PACS from here: what was made of a report stands for it."""
    rows = connection.execute(
        "SELECT coalesce(made.sop_instance, instance.sop_instance), coalesce(made.sop_class, instance.sop_class),"  # noqa: S608
        " coalesce(made.series, instance.series), instance.sop_instance FROM deliver_instances AS instance"
        " LEFT JOIN deliver_made AS made"
        " ON made.study = instance.study AND made.owner = instance.owner AND made.original = instance.sop_instance"
        f" WHERE instance.study = ? AND instance.owner = ? AND instance.state = 'delivered' {condition} ORDER BY 1",
        (study, owner, *values),
    )
    return tuple(InPacs(*row) for row in rows)
