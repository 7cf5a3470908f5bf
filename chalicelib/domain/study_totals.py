"""What the instances of a study add up to, and how two such totals add up to one.

Each part of a total comes out the same in whatever order and grouping its parts were added: counts and sums, the earliest and
the latest, the first so many of a set in order, and of each attribute what the first instance in UID order says. So the totals
of what arrives are added to those of what is there, and nothing of that is read again. Nothing can be taken out of a total:
where an instance is withdrawn, corrected or read again, its study is counted anew (`services.projection.tallies`).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chalicelib.domain import instance_versions, tags
from chalicelib.domain.attributes import PATIENT_AND_STUDY, SERIES
from chalicelib.domain.dicom_json import Attributes, first_value, texts
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.report_versions import Report
from chalicelib.domain.studies import REPORT_KINDS, Instance, packed, report_of, unpacked

MAX_NUMBERS = 200
"""Patients' numbers that are told apart in one study: the first ones in order. Instances that say others count as nobody's, so
that a study with more is shared with nobody, and what finds it fits a transaction."""
MAX_PERSONS = 40
"""Of so many of these numbers, the first ones in order, it is kept what the instances of each say, so that totals fit an item."""
MAX_VALUES = 30
"""Modalities, SOP classes, body parts and view positions of a study that its summary names. Each modality is a row of its own,
which holds all: more than any examination has would fit no transaction, and hold up what is projected with it."""
FORM = 3
"""Another one when totals are kept otherwise than before: those of another form are not added to, their study is counted anew."""
MAX_NAMES = 12
"""Names of series and protocols, and codes, of a study that its summary names: what it is told by which place it shows."""
LONGEST_NAME = 64
_NAMES = (tags.SeriesDescription, tags.ProtocolName)
_CODED = (tags.ProcedureCodeSequence, tags.AnatomicRegionSequence)
_SIDES = (tags.Laterality, tags.ImageLaterality)
_FINGERPRINTS = 1 << 256


@dataclass(frozen=True)
class Firsts:
    """Of each attribute, what the first instance in UID order that has it says. By tag: that instance's place, and the element.

    A place sorts as UIDs do: `#`, which joins series and instance, comes before dots and digits.
    """

    found: Mapping[str, tuple[str, Any]] = field(default_factory=dict)

    def __add__(self, other: Firsts) -> Firsts:
        found = dict(self.found)
        for tag, (place, element) in other.found.items():
            if tag not in found or place < found[tag][0]:
                found[tag] = place, element
        return Firsts(found)

    @property
    def attributes(self) -> Attributes:
        """The elements by tag, as DICOM JSON."""
        return {tag: element for tag, (_, element) in sorted(self.found.items())}

    @property
    def place(self) -> str:
        """That of the first instance of all, or empty."""
        return min((place for place, _ in self.found.values()), default="")

    def to_item(self) -> JsonObject:
        """As an item keeps them: by place, since nearly all are of one instance."""
        by_place: dict[str, Attributes] = {}
        for tag, (place, element) in self.found.items():
            by_place.setdefault(place, {})[tag] = element
        return {place: packed(attributes) for place, attributes in by_place.items()}

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Firsts:
        """What `to_item` made."""
        return cls({tag: (place, element) for place, kept in item.items() for tag, element in unpacked(kept).items()})


@dataclass(frozen=True)
class Said:
    """What the instances that say one patient's number add up to: whether there are images and reports among them, and what they
    say of patient and study."""

    images: bool
    reports: bool
    firsts: Firsts = Firsts()

    def __add__(self, other: Said) -> Said:
        return Said(self.images or other.images, self.reports or other.reports, self.firsts + other.firsts)

    def to_item(self) -> JsonObject:
        """As an item keeps it."""
        return {"images": self.images, "reports": self.reports, "firsts": self.firsts.to_item()}

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Said:
        """What `to_item` made."""
        return cls(bool(item["images"]), bool(item["reports"]), Firsts.from_item(item["firsts"]))


@dataclass(frozen=True)
class StudyTotals:
    """What instances add up to as a study.

    `size` in bytes. `said`: by the number that they say of their patient. `nobodys`: whether there are some that say none, or one
    beyond `MAX_NUMBERS`; `others`: what those say of which `said` does not keep it. `date`: the earliest Study Date, YYYYMMDD or
    empty. `sides`: what Laterality and Image Laterality say (R, L, B); `views`: View Position. `series_names`: what series and
    protocols with images are called; `codes`: of procedures and regions, as `scheme|value`. `unread`: tags of dates that
    cannot be read. `images`: those that have pixels; `frames`: theirs. `changed_at`: when the last of them was indexed. `reader`:
    the earliest that read any.
    """

    instances: int = 0
    size: int = 0
    corrected: int = 0
    said: Mapping[PatientIdentifier, Said] = field(default_factory=dict)
    nobodys: bool = False
    others: Firsts = Firsts()
    date: str = ""
    modalities: tuple[str, ...] = ()
    sop_classes: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    sides: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    series_names: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    changed_at: str = ""
    reader: int = instance_versions.READER
    images: int = 0
    frames: int = 0

    def __add__(self, other: StudyTotals) -> StudyTotals:
        if not self.instances or not other.instances:
            return self if self.instances else other
        said = dict(self.said)
        for number, part in other.said.items():
            said[number] = said[number] + part if number in said else part
        return StudyTotals(
            self.instances + other.instances,
            self.size + other.size,
            self.corrected + other.corrected,
            *_told_apart(said, self.nobodys or other.nobodys, self.others + other.others),
            min(filter(None, (self.date, other.date)), default=""),
            _first_of(self.modalities, other.modalities),
            _first_of(self.sop_classes, other.sop_classes),
            _first_of(self.body_parts, other.body_parts),
            _first_of(self.sides, other.sides),
            _first_of(self.views, other.views),
            _first_of(self.series_names, other.series_names, most=MAX_NAMES),
            _first_of(self.codes, other.codes, most=MAX_NAMES),
            _first_of(self.unread, other.unread),
            max(self.changed_at, other.changed_at),
            min(self.reader, other.reader),
            self.images + other.images,
            self.frames + other.frames,
        )

    @property
    def firsts(self) -> Firsts:
        """What all of them say of patient and study."""
        found = self.others
        for part in self.said.values():
            found += part.firsts
        return found

    def to_item(self) -> JsonObject:
        """As an item keeps them."""
        return {
            "instances": self.instances,
            "bytes": self.size,
            "corrected": self.corrected,
            "said": [
                {"issuer": number.issuer, "id": number.value, **part.to_item()} for number, part in sorted(self.said.items())
            ],
            "nobodys": self.nobodys,
            **({"others": self.others.to_item()} if self.others.found else {}),
            "date": self.date,
            "modalities": list(self.modalities),
            "sop_classes": list(self.sop_classes),
            "body_parts": list(self.body_parts),
            "sides": list(self.sides),
            "views": list(self.views),
            "series_names": list(self.series_names),
            "codes": list(self.codes),
            "unread": list(self.unread),
            "changed_at": self.changed_at,
            "reader": self.reader,
            "images": self.images,
            "frames": self.frames,
        }

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> StudyTotals:
        """What `to_item` made."""
        return cls(
            int(item["instances"]),
            int(item["bytes"]),
            int(item["corrected"]),
            {PatientIdentifier(number["issuer"], number["id"]): Said.from_item(number) for number in item["said"]},
            bool(item["nobodys"]),
            Firsts.from_item(item.get("others", {})),
            str(item["date"]),
            tuple(item["modalities"]),
            tuple(item["sop_classes"]),
            tuple(item["body_parts"]),
            tuple(item["sides"]),
            tuple(item["views"]),
            tuple(item["series_names"]),
            tuple(item["codes"]),
            tuple(item["unread"]),
            str(item["changed_at"]),
            int(item["reader"]),
            int(item["images"]),
            int(item["frames"]),
        )


@dataclass(frozen=True)
class SeriesTotals:
    """What instances add up to as a series. `said`: the numbers that they say of their patients, `MAX_NUMBERS` of them.

    `fingerprint`: the sum of what stands for each instance, so that it changes as soon as one comes, goes, or is another.
    """

    instances: int = 0
    firsts: Firsts = Firsts()
    said: tuple[PatientIdentifier, ...] = ()
    fingerprint: int = 0

    def __add__(self, other: SeriesTotals) -> SeriesTotals:
        return SeriesTotals(
            self.instances + other.instances,
            self.firsts + other.firsts,
            tuple(sorted({*self.said, *other.said})[:MAX_NUMBERS]),
            (self.fingerprint + other.fingerprint) % _FINGERPRINTS,
        )

    @property
    def digest(self) -> str:
        """What stands for the series' content: 32 hex digits."""
        return hashlib.sha256(f"{self.instances} {self.fingerprint:064x}".encode()).hexdigest()[:32]

    def to_item(self) -> JsonObject:
        """As `V#SERIES` keeps them: what is searched and served, and what is needed to add to it."""
        by_place: dict[str, list[str]] = {}
        for tag, (place, _) in sorted(self.firsts.found.items()):
            by_place.setdefault(place, []).append(tag)
        return {
            "attributes": self.firsts.attributes,
            "instances": self.instances,
            "digest": self.digest,
            "patients": [{"issuer": number.issuer, "id": number.value} for number in self.said],
            "firsts": by_place,
            "fingerprint": f"{self.fingerprint:064x}",
        }

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> SeriesTotals:
        """What `to_item` made."""
        attributes = item["attributes"]
        return cls(
            int(item["instances"]),
            Firsts({tag: (place, attributes[tag]) for place, tags in item["firsts"].items() for tag in tags}),
            tuple(PatientIdentifier(number["issuer"], number["id"]) for number in item["patients"]),
            int(item["fingerprint"], 16),
        )


