"""What a message says: the reports in ORU^R01 and MDM^T01 to T11, each of one study (HL7 v2.5.1 chapters 7 and 9; IHE RAD).

A group begins with its OBR (ORU) or TXA (MDM), with the ORC before it; what follows belongs to it. Where one group alone has
content, the other groups' studies were read together with it, and get the same content. A Study Instance UID that the message
names once counts for the groups too that name neither a study nor an accession number.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from forwarder.config import Hl7Config
from forwarder.header import is_uid
from forwarder.hl7 import content as hl7_content
from forwarder.hl7.content import GONE, LARGEST, names_study
from forwarder.hl7.message import RefusedMessage, Segment, parse
from forwarder.hl7.moments import at_the_hospital, moment_of

MOST = 100  # reports in one message
KINDS = {("ORU", "R01"): "OBR", **{("MDM", f"T{number:02}"): "TXA" for number in range(1, 12)}}
"""What is taken, and the segment with which a group begins."""
NOTIFICATIONS = frozenset({"T01", "T03", "T05", "T07", "T09"})
"""Events that need not bring a document; T11 takes one back."""
TAKEN = "ORU^R01 and MDM^T01 to MDM^T11"
ORDERS = frozenset({("ORM", "O01"), ("OMG", "O19"), ("OMI", "O23")})
ADT_EVENT = re.compile(r"[A-Z]\d{2}")
_VERSION = re.compile(r"2\.[1-9](\.\d)?")
PRELIMINARY = frozenset({"P", "R", "S", "I", "O", "M", "N", "DI", "IP", "IN", "PA", "DO"})  # OBR-25, OBX-11, TXA-17
STATUSES = {**dict.fromkeys(PRELIMINARY, "preliminary"), "A": "partial", "F": "final", "AU": "final", "LA": "final",
            "C": "corrected"}  # fmt: skip
"""The status that the archive is told."""
TITLES = {
    "preliminary": " (provvisorio)", "partial": " (parziale o integrato)", "corrected": " (corretto)",
    "addendum": " (integrazione)",
}  # fmt: skip
HEADINGS = {"preliminary": "REFERTO PROVVISORIO\n\n", "partial": "REFERTO PARZIALE O INTEGRATO\n\n"}


@dataclass(frozen=True, slots=True)
class Report:
    """One document of one study. `study` may be "" where there is an `accession` number; `patients`: the numbers in PID-3.

    `document` names it without telling anything; its versions share it. `content` None: the sender takes the report back.
    `at`: when this version was written (as `moments.at_the_hospital`); "" if the message does not say it. `dated`:
    whether that is the time of this version, and not of the exam. `status`: of `STATUSES`, "addendum", or "". `replaces`: the
    name of another document that it stands in for, or "". `examined`: when the exam was made (as `at`), or "".
    """

    study: str
    accession: str
    patients: tuple[str, ...]
    document: str
    part: int
    title: str
    media_type: str
    content: bytes | None
    at: str = ""
    dated: bool = False
    status: str = ""
    replaces: str = ""
    examined: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """The reports of a message, and what in it was left out beside them: each a RefusedMessage that says what and where."""

    reports: list[Report]
    left_out: list[RefusedMessage]


@dataclass(slots=True)
class _Group:
    patient: Segment | None
    head: Segment
    segments: list[Segment] = field(default_factory=list)
    documents: list[tuple[str, bytes]] = field(default_factory=list)
    taken_back: bool = False
    status: str = ""
    study: str = ""
    accession: str = ""
    others: list[str] = field(default_factory=list)  # further accession numbers, of exams that the report is of too

    @property
    def exams(self) -> list[tuple[str, str]]:
        """(study, accession number) of each exam that the report is of; a study counts for more than further numbers."""
        return [(self.study, self.accession), *(("", number) for number in self.others if not self.study)]

    def value(self, place: str) -> str:
        """The first value in this group of a field such as “OBR-18” or “IPC-1.1”."""
        name, where, component = _field(place)
        values = (segment.value(where, component) for segment in self.segments if segment.name == name)
        return next((value for value in values if value), "")

    def values(self, place: str) -> list[str]:
        """All different ones, of each repetition."""
        name, where, component = _field(place)
        found = (
            segment.component(repetition, component)
            for segment in self.segments
            if segment.name == name
            for repetition in segment.repetitions(where)
        )
        return list(dict.fromkeys(value for value in found if value))


def check_header(header: Segment, config: Hl7Config) -> None:
    """Whether messages of this kind are taken, and from this sender. Raises RefusedMessage (AR)."""
    kind, event = kind_of(header)
    known, text = {taken for taken, _ in KINDS}, TAKEN
    if config.adt.enabled:
        known, text = known | {"ADT"}, f"{TAKEN}, and ADT"
    if config.orders.enabled:
        known, text = known | {name for name, _ in ORDERS}, f"{text}, and orders"
    if kind not in known:
        raise RefusedMessage("AR", 200, f"Only {text} are taken here.", "MSH", 1, 9)
    if (kind, event) not in KINDS and not (kind == "ADT" and ADT_EVENT.fullmatch(event)) and (kind, event) not in ORDERS:
        raise RefusedMessage("AR", 201, f"Only {text} are taken here.", "MSH", 1, 9)
    if (version := header.value(12)) and not _VERSION.fullmatch(version):
        raise RefusedMessage("AR", 203, "The version is none of 2.1 to 2.9.", "MSH", 1, 12)
    if (header.value(11) or "P") != config.processing_id:
        raise RefusedMessage("AR", 202, f"Only messages with processing id {config.processing_id} are taken here.", "MSH", 1, 11)
    if config.allowed_senders and not {sender_of(header), header.value(3)} & {*config.allowed_senders}:
        raise RefusedMessage("AR", 103, "This sender is not known here.", "MSH", 1, 3)
    if not header.value(10):
        raise RefusedMessage("AR", 101, "The message has no control id.", "MSH", 1, 10)


def kind_of(header: Segment) -> tuple[str, str]:
    """Message type and event; before 2.3 a result had the type only."""
    kind, event = header.value(9, 1).upper(), header.value(9, 2).upper()
    return kind, event or ("R01" if kind == "ORU" else "")


def sender_of(header: Segment) -> str:
    """Sending application and facility, as in “RIS@SAN-MATTEO”."""
    return f"{header.value(3)}@{header.value(4)}"


def read_reports(content: bytes, header: Segment, config: Hl7Config) -> Reading:
    """The reports in a message that `check_header` lets pass; none in a mere notification. Raises RefusedMessage (AE)."""
    segments = parse(content, header, config.charset, config.max_segments)
    kind, event = kind_of(header)
    groups = list(_groups(segments, KINDS[kind, event]))
    left_out: list[RefusedMessage] = []
    for group in groups:
        left_out += _read(group, event)
        group.study = _study(group)
        group.accession, *group.others = next((found for found in map(group.values, config.accession_fields) if found), [""])
    _share_study(groups)
    full = [group for group in groups if group.documents]
    if not full and not any(group.taken_back for group in groups):
        if event in NOTIFICATIONS:
            return Reading([], [])
        raise RefusedMessage("AE", 101, "No OBX holds a report: text (TX, FT, ST), or a PDF or CDA (ED).", "OBX", 1, 5)
    reports: list[Report] = []
    for group in groups:
        if len(full) == 1 and _read_together(group, full[0]):
            if (group.study, group.accession) in (("", ""), *full[0].exams):
                continue  # it names no study beside those of the report
            group.documents, group.status = full[0].documents, full[0].status
        if group.documents or group.taken_back:
            reports += _reports(group, event, sender_of(header), config)
        if len(reports) > MOST or sum(len(report.content or b"") for report in reports) > 10 * LARGEST:
            raise RefusedMessage(
                "AE", 207, f"The message has more than {MOST} reports, or more than {10 * LARGEST} bytes of them."
            )
    return Reading(reports, left_out)


def _read_together(group: _Group, full: _Group) -> bool:
    """Whether an order without content is one that the report of another order of the same patient speaks of too."""
    bare = not group.documents and not group.taken_back
    return bare and group.patient is full.patient and group.status in ("", "final", full.status)


def _field(place: str) -> tuple[str, int, int]:
    """Segment, field and component of “OBR-18” or “IPC-1.1”."""
    name, _, number = place.partition("-")
    where, _, component = number.partition(".")
    return name, int(where), int(component or 1)


def _share_study(groups: Sequence[_Group]) -> None:
    """Groups that name no study have the one that the message names for their patient, if it names one only."""
    for group in groups:
        if not group.study and not group.accession:
            named = {other.study for other in groups if other.study and other.patient is group.patient}
            group.study = next(iter(named)) if len(named) == 1 else ""


def _groups(segments: Sequence[Segment], head: str) -> list[_Group]:
    found: list[_Group] = []
    patient: Segment | None = None
    before: list[Segment] = []  # what precedes a group's head and belongs to it
    current: _Group | None = None
    for segment in segments:
        if segment.name == "PID":
            patient, current, before = segment, None, []
        elif segment.name == head:
            current = _Group(patient, segment, [*before, segment])
            found.append(current)
            before = []
        elif segment.name == "ORC":
            current, before = None, [segment]
        elif current is None:
            before.append(segment)
        else:
            current.segments.append(segment)
    if not found:
        raise RefusedMessage("AE", 100, f"The message has no {head} segment.", head)
    return found


def _read(group: _Group, event: str) -> list[RefusedMessage]:
    """Find out the group's documents and its status; what in it is left out."""
    content = hl7_content.read(group.segments)
    state = group.value("TXA-17" if group.head.name == "TXA" else "OBR-25").upper()
    if not state:
        state = next((state for state in (*sorted(PRELIMINARY), "A", "C") if state in content.states), "F")
    group.status = _status(state, event)
    group.taken_back = event == "T11" or state in GONE or group.value("TXA-19") in ("CA", "OB")
    if group.taken_back:
        return []
    group.documents = content.documents(HEADINGS.get(group.status, ""))
    group.taken_back = not group.documents and bool(content.states & GONE)
    return [refusal for _, refusal in content.left_out]


