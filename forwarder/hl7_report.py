"""What a message says: the reports in ORU^R01 and MDM^T02, each of one study (HL7 v2.5.1 chapters 7 and 9; IHE RAD).

A group begins with its OBR (ORU) or TXA (MDM), with the ORC before it; what follows belongs to it. Where one group alone has
content, the other groups' studies were read together with it, and get the same content.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from forwarder.config import Hl7Config
from forwarder.hl7_message import Refusal, Segment, parse

LARGEST = 4_400_000  # bytes of one document, as the archive takes it
MOST = 100  # reports in one message
KINDS = {("ORU", "R01"): "OBR", ("MDM", "T02"): "TXA"}
"""What is taken, and the segment with which a group begins."""
VERSIONS = ("2.3", "2.3.1", "2.4", "2.5", "2.5.1")
PRELIMINARY = frozenset({"P", "R", "A", "S", "I", "O", "DI", "IP", "IN", "PA", "DO"})  # OBR-25, OBX-11, TXA-17
GONE = frozenset({"D", "X", "W"})
TEXT, PDF, CDA = "text/plain; charset=utf-8", "application/pdf", "application/hl7-cda+xml"
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_STUDY_CODES = ("113014", "DICOM STUDY", "STUDY INSTANCE UID")  # in OBX-3: the code in DCM, or its meaning


@dataclass(frozen=True, slots=True)
class Report:
    """One document of one study. `study` may be "" where there is an `accession` number; `patients`: the numbers in PID-3.

    `document` names it without telling anything; its versions share it. `content` None: the sender takes the report back.
    """

    study: str
    accession: str
    patients: tuple[str, ...]
    document: str
    part: int
    title: str
    media_type: str
    content: bytes | None


@dataclass(slots=True)
class _Group:
    patient: Segment | None
    head: Segment
    segments: list[Segment] = field(default_factory=list)
    documents: list[tuple[str, bytes]] = field(default_factory=list)
    taken_back: bool = False
    state: str = ""

    def value(self, place: str) -> str:
        """The first value in this group of a field such as “OBR-18” or “IPC-1.1”."""
        name, _, number = place.partition("-")
        where, _, component = number.partition(".")
        values = (one.value(int(where), int(component or 1)) for one in self.segments if one.name == name)
        return next((value for value in values if value), "")


def check_header(header: Segment, config: Hl7Config) -> None:
    """Whether messages of this kind are taken, and from this sender. Raises Refusal (AR)."""
    kind, event = header.value(9, 1), header.value(9, 2)
    if not any(kind == known for known, _ in KINDS):
        raise Refusal("AR", 200, "Only ORU^R01 and MDM^T02 are taken here.", "MSH", 1, 9)
    if (kind, event) not in KINDS:
        raise Refusal("AR", 201, "Only ORU^R01 and MDM^T02 are taken here.", "MSH", 1, 9)
    if header.value(12) not in VERSIONS:
        raise Refusal("AR", 203, f"The version is none of {', '.join(VERSIONS)}.", "MSH", 1, 12)
    if (header.value(11) or "P") != config.processing_id:
        raise Refusal("AR", 202, f"Only messages with processing id {config.processing_id} are taken here.", "MSH", 1, 11)
    if config.allowed_senders and not {sender_of(header), header.value(3)} & {*config.allowed_senders}:
        raise Refusal("AR", 103, "This sender is not known here.", "MSH", 1, 3)
    if not header.value(10):
        raise Refusal("AR", 101, "The message has no control id.", "MSH", 1, 10)


def sender_of(header: Segment) -> str:
    """Sending application and facility, as in “RIS@SAN-MATTEO”."""
    return f"{header.value(3)}@{header.value(4)}"


def read_reports(content: bytes, header: Segment, config: Hl7Config) -> list[Report]:
    """The reports in a message that `check_header` lets pass. Raises Refusal (AE) that names segment and field."""
    segments = parse(content, header, config.charset, config.max_segments)
    groups = list(_groups(segments, KINDS[header.value(9, 1), header.value(9, 2)]))
    for group in groups:
        _read(group)
    full = [group for group in groups if group.documents]
    if not full and not any(group.taken_back for group in groups):
        raise Refusal("AE", 101, "No OBX holds a report: text (TX, FT, ST), or a PDF or CDA (ED).", "OBX", 1, 5)
    reports: list[Report] = []
    for group in groups:
        if len(full) == 1 and _read_together(group, full[0]):
            group.documents, group.state = full[0].documents, full[0].state
        if group.documents or group.taken_back:
            reports += _reports(group, sender_of(header), config)
        if len(reports) > MOST or sum(len(one.content or b"") for one in reports) > 10 * LARGEST:
            raise Refusal("AE", 207, f"The message has more than {MOST} reports, or more than {10 * LARGEST} bytes of them.")
    return reports


def _read_together(group: _Group, full: _Group) -> bool:
    """Whether an order without content is one that the report of another order of the same patient speaks of too."""
    bare = not group.documents and not group.taken_back
    return bare and group.patient is full.patient and group.state in ("F", full.state)


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
        raise Refusal("AE", 100, f"The message has no {head} segment.", head)
    return found


def _read(group: _Group) -> None:
    """Find out the group's documents and its state."""
    texts: list[tuple[str, str]] = []
    files: list[tuple[str, bytes]] = []
    states: set[str] = set()
    for obx in (one for one in group.segments if one.name == "OBX" and not _names_study(one)):
        kind, state = obx.value(2), obx.value(11)
        if kind not in ("TX", "FT", "ST", "ED"):
            continue
        states.add(state)
        if state in GONE:
            continue
        if kind == "ED":
            files += [_file(obx, repetition) for repetition in obx.repetitions(5)]
        else:
            lines = obx.raw(5).replace(obx.delimiters.repetition, "\n")
            texts.append((obx.value(3, 2), obx.unescape(lines)))
    group.state = group.value("TXA-17" if group.head.name == "TXA" else "OBR-25")
    if not group.state:
        group.state = next((one for one in (*sorted(PRELIMINARY), "C") if one in states), "F")
    text = _CONTROLS.sub("", _joined(texts)).strip("\n")
    if text.strip():
        note = "REFERTO PROVVISORIO\n\n" if group.state in PRELIMINARY else ""  # its title alone would not make it a version
        files.insert(0, (TEXT, (note + text).encode()))
    group.taken_back = group.state in GONE or (not files and bool(states & GONE))
    group.documents = [] if group.taken_back else files


