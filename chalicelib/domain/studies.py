"""A study as its facts say: its instances as they are now, what was withdrawn, and how far a decision on it goes. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from chalicelib.domain import instance_versions, keys, tags
from chalicelib.domain.dicom_json import Attributes, first_value
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.instance_facts import InstanceFact
from chalicelib.domain.ports import Item
from chalicelib.domain.report_versions import Report
from chalicelib.domain.sharing import Study
from chalicelib.domain.study_views import FiledStudy

REPORT_KINDS = {
    "1.2.840.10008.5.1.4.1.1.104.1": "pdf",  # Encapsulated PDF
    "1.2.840.10008.5.1.4.1.1.104.2": "cda",  # Encapsulated CDA
    "1.2.840.10008.5.1.4.1.1.88.11": "sr",  # Basic Text SR
    "1.2.840.10008.5.1.4.1.1.88.22": "sr",  # Enhanced SR
    "1.2.840.10008.5.1.4.1.1.88.33": "sr",  # Comprehensive SR
    "1.2.840.10008.5.1.4.1.1.88.34": "sr",  # Comprehensive 3D SR
}
"""SOP classes of what a person reads as a report (PS3.4 B.5). Dose and CAD reports, and key object notes, are none."""
MAX_PERSONS = 8
"""Patients of one study of which its summary has what their instances say."""


@dataclass
class Instance:
    """One indexed instance, as its fact says. What its pixels are may be told anew for the rest of a request."""

    series_instance_uid: str
    sop_instance_uid: str
    fact: InstanceFact

    @classmethod
    def from_item(cls, series: str, sop: str, item: Mapping[str, Any]) -> Instance:
        """One from the content of its fact."""
        return cls(series, sop, InstanceFact.from_item(item))

    @cached_property
    def attributes(self) -> Attributes:
        """Its attributes as DICOM JSON."""
        return unpacked(self.fact.kept)


def packed(attributes: Attributes) -> dict[str, list[Any]]:
    """Attributes as a fact keeps them: tag → [vr, value, …], a quarter shorter than DICOM JSON."""
    return {tag: [element["vr"], *element.get("Value", ())] for tag, element in attributes.items()}


def unpacked(kept: Mapping[str, Sequence[Any]]) -> Attributes:
    """What `packed` made, as DICOM JSON again."""
    return {tag: {"vr": vr, "Value": values} if values else {"vr": vr} for tag, (vr, *values) in kept.items()}


@dataclass(frozen=True)
class Bounds:
    """What was decided on: an instance that a view of its study does not know of may be another patient's, or older.

    `patients`, as the instances say them, None: everything, as for the owner. `date` is the study's, YYYYMMDD or empty.
    """

    patients: tuple[PatientIdentifier, ...] | None = None
    date: str = ""

    def hold(self, instance: Instance) -> bool:
        """Whether the decision on the study holds for this instance, too."""
        if self.patients is None:
            return True
        known = instance.fact.patient is not None and instance.fact.patient in self.patients
        return known and (first_value(instance.attributes, tags.StudyDate) or self.date) >= self.date


EVERYTHING = Bounds()


def bounds(viewer: str, study: FiledStudy) -> Bounds:
    """How far what was decided of a study goes for `viewer`."""
    if study.owner == viewer:
        return EVERYTHING
    return Bounds(study.said or study.patients, study.study_date)


def instances(items: Iterable[Item], withdrawn: Collection[str] = frozenset(), within: Bounds = EVERYTHING) -> Iterator[Instance]:
    """The instances among the facts of a study's partition, in the order of their keys, each as it is now; but for those with
    a SOP Instance UID in `withdrawn`, and those for which what was decided on the study does not hold."""
    for where, item in instance_versions.current(items):
        instance = Instance.from_item(where.series, where.sop, item.data)
        if where.sop not in withdrawn and within.hold(instance):
            yield instance


def every_version(items: Iterable[Item]) -> Iterator[Instance]:
    """The instances among the facts of a study's partition, with the versions that were superseded since."""
    for where, item in instance_versions.placed(items):
        yield Instance.from_item(where.series, where.sop, item.data)


def withdrawn(items: Iterable[Item]) -> set[str]:
    """The SOP Instance UIDs that the owner withdrew one by one, and has not shown again."""
    return {item.sk.removeprefix(keys.MARKS) for item in items if item.sk.startswith(keys.MARKS) and is_withdrawal(item)}


def is_withdrawal(item: Item | None) -> bool:
    """Whether what was written of a withdrawal still holds: it is there, and has not ended."""
    return item is not None and not item.data.get("ended_at")


def announced(items: Iterable[Item]) -> set[str]:
    """SHA-256 of every instance of the study that its sender said would come."""
    return {str(sha) for item in items if item.sk.startswith(keys.ANNOUNCEMENTS) for sha in _list(item.data["sha256"])}


def is_of_patient(tag: str) -> bool:
    """Whether an attribute is the patient's, and not the study's."""
    return tag.startswith("0010")


def report_of(instance: Instance, shown: bool = True) -> Report:
    """An instance of a report's class as ordering sees it."""
    number = first_value(instance.attributes, tags.InstanceNumber)
    declared = instance.fact.document
    date, time = first_value(instance.attributes, tags.ContentDate), first_value(instance.attributes, tags.ContentTime)
    return Report(
        instance.sop_instance_uid,
        instance.series_instance_uid,
        REPORT_KINDS[instance.fact.sop_class_uid],
        _report_title(instance),
        declared.date or date or first_value(instance.attributes, tags.StudyDate),
        declared.time if declared.date else time,
        int(number) if number.lstrip("-").isdigit() else 1,
        declared,
        shown,
    )


def _report_title(instance: Instance) -> str:
    named = instance.attributes.get(tags.ConceptNameCodeSequence, {}).get("Value") or [{}]
    concept = first_value(named[0], tags.CodeMeaning) if isinstance(named[0], dict) else ""
    return (
        first_value(instance.attributes, tags.DocumentTitle)
        or first_value(instance.attributes, tags.SeriesDescription)
        or concept
    )


def for_deciding(study: FiledStudy) -> Study:
    """A study as `domain.sharing` wants it. An instance without PatientID makes it unshareable."""
    hashes = () if study.anonymous else tuple(patient.hash for patient in study.patients)
    return Study(study.owner, study.study_instance_uid, study.study_date, hashes, study.former)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
