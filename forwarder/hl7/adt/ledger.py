"""ADT in the journal: events as they came, and the acts that follow of them, wanted and done.

Events are facts; with each, what is to hold (`rules.plan`) is held against the acts that stand here, in the same transaction. So
the order in which messages come changes nothing in the end, and what comes again nothing at all.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from forwarder.hl7.adt import codice_fiscale
from forwarder.hl7.adt.event import UNLINKS, AdtEvent, RegisteredPerson
from forwarder.hl7.adt.rules import Encounter, EventOutcome, Intent, LocalCandidate, Terms, outcome, plan
from forwarder.spool.journal import REGISTRATION, Journal

HOUR, DAY = 3600.0, 86400.0
KEPT_DAYS = 400.0
"""For how long is known what opened or accepted something; longer than a transfer lasts by itself."""
MOST_CODES = 100
MOST_OF_A_PATIENT = 2000
"""Events of one number; what comes then is refused."""
MOST_UPDATES = 100
MOST_LISTED = 100
UNREADABLE = "unreadable"
TOO_MANY, DISAGREES = "too-many", "codice-fiscale-disagrees"
"""Why an act is held."""
WITHIN = "within-the-house"
"""Why an opening is nothing: a patient who moves within the hospital."""


class ActKind(StrEnum):
    """What an act does at the archive; in this order they are done."""

    PATIENT = "patient"
    LINK = "link"
    OPENING = "opening"
    ACCEPTANCE = "acceptance"


class ActState(StrEnum):
    """How an act stands. `held`: beyond the hour's limit; `aside`: the archive refused it; both wait for a person. `dropped`: it
    was not wanted any more before it was tried."""

    WAITING = "waiting"
    HELD = "held"
    DONE = "done"
    UNDO = "undo"
    UNDONE = "undone"
    ASIDE = "aside"
    DROPPED = "dropped"


_LIVE = (ActState.WAITING, ActState.HELD, ActState.DONE, ActState.ASIDE)
DISCARDED = "discarded"
"""Why an act was dropped that a person has done by nobody: it stands as that until what it follows of is cancelled."""


@dataclass(frozen=True, slots=True)
class Act:
    """One act, to be done or undone (`undo`). `subject`: the institution, the transfer or the second number; `key`: what makes it
    the same to the archive however often it is asked."""

    seq: int
    kind: ActKind
    number: str
    visit: str
    subject: str
    cause: str
    actor: str
    content: Mapping[str, Any]
    undo: bool
    result: str
    tried: bool
    attempts: int
    key: str


class RegistrationLedger:
    """The journal's tables of ADT."""

    def __init__(self, journal: Journal, terms: Terms) -> None:
        self._journal = journal
        self._terms = terms

    def take_in(self, events: Sequence[AdtEvent]) -> int:
        """Take the events of a message on, durably; how many are new. Raises SpoolError."""
        now = time.time()

        def work(connection: sqlite3.Connection) -> int:
            new = [event for event in events if _insert(connection, event, now)]
            for event in new:
                came_to = outcome(event, self._terms)
                _count(connection, came_to, now)
                if came_to is EventOutcome.NOBODY:
                    _count(connection, came_to, now, event.unknown)
            for number in dict.fromkeys(event.number for event in new):
                _forget_old_news(connection, number)
                _reconcile(connection, number, self._terms, now)
            return len(new)

        return self._journal.write(work)

    def counted(self, what: str) -> None:
        """A message of which nothing is kept. Raises SpoolError."""
        self._journal.note(lambda connection: _count(connection, what, time.time()))

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
            return None if row is None else _act(connection, row)

    def unstated(self, number: str) -> Act | None:
        """The act that tells the archive what is known of a patient, if that is still to be done. Raises SpoolError."""
        with self._journal.read() as connection:
            row = connection.execute(
                "SELECT * FROM adt_acts WHERE number = ? AND kind = 'patient' AND state = 'waiting'", (number,)
            ).fetchone()
            return None if row is None else _act(connection, row)

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

    def settled(self, act: Act, state: ActState, reason: str | None = None, result: str = "") -> None:
        """An act was done or undone, or takes a person. What is not wanted any more by now is to be undone. Raises SpoolError."""

        def work(connection: sqlite3.Connection) -> None:
            if act.kind is ActKind.PATIENT:
                _patient_settled(connection, act, state, reason)
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
            return [encounter for number in sorted(wanted) for encounter in _encounters(connection, number, self._terms)]

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
                if candidate.certain and _want_acceptance(connection, candidate, now):
                    accepted += 1
            for transfer in waiting:
                _propose(connection, transfer, [candidate for candidate in candidates if candidate.transfer == transfer], now)
            return accepted

        return self._journal.write(work)

    def forget(self, before: float) -> None:
        """Remove events from `before` (seconds) of patients for whom nothing stands, and all that is older than `KEPT_DAYS`."""

        def work(connection: sqlite3.Connection) -> None:
            window = before - (self._terms.accept_days + self._terms.early_days) * DAY
            connection.execute(
                "DELETE FROM adt_events WHERE received_at < ? AND NOT EXISTS (SELECT 1 FROM adt_acts AS act WHERE"
                " act.number IN (adt_events.number, adt_events.other) AND act.kind != 'patient'"
                " AND act.state IN ('waiting', 'held', 'done', 'undo', 'aside'))",
                (window,),
            )
            oldest = time.time() - KEPT_DAYS * DAY
            connection.execute("DELETE FROM adt_events WHERE received_at < ?", (oldest,))
            connection.execute("DELETE FROM adt_acts WHERE since < ? AND state NOT IN ('waiting', 'undo')", (oldest,))

        self._journal.write(work)


