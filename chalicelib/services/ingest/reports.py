"""Reports: a document that a RIS sends becomes a DICOM instance of its study; and is read back for people.

A document is told by the `document` parameter of its sender (or the setId of a CDA), and its versions are the instances of one
series. Which of them stands is told by when each was written, whenever it comes (`domain.report_versions`); one without a date
counts as written now. Sending the newest version again changes nothing, nor does sending one with its date again; other bytes,
another date or another status are another version, and the older ones stay readable. A CDA that names its set and its version
has that version.
"""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Protocol

from chalicelib.domain import audit, italian, keys, report_versions, shown_patients, studies, summaries, tags
from chalicelib.domain.audit import Entry, Kind, Recorder
from chalicelib.domain.dicom_json import Attributes
from chalicelib.domain.errors import BadRequest, Conflict, NotFound, TryAgain
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.ports import Objects, Table
from chalicelib.domain.report_versions import DeclaredDocument, ListedReport, Report, ReportVersion, WrittenMoment
from chalicelib.domain.sharing import HOSPITAL_TIME
from chalicelib.domain.study_views import StudyView
from chalicelib.services import access
from chalicelib.services.identity import codice_fiscale, linking
from chalicelib.services.ingest import versions
from chalicelib.services.ingest.instance_items import StoredObject
from chalicelib.services.registry import Caller

MAX_BYTES = 4_400_000
"""What fits a request of the API after base64; larger documents are sent as DICOM by `/uploads`."""
MAX_REPLACED = 16
_DATE = re.compile(
    r"(\d{4})(?:-(?=\d\d-\d\d))?(\d{2})-?(\d{2})"
    r"(?:[T ]?(\d{2}):?(\d{2})(?::?(\d{2})(?:\.(\d{1,6})\d*)?)?([Zz]|[+-]\d{2}:?\d{2})?)?"
)
_NAMESPACE = uuid.UUID("5d0b4e5e-7a2b-5d43-8f0e-5b0a9f1c8a11")

UNDATED = WrittenMoment()
"""Where nothing says when a report was written."""

Index = Callable[[StoredObject], Exception | None]
"""Indexes a stored object now; the error when it must be tried again."""


@dataclass(frozen=True)
class SentReport:
    """A report as it was sent: its kind, the title given or found in it, the id of the document, its bytes.

    `version`: that of a CDA with setId and versionNumber; None where the date tells. `written`: its date is empty where nothing
    says it. `status`: of `report_versions.STATUSES`, or empty. `replaces`: the ids of other documents that it stands in for.
    `patients`: whose it says that it is. `report`: the id of the report that it is one of the documents of, or empty.
    """

    kind: str
    title: str
    document: str
    content: bytes
    version: int | None = None
    written: WrittenMoment = UNDATED
    status: str = ""
    replaces: tuple[str, ...] = ()
    patients: tuple[PatientIdentifier, ...] = ()
    report: str = ""


@dataclass(frozen=True)
class ReportPlace:
    """Where a report goes: its series, its own UID and number, and when it was written (its date is never empty).

    `replaces`: the UIDs of the versions that it replaces. `document`, `report`, `replaced`: digests of the ids of its document,
    of its report (or empty), and of the others that it stands in for.
    """

    series: str
    sop: str
    number: int
    written: WrittenMoment
    replaces: tuple[str, ...]
    document: str
    report: str
    replaced: tuple[str, ...]


class Build(Protocol):
    """Makes the DICOM file of a report (`dicom.documents.build`)."""

    def __call__(self, sent: SentReport, of_study: Attributes, place: ReportPlace, at: datetime) -> bytes: ...


def add_report(
    table: Table,
    objects: Objects,
    index: Index,
    build: Build,
    caller: Caller,
    study: str,
    sent: SentReport,
    now: datetime,
    tell: Recorder,
) -> tuple[JsonObject, bool]:
    """Add a report to one of the caller's own studies: its entry, and whether it is new. Raises NotFound, TryAgain; Conflict
    where it says that it is of another patient."""
    owner = caller.member.id
    view, _ = access.find_study(table, owner, study, owner, now)
    if sent.patients and _is_of_another(table, view, sent.patients, caller.member.patient_id_issuer):
        raise Conflict("The document says that it is of another patient than the study.")
    series = _uid(f"{owner}\n{study}\n{sent.kind}\n{sent.document}")
    placed = _versions(table, owner, study, series)
    known = _known(placed, series, sent)
    if known is not None:
        tell(Entry(Kind.READ, owner, view.patients, study))
        return _entry(known), False
    place = _place(placed, series, sent, owner, study, now)
    attributes = shown_patients.to_file_under(view) | {tags.StudyInstanceUID: {"vr": "UI", "Value": [study]}}
    instance = build(sent, attributes, place, now.astimezone(HOSPITAL_TIME))
    stored = StoredObject(owner, sha256(instance).hexdigest(), len(instance))
    objects.put_new(stored.key, instance, stored.sha256)
    failed = index(stored)
    if failed is not None:
        raise TryAgain from failed
    tell(Entry(Kind.IMPORT, owner, view.patients, study, count=1))
    for version in _versions(table, owner, study, series):
        if version.report.sop_instance_uid == place.sop:
            return _entry(version), True
    raise TryAgain


