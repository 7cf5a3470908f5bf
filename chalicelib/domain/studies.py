"""Views of a study: what its instance facts add up to. Pure, and independent of the order in which the facts came."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from chalicelib.domain import instance_versions, report_versions
from chalicelib.domain.attributes import PATIENT_AND_STUDY, SERIES
from chalicelib.domain.filing import Filing, Own, as_said, filing, whose
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Item
from chalicelib.domain.report_versions import Placed, Report
from chalicelib.domain.sharing import Study

Attributes = dict[str, Any]
"""DICOM JSON model (PS3.18 F.2): tag as eight hex digits → {"vr", "Value"}."""

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
_MAX_REPORTS = 200
_MAX_VALUES = 30
"""Modalities, SOP classes and body parts of a study that its summary names. Each modality is a row of its own, which holds all:
more than any examination has would fit no transaction, and hold up what is projected with it."""


@dataclass(frozen=True)
class Instance:
    """One indexed instance, as its fact says."""

    series_instance_uid: str
    sop_instance_uid: str
    data: dict[str, Any]

    @cached_property
    def attributes(self) -> Attributes:
        """Its attributes as DICOM JSON."""
        return unpacked(self.data["attributes"])


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

    patients: tuple[tuple[str, str], ...] | None = None
    date: str = ""

    def hold(self, one: Instance) -> bool:
        """Whether the decision on the study holds for this instance, too."""
        if self.patients is None:
            return True
        patient = one.data.get("patient") or {}
        known = (patient.get("issuer"), patient.get("id")) in self.patients
        return known and (first_value(one.attributes, "00080020") or self.date) >= self.date


EVERYTHING = Bounds()


def bounds(viewer: str, summary: Mapping[str, Any]) -> Bounds:
    """How far what was decided of a study's summary goes for `viewer`."""
    if summary["owner"] == viewer:
        return EVERYTHING
    said = summary.get("said") or summary["patients"]
    return Bounds(tuple((p["issuer"], p["id"]) for p in said), str(summary["date"]))


def study_partition(owner: str, study: str) -> str:
    """The partition of the facts of one owner's study."""
    return f"F#STUDY#{owner}#{study}"


def former_patients(every: Iterable[Instance], left: Iterable[Instance], own: Own = as_said) -> list[str]:
    """The hashes of the patient identifiers under which a study was filed, and of which no instance is left."""

    def hashes(found: Iterable[Instance]) -> set[str]:
        said = [_identifier(p) for one in found if (p := one.data.get("patient"))]
        return {number.hash for one in said for number in (one, own(one))}

    return sorted(hashes(every) - hashes(left))


def corrected_away(items: Iterable[Item], own: Own = as_said) -> list[str]:
    """The hashes of the patient identifiers that a study had, and that corrections took from all of its instances."""
    facts = list(items)

    def hashes(found: Iterable[Instance]) -> set[str]:
        said = [_identifier(p) for one in found if (p := one.data.get("patient"))]
        return {number.hash for one in said for number in (one, own(one))}

    return sorted(hashes(every_version(facts)) - hashes(instances(facts)))


def instances(items: Iterable[Item], withdrawn: Collection[str] = frozenset(), within: Bounds = EVERYTHING) -> Iterator[Instance]:
    """The instances among the facts of a study's partition, in the order of their keys, each as it is now; but for those with
    a SOP Instance UID in `withdrawn`, and those for which what was decided on the study does not hold."""
    for where, item in instance_versions.current(items):
        one = Instance(where.series, where.sop, item.data)
        if where.sop not in withdrawn and within.hold(one):
            yield one


def every_version(items: Iterable[Item]) -> Iterator[Instance]:
    """The instances among the facts of a study's partition, with the versions that were superseded since."""
    for where, item in instance_versions.placed(items):
        yield Instance(where.series, where.sop, item.data)


def withdrawn(items: Iterable[Item]) -> set[str]:
    """The SOP Instance UIDs that the owner withdrew one by one, and has not shown again."""
    return {item.sk.removeprefix("W#") for item in items if item.sk.startswith("W#") and is_withdrawal(item)}


def is_withdrawal(item: Item | None) -> bool:
    """Whether what was written of a withdrawal still holds: it is there, and has not ended."""
    return item is not None and not item.data.get("ended_at")


def announced(items: Iterable[Item]) -> set[str]:
    """SHA-256 of every instance of the study that its sender said would come."""
    return {str(sha) for item in items if item.sk.startswith("E#") for sha in _list(item.data["sha256"])}


def filed(found: Iterable[Instance], own: Own = as_said) -> Filing:
    """Whose the instances are, and how they say so."""
    return filing(((_identifier(p), _is_report(one)) for one in found if (p := one.data.get("patient"))), own)


