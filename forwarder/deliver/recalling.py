"""What stands in the PACS and must not be used, and what the PACS was told of it."""

from __future__ import annotations

import time

from forwarder.deliver.deliveries import GRAVITY, RecallReason, ToReject
from forwarder.deliver.tables import Tables, in_pacs


class Recalling(Tables):
    """What is recalled. Every method raises SpoolError."""

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
            found = in_pacs(connection, study, owner, "AND instance.recalled = ?" if alone else "", *([reason] if alone else []))
            return ToReject(study, owner, number, RecallReason(reason), attempts, since, found)

    def note(self, study: ToReject, sop_instance: str) -> None:
        """A rejection note of ours goes to the PACS: when it comes back, it is an echo."""
        self._journal.write(
            lambda connection: connection.execute(
                "INSERT OR IGNORE INTO deliver_made (sop_instance, sop_class, series, study, owner, original)"
                " VALUES (?, '', '', ?, ?, '')",
                (sop_instance, study.study, study.owner),
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
