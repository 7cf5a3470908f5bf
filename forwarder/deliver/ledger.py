"""What is to be brought into the PACS and what became of it: announced = delivered + there + aside + waiting, always."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from forwarder.deliver.rules import ExamElsewhere, Patient
from forwarder.retrieve.instances import Instance
from forwarder.spool.journal import Journal


class DeliveryState(StrEnum):
    """What has become of an instance that is to be in the PACS."""

    WAITING = "waiting"
    DELIVERED = "delivered"  # the PACS took it from us
    THERE = "there"  # the PACS had it already
    ASIDE = "aside"  # it takes a person


class StudyState(StrEnum):
    """Whether something is to be done for a study."""

    WAITING = "waiting"
    DONE = "done"
    GONE = "gone"  # it may not be seen any more, or is not wanted


class Confirmation(StrEnum):
    """By what we know that the PACS keeps an instance that it took."""

    COMMITMENT = "commitment"  # storage commitment, PS3.4 J
    FIND = "find"  # C-FIND at the IMAGE level
    JOURNAL = "journal"  # by its answer to C-STORE alone: it does neither


class RecallReason(StrEnum):
    """Why something in the PACS is not to stand there unseen, the gravest first."""

    CORRECTED = "corrected"
    LINKED_OTHERWISE = "linked-otherwise"
    WITHDRAWN = "withdrawn"
    NO_LONGER_SHARED = "no-longer-shared"  # the patient objected, or the owner protected it
    ENDED = "transfer-ended"  # somebody decided on it, and nobody has to act


SAFETY = frozenset({RecallReason.CORRECTED, RecallReason.LINKED_OTHERWISE})
"""These concern a patient's safety."""
GRAVITY = tuple(RecallReason)


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
    rank: str


@dataclass(frozen=True, slots=True)
class WaitingInstance:
    """An instance of a study that is not in the PACS yet."""

    sop_instance: str
    sha256: str
    attempts: int


@dataclass(frozen=True, slots=True)
class InPacs:
    """An instance that came into the PACS from here: as it is there, and of which of the archive's it was made."""

    sop_instance: str
    sop_class: str
    series: str
    original: str


@dataclass(frozen=True, slots=True)
class ToConfirm:
    """A study of which the PACS took instances, and has not said yet that it keeps them."""

    study: str
    owner: str
    transaction_uid: str
    attempts: int
    instances: tuple[InPacs, ...]


@dataclass(frozen=True, slots=True)
class ToReject:
    """A study of which the PACS is to be told that it must not be used, and why."""

    study: str
    owner: str
    number: str
    reason: RecallReason
    attempts: int
    since: float
    instances: tuple[InPacs, ...]


@dataclass(frozen=True, slots=True)
class Brought:
    """A study that was brought under a number, and by which transfers it could be seen."""

    study: str
    owner: str
    opened_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Numberless:
    """A transfer for which no number of ours is known; `proposal` is one of the PACS's, for a person to judge by `evidence`."""

    accepted: bool
    proposal: str = ""
    evidence: str = ""


