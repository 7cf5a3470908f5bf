"""How far the feed was followed, and what is to be looked at anew."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection

from forwarder.deliver.deliveries import Look, Numberless, RecallReason
from forwarder.deliver.tables import Tables, ask_to_look, look_later, looked_at, recall


class Following(Tables):
    """The feed. Every method raises SpoolError."""

    def cursor(self) -> str | None:
        """How far the feed was followed; None before the first time."""
        with self._journal.read() as connection:
            row = connection.execute("SELECT cursor FROM deliver_feed").fetchone()
        return None if row is None else str(row["cursor"])

    def followed(self, cursor: str, looks: Collection[tuple[str, str]], withdrawn: Collection[str]) -> None:
        """The feed was read up to `cursor`: these (kind, name) are to be looked at; `withdrawn`: studies that were, in whole."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO deliver_feed (one, cursor) VALUES (1, ?)", (cursor,))
            for kind, name in looks:
                ask_to_look(connection, kind, name)
            for study in withdrawn:
                recall(connection, "study = ?", (study,), RecallReason.WITHDRAWN)
                connection.execute(
                    "DELETE FROM deliver_recalls WHERE study = ? AND reason = ? AND rejected_at IS NULL",
                    (study, RecallReason.NO_LONGER_SHARED),
                )

        self._journal.write(work)

    def ask_about(self, kind: str, name: str) -> None:
        """Have something looked at that is known of before the feed tells it."""
        self._journal.write(lambda connection: ask_to_look(connection, kind, name))

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
        """What is to be looked at next: what was asked for last, and then what failed and is due again."""
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
                ask_to_look(connection, "patient", row["number"])
            return True

        with self._journal.read() as connection:  # nothing is written for nothing
            due = connection.execute("SELECT 1 FROM deliver_patients WHERE looked_at < ? LIMIT 1", (before,)).fetchone()
        return due is not None and self._journal.write(work)

    def look_later(self, look: Look, seconds: float) -> None:
        """It could not be looked at now."""
        self._journal.write(lambda connection: look_later(connection, look, seconds))

    def looked(
        self, look: Look, more: Collection[tuple[str, str]] = (), numberless: Numberless | None = None, again: float | None = None
    ) -> None:
        """It was looked at, and these are to be looked at for it; a study that the feed told of is brought anew then.

        `numberless`: no number of ours is known of a transfer; `again`: seconds after which it is to be looked at once more."""

        def work(connection: sqlite3.Connection) -> None:
            if again is None:
                looked_at(connection, look)
            else:
                look_later(connection, look, again)
            for kind, name in more:
                ask_to_look(connection, kind, name)
            if look.kind == "study":
                connection.execute(
                    "UPDATE deliver_studies SET state = CASE state WHEN 'done' THEN 'changed' ELSE state END, asked = asked + 1"
                    " WHERE study = ? AND state IN ('done', 'changed', 'waiting')",
                    (look.name,),
                )
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
