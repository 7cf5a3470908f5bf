"""Corrections: bytes that come again under a SOP Instance UID that stands for others, and what their owner sees of both.

Where the new bytes only correct whose the image is or what was ordered (`dicom.correction`), and the owner's registration accepts
corrections, they stand from now on and the old ones are superseded: kept, shown to nobody. Everything else is a conflict. The
verdict on an object stays the first one: what it stands for at this moment is told from the facts (`services.ingest.standing`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalicelib.domain import instance_versions, keys, studies, tags
from chalicelib.domain.audit import Act, Entry, Kind, Recorder
from chalicelib.domain.dicom_json import first_value
from chalicelib.domain.errors import NotFound, TryAgain
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.instance_versions import MOST_VERSIONS, FactPlace
from chalicelib.domain.ports import Item, Objects, Put, Table, Write
from chalicelib.domain.rfc3339 import iso
from chalicelib.services.ingest.instance_items import verdicts_of
from chalicelib.services.registry import Caller

_ATTEMPTS = 10
MAX_LISTED = 1000
CORRECTION = "correction"
"""What `Compare` answers of bytes that only correct; everything else is the reason of a conflict, or `OTHER`."""
OTHER = "other"
Compare = Callable[[Objects, tuple[str, int], tuple[str, int]], str]
"""From the (key, size) of what stands and of what came, to `dicom.correction.compare`'s answer."""


@dataclass(frozen=True)
class Came:
    """Bytes whose SOP Instance UID is taken: whose, which, and the fact that they would be."""

    institution: str
    study: str
    series: str
    sop: str
    key: str
    sha256: str
    fact: Mapping[str, Any]
    patient: PatientIdentifier | None = None


@dataclass(frozen=True)
class Standing:
    """The fact that counts for a SOP Instance UID now: where it stands, what it says, and the item that points to it."""

    where: FactPlace
    fact: Item
    pointer: Item | None


def compare_objects(objects: Objects, before: tuple[str, int], after: tuple[str, int]) -> str:
    """`Compare`, by the bytes themselves."""
    from chalicelib.dicom import correction

    def stored(key: str, size: int) -> correction.ReadableObject:
        return correction.ReadableObject(lambda start, length: objects.read(key, start, length), size)

    return correction.compare(stored(*before), stored(*after))


def settle(
    table: Table,
    objects: Objects,
    came: Came,
    *,
    accepted: bool,
    compare: Compare,
    verdict: Callable[[str, Mapping[str, str]], Write],
    file: Callable[[], None],
    act: Act,
    now: datetime,
) -> None:
    """Make bytes whose SOP Instance UID is taken a correction or a conflict. Raises TryAgain.

    `accepted`: whether its owner's corrections are. `file` files a correction under its patient, before it is seen.
    """
    for _ in range(_ATTEMPTS):
        standing = standing_of(table, came.institution, came.study, came.series, came.sop)
        if standing is not None and standing.fact.data["sha256"] == came.sha256:
            return  # another delivery of the same object was first
        reason = _refused(objects, came, standing, compare) if accepted else OTHER
        if reason is not None:
            _conflict(table, came, standing, reason, verdict, now)
            return
        assert standing is not None
        file()
        data = {**came.fact, "corrected": instance_versions.corrected(standing.fact.data)}
        writes = instance_versions.another(
            keys.study_facts(came.institution, came.study),
            keys.sop_facts(came.institution, came.sop),
            standing.where,
            standing.pointer,
            data,
            exchanged=True,
        )
        patients = {came.patient, _patient(standing.fact)} - {None}
        entry = Entry(
            Kind.CORRECTION, came.institution, tuple(one for one in sorted(patients, key=str) if one), came.study, count=1
        )
        held = act([*writes, verdict("indexed", {})], entry)
        if not held or not held[-1]:
            return
    raise TryAgain


def standing_of(table: Table, institution: str, study: str, series: str, sop: str) -> Standing | None:
    """What a SOP Instance UID stands for at an institution; None where it stands for nothing in this study and series."""
    partition = keys.study_facts(institution, study)
    first, current = FactPlace(series, sop), keys.sop_now(institution, sop)
    found = table.batch_get([(partition, first.sk), current])
    pointer = found.get(current)
    if pointer is None:
        fact = found.get((partition, first.sk))
        return Standing(first, fact, None) if fact is not None else None
    if pointer.data["series"] != series:
        return None
    where = first._replace(number=int(str(pointer.data["number"])))
    fact = table.get(partition, where.sk)
    return Standing(where, fact, pointer) if fact is not None else None


def _refused(objects: Objects, came: Came, standing: Standing | None, compare: Compare) -> str | None:
    """Why bytes are no correction of what stands; None where they are one."""
    if standing is None:
        return OTHER
    data = standing.fact.data
    if data["class"] != came.fact["class"]:
        return OTHER
    if standing.where.number >= MOST_VERSIONS:
        return "too-many-corrections"
    before = keys.instance_object(came.institution, str(data["sha256"])), int(str(data["size"]))
    found = compare(objects, before, (came.key, int(came.fact["size"])))
    return None if found == CORRECTION else found


