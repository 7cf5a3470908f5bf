"""ADT in the journal: events as they came, and the acts that follow of them, wanted and done.

Events are facts; with each, what is to hold is held against the acts that stand here (`reconciling`), in the same transaction. So
the order in which messages come changes nothing in the end, and what comes again nothing at all.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Sequence

from forwarder.hl7.adt import merges
from forwarder.hl7.adt.acts import TOO_MANY, Act, ActKind, ActState
from forwarder.hl7.adt.event import AdtEvent, RegisteredPerson
from forwarder.hl7.adt.merges import MergeConcern
from forwarder.hl7.adt.reconciling import (
    count,
    encounters,
    forget_old_news,
    insert,
    patient_settled,
    propose,
    read_act,
    reconcile,
    registered,
    want_acceptance,
)
from forwarder.hl7.adt.rules import Encounter, EventOutcome, LocalCandidate, Terms, outcome
from forwarder.spool.journal import Journal

HOUR, DAY = 3600.0, 86400.0
KEPT_DAYS = 400.0
"""For how long is known what opened or accepted something; longer than a transfer lasts by itself."""
MOST_OF_A_PATIENT = 2000
"""Events of one number; what comes then is refused."""


class RegistrationLedger:
    """The journal's tables of ADT."""

    def __init__(self, journal: Journal, terms: Terms) -> None:
        self._journal = journal
        self._terms = terms

    def take_in(self, events: Sequence[AdtEvent]) -> int:
        """Take the events of a message on, durably; how many are new. Raises SpoolError."""
        now = time.time()

        def work(connection: sqlite3.Connection) -> int:
            new = [event for event in events if insert(connection, event, now)]
            for event in new:
                came_to = outcome(event, self._terms)
                count(connection, came_to, now)
                if came_to is EventOutcome.NOBODY:
                    count(connection, came_to, now, event.unknown)
            for number in dict.fromkeys(event.number for event in new):
                forget_old_news(connection, number)
                reconcile(connection, number, self._terms, now)
            return len(new)

        return self._journal.write(work)

    def counted(self, what: str) -> None:
        """A message of which nothing is kept. Raises SpoolError."""
        self._journal.note(lambda connection: count(connection, what, time.time()))

    def next_act(self) -> Act | None:
        """The act that is due first: what is to be undone before all else, then what opens, accepts and links, then patients, the
        newest first: a registration that tells of everybody at once delays nobody who comes or goes now. Raises SpoolError."""
        now = time.time()
        with self._journal.read() as connection:
            row = connection.execute(
                "SELECT * FROM adt_acts WHERE state IN ('waiting', 'undo') AND kind != 'patient' AND not_before <= ?"
                " ORDER BY state != 'undo', seq LIMIT 1",
                (now,),
            ).fetchone()
            row = (
                row
                or connection.execute(
                    "SELECT * FROM adt_acts INDEXED BY adt_acts_patients WHERE state = 'waiting' AND kind = 'patient'"
                    " AND not_before <= ? ORDER BY since DESC LIMIT 1",
                    (now,),
                ).fetchone()
            )
            return None if row is None else read_act(connection, row)

    def unstated(self, number: str) -> Act | None:
        """The act that tells the archive what is known of a patient, if that is still to be done. Raises SpoolError."""
        with self._journal.read() as connection:
            row = connection.execute(
                "SELECT * FROM adt_acts WHERE number = ? AND kind = 'patient' AND state = 'waiting'", (number,)
            ).fetchone()
            return None if row is None else read_act(connection, row)

    def is_crowded(self, number: str) -> bool:
        """Whether more came of one patient than any registration tells. Raises SpoolError."""
        with self._journal.read() as connection:
            (count,) = connection.execute("SELECT count(*) FROM adt_events WHERE number = ?", (number,)).fetchone()
        return bool(count >= MOST_OF_A_PATIENT)

    def may_begin(self, act: Act, per_hour: int) -> bool:
        """Whether an act is begun now; beyond so many in an hour it is held instead, for a person. Raises SpoolError."""
        if act.kind not in (ActKind.OPENING, ActKind.ACCEPTANCE) or act.undo or act.tried:
            return True
        now = time.time()

        def work(connection: sqlite3.Connection) -> bool:
            (begun,) = connection.execute(
                "SELECT count(*) FROM adt_acts WHERE kind IN ('opening', 'acceptance') AND tried_at > ?", (now - HOUR,)
            ).fetchone()
            state, reason = connection.execute("SELECT state, reason FROM adt_acts WHERE seq = ?", (act.seq,)).fetchone()
            if state != ActState.WAITING:
                return False  # it is not wanted any more
            if begun >= per_hour and reason != "released":
                connection.execute("UPDATE adt_acts SET state = 'held', reason = ? WHERE seq = ?", (TOO_MANY, act.seq))
                return False
            connection.execute("UPDATE adt_acts SET tried_at = ? WHERE seq = ?", (now, act.seq))
            return True

        return self._journal.write(work)

    def registered(self, number: str) -> RegisteredPerson:
        """What is known of a patient by now. Raises SpoolError."""
        with self._journal.read() as connection:
            return registered(connection, number, self._terms)

    def hold(self, act: Act, reason: str) -> None:
        """An act that was not begun waits for a person, who is shown why, or for news of the patient. Raises SpoolError."""
        self._journal.write(
            lambda connection: connection.execute(
                "UPDATE adt_acts SET state = 'held', reason = ?, content = ? WHERE seq = ? AND state = 'waiting'"
                " AND tried_at IS NULL",
                (reason, json.dumps({**act.content, "held": reason}), act.seq),
            )
        )

    def settled(self, act: Act, state: ActState, reason: str | None = None, result: str = "") -> None:
        """An act was done or undone, or takes a person. What is not wanted any more by now is to be undone. Raises SpoolError."""

        def work(connection: sqlite3.Connection) -> None:
            if act.kind is ActKind.PATIENT:
                patient_settled(connection, act, state, reason)
                return
            (now_wanted,) = connection.execute("SELECT state FROM adt_acts WHERE seq = ?", (act.seq,)).fetchone()
            changed_meanwhile = now_wanted != (ActState.UNDO if act.undo else ActState.WAITING)
            connection.execute(
                "UPDATE adt_acts SET state = ?, reason = ?, result = ?, attempts = 0, not_before = 0, since = ? WHERE seq = ?",
                (now_wanted if changed_meanwhile else state, reason, result or act.result, time.time(), act.seq),
            )

        self._journal.write(work)

    def later(self, act: Act, seconds: float, reason: str) -> None:
        """It is tried again. Raises SpoolError."""
        self._journal.write(
            lambda connection: connection.execute(
                "UPDATE adt_acts SET attempts = attempts + 1, not_before = ?,"
                " reason = CASE WHEN reason = 'released' THEN reason ELSE ? END WHERE seq = ?",
                (time.time() + seconds, reason, act.seq),
            )
        )

    # Merges

    def stays(self, act: Act) -> str:
        """Of the two numbers that are linked, the one that the message gives to the patient. Raises SpoolError."""
        with self._journal.read() as connection:
            row = connection.execute("SELECT number FROM adt_events WHERE digest = ?", (act.cause,)).fetchone()
        return str(row[0]) if row else act.number

    def merged(self, number: str, other: str, concerns: Sequence[MergeConcern]) -> None:
        """Two numbers are one; a person has to look at it for these reasons, if there are any. Raises SpoolError."""
        self._journal.write(lambda connection: merges.noted(connection, number, other, concerns, time.time()))

    def parted(self, number: str, other: str) -> None:
        """Two numbers are two again. Raises SpoolError."""
        self._journal.write(lambda connection: merges.forgotten(connection, number, other))

    # Arrivals, and transfers that wait

    def encounters(self, numbers: Collection[str], birth_dates: Collection[str]) -> list[Encounter]:
        """Who was admitted or announced here: of these numbers, or born on these days. Raises SpoolError."""
        since = time.time() - (self._terms.accept_days + self._terms.early_days) * DAY
        with self._journal.read() as connection:
            wanted = set(numbers)
            for day in birth_dates:
                rows = connection.execute(
                    "SELECT DISTINCT number FROM adt_events WHERE birth_date = ? AND trigger IN ('A01', 'A04', 'A05')"
                    " AND received_at > ?",
                    (day, since),
                )
                wanted |= {row[0] for row in rows}
            return [encounter for number in sorted(wanted) for encounter in encounters(connection, number, self._terms)]

    def expects(self) -> bool:
        """Whether anybody was admitted or announced within the window. Raises SpoolError."""
        since = time.time() - (self._terms.accept_days + self._terms.early_days) * DAY
        with self._journal.read() as connection:
            row = connection.execute(
                "SELECT 1 FROM adt_events WHERE trigger IN ('A01', 'A04', 'A05') AND received_at > ? LIMIT 1", (since,)
            ).fetchone()
        return row is not None

    def judged(self, waiting: Collection[str], candidates: Sequence[LocalCandidate]) -> int:
        """Of the transfers that wait, who may be meant: what is certain is to be accepted, the rest is proposed to a person. How
        many are to be accepted now. A transfer that an admission accepted once is never accepted by itself again: somebody took
        that back. Raises SpoolError."""
        now = time.time()

        def work(connection: sqlite3.Connection) -> int:
            known = {row[0] for row in connection.execute("SELECT DISTINCT transfer FROM adt_proposals")}
            for transfer in known - set(waiting):
                connection.execute("DELETE FROM adt_proposals WHERE transfer = ?", (transfer,))
            accepted = 0
            for candidate in candidates:
                if candidate.certain and want_acceptance(connection, candidate, now):
                    accepted += 1
            for transfer in waiting:
                propose(connection, transfer, [candidate for candidate in candidates if candidate.transfer == transfer], now)
            return accepted

        return self._journal.write(work)

    def forget(self, before: float) -> None:
        """Remove events from `before` (seconds) of patients for whom nothing stands and of whom nothing came since: what was
        cancelled must not outlive its cancel, which may have come before it. And all that is older than `KEPT_DAYS`."""

        def work(connection: sqlite3.Connection) -> None:
            window = before - (self._terms.accept_days + self._terms.early_days) * DAY
            connection.execute(
                "DELETE FROM adt_events WHERE received_at < ? AND NOT EXISTS (SELECT 1 FROM adt_acts AS act WHERE"
                " act.number IN (adt_events.number, adt_events.other) AND act.kind != 'patient'"
                " AND act.state IN ('waiting', 'held', 'done', 'undo', 'aside'))"
                " AND NOT EXISTS (SELECT 1 FROM adt_events AS later WHERE later.received_at >= ?"
                " AND later.number IN (adt_events.number, adt_events.other))",
                (window, window),
            )
            oldest = time.time() - KEPT_DAYS * DAY
            connection.execute("DELETE FROM adt_events WHERE received_at < ?", (oldest,))
            connection.execute("DELETE FROM adt_acts WHERE since < ? AND state NOT IN ('waiting', 'undo')", (oldest,))
            connection.execute("DELETE FROM adt_merges WHERE since < ?", (oldest,))

        self._journal.write(work)