@dataclass(frozen=True)
class Totals:
    """What instances add up to: as a study, as series by UID; the reports among them, and the SHA-256 of all, by place."""

    study: StudyTotals = StudyTotals()
    series: Mapping[str, SeriesTotals] = field(default_factory=dict)
    reports: Mapping[str, Report] = field(default_factory=dict)
    members: Mapping[str, str] = field(default_factory=dict)

    def __add__(self, other: Totals) -> Totals:
        series = dict(self.series)
        for uid, part in other.series.items():
            series[uid] = series[uid] + part if uid in series else part
        return Totals(self.study + other.study, series, {**self.reports, **other.reports}, {**self.members, **other.members})

    def to_item(self) -> JsonObject:
        """As the indexer leaves those of a batch for the projector."""
        return {
            "form": FORM,
            "study": self.study.to_item(),
            "series": {uid: part.to_item() for uid, part in self.series.items()},
            "reports": {place: report.to_item() for place, report in self.reports.items()},
            "members": _by_series(self.members),
        }

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Totals:
        """What `to_item` made."""
        return cls(
            StudyTotals.from_item(item["study"]),
            {uid: SeriesTotals.from_item(part) for uid, part in item["series"].items()},
            {place: Report.from_item(report) for place, report in item["reports"].items()},
            members_of(item),
        )