def _insert(connection: sqlite3.Connection, event: AdtEvent, now: float) -> bool:
    return bool(
        connection.execute(
            "INSERT OR IGNORE INTO adt_events (digest, control_id, trigger, number, other, birth_date, received_at, content)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                event.digest, event.control_id, event.trigger, event.number, event.other, event.person.birth_date, now,
                json.dumps(asdict(event)),
            ),
        ).rowcount
    )  # fmt: skip


def _forget_old_news(connection: sqlite3.Connection, number: str) -> None:
    """Of what merely updates what is known of a patient, the latest stays."""
    connection.execute(
        "DELETE FROM adt_events WHERE digest IN (SELECT digest FROM adt_events WHERE number = ? AND trigger IN ('A08', 'A31')"
        " ORDER BY received_at DESC LIMIT -1 OFFSET ?)",
        (number, MOST_UPDATES),
    )


def _event(content: str) -> AdtEvent:
    said = json.loads(content)
    person = said.pop("person")
    return AdtEvent(**said, person=RegisteredPerson(**person | {"codes": tuple(person["codes"])}))


def _planned(connection: sqlite3.Connection, number: str, terms: Terms) -> Intent:
    rows = connection.execute("SELECT content FROM adt_events WHERE number = ? OR other = ?", (number, number))
    return plan(number, [_event(row[0]) for row in rows], terms)


def _encounters(connection: sqlite3.Connection, number: str, terms: Terms) -> Iterable[Encounter]:
    found = _planned(connection, number, terms)
    agrees = codice_fiscale.agrees(found.person)
    for events, admitted in ((found.admissions, True), (found.registrations, False)):
        for visit, event in events.items():
            yield Encounter(replace(event, visit=visit), found.person, agrees, admitted)


def _reconcile(connection: sqlite3.Connection, number: str, terms: Terms, now: float) -> None:
    """Hold what is wanted of a number against the acts that stand."""
    wanted = _planned(connection, number, terms)
    if wanted.stated_by is not None:
        _want_patient(connection, number, wanted.person, wanted.stated_by, now)
    doubtful = codice_fiscale.agrees(wanted.person) is False
    standing = _standing(connection, number, ActKind.OPENING)
    for (visit, institution), event in wanted.openings.items():
        if not any(row["subject"] == institution and _follows(row, visit, event) for row in standing):
            _add(connection, ActKind.OPENING, event, visit, institution, now, {"trigger": event.trigger})
    _hold_in_doubt(connection, number, doubtful)
    for row in standing:
        if not any(row["subject"] == to and _follows(row, visit, event) for (visit, to), event in wanted.openings.items()):
            _unwant(connection, row)
    for row in _standing(connection, number, ActKind.ACCEPTANCE):
        if not any(_follows(row, visit, event) for visit, event in wanted.admissions.items()):
            _unwant(connection, row)
    for pair, event in wanted.links.items():
        _want_link(connection, pair, event, now)


def _acts(connection: sqlite3.Connection, number: str, kind: ActKind, states: Collection[str]) -> list[sqlite3.Row]:
    rows = connection.execute("SELECT * FROM adt_acts WHERE number = ? AND kind = ? ORDER BY seq", (number, kind))
    return [row for row in rows if row["state"] in states]