ORDERED_SECONDS = 7 * 86400.0
"""For how long what is relevant for an order goes first."""


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

    def followed(self, cursor: str, looks: Collection[tuple[str, str]], withdrawn: Collection[str]) -> None:
        """The feed was read up to `cursor`: these (kind, name) are to be looked at; `withdrawn`: studies that were, in whole."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO deliver_feed VALUES (1, ?)", (cursor,))
            for kind, name in looks:
                _ask(connection, kind, name)
            for study in withdrawn:
                _recall(connection, "study = ?", (study,), RecallReason.WITHDRAWN)

        self._journal.write(work)

    def number_of(self, study: str) -> str | None:
        """The patient's number under which a study was wanted."""
        with self._journal.read() as connection:
            row = connection.execute("SELECT number FROM deliver_studies WHERE study = ? LIMIT 1", (study,)).fetchone()
        return None if row is None else str(row["number"])

    def numbers_by(self, transfer: str) -> list[str]:
        """The numbers under which studies were wanted since this transfer opens them."""
        with self._journal.read() as connection:
            rows = connection.execute(
                "SELECT DISTINCT number FROM deliver_studies, json_each(opened_by) WHERE json_each.value = ?", (transfer,)
            )
            return [str(number) for (number,) in rows]

    def has_waiting(self) -> bool:
        """Whether any study waits."""
        with self._journal.read() as connection:
            return connection.execute("SELECT 1 FROM deliver_studies WHERE state = 'waiting'").fetchone() is not None

    def next_look(self) -> Look | None:
        """What is to be looked at next."""
        with self._journal.read() as connection:
            row = connection.execute(
                "SELECT kind, name, asked, attempts FROM deliver_looks WHERE asked > 0 AND not_before <= ?"
                " ORDER BY not_before LIMIT 1",
                (time.time(),),
            ).fetchone()
        return None if row is None else Look(*row)

    def review(self, before: float) -> bool:
        """Have the patient looked at that was looked at longest ago, if that was `before` (seconds since the epoch) and something
        of theirs is in the PACS; whether there was one. The feed does not tell that a patient objected."""

        def work(connection: sqlite3.Connection) -> bool:
            row = connection.execute(
                "SELECT number FROM deliver_patients WHERE looked_at < ? ORDER BY looked_at LIMIT 1", (before,)
            ).fetchone()
            if row is None:
                return False
            connection.execute("UPDATE deliver_patients SET looked_at = ? WHERE number = ?", (time.time(), row["number"]))
            in_pacs = connection.execute(
                "SELECT 1 FROM deliver_studies WHERE number = ? AND state != 'gone'", (row["number"],)
            ).fetchone()
            if in_pacs:
                _ask(connection, "patient", row["number"])
            return True

        with self._journal.read() as connection:  # nothing is written for nothing
            due = connection.execute("SELECT 1 FROM deliver_patients WHERE looked_at < ? LIMIT 1", (before,)).fetchone()
        return due is not None and self._journal.write(work)

    def look_later(self, look: Look, seconds: float) -> None:
        """It could not be looked at now."""
        self._journal.write(lambda connection: _later(connection, look, seconds))

    def looked(
        self, look: Look, more: Collection[tuple[str, str]] = (), numberless: Numberless | None = None, again: float | None = None
    ) -> None:
        """It was looked at, and these are to be looked at for it. `numberless`: no number of ours is known of a transfer;
        `again`: the seconds after which it is to be looked at once more."""

        def work(connection: sqlite3.Connection) -> None:
            if again is None:
                _done(connection, look)
            else:
                _later(connection, look, again)
            for kind, name in more:
                _ask(connection, kind, name)
            if look.kind != "transfer":
                return
            if numberless is None:
                connection.execute("DELETE FROM deliver_numberless WHERE transfer = ?", (look.name,))
                return
            connection.execute(
                "INSERT INTO deliver_numberless (transfer, since, accepted, proposal, evidence) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (transfer) DO UPDATE SET accepted = excluded.accepted, proposal = excluded.proposal,"
                " evidence = excluded.evidence",
                (look.name, time.time(), numberless.accepted, numberless.proposal, numberless.evidence),
            )

        self._journal.write(work)

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
            _done(connection, look)
            wanted = {(exam.study, exam.owner) for exam, _ in ranked}
            if ranked:
                connection.execute(
                    "INSERT INTO deliver_patients VALUES (?, ?, ?)"
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
                    _recall(connection, "study = ? AND owner = ?", (study, owner), gone[(study, owner)])
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
                    "INSERT OR REPLACE INTO deliver_ordered VALUES (?, ?, ?, ?, ?)", (number, study, owner, place, now)
                )
            _ask(connection, "patient", number)

        self._journal.write(work)

    def ordered(self, number: str) -> list[tuple[str, str]]:
        """(study, owner) of what is relevant for exams of this patient that were ordered lately, best first."""
        with self._journal.read() as connection:
            rows = connection.execute(
                "SELECT study, owner FROM deliver_ordered WHERE number = ? AND since > ? ORDER BY since DESC, place",
                (number, time.time() - ORDERED_SECONDS),
            ).fetchall()
        return [(row[0], row[1]) for row in rows]

    # The way into the PACS

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
                    _recall(connection, "study = ? AND owner = ?", (task.study, task.owner), RecallReason.WITHDRAWN)
            if corrected:
                _recall(connection, "study = ? AND owner = ?", (task.study, task.owner), RecallReason.CORRECTED)
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
            for one_made in made:
                connection.execute(
                    "INSERT OR IGNORE INTO deliver_made VALUES (?, ?, ?, ?, ?, ?)",
                    (one_made.sop_instance, one_made.sop_class, one_made.series, task.study, task.owner, one_made.original),
                )

        self._journal.write(work)

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
        """All of a study is settled; unless it was asked for again meanwhile. What was delivered of it is to be confirmed."""
        self._journal.write(lambda connection: _finish(connection, task))

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

    # Whether the PACS keeps it

    def next_to_confirm(self) -> ToConfirm | None:
        """The study to ask the PACS about next."""
        with self._journal.read() as connection:
            row = connection.execute(
                "SELECT study, owner, transaction_uid, attempts FROM deliver_confirmations WHERE not_before <= ?"
                " ORDER BY not_before LIMIT 1",
                (time.time(),),
            ).fetchone()
            if row is None:
                return None
            study, owner, transaction_uid, attempts = row
            found = _in_pacs(connection, study, owner, "AND confirmed IS NULL")
            return ToConfirm(study, owner, transaction_uid, attempts, found)

    def asking(self, study: ToConfirm, transaction_uid: str, seconds: float) -> None:
        """The PACS is being asked for storage commitment; without an answer it is looked at again after so many seconds."""
        self._journal.write(
            lambda connection: connection.execute(
                "UPDATE deliver_confirmations SET transaction_uid = ?, attempts = attempts + 1, not_before = ?"
                " WHERE study = ? AND owner = ?",
                (transaction_uid, time.time() + seconds, study.study, study.owner),
            )
        )

    def confirm_later(self, study: ToConfirm, seconds: float) -> None:
        """The PACS could not be asked, or does not have all yet."""
        self._journal.write(
            lambda connection: connection.execute(
                "UPDATE deliver_confirmations SET attempts = attempts + 1, not_before = ? WHERE study = ? AND owner = ?",
                (time.time() + seconds, study.study, study.owner),
            )
        )

    def committed(self, transaction_uid: str, kept: Collection[str], lost: Collection[str], most: int) -> bool:
        """The answer to a request for storage commitment; whether it was ours. SOP Instance UIDs as they are in the PACS."""

        def work(connection: sqlite3.Connection) -> bool:
            row = connection.execute(
                "SELECT study, owner FROM deliver_confirmations WHERE transaction_uid = ? AND transaction_uid != ''",
                (transaction_uid,),
            ).fetchone()
            if row is None:
                return False
            _confirm(connection, row["study"], row["owner"], kept, lost, Confirmation.COMMITMENT, most)
            return True

        return self._journal.write(work)

    def confirmed(self, study: ToConfirm, kept: Collection[str], lost: Collection[str], by: Confirmation, most: int) -> None:
        """The PACS keeps these, and does not have those: they wait again, or are put aside after `most` attempts."""
        self._journal.write(lambda connection: _confirm(connection, study.study, study.owner, kept, lost, by, most))

    # What must not be used

    def next_to_reject(self) -> ToReject | None:
        """What the PACS is to be told that must not be used, the gravest first; never what a transfer that ended had opened."""
        with self._journal.read() as connection:
            rows = connection.execute(
                "SELECT deliver_recalls.study, deliver_recalls.owner, number, deliver_recalls.reason, deliver_recalls.attempts,"
                " deliver_recalls.since FROM deliver_recalls JOIN deliver_studies USING (study, owner)"
                " WHERE deliver_recalls.reason != ? AND rejected_at IS NULL AND deliver_recalls.not_before <= ?",
                (RecallReason.ENDED, time.time()),
            ).fetchall()
            if not rows:
                return None
            study, owner, number, reason, attempts, since = min(
                rows, key=lambda row: (GRAVITY.index(row["reason"]), row["since"])
            )
            alone = connection.execute(
                "SELECT 1 FROM deliver_instances WHERE study = ? AND owner = ? AND recalled = ?", (study, owner, reason)
            ).fetchone()
            found = _in_pacs(connection, study, owner, "AND one.recalled = ?" if alone else "", *([reason] if alone else []))
            return ToReject(study, owner, number, RecallReason(reason), attempts, since, found)

    def note(self, study: ToReject, sop_instance: str) -> None:
        """A rejection note of ours goes to the PACS: when it comes back, it is an echo."""
        self._journal.write(
            lambda connection: connection.execute(
                "INSERT OR IGNORE INTO deliver_made VALUES (?, '', '', ?, ?, '')", (sop_instance, study.study, study.owner)
            )
        )

    def rejected(self, study: ToReject, failure: str | None, seconds: float = 0.0) -> None:
        """The PACS took the note, or why it did not; then it is tried again after so many seconds."""
        now = time.time()
        self._journal.write(
            lambda connection: connection.execute(
                "UPDATE deliver_recalls SET rejected_at = ?, rejection = ?, attempts = attempts + 1, not_before = ?"
                " WHERE study = ? AND owner = ? AND reason = ?",
                (None if failure else now, failure, now + seconds, study.study, study.owner, study.reason),
            )
        )


