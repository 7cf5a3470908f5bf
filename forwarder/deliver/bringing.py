"""The way into the PACS: what is next, what the archive lists of it, and what became of each instance."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Mapping
from datetime import datetime

from forwarder.deliver.deliveries import DeliveryState, InPacs, RecallReason, Task, WaitingInstance
from forwarder.deliver.tables import Tables, finish_study, recall
from forwarder.retrieve.instances import Instance


class Bringing(Tables):
    """What is brought. Every method raises SpoolError."""

    def next_task(self) -> Task | None:
        """The study to bring next."""
        with self._journal.read() as connection:
            row = connection.execute(
                "SELECT study, owner, number, coerced_at, asked, attempts, rank FROM deliver_studies"
                " WHERE state = 'waiting' AND not_before <= ? ORDER BY rank LIMIT 1",
                (time.time(),),
            ).fetchone()
        if row is None:
            return None
        study, owner, number, coerced_at, *rest = row
        return Task(study, owner, number, datetime.fromisoformat(coerced_at), *rest)

    def first_rank(self) -> str | None:
        """The rank of the study that is to be brought next."""
        with self._journal.read() as connection:
            (rank,) = connection.execute(
                "SELECT min(rank) FROM deliver_studies WHERE state = 'waiting' AND not_before <= ?", (time.time(),)
            ).fetchone()
        return None if rank is None else str(rank)

    def announced(self, task: Task, listed: Mapping[str, Instance]) -> list[WaitingInstance]:
        """The archive's list of a study, by SOP Instance UID; what of it is not in the PACS yet.

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
            for sop, instance in listed.items():
                before = known.get(sop, [])
                if any(row["sha256"] == instance.sha256 for row in before):
                    continue
                brought = any(row["state"] in (DeliveryState.DELIVERED, DeliveryState.THERE) for row in before)
                corrected = corrected or brought
                if brought:
                    _mark(connection, task, sop, RecallReason.CORRECTED)
                _drop_waiting(connection, task, sop)
                connection.execute(
                    "INSERT INTO deliver_instances (study, owner, sop_instance, sha256, since, sop_class, series, state, reason)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        task.study, task.owner, sop, instance.sha256, time.time(), instance.sop_class, instance.series,
                        *((DeliveryState.ASIDE, RecallReason.CORRECTED) if brought else (DeliveryState.WAITING, None)),
                    ),
                )  # fmt: skip
            for sop in [sop for sop in known if sop not in listed]:
                _drop_waiting(connection, task, sop)
                if any(row["state"] == DeliveryState.DELIVERED for row in known[sop]):
                    _mark(connection, task, sop, RecallReason.WITHDRAWN)
                    recall(connection, "study = ? AND owner = ?", (task.study, task.owner), RecallReason.WITHDRAWN)
            if corrected:
                recall(connection, "study = ? AND owner = ?", (task.study, task.owner), RecallReason.CORRECTED)
            return [
                WaitingInstance(*row)
                for row in connection.execute(
                    "SELECT sop_instance, sha256, attempts FROM deliver_instances"
                    " WHERE study = ? AND owner = ? AND state = 'waiting' ORDER BY sop_instance",
                    (task.study, task.owner),
                )
            ]

        return self._journal.write(work)

    def settle(
        self,
        task: Task,
        instance: WaitingInstance,
        state: DeliveryState,
        reason: str | None = None,
        made: Collection[InPacs] = (),
    ) -> None:
        """What became of an instance; `made`: what came into the PACS in its place."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE deliver_instances SET state = ?, reason = ?, since = ?"
                " WHERE study = ? AND owner = ? AND sop_instance = ? AND sha256 = ?",
                (state, reason, time.time(), task.study, task.owner, instance.sop_instance, instance.sha256),
            )
            for came in made:
                connection.execute(
                    "INSERT OR IGNORE INTO deliver_made (sop_instance, sop_class, series, study, owner, original)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (came.sop_instance, came.sop_class, came.series, task.study, task.owner, came.original),
                )

        self._journal.note(work)  # where a power cut takes it back, the PACS is asked again

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
            finish_study(connection, task)

        self._journal.write(work)

    def finish(self, task: Task) -> None:
        """All of a study is settled; unless it was asked for again meanwhile. What was delivered of it is to be confirmed."""
        self._journal.write(lambda connection: finish_study(connection, task))

    def begin_anew(self) -> set[str]:
        """After a start: what was asked of the PACS may never have reached it, and is asked again. The SHA-256 of what waits."""

        def work(connection: sqlite3.Connection) -> set[str]:
            connection.execute("UPDATE deliver_confirmations SET attempts = 0, not_before = 0 WHERE transaction_uid != ''")
            return {row["sha256"] for row in connection.execute("SELECT sha256 FROM deliver_instances WHERE state = 'waiting'")}

        return self._journal.write(work)

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
                "SELECT 1 FROM deliver_instances WHERE sop_instance = :uid AND state IN ('delivered', 'there')"
                " UNION ALL SELECT 1 FROM deliver_made WHERE sop_instance = :uid",
                {"uid": sop_instance},
            ).fetchone()
        return row is not None


def _mark(connection: sqlite3.Connection, task: Task, sop_instance: str, reason: RecallReason) -> None:
    connection.execute(
        "UPDATE deliver_instances SET recalled = ? WHERE study = ? AND owner = ? AND sop_instance = ? AND state = 'delivered'",
        (reason, task.study, task.owner, sop_instance),
    )


def _drop_waiting(connection: sqlite3.Connection, task: Task, sop_instance: str) -> None:
    connection.execute(
        "DELETE FROM deliver_instances WHERE study = ? AND owner = ? AND sop_instance = ? AND state = 'waiting'",
        (task.study, task.owner, sop_instance),
    )
