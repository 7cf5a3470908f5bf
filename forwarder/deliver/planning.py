"""What of a patient is wanted, in which order, and what may not be seen any more."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from forwarder.deliver.deliveries import Brought, Look, RecallReason
from forwarder.deliver.rules import ExamElsewhere, Patient
from forwarder.deliver.tables import Tables, ask_to_look, looked_at, recall

ORDERED_SECONDS = 7 * 86400.0
"""For how long what is relevant for an order goes first."""
FEED_SECONDS = 20.0
"""How long the PACS is not told of what is only known not to be seen any more: the feed may yet say that it was withdrawn."""


class Planning(Tables):
    """What is wanted. Every method raises SpoolError."""

    def brought(self, number: str) -> list[Brought]:
        """What is or was to be brought under a number and is not gone."""
        with self._journal.read() as connection:
            rows = connection.execute(
                "SELECT study, owner, opened_by FROM deliver_studies WHERE number = ? AND state != 'gone'", (number,)
            )
            return [Brought(study, owner, tuple(json.loads(opened_by))) for study, owner, opened_by in rows]

    def planned(
        self,
        look: Look,
        found: Patient,
        ranked: Sequence[tuple[ExamElsewhere, str]],
        gone: Mapping[tuple[str, str], RecallReason],
        now: datetime,
    ) -> None:
        """A patient was looked at: these exams are wanted, each with its rank. `gone`: (study, owner) of what was brought and
        may not be seen any more, with the reason; it is listed for a recall. What waits and is not wanted waits no longer."""

        def work(connection: sqlite3.Connection) -> None:
            looked_at(connection, look)
            wanted = {(exam.study, exam.owner) for exam, _ in ranked}
            if ranked:
                connection.execute(
                    "INSERT INTO deliver_patients (number, name, looked_at) VALUES (?, ?, ?)"
                    " ON CONFLICT (number) DO UPDATE SET looked_at = excluded.looked_at",
                    (found.number, secrets.token_hex(6), time.time()),
                )
            for exam, rank in ranked:
                _want(connection, exam, found.number, rank, now)
            rows = connection.execute(
                "SELECT study, owner FROM deliver_studies WHERE number = ? AND state != 'gone'", (found.number,)
            ).fetchall()
            for study, owner in rows:
                if (study, owner) in wanted:
                    continue
                withdrawn = connection.execute(
                    "SELECT 1 FROM deliver_recalls WHERE study = ? AND owner = ? AND reason = ?",
                    (study, owner, RecallReason.WITHDRAWN),
                ).fetchone()
                if (study, owner) in gone and not withdrawn:
                    reason = gone[(study, owner)]
                    wait = FEED_SECONDS if reason is RecallReason.NO_LONGER_SHARED else 0.0
                    recall(connection, "study = ? AND owner = ?", (study, owner), reason, wait)
                connection.execute("UPDATE deliver_studies SET state = 'gone' WHERE study = ? AND owner = ?", (study, owner))
                connection.execute("DELETE FROM deliver_confirmations WHERE study = ? AND owner = ?", (study, owner))
                connection.execute(
                    "DELETE FROM deliver_instances WHERE study = ? AND owner = ? AND state = 'waiting'", (study, owner)
                )

        self._journal.write(work)

    def to_the_front(self, number: str, relevant: Sequence[tuple[str, str]]) -> None:
        """These (study, owner) are relevant for an exam that was ordered: the patient is looked at anew with them first."""
        now = time.time()

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM deliver_ordered WHERE since < ?", (now - ORDERED_SECONDS,))
            for place, (study, owner) in enumerate(relevant):
                connection.execute(
                    "INSERT OR REPLACE INTO deliver_ordered (number, study, owner, place, since) VALUES (?, ?, ?, ?, ?)",
                    (number, study, owner, place, now),
                )
            ask_to_look(connection, "patient", number)

        self._journal.write(work)

    def ordered(self, number: str) -> list[tuple[str, str]]:
        """(study, owner) of what is relevant for exams of this patient that were ordered lately, best first."""
        with self._journal.read() as connection:
            rows = connection.execute(
                "SELECT study, owner FROM deliver_ordered WHERE number = ? AND since > ? ORDER BY since DESC, place",
                (number, time.time() - ORDERED_SECONDS),
            ).fetchall()
        return [(row[0], row[1]) for row in rows]


def _want(connection: sqlite3.Connection, exam: ExamElsewhere, number: str, rank: str, now: datetime) -> None:
    """It waits, unless it was brought and is as it was: a patient is looked at for each exam, and has many."""
    key = (exam.study, exam.owner)
    other = connection.execute(
        "SELECT 1 FROM deliver_studies WHERE study = ? AND owner = ? AND number != ?", (*key, number)
    ).fetchone()
    if other is not None:
        recall(connection, "study = ? AND owner = ?", key, RecallReason.LINKED_OTHERWISE)
    connection.execute(
        "INSERT INTO deliver_studies (study, owner, number, state, rank, coerced_at, since, opened_by, instances)"
        " VALUES (?, ?, ?, 'waiting', ?, ?, ?, ?, ?)"
        " ON CONFLICT (study, owner) DO UPDATE SET"
        " state = CASE WHEN state = 'done' AND instances = excluded.instances AND number = excluded.number"
        " THEN 'done' ELSE 'waiting' END,"
        " asked = asked + (state = 'gone' OR instances != excluded.instances OR number != excluded.number),"
        " reason = NULL, rank = excluded.rank, attempts = 0, not_before = 0, number = excluded.number,"
        " opened_by = excluded.opened_by, instances = excluded.instances",
        (
            *key, number, rank, now.astimezone(UTC).isoformat(), time.time(), json.dumps(exam.opened_by), exam.instances,
        ),
    )  # fmt: skip
    connection.execute(
        "DELETE FROM deliver_recalls WHERE study = ? AND owner = ? AND reason IN (?, ?) AND rejected_at IS NULL",
        (*key, RecallReason.NO_LONGER_SHARED, RecallReason.ENDED),
    )