def _standing(connection: sqlite3.Connection, number: str, kind: ActKind) -> list[sqlite3.Row]:
    """The acts that stand: those that live, and those that a person had done by nobody."""
    return [row for row in _acts(connection, number, kind, tuple(ActState)) if _stands(row)]


def _stands(row: sqlite3.Row) -> bool:
    return row["state"] in _LIVE or row["reason"] == DISCARDED


def _follows(row: sqlite3.Row, visit: str, event: AdtEvent) -> bool:
    """Whether an act follows of this visit, or of this very event: a visit without a number is named by its first day, which
    another one becomes when an earlier message comes late."""
    return bool(row["visit"] == visit or row["cause"] == event.digest)


def _add(
    connection: sqlite3.Connection, kind: ActKind, event: AdtEvent, visit: str, subject: str, now: float,
    content: Mapping[str, Any], *, number: str = "", state: ActState = ActState.WAITING,
) -> None:  # fmt: skip
    connection.execute(
        "INSERT INTO adt_acts (kind, number, visit, subject, cause, actor, content, state, since)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (kind, number or event.number, visit, subject, event.digest, event.actor, json.dumps(content), state, now),
    )


def _unwant(connection: sqlite3.Connection, row: sqlite3.Row) -> None:
    """It is not to hold any more: what the archive may have done is undone, what was not tried yet is dropped."""
    tried = row["tried_at"] is not None and row["state"] not in (ActState.ASIDE, ActState.DROPPED)
    connection.execute(
        "UPDATE adt_acts SET state = ?, reason = NULL, attempts = 0, not_before = 0 WHERE seq = ?",
        (ActState.UNDO if tried else ActState.DROPPED, row["seq"]),
    )


def _hold_in_doubt(connection: sqlite3.Connection, number: str, doubtful: bool) -> None:
    """What is not opened yet of a patient whose codice fiscale is not valid, or does not agree, waits for a person."""
    if doubtful:
        connection.execute(
            "UPDATE adt_acts SET state = 'held', reason = ? WHERE number = ? AND kind = 'opening' AND state = 'waiting'"
            " AND tried_at IS NULL AND coalesce(reason, '') != 'released'",
            (DISAGREES, number),
        )
    else:
        connection.execute(
            "UPDATE adt_acts SET state = 'waiting', reason = NULL WHERE number = ? AND kind = 'opening' AND state = 'held'"
            " AND reason = ?",
            (number, DISAGREES),
        )


def _want_patient(connection: sqlite3.Connection, number: str, person: RegisteredPerson, event: AdtEvent, now: float) -> None:
    """What is known of a patient is to be told to the archive, if it is not what was told last."""
    said = json.dumps(asdict(person))
    digest = hashlib.sha256(said.encode()).hexdigest()
    rows = _acts(connection, number, ActKind.PATIENT, tuple(ActState))
    if not rows:
        _add(connection, ActKind.PATIENT, event, "", digest, now, asdict(person))
    elif rows[0]["subject"] != digest:
        connection.execute(
            "UPDATE adt_acts SET subject = ?, content = ?, cause = ?, actor = ?, state = 'waiting', reason = NULL, attempts = 0,"
            " not_before = 0, since = ? WHERE seq = ?",
            (digest, said, event.digest, event.actor, now, rows[0]["seq"]),
        )


def _patient_settled(connection: sqlite3.Connection, act: Act, state: ActState, reason: str | None) -> None:
    """What was told is forgotten here, unless there is news by now."""
    connection.execute(
        "UPDATE adt_acts SET state = ?, reason = ?, content = '{}', attempts = 0, not_before = 0, since = ? WHERE seq = ?"
        " AND subject = ?",
        (state, reason, time.time(), act.seq, act.subject),
    )


def _want_link(connection: sqlite3.Connection, pair: tuple[str, str], event: AdtEvent, now: float) -> None:
    """Two numbers are to be one, or not to be."""
    joined = event.trigger != UNLINKS
    rows = [row for row in _acts(connection, pair[0], ActKind.LINK, tuple(ActState)) if row["subject"] == pair[1]]
    if not rows:
        state = ActState.WAITING if joined else ActState.UNDO
        _add(connection, ActKind.LINK, event, "", pair[1], now, {}, number=pair[0], state=state)
    elif rows[0]["cause"] != event.digest:
        holds = rows[0]["state"] in ((ActState.WAITING, ActState.DONE) if joined else (ActState.UNDO, ActState.UNDONE))
        connection.execute(
            "UPDATE adt_acts SET cause = ?, actor = ?, state = ?, reason = NULL, attempts = 0, not_before = 0 WHERE seq = ?",
            (
                event.digest,
                event.actor,
                rows[0]["state"] if holds else ActState.WAITING if joined else ActState.UNDO,
                rows[0]["seq"],
            ),
        )


