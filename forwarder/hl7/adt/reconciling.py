"""What is to hold (`rules.plan`) held against the acts that stand in the journal: what is missing is added, what is not wanted
any more is undone. Every function works in a transaction of its caller's."""

from __future__ import annotations

import hashlib
import itertools
import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from forwarder.hl7.adt import codice_fiscale
from forwarder.hl7.adt.acts import ANOTHERS, DISAGREES, DISCARDED, LIVE, Act, ActKind, ActState
from forwarder.hl7.adt.event import UNLINKS, AdtEvent, RegisteredPerson
from forwarder.hl7.adt.rules import Encounter, Intent, LocalCandidate, Terms, pair_of, plan

MOST_CODES = 100
MOST_JOINED = 16
"""Numbers that are looked at together; one under which hundreds were merged is none of a patient's."""
MOST_UPDATES = 100


def insert(connection: sqlite3.Connection, event: AdtEvent, now: float) -> bool:
    """Take an event in; whether it is new."""
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


def forget_old_news(connection: sqlite3.Connection, number: str) -> None:
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


def _of(connection: sqlite3.Connection, number: str) -> list[AdtEvent]:
    rows = connection.execute("SELECT content FROM adt_events WHERE number = ? OR other = ?", (number, number))
    return [_event(row[0]) for row in rows]


def ever_one(connection: sqlite3.Connection, number: str) -> tuple[list[str], list[AdtEvent]]:
    """The number and those that a registration ever joined with it, directly or not, and all events that name one of them."""
    found: dict[str, list[AdtEvent]] = {}
    beyond = [number]
    while beyond and len(found) < MOST_JOINED:
        following = beyond.pop(0)
        if following not in found:
            found[following] = _of(connection, following)
            beyond += sorted({other for event in found[following] for other in pair_of(event)})
    return list(found), list(itertools.chain(*found.values()))


def _planned(connection: sqlite3.Connection, number: str, terms: Terms) -> Intent:
    return plan(number, ever_one(connection, number)[1], terms)


def registered(connection: sqlite3.Connection, number: str, terms: Terms) -> RegisteredPerson:
    """What is known of a patient by now."""
    return _planned(connection, number, terms).person


def encounters(connection: sqlite3.Connection, number: str, terms: Terms) -> Iterable[Encounter]:
    """Who was admitted or announced here under a number, visit by visit."""
    found = _planned(connection, number, terms)
    agrees = codice_fiscale.agrees(found.person)
    for events, admitted in ((found.admissions, True), (found.registrations, False)):
        for visit, event in events.items():
            yield Encounter(replace(event, visit=visit), found.person, agrees, admitted)


def _about(number: str, events: Sequence[AdtEvent]) -> list[AdtEvent]:
    """Those of the events from which something follows for one number: that name it, or a visit of its own. One that stood for
    unknown persons may have thousands."""
    visits = {event.visit for event in events if event.visit and event.number == number}
    return [event for event in events if number in (event.number, event.other) or event.visit in visits]


def reconcile(connection: sqlite3.Connection, number: str, terms: Terms, now: float) -> None:
    """Hold what is wanted of a number, and of those that were ever one with it, against the acts that stand."""
    numbers, events = ever_one(connection, number)
    for each in numbers:
        _reconcile(connection, each, plan(each, _about(each, events), terms), now)


def _reconcile(connection: sqlite3.Connection, number: str, wanted: Intent, now: float) -> None:
    if wanted.stated_by is not None:
        _want_patient(connection, number, wanted.person, wanted.stated_by, now)
    doubtful = codice_fiscale.agrees(wanted.person) is False
    standing = _standing(connection, number, ActKind.OPENING)
    for (visit, institution), event in wanted.openings.items():
        if not any(row["subject"] == institution and _follows(row, visit, event) for row in standing):
            _add(connection, ActKind.OPENING, event, visit, institution, now, {"trigger": event.trigger})
    _look_again(connection, number)
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
    return row["state"] in LIVE or row["reason"] == DISCARDED


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


def _look_again(connection: sqlite3.Connection, number: str) -> None:
    """There is news of a patient: perhaps the exams under the number are this person's after all."""
    connection.execute(
        "UPDATE adt_acts SET state = 'waiting', reason = NULL, content = json_remove(content, '$.held')"
        " WHERE number = ? AND kind = 'opening' AND state = 'held' AND reason = ?",
        (number, ANOTHERS),
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


def patient_settled(connection: sqlite3.Connection, act: Act, state: ActState, reason: str | None) -> None:
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


def want_acceptance(connection: sqlite3.Connection, candidate: LocalCandidate, now: float) -> bool:
    """Have a transfer accepted; whether that is new."""
    event = candidate.encounter.event
    before = connection.execute(
        "SELECT state, reason FROM adt_acts WHERE kind = 'acceptance' AND subject = ?", (candidate.transfer,)
    ).fetchall()
    if any(_stands(row) or row["state"] == ActState.UNDO for row in before):
        return False
    _add(connection, ActKind.ACCEPTANCE, event, event.visit, candidate.transfer, now, {})
    return True


def propose(connection: sqlite3.Connection, transfer: str, candidates: Sequence[LocalCandidate], now: float) -> None:
    """Propose those of a transfer's candidates who are not certain to a person, and no others."""
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


def read_act(connection: sqlite3.Connection, row: sqlite3.Row) -> Act:
    """An act as its row has it."""
    place = (row["number"], row["visit"], row["kind"], row["subject"], row["seq"])
    (generation,) = connection.execute(
        "SELECT count(*) FROM adt_acts WHERE number = ? AND visit = ? AND kind = ? AND subject = ? AND seq < ?", place
    ).fetchone()
    named = "\n".join((*place[:4], row["cause"], str(generation)))
    content = json.loads(row["content"])
    return Act(
        row["seq"], ActKind(row["kind"]), row["number"], row["visit"], row["subject"], row["cause"], row["actor"],
        content, row["state"] == ActState.UNDO, row["result"], row["tried_at"] is not None, row["attempts"],
        f"adt-{hashlib.sha256(named.encode()).hexdigest()}", content.get("held", "") if row["reason"] == "released" else "",
    )  # fmt: skip


def count(connection: sqlite3.Connection, what: str, now: float, code: str = "") -> None:
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
