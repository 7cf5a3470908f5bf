"""What an ADT message says, in the hospital's dialect (HL7 v2.5.1 chapter 3): it becomes events of one patient each.

Where destination, visit, consent and the like stand is configuration (`[hl7.adt]`), not code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from forwarder.config import AdtConfig, Hl7Config
from forwarder.hl7.message import RefusedMessage, Segment, parse
from forwarder.hl7.moments import at_the_hospital, with_fraction

CODICE_FISCALE = "2.16.840.1.113883.2.9.4.3.2"
ADMITS, REGISTERS, UPDATES = "A01", frozenset({"A04", "A05"}), frozenset({"A08", "A31"})
DISCHARGES, MOVES, WILL_DISCHARGE, WILL_MOVE = "A03", "A02", "A16", "A15"
CANCELS = {"A11": ADMITS, "A13": DISCHARGES, "A12": MOVES, "A25": WILL_DISCHARGE, "A26": WILL_MOVE}
"""What cancels which event of the same visit."""
OPENS = frozenset({DISCHARGES, MOVES, WILL_DISCHARGE, WILL_MOVE})
LINKS, UNLINKS = frozenset({"A18", "A34", "A36", "A40", "A47", "A24"}), "A37"
TAKEN = OPENS | frozenset(CANCELS) | {ADMITS} | REGISTERS | UPDATES | LINKS | {UNLINKS}
"""The events of which something may come. Every other ADT is acknowledged, and nothing else."""
MOST_EVENTS = 100
"""Patients in one message (A40 may have many)."""
LONGEST = 64  # characters of a number (as the archive takes it), and of a code
_NUMBER_TYPES = ("MR", "PI", "PT")
"""Types by which a number of the hospital's own is preferred to one of no type (table 0203); others are no patient's."""


@dataclass(frozen=True, slots=True)
class RegisteredPerson:
    """What is said of a patient: name as in DICOM (`FAMILY^GIVEN`), birth date (YYYYMMDD), sex (M, F, O), codici fiscali."""

    name: str = ""
    birth_date: str = ""
    sex: str = ""
    codes: tuple[str, ...] = ()

    def updated(self, later: RegisteredPerson) -> RegisteredPerson:
        """The same after what was said later; what it leaves out stays."""
        return RegisteredPerson(
            later.name or self.name, later.birth_date or self.birth_date, later.sex or self.sex, later.codes or self.codes
        )


@dataclass(frozen=True, slots=True)
class AdtEvent:
    """One event of one patient.

    `digest` names it; `number` is the hospital's own, `other` the second one of a merge or link; `at` when it was recorded and
    `occurred` when it happened, at the hospital (YYYYMMDD[HHMMSS[.f]][+ZZZZ]), `dated` whether the message says
    the latter.
    `to`: the institution where the patient goes, "" for none; `placed`: whether the message names any destination; `unknown`: the
    code of one that is nobody's. `coming_from`: the institution whence. `late`: it came too long after it had happened for
    anything to be opened or accepted.
    """

    digest: str
    control_id: str
    trigger: str
    number: str
    at: str
    occurred: str
    dated: bool
    person: RegisteredPerson
    other: str = ""
    visit: str = ""
    to: str = ""
    placed: bool = False
    unknown: str = ""
    several: bool = False
    """Whether the message names several institutions as destination."""
    consent: bool = False
    coming_from: str = ""
    late: bool = False

    @property
    def actor(self) -> str:
        """Under which name the archive records what the event does: at most 64 printable characters of ASCII."""
        control_id = "".join(letter for letter in self.control_id if letter.isascii() and letter.isprintable())
        return f"HL7 ADT^{self.trigger} {control_id}"[:64]


def read_events(content: bytes, header: Segment, config: Hl7Config, digest: str) -> list[AdtEvent]:
    """The events of an ADT message whose trigger is one of `TAKEN`. Raises RefusedMessage (AE)."""
    segments = parse(content, header, config.charset, config.max_segments)
    trigger = trigger_of(header, segments)
    at, occurred, dated = _moments(header, segments)
    events: list[AdtEvent] = []
    for position, (pid, other) in enumerate(_patients(segments, trigger)):
        if position == MOST_EVENTS:
            raise RefusedMessage("AE", 207, f"The message speaks of more than {MOST_EVENTS} patients.", "PID", pid.number)
        number = number_of(pid, 3, config)
        second = number_of(other, 1 if other.name == "MRG" else 3, config) if other else ""
        event = AdtEvent(
            f"{digest}-{position}", header.value(10), trigger, number, at, occurred, dated, _person(pid, config.adt), second
        )
        events.append(_with_visit(event, segments, config.adt))
    return events


def trigger_of(header: Segment, segments: Sequence[Segment] = ()) -> str:
    """The event: MSH-9.2, or EVN-1 in messages of before 2.3.1."""
    named = header.value(9, 2) or next((segment.value(1) for segment in segments if segment.name == "EVN"), "")
    return named.upper()


def _moments(header: Segment, segments: Sequence[Segment]) -> tuple[str, str, bool]:
    """(when it was recorded: EVN-2, else MSH-7; when it happened: EVN-6, else the former; whether EVN-6 says it)."""
    evn = next((segment for segment in segments if segment.name == "EVN"), None)
    at = (_moment(evn.value(2)) if evn else "") or _moment(header.value(7))
    if not at:
        raise RefusedMessage("AE", 101, "Neither EVN-2 nor MSH-7 says when this was.", "EVN", 1, 2)
    occurred = _moment(evn.value(6)) if evn else ""
    return at, occurred or at, bool(occurred)


def _moment(text: str) -> str:
    fraction = re.search(r"\.(\d{1,4})", text)
    moment = at_the_hospital(text)
    return with_fraction(moment, fraction[1]) if fraction else moment


def _patients(segments: Sequence[Segment], trigger: str) -> Iterator[tuple[Segment, Segment | None]]:
    """(the patient, the second one): PID and the MRG after it for merges, two PID for links. Raises RefusedMessage."""
    pids = [segment for segment in segments if segment.name == "PID"]
    if not pids:
        raise RefusedMessage("AE", 100, "The message has no PID segment.", "PID")
    if trigger in ("A24", UNLINKS):
        if len(pids) != 2:
            raise RefusedMessage("AE", 100, "A link is of two patients, each with its PID segment.", "PID")
        yield pids[0], pids[1]
    elif trigger in LINKS:
        named = [segment for segment in segments if segment.name in ("PID", "MRG")]
        if [segment.name for segment in named] != ["PID", "MRG"] * (len(named) // 2):
            raise RefusedMessage("AE", 100, "Each PID segment needs an MRG segment after it.", "MRG")
        yield from zip(named[::2], named[1::2], strict=True)
    elif len(pids) > 1:
        raise RefusedMessage("AE", 100, "The message has more than one PID segment.", "PID", 2)
    else:
        yield pids[0], None


def number_of(segment: Segment, field: int, config: Hl7Config) -> str:
    """The patient's number of `hl7.patient_authority`. Raises RefusedMessage where there is none, or more than one."""
    typed: dict[str, None] = {}
    plain: dict[str, None] = {}
    for repetition in segment.repetitions(field):
        value, kind = segment.component(repetition, 1), segment.component(repetition, 5).upper()
        if value and config.patient_authority in _authorities(segment, repetition) and (not kind or kind in _NUMBER_TYPES):
            (typed if kind else plain)[value] = None
    found = list(typed or plain)
    if not found:
        raise RefusedMessage(
            "AE", 101, "There is no number of the patient authority that counts here.", segment.name, segment.number, field
        )
    if len(found) > 1:
        raise RefusedMessage(
            "AE", 102, "There are several numbers of the patient authority.", segment.name, segment.number, field
        )
    if len(found[0]) > LONGEST or not found[0].isprintable() or "\\" in found[0]:
        raise RefusedMessage("AE", 102, f"A number has 1 to {LONGEST} characters.", segment.name, segment.number, field)
    return found[0]


