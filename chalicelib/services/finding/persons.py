"""Searching studies whose instances name several patients: each patient, series and instance under its own number and name.

PS3.4 C.2.2.2.1: what is returned has the key's value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from chalicelib.domain import filing, keys, shown_patients
from chalicelib.domain.dicom_json import Attributes
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Table
from chalicelib.domain.studies import Instance
from chalicelib.domain.study_views import SearchFace, SearchRow
from chalicelib.services import access
from chalicelib.services.access import StudyDecision

Matches = Callable[[SearchFace], bool]
"""Whether the keys of study level match a patient's attributes, under the number that finds it."""


@dataclass(frozen=True)
class Persons:
    """The patients of one study, as they are shown, and whether a search means them."""

    row: SearchRow
    faces: Mapping[PatientIdentifier, SearchFace]
    matches: Matches

    def of_instance(self, instance: Instance) -> Attributes | None:
        """What stands above an instance; None where the search does not mean its patient."""
        return self._meant(self._whose(instance.fact.patient), instance.attributes)

    def of_series(self, said: Iterable[PatientIdentifier]) -> Attributes | None:
        """What stands above a series with instances that say these numbers: that of the first of its patients that are meant."""
        patients = {self._whose(number) for number in said} or {None}
        found = (
            self._meant(patient, {}) for patient in sorted(patients, key=lambda identifier: (identifier is None, identifier))
        )
        return next((attributes for attributes in found if attributes is not None), None)

    def _meant(self, patient: PatientIdentifier | None, said: Attributes) -> Attributes | None:
        face = self.faces.get(patient) if patient else None
        if face is None:  # a patient of whom nothing is kept: what the instance says itself
            face = SearchFace(patient, patient, shown_patients.of_nobody(self.row.attributes, said))
        return face.attributes if self.matches(face) else None

    def _whose(self, said: PatientIdentifier | None) -> PatientIdentifier | None:
        return filing.whose(said, self.row.patients, self.row.aliases) if said else None


def matching_face(row: SearchRow, matches: Matches) -> SearchRow | None:
    """The row as the patient whom a search means: the first one that it matches. None where it matches none."""
    found = next((face for face in _faces(row) if matches(face)), None)
    return None if found is None else replace(row, face=found)


def persons(table: Table, viewer: str, row: SearchRow, decided: StudyDecision, matches: Matches) -> Persons | None:
    """The patients of a row's study; None for a study of one patient, or one whose view does not tell them apart yet."""
    if len(row.patients) < 2:
        return None
    if not row.faces:
        first = table.get(keys.search_rows(viewer, row.study_instance_uid), row.owner)
        faces = access.as_linked_now(SearchRow.from_item(first.data), decided).faces if first is not None else ()
        if not faces:
            return None
        row = replace(row, faces=faces)
    return Persons(row, {face.patient: face for face in _faces(row) if face.patient is not None}, matches)


def _faces(row: SearchRow) -> list[SearchFace]:
    """A row's patients, the one whose row it is under the number by which it was found."""
    return [row.face, *(face for face in row.faces if face.patient != row.face.patient)]
