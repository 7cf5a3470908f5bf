"""What is to be brought into the PACS and what became of it: announced = delivered + there + aside + waiting, always."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from forwarder.deliver.rules import Exam, Patient, rank
from forwarder.spool.journal import Journal

STATES = ("waiting", "delivered", "there", "aside")
GONE, CORRECTED, LINKED_OTHERWISE = "no-longer-shared", "corrected", "linked-otherwise"
WITHDRAWN, ENDED = "withdrawn", "transfer-ended"
SAFETY = (GONE, CORRECTED, LINKED_OTHERWISE)
"""Why something is to be recalled: these concern a patient's safety; where a transfer merely ended, nobody has to act."""


@dataclass(frozen=True, slots=True)
class Look:
    """Something to look at anew: `kind` is patient (a number of ours), study (its UID) or transfer (its id)."""

    kind: str
    name: str
    asked: int = 0
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """A study to bring into the PACS."""

    study: str
    owner: str
    number: str
    coerced_at: datetime
    asked: int
    attempts: int


@dataclass(frozen=True, slots=True)
class WaitingInstance:
    """An instance of a study that is not in the PACS yet."""

    sop_instance: str
    sha256: str
    attempts: int


class Ledger:
    """The journal's tables of deliveries. Every method raises SpoolError."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    # The feed

    def cursor(self) -> str | None:
        """How far the feed was followed; None before the first time."""
        with self._journal.read() as connection:
            row = connection.execute("SELECT cursor FROM deliver_feed").fetchone()
        return None if row is None else str(row["cursor"])

    def followed(self, cursor: str, looks: Collection[tuple[str, str]], ended: Mapping[str, str]) -> None:
        """The feed was read up to `cursor`: these (kind, name) are to be looked at; `ended`: studies that ended, with why."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO deliver_feed VALUES (1, ?)", (cursor,))
            for kind, name in looks:
                _ask(connection, kind, name)
            for study, reason in ended.items():
                _recall(connection, "study = ?", (study,), reason)

        self._journal.write(work)

    def number_of(self, study: str) -> str | None:
        """The patient's number under which a study was wanted."""
        with self._journal.read() as connection:
            row = connection.execute("SELECT number FROM deliver_studies WHERE study = ? LIMIT 1", (study,)).fetchone()
        return None if row is None else str(row["number"])

    def next_look(self) -> Look | None:
        """What is to be looked at next."""
        with self._journal.read() as connection:
            row = connection.execute(
                "SELECT kind, name, asked, attempts FROM deliver_looks WHERE asked > 0 AND not_before <= ?"
                " ORDER BY not_before LIMIT 1",
                (time.time(),),
            ).fetchone()
        return None if row is None else Look(*row)

    def look_later(self, look: Look, seconds: float) -> None:
        """It could not be looked at now."""
        self._journal.write(
            lambda connection: connection.execute(
                "UPDATE deliver_looks SET attempts = attempts + 1, not_before = ? WHERE kind = ? AND name = ?",
                (time.time() + seconds, look.kind, look.name),
            )
        )

    def looked(self, look: Look, more: Collection[tuple[str, str]] = (), numberless: bool = False) -> None:
        """It was looked at, and these are to be looked at for it. `numberless`: no number of ours is known of a transfer."""

        def work(connection: sqlite3.Connection) -> None:
            _done(connection, look)
            for kind, name in more:
                _ask(connection, kind, name)
            if look.kind == "transfer":
                if numberless:
                    connection.execute("INSERT OR IGNORE INTO deliver_numberless VALUES (?, ?)", (look.name, time.time()))
                else:
                    connection.execute("DELETE FROM deliver_numberless WHERE transfer = ?", (look.name,))

        self._journal.write(work)

    def planned(self, look: Look, found: Patient, exams: Sequence[Exam], now: datetime) -> None:
        """A patient was looked at: these exams are wanted, in this order. What was brought and may not be seen any more is
        listed for a recall; what waits and is not wanted any more waits no longer."""

        def work(connection: sqlite3.Connection) -> None:
            _done(connection, look)
            visible = {(exam.study, exam.owner) for exam in found.exams}
            wanted = {(exam.study, exam.owner) for exam in exams}
            for place, exam in enumerate(exams):
                if _under_another(connection, exam, found.number):
                    _recall(connection, "study = ? AND owner = ?", (exam.study, exam.owner), LINKED_OTHERWISE)
                connection.execute(
                    "INSERT INTO deliver_studies (study, owner, number, state, rank, coerced_at, since)"
                    " VALUES (?, ?, ?, 'waiting', ?, ?, ?)"
                    " ON CONFLICT (study, owner) DO UPDATE SET state = 'waiting', reason = NULL, rank = excluded.rank,"
                    " asked = asked + 1, attempts = 0, not_before = 0, number = excluded.number",
                    (exam.study, exam.owner, found.number, rank(found, place), now.astimezone(UTC).isoformat(), time.time()),
                )
                connection.execute(
                    "DELETE FROM deliver_recalls WHERE study = ? AND owner = ? AND reason IN (?, ?)",
                    (exam.study, exam.owner, GONE, ENDED),
                )
            rows = connection.execute(
                "SELECT study, owner FROM deliver_studies WHERE number = ? AND state != ?", (found.number, "gone")
            ).fetchall()
            for study, owner in rows:
                if (study, owner) in wanted:
                    continue
                if (study, owner) not in visible:
                    why = ENDED if owner not in found.parties else GONE
                    _recall(connection, "study = ? AND owner = ?", (study, owner), why)
                connection.execute("UPDATE deliver_studies SET state = 'gone' WHERE study = ? AND owner = ?", (study, owner))
                connection.execute(
                    "DELETE FROM deliver_instances WHERE study = ? AND owner = ? AND state = 'waiting'", (study, owner)
                )

        self._journal.write(work)

    # The way into the PACS

    def next_task(self) -> Task | None:
        """The study to bring next."""
        with self._journal.read() as connection:
            row = connection.execute(
                "SELECT study, owner, number, coerced_at, asked, attempts FROM deliver_studies"
                " WHERE state = 'waiting' AND not_before <= ? ORDER BY rank LIMIT 1",
                (time.time(),),
            ).fetchone()
        if row is None:
            return None
        study, owner, number, coerced_at, asked, attempts = row
        return Task(study, owner, number, datetime.fromisoformat(coerced_at), asked, attempts)

    def announced(self, task: Task, instances: Mapping[str, str]) -> list[WaitingInstance]:
        """The archive's list of a study, SHA-256 by SOP Instance UID; what of it is not in the PACS yet.

        Other bytes of an instance that was brought are a correction: they wait for a person, and the study is to be recalled.
        """

        def work(connection: sqlite3.Connection) -> list[WaitingInstance]:
            known: dict[str, list[sqlite3.Row]] = {}
            for row in connection.execute(
                "SELECT sop_instance, sha256, state, attempts FROM deliver_instances WHERE study = ? AND owner = ?",
                (task.study, task.owner),
            ):
                known.setdefault(row["sop_instance"], []).append(row)
            corrected = False
            for sop, sha256 in instances.items():
                before = known.get(sop, [])
                if any(row["sha256"] == sha256 for row in before):
                    continue
                brought = any(row["state"] in ("delivered", "there") for row in before)
                corrected = corrected or brought
                connection.execute(
                    "DELETE FROM deliver_instances WHERE study = ? AND owner = ? AND sop_instance = ? AND state = 'waiting'",
                    (task.study, task.owner, sop),
                )
                connection.execute(
                    "INSERT INTO deliver_instances (study, owner, sop_instance, sha256, since, state, reason)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (task.study, task.owner, sop, sha256, time.time(), *(("aside", CORRECTED) if brought else ("waiting", None))),
                )
            gone = [sop for sop in known if sop not in instances]
            for sop in gone:
                connection.execute(
                    "DELETE FROM deliver_instances WHERE study = ? AND owner = ? AND sop_instance = ? AND state = 'waiting'",
                    (task.study, task.owner, sop),
                )
                if any(row["state"] == "delivered" for row in known[sop]):
                    _recall(connection, "study = ? AND owner = ?", (task.study, task.owner), WITHDRAWN)
            if corrected:
                _recall(connection, "study = ? AND owner = ?", (task.study, task.owner), CORRECTED)
            return [
                WaitingInstance(*row)
                for row in connection.execute(
                    "SELECT sop_instance, sha256, attempts FROM deliver_instances"
                    " WHERE study = ? AND owner = ? AND state = 'waiting' ORDER BY sop_instance",
                    (task.study, task.owner),
                )
            ]

        return self._journal.write(work)

    def settle(self, task: Task, instance: WaitingInstance, state: str, reason: str | None = None) -> None:
        """What became of an instance: `delivered`, `there` (the PACS had it), `aside` (it takes a person)."""
        self._journal.write(
            lambda connection: connection.execute(
                "UPDATE deliver_instances SET state = ?, reason = ?, since = ?"
                " WHERE study = ? AND owner = ? AND sop_instance = ? AND sha256 = ?",
                (state, reason, time.time(), task.study, task.owner, instance.sop_instance, instance.sha256),
            )
        )

    def failed(self, task: Task, instance: WaitingInstance) -> None:
        """It was tried, and nobody knows why it failed."""
        self._journal.write(
            lambda connection: connection.execute(
                "UPDATE deliver_instances SET attempts = attempts + 1"
                " WHERE study = ? AND owner = ? AND sop_instance = ? AND sha256 = ?",
                (task.study, task.owner, instance.sop_instance, instance.sha256),
            )
        )

    def put_aside(self, task: Task, reason: str) -> None:
        """All that waits of a study takes a person."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE deliver_instances SET state = 'aside', reason = ? WHERE study = ? AND owner = ? AND state = 'waiting'",
                (reason, task.study, task.owner),
            )
            _finish(connection, task)

        self._journal.write(work)

    def finish(self, task: Task) -> None:
        """All of a study is settled; unless it was asked for again meanwhile."""
        self._journal.write(lambda connection: _finish(connection, task))

    def later(self, task: Task, seconds: float, reason: str) -> None:
        """The rest of a study is tried again."""
        self._journal.write(
            lambda connection: connection.execute(
                "UPDATE deliver_studies SET attempts = attempts + 1, not_before = ?, reason = ? WHERE study = ? AND owner = ?",
                (time.time() + seconds, reason, task.study, task.owner),
            )
        )

    def was_brought(self, sop_instance: str) -> bool:
        """Whether this instance came into the PACS from here: what the PACS then sends us is an echo."""
        with self._journal.read() as connection:
            row = connection.execute(
                "SELECT 1 FROM deliver_instances WHERE sop_instance = ? AND state IN ('delivered', 'there')", (sop_instance,)
            ).fetchone()
        return row is not None


def retry(connection: sqlite3.Connection, *, everything: bool) -> int:
    """Everything is tried now, and where `everything` is to be, what was put aside waits again; how many instances that are."""
    done = 0
    if not _are_known(connection):
        return done
    if everything:
        done = connection.execute(
            "UPDATE deliver_instances SET state = 'waiting', reason = NULL, attempts = 0 WHERE state = 'aside'"
        ).rowcount
    connection.execute(
        "UPDATE deliver_studies SET state = 'waiting', asked = asked + 1, attempts = 0, not_before = 0"
        " WHERE state = 'waiting' OR EXISTS (SELECT 1 FROM deliver_instances AS one WHERE one.study ="
        " deliver_studies.study AND one.owner = deliver_studies.owner AND one.state = 'waiting')"
    )
    connection.execute("UPDATE deliver_looks SET not_before = 0")
    return done


def summary(connection: sqlite3.Connection) -> dict[str, Any]:
    """How deliveries stand, without patient data: counts and reasons. Zeros in a journal from before there were deliveries."""
    if not _are_known(connection):
        nothing = {"announced": 0, **dict.fromkeys(STATES, 0), "studies_waiting": 0, "oldest_waiting_seconds": None}
        return nothing | {"waiting_for": {}, "aside_reasons": {}, "numberless": 0, "recalls": {}}
    counts = dict.fromkeys(STATES, 0) | dict(
        connection.execute("SELECT state, count(*) FROM deliver_instances GROUP BY state").fetchall()
    )
    reasons = connection.execute(
        "SELECT reason, count(*) FROM deliver_instances WHERE state = 'aside' GROUP BY reason ORDER BY reason"
    ).fetchall()
    recalls = connection.execute("SELECT reason, count(*) FROM deliver_recalls GROUP BY reason ORDER BY reason").fetchall()
    waiting = connection.execute("SELECT count(*), min(since) FROM deliver_studies WHERE state = 'waiting'").fetchone()
    why = connection.execute(
        "SELECT reason, count(*) FROM deliver_studies WHERE state = 'waiting' AND reason IS NOT NULL GROUP BY reason"
    ).fetchall()
    return {
        "announced": sum(counts[state] for state in STATES),
        **counts,
        "studies_waiting": waiting[0],
        "oldest_waiting_seconds": None if waiting[1] is None else round(max(0.0, time.time() - waiting[1]), 1),
        "waiting_for": {str(reason): count for reason, count in why},
        "aside_reasons": {str(reason): count for reason, count in reasons},
        "numberless": connection.execute("SELECT count(*) FROM deliver_numberless").fetchone()[0],
        "recalls": {str(reason): count for reason, count in recalls},
    }


@dataclass(frozen=True, slots=True)
class Recall:
    """An exam in the PACS that somebody has to know of: of which hospital, why, since when (seconds), and whether at once."""

    study: str
    owner: str
    reason: str
    since: float

    @property
    def urgent(self) -> bool:
        """Whether it concerns a patient's safety."""
        return self.reason in SAFETY


