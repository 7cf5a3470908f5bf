"""What persons of other hospitals opened, so that a correction reaches who has read what was wrong.

The first opening of an exam by somebody of another hospital, and of each report that stands then, is a fact, and so is that the
person took note of what became of it. A report is *overtaken* when another replaces it or it is withdrawn, an exam when it is
withdrawn as a whole. The reader's hospital is told in its feed, each reading once; the reader on the page, until taken note of;
the owner sees who did. Sharing facts decide who is told anything, as with all else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from chalicelib.domain import keys
from chalicelib.domain.audit import Act, Entry, Kind, Recorder
from chalicelib.domain.errors import NotFound
from chalicelib.domain.feed import ReadingNews
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.ports import Item, PutNew, Table
from chalicelib.domain.report_versions import ListedReport
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.study_views import SearchRow, StudyView
from chalicelib.domain.timelines import TimelineStudy
from chalicelib.services import access, changes
from chalicelib.services.changes import Change
from chalicelib.services.registry import Caller

KEPT = timedelta(days=2 * 365)
"""How long a reading is remembered; the audit trail has it longer."""
MAX_READINGS = 1000
"""Of one exam, and of one person's of one patient, that are looked at."""
EXAM = "exam"
"""What stands for the exam itself, where a report is named by its SOP Instance UID."""
_NOTED = "#NOTED"
_EXAM_GONE, _REPORT_GONE = "read-study-withdrawn", "read-report-corrected"


