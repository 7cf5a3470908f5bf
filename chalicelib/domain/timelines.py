"""What a timeline says of a study and its patient, as `GET /patients/{id}/timeline` and the viewer's page answer it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chalicelib.domain import tags
from chalicelib.domain.dicom_json import first_value
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.report_versions import ListedReport


@dataclass(frozen=True)
class ShownPerson:
    """Who a patient is: name as DICOM writes it (PS3.5 6.2.1), birth date YYYYMMDD, sex M, F or O; empty where it is not said."""

    name: str = ""
    birth_date: str = ""
    sex: str = ""

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> ShownPerson:
        """As attributes in the DICOM JSON Model say."""
        value = (attributes.get(tags.PatientName, {}).get("Value") or [{}])[0]
        name = str(value.get("Alphabetic", "")) if isinstance(value, dict) else ""
        return cls(name, first_value(attributes, tags.PatientBirthDate), first_value(attributes, tags.PatientSex))

    def to_json(self) -> dict[str, str]:
        """As it is answered."""
        return {"name": self.name, "birth_date": self.birth_date, "sex": self.sex}


@dataclass(frozen=True)
class TimelineStudy:
    """A study on a timeline, as its viewer is shown it.

    `study_date` YYYYMMDD, `study_time` HHMMSS…, or empty. `laterality`: R, L, B for both, or empty. `images`: instances with
    pixels, `frames` theirs; None where that is not known. `missing`: instances that were announced and have no verdict. `unread`:
    tags of dates that cannot be read. `opened_by`: the transfers that open it.
    """

    study_instance_uid: str
    owner: str
    study_date: str = ""
    study_time: str = ""
    modalities: tuple[str, ...] = ()
    description: str = ""
    laterality: str = ""
    views: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    series_names: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    patient: ShownPerson = ShownPerson()
    instances: int = 0
    images: int | None = None
    frames: int | None = None
    number_of_patients: int = 1
    missing: int = 0
    reports: tuple[ListedReport, ...] = ()
    unread: tuple[str, ...] = ()
    opened_by: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """(Study Instance UID, owner): of one UID there may be several owners."""
        return self.study_instance_uid, self.owner

    @property
    def body_part(self) -> str:
        """The first of its body parts, or empty."""
        return self.body_parts[0] if self.body_parts else ""

    def to_json(self) -> JsonObject:
        """As it is answered."""
        return {
            "study_instance_uid": self.study_instance_uid,
            "owner": self.owner,
            "study_date": self.study_date,
            "study_time": self.study_time,
            "modalities": list(self.modalities),
            "description": self.description,
            "body_part": self.body_part,
            "laterality": self.laterality,
            "views": list(self.views),
            "body_parts": list(self.body_parts),
            "series_names": list(self.series_names),
            "codes": list(self.codes),
            "patient": self.patient.to_json(),
            "instances": self.instances,
            **({"images": self.images} if self.images is not None else {}),
            **({"frames": self.frames} if self.frames is not None else {}),
            "complete": self.missing == 0,
            "number_of_patients": self.number_of_patients,
            "missing": self.missing,
            "reports": [report.to_item() for report in self.reports],
            "unread": list(self.unread),
            "opened_by": list(self.opened_by),
        }