def recalls(connection: sqlite3.Connection) -> list[Recall]:
    """What is to be recalled, the gravest first; what a transfer that ended had opened comes last."""
    if not _are_known(connection):
        return []
    rows = connection.execute(
        "SELECT study, owner, reason, since FROM deliver_recalls ORDER BY reason = ?, reason NOT IN (?, ?, ?), since DESC",
        (ENDED, *SAFETY),
    )
    return [Recall(*row) for row in rows]


def _are_known(connection: sqlite3.Connection) -> bool:
    """Whether the journal is one of a forwarder that knows of deliveries, or is not yet."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'deliver_recalls'").fetchone() is not None


def _under_another(connection: sqlite3.Connection, exam: Exam, number: str) -> bool:
    row = connection.execute(
        "SELECT 1 FROM deliver_studies WHERE study = ? AND owner = ? AND number != ?", (exam.study, exam.owner, number)
    ).fetchone()
    return row is not None


def _ask(connection: sqlite3.Connection, kind: str, name: str) -> None:
    connection.execute(
        "INSERT INTO deliver_looks (kind, name) VALUES (?, ?)"
        " ON CONFLICT (kind, name) DO UPDATE SET asked = asked + 1, attempts = 0, not_before = 0",
        (kind, name),
    )


def _done(connection: sqlite3.Connection, look: Look) -> None:
    """It was looked at as it was when it was asked for; if it was asked for again meanwhile, it is looked at again."""
    connection.execute("DELETE FROM deliver_looks WHERE kind = ? AND name = ? AND asked = ?", (look.kind, look.name, look.asked))


def _finish(connection: sqlite3.Connection, task: Task) -> None:
    connection.execute(
        "UPDATE deliver_studies SET state = 'done', reason = NULL, attempts = 0 WHERE study = ? AND owner = ? AND asked = ?"
        " AND state = 'waiting'",
        (task.study, task.owner, task.asked),
    )


def _recall(connection: sqlite3.Connection, where: str, values: tuple[str, ...], reason: str) -> None:
    """List what was brought of these studies for a recall."""
    connection.execute(
        "INSERT OR IGNORE INTO deliver_recalls SELECT study, owner, ?, ? FROM deliver_studies WHERE "  # noqa: S608
        f"{where} AND EXISTS (SELECT 1 FROM deliver_instances AS one WHERE one.study = deliver_studies.study"
        " AND one.owner = deliver_studies.owner AND one.state = 'delivered')",
        (reason, time.time(), *values),
    )
