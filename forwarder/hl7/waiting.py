"""Reports in the journal: taken in with the message's other reports in one durable write, given out in order, settled.

Versions of one document go to an exam in the order in which they came: each waits for those before it, and for no other report.
Which of them stands is the archive's to tell, by when each was written.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from forwarder.alerts import Reason
from forwarder.errors import Failure
from forwarder.hl7.moments import moment_at_the_hospital, moment_of
from forwarder.hl7.report import Report
from forwarder.spool.journal import Journal, tally

_COLUMNS = (
    "digest, study, accession, patients, document, part, title, media_type, attempts, received_at, content, at, status,"
    " replaces, examined"
)
_DROP = "content = NULL, patients = '[]', study = '', accession = '', title = '', examined = ''"
"""What is forgotten of a report that is sent or discarded."""


@dataclass(frozen=True, slots=True)
class WaitingReport:
    """A report on its way, and how often it was tried."""

    digest: str
    report: Report
    attempts: int
    received_at: float


def take_in(journal: Journal, message: str, sender: str, reports: Sequence[Report]) -> int:
    """Take the reports of a message on, durably; how many are new. `message`: the digest of what it says. Raises SpoolError.

    The same message again changes nothing, but what was put aside or discarded of it waits again. Where a sender takes a report
    back, that is put aside for a person to see, and so are the report's versions that still wait, and those that come later and
    were written before.
    """
    now = time.time()

    def work(connection: sqlite3.Connection) -> int:
        return sum(_insert(connection, f"{message}-{number}", sender, report, now) for number, report in enumerate(reports))

    return journal.write(work)


def _insert(connection: sqlite3.Connection, name: str, sender: str, report: Report, now: float) -> int:
    back = report.content is None
    sha256 = hashlib.sha256(report.content or b"").hexdigest()
    at = _written_at(connection, report, sha256, now)
    reason = Reason.REPORT_DELETION if back else Reason.REPORT_TAKEN_BACK if _taken_back(connection, report, at) else None
    row = {
        "digest": hashlib.sha256(name.encode()).hexdigest(),
        "size": len(report.content or b""),
        "state": "aside" if reason else "waiting",
        "reason": reason,
        "sender": sender,
        "now": now,
        "settled": now if reason else None,
        **asdict(report),
        "at": at,
        "sha256": sha256,
        "patients": json.dumps(report.patients),
        "taken_back": Reason.REPORT_TAKEN_BACK,
    }
    done = connection.execute(
        "INSERT INTO reports (digest, size, state, reason, sender, study, accession, patients, document, part, title, media_type,"
        " received_at, settled_at, content, at, status, replaces, examined, sha256) VALUES (:digest, :size, :state, :reason,"
        " :sender, :study, :accession, :patients, :document, :part, :title, :media_type, :now, :settled, :content, :at, :status,"
        " :replaces, :examined, :sha256)"
        " ON CONFLICT (digest) DO UPDATE SET state = 'waiting', reason = NULL, attempts = 0, not_before = 0,"
        " received_at = excluded.received_at, settled_at = NULL, patients = excluded.patients, study = excluded.study,"
        " accession = excluded.accession, title = excluded.title, content = excluded.content,"
        " examined = excluded.examined"
        " WHERE state IN ('aside', 'discarded') AND reason != :taken_back AND excluded.content IS NOT NULL",
        row,
    )
    if back and done.rowcount:
        connection.execute(
            "UPDATE reports SET state = 'aside', reason = :taken_back, settled_at = :now"
            " WHERE document = :document AND state = 'waiting'",
            row,
        )
    return done.rowcount


def _written_at(connection: sqlite3.Connection, report: Report, sha256: str, now: float) -> str:
    """When it was written: as the message says; else when the exam was, or now, and never before a version that is known here.

    What says no time and repeats the latest version word for word, is that version: sent again under another control ID.
    """
    if report.dated:
        return report.at
    versions = connection.execute(
        "SELECT at, part, status, media_type, sha256 FROM reports WHERE document = ? ORDER BY seq DESC",
        (report.document,),
    ).fetchall()
    at = report.at or moment_at_the_hospital(now)
    if not versions:
        return at
    known, *said = max(versions, key=lambda version: _place(version["at"]))
    if said == [report.part, report.status, report.media_type, sha256]:
        return str(known)
    return max(at, str(known), key=_place)


def _taken_back(connection: sqlite3.Connection, report: Report, at: str) -> bool:
    """Whether its sender took this version back before it came; where only the day of that is known, all that is of that day."""
    rows = connection.execute(
        "SELECT at FROM reports WHERE document = ? AND reason = ? AND at != ''", (report.document, Reason.REPORT_DELETION)
    )
    return any(_place(row["at"]) >= _place(at) or row["at"] == at[:8] for row in rows)


def _place(at: str) -> datetime:
    """Where a version of that moment stands among the others; one of before moments were kept comes first."""
    return moment_of(at) if at else datetime.min.replace(tzinfo=UTC)


def next_due(journal: Journal) -> WaitingReport | None:
    """The report to send now, those first that failed least; or None. Raises SpoolError."""
    with journal.read() as connection:
        row = connection.execute(
            f"SELECT {_COLUMNS} FROM reports"  # noqa: S608
            " WHERE state = 'waiting' AND not_before <= ? AND NOT EXISTS (SELECT 1 FROM reports AS earlier"
            " WHERE earlier.document = reports.document AND earlier.state = 'waiting' AND earlier.seq < reports.seq"
            " AND earlier.study = reports.study AND earlier.accession = reports.accession)"
            " ORDER BY attempts, seq LIMIT 1",
            (time.time(),),
        ).fetchone()
    if row is None:
        return None
    digest, study, accession, patients, document, part, title, media_type, attempts, received_at, content, *said = row
    at, status, replaces, examined = said
    report = Report(
        study, accession, tuple(json.loads(patients)), document, part, title, media_type, content, at, bool(at), status, replaces,
        examined,
    )  # fmt: skip
    return WaitingReport(digest, report, attempts, received_at)


def waiting_for_studies(journal: Journal) -> tuple[int, set[str], set[str]]:
    """(how many reports wait for a study, the Study Instance UIDs that they name, the accession numbers). Raises SpoolError."""
    with journal.read() as connection:
        rows = connection.execute(
            "SELECT study, accession FROM reports WHERE state = 'waiting' AND reason = ?", (Failure.ABSENT.value,)
        ).fetchall()
    return len(rows), {row[0] for row in rows if row[0]}, {row[1] for row in rows if not row[0]}


def wake(journal: Journal, studies: Collection[str] | None = None, accessions: Collection[str] = ()) -> int:
    """Try now those that wait for one of these studies, or, with None, for any; how many. Raises SpoolError."""

    def work(connection: sqlite3.Connection) -> int:
        due_now = "UPDATE reports SET not_before = 0, attempts = 0 WHERE state = 'waiting' AND reason = ?"
        if studies is None:
            return connection.execute(due_now, (Failure.ABSENT.value,)).rowcount
        named = [("study", study) for study in studies] + [("study = '' AND accession", number) for number in accessions]
        found = (connection.execute(f"{due_now} AND {place} = ?", (Failure.ABSENT.value, value)) for place, value in named)
        return sum(each.rowcount for each in found)

    return journal.write(work)


def postpone(journal: Journal, digest: str, seconds: float, reason: str) -> None:
    """Try it again later. Raises SpoolError."""
    journal.write(
        lambda connection: connection.execute(
            "UPDATE reports SET attempts = attempts + 1, not_before = ?, reason = ? WHERE digest = ? AND state = 'waiting'",
            (time.time() + seconds, reason, digest),
        )
    )


def sent(journal: Journal, digest: str) -> None:
    """The archive has it: what is left is that it came, and nothing of the patient. Raises SpoolError."""
    journal.write(
        lambda connection: connection.execute(
            f"UPDATE reports SET state = 'sent', {_DROP}, reason = NULL, settled_at = ? WHERE digest = ? AND state = 'waiting'",  # noqa: S608
            (time.time(), digest),
        )
    )


def put_aside(journal: Journal, digest: str, reason: Reason) -> None:
    """A person should look at it. Raises SpoolError."""
    journal.write(
        lambda connection: connection.execute(
            "UPDATE reports SET state = 'aside', reason = ?, settled_at = ? WHERE digest = ? AND state = 'waiting'",
            (reason, time.time(), digest),
        )
    )


def aside(connection: sqlite3.Connection) -> list[tuple[str, str, str, int, str, str, float, float]]:
    """Of each report put aside: digest, state, reason, size, “report”, sender, when it came and when it was put aside."""
    return connection.execute(
        "SELECT digest, state, reason, size, 'report', sender, received_at, settled_at FROM reports WHERE state = 'aside'"
    ).fetchall()


def described(connection: sqlite3.Connection, digest: str) -> dict[str, str]:
    """What a report is and where it would belong."""
    kind, study, accession = connection.execute(
        "SELECT media_type, study, accession FROM reports WHERE digest = ?", (digest,)
    ).fetchone()
    return {"kind": kind, "study": study, "accession": accession}


def discard(connection: sqlite3.Connection, digest: str) -> bool:
    """Let go of one put aside; whether it still was."""
    done = connection.execute(
        f"UPDATE reports SET state = 'discarded', {_DROP}, settled_at = ? WHERE digest = ? AND state = 'aside'",  # noqa: S608
        (time.time(), digest),
    )
    return bool(done.rowcount)


def send_anew(connection: sqlite3.Connection, digest: str) -> int:
    """One put aside waits again, if there is something to send; how many that are (0 or 1)."""
    return connection.execute(
        "UPDATE reports SET state = 'waiting', reason = NULL, attempts = 0, not_before = 0, settled_at = NULL"
        " WHERE digest = ? AND state = 'aside' AND content IS NOT NULL",
        (digest,),
    ).rowcount


def hurry(connection: sqlite3.Connection) -> int:
    """What was postponed is due now; how many."""
    return connection.execute(
        "UPDATE reports SET not_before = 0, attempts = 0 WHERE state = 'waiting' AND not_before > 0"
    ).rowcount


def forget(journal: Journal, before: float) -> None:
    """Remove the rows of what was settled `before` (seconds since the epoch). Raises SpoolError."""
    journal.write(
        lambda connection: connection.execute(
            "DELETE FROM reports WHERE state IN ('sent', 'discarded') AND settled_at < ?", (before,)
        )
    )


def summary(connection: sqlite3.Connection) -> dict[str, Any]:
    """received = sent + aside + waiting, always; `aside` includes what was discarded; `reasons`: how often each put one aside.

    Zeros in a journal from before there were reports.
    """
    counters = tally(connection)
    found: dict[str, Any] = {name: counters.get(f"reports_{name}", 0) for name in ("received", "waiting", "sent")}
    found["aside"] = found["received"] - found["waiting"] - found["sent"]
    oldest = None
    if found["waiting"]:
        oldest = connection.execute("SELECT min(received_at) FROM reports WHERE state = 'waiting'").fetchone()[0]
    found["oldest_waiting_seconds"] = None if oldest is None else round(max(0.0, time.time() - oldest), 1)
    reasons = "SELECT reason, count(*) AS n FROM reports WHERE state = 'aside' GROUP BY reason ORDER BY reason"
    found["reasons"] = {row["reason"]: row["n"] for row in connection.execute(reasons)} if found["aside"] else {}
    return found
