"""Corrections: bytes that come again under a SOP Instance UID that stands for others, and what their owner sees of both.

Where the new bytes only correct whose the image is or what was ordered (`dicom.correction`), and the owner's registration accepts
corrections, they stand from now on and the old ones are superseded: kept, shown to nobody. Everything else is a conflict. The
verdict on an object stays the first one: what it stands for at this moment is told from the facts (`services.ingest.standing`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from chalicelib.domain import instance_versions, keys, studies, tags
from chalicelib.domain.audit import Act, Entry, Kind, Recorder
from chalicelib.domain.dicom_json import first_value
from chalicelib.domain.errors import NotFound, TryAgain
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.instance_facts import InstanceFact
from chalicelib.domain.instance_versions import MOST_VERSIONS, FactPlace
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.ports import Item, Objects, Put, Table, Write
from chalicelib.domain.refusals import RefusedInstance
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.verdicts import UploadState, Verdict
from chalicelib.services.ingest.instance_items import verdicts_of
from chalicelib.services.registry import Caller

_ATTEMPTS = 10
MAX_LISTED = 1000
CORRECTION = "correction"
"""What `Compare` answers of bytes that only correct; everything else is the reason of a conflict, or `OTHER`."""
OTHER = "other"
CONFLICTING_PATIENT = "conflicting-patient"
"""A conflict in which the patient differs: perhaps what stands is under the wrong one, so somebody has to look."""
Compare = Callable[[Objects, tuple[str, int], tuple[str, int]], str]
"""From the (key, size) of what stands and of what came, to `dicom.correction.compare`'s answer."""
GiveVerdict = Callable[[UploadState, str, str], Write]
"""The write of the verdict on what came: its state, the SHA-256 of what its SOP Instance UID stands for, the reason."""


@dataclass(frozen=True)
class Came:
    """Bytes whose SOP Instance UID is taken: whose, which, and the fact that they would be."""

    institution: str
    study: str
    series: str
    sop: str
    key: str
    fact: InstanceFact


@dataclass(frozen=True)
class Standing:
    """The fact that counts for a SOP Instance UID now: where it stands, what it says, and the item that points to it."""

    where: FactPlace
    item: Item
    pointer: Item | None

    @property
    def fact(self) -> InstanceFact:
        """What it says."""
        return InstanceFact.from_item(self.item.data)


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
    verdict: GiveVerdict,
    file: Callable[[], None],
    act: Act,
    now: datetime,
) -> None:
    """Make bytes whose SOP Instance UID is taken a correction or a conflict. Raises TryAgain.

    `accepted`: whether its owner's corrections are. `file` files a correction under its patient, before it is seen.
    """
    for _ in range(_ATTEMPTS):
        standing = standing_of(table, came.institution, came.study, came.series, came.sop)
        if standing is not None and standing.fact.sha256 == came.fact.sha256:
            return  # another delivery of the same object was first
        reason = _refused(objects, came, standing, compare) if accepted else OTHER
        if reason == OTHER and standing is not None and standing.fact.patient != came.fact.patient:
            reason = CONFLICTING_PATIENT
        if reason is not None:
            _conflict(table, came, standing, reason, verdict, now)
            return
        assert standing is not None
        file()
        before = standing.fact
        writes = instance_versions.another(
            keys.study_facts(came.institution, came.study),
            keys.sop_facts(came.institution, came.sop),
            standing.where,
            standing.pointer,
            replace(came.fact, corrected=before.corrected),
            exchanged=True,
        )
        patients = sorted({patient for patient in (came.fact.patient, before.patient) if patient is not None})
        entry = Entry(Kind.CORRECTION, came.institution, tuple(patients), came.study, count=1)
        held = act([*writes, verdict(UploadState.INDEXED, "", "")], entry)
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
    stands = standing.fact
    if stands.sop_class_uid != came.fact.sop_class_uid:
        return OTHER
    if standing.where.number >= MOST_VERSIONS:
        return "too-many-corrections"
    before = keys.instance_object(came.institution, stands.sha256), stands.size
    found = compare(objects, before, (came.key, came.fact.size))
    return None if found == CORRECTION else found