def _joined(texts: Sequence[tuple[str, str]]) -> str:
    """Lines, with the names of sections above them where there are several sections."""
    lines: list[str] = []
    several = len({name for name, _ in texts}) > 1
    for position, (name, text) in enumerate(texts):
        if several and name and (position == 0 or texts[position - 1][0] != name):
            lines += [*([""] if lines else []), name]
        lines.append(text.replace("\r\n", "\n").replace("\r", "\n"))
    return "\n".join(lines)


def _file(obx: Segment, repetition: str) -> tuple[str, bytes]:
    """The document in an ED (2.A.24): what it is, its bytes say."""
    if obx.component(repetition, 4).upper() != "BASE64":
        raise Refusal("AE", 102, "A document in OBX-5 (ED) has to be in Base64.", "OBX", obx.number, 5)
    try:
        content = base64.b64decode(re.sub(r"\s", "", obx.component(repetition, 5)), validate=True)
    except (binascii.Error, ValueError):
        raise Refusal("AE", 102, "The Base64 in OBX-5 (ED) is damaged.", "OBX", obx.number, 5) from None
    if content.startswith(b"%PDF-") and b"%%EOF" in content[-2048:]:
        return PDF, content
    if b"ClinicalDocument" in content[:8192] and b"urn:hl7-org:v3" in content[:8192]:
        return CDA, content
    raise Refusal("AE", 102, "The document in OBX-5 (ED) is neither a whole PDF nor a CDA.", "OBX", obx.number, 5)