def members_of(item: Mapping[str, Any]) -> dict[str, str]:
    """Which instances the totals that an item keeps are of, whatever its form: SHA-256 by place."""
    return {f"{series}#{sop}": str(sha) for series, ones in item["members"].items() for sop, sha in ones.items()}


def total(found: Iterable[Instance]) -> Totals:
    """What instances of one study add up to."""
    every = sorted(found, key=_place)
    firsts: dict[PatientIdentifier | None, dict[str, tuple[str, Any]]] = {}
    kinds: dict[PatientIdentifier | None, set[bool]] = {}
    series: dict[str, list[Instance]] = {}
    reports: dict[str, Report] = {}
    modalities, classes, body_parts, sides, views, names, codes, unread = (set[str]() for _ in range(8))
    dates: list[str] = []
    for instance in every:
        attributes, place, number, is_report = (
            instance.attributes,
            _place(instance),
            instance.fact.patient,
            instance.fact.sop_class_uid in REPORT_KINDS,
        )
        series.setdefault(instance.series_instance_uid, []).append(instance)
        kinds.setdefault(number, set()).add(is_report)
        _add_firsts(firsts.setdefault(number, {}), attributes, PATIENT_AND_STUDY, place)
        if is_report:
            reports[place] = report_of(instance)
        dates += filter(None, [first_value(attributes, tags.StudyDate)])
        modalities.update(texts(attributes, tags.Modality))
        classes.add(instance.fact.sop_class_uid)
        body_parts.update(texts(attributes, tags.BodyPartExamined))
        sides.update(first_value(attributes, tag) for tag in _SIDES)
        views.update(texts(attributes, tags.ViewPosition) or filter(None, [instance.fact.geometry.view]))
        if not is_report:
            names.update(name[:LONGEST_NAME] for tag in _NAMES for name in texts(attributes, tag))
            codes.update(code for tag in _CODED for code in coded(attributes, tag))
        unread.update(instance.fact.unread)
    said = {number: Said(False in kinds[number], True in kinds[number], Firsts(found)) for number, found in firsts.items()}
    nobodys = said.pop(None, None)
    others = nobodys.firsts if nobodys else Firsts()
    numbers: dict[PatientIdentifier, Said] = {number: part for number, part in said.items() if number is not None}
    study = StudyTotals(
        len(every),
        sum(instance.fact.size for instance in every),
        sum(instance.fact.corrected for instance in every),
        *_told_apart(numbers, nobodys is not None, others),
        min(dates, default=""),
        _first_of(modalities),
        _first_of(classes),
        _first_of(body_parts),
        _first_of(sides & {"R", "L", "B"}),
        _first_of(views),
        _first_of(names, most=MAX_NAMES),
        _first_of(codes, most=MAX_NAMES),
        _first_of(unread),
        max((instance.fact.at for instance in every), default=""),
        min((instance.fact.reader for instance in every), default=instance_versions.READER),
        sum(bool(instance.fact.rows) for instance in every),
        sum(int(instance.fact.number_of_frames) for instance in every if instance.fact.rows),
    )
    members = {_place(instance): instance.fact.sha256 for instance in every}
    return Totals(study, {uid: _of_series(ones) for uid, ones in series.items()}, reports, members)