def _conflict(
    table: Table,
    came: Came,
    standing: Standing | None,
    reason: str,
    verdict: GiveVerdict,
    now: datetime,
) -> None:
    """Record a conflict, and beside what the SOP Instance UID stands for, so that nobody commits to keep what was refused, and
    whoever erases the study finds it."""
    first = table.get(keys.sop_facts(came.institution, came.sop), ".") if standing is None else standing.item
    stands = str(first.data["sha256"]) if first is not None else ""
    number = standing.where.number if standing is not None else 0
    refused: dict[str, object] = {"sha256": came.fact.sha256, "at": iso(now), "number": number}
    aside = RefusedInstance(came.institution, came.sop, came.fact.sha256, came.study, came.fact.size, came.fact.part)
    writes: list[Write] = [
        verdict(UploadState.CONFLICT, stands, reason if reason != OTHER else ""),
        Put(Item(keys.sop_facts(came.institution, came.sop), keys.CONFLICT, refused)),
        Put(aside.item()),
    ]
    table.transact(writes)


# What the owner sees and does -----------------------------------------------------------------------------------------


def list_versions(table: Table, caller: Caller, study: str, tell: Recorder) -> JsonObject:
    """The instances of the caller's own study whose bytes were exchanged, each with all of them in order. Raises NotFound."""
    owner = caller.member.id
    known: dict[tuple[str, str], list[InstanceFact]] = {}
    for where, item in instance_versions.placed(table.query_all(keys.study_facts(owner, study), keys.INSTANCES)):
        known.setdefault(where.instance, []).append(InstanceFact.from_item(item.data))
    if not known:
        raise NotFound
    tell(Entry(Kind.READ, owner, _patients(fact for facts in known.values() for fact in facts), study))
    several = {key: facts for key, facts in known.items() if len({fact.sha256 for fact in facts}) > 1}
    listed = [
        {"series_instance_uid": series, "sop_instance_uid": sop, "versions": _shown(facts)}
        for (series, sop), facts in list(several.items())[:MAX_LISTED]
    ]
    return {"study_instance_uid": study, "instances": listed, "complete_list": len(several) <= MAX_LISTED}


def _shown(facts: list[InstanceFact]) -> list[JsonObject]:
    latest = {fact.sha256: fact for fact in facts}
    first: dict[str, InstanceFact] = {}
    for fact in facts:
        first.setdefault(fact.sha256, fact)
    return [
        {
            "sha256": sha,
            "size": fact.size,
            "at": fact.at,
            "state": UploadState.INDEXED if facts[-1].sha256 == sha else UploadState.SUPERSEDED,
            "patient": (fact.patient or PatientIdentifier("", "")).to_item(),
            "accession_number": first_value(studies.unpacked(latest[sha].kept), tags.AccessionNumber),
        }
        for sha, fact in first.items()
    ]


def _patients(facts: Iterable[InstanceFact]) -> tuple[PatientIdentifier, ...]:
    return tuple(sorted({fact.patient for fact in facts if fact.patient is not None}))[:2]


def bring_back(table: Table, caller: Caller, study: str, sha256: str, now: datetime, act: Act) -> JsonObject:
    """Make a version of one of the caller's own instances the one that stands. Again: the same. Raises NotFound, TryAgain."""
    owner = caller.member.id
    found = verdicts_of(table, [keys.verdict(owner, sha256)]).get(keys.verdict(owner, sha256))
    verdict = Verdict.from_item(found.data) if found is not None else None
    if verdict is None or verdict.state is not UploadState.INDEXED or verdict.study_instance_uid != study:
        raise NotFound
    series, sop = verdict.series_instance_uid, verdict.sop_instance_uid
    answer = {
        "study_instance_uid": study,
        "series_instance_uid": series,
        "sop_instance_uid": sop,
        "sha256": sha256,
        "state": UploadState.INDEXED,
    }
    partition = keys.study_facts(owner, study)
    for _ in range(_ATTEMPTS):
        standing = standing_of(table, owner, study, series, sop)
        if standing is None:
            raise NotFound
        facts = (
            InstanceFact.from_item(item.data) for item in table.query_all(partition, between=instance_versions.span(series, sop))
        )
        wanted = [fact for fact in facts if fact.sha256 == sha256]
        if not wanted:
            raise NotFound
        before = standing.fact
        patients = _patients([wanted[-1], before])
        entry = Entry(Kind.CORRECTION, owner, patients, study, subject=sha256[:24], text="brought back")
        if before.sha256 == sha256:
            act([], entry)
            return answer
        again = replace(wanted[-1], at=iso(now), corrected=before.corrected)
        writes = instance_versions.another(
            partition, keys.sop_facts(owner, sop), standing.where, standing.pointer, again, exchanged=True
        )
        if not act(writes, entry):
            return answer
    raise TryAgain
