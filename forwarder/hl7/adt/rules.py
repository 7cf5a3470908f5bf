"""What follows from ADT events: pure, and whatever the order in which they came.

Of all that is known of a patient, `plan` says what is to hold: what is said of the patient, which transfers are to be open, which
admissions accept, which numbers are one. `judge` holds admissions against a transfer that waits. Nothing here acts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from forwarder.hl7.adt.event import (
    ADMITS,
    CANCELS,
    DISCHARGES,
    LINKS,
    MOVES,
    OPENS,
    REGISTERS,
    UNLINKS,
    UPDATES,
    WILL_DISCHARGE,
    WILL_MOVE,
    AdtEvent,
    RegisteredPerson,
)
from forwarder.hl7.moments import moment_of
from forwarder.stand_in import BIRTH_DATE, is_stand_in


class EventOutcome(StrEnum):
    """What an event comes to, for the counts and the page."""

    OPENS = "opens"
    PREPARES = "prepares"
    ADMITS = "admits"
    PROPOSES = "proposes"
    UPDATES = "updates"
    LINKS = "links"
    UNLINKS = "unlinks"
    CANCELS = "cancels"
    NOT_FOR_US = "not-for-us"
    NOBODY = "destination-of-nobody"
    SEVERAL = "several-destinations"
    NO_CONSENT = "no-consent"
    LATE = "too-late"


@dataclass(frozen=True, slots=True)
class Terms:
    """As configured: whether a consent is needed, whether what is announced opens at once; the window of acceptance, in days;
    whether only an admission that names the hospital that the patient comes from accepts."""

    consent: bool = False
    pending_opens: bool = False
    accept_days: int = 30
    early_days: int = 3
    only_named: bool = False


@dataclass(frozen=True)
class Intent:
    """What is to hold of one number: what is known of the patient and since which event; by (visit, institution) the transfers
    that are to be open, by visit the admissions, by pair of numbers whether they are one; each with the event that says so."""

    person: RegisteredPerson
    stated_by: AdtEvent | None
    openings: Mapping[tuple[str, str], AdtEvent]
    admissions: Mapping[str, AdtEvent]
    registrations: Mapping[str, AdtEvent]
    links: Mapping[tuple[str, str], AdtEvent]
    """Where the event is an A37 the two are not one."""


def outcome(event: AdtEvent, terms: Terms) -> EventOutcome:
    """What an event alone comes to."""
    if event.trigger in OPENS:
        if event.several:
            return EventOutcome.SEVERAL
        if not event.to:
            return EventOutcome.NOBODY if event.unknown else EventOutcome.UPDATES
        if terms.consent and not event.consent:
            return EventOutcome.NO_CONSENT
        if event.late:
            return EventOutcome.LATE
        pending = event.trigger in (WILL_DISCHARGE, WILL_MOVE)
        return EventOutcome.PREPARES if pending and not terms.pending_opens else EventOutcome.OPENS
    if event.trigger == ADMITS:
        return EventOutcome.LATE if event.late else EventOutcome.ADMITS
    if event.trigger in REGISTERS:
        return EventOutcome.PROPOSES
    if event.trigger in UPDATES:
        return EventOutcome.UPDATES
    if event.trigger in LINKS:
        return EventOutcome.LINKS
    return EventOutcome.UNLINKS if event.trigger == UNLINKS else EventOutcome.CANCELS


def plan(number: str, events: Iterable[AdtEvent], terms: Terms) -> Intent:
    """What is to hold of a number, from all events that name it or a number that it was ever one with, in any order.

    Those of such another number count in a visit that has a number: there they cancel, and say where the patient goes after all,
    since after a merge a registration tells of the same visit under the number that stays. They open and admit nothing here.
    """
    ordered = sorted(set(events), key=_place)
    person, stated_by = RegisteredPerson(), None
    links: dict[tuple[str, str], AdtEvent] = {}
    visits: dict[str, list[AdtEvent]] = {}
    for event in ordered:
        if event.number == number:
            updated = person.updated(event.person)
            stated_by = event if stated_by is None or updated != person else stated_by
            person = updated
        if event.number == number or event.visit:
            visits.setdefault(event.visit, []).append(event)
        if number in pair_of(event):
            links[min(event.number, event.other), max(event.number, event.other)] = event
    openings: dict[tuple[str, str], AdtEvent] = {}
    admissions: dict[str, AdtEvent] = {}
    registrations: dict[str, AdtEvent] = {}
    for visit, found in _stays(visits):
        standing = _standing(found)
        for event in (event for event in _opening(standing, terms) if event.number == number):
            openings.setdefault((visit, event.to), event)
        for event in (event for event in standing if event.number == number):
            if event.trigger == ADMITS and not event.late:
                admissions[visit] = event
            elif event.trigger in REGISTERS:
                registrations[visit] = event
    return Intent(person, stated_by, openings, admissions, registrations, links)


def pair_of(event: AdtEvent) -> tuple[str, ...]:
    """The two numbers that an event joins or parts; of any other none."""
    joins = event.other and event.other != event.number and (event.trigger in LINKS or event.trigger == UNLINKS)
    return (event.number, event.other) if joins else ()


def _stays(visits: Mapping[str, Sequence[AdtEvent]]) -> Iterable[tuple[str, Sequence[AdtEvent]]]:
    """Each visit and its events, in order. Of those that name no visit, what lies more than a week apart is another one."""
    for visit, events in visits.items():
        if visit:
            yield visit, events
            continue
        stay: list[AdtEvent] = []
        for event in events:
            if stay and moment_of(event.at) - moment_of(stay[-1].at) > timedelta(days=7):
                yield f"~{stay[0].at[:8]}", stay
                stay = []
            stay.append(event)
        yield f"~{stay[0].at[:8]}", stay


def _place(event: AdtEvent) -> tuple[datetime, bool, str]:
    """By when it was recorded; what cancels, or says that two are not one, comes after what happened in the same moment: many
    registrations know the minute only, or the day."""
    return moment_of(event.at), event.trigger in CANCELS or event.trigger == UNLINKS, event.digest


def _standing(events: Sequence[AdtEvent]) -> list[AdtEvent]:
    """The events of one visit that no later one cancels.

    A cancel of which EVN-6 says when that happened which it cancels, cancels exactly that, where there is such an event; else all
    of its kind so far: an A03 that was sent again is the same discharge. A11 cancels an A04 too.
    """
    standing: list[AdtEvent] = []
    for event in events:
        if event.trigger not in CANCELS:
            standing.append(event)
            continue
        kinds = {CANCELS[event.trigger]} | ({"A04"} if event.trigger == "A11" else set())
        meant = [earlier for earlier in standing if earlier.trigger in kinds]
        happened = moment_of(event.occurred)
        exactly = [earlier for earlier in meant if event.dated and moment_of(earlier.occurred) == happened]
        standing = [earlier for earlier in standing if earlier not in (exactly or meant)]
    return standing


def _opening(standing: Sequence[AdtEvent], terms: Terms) -> list[AdtEvent]:
    """The events of a visit by which a transfer is to be open: the last discharge that names a destination, and each A02 to a
    member. What is only announced counts where it is configured so, and until it happens."""
    found = _going(standing, DISCHARGES, [event for event in standing if event.trigger == DISCHARGES and event.placed][-1:])
    found += [event for event in standing if event.trigger == MOVES and event.to]
    if terms.pending_opens:
        discharged = any(event.trigger == DISCHARGES for event in standing)
        moved = any(event.trigger == MOVES and event.to for event in standing)
        for kind, happened in ((WILL_DISCHARGE, discharged), (WILL_MOVE, moved)):
            if not happened:
                found += _going(standing, kind, [event for event in standing if event.trigger == kind and event.placed][-1:])
    return [event for event in found if outcome(event, terms) is EventOutcome.OPENS]


def _going(standing: Sequence[AdtEvent], kind: str, last: Sequence[AdtEvent]) -> list[AdtEvent]:
    """The last event of a kind, or the first one that says the same: so what was sent again is not opened again."""
    for event in last:
        same = [other for other in standing if other.trigger == kind and other.placed and other.to == event.to]
        return same[:1] if event.to else []
    return []


@dataclass(frozen=True, slots=True)
class Incoming:
    """A transfer that waits for us: whose, since when (aware), our numbers that are linked to its patient, and what its sender
    says of the patient, None where that was not asked."""

    id: str
    sender: str
    opened_at: datetime
    linked: tuple[str, ...]
    person: RegisteredPerson | None = None


@dataclass(frozen=True, slots=True)
class Encounter:
    """A patient who is here, or announced: the event, what is known of the patient by now, whether the codice fiscale is valid
    and agrees (None: there is none), and whether it is an admission or a registration only."""

    event: AdtEvent
    person: RegisteredPerson
    agrees: bool | None
    admitted: bool


@dataclass(frozen=True, slots=True)
class LocalCandidate:
    """A number of ours that a transfer's patient may have; whether that is certain enough to accept, and what speaks for and
    against, as slugs."""

    transfer: str
    encounter: Encounter
    certain: bool
    evidence: tuple[str, ...]
    against: tuple[str, ...] = ()


def judge(transfers: Sequence[Incoming], encounters: Sequence[Encounter], terms: Terms) -> list[LocalCandidate]:
    """What encounters say of transfers that wait. At most one candidate of a transfer is certain, and only where

    * the patient was admitted (A01), within the window;
    * exactly one number of ours is linked to the transfer's (the archive links by a codice fiscale that agrees with both records,
      or a person did), and that is the admitted one;
    * the message's own codice fiscale, if it has one, is valid and agrees;
    * nothing contradicts: not the birth date, not the sex, not the hospital from which the message says the patient comes; and
      the message names that hospital, where it is configured so;
    * no transfer of another sender waits for the same number, unless the message says from which the patient comes.

    All else is a proposal, for a person.
    """
    found = [candidate for transfer in transfers for candidate in _candidates(transfer, encounters, terms)]
    return [_alone(candidate, found, {transfer.id: transfer for transfer in transfers}) for candidate in found]


def _candidates(transfer: Incoming, encounters: Sequence[Encounter], terms: Terms) -> Iterable[LocalCandidate]:
    best: dict[str, LocalCandidate] = {}
    for encounter in encounters:
        number = encounter.event.number
        if not _in_window(transfer, encounter.event, terms):
            continue
        linked = number in transfer.linked
        evidence, against = _compared(transfer, encounter)
        if linked:
            evidence.insert(0, "linked")
        if len(transfer.linked) > 1 and linked:
            against.append("several-numbers")
        if encounter.agrees is False:
            against.append("codice-fiscale-disagrees")
        if linked or ({"same-name", "same-birth-date"} <= set(evidence) and not against):
            is_named = "coming-from-there" in evidence or not terms.only_named
            certain = linked and encounter.admitted and is_named and not against
            candidate = LocalCandidate(transfer.id, encounter, certain, tuple(evidence), tuple(against))
            if number not in best or certain:
                best[number] = candidate
    return best.values()


def _compared(transfer: Incoming, encounter: Encounter) -> tuple[list[str], list[str]]:
    evidence: list[str] = []
    against: list[str] = []
    if transfer.person is not None:
        for what, ours, theirs in (
            ("name", _folded(encounter.person.name), _folded(transfer.person.name)),
            ("birth-date", encounter.person.birth_date, transfer.person.birth_date),
            ("sex", encounter.person.sex, transfer.person.sex),
        ):
            stands_in = ours == BIRTH_DATE or (what == "name" and is_stand_in(encounter.person.name))
            if ours and theirs and ours == theirs and not stands_in:
                evidence.append(f"same-{what}")
            elif ours and theirs and ours != theirs and what != "name":  # names are written in many ways
                against.append(f"different-{what}")
    if encounter.event.coming_from:
        same = encounter.event.coming_from == transfer.sender
        (evidence if same else against).append("coming-from-there" if same else "coming-from-elsewhere")
    return evidence, against


def _alone(candidate: LocalCandidate, found: Collection[LocalCandidate], transfers: Mapping[str, Incoming]) -> LocalCandidate:
    """The same, no longer certain where another hospital's transfer waits for the same number as well."""
    number, sender = candidate.encounter.event.number, transfers[candidate.transfer].sender
    rivals = {
        transfers[rival.transfer].sender
        for rival in found
        if rival.encounter.event.number == number and "linked" in rival.evidence
    } - {sender}  # fmt: skip
    if not candidate.certain or not rivals or "coming-from-there" in candidate.evidence:
        return candidate
    return LocalCandidate(
        candidate.transfer, candidate.encounter, False, candidate.evidence, (*candidate.against, "several-senders")
    )


def _in_window(transfer: Incoming, event: AdtEvent, terms: Terms) -> bool:
    occurred = moment_of(event.occurred)
    return (
        transfer.opened_at - timedelta(days=terms.early_days)
        <= occurred
        <= transfer.opened_at + timedelta(days=terms.accept_days)
    )


def _folded(name: str) -> str:
    """A name as it is compared: family and given, without blanks, signs and case."""
    return "^".join("".join(letter for letter in part.casefold() if letter.isalnum()) for part in name.split("^")[:2])
