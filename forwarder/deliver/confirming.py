"""Whether the PACS keeps what it took."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection

from forwarder.deliver.deliveries import Confirmation, ToConfirm
from forwarder.deliver.tables import Tables, in_pacs


class Confirming(Tables):
    """What is confirmed. Every method raises SpoolError."""

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
            found = in_pacs(connection, study, owner, "AND confirmed IS NULL")
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


def _confirm(
    connection: sqlite3.Connection, study: str, owner: str, kept: Collection[str], lost: Collection[str], by: str, most: int
) -> None:
    originals = {entry.sop_instance: entry.original for entry in in_pacs(connection, study, owner)}
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