def _status(state: str, event: str) -> str:
    """An addendum says itself that it is one; what is edited or replaced when it was final is corrected."""
    if event in ("T05", "T06"):
        return "addendum"
    status = STATUSES.get(state, "")
    return "corrected" if event in ("T07", "T08", "T09", "T10") and status == "final" else status


def _study(group: _Group) -> str:
    """The Study Instance UID in OBX, ZDS-1 or IPC-3; "" where there is none."""
    places = [(segment, 5) for segment in group.segments if segment.name == "OBX" and names_study(segment)]
    places += [(segment, {"ZDS": 1, "IPC": 3}[segment.name]) for segment in group.segments if segment.name in ("ZDS", "IPC")]
    found: dict[str, tuple[Segment, int]] = {}
    for segment, where in places:
        for repetition in segment.repetitions(where):
            if uid := segment.component(repetition, 1) or segment.component(
                repetition, 2
            ):  # an HD may have it in its second component
                found[uid] = segment, where
    for uid, (segment, where) in reversed(found.items()):
        if len(found) > 1 or not is_uid(uid):
            text = "Several studies are named for one report." if len(found) > 1 else "This is no Study Instance UID."
            raise RefusedMessage("AE", 102, text, segment.name, segment.number, where)
    return next(iter(found), "")