def _identifier(number: Mapping[str, str]) -> PatientIdentifier:
    return PatientIdentifier(number["issuer"], number["id"])


def _numbers(numbers: Iterable[PatientIdentifier]) -> list[dict[str, str]]:
    return [{"issuer": one.issuer, "id": one.value} for one in numbers]


def summarise(
    owner: str,
    study: str,
    found: list[Instance],
    expected: set[str],
    withdrawn: Sequence[Instance] = (),
    own: Own = as_said,
) -> dict[str, Any]:
    """The summary of a study: what `V#STUDY` holds. What is in `withdrawn` only tells which reports it replaced.
    `own` knows the names of the owner's numbering.

    Attributes are those of the first instance in UID order that has them, so any order of arrival gives the same.
    `date` is the earliest of all (YYYYMMDD), since a study must not count as later than its oldest part.
    """
    ordered = sorted(found, key=lambda one: (one.series_instance_uid, one.sop_instance_uid))
    attributes: Attributes = {}
    for one in ordered:
        for tag in PATIENT_AND_STUDY:
            if tag in one.attributes and tag not in attributes:
                attributes[tag] = one.attributes[tag]
    numbers = filed(ordered, own)
    persons = _persons(ordered, numbers, own, attributes) if len(numbers.patients) > 1 else {}
    dates = [value for one in ordered if (value := first_value(one.attributes, "00080020"))]
    if dates:
        attributes["00080020"] = {"vr": "DA", "Value": [min(dates)]}
    series = {one.series_instance_uid for one in ordered}
    here = {str(one.data["sha256"]) for one in ordered}
    return {
        "owner": owner,
        "study": study,
        "attributes": attributes,
        "patients": _numbers(numbers.patients),
        "said": _numbers(numbers.said),
        "aliases": numbers.aliases,
        "reported": list(numbers.reported),
        **({"persons": persons} if persons else {}),
        "anonymous": any(not one.data.get("patient") for one in ordered),
        "date": min(dates, default=""),
        "modalities": _values(ordered, "00080060"),
        "reports": reports(ordered, withdrawn),
        "sop_classes": sorted({str(one.data["class"]) for one in ordered})[:_MAX_VALUES],
        "body_parts": _values(ordered, "00180015"),
        "laterality": _laterality(ordered),
        "views": _values(ordered, "00185101"),
        "series": len(series),
        "instances": len(ordered),
        "bytes": sum(int(one.data["size"]) for one in ordered),
        "changed_at": max(str(one.data["at"]) for one in ordered),
        "missing": sorted(expected - here)[:1000],
        "reader": min((int(one.data.get("reader", 1)) for one in ordered), default=instance_versions.READER),
        "corrected": sum(instance_versions.corrected(one.data) for one in ordered),
        "unread": sorted({tag for one in ordered for tag in one.data.get("unread") or ()}),
    }


def _persons(found: Sequence[Instance], numbers: Filing, own: Own, of_all: Attributes) -> dict[str, Attributes]:
    """Of a study with instances of several patients, what those of each say of patient and study, by the patient's hash."""
    persons: dict[str, Attributes] = {}
    for one in found:
        said = one.data.get("patient")
        patient = whose(own(_identifier(said)), numbers.patients) if said else None
        if patient is not None and (patient.hash in persons or len(persons) < MAX_PERSONS):
            said_of = persons.setdefault(patient.hash, {})
            said_of.update(
                {tag: one.attributes[tag] for tag in PATIENT_AND_STUDY if tag in one.attributes and tag not in said_of}
            )
    study = {tag: value for tag, value in of_all.items() if not is_of_patient(tag)}
    return {patient: study | said_of for patient, said_of in persons.items()}


def is_of_patient(tag: str) -> bool:
    """Whether an attribute is the patient's, and not the study's."""
    return tag.startswith("0010")


def _laterality(found: Iterable[Instance]) -> str:
    """The side that the images show: R, L, B for both, or empty (Laterality, Image Laterality; PS3.3 C.7.3.1, C.7.6.1)."""
    said = {value for one in found for tag in ("00200060", "00200062") if (value := first_value(one.attributes, tag))}
    sides = said & {"R", "L", "B"}
    return next(iter(sides)) if len(sides) == 1 else "B" if sides else ""


def _values(found: Iterable[Instance], tag: str) -> list[str]:
    return sorted({value for one in found for value in texts(one.attributes, tag)})[:_MAX_VALUES]


