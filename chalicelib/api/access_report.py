"""The report of accesses that a patient may ask for, in words that a layperson understands: who, where, when, what, why."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from chalicelib.domain import tags
from chalicelib.domain.audit import EMERGENCY_BASIS, Kind, Purpose, Record
from chalicelib.domain.audit_sessions import Session
from chalicelib.domain.dicom_json import first_value
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.institutions import Institution, Registry
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.sharing import HOSPITAL_TIME
from chalicelib.services.audit.reading import Details

Words = Callable[[str], str]


def N_(text: str) -> str:
    """Mark a text for the catalogs; it is translated where it is used."""
    return text


_WHAT: dict[Kind, str] = {
    Kind.QUERY: N_("Searched for your examinations"),
    Kind.DISCLOSURE: N_("Saw which examinations you have had"),
    Kind.READ: N_("Looked at your page: which examinations you have had, and who may see them"),
    Kind.ACCESS: N_("Opened images or a report"),
    Kind.SENT: N_("Received images or a report"),
    Kind.SHOWN: N_("Had images or a report on the screen"),
    Kind.AHEAD: N_("Had images fetched that nobody had looked at yet"),
    Kind.IMPORT: N_("Added images or a report"),
    Kind.UPLOAD_REMOVED: N_("Had a file removed that was no image"),
    Kind.TRANSFER_OPENED: N_("Opened the sharing of your examinations with another hospital"),
    Kind.TRANSFER_ENDED: N_("Ended the sharing of your examinations with another hospital"),
    Kind.TRANSFER_EXTENDED: N_("Prolonged the sharing of your examinations with another hospital"),
    Kind.TRANSFER_ACCEPTED: N_("Accepted you from another hospital, which from then on sees your follow-up examinations"),
    Kind.ACCEPTANCE_ENDED: N_("Ended that acceptance: the other hospital no longer sees your follow-up examinations"),
    Kind.PATIENT_STATED: N_("Recorded your name, date of birth and numbers"),
    Kind.LINK_CONFIRMED: N_("Confirmed that your numbers at two hospitals are the same person's"),
    Kind.LINK_UNDONE: N_("Undid the link between your numbers at two hospitals"),
    Kind.OBJECTION: N_("Recorded that examinations are to be hidden or specially protected"),
    Kind.OBJECTION_WITHDRAWN: N_("Recorded that examinations are no longer to be hidden"),
    Kind.CONSENT: N_("Recorded your consent, or its end"),
    Kind.EMERGENCY: N_("Declared an emergency to see your examinations"),
    Kind.EMERGENCY_REVIEWED: N_("Reviewed an access that was made in an emergency"),
    Kind.WITHDRAWAL: N_("Withdrew an examination, or a part of it, that was sent in error"),
    Kind.ERASURE_ORDERED: N_("Decided that examinations are to be erased, or that they are not"),
    Kind.ERASURE: N_("Erased an examination for good"),
    Kind.CORRECTION: N_("Corrected whose an examination is, or showed again what was taken back"),
    Kind.CORRECTION_NOTED: N_("Took note that a report that they had read was corrected, or an examination withdrawn"),
    Kind.SESSION: N_("Began or ended a reading session"),
    Kind.ADMINISTRATION: N_("Changed the settings of the archive"),
    Kind.AUDIT_USED: N_("Looked at this list of accesses"),
    Kind.REFUSAL: N_("Asked for examinations and was refused"),
    Kind.PROBED: N_("Asked for your examinations and was refused"),
}
_WHY: dict[Purpose, str] = {
    Purpose.TREATMENT: N_("Treatment"),
    Purpose.EMERGENCY: N_("Treatment in an emergency"),
    Purpose.OPERATIONS: N_("Running of the service"),
    Purpose.ADMINISTRATION: N_("Administration of the archive"),
    Purpose.PATIENT_REQUEST: N_("At your request"),
}


_NAMED = 5
"""Examinations that one line names."""


@dataclass(frozen=True)
class Line:
    """One access as people read it."""

    when: str
    who: str
    what: str
    why: str


def when(moment: datetime, _: Words) -> str:
    """An aware moment in the hospitals' time, as the language writes it."""
    return moment.astimezone(HOSPITAL_TIME).strftime(_("%Y-%m-%d %H:%M"))


def entry(session: Session, found: Details, registry: Registry, _: Words) -> JsonObject:
    """One reading session, or one act, as JSON: for machines, with the same words as on paper."""
    line, record = describe(session, found, registry, _), session.main
    institution, opened = str(record["institution"]), session.opened()
    return {
        "at": iso(session.begin),
        "until": iso(session.end),
        "person": record["actor"] if by_person(record) else None,
        "machine": record.get("role"),
        "institution": {"id": institution, "name": _name(registry, institution)},
        "kind": record["kind"],
        "purpose": record["purpose"],
        "outcome": record["outcome"],
        "study_instance_uid": record.get("study") if len(opened) <= 1 else None,
        "studies": [
            {"study_instance_uid": study, "examination": _examination(study, found, _), "handed_out": count}
            for study, count in opened.items()
        ],
        "transfers": list(
            dict.fromkeys(transfer for r in session.records for transfer in _basis(r) if transfer in found.transfers)
        ),
        "events": session.events,
        "who": line.who,
        "what": line.what,
        "why": line.why,
        "request_id": record.get("request"),
    }


