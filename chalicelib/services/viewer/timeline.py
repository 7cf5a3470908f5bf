"""What a reading session shows: the timeline that its link opens, as its institution may see it at this moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from chalicelib.domain import keys
from chalicelib.domain.audit import Recorder
from chalicelib.domain.errors import NotFound
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.ports import Table
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.sharing import HOSPITAL_TIME
from chalicelib.domain.study_views import SearchRow
from chalicelib.domain.timelines import TimelineStudy
from chalicelib.services.finding.timeline import Timeline, timeline
from chalicelib.services.registry import Caller
from chalicelib.services.sharing import readings
from chalicelib.services.sharing.readings import OvertakenReading
from chalicelib.services.viewer.sessions import Reader

_OF_TRANSFERS = ("id", "from", "to", "status", "opened_at", "expires_at", "accepted_at")


@dataclass(frozen=True)
class SessionTimeline:
    """A timeline as a reading session shows it: with what its reader read that does not stand any more, and the names of the
    hospitals, by id."""

    reader: Reader
    found: Timeline
    overtaken: tuple[OvertakenReading, ...]
    institutions: Mapping[str, str]
    today: str
    """YYYYMMDD at the hospitals, when it was asked for."""

    @property
    def studies(self) -> tuple[TimelineStudy, ...]:
        """Its studies, newest first."""
        return self.found.studies

    def to_json(self) -> JsonObject:
        """As it is answered."""
        timeline = self.found.to_json()
        asked = self.reader.link.scope.patient  # of several numbers of the house, the one that the reader opened
        numbers = [number for number, institution in self.found.identifiers if institution == self.reader.viewer]
        own = [number.value for number in sorted(numbers, key=lambda number: number != asked)]
        return {
            "patient": timeline["patient"] | {"own_id": own[0] if own else ""},
            "studies": timeline["studies"],
            "transfers": [{key: transfer[key] for key in _OF_TRANSFERS if key in transfer} for transfer in timeline["transfers"]],
            "corrections": [
                {
                    "kind": "report-corrected" if reading.report else "study-withdrawn",
                    "owner": reading.owner,
                    "study_instance_uid": reading.study,
                    **({"sop_instance_uid": reading.report} if reading.report else {}),
                    "read_at": reading.read_at,
                }
                for reading in self.overtaken
            ],
            "institutions": dict(self.institutions),
            "session": {**shown_session(self.reader), "today": self.today},
        }


def shown_timeline(table: Table, reader: Reader, now: datetime, record: Recorder) -> SessionTimeline:
    """The timeline within the link's scope. Raises NotFound when nothing of what the link opened may be seen any more."""
    caller, scope = reader.caller, reader.link.scope
    if scope.patient is not None:
        found = timeline(table, caller, scope.patient.value, scope.patient.issuer, now, record)
    else:
        found = _of_studies(table, caller, scope.studies, now, record)
    overtaken = pending(table, reader, found.studies, now)
    members = caller.registry.members
    shown = {reading.owner for reading in overtaken} | {study.owner for study in found.studies} | {caller.member.id}
    shown |= {party for transfer in found.transfers for party in (transfer.sender, transfer.receiver)}
    names = {institution: members[institution].name for institution in sorted(shown) if institution in members}
    today = now.astimezone(HOSPITAL_TIME).strftime("%Y%m%d")
    return SessionTimeline(reader, found, tuple(overtaken), names, today)


def shown_session(reader: Reader) -> JsonObject:
    """What the page may know of its own session: for whom, why, until when."""
    link = reader.link
    current = link.scope.current
    return {
        "institution": {"id": reader.caller.member.id, "name": reader.caller.member.name},
        "practitioner": {"id": link.practitioner.id, "name": link.practitioner.name},
        "purpose": link.purpose,
        "opens": "patient" if link.scope.patient is not None else "studies",
        **({"current": {"study_instance_uid": current[0], "owner": current[1]}} if current else {}),
        "ends_at": iso(link.ends_at),
    }


def pending(table: Table, reader: Reader, entries: Sequence[TimelineStudy], now: datetime) -> list[OvertakenReading]:
    """What the reader read that was corrected or withdrawn since, and has not taken note of: of the patient, or of the studies
    that the link opens. Of those, one that is withdrawn is told as long as another one of them is left to show."""
    scope = reader.link.scope
    if scope.patient is not None:
        return readings.overtaken(table, reader.person, scope.patient, entries, now)
    rows = table.batch_get((keys.search_rows(reader.viewer, uid), owner) for uid, owner in scope.studies)
    numbers = {number for row in rows.values() if (number := SearchRow.from_item(row.data).found_as) is not None}
    told = [reading for number in sorted(numbers) for reading in readings.overtaken(table, reader.person, number, entries, now)]
    return [reading for reading in told if (reading.study, reading.owner) in scope.studies]


def remember(table: Table, reader: Reader, owner: str, study: str, report: str | None, now: datetime) -> None:
    """The reader opens an exam, or a report that stands: should it be corrected or withdrawn, both hospitals will know."""
    patient = reader.link.scope.patient
    if patient is None and owner != reader.viewer:
        patient = readings.number_found_as(table, reader.viewer, owner, study)
    if patient is not None:
        readings.remember(table, reader.person, patient, owner, study, report, now)


def require_in_scope(table: Table, reader: Reader, study: str, owner: str | None) -> str | None:
    """The owner that the link means by this UID, where it names one. Raises NotFound for a study that it does not open.

    Whether the institution may see the study now is decided elsewhere, on facts; this only keeps a link to what it opens.
    """
    scope = reader.link.scope
    if scope.patient is None:
        owners = [named for uid, named in scope.studies if uid == study and owner in (None, named)]
        if not owners:
            raise NotFound
        return owners[0]
    rows = [SearchRow.from_item(item.data) for item in table.query_all(keys.search_rows(reader.viewer, study))]
    owners = sorted({row.owner for row in rows if row.found_as == scope.patient and owner in (None, row.owner)})
    if not owners:
        raise NotFound
    return reader.viewer if reader.viewer in owners else owners[0]


def _of_studies(table: Table, caller: Caller, chosen: tuple[tuple[str, str], ...], now: datetime, record: Recorder) -> Timeline:
    """The timelines of the chosen studies' patients, with nothing but the chosen studies, and only what these say."""
    rows = table.batch_get((keys.search_rows(caller.member.id, uid), owner) for uid, owner in chosen)
    numbers = {number for row in rows.values() if (number := SearchRow.from_item(row.data).found_as) is not None}
    parts: list[Timeline] = []
    for number in sorted(numbers):
        try:
            parts.append(timeline(table, caller, number.value, number.issuer, now, record))
        except NotFound:
            continue
    seen: dict[tuple[str, str], TimelineStudy] = {}
    for part in parts:
        for study in part.studies:
            if study.key in chosen:
                seen.setdefault(study.key, study)
    if not seen:
        raise NotFound
    studies = sorted(seen.values(), key=lambda study: (study.study_date, study.study_time), reverse=True)
    first = next(part for part in parts if any(study in part.studies for study in studies))
    return replace(first, studies=tuple(studies), transfers=(), apart=())