def _conflict(
    table: Table,
    came: Came,
    standing: Standing | None,
    reason: str,
    verdict: Callable[[str, Mapping[str, str]], Write],
    now: datetime,
) -> None:
    """Record a conflict, and beside what the SOP Instance UID stands for, so that nobody commits to keep what was refused."""
    first = table.get(keys.sop_facts(came.institution, came.sop), ".") if standing is None else standing.fact
    said = {"first": str(first.data["sha256"])} if first is not None else {}
    said |= {"reason": reason} if reason != OTHER else {}
    number = standing.where.number if standing is not None else 0
    refused: dict[str, object] = {"sha256": came.sha256, "at": iso(now), "number": number}
    writes: list[Write] = [
        verdict("conflict", said),
        Put(Item(keys.sop_facts(came.institution, came.sop), keys.CONFLICT, refused)),
    ]
    table.transact(writes)


def _patient(fact: Item) -> PatientIdentifier | None:
    said: Any = fact.data.get("patient")
    return PatientIdentifier(said["issuer"], said["id"]) if said else None


# What the owner sees and does -----------------------------------------------------------------------------------------


def list_versions(table: Table, caller: Caller, study: str, tell: Recorder) -> dict[str, Any]:
    """The instances of the caller's own study whose bytes were exchanged, each with all of them in order. Raises NotFound."""
    owner = caller.member.id
    known: dict[tuple[str, str], list[Item]] = {}
    for where, item in instance_versions.placed(table.query_all(keys.study_facts(owner, study), keys.INSTANCES)):
        known.setdefault(where.instance, []).append(item)
    if not known:
        raise NotFound
    tell(Entry(Kind.READ, owner, _patients(known.values()), study))
    several = {key: items for key, items in known.items() if len({item.data["sha256"] for item in items}) > 1}
    listed = [
        {"series_instance_uid": series, "sop_instance_uid": sop, "versions": _shown(items)}
        for (series, sop), items in list(several.items())[:MAX_LISTED]
    ]
    return {"study_instance_uid": study, "instances": listed, "complete_list": len(several) <= MAX_LISTED}


def _shown(items: list[Item]) -> list[dict[str, Any]]:
    latest = {str(item.data["sha256"]): item for item in items}
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(str(item.data["sha256"]), item)
    shown = []
    for sha, item in first.items():
        attributes = studies.unpacked(latest[sha].data["attributes"])  # type: ignore[arg-type]
        shown.append(
            {
                "sha256": sha,
                "size": item.data["size"],
                "at": item.data["at"],
                "state": "indexed" if items[-1].data["sha256"] == sha else "superseded",
                "patient": item.data.get("patient") or {"issuer": "", "id": ""},
                "accession_number": first_value(attributes, tags.AccessionNumber),
            }
        )
    return shown


def _patients(every: Any) -> tuple[PatientIdentifier, ...]:
    found = {number for items in every for item in items if (number := _patient(item)) is not None}
    return tuple(sorted(found, key=lambda one: (one.issuer, one.value)))[:2]


def bring_back(table: Table, caller: Caller, study: str, sha256: str, now: datetime, act: Act) -> dict[str, Any]:
    """Make a version of one of the caller's own instances the one that stands. Again: the same. Raises NotFound, TryAgain."""
    owner = caller.member.id
    verdict = verdicts_of(table, [keys.verdict(owner, sha256)]).get(keys.verdict(owner, sha256))
    if verdict is None or verdict.data["state"] != "indexed" or verdict.data.get("study") != study:
        raise NotFound
    series, sop = str(verdict.data["series"]), str(verdict.data["sop"])
    answer = {"study_instance_uid": study, "series_instance_uid": series, "sop_instance_uid": sop, "sha256": sha256}
    partition = keys.study_facts(owner, study)
    for _ in range(_ATTEMPTS):
        standing = standing_of(table, owner, study, series, sop)
        if standing is None:
            raise NotFound
        items = table.query_all(partition, between=instance_versions.span(series, sop))
        wanted = [item for item in items if item.data["sha256"] == sha256]
        if not wanted:
            raise NotFound
        patients = _patients([[wanted[-1], standing.fact]])
        entry = Entry(Kind.CORRECTION, owner, patients, study, subject=sha256[:24], text="brought back")
        if standing.fact.data["sha256"] == sha256:
            act([], entry)
            return answer | {"state": "indexed"}
        data = wanted[-1].data | {"at": iso(now), "corrected": instance_versions.corrected(standing.fact.data)}
        writes = instance_versions.another(
            partition, keys.sop_facts(owner, sop), standing.where, standing.pointer, data, exchanged=True
        )
        if not act(writes, entry):
            return answer | {"state": "indexed"}
    raise TryAgain