def are_known(connection: sqlite3.Connection) -> bool:
    """Whether the journal is one of a forwarder that knows of deliveries as this one does, or is not yet."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'deliver_made'").fetchone() is not None


def retry(connection: sqlite3.Connection, *, everything: bool) -> int:
    """Everything is tried now, and where `everything` is to be, what was put aside waits again; how many instances that are."""
    done = 0
    if not are_known(connection):
        return done
    if everything:
        done = connection.execute(
            "UPDATE deliver_instances SET state = 'waiting', reason = NULL, attempts = 0 WHERE state = 'aside'"
        ).rowcount
    connection.execute(
        "UPDATE deliver_studies SET state = 'waiting', asked = asked + 1, attempts = 0, not_before = 0"
        " WHERE state = 'waiting' OR EXISTS (SELECT 1 FROM deliver_instances AS instance WHERE instance.study ="
        " deliver_studies.study AND instance.owner = deliver_studies.owner AND instance.state = 'waiting')"
    )
    for table in ("deliver_looks", "deliver_confirmations", "deliver_recalls"):
        connection.execute(f"UPDATE {table} SET not_before = 0, attempts = 0")  # noqa: S608
    return done


def _want(connection: sqlite3.Connection, exam: ExamElsewhere, number: str, rank: str, now: datetime) -> None:
    key = (exam.study, exam.owner)
    other = connection.execute(
        "SELECT 1 FROM deliver_studies WHERE study = ? AND owner = ? AND number != ?", (*key, number)
    ).fetchone()
    if other is not None:
        _recall(connection, "study = ? AND owner = ?", key, RecallReason.LINKED_OTHERWISE)
    connection.execute(
        "INSERT INTO deliver_studies (study, owner, number, state, rank, coerced_at, since, opened_by, instances)"
        " VALUES (?, ?, ?, 'waiting', ?, ?, ?, ?, ?)"
        " ON CONFLICT (study, owner) DO UPDATE SET state = 'waiting', reason = NULL, rank = excluded.rank,"
        " asked = asked + 1, attempts = 0, not_before = 0, number = excluded.number, opened_by = excluded.opened_by,"
        " instances = excluded.instances",
        (
            *key, number, rank, now.astimezone(UTC).isoformat(), time.time(), json.dumps(exam.opened_by), exam.instances,
        ),
    )  # fmt: skip
    connection.execute(
        "DELETE FROM deliver_recalls WHERE study = ? AND owner = ? AND reason IN (?, ?) AND rejected_at IS NULL",
        (*key, RecallReason.NO_LONGER_SHARED, RecallReason.ENDED),
    )


def _in_pacs(connection: sqlite3.Connection, study: str, owner: str, condition: str = "", *values: str) -> tuple[InPacs, ...]:
    """What of a study came into the PACS from here: what was made of a report stands for it."""
    rows = connection.execute(
        "SELECT coalesce(made.sop_instance, one.sop_instance), coalesce(made.sop_class, one.sop_class),"  # noqa: S608
        " coalesce(made.series, one.series), one.sop_instance FROM deliver_instances AS one"
        " LEFT JOIN deliver_made AS made"
        " ON made.study = one.study AND made.owner = one.owner AND made.original = one.sop_instance"
        f" WHERE one.study = ? AND one.owner = ? AND one.state = 'delivered' {condition} ORDER BY 1",
        (study, owner, *values),
    )
    return tuple(InPacs(*row) for row in rows)


def _confirm(
    connection: sqlite3.Connection, study: str, owner: str, kept: Collection[str], lost: Collection[str], by: str, most: int
) -> None:
    originals = {entry.sop_instance: entry.original for entry in _in_pacs(connection, study, owner)}
    gone = {originals[uid] for uid in lost if uid in originals}
    for sop in {originals[uid] for uid in kept if uid in originals} - gone:
        connection.execute(
            "UPDATE deliver_instances SET confirmed = ?"
            " WHERE study = ? AND owner = ? AND sop_instance = ? AND state = 'delivered'",
            (by, study, owner, sop),
        )
    for sop in gone:
        connection.execute(
            "UPDATE deliver_instances SET attempts = attempts + 1, state = CASE WHEN attempts + 1 < ? THEN 'waiting' ELSE 'aside'"
            " END, reason = 'pacs-did-not-keep-it'"
            " WHERE study = ? AND owner = ? AND sop_instance = ? AND state = 'delivered'",
            (most, study, owner, sop),
        )
    if gone:
        connection.execute(
            "UPDATE deliver_studies SET state = 'waiting', asked = asked + 1, reason = 'pacs-did-not-keep-it', not_before = 0"
            " WHERE study = ? AND owner = ? AND state != 'gone'",
            (study, owner),
        )
    connection.execute(
        "DELETE FROM deliver_confirmations WHERE study = :study AND owner = :owner AND NOT EXISTS ("
        "SELECT 1 FROM deliver_instances WHERE study = :study AND owner = :owner AND state = 'delivered' AND confirmed IS NULL)",
        {"study": study, "owner": owner},
    )
    connection.execute("UPDATE deliver_confirmations SET transaction_uid = '' WHERE study = ? AND owner = ?", (study, owner))


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


def _ask(connection: sqlite3.Connection, kind: str, name: str) -> None:
    connection.execute(
        "INSERT INTO deliver_looks (kind, name) VALUES (?, ?)"
        " ON CONFLICT (kind, name) DO UPDATE SET asked = asked + 1, attempts = 0, not_before = 0",
        (kind, name),
    )


def _later(connection: sqlite3.Connection, look: Look, seconds: float) -> None:
    connection.execute(
        "UPDATE deliver_looks SET attempts = attempts + 1, not_before = ? WHERE kind = ? AND name = ?",
        (time.time() + seconds, look.kind, look.name),
    )


def _done(connection: sqlite3.Connection, look: Look) -> None:
    """It was looked at as it was when it was asked for; if it was asked for again meanwhile, it is looked at again."""
    connection.execute("DELETE FROM deliver_looks WHERE kind = ? AND name = ? AND asked = ?", (look.kind, look.name, look.asked))


def _finish(connection: sqlite3.Connection, task: Task) -> None:
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


def _recall(connection: sqlite3.Connection, where: str, values: tuple[str, ...], reason: RecallReason) -> None:
    """List what was brought of these studies for a recall."""
    connection.execute(
        "INSERT OR IGNORE INTO deliver_recalls (study, owner, reason, since)"  # noqa: S608
        f" SELECT study, owner, ?, ? FROM deliver_studies WHERE {where} AND EXISTS"
        " (SELECT 1 FROM deliver_instances AS one WHERE one.study = deliver_studies.study AND one.owner = deliver_studies.owner"
        " AND one.state = 'delivered')",
        (reason, time.time(), *values),
    )