def _want_acceptance(connection: sqlite3.Connection, candidate: LocalCandidate, now: float) -> bool:
    event = candidate.encounter.event
    before = connection.execute(
        "SELECT state, reason FROM adt_acts WHERE kind = 'acceptance' AND subject = ?", (candidate.transfer,)
    ).fetchall()
    if any(_stands(row) or row["state"] == ActState.UNDO for row in before):
        return False
    _add(connection, ActKind.ACCEPTANCE, event, event.visit, candidate.transfer, now, {})
    return True


def _propose(connection: sqlite3.Connection, transfer: str, candidates: Sequence[LocalCandidate], now: float) -> None:
    proposed = {candidate.encounter.event.number: candidate for candidate in candidates if not candidate.certain}
    for row in connection.execute("SELECT number FROM adt_proposals WHERE transfer = ?", (transfer,)).fetchall():
        if row["number"] not in proposed:
            connection.execute("DELETE FROM adt_proposals WHERE transfer = ? AND number = ?", (transfer, row["number"]))
    for number, candidate in proposed.items():
        connection.execute(
            "INSERT INTO adt_proposals (transfer, number, evidence, against, since) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (transfer, number) DO UPDATE SET evidence = excluded.evidence, against = excluded.against",
            (transfer, number, json.dumps(candidate.evidence), json.dumps(candidate.against), now),
        )


def _act(connection: sqlite3.Connection, row: sqlite3.Row) -> Act:
    place = (row["number"], row["visit"], row["kind"], row["subject"], row["seq"])
    (generation,) = connection.execute(
        "SELECT count(*) FROM adt_acts WHERE number = ? AND visit = ? AND kind = ? AND subject = ? AND seq < ?", place
    ).fetchone()
    named = "\n".join((*place[:4], row["cause"], str(generation)))
    return Act(
        row["seq"], ActKind(row["kind"]), row["number"], row["visit"], row["subject"], row["cause"], row["actor"],
        json.loads(row["content"]), row["state"] == ActState.UNDO, row["result"], row["tried_at"] is not None, row["attempts"],
        f"adt-{hashlib.sha256(named.encode()).hexdigest()}",
    )  # fmt: skip


def _count(connection: sqlite3.Connection, what: str, now: float, code: str = "") -> None:
    """One more. Of codes only so many are kept apart: a sender that makes them up fills nothing."""
    if code:
        (codes,) = connection.execute("SELECT count(*) FROM adt_counts WHERE what = ? AND code != ''", (what,)).fetchone()
        known = connection.execute("SELECT 1 FROM adt_counts WHERE what = ? AND code = ?", (what, code)).fetchone()
        if codes >= MOST_CODES and not known:
            return
    connection.execute(
        "INSERT INTO adt_counts (what, code, count, last_at) VALUES (?, ?, 1, ?)"
        " ON CONFLICT (what, code) DO UPDATE SET count = count + 1, last_at = excluded.last_at",
        (what, code, now),
    )


@contextmanager
def rehearsal(journal: sqlite3.Connection | None) -> Iterator[sqlite3.Connection]:
    """The tables in memory, with what a journal has in them, for trying what messages would do."""
    memory = sqlite3.connect(":memory:")
    memory.row_factory = sqlite3.Row
    try:
        memory.executescript(REGISTRATION)
        if journal is not None and _is_known(journal):
            for table in ("adt_events", "adt_acts"):
                for row in journal.execute(f"SELECT * FROM {table}"):  # noqa: S608
                    memory.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(tuple(row)))})", tuple(row))  # noqa: S608
        yield memory
    finally:
        memory.close()