def _authorities(segment: Segment, repetition: str) -> set[str]:
    """Name and OID of an identifier's assigning authority (CX.4)."""
    parts = (repetition.split(segment.delimiters.component) + [""] * 4)[3].split(segment.delimiters.subcomponent)
    return {name for part in parts if (name := segment.unescape(part).strip())}


def _person(pid: Segment, config: AdtConfig) -> RegisteredPerson:
    names = pid.repetitions(5)
    legal = next((name for name in names if pid.component(name, 7).upper() == "L"), names[0])
    family, given, middle, suffix, prefix = (pid.component(legal, number) for number in range(1, 6))
    family = family.split(pid.delimiters.subcomponent)[0]
    name = "^".join(_plain(part) for part in (family, given, middle, prefix, suffix)).rstrip("^")
    birth = at_the_hospital(pid.value(7))[:8]
    sex = pid.value(8).upper()
    return RegisteredPerson(name[:194], birth, sex if sex in ("M", "F", "O") else "", tuple(dict.fromkeys(_codes(pid, config))))


def _plain(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable() and letter not in "\\^=").strip()


def _codes(pid: Segment, config: AdtConfig) -> Iterator[str]:
    """What stands where a codice fiscale stands, valid or not."""
    kinds = {kind.upper() for kind in config.codice_fiscale_types}
    for repetition in pid.repetitions(3):
        if CODICE_FISCALE in _authorities(pid, repetition) or pid.component(repetition, 5).upper() in kinds:
            yield from _code(pid.component(repetition, 1))
    for place in config.codice_fiscale_fields:
        yield from _code(value_of([pid], place))