@dataclass(frozen=True)
class ReadingPerson:
    """Who reads: of which institution, by which id there, and the name to show."""

    institution: str
    id: str
    name: str

    @property
    def key(self) -> str:
        """What stands for the person in keys: 32 hex digits."""
        return hashlib.sha256(f"{self.institution}\n{self.id}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class OvertakenReading:
    """A reading of what does not stand any more: of a report, or (`report` None) of an exam that is withdrawn."""

    owner: str
    study: str
    report: str | None
    read_at: str = ""


def remember(
    table: Table, person: ReadingPerson, patient: PatientIdentifier, owner: str, study: str, report: str | None, now: datetime
) -> None:
    """Somebody opens an exam, or a report, found under this number of the patient. Of the own hospital's nothing is kept."""
    if person.institution == owner:
        return
    what = report or EXAM
    data: dict[str, object] = {
        "institution": person.institution,
        "practitioner": {"id": person.id, "name": person.name},
        "what": what,
        "at": iso(now),
    }
    index = {"gsi1": (_of_patient(person.institution, patient), f"{person.key}#{owner}#{study}#{what}")}
    item = Item(_partition(owner, study), _sort_key(person, what), data, index, expires=int((now + KEPT).timestamp()))
    if not table.put(PutNew(item)):
        return
    view = table.get(*keys.study_view(study, owner))  # it may have been overtaken while it was being answered
    if view is not None:
        tell(table, StudyView.from_item(view.data), now)


def number_found_as(table: Table, viewer: str, owner: str, study: str) -> PatientIdentifier | None:
    """The number of the patient under which an institution finds a study; None where it does not."""
    row = table.get(keys.search_rows(viewer, study), owner)
    return SearchRow.from_item(row.data).found_as if row is not None else None


def remember_for(table: Table, caller: Caller, owner: str, study: str, report: str, now: datetime) -> None:
    """The person for whom a hospital's own system asks opens a report, as `remember`."""
    viewer = caller.member.id
    patient = number_found_as(table, viewer, owner, study) if viewer != owner else None
    if patient is not None:
        remember(table, ReadingPerson(viewer, caller.actor, caller.actor), patient, owner, study, report, now)


def tell(table: Table, view: StudyView, now: datetime) -> None:
    """Tell the hospitals whose people read what a study's view says does not stand any more: each reading once.

    Nothing is read of a study of which everything stands.
    """
    owner, study, gone = view.owner, view.study_instance_uid, view.gone
    if not gone and not view.withdrawn and all(report.newest for report in view.reports):
        return
    standing = _standing(view.reports)
    news: list[Change] = []
    readings = (item for item in table.query_all(_partition(owner, study)) if not item.sk.endswith(_NOTED))
    for item in islice(readings, MAX_READINGS):
        what = str(item.data["what"])
        if not (gone if what == EXAM else not gone and what not in standing):
            continue
        person: Any = item.data["practitioner"]
        said = ReadingNews(owner, study, str(person["id"]), "" if what == EXAM else what)
        kind = _EXAM_GONE if what == EXAM else _REPORT_GONE
        news.append(Change(str(item.data["institution"]), f"READ#{owner}#{study}#{item.sk}", kind, said))
    changes.tell(table, news, now)


def overtaken(
    table: Table, person: ReadingPerson, patient: PatientIdentifier, entries: Iterable[TimelineStudy], now: datetime
) -> list[OvertakenReading]:
    """What a person read of a patient that does not stand any more, and has not taken note of. `entries` are the timeline's."""
    shown = {(entry.owner, entry.study_instance_uid): entry for entry in entries}
    prefix = f"{person.key}#"
    items = list(islice(table.query_all(_of_patient(person.institution, patient), prefix, index="gsi1"), MAX_READINGS))
    read = [(_study_of(item), item) for item in items]
    withdrawn = _withdrawn(table, person.institution, {ref for ref, _ in read if ref not in shown}, now)
    found: list[tuple[OvertakenReading, Item]] = []
    for ref, item in read:
        what = str(item.data["what"])
        if ref in withdrawn if what == EXAM else ref in shown and what not in _standing(shown[ref].reports):
            found.append((OvertakenReading(*ref, None if what == EXAM else what, str(item.data["at"])), item))
    noted = table.batch_get((item.pk, f"{item.sk}{_NOTED}") for _, item in found)
    return [reading for reading, item in found if (item.pk, f"{item.sk}{_NOTED}") not in noted]


def take_note(
    table: Table,
    person: ReadingPerson,
    pending: Iterable[OvertakenReading],
    meant: OvertakenReading,
    now: datetime,
    act: Act,
    record: Recorder,
) -> JsonObject:
    """A person takes note of what is `pending`; `meant` says of what. Again: the same answer. Raises NotFound."""
    partition, key = _partition(meant.owner, meant.study), _sort_key(person, meant.report or EXAM)
    waits = any((reading.owner, reading.study, reading.report) == (meant.owner, meant.study, meant.report) for reading in pending)
    if not waits and table.get(partition, f"{key}{_NOTED}") is None:
        raise NotFound
    view = table.get(*keys.study_view(meant.study, meant.owner))
    patients = StudyView.from_item(view.data).patients if view is not None else ()
    entry = Entry(Kind.CORRECTION_NOTED, meant.owner, patients, meant.study, subject=meant.report)
    data: dict[str, object] = {"what": meant.report or EXAM, "at": iso(now)}
    noted = Item(partition, f"{key}{_NOTED}", data, expires=int((now + KEPT).timestamp()))
    if act([PutNew(noted)], entry):
        record(entry)  # it had been noted before: that it was said again is recorded all the same
    named = {"sop_instance_uid": meant.report} if meant.report else {}
    return {"status": "acknowledged", "study_instance_uid": meant.study, "owner": meant.owner, **named}


def list_readings(table: Table, caller: Caller, study: str, record: Recorder) -> JsonObject:
    """Who of other hospitals read the caller's own study and its reports, and who took note of a correction. Raises NotFound."""
    owner = caller.member.id
    item = table.get(*keys.study_view(study, owner))
    if item is None and not table.query(keys.study_facts(owner, study), keys.INSTANCES, limit=1).items:
        raise NotFound
    view = StudyView.from_item(item.data) if item is not None else StudyView(owner=owner, study_instance_uid=study)
    record(Entry(Kind.READ, owner, view.patients, study))
    items = {item.sk: item for item in islice(table.query_all(_partition(owner, study)), 2 * MAX_READINGS)}
    standing, gone = _standing(view.reports), view.gone
    readings = []
    for sk, item in items.items():
        if sk.endswith(_NOTED):
            continue
        what, noted = str(item.data["what"]), items.get(f"{sk}{_NOTED}")
        readings.append(
            {
                "institution": item.data["institution"],
                "practitioner": item.data["practitioner"],
                **({} if what == EXAM else {"sop_instance_uid": what}),
                "read_at": item.data["at"],
                "stands": not gone and (what == EXAM or what in standing),
                **({"acknowledged_at": noted.data["at"]} if noted is not None else {}),
            }
        )
    return {"study_instance_uid": study, "readings": sorted(readings, key=lambda reading: str(reading["read_at"]))[:MAX_READINGS]}


def _withdrawn(table: Table, viewer: str, refs: Iterable[tuple[str, str]], now: datetime) -> set[tuple[str, str]]:
    """Those of the studies that their owner withdrew, where no objection or protection keeps even that from the viewer."""
    found = table.batch_get(keys.study_view(study, owner) for owner, study in sorted(refs))
    gone = [view for item in found.values() if (view := StudyView.from_item(item.data)).gone]
    decided = access.decide(table, viewer, gone, now)
    return {(view.owner, view.study_instance_uid) for view, decision in zip(gone, decided, strict=True) if not decision.hidden}


def _standing(reports: Iterable[ListedReport]) -> set[str]:
    """The SOP Instance UIDs of the reports that nothing replaced, and of copies of these."""
    newest = {report.sop_instance_uid for report in reports if report.newest}
    return newest | {report.sop_instance_uid for report in reports if report.same_as in newest}


def _partition(owner: str, study: str) -> str:
    return keys.reading_facts(owner, study)


def _sort_key(person: ReadingPerson, what: str) -> str:
    return keys.reading(person.institution, person.key, what)


def _of_patient(institution: str, patient: PatientIdentifier) -> str:
    return keys.readings_of(institution, patient.hash)


def _study_of(item: Item) -> tuple[str, str]:
    _, _, owner, study = item.pk.split("#", 3)
    return owner, study
