"""What a clock that was wrong has put off in the journal is put right."""

from __future__ import annotations

import sqlite3
import time

from forwarder.spool import instances
from forwarder.spool.journal import Journal

LONGEST_PAUSES = {
    "instances": 2 * 3600.0, "commitments": 3600.0, "reports": 12 * 3600.0, "deliver_studies": 3600.0, "deliver_looks": 3600.0,
    "adt_acts": 2 * 3600.0, "orders": 2 * 3600.0, "deliver_confirmations": 86400.0, "deliver_recalls": 86400.0,
}  # fmt: skip
"""Seconds, by table; generously."""
CLOCK_JUMP = 60.0
"""Seconds by which a clock is put, rather than drifts."""


def straighten(journal: Journal, back: float = 0.0) -> None:
    """Put right what a wrong clock put off: what would wait for longer than any pause lasts is due now; what was put off while
    the clock was `back` seconds ahead is due that much earlier. What came in the future tells at a start by how much that was.

    Raises SpoolError.
    """
    now = time.time()

    def work(connection: sqlite3.Connection) -> None:
        last = instances.last_moment(connection)
        ahead = max(back, last - now if last > now + CLOCK_JUMP else 0.0)
        for table, longest in LONGEST_PAUSES.items():
            connection.execute(f"UPDATE {table} SET not_before = 0 WHERE not_before > ?", (now + longest,))  # noqa: S608
            if ahead:
                connection.execute(f"UPDATE {table} SET not_before = max(0, not_before - ?) WHERE not_before > ?", (ahead, now))  # noqa: S608

    journal.note(work)