def _code(value: str) -> Iterator[str]:
    code = value.upper()
    if re.fullmatch(r"[A-Z0-9]{11,16}", code):
        yield code


def value_of(segments: Sequence[Segment], place: str) -> str:
    """The first value of a field such as “PV1-37” or “PV1-3.4”."""
    name, _, number = place.partition("-")
    where, _, component = number.partition(".")
    values = (segment.value(int(where), int(component or 1)) for segment in segments if segment.name == name)
    return next((value[:LONGEST] for value in values if value), "")


def _with_visit(event: AdtEvent, segments: Sequence[Segment], config: AdtConfig) -> AdtEvent:
    visit = next((value for value in (value_of(segments, place) for place in config.visit_fields) if value), "")
    consent = value_of(segments, config.consent_field).upper() in {value.upper() for value in config.consent_values}
    places = {
        DISCHARGES: config.discharge_fields, WILL_DISCHARGE: config.discharge_fields,
        MOVES: config.transfer_fields, WILL_MOVE: config.pending_fields,
    }.get(event.trigger, [])  # fmt: skip
    codes = [code for place in places if (code := value_of(segments, place))]
    found = {name for code in codes if (name := _institution(code, segments, config))}
    origins = (_institution(value_of(segments, place), segments, config) for place in config.admitted_from_fields)
    return replace(
        event,
        visit=visit,
        consent=consent,
        to=next(iter(found)) if len(found) == 1 else "",
        placed=bool(codes),
        unknown="" if found else next((code for code in codes if not _is_known(code, segments, config)), ""),
        several=len(found) > 1,
        coming_from=next(filter(None, origins), "") if event.trigger == ADMITS else "",
    )


def _institution(code: str, segments: Sequence[Segment], config: AdtConfig) -> str:
    """The institution that a code names, or of one with subcomponents (an HD) its first part; "" for none."""
    return config.destinations.get(code) or config.destinations.get(_first(code, segments)) or ""


def _is_known(code: str, segments: Sequence[Segment], config: AdtConfig) -> bool:
    """Whether a code is none of the city's by configuration, or the sender itself (MSH-4)."""
    first = _first(code, segments)
    return code in config.destinations or first in config.destinations or first == segments[0].value(4)


def _first(code: str, segments: Sequence[Segment]) -> str:
    return code.split(segments[0].delimiters.subcomponent)[0].strip()