def rehearse(memory: sqlite3.Connection, events: Sequence[AdtEvent], terms: Terms) -> list[dict[str, Any]]:
    """What a message's events would change of the acts: each as it would stand."""

    def stand() -> dict[int, dict[str, Any]]:
        return {row["seq"]: dict(row) for row in memory.execute("SELECT * FROM adt_acts ORDER BY seq")}

    before, now = stand(), time.time()
    new = [event for event in events if _insert(memory, event, now)]
    for number in dict.fromkeys(event.number for event in new):
        _reconcile(memory, number, terms, now)
    return [act for seq, act in stand().items() if before.get(seq) != act]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A number of ours under which a person may accept a transfer; what speaks for it and against it, as slugs."""

    transfer: str
    number: str
    evidence: tuple[str, ...]
    against: tuple[str, ...]
    since: float


def proposals(connection: sqlite3.Connection) -> list[Proposal]:
    """What waits for a person's eyes, the oldest first."""
    rows = connection.execute("SELECT transfer, number, evidence, against, since FROM adt_proposals ORDER BY since, number")
    return [Proposal(row[0], row[1], tuple(json.loads(row[2])), tuple(json.loads(row[3])), row[4]) for row in rows]


def waiting_for_a_person(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """Acts that were held or that the archive refused, the oldest first: without anything of the patient."""
    rows = connection.execute(
        "SELECT seq, kind, actor, state, reason, since FROM adt_acts WHERE state IN ('held', 'aside') ORDER BY seq LIMIT ?",
        (MOST_LISTED,),
    )
    return [dict(row) for row in rows]


def release(connection: sqlite3.Connection, numbers: Collection[int]) -> int:
    """Let go on what waits for a person: these, or all; how many."""
    chosen = f" AND seq IN ({','.join(str(int(seq)) for seq in numbers)})" if numbers else ""
    return connection.execute(
        "UPDATE adt_acts SET state = 'waiting', reason = 'released', attempts = 0, not_before = 0"  # noqa: S608
        f" WHERE state IN ('held', 'aside'){chosen}"
    ).rowcount


def discard(connection: sqlite3.Connection, numbers: Collection[int]) -> int:
    """Have what waits for a person done by nobody: these, or all; how many."""
    chosen = f" AND seq IN ({','.join(str(int(seq)) for seq in numbers)})" if numbers else ""
    return connection.execute(
        f"UPDATE adt_acts SET state = 'dropped', reason = '{DISCARDED}' WHERE state IN ('held', 'aside'){chosen}"  # noqa: S608
    ).rowcount


def _is_known(connection: sqlite3.Connection) -> bool:
    """Whether the journal is one of a forwarder that knows of ADT, or is not yet."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'adt_acts'").fetchone() is not None


def summary(connection: sqlite3.Connection) -> dict[str, Any]:
    """How ADT stands, without patient data. Zeros in a journal from before there was any."""
    outcomes = dict.fromkeys((*map(str, EventOutcome), UNREADABLE), 0)
    found: dict[str, Any] = {"events": outcomes, "unknown_destinations": [], "for_a_person": []}
    acts = {f"{kind}s": dict.fromkeys(("waiting", "held", "done", "undone", "aside"), 0) for kind in ActKind}
    found |= {"acts": acts, "waiting": 0, "oldest_waiting_seconds": None, "held": 0, "too_many": 0, "aside": 0, "proposals": 0}
    if not _is_known(connection):
        return found
    for row in connection.execute("SELECT what, count FROM adt_counts WHERE code = ''"):
        outcomes[row["what"]] = row["count"]
    for row in connection.execute(
        "SELECT kind, state, count(*) AS n FROM adt_acts WHERE reason IS NOT ? GROUP BY kind, state", (WITHIN,)
    ):
        state = ActState.WAITING if row["state"] == ActState.UNDO else row["state"]
        if state in acts[f"{row['kind']}s"]:
            acts[f"{row['kind']}s"][state] += row["n"]
    waiting = connection.execute("SELECT count(*), min(since) FROM adt_acts WHERE state IN ('waiting', 'undo')").fetchone()
    found["waiting"] = waiting[0]
    found["oldest_waiting_seconds"] = None if waiting[1] is None else round(max(0.0, time.time() - waiting[1]), 1)
    found["held"] = sum(counts["held"] for counts in acts.values())
    found["aside"] = sum(counts["aside"] for counts in acts.values())
    found["too_many"] = connection.execute(
        "SELECT count(*) FROM adt_acts WHERE state = 'held' AND reason = ?", (TOO_MANY,)
    ).fetchone()[0]
    found["proposals"] = connection.execute("SELECT count(*) FROM adt_proposals").fetchone()[0]
    found["for_a_person"] = waiting_for_a_person(connection)
    found["unknown_destinations"] = [
        {"code": row["code"], "count": row["count"], "last_at": row["last_at"]}
        for row in connection.execute("SELECT code, count, last_at FROM adt_counts WHERE code != '' ORDER BY last_at DESC, code")
    ]
    return found
