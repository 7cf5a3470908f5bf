"""The timeline of a patient: every study of every hospital that the caller may see, newest first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime

from chalicelib.domain import audit, identifiers, keys, tags
from chalicelib.domain.audit import Entry, Kind, Recorder
from chalicelib.domain.demographics import Demographics
from chalicelib.domain.dicom_json import Attributes, first_value
from chalicelib.domain.errors import NotFound
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.ports import Table
from chalicelib.domain.sharing import Objection
from chalicelib.domain.study_views import SearchRow, StudyView
from chalicelib.domain.timelines import ShownPerson, TimelineStudy
from chalicelib.domain.transfers import Transfer
from chalicelib.services import access
from chalicelib.services.access import LoadedPatient
from chalicelib.services.identity import known_patients, numbering
from chalicelib.services.identity.numbering import Apart
from chalicelib.services.registry import Caller
from chalicelib.services.retrieval.manifest import still_to_come
from chalicelib.services.sharing.transfers import ShownTransfer

_MAX_STUDIES = 1000


@dataclass(frozen=True)
class Timeline:
    """A patient as a caller is shown it, at the moment `at`.

    `identifiers`: its numbers that the caller may know, each with the institution whose it is, None for none. `studies`: newest
    first. `transfers`: the caller's of this patient. `apart`: its own studies that are filed under the same number of another
    issuer.
    """

    identifiers: tuple[tuple[PatientIdentifier, str | None], ...]
    person: ShownPerson
    studies: tuple[TimelineStudy, ...]
    transfers: tuple[Transfer, ...]
    apart: tuple[Apart, ...]
    at: datetime

    def patient_json(self) -> JsonObject:
        """The patient as it is answered."""
        return {
            "identifiers": [{**number.to_item(), "institution": institution} for number, institution in self.identifiers],
            **self.person.to_json(),
        }

    def to_json(self) -> JsonObject:
        """As `GET /patients/{id}/timeline` answers it."""
        return {
            "patient": self.patient_json(),
            "studies": [study.to_json() for study in self.studies],
            "transfers": [ShownTransfer(transfer, self.at).to_json() for transfer in self.transfers],
            **({"apart": [apart.to_json() for apart in self.apart]} if self.apart else {}),
        }


def timeline(table: Table, caller: Caller, patient_id: str, issuer: str | None, now: datetime, record: Recorder) -> Timeline:
    """The timeline of a patient. Raises NotFound when the caller may see nothing of it."""
    viewer = caller.member
    asked = identifiers.patient_identifier(patient_id, issuer, viewer.patient_id_issuer, ("patient.id", "issuer"))
    rows: dict[tuple[str, str], SearchRow] = {}
    others: dict[tuple[str, str], SearchRow] = {}
    for item in table.query_all(keys.rows_by_patient(viewer.id, asked.value), index="gsi1", descending=True):
        row = SearchRow.from_item(item.data)
        key = (row.owner, row.study_instance_uid)
        if row.found_as == asked:
            rows.setdefault(key, row)
        elif row.owner == viewer.id:
            others.setdefault(key, row)
        if len(rows) >= _MAX_STUDIES or len(others) >= _MAX_STUDIES:
            break
    found = [*rows.values(), *(row for key, row in others.items() if key not in rows)]
    visible = access.visible(table, viewer.id, found, now)
    mine_to_show = viewer.id if caller.registry.by_issuer(asked.issuer) == viewer else None
    apart = numbering.kept_apart(viewer.id, asked, [row for row, _ in visible]) if mine_to_show else []
    allowed = [(row, decision) for row, decision in visible if row.found_as == asked]
    read = access.load_facts(table, [asked.hash])
    known = read.known[asked.hash]
    mine = _between(caller, asked, known.transfers)
    if allowed:
        stated = known_patients.latest_of(table, asked) if mine_to_show else None
    else:
        stated = _stated(table, caller, asked, known, now)
    if not allowed and not mine and not apart and stated is None:
        access.equalise_reads(table, read)
        raise NotFound
    record(Entry(Kind.READ, mine_to_show, (asked,)))
    for entry in audit.disclosures(viewer.id, [audit.disclosed(row, decision.decision) for row, decision in allowed]):
        record(entry)
    views = table.batch_get(keys.study_view(row.study_instance_uid, row.owner) for row, _ in allowed)
    numbers = {asked}
    studies: list[TimelineStudy] = []
    for row, opened in allowed:
        found_view = views.get(keys.study_view(row.study_instance_uid, row.owner))
        if found_view is None:
            continue
        view = StudyView.from_item(found_view.data)
        numbers |= {*view.patients}
        studies.append(_entry(view, row.attributes, still_to_come(table, view), opened.decision.transfers))
    linked = {asked, *known.numbers}
    for transfer in mine:
        if transfer.status(now) == "active":
            numbers |= {number for number in (transfer.patient, transfer.receiving) if number is not None and number in linked}
    members = {number: caller.registry.by_issuer(number.issuer) for number in numbers}
    return Timeline(
        tuple((number, member.id if member else None) for number, member in sorted(members.items(), key=lambda pair: pair[0])),
        _person(asked, stated, [row for row, _ in allowed]),
        tuple(sorted(studies, key=lambda study: study.study_date + study.study_time, reverse=True)),
        tuple(mine),
        tuple(apart),
        now,
    )


def _person(asked: PatientIdentifier, stated: Demographics | None, rows: Sequence[SearchRow]) -> ShownPerson:
    """Who has the number that is asked for: as the images under this very number say, the latest first, then registration. Only
    where neither says anything, as images of a linked number do: two hospitals may name two persons."""
    own = [
        ShownPerson.from_attributes(row.attributes)
        for row in rows
        if (row.face.patient or next(iter(row.patients), None)) == asked
    ]
    said = [ShownPerson(stated.name, stated.birth_date, stated.sex)] if stated else []
    found = ShownPerson(*(next(filter(None, known), "") for known in zip(*map(astuple, [*own, *said]), strict=True)))
    linked = (ShownPerson.from_attributes(row.attributes) for row in rows)
    return found if found != ShownPerson() else next(linked, found)


def _between(caller: Caller, asked: PatientIdentifier, known: Iterable[Transfer]) -> list[Transfer]:
    """The caller's transfers of a patient. Under another hospital's number only those that were told with it: a codice fiscale
    that the caller merely says its own patient has joins the two, and must not tell it the other's number.
    """
    mine = [transfer for transfer in known if caller.member.id in (transfer.sender, transfer.receiver)]
    if not caller.is_anothers(asked):
        return mine
    return [
        transfer
        for transfer in mine
        if asked == transfer.patient or (transfer.accepted_at is not None and asked == transfer.receiving)
    ]


def _stated(table: Table, caller: Caller, asked: PatientIdentifier, known: LoadedPatient, now: datetime) -> Demographics | None:
    """What registrations say of a patient of whom the caller sees no study: its own, of its number that is asked for or linked;
    else, to the receiver of a transfer that runs, the sender's, unless the patient objected there.

    For a number of which the caller may know nothing, nothing is read.
    """
    numbers = () if caller.is_anothers(asked) else (asked, *known.record.linked)
    own = [number for number in numbers if caller.registry.by_issuer(number.issuer) == caller.institution]
    received = [
        transfer.patient
        for transfer in _between(caller, asked, known.transfers)
        if transfer.receiver == caller.member.id
        and transfer.status(now) == "active"
        and Objection(transfer.sender) not in known.facts.objections
    ]
    return known_patients.latest_of_any(table, dict.fromkeys([*own, *received]))


def _entry(view: StudyView, attributes: Attributes, missing: int, opened_by: tuple[str, ...]) -> TimelineStudy:
    """`attributes` as the caller is shown them. `missing`: how many announced instances have no verdict."""
    return TimelineStudy(
        view.study_instance_uid,
        view.owner,
        first_value(attributes, tags.StudyDate),
        first_value(attributes, tags.StudyTime),
        view.modalities,
        first_value(attributes, tags.StudyDescription),
        view.laterality,
        view.views,
        view.body_parts,
        view.series_names,
        view.codes,
        ShownPerson.from_attributes(attributes),
        view.instances,
        view.images,
        view.frames,
        len(view.patients),
        missing,
        view.reports,
        view.unread,
        opened_by,
    )
