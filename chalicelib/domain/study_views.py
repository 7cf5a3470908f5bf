"""What the views say of a study: its summary (`V#STUDY`), and the rows under which a viewer finds it (`V#SEE`).

Each is written and read here alone. What earlier releases wrote stays readable: what they did not write has its default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chalicelib.domain.dicom_json import Attributes
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.ports import Key
from chalicelib.domain.report_versions import ListedReport


@dataclass(frozen=True, kw_only=True)
class FiledStudy:
    """Whose a study is, and under which patients' numbers: by what the facts are found that decide who sees it.

    `study_date`: the earliest of its instances', YYYYMMDD or empty. `patients` as it is filed, `said` as its instances do;
    `aliases`: by the hash of one of `patients`, those of its other spellings; `reported`: hashes of numbers that only its reports
    say (`domain.filing`). `former`: hashes of numbers that it had before corrections. `linked`: hashes that were linked to its
    patients' when it was projected. `anonymous`: an instance names no patient. `gone`: nothing of it is shown any more.
    """

    owner: str
    study_instance_uid: str
    study_date: str = ""
    patients: tuple[PatientIdentifier, ...] = ()
    said: tuple[PatientIdentifier, ...] = ()
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reported: tuple[str, ...] = ()
    former: tuple[str, ...] = ()
    linked: tuple[str, ...] = ()
    anonymous: bool = False
    gone: bool = False


def _filed(item: Mapping[str, Any]) -> JsonObject:
    """The fields of `FiledStudy` in an item."""
    return {
        "owner": str(item["owner"]),
        "study_instance_uid": str(item["study"]),
        "study_date": str(item["date"]),
        "patients": _identifiers(item["patients"]),
        "said": _identifiers(item.get("said", ())),
        "aliases": item.get("aliases") or {},
        "reported": tuple(item.get("reported", ())),
        "former": tuple(item.get("former", ())),
        "linked": tuple(item.get("linked", ())),
        "anonymous": bool(item["anonymous"]),
        "gone": bool(item.get("gone")),
    }


def _identifiers(items: Sequence[Mapping[str, str]]) -> tuple[PatientIdentifier, ...]:
    return tuple(map(PatientIdentifier.from_item, items))


def _items(numbers: Sequence[PatientIdentifier]) -> list[dict[str, str]]:
    return [number.to_item() for number in numbers]


@dataclass(frozen=True, kw_only=True)
class StudyView(FiledStudy):
    """The summary of a study.

    `attributes` of patient and study; `persons`: of several patients, those of each, by the patient's hash. `images`: instances
    with pixels, `frames` theirs; None in a view of an earlier release. `size` in bytes. `changed_at`: when the last instance was
    indexed. `incomplete`: something that was announced is not indexed; `missing`, of an earlier release: the SHA-256 of it.
    `reader`: the earliest that read an instance. `unread`: tags of dates that cannot be read. `rows`: the keys of who can find
    it, `rows_digest` of what they say. `tally`: the digest of what it was made of, empty where that is not known. `unsettled`: it
    is being written in several steps.
    """

    attributes: Attributes = field(default_factory=dict)
    persons: Mapping[str, Attributes] = field(default_factory=dict)
    modalities: tuple[str, ...] = ()
    reports: tuple[ListedReport, ...] = ()
    sop_classes: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    laterality: str = ""
    views: tuple[str, ...] = ()
    series_names: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    series: int = 0
    instances: int = 0
    images: int | None = None
    frames: int | None = None
    size: int = 0
    changed_at: str = ""
    incomplete: bool = False
    missing: tuple[str, ...] | None = None
    reader: int = 1
    corrected: int = 0
    withdrawn: int = 0
    unread: tuple[str, ...] = ()
    rows: tuple[Key, ...] = ()
    rows_digest: str = ""
    tally: str = ""
    unsettled: bool = False

    def to_item(self) -> JsonObject:
        """As `V#STUDY` keeps it."""
        return {
            "owner": self.owner,
            "study": self.study_instance_uid,
            "attributes": self.attributes,
            "patients": _items(self.patients),
            "said": _items(self.said),
            "aliases": dict(self.aliases),
            "reported": list(self.reported),
            **({"persons": dict(self.persons)} if self.persons else {}),
            "anonymous": self.anonymous,
            "date": self.study_date,
            "modalities": list(self.modalities),
            "reports": [report.to_item() for report in self.reports],
            "sop_classes": list(self.sop_classes),
            "body_parts": list(self.body_parts),
            "laterality": self.laterality,
            "views": list(self.views),
            "series_names": list(self.series_names),
            "codes": list(self.codes),
            "series": self.series,
            "instances": self.instances,
            **({"images": self.images} if self.images is not None else {}),
            **({"frames": self.frames} if self.frames is not None else {}),
            "bytes": self.size,
            "changed_at": self.changed_at,
            **({"incomplete": True} if self.incomplete else {}),
            **({"missing": list(self.missing)} if self.missing is not None else {}),
            "reader": self.reader,
            "corrected": self.corrected,
            "unread": list(self.unread),
            "gone": self.gone,
            "withdrawn": self.withdrawn,
            "former": list(self.former),
            "linked": list(self.linked),
            "rows": [list(key) for key in self.rows],
            "rows_digest": self.rows_digest,
            **({"tally": self.tally} if self.tally else {}),
            **({"unsettled": True} if self.unsettled else {}),
        }

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> StudyView:
        """What `to_item` made, and what earlier releases did."""
        missing = item.get("missing")
        return cls(
            **_filed(item),
            attributes=item["attributes"],
            persons=item.get("persons") or {},
            modalities=tuple(item["modalities"]),
            reports=tuple(map(ListedReport.from_item, item["reports"])),
            sop_classes=tuple(item["sop_classes"]),
            body_parts=tuple(item["body_parts"]),
            laterality=str(item.get("laterality", "")),
            views=tuple(item.get("views", ())),
            series_names=tuple(item.get("series_names", ())),
            codes=tuple(item.get("codes", ())),
            series=int(item["series"]),
            instances=int(item["instances"]),
            images=int(item["images"]) if "images" in item else None,
            frames=int(item["frames"]) if "frames" in item else None,
            size=int(item.get("bytes", 0)),
            changed_at=str(item.get("changed_at", "")),
            incomplete=bool(item.get("incomplete")),
            missing=tuple(missing) if missing is not None else None,
            reader=int(item.get("reader") or 1),
            corrected=int(item.get("corrected", 0)),
            withdrawn=int(item.get("withdrawn", 0)),
            unread=tuple(item.get("unread", ())),
            rows=tuple((str(pk), str(sk)) for pk, sk in item.get("rows", ())),
            rows_digest=str(item.get("rows_digest", "")),
            tally=str(item.get("tally", "")),
            unsettled=bool(item.get("unsettled")),
        )


@dataclass(frozen=True)
class SeriesView:
    """The summary of a series (`V#SERIES`, which `study_totals.SeriesTotals` writes), as it is read.

    `patients`: the numbers that its instances say. `digest`: what stands for its content.
    """

    series_instance_uid: str
    attributes: Attributes
    instances: int
    patients: tuple[PatientIdentifier, ...] = ()
    digest: str = ""

    @classmethod
    def from_item(cls, series_instance_uid: str, item: Mapping[str, Any]) -> SeriesView:
        """What `SeriesTotals.to_item` made, and what earlier releases did."""
        patients = _identifiers(item.get("patients", ()))
        return cls(series_instance_uid, item["attributes"], int(item["instances"]), patients, str(item["digest"]))


@dataclass(frozen=True)
class SearchFace:
    """One patient of a study as a viewer finds it: `patient` as the study is filed, None where it is of one patient only;
    `found_as`: the number that finds this row, None for a study without a number; `attributes` as they are shown."""

    patient: PatientIdentifier | None
    found_as: PatientIdentifier | None
    attributes: Attributes

    def to_item(self) -> JsonObject:
        """As an item keeps it."""
        return {
            **({"patient": self.patient.to_item()} if self.patient else {}),
            "attributes": self.attributes,
            "found_as": self.found_as.to_item() if self.found_as else {"issuer": "", "id": ""},
        }

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> SearchFace:
        """What `to_item` made."""
        patient = PatientIdentifier.from_item(item["patient"]) if item.get("patient") else None
        found_as = PatientIdentifier.from_item(item["found_as"])
        return cls(patient, found_as if found_as.value else None, item["attributes"])


@dataclass(frozen=True, kw_only=True)
class SearchRow(FiledStudy):
    """What a search answers from: a study as one viewer is shown it, under one number.

    `faces`: of a study of several patients all of them, in the first of its rows only.
    """

    face: SearchFace
    faces: tuple[SearchFace, ...] = ()

    @property
    def attributes(self) -> Attributes:
        """Those that are shown under this row's number."""
        return self.face.attributes

    @property
    def found_as(self) -> PatientIdentifier | None:
        """The number that finds it."""
        return self.face.found_as

    def to_item(self) -> JsonObject:
        """As `V#SEE` keeps it: what is empty, and what its instances say where it is what it is filed under, is left out."""
        return {
            **self.face.to_item(),
            "owner": self.owner,
            "study": self.study_instance_uid,
            "patients": _items(self.patients),
            "anonymous": self.anonymous,
            "date": self.study_date,
            "linked": list(self.linked),
            "former": list(self.former),
            **({"said": _items(self.said)} if self.said and self.said != self.patients else {}),
            **({"aliases": dict(self.aliases)} if self.aliases else {}),
            **({"reported": list(self.reported)} if self.reported else {}),
            **({"faces": [face.to_item() for face in self.faces]} if self.faces else {}),
        }

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> SearchRow:
        """What `to_item` made, and what earlier releases did."""
        faces = tuple(map(SearchFace.from_item, item.get("faces", ())))
        return cls(**_filed(item), face=SearchFace.from_item(item), faces=faces)