def _is_of_another(table: Table, view: StudyView, said: Sequence[PatientIdentifier], issuer: str) -> bool:
    """Whether a document is of another patient than the study. Facts refuse: the view may not know yet of a correction."""
    known = {*view.patients, *view.said}
    if not _contradicts(table, known, said, issuer):
        return False
    facts = table.query_all(keys.study_facts(view.owner, view.study_instance_uid), keys.INSTANCES)
    now = {instance.fact.patient for instance in studies.instances(facts) if instance.fact.patient is not None}
    return not now - known or _contradicts(table, now - known, said, issuer)


def _contradicts(table: Table, patients: set[PatientIdentifier], said: Sequence[PatientIdentifier], issuer: str) -> bool:
    """Whether a document names, under the owner's own issuer, numbers of which none is one of these patients' or linked to it
    (zeros before one do not count), or a codice fiscale that is another than theirs."""
    records = [access.load_deciding(table, patient.hash) for patient in sorted(patients)]
    linked = {number for record in records for number in record.linked if number.issuer == issuer}
    named = {_bare(number) for number in said if number.issuer == issuer}
    if named and patients and not named & {_bare(number) for number in patients | linked}:
        return True
    codes = {code for record in records for code in linking.codes(record)}
    stated = [codice_fiscale.read(number.value) for number in said if number.issuer == italian.CODICE_FISCALE]
    valid = {code.code for code in stated if code is not None}
    return bool(codes and valid) and not codes & valid


def _bare(number: PatientIdentifier) -> str:
    return number.value.strip().lstrip("0")


def _versions(table: Table, owner: str, study: str, series: str) -> list[ReportVersion]:
    """The versions of a document that are here, the latest first."""
    facts = table.query_all(keys.study_facts(owner, study), keys.instance(series, ""))
    return report_versions.place(studies.report_of(instance) for instance in studies.instances(facts))


def _known(placed: Sequence[ReportVersion], series: str, sent: SentReport) -> ReportVersion | None:
    """The version that a report is already, or None."""
    if sent.version is not None:
        return next((version for version in placed if version.report.sop_instance_uid == _sop(series, sent, sent.version)), None)
    candidates = placed if sent.written.date else placed[:1]
    return next(
        (
            candidate
            for candidate in candidates
            if candidate.report.sop_instance_uid == _sop(series, sent, candidate.report.number)
        ),
        None,
    )


def _place(placed: Sequence[ReportVersion], series: str, sent: SentReport, owner: str, study: str, now: datetime) -> ReportPlace:
    latest = max((version.report.number for version in placed), default=0)
    number = latest + 1 if sent.version is None else sent.version
    sop = _sop(series, sent, number)
    local = now.astimezone(HOSPITAL_TIME)
    written = sent.written
    if not written.date:  # as of now; and where the clock of whoever added the last one was fast, as of then
        just_now = WrittenMoment(local.strftime("%Y%m%d"), local.strftime("%H%M%S.%f"), local.fold == 1)
        written = max([just_now, *(version.report.written for version in placed)], key=lambda moment: moment.place)
    declared = DeclaredDocument(status=sent.status, repeated=written.repeated)
    mine = Report(sop, series, sent.kind, sent.title, written.date, written.time, number, declared)
    replaces: list[str] = []
    if sent.status != "addendum":
        standing = [version.report for version in placed if version.newest]
        if sent.version is None:
            ordered = list(itertools.chain.from_iterable(report_versions.in_versions([*standing, mine])))
            before = ordered[: ordered.index(mine)]
        else:
            before = [report for report in standing if report.number < number]
        replaces = sorted(report.sop_instance_uid for report in before)
    named = tuple(_named(owner, study, document) for document in (sent.document, *sent.replaces))
    of_report = _named(owner, study, sent.report) if sent.report else ""
    return ReportPlace(series, sop, number, written, tuple(replaces), named[0], of_report, named[1:])


def _sop(series: str, sent: SentReport, number: int) -> str:
    """The UID of a version: the same for the same bytes, date and status, and number."""
    digest = sha256(sent.content).hexdigest()
    written = sent.written
    said = [sent.status] if sent.kind == "cda" else [written.date, written.time, sent.status]  # a CDA's date is in its bytes
    if written.repeated and sent.kind != "cda":
        said.append("repeated")
    if sent.version is None and any(said):
        digest = sha256("\n".join((digest, *said)).encode()).hexdigest()
    return _uid(f"{series}\n{digest}\n{number}")


