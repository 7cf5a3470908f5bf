"""How deliveries stand, read from the journal: counts and reasons, patient by patient, and what is to be recalled."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from typing import Any

from forwarder.deliver.deliveries import GRAVITY, SAFETY, Confirmation, DeliveryState, RecallReason
from forwarder.deliver.tables import are_known

SHOWN = 100  # patients


@dataclass(frozen=True, slots=True)
class Recall:
    """An exam in the PACS that somebody has to know of: of which hospital, why, since when (seconds), when the PACS took a
    rejection note of it, and why it has none."""

    study: str
    owner: str
    reason: RecallReason
    since: float
    rejected_at: float | None
    rejection: str | None

    @property
    def urgent(self) -> bool:
        """Whether it concerns a patient's safety."""
        return self.reason in SAFETY


@dataclass(frozen=True, slots=True)
class PatientAccount:
    """Of one patient: how many instances are announced and what became of them, exams that wait and their instances, why (reason:
    how often), since when the oldest waits (seconds since the epoch). `name` stands for the patient where none may be named."""

    number: str
    name: str
    announced: int
    delivered: int
    there: int
    aside: int
    waiting: int
    exams_waiting: int
    missing: int
    reasons: dict[str, int]
    since: float | None
    due: float

    def shown(self, seconds_each: float | None) -> dict[str, Any]:
        """The same without the number, for the page; `seconds_each`: what an instance takes now, where that is known."""
        now = time.time()
        left = None if seconds_each is None else round(max(0.0, self.due - now) + self.missing * seconds_each, 1)
        return {
            "patient": self.name, "announced": self.announced, "delivered": self.delivered, "there": self.there,
            "aside": self.aside, "waiting": self.waiting, "exams_waiting": self.exams_waiting, "missing": self.missing,
            "reasons": self.reasons, "waiting_seconds": None if self.since is None else round(max(0.0, now - self.since), 1),
            "seconds_left": left if self.missing else 0.0,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class ExamAccount:
    """Of one exam of another hospital: whether it is `done`, how many of its instances are in the PACS, put aside, and wanted
    (None where that is not known yet); why it waits, or why some were put aside."""

    study: str
    owner: str
    done: bool
    there: int
    aside: int
    wanted: int | None
    reason: str
    due: float = 0.0
    """Before which nothing is tried (seconds since the epoch)."""
    missing: int = 0
    """Instances of it, and of every exam that goes before it, which are still to be brought."""


@dataclass(frozen=True, slots=True)
class ExamAside:
    """An exam of which some instances are put aside: how many, and since when the first (seconds)."""

    study: str
    owner: str
    count: int
    since: float


@dataclass(frozen=True, slots=True)
class NumberlessTransfer:
    """A transfer without a number of ours: since when (seconds), whether it was accepted, and the number of the PACS's that is
    proposed for it, with what agrees."""

    transfer: str
    since: float
    accepted: bool
    proposal: str
    evidence: str


def summary(connection: sqlite3.Connection) -> dict[str, Any]:
    """How deliveries stand, without patient data: counts and reasons. Zeros in a journal from before there were deliveries."""
    if not are_known(connection):
        nothing = {str(state): 0 for state in DeliveryState} | dict.fromkeys(("announced", "studies_waiting", "unconfirmed"), 0)
        nothing |= dict.fromkeys(("looks_waiting", "numberless", "not_accepted", "numbers_proposed", "recalls_rejected"), 0)
        return nothing | {
            "oldest_waiting_seconds": None, "waiting_for": {}, "aside_reasons": {}, "recalls": {},
            "confirmed": {str(by): 0 for by in Confirmation},
        }  # fmt: skip
    counts = {str(state): 0 for state in DeliveryState} | _counted(
        connection, "SELECT state, count(*) FROM deliver_instances GROUP BY state"
    )
    waiting, oldest = connection.execute("SELECT count(*), min(since) FROM deliver_studies WHERE state = 'waiting'").fetchone()
    confirmed = _counted(
        connection, "SELECT confirmed, count(*) FROM deliver_instances WHERE state = 'delivered' GROUP BY confirmed"
    )
    accepted, all_of_them, proposed = connection.execute(
        "SELECT coalesce(sum(accepted), 0), count(*), coalesce(sum(proposal != ''), 0) FROM deliver_numberless"
    ).fetchone()
    return {
        "announced": sum(counts.values()),
        **counts,
        "studies_waiting": waiting,
        "looks_waiting": connection.execute(
            "SELECT count(*) FROM deliver_looks WHERE asked > 0 AND not_before <= ?", (time.time(),)
        ).fetchone()[0],
        "oldest_waiting_seconds": None if oldest is None else round(max(0.0, time.time() - oldest), 1),
        "waiting_for": _counted(
            connection,
            "SELECT reason, count(*) FROM deliver_studies WHERE state = 'waiting' AND reason IS NOT NULL GROUP BY reason",
        ),
        "aside_reasons": _counted(
            connection, "SELECT reason, count(*) FROM deliver_instances WHERE state = 'aside' GROUP BY reason ORDER BY reason"
        ),
        "confirmed": {str(by): confirmed.get(by, 0) for by in Confirmation},
        "unconfirmed": confirmed.get("None", 0),
        "numberless": accepted,
        "not_accepted": all_of_them - accepted,
        "numbers_proposed": proposed,
        "recalls": _counted(connection, "SELECT reason, count(*) FROM deliver_recalls GROUP BY reason ORDER BY reason"),
        "recalls_rejected": connection.execute("SELECT count(*) FROM deliver_recalls WHERE rejected_at IS NOT NULL").fetchone()[
            0
        ],
    }


def patients(connection: sqlite3.Connection, number: str | None = None) -> list[PatientAccount]:
    """Each patient, those first of whom something waits or was put aside (`SHOWN` at most); or the one by a number of ours."""
    if not are_known(connection):
        return []
    rows = connection.execute(
        "SELECT number, name, announced, delivered, there, aside, waiting, exams_waiting, missing, since, due FROM ("
        " SELECT deliver_patients.number, deliver_patients.name,"
        "  coalesce(sum(counted.announced), 0) AS announced, coalesce(sum(counted.delivered), 0) AS delivered,"
        "  coalesce(sum(counted.there), 0) AS there, coalesce(sum(counted.aside), 0) AS aside,"
        "  coalesce(sum(counted.waiting), 0) AS waiting, sum(exam.state = 'waiting') AS exams_waiting,"
        "  sum(CASE WHEN exam.state != 'waiting' THEN 0 WHEN counted.announced IS NULL THEN exam.instances"
        "   ELSE counted.waiting END) AS missing,"
        "  min(CASE WHEN exam.state = 'waiting' THEN exam.since END) AS since,"
        "  max(CASE WHEN exam.state = 'waiting' THEN exam.not_before ELSE 0 END) AS due"
        " FROM deliver_patients JOIN deliver_studies AS exam ON exam.number = deliver_patients.number"
        " LEFT JOIN (SELECT study, owner, count(*) AS announced, sum(state = 'delivered') AS delivered,"
        "  sum(state = 'there') AS there, sum(state = 'aside') AS aside, sum(state = 'waiting') AS waiting FROM deliver_instances"
        "  GROUP BY study, owner) AS counted"
        "  ON counted.study = exam.study AND counted.owner = exam.owner"
        " WHERE :number IS NULL OR deliver_patients.number = :number GROUP BY deliver_patients.number)"
        " ORDER BY exams_waiting = 0, aside = 0, since LIMIT :most",
        {"number": number, "most": SHOWN},
    ).fetchall()
    return [PatientAccount(**dict(row), reasons=_reasons_of(connection, row["number"])) for row in rows]


def exams(connection: sqlite3.Connection, number: str) -> list[ExamAccount]:
    """The exams that are wanted under a number of ours, or were."""
    if not are_known(connection):
        return []
    rows = connection.execute(
        "SELECT exam.study, exam.owner, exam.state, exam.reason, count(instance.state) AS wanted,"
        " sum(instance.state IN ('delivered', 'there')) AS there, sum(instance.state = 'aside') AS aside,"
        " max(CASE WHEN instance.state = 'aside' THEN instance.reason END) AS why, exam.not_before, exam.rank"
        " FROM deliver_studies AS exam LEFT JOIN deliver_instances AS instance"
        " ON instance.study = exam.study AND instance.owner = exam.owner"
        " WHERE exam.number = ? AND exam.state != 'gone' GROUP BY exam.study, exam.owner",
        (number,),
    )
    return [
        ExamAccount(
            row["study"], row["owner"], row["state"] == "done", row["there"] or 0, row["aside"] or 0, row["wanted"] or None,
            row["reason"] or row["why"] or "", row["not_before"],
            0 if row["state"] == "done" else _missing_up_to(connection, row["rank"]),
        )
        for row in rows
    ]  # fmt: skip


def exams_aside(connection: sqlite3.Connection) -> list[ExamAside]:
    """The exams of which something is put aside and is still wanted, the oldest first."""
    if not are_known(connection):
        return []
    rows = connection.execute(
        "SELECT instance.study, instance.owner, count(*), min(instance.since) FROM deliver_instances AS instance"
        " JOIN deliver_studies AS exam USING (study, owner) WHERE instance.state = 'aside' AND exam.state != 'gone'"
        " GROUP BY instance.study, instance.owner ORDER BY 4"
    )
    return [ExamAside(*row) for row in rows]


def _missing_up_to(connection: sqlite3.Connection, rank: str) -> int:
    """How many instances wait of the exams of this rank and of those before it."""
    (count,) = connection.execute(
        "SELECT coalesce(sum(coalesce((SELECT sum(instance.state = 'waiting') FROM deliver_instances AS instance"
        " WHERE instance.study = exam.study AND instance.owner = exam.owner), exam.instances)), 0)"
        " FROM deliver_studies AS exam WHERE exam.state = 'waiting' AND exam.rank <= ?",
        (rank,),
    ).fetchone()
    return int(count)


def recalls(connection: sqlite3.Connection) -> list[Recall]:
    """What is to be recalled, the gravest first; what a transfer that ended had opened comes last."""
    if not are_known(connection):
        return []
    rows = connection.execute("SELECT study, owner, reason, since, rejected_at, rejection FROM deliver_recalls").fetchall()
    found = [Recall(study, owner, RecallReason(reason), *rest) for study, owner, reason, *rest in rows]
    return sorted(found, key=lambda recall: (GRAVITY.index(recall.reason), -recall.since))


def numberless(connection: sqlite3.Connection) -> list[NumberlessTransfer]:
    """The transfers for which no number of ours is known, the oldest first."""
    if not are_known(connection):
        return []
    rows = connection.execute("SELECT transfer, since, accepted, proposal, evidence FROM deliver_numberless ORDER BY since")
    return [NumberlessTransfer(transfer, since, bool(accepted), *rest) for transfer, since, accepted, *rest in rows]


def _reasons_of(connection: sqlite3.Connection, number: str) -> dict[str, int]:
    """Why something of a patient waits (exams) or was put aside (instances)."""
    return _counted(
        connection,
        "SELECT reason, count(*) FROM deliver_studies WHERE number = :number AND state = 'waiting' AND reason IS NOT NULL"
        " GROUP BY reason UNION ALL SELECT instance.reason, count(*) FROM deliver_instances AS instance"
        " JOIN deliver_studies AS exam ON exam.study = instance.study AND exam.owner = instance.owner"
        " WHERE exam.number = :number AND instance.state = 'aside'"
        " GROUP BY instance.reason",
        {"number": number},
    )


def _counted(connection: sqlite3.Connection, statement: str, values: dict[str, Any] | None = None) -> dict[str, int]:
    return {str(name): count for name, count in connection.execute(statement, values or {})}