def _names_study(obx: Segment) -> bool:
    names = {obx.value(3, component).upper() for component in (1, 2, 4, 5)}
    return bool(names & {*_STUDY_CODES})


def _study(group: _Group) -> str:
    """The Study Instance UID in OBX, ZDS-1 or IPC-3; "" where there is none."""
    places = [(one, 5) for one in group.segments if one.name == "OBX" and _names_study(one)]
    places += [(one, {"ZDS": 1, "IPC": 3}[one.name]) for one in group.segments if one.name in ("ZDS", "IPC")]
    found: dict[str, tuple[Segment, int]] = {}
    for one, where in places:
        if uid := one.value(where) or one.value(where, 2):  # an HD may have it in its second component
            found[uid] = one, where
    for uid, (one, where) in reversed(found.items()):
        if len(found) > 1 or len(uid) > 64 or not _UID.fullmatch(uid):
            text = "Several studies are named for one report." if len(found) > 1 else "This is no Study Instance UID."
            raise Refusal("AE", 102, text, one.name, one.number, where)
    return next(iter(found), "")


def _patients(group: _Group, authority: str) -> tuple[str, ...]:
    """The numbers in PID-3, of one assigning authority (PID-3.4, its name or its OID) if one is configured."""
    pid = group.patient
    if pid is None:
        raise Refusal("AE", 100, "No PID segment stands before the report.", "PID")
    found: list[str] = []
    for one in pid.repetitions(3):
        issuers = {pid.unescape(part).strip() for part in (one.split(pid.delimiters.component) + [""] * 4)[3].split(
            pid.delimiters.subcomponent)}  # fmt: skip
        if (number := pid.component(one, 1)) and (not authority or authority in issuers):
            found.append(number)
    if not found:
        raise Refusal("AE", 101, "PID-3 has no patient number that counts here.", "PID", pid.number, 3)
    return tuple(dict.fromkeys(found))


def _reports(group: _Group, sender: str, config: Hl7Config) -> list[Report]:
    head = group.head
    study, patients = _study(group), _patients(group, config.patient_authority)
    accession = next((value for value in map(group.value, config.accession_fields) if value), "")
    if not study and not accession:
        where = config.accession_fields[0].partition("-") if config.accession_fields else ("OBX", "", "5")
        text = "Neither a Study Instance UID nor an accession number tells the study."
        raise Refusal("AE", 101, text, where[0], head.number, int(where[2].partition(".")[0]))
    order = ("TXA-12", "TXA-15", "OBR-3", "ORC-3") if head.name == "TXA" else ("OBR-3", "ORC-3", "OBR-2")
    number = next((value for value in map(group.value, order) if value), accession or study)
    document = hashlib.sha256(f"{sender}\n{number}".encode()).hexdigest()[:32]
    if group.taken_back:
        return [Report(study, accession, patients, document, 1, "", "", None)]
    title = _title(group)
    reports: list[Report] = []
    for media_type, content in group.documents:
        if len(content) > LARGEST:
            raise Refusal("AE", 207, f"A document has more than {LARGEST} bytes.", "OBX", 1, 5)
        part = 1 + sum(one.media_type == media_type for one in reports)
        reports.append(Report(study, accession, patients, document, part, title, media_type, content))
    return reports


def _title(group: _Group) -> str:
    """What was done, and the state of the report where it is not simply final; at most 64 printable characters."""
    state = " (provvisorio)" if group.state in PRELIMINARY else " (corretto)" if group.state == "C" else ""
    name = group.value("OBR-4.2") or group.value("OBR-4.5") or group.value("OBR-4") or "Referto"
    printable = "".join(one if one.isprintable() else " " for one in name)
    return " ".join(printable.split())[: 64 - len(state)].strip() + state
