"""What the audit trail says of one event: who did what to whose data, when, why, and how it ended.

A *view* says what happened as an `Entry`; the door adds the `RequestContext` of the request; together they make a *record*:
one flat JSON object of at most about 1 KB, chained by `domain.audit_chain` and shown as FHIR by `api.audit_event`.
Event codes: DICOM PS3.15 A.5 and PS3.16 CID 400, 401; purposes: HL7 v3 PurposeOfUse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Protocol, TypeAlias

from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Write
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.sharing import Decision
from chalicelib.domain.study_views import FiledStudy

UNREGISTERED = "unregistered"
"""What stands for the institution of a caller that no institution has registered. No institution can have this id."""
EMERGENCY_BASIS = "emergency:"
"""What an emergency access begins with in the basis of a record; a transfer stands there as it is."""
BY_OWNER = Decision(True)
MAX_PATIENTS = 2
"""Patient identifiers that one record carries and can be found by; an entry with more becomes several records."""
_MAX_TEXT = 240
_MAX_NAME = 64


class Kind(StrEnum):
    """What happened. Each has its row in `EVENTS`."""

    QUERY = "query"
    DISCLOSURE = "disclosure"
    READ = "read"
    ACCESS = "access"
    SENT = "sent"
    SHOWN = "shown"
    AHEAD = "ahead"
    IMPORT = "import"
    UPLOAD_REMOVED = "upload-removed"
    TRANSFER_OPENED = "transfer-opened"
    TRANSFER_ENDED = "transfer-ended"
    TRANSFER_EXTENDED = "transfer-extended"
    TRANSFER_ACCEPTED = "transfer-accepted"
    ACCEPTANCE_ENDED = "transfer-acceptance-ended"
    PATIENT_STATED = "patient-stated"
    LINK_CONFIRMED = "link-confirmed"
    LINK_UNDONE = "link-undone"
    OBJECTION = "objection"
    OBJECTION_WITHDRAWN = "objection-withdrawn"
    CONSENT = "consent"
    EMERGENCY = "emergency"
    EMERGENCY_REVIEWED = "emergency-reviewed"
    WITHDRAWAL = "withdrawal"
    ERASURE_ORDERED = "erasure-ordered"
    ERASURE = "erasure"
    CORRECTION = "correction"
    CORRECTION_NOTED = "correction-noted"
    SESSION = "session"
    ADMINISTRATION = "administration"
    AUDIT_USED = "audit-used"
    REFUSAL = "refusal"
    PROBED = "probed"


@dataclass(frozen=True)
class Event:
    """How a kind is coded: DICOM event id and its meaning, FHIR action (C, R, U, D, E), DICOM event type code if any."""

    code: str
    meaning: str
    action: str
    subtype: tuple[str, str] | None = None


EVENTS: dict[Kind, Event] = {
    Kind.QUERY: Event("110112", "Query", "E"),  # PS3.15 A.5.3.10
    Kind.DISCLOSURE: Event("110106", "Export", "R"),  # A.5.3.5: seen by another institution
    Kind.READ: Event("110110", "Patient Record", "R"),  # A.5.3.8: seen by the owner itself
    Kind.ACCESS: Event("110103", "DICOM Instances Accessed", "R"),  # A.5.3.3: an address was handed out
    Kind.SENT: Event("110104", "DICOM Instances Transferred", "R"),  # A.5.3.7: the bytes themselves were answered
    Kind.SHOWN: Event("110103", "DICOM Instances Accessed", "R"),  # what was handed out is still on the screen
    Kind.AHEAD: Event("110103", "DICOM Instances Accessed", "R"),  # handed out to the page before anybody looked
    Kind.IMPORT: Event("110107", "Import", "C"),  # A.5.3.6
    Kind.UPLOAD_REMOVED: Event("110107", "Import", "D"),  # what was imported and is no DICOM
    Kind.TRANSFER_OPENED: Event("110110", "Patient Record", "C"),
    Kind.TRANSFER_ENDED: Event("110110", "Patient Record", "D"),
    Kind.TRANSFER_EXTENDED: Event("110110", "Patient Record", "U"),
    Kind.TRANSFER_ACCEPTED: Event("110110", "Patient Record", "U"),
    Kind.ACCEPTANCE_ENDED: Event("110110", "Patient Record", "U"),
    Kind.PATIENT_STATED: Event("110110", "Patient Record", "U"),
    Kind.LINK_CONFIRMED: Event("110110", "Patient Record", "U"),
    Kind.LINK_UNDONE: Event("110110", "Patient Record", "U"),
    Kind.OBJECTION: Event("110110", "Patient Record", "U"),
    Kind.OBJECTION_WITHDRAWN: Event("110110", "Patient Record", "U"),
    Kind.CONSENT: Event("110110", "Patient Record", "U"),
    Kind.EMERGENCY: Event("110113", "Security Alert", "E", ("110127", "Emergency Override Started")),  # A.5.3.11
    Kind.EMERGENCY_REVIEWED: Event("110113", "Security Alert", "U", ("110138", "Emergency Override Stopped")),
    Kind.WITHDRAWAL: Event("110105", "DICOM Study Deleted", "D"),  # A.5.3.4
    Kind.ERASURE_ORDERED: Event("110110", "Patient Record", "U"),  # asked for, confirmed, taken back; a rule for it
    Kind.ERASURE: Event("110105", "DICOM Study Deleted", "D"),  # bytes and facts are gone
    Kind.CORRECTION: Event("110110", "Patient Record", "U"),
    Kind.CORRECTION_NOTED: Event("110110", "Patient Record", "U"),  # by a reader of what was corrected or withdrawn
    Kind.SESSION: Event("110114", "User Authentication", "E", ("110122", "Login")),  # A.5.3.12
    Kind.ADMINISTRATION: Event("110113", "Security Alert", "E", ("110136", "Security Roles Changed")),
    Kind.AUDIT_USED: Event("110101", "Audit Log Used", "R"),  # A.5.3.2
    Kind.REFUSAL: Event("110113", "Security Alert", "E", ("110132", "Use of Restricted Function")),
    Kind.PROBED: Event("110113", "Security Alert", "E", ("110132", "Use of Restricted Function")),  # refusals, told to the owner
}


class Purpose(StrEnum):
    """Why (HL7 v3 PurposeOfUse)."""

    TREATMENT = "TREAT"
    EMERGENCY = "ETREAT"
    OPERATIONS = "HOPERAT"
    ADMINISTRATION = "HSYSADMIN"
    PATIENT_REQUEST = "PATRQT"


@dataclass(frozen=True)
class Entry:
    """What a view says happened. `owner` is the institution whose patient or study it is: it finds this in its audit.

    `patients` are the numbers by which the owner knows the patient. `basis` names the transfers, and with the prefix
    `emergency:` the emergency accesses, by which the caller may see what it saw; `subject` the transfer, link, objection,
    institution … acted upon; `count` how many instances; `text` the query, or the reason given, cut to 240 characters.
    """

    kind: Kind
    owner: str | None = None
    patients: tuple[PatientIdentifier, ...] = ()
    study: str | None = None
    purpose: Purpose = Purpose.TREATMENT
    basis: tuple[str, ...] = ()
    subject: str | None = None
    count: int | None = None
    text: str | None = None


@dataclass(frozen=True)
class RequestContext:
    """What the door knows of a request. `institution` is an id, `operator`, or `unregistered`.

    `actor` is the person (X-On-Behalf-Of) or, without one, the role's session name; `role` the machine.
    """

    at: datetime
    request_id: str
    route: str
    institution: str
    actor: str
    role: str
    session: str
    address: str = ""


Recorder: TypeAlias = Callable[[Entry], None]
"""What a service that reads is given to say what it hands out; nothing leaves before that is recorded."""


class Act(Protocol):
    """What a service that changes something is given: the writes and their entries are one transaction."""

    def __call__(self, writes: Sequence[Write], *entries: Entry) -> list[bool]:
        """Empty when all was done and recorded; else nothing was: for each write whether its condition held."""
        ...


@dataclass(frozen=True)
class DisclosedStudy:
    """A study that was shown: what a disclosure is made of. `basis` is empty for the owner itself."""

    owner: str
    study: str
    patients: tuple[PatientIdentifier, ...]
    basis: tuple[str, ...] = ()

    @property
    def purpose(self) -> Purpose:
        """Treatment, or, where no transfer but an emergency opened it, emergency treatment."""
        by_emergency_only = bool(self.basis) and all(named.startswith(EMERGENCY_BASIS) for named in self.basis)
        return Purpose.EMERGENCY if by_emergency_only else Purpose.TREATMENT


def disclosed(study: FiledStudy, decision: Decision = BY_OWNER) -> DisclosedStudy:
    """A study, and why it may be seen."""
    basis = (*decision.transfers, *(EMERGENCY_BASIS + emergency for emergency in decision.emergencies))
    return DisclosedStudy(study.owner, study.study_instance_uid, study.patients, basis)


def of_study(kind: Kind, study: DisclosedStudy, count: int | None = None) -> Entry:
    """The entry that something was done with a study, such as handing out addresses of `count` of its instances."""
    return Entry(kind, study.owner, study.patients, study.study, study.purpose, study.basis, count=count)


def disclosures(viewer: str, shown: Iterable[DisclosedStudy]) -> list[Entry]:
    """One entry for each distinct patient of another institution among the studies that `viewer` was shown.

    It names the study where there is one only; `count` is how many there were.
    """
    by_patient: dict[tuple[str, tuple[PatientIdentifier, ...]], dict[str, DisclosedStudy]] = {}
    for study in shown:
        if study.owner != viewer:
            by_patient.setdefault((study.owner, study.patients), {})[study.study] = study
    return [
        Entry(
            Kind.DISCLOSURE,
            owner,
            patients,
            next(iter(studies)) if len(studies) == 1 else None,
            next(iter(studies.values())).purpose,
            basis=tuple(sorted({basis for study in studies.values() for basis in study.basis})),
            count=len(studies),
        )
        for (owner, patients), studies in by_patient.items()
    ]


Record = dict[str, object]
"""One event as it is stored: text, numbers, and lists of them; absent rather than null."""


def records(context: RequestContext, entries: Sequence[Entry]) -> list[Record]:
    """The records of one request, not yet chained. An entry with more than two patients becomes several."""
    return [_record(context, part) for entry in entries for part in _parts(entry)]


def _parts(entry: Entry) -> Iterator[Entry]:
    patients = tuple(dict.fromkeys(entry.patients))
    yield replace(entry, patients=patients[:MAX_PATIENTS])
    for start in range(MAX_PATIENTS, len(patients), MAX_PATIENTS):
        yield replace(entry, patients=patients[start : start + MAX_PATIENTS])


def _record(context: RequestContext, entry: Entry) -> Record:
    record: Record = {
        "at": iso(context.at),
        "kind": entry.kind.value,
        "outcome": "refused" if entry.kind in (Kind.REFUSAL, Kind.PROBED) else "success",
        "purpose": entry.purpose.value,
        "institution": context.institution,
        "actor": _cut(context.actor, _MAX_NAME),
        "role": _cut(context.role, _MAX_NAME),
        "session": _cut(context.session, _MAX_NAME),
        "address": _cut(context.address, _MAX_NAME),
        "request": _cut(context.request_id, _MAX_NAME),
        "route": context.route,
        "owner": entry.owner,
        "patients": [[_cut(patient.issuer, 128), _cut(patient.value, _MAX_NAME)] for patient in entry.patients],
        "study": entry.study,
        "basis": list(entry.basis[:3]),
        "subject": _cut(entry.subject, _MAX_NAME),
        "count": entry.count,
        "text": _cut(entry.text, _MAX_TEXT),
    }
    return {name: value for name, value in record.items() if value not in (None, "", [])}


def _cut(text: str | None, length: int) -> str | None:
    """At most `length` characters, and none that UTF-8 does not know."""
    if text is None:
        return None
    clean = text.encode("utf-8", "replace").decode()
    return clean if len(clean) <= length else clean[: length - 1] + "…"


def patients_of(record: Record) -> list[PatientIdentifier]:
    """The patient identifiers of a stored record."""
    found = record.get("patients", [])
    return [PatientIdentifier(str(issuer), str(value)) for issuer, value in found] if isinstance(found, list) else []