def _named(owner: str, study: str, document: str) -> str:
    """What the id of a document is kept as: a sender may have put a patient's number into it."""
    return sha256(f"{owner}\n{study}\n{document}".encode()).hexdigest()[:32]


def list_reports(table: Table, caller: Caller, study: str, owner: str | None, now: datetime, tell: Recorder) -> JsonObject:
    """The reports of a study that the caller may see, newest first. Raises NotFound."""
    view, decided = access.find_study(table, caller.member.id, study, owner, now)
    gone = studies.withdrawn(table.query_all(keys.study_facts(view.owner, study), keys.MARKS))
    _tell_seen(caller, view, decided, tell)
    left = [report.to_item() for report in view.reports if report.sop_instance_uid not in gone]
    return {"study_instance_uid": study, "owner": view.owner, "reports": left}


def find_report(
    table: Table, caller: Caller, study: str, sop: str, owner: str | None, now: datetime, tell: Recorder
) -> tuple[StoredObject, ListedReport]:
    """The object that holds a report of a study that the caller may see, and the report as it is listed. Raises NotFound."""
    view, decided = access.find_study(table, caller.member.id, study, owner, now)
    report = next((report for report in view.reports if report.sop_instance_uid == sop), None)
    if report is None:
        raise NotFound
    fact = versions.fact_of(table, view.owner, study, report.series_instance_uid, sop)
    if fact is None:
        raise NotFound
    _tell_seen(caller, view, decided, tell)
    return StoredObject(view.owner, str(fact.data["sha256"]), int(str(fact.data["size"]))), report


def check_document(text: str | None, parameter: str = "document") -> str:
    """The id of a document that a sender gives, or the default. Raises BadRequest."""
    if text is None:
        return "report"
    if not 1 <= len(text) <= 64 or not text.isprintable():
        raise BadRequest(f"{parameter} must be 1 to 64 printable characters.", parameter)
    return text


def check_replaces(text: str | None) -> tuple[str, ...]:
    """The ids of the documents that a report replaces, separated by commas. Raises BadRequest."""
    ids = tuple(dict.fromkeys(check_document(document.strip(), "replaces") for document in text.split(","))) if text else ()
    if len(ids) > MAX_REPLACED:
        raise BadRequest(f"replaces names at most {MAX_REPLACED} documents.", "replaces")
    return ids


def check_status(text: str | None) -> str:
    """The status of a report, or empty. Raises BadRequest."""
    if text and text not in report_versions.STATUSES:
        raise BadRequest(f"status is one of {', '.join(report_versions.STATUSES)}.", "status")
    return text or ""


def check_date(text: str | None) -> WrittenMoment:
    """When a report was written, the time empty where it has none; an empty one for no text.

    Taken are DICOM's and HL7's forms (YYYYMMDD[HHMM[SS[.ffffff]]][+ZZZZ]) and ISO 8601's; without an offset it is the
    hospital's time, and of the hour that comes twice when summer time ends the first. Raises BadRequest.
    """
    if not text:
        return UNDATED
    found = _DATE.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        year, month, day, hour, minute, second, fraction, zone = found.groups()
        written = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), min(int(second or 0), 59))
        if hour and zone:
            written = datetime.fromisoformat(f"{written.isoformat()}{zone.replace('Z', '+00:00')}").astimezone(HOSPITAL_TIME)
    except (ValueError, OverflowError):
        taken = "20260110, 20260110103000, 2026-01-10 or 2026-01-10T10:30:00+01:00"
        raise BadRequest(f"date is a day or a moment, such as {taken}.", "date") from None
    rest = (fraction or "").rstrip("0")
    time = written.strftime("%H%M%S") + (f".{rest}" if rest else "") if hour else ""
    return WrittenMoment(f"{written:%Y%m%d}".rjust(8, "0"), time, written.fold == 1)


def _tell_seen(caller: Caller, view: StudyView, decided: access.StudyDecision, tell: Recorder) -> None:
    kind = Kind.READ if view.owner == caller.member.id else Kind.DISCLOSURE
    tell(audit.of_study(kind, audit.disclosed(view, decided.decision), count=1))


def _uid(text: str) -> str:
    return f"2.25.{uuid.uuid5(_NAMESPACE, text).int}"


def _entry(placed: ReportVersion) -> JsonObject:
    """What `POST …/reports` answers: as `GET …/reports` lists it, as far as its own series tells."""
    listed = summaries.listed(placed)
    return replace(listed, document="", status=placed.report.status, preliminary=False, same_as="", conclusion="").to_item()
