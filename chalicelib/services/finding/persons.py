"""Searching studies whose instances name several patients: each patient, series and instance under its own number and name.

PS3.4 C.2.2.2.1: what is returned has the key's value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from chalicelib.domain import filing, keys, shown_patients
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Table
from chalicelib.domain.studies import Attributes, Instance
from chalicelib.services import access
from chalicelib.services.access import Decided

Row = dict[str, Any]
Matches = Callable[[Row], bool]
"""Whether the keys of study level match a face: its `attributes` under the number that it is `found_as`."""


@dataclass(frozen=True)
class Persons:
    """The patients of one study, as they are shown, and whether a search means them."""

    row: Row
    faces: Mapping[PatientIdentifier, Row]
    matches: Matches

    def of_instance(self, one: Instance) -> Attributes | None:
        """What stands above an instance; None where the search does not mean its patient."""
        return self._meant(self._whose(one.fact.patient), one.attributes)

    def of_series(self, said: Iterable[Mapping[str, str]]) -> Attributes | None:
        """What stands above a series with instances that say these numbers: that of the first of its patients that are meant."""
        patients = {self._whose(_identifier(one)) for one in said} or {None}
        found = (self._meant(patient, {}) for patient in sorted(patients, key=lambda one: (one is None, one)))
        return next((attributes for attributes in found if attributes is not None), None)

    def _meant(self, patient: PatientIdentifier | None, said: Attributes) -> Attributes | None:
        face = self.faces.get(patient) if patient else None
        if face is None:  # a patient of whom nothing is kept: what the instance says itself
            number = {"issuer": patient.issuer, "id": patient.value} if patient else {"issuer": "", "id": ""}
            face = {"found_as": number, "attributes": shown_patients.of_nobody(self.row["attributes"], said)}
        attributes: Attributes = face["attributes"]
        return attributes if self.matches(face) else None

    def _whose(self, said: PatientIdentifier | None) -> PatientIdentifier | None:
        patients = [_identifier(one) for one in self.row["patients"]]
        return filing.whose(said, patients, self.row.get("aliases")) if said else None


def matching_face(row: Row, matches: Matches) -> Row | None:
    """The row as the patient whom a search means: the first one that it matches. None where it matches none."""
    found = next((one for one in _faces(row) if matches(one)), None)
    return None if found is None else row | found


def persons(table: Table, viewer: str, row: Row, decided: Decided, matches: Matches) -> Persons | None:
    """The patients of a row's study; None for a study of one patient, or one whose view does not tell them apart yet."""
    if len(row["patients"]) < 2:
        return None
    if "faces" not in row:
        first = table.get(keys.search_rows(viewer, row["study"]), str(row["owner"]))
        if first is None or "faces" not in first.data:
            return None
        row = row | {"faces": access.as_linked_now(first.data, decided)["faces"]}
    return Persons(row, {_identifier(one["patient"]): one for one in _faces(row)}, matches)


def _faces(row: Row) -> list[Row]:
    """A row's patients, the one whose row it is under the number by which it was found."""
    here = {"patient": row.get("patient"), "found_as": row["found_as"], "attributes": row["attributes"]}
    return [here, *(one for one in row.get("faces", ()) if one["patient"] != row.get("patient"))]


def _identifier(number: Mapping[str, str]) -> PatientIdentifier:
    return PatientIdentifier(number["issuer"], number["id"])
