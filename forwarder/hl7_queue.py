"""Reports in the journal: taken in with the message's other reports in one durable write, given out in order, settled.

Versions of one document go in the order in which they came: each waits for those before it, and for no other report.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from forwarder.hl7_report import Report
from forwarder.journal import Journal, tally
from forwarder.troubles import Reason

_COLUMNS = "digest, study, accession, patients, document, part, title, media_type, attempts, received_at, content"
DROP = "content = NULL, patients = '[]', study = '', accession = '', title = ''"
"""What is forgotten of a report that is sent or discarded."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A report on its way, and how often it was tried."""

    digest: str
    report: Report
    attempts: int
    received_at: float
    newer_sent: bool
    """A later version of it is in the archive already."""


def take_in(journal: Journal, message: str, sender: str, reports: Sequence[Report]) -> int:
    """Take the reports of a message on, durably; how many are new. `message`: the digest of what it says. Raises SpoolError.

    The same message again changes nothing, but what was put aside or discarded of it waits again. Where a sender takes a report
    back, that is put aside for a person to see, and so are the report's versions that still wait.
    """
    now = time.time()

    def work(connection: sqlite3.Connection) -> int:
        return sum(_insert(connection, f"{message}-{number}", sender, report, now) for number, report in enumerate(reports))

    return journal.write(work)


def _insert(connection: sqlite3.Connection, name: str, sender: str, report: Report, now: float) -> int:
    back = report.content is None
    row = {
        "digest": hashlib.sha256(name.encode()).hexdigest(),
        "size": len(report.content or b""),
        "state": "aside" if back else "waiting",
        "reason": Reason.REPORT_DELETION if back else None,
        "sender": sender,
        "now": now,
        "settled": now if back else None,
        **asdict(report),
        "patients": json.dumps(report.patients),
        "taken_back": Reason.REPORT_TAKEN_BACK,
    }
    done = connection.execute(
        "INSERT INTO reports (digest, size, state, reason, sender, study, accession, patients, document, part, title, media_type,"
        " received_at, settled_at, content) VALUES (:digest, :size, :state, :reason, :sender, :study, :accession, :patients,"
        " :document, :part, :title, :media_type, :now, :settled, :content)"
        " ON CONFLICT (digest) DO UPDATE SET state = 'waiting', reason = NULL, attempts = 0, not_before = 0,"
        " received_at = excluded.received_at, settled_at = NULL, patients = excluded.patients, study = excluded.study,"
        " accession = excluded.accession, title = excluded.title, content = excluded.content"
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


def next_due(journal: Journal) -> Waiting | None:
    """The report to send now, those first that failed least; or None. Raises SpoolError."""
    with journal.read() as connection:
        row = connection.execute(
            f"SELECT {_COLUMNS}, EXISTS (SELECT 1 FROM reports AS later WHERE later.document = reports.document"  # noqa: S608
            " AND later.part = reports.part AND later.media_type = reports.media_type AND later.seq > reports.seq"
            " AND later.state = 'sent') AS newer FROM reports"
            " WHERE state = 'waiting' AND not_before <= ? AND NOT EXISTS (SELECT 1 FROM reports AS earlier"
            " WHERE earlier.document = reports.document AND earlier.state = 'waiting' AND earlier.seq < reports.seq)"
            " ORDER BY attempts, seq LIMIT 1",
            (time.time(),),
        ).fetchone()
    if row is None:
        return None
    digest, study, accession, patients, document, part, title, media_type, attempts, received_at, content, newer = row
    report = Report(study, accession, tuple(json.loads(patients)), document, part, title, media_type, content)
    return Waiting(digest, report, attempts, received_at, bool(newer))


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
            f"UPDATE reports SET state = 'sent', {DROP}, reason = NULL, settled_at = ? WHERE digest = ? AND state = 'waiting'",  # noqa: S608
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
