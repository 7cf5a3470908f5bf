"""What each institution can find a study under: the rows of `V#SEE`, computed from a study's summary and what is known of its
patients. Pure, but for what it is given.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime

from chalicelib.dicomweb.person_names import name_key
from chalicelib.domain import keys, sharing, shown_patients, studies, tags
from chalicelib.domain.dicom_json import Attributes, first_value
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.institutions import Registry
from chalicelib.domain.ports import Item
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.shown_patients import Face
from chalicelib.domain.study_views import FiledStudy, SearchFace, SearchRow, StudyView
from chalicelib.services import access
from chalicelib.services.access import LoadedPatient

_LONGEST_KEY = 200
"""Characters of a value that stand in an index: a key of DynamoDB has 1,024 bytes, and what files hold has no bound."""


def indexed(text: str) -> str:
    """A value as the indexes have it. What is longer is found by its beginning, and compared as a whole afterwards."""
    return text[:_LONGEST_KEY]


@dataclass(frozen=True)
class Visibility:
    """Who sees a study: the rows, until when each viewer sees it (None: no end), and by which emergencies any does."""

    rows: tuple[Item, ...] = ()
    until: dict[str, str | None] = field(default_factory=dict)
    emergencies: frozenset[str] = frozenset()
    linked: tuple[str, ...] = ()
    hidden_from: frozenset[str] = frozenset()
    """Of those who were asked about, the institutions that an objection or a protection keeps it from."""

    def of_nobody(self) -> Visibility:
        """The same of a study that is gone."""
        return Visibility(linked=self.linked, hidden_from=self.hidden_from)

    @property
    def digest(self) -> str:
        """Changes when anything that a row says changes, so that rows are written only then."""
        text = json.dumps([[row.pk, row.sk, row.data, row.indexes, row.expires] for row in self.rows], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def visibility(
    registry: Registry,
    summary: StudyView,
    known: Mapping[str, LoadedPatient],
    now: datetime,
    former: frozenset[str] = frozenset(),
) -> Visibility:
    """Who sees the study of a summary. A row expires when what opens it does, unless something changes before.

    `former` viewers are asked about too, whether it is hidden from them.
    """
    ref = studies.for_deciding(summary)
    facts = access.facts_of(summary, known)
    known = {patient: known[patient] for patient in access.numbers_of(summary) if patient in known}
    touching = {transfer.id: transfer for loaded in known.values() for transfer in loaded.transfers}
    linked = {other.hash for loaded in known.values() for other in loaded.numbers}
    summary = replace(summary, linked=tuple(sorted(linked)))
    parties = {ref.owner, *(party for t in touching.values() for party in (t.sender, t.receiver))}
    parties |= {emergency.institution for loaded in known.values() for emergency in loaded.facts.emergencies}
    rows: list[Item] = []
    until: dict[str, str | None] = {}
    emergencies: set[str] = set()
    for viewer in sorted(parties):
        decision = sharing.decide(viewer, ref, facts, now)
        if not decision.allowed:
            continue
        until[viewer] = iso(decision.until) if decision.until else None
        emergencies |= set(decision.emergencies)
        own = [t for t in touching.values() if viewer in (t.sender, t.receiver) and t.status(now) == "active"]
        found = shown_patients.faces(viewer, summary, own, numbers_linked(summary, known), registry)
        expires = math.ceil(decision.until.timestamp()) if decision.until else None
        rows += _index_rows(viewer, summary, found, expires)
    hidden = frozenset(viewer for viewer in former if sharing.hidden(viewer, ref, facts))
    return Visibility(tuple(rows), until, frozenset(emergencies), summary.linked, hidden)


def numbers_linked(
    summary: FiledStudy, known: Mapping[str, LoadedPatient]
) -> Callable[[PatientIdentifier], Iterable[PatientIdentifier]]:
    """What answers the numbers that are linked to one of a study's patients, under whichever of its spellings."""

    def linked(patient: PatientIdentifier) -> Iterable[PatientIdentifier]:
        spelled = (patient.hash, *summary.aliases.get(patient.hash, ()))
        return {number for spelling in spelled if spelling in known for number in known[spelling].numbers}

    return linked


def search_row(summary: StudyView, found: Sequence[Face], number: int = 0) -> SearchRow:
    """What a search answers from: the study's attributes as this viewer is shown them, with computed ones, and what decides.

    Of the patients in `found`, the one with this number; of several, the first one's row has all of them.
    """
    computed: Attributes = {
        tags.StudyInstanceUID: {"vr": "UI", "Value": [summary.study_instance_uid]},
        tags.ModalitiesInStudy: {"vr": "CS", **({"Value": list(summary.modalities)} if summary.modalities else {})},
        tags.SOPClassesInStudy: {"vr": "UI", "Value": list(summary.sop_classes)},
        tags.NumberOfStudyRelatedSeries: {"vr": "IS", "Value": [summary.series]},
        tags.NumberOfStudyRelatedInstances: {"vr": "IS", "Value": [summary.instances]},
    }
    faces = [SearchFace(face.patient, face.shown, face.attributes | computed) for face in found]
    several = len(found) > 1
    return SearchRow(
        **{field.name: getattr(summary, field.name) for field in fields(FiledStudy)},
        face=faces[number] if several else replace(faces[number], patient=None),
        faces=tuple(faces[: studies.MAX_PERSONS]) if several and number == 0 else (),
    )


def _index_rows(viewer: str, summary: StudyView, found: Sequence[Face], expires: int | None) -> list[Item]:
    """The row under the number that is shown, and one more for each other number and for each modality.

    Of a study of several patients, each of them is found under its own numbers, name and accession number.
    """
    owner, study = summary.owner, summary.study_instance_uid
    moment = summary.study_date + first_value(summary.attributes, tags.StudyTime)[:6]
    newest_first = f"{moment}#{study}#{owner}"
    pk = keys.search_rows(viewer, study)
    rows: list[Item] = []
    for position, face in enumerate(found):
        row = search_row(summary, found, position)
        indexes = _of_person(viewer, face, f"{study}#{owner}", newest_first)
        if position == 0:
            indexes["gsi3"] = (keys.rows_by_date(viewer), newest_first)
        if face.shown:
            indexes["gsi1"] = (keys.rows_by_patient(viewer, face.shown.value), newest_first)
        rows.append(Item(pk, f"{owner}#{len(rows)}" if rows else owner, row.to_item(), indexes, expires=expires))
        for number in face.numbers:
            if face.shown is None or number.value != face.shown.value:
                index = {"gsi1": (keys.rows_by_patient(viewer, number.value), newest_first)}
                other = replace(row, face=replace(row.face, found_as=number), faces=())
                rows.append(Item(pk, f"{owner}#{len(rows)}", other.to_item(), index, expires=expires))
    for modality in summary.modalities:
        index = {"gsi3": (keys.rows_by_modality(viewer, indexed(modality)), newest_first)}
        rows.append(Item(pk, f"{owner}#M#{indexed(modality)}", rows[0].data, index, expires=expires))
    return rows


def _of_person(viewer: str, face: Face, place: str, newest_first: str) -> dict[str, tuple[str, str]]:
    """The entries in the indexes of accession numbers and names."""
    accession = first_value(face.attributes, tags.AccessionNumber)
    name = name_key((face.attributes.get(tags.PatientName, {}).get("Value") or [""])[0])
    by_number = {"gsi2": (keys.rows_by_accession(viewer, indexed(accession)), newest_first)} if accession else {}
    return by_number | ({"gsi4": (keys.rows_by_name(viewer), f"{indexed(name)}#{place}")} if name else {})