def reports(found: Iterable[Instance], withdrawn: Iterable[Instance] = ()) -> list[dict[str, Any]]:
    """The reports among the instances of a study, newest first; `newest` are those that none of the others has replaced.

    Reports with the same `document` are versions of one; `same_as` names the instance that another one is a copy of.
    """
    every = [report_of(one, shown) for ones, shown in ((found, True), (withdrawn, False)) for one in ones if _is_report(one)]
    return [
        {
            "sop_instance_uid": placed.report.sop_instance_uid,
            "series_instance_uid": placed.report.series_instance_uid,
            "kind": placed.report.kind,
            "title": placed.report.title,
            "date": placed.report.date,
            "time": placed.report.time,
            "version": placed.version,
            "newest": placed.newest,
            "document": placed.document,
            **({"status": status} if (status := _status(placed.report)) else {}),
            **({"preliminary": True} if placed.report.declared.get("preliminary") else {}),
            **({"same_as": placed.same_as} if placed.same_as else {}),
        }
        for placed in _listed(report_versions.place(every))
    ]


def _listed(placed: Sequence[Placed]) -> list[Placed]:
    """As many as fit a summary, in order: of too many, older versions make room for what stands."""
    standing_first = sorted(range(len(placed)), key=lambda position: not placed[position].newest)
    return [placed[position] for position in sorted(standing_first[:_MAX_REPORTS])]


def _is_report(one: Instance) -> bool:
    return str(one.data["class"]) in REPORT_KINDS


def _status(report: Report) -> str:
    """As it says itself; of one that says no more than that it is not final, that."""
    return report.status or ("preliminary" if report.declared.get("preliminary") else "")


def report_of(one: Instance, shown: bool = True) -> Report:
    """An instance of a report's class as ordering sees it."""
    number = first_value(one.attributes, "00200013")
    declared: dict[str, Any] = one.data.get("document") or {}
    date, time = first_value(one.attributes, "00080023"), first_value(one.attributes, "00080033")
    return Report(
        one.sop_instance_uid,
        one.series_instance_uid,
        REPORT_KINDS[str(one.data["class"])],
        _report_title(one),
        str(declared.get("date") or date or first_value(one.attributes, "00080020")),
        str(declared.get("time", "")) if declared.get("date") else time,
        int(number) if number.lstrip("-").isdigit() else 1,
        declared,
        shown,
    )


def _report_title(one: Instance) -> str:
    named = one.attributes.get("0040A043", {}).get("Value") or [{}]
    concept = first_value(named[0], "00080104") if isinstance(named[0], dict) else ""
    return first_value(one.attributes, "00420010") or first_value(one.attributes, "0008103E") or concept


def summarise_series(found: list[Instance]) -> dict[str, dict[str, Any]]:
    """The summary of each series, by Series Instance UID: what `V#SERIES` holds."""
    by_series: dict[str, list[Instance]] = {}
    for one in sorted(found, key=lambda one: one.sop_instance_uid):
        by_series.setdefault(one.series_instance_uid, []).append(one)
    views: dict[str, dict[str, Any]] = {}
    for series, members in sorted(by_series.items()):
        attributes: Attributes = {}
        for one in members:
            for tag in SERIES:
                if tag in one.attributes and tag not in attributes:
                    attributes[tag] = one.attributes[tag]
        patients = sorted({(p["issuer"], p["id"]) for one in members if (p := one.data.get("patient"))})
        views[series] = {
            "attributes": attributes,
            "instances": len(members),
            "digest": series_digest(members),
            "patients": [{"issuer": issuer, "id": value} for issuer, value in patients],
        }
    return views


def series_digest(members: Iterable[Instance]) -> str:
    """What stands for a series' content: another one as soon as an instance comes, is withdrawn,
    corrected or read by another reader. 32 hex digits."""
    text = "\n".join(
        sorted(f"{one.sop_instance_uid} {one.data['sha256']} {one.data.get('reader', '')}".rstrip() for one in members)
    )
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def for_deciding(summary: Mapping[str, Any]) -> Study:
    """A study's summary as `domain.sharing` wants it. An instance without PatientID makes it unshareable."""
    hashes = () if summary["anonymous"] else tuple(PatientIdentifier(p["issuer"], p["id"]).hash for p in summary["patients"])
    former = tuple(str(patient) for patient in summary.get("former", ()))
    return Study(str(summary["owner"]), str(summary["study"]), str(summary["date"]), hashes, former)


def first_value(attributes: Mapping[str, Any], tag: str) -> str:
    """The first value of an attribute as text, or empty."""
    values = attributes.get(tag, {}).get("Value") or [""]
    first = values[0]
    return str(first) if isinstance(first, str | int | float) else ""


def texts(attributes: Mapping[str, Any], tag: str) -> list[str]:
    """All values of an attribute that are text; some equipment writes two modalities into one series."""
    return [value for value in attributes.get(tag, {}).get("Value") or [] if isinstance(value, str) and value]


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