def lines(sessions: Iterable[Session], found: Details, registry: Registry, _: Words) -> list[Line]:
    """Sessions as the table tells them: by when each began, which is the moment that stands there, the newest first."""
    return [
        describe(session, found, registry, _) for session in sorted(sessions, key=lambda session: session.begin, reverse=True)
    ]


def describe(session: Session, found: Details, registry: Registry, _: Words) -> Line:
    """One reading session, or one act, as a line of the table."""
    record = session.main
    institution = _name(registry, str(record["institution"]))
    if by_person(record):
        who = f"{record['actor']}, {institution}"
    elif record["kind"] == Kind.PROBED.value:  # counted later by a system; the text says who had asked
        who = f"{record.get('text', '')}, {institution}"
    else:
        who = _("{institution}, automatic system ({name})").format(institution=institution, name=record.get("actor", ""))
    return Line(_span(session, _), who, _what(session, found, _), _why(record, found, registry, _))


def _span(session: Session, _: Words) -> str:
    """When it began and, where that is another minute, when it ended."""
    began, ended = when(session.begin, _), when(session.end, _)
    if began == ended:
        return began
    day, _space, clock = ended.rpartition(" ")
    return f"{began}–{clock}" if began.startswith(day) else f"{began} – {ended}"


def by_person(record: Record) -> bool:
    """Whether a person was named, rather than only the machine that asked."""
    return bool(record.get("actor")) and record.get("actor") != record.get("session")


def _what(session: Session, found: Details, _: Words) -> str:
    record = session.main
    what = _(_WHAT[Kind(str(record["kind"]))])
    studies = list(session.opened()) or ([str(record["study"])] if record.get("study") else [])
    if studies:
        what += ": " + "; ".join(_examination(study, found, _) for study in studies[:_NAMED])
    if len(studies) > _NAMED:
        what += _(", and {count} others").format(count=len(studies) - _NAMED)
    return what


def _examination(uid: str, found: Details, _: Words) -> str:
    """A study in words, as far as it is known."""
    study = found.studies.get(uid)
    if study is None:
        return _("examination no. {uid}").format(uid=uid)
    description = first_value(study.attributes, tags.StudyDescription) or ", ".join(study.modalities)
    day = study.study_date
    if len(day) == 8:
        day = datetime.strptime(day, "%Y%m%d").strftime(_("%Y-%m-%d")) if day.isdigit() else day
    return _("{examination} of {day}").format(examination=description, day=day) if day else description


def _why(record: Record, found: Details, registry: Registry, _: Words) -> str:
    why = [_(_WHY[Purpose(str(record["purpose"]))])]
    named = [found.transfers[transfer] for transfer in _basis(record) if transfer in found.transfers]
    for transfer in named[:1]:
        text = _("your care passed from {sender} to {receiver}, since {day}")
        day = transfer.opened_at.astimezone(HOSPITAL_TIME).strftime(_("%Y-%m-%d"))
        why.append(text.format(sender=_name(registry, transfer.sender), receiver=_name(registry, transfer.receiver), day=day))
    if any(basis.startswith(EMERGENCY_BASIS) for basis in _basis(record)):
        why.append(_("an emergency was declared, which is reviewed afterwards"))
    return "; ".join(why)


def _basis(record: Record) -> list[str]:
    basis = record.get("basis")
    named = [str(entry) for entry in basis] if isinstance(basis, list) else []
    return [*named, str(record["subject"])] if str(record["kind"]).startswith("transfer-") else named


def _name(registry: Registry, institution: str) -> str:
    member: Institution | None = registry.members.get(institution)
    return member.name if member is not None else institution


Bounds = tuple[datetime | None, datetime | None]


def frame(
    institution: str, patient: PatientIdentifier, bounds: Bounds, now: datetime, count: int, cut: bool, years: int, _: Words
) -> tuple[str, list[str], list[str], list[str]]:
    """What stands around the table on paper: title, introduction, headings of the four columns, closing words.

    `cut`: older accesses were left out. `years`: for how long accesses are kept.
    """
    introduction = [
        _(
            "{institution} keeps a copy of your examinations in the archive that the hospitals of the city share, so that "
            "whoever treats you can see them. This is a list of everyone who looked at them there, or changed who may see them."
        ).format(institution=institution),
        _("Patient number: {number}. Period: {period}. Made on {now}. Entries: {count}.").format(
            number=patient.value, period=_period(bounds, _), now=when(now, _), count=count
        ),
    ]
    if cut:
        introduction.append(_("Only the newest entries are shown. Please ask for an earlier period to see the others."))
    if not count:
        introduction.append(_("In this period nobody looked at your examinations in the shared archive."))
    closing = [
        _(
            "Entries are kept for {years} years and cannot be changed unnoticed. Where no person is named, a system of the "
            "hospital acted by itself, for example to send or to fetch examinations."
        ).format(years=years),
        _(
            "You may object to your examinations being shown to other hospitals, all of them or single ones, at any time. "
            "For this, or if something in this list looks wrong to you, please ask {institution}."
        ).format(institution=institution),
    ]
    title = _("Who has looked at your examinations")
    return title, introduction, [_("When"), _("Who"), _("What"), _("Why")], closing


def _period(bounds: Bounds, _: Words) -> str:
    since, until = bounds
    if since is None and until is None:
        return _("since the beginning")
    if until is None:
        return _("since {since}").format(since=when(since, _)) if since else ""
    first = when(since, _) if since else _("the beginning")
    return _("from {since} to {until}").format(since=first, until=when(until, _))