def coded(attributes: Attributes, tag: str) -> list[str]:
    """The codes of a code sequence (PS3.3 8.8), as `scheme|value`."""
    items = [code for code in attributes.get(tag, {}).get("Value") or [] if isinstance(code, dict)]
    pairs = ((first_value(item, tags.CodingSchemeDesignator), first_value(item, tags.CodeValue)) for item in items)
    return [f"{scheme}|{value}"[:LONGEST_NAME] for scheme, value in pairs if scheme and value]


def series_digest(members: Iterable[Instance]) -> str:
    """What stands for a series' content: another one as soon as an instance comes, is withdrawn,
    corrected or read by another reader. 32 hex digits."""
    return _of_series(list(members)).digest


def _of_series(members: list[Instance]) -> SeriesTotals:
    """The totals of instances of one series. Their places are their SOP Instance UIDs."""
    firsts: dict[str, tuple[str, Any]] = {}
    for instance in sorted(members, key=lambda member: member.sop_instance_uid):
        _add_firsts(firsts, instance.attributes, SERIES, instance.sop_instance_uid)
    said = sorted({number for instance in members if (number := instance.fact.patient) is not None})[:MAX_NUMBERS]
    return SeriesTotals(len(members), Firsts(firsts), tuple(said), sum(map(_fingerprint, members)) % _FINGERPRINTS)


def _fingerprint(instance: Instance) -> int:
    text = (
        f"{instance.sop_instance_uid} {instance.fact.sha256} {instance.fact.reader if instance.fact.reader > 1 else ''}".rstrip()
    )
    return int.from_bytes(hashlib.sha256(text.encode()).digest())