def _patients(group: _Group, config: Hl7Config) -> tuple[str, ...]:
    """The numbers in the configured fields; in PID-3 those of one assigning authority (its name or OID) if one is configured."""
    pid, authority = group.patient, config.patient_authority
    if pid is None:
        raise RefusedMessage("AE", 100, "No PID segment stands before the report.", "PID")
    found: list[str] = []
    for place in config.patient_fields:
        for repetition in pid.repetitions(where := int(place.removeprefix("PID-"))):
            issuers = {pid.unescape(part).strip() for part in (repetition.split(pid.delimiters.component) + [""] * 4)[3].split(
                pid.delimiters.subcomponent)}  # fmt: skip
            if (number := pid.component(repetition, 1)) and (where != 3 or not authority or authority in issuers):
                found.append(number)
    if not found:
        text = f"{config.patient_fields[0]} has no patient number that counts here."
        raise RefusedMessage("AE", 101, text, "PID", pid.number, int(config.patient_fields[0].removeprefix("PID-")))
    return tuple(dict.fromkeys(found))


def _reports(group: _Group, event: str, sender: str, config: Hl7Config) -> list[Report]:
    head = group.head
    study, accession, patients = group.study, group.accession, _patients(group, config)
    if not study and not accession:
        where = config.accession_fields[0].partition("-") if config.accession_fields else ("OBX", "", "5")
        text = "Neither a Study Instance UID nor an accession number tells the study."
        raise RefusedMessage("AE", 101, text, where[0], head.number, int(where[2].partition(".")[0]))
    order = ("TXA-12", "TXA-15", "OBR-3", "ORC-3") if head.name == "TXA" else ("OBR-3", "ORC-3", "OBR-2")
    number = next((value for value in map(group.value, order) if value), accession or study)
    parent = group.value("TXA-13") if event in ("T05", "T06", "T09", "T10") else ""
    if group.status == "addendum" and parent in ("", number):  # it has no name of its own, and is no version of what it adds to
        said = b"".join(content for _, content in group.documents)
        number = f"{number}\naddendum\n{hashlib.sha256(said).hexdigest()}"
    document = _named(sender, number)
    replaces = _named(sender, parent) if event in ("T09", "T10") and parent not in ("", number) else ""
    at, dated = _when(group)
    examined = at_the_hospital(group.value("OBR-7"))
    if group.taken_back:
        return [Report(*exam, patients, document, 1, "", "", None, at, dated) for exam in group.exams]
    title = _title(group)
    reports: list[Report] = []
    parts: dict[str, int] = {}
    for media_type, content in group.documents:
        if len(content) > LARGEST:
            raise RefusedMessage("AE", 207, f"A document has more than {LARGEST} bytes.", "OBX", 1, 5)
        part = parts[media_type] = parts.get(media_type, 0) + 1
        for exam in group.exams:
            reports.append(
                Report(*exam, patients, document, part, title, media_type, content, at, dated, group.status, replaces, examined)
            )
    return reports


def _named(sender: str, number: str) -> str:
    return hashlib.sha256(f"{sender}\n{number}".encode()).hexdigest()[:32]


def _when(group: _Group) -> tuple[str, bool]:
    """(when this version was written, whether the message says so): OBR-22, or the latest time in TXA; else OBR-7, or "" ."""
    places = ("TXA-8", "TXA-7", "TXA-6", "TXA-4") if group.head.name == "TXA" else ("OBR-22",)
    said = max(filter(None, (at_the_hospital(group.value(place)) for place in places)), key=moment_of, default="")
    if said or (said := at_the_hospital(group.value("OBR-22"))):
        return said, True
    return at_the_hospital(group.value("OBR-7")), False


def _title(group: _Group) -> str:
    """What was done, and the state of the report where it is not simply final; at most 64 printable characters."""
    state = TITLES.get(group.status, "")
    name = group.value("OBR-4.2") or group.value("OBR-4.5") or group.value("OBR-4") or "Referto"
    printable = "".join(letter if letter.isprintable() else " " for letter in name)
    return " ".join(printable.split())[: 64 - len(state)].strip() + state