def _by_series(members: Mapping[str, str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for place, sha in members.items():
        series, _, sop = place.partition("#")
        found.setdefault(series, {})[sop] = sha
    return found


def _place(instance: Instance) -> str:
    return f"{instance.series_instance_uid}#{instance.sop_instance_uid}"


def _add_firsts(found: dict[str, tuple[str, Any]], attributes: Attributes, tags: Iterable[str], place: str) -> None:
    """Add what an instance says that comes after all whose firsts are in `found`."""
    for tag in tags:
        if tag in attributes and tag not in found:
            found[tag] = place, attributes[tag]


def _first_of(*values: Iterable[str], most: int = MAX_VALUES) -> tuple[str, ...]:
    return tuple(sorted({value for some in values for value in some})[:most])


def _told_apart(
    said: Mapping[PatientIdentifier, Said], nobodys: bool, others: Firsts
) -> tuple[dict[PatientIdentifier, Said], bool, Firsts]:
    """The parts of a total by patient's number, with as many told apart as are kept."""
    kept: dict[PatientIdentifier, Said] = {}
    for position, number in enumerate(sorted(said)):
        part = said[number]
        if position >= MAX_PERSONS:
            others += part.firsts
            part = Said(part.images, part.reports)
        if position < MAX_NUMBERS:
            kept[number] = part
    return kept, nobodys or len(said) > MAX_NUMBERS, others


# What a view is made of --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tally:
    """All that the views of a study are made of, so that what arrives is added to it.

    `shown` and `taken_back`: those of the instances as they are now, and of those that their owner withdrew one by one. `series`:
    how many series the shown ones are in; none while the whole study is withdrawn (`whole`), when series have no views.
    `superseded`: numbers that versions of facts say which count no more. `marked`: whether any instance was withdrawn by itself,
    maybe before it came. `missing`: by the sort key of each announcement of which something is not indexed, how that begins
    (`beginning`); `waiting`: sort keys of announcements that were not looked through yet, since too much is missing.
    """

    shown: StudyTotals = StudyTotals()
    taken_back: StudyTotals = StudyTotals()
    series: int = 0
    superseded: tuple[PatientIdentifier, ...] = ()
    marked: bool = False
    whole: bool = False
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    waiting: tuple[str, ...] = ()

    @property
    def every(self) -> StudyTotals:
        """All instances, withdrawn or not."""
        return self.shown + self.taken_back

    def to_item(self) -> JsonObject:
        """As an item keeps it."""
        return {
            "form": FORM,
            "shown": self.shown.to_item(),
            **({"taken_back": self.taken_back.to_item()} if self.taken_back.instances else {}),
            "series": self.series,
            "superseded": [{"issuer": number.issuer, "id": number.value} for number in self.superseded],
            "marked": self.marked,
            "whole": self.whole,
            **({"missing": {sk: _together(every) for sk, every in self.missing.items()}} if self.missing else {}),
            **({"waiting": list(self.waiting)} if self.waiting else {}),
        }

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Tally:
        """What `to_item` made."""
        return cls(
            StudyTotals.from_item(item["shown"]),
            StudyTotals.from_item(item["taken_back"]) if "taken_back" in item else StudyTotals(),
            int(item["series"]),
            tuple(PatientIdentifier(number["issuer"], number["id"]) for number in item["superseded"]),
            bool(item["marked"]),
            bool(item["whole"]),
            {sk: _apart(str(text)) for sk, text in item.get("missing", {}).items()},
            tuple(item.get("waiting", ())),
        )


_BEGINNING = 8


def beginning(sha256: str) -> str:
    """How a SHA-256 begins: in 8 bytes enough to tell those of one study apart."""
    return sha256[: 2 * _BEGINNING]


def _together(beginnings: Iterable[str]) -> str:
    """Beginnings of SHA-256 as Base64."""
    return base64.b64encode(bytes.fromhex("".join(beginnings))).decode()


def _apart(text: str) -> tuple[str, ...]:
    """What `_together` made."""
    raw = base64.b64decode(text)
    return tuple(raw[start : start + _BEGINNING].hex() for start in range(0, len(raw), _BEGINNING))


def digest_of(item: Mapping[str, Any]) -> str:
    """What stands for the content of an item: a view that names it was made of exactly that."""
    return hashlib.sha256(json.dumps(item, sort_keys=True).encode()).hexdigest()[:32]
