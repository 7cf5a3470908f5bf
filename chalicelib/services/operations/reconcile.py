"""Objects, facts and views compared with one another, a page at a time, and what differs made good.

Nothing is scanned: the bucket's listing is the inventory of objects, an owner's list of studies that of views. Two passes, each
of which goes on where a cursor says:

* objects: each has a verdict; what is indexed has the instance's fact, what its SOP Instance UID stands for, its patient's fact,
  and the object that holds its metadata; its study has a view that its owner can find;
* studies: each instance's fact has its object; the views are what the projector makes of the facts, counted anew.

Mending writes what is missing from what is there: from the bytes a fact, from the facts a view. It removes no bytes. An instance
whose bytes are gone is named, and stays so: its sender has it. Safe to repeat, and while hospitals send.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from chalicelib.domain import instance_versions, keys, patients
from chalicelib.domain.errors import ContenitoreError
from chalicelib.domain.instance_facts import InstanceFact
from chalicelib.domain.instance_versions import FactPlace
from chalicelib.domain.institutions import CANARY, Registry
from chalicelib.domain.ports import Alerts, Delete, Item, Key, Objects, PutNew, PutVersion, Table
from chalicelib.domain.studies import every_version
from chalicelib.services.ingest.index import index_instances
from chalicelib.services.ingest.instance_items import (
    CheckedObject,
    ReadSummary,
    StoredObject,
    check,
    fact_of,
    file_under_patients,
    is_removed,
    verdicts_of,
)
from chalicelib.services.ingest.rejection_notes import ActFor
from chalicelib.services.operations.rehearsal import Rehearsal, unsettled
from chalicelib.services.projection import studies as projection
from chalicelib.services.registry import load_registry
from chalicelib.services.retrieval import metadata

OBJECTS_AT_ONCE, STUDIES_AT_ONCE = 200, 20
RESERVE = 30.0
"""Seconds that are kept for what was begun."""


class DiscrepancyKind(StrEnum):
    """What differs."""

    NO_VERDICT = "object-without-verdict"
    NO_FACT = "indexed-without-fact"
    NO_IDENTITY = "instance-without-identity"
    NOT_FILED = "instance-not-filed"
    NO_METADATA = "metadata-missing"
    NO_OBJECT = "fact-without-object"
    NO_VIEW = "study-without-view"
    VIEW_DIFFERS = "view-differs"
    VIEW_OF_NOTHING = "view-without-facts"


@dataclass(frozen=True)
class Discrepancy:
    """Something that differs: of whom, what, and whether it was made good. No patient is named."""

    kind: DiscrepancyKind
    institution: str
    study_instance_uid: str = ""
    sop_instance_uid: str = ""
    sha256: str = ""
    mended: bool = False

    def to_item(self) -> dict[str, object]:
        """As a job answers it."""
        return {name: value for name, value in vars(self).items() if value != ""}


@dataclass(frozen=True)
class Progress:
    """How far a job is: which pass, of which institution, after which key."""

    stage: str = "objects"
    institution: str = ""
    after: str = ""

    def to_item(self) -> dict[str, object]:
        """As a cursor."""
        return vars(self)


@dataclass(frozen=True)
class Done:
    """What one call did. `next` is None when all is through."""

    findings: Sequence[Discrepancy]
    objects: int
    studies: int
    next: Progress | None


@dataclass(frozen=True)
class Reconciliation:
    """What a run works with. `mend`: whether to make good what differs.

    What is younger than `older_than` may still be on its way, and is left out.
    """

    table: Table
    objects: Objects
    alerts: Alerts
    read_summary: ReadSummary
    act: ActFor
    clock: Callable[[], datetime]
    remaining: Callable[[], float]
    older_than: timedelta = timedelta(minutes=15)
    mend: bool = False


def reconcile(job: Reconciliation, start: Progress, only: str | None = None) -> Done:
    """Go on from `start` for as long as there is time, through every institution or the one that is named."""
    registry = load_registry(job.table)
    findings: list[Discrepancy] = []
    counted = dict.fromkeys(STAGES, 0)
    position: Progress | None = start
    while position is not None:
        if job.remaining() < RESERVE and position != start:
            break
        institution = position.institution or _next(registry, only, "")
        if institution is None:
            break
        found, count, after = STAGES[position.stage](job, registry, institution, position.after)
        findings += found
        counted[position.stage] += count
        position = _beyond(registry, only, Progress(position.stage, institution, after or ""), done=after is None)
    return Done(findings, counted["objects"], counted["studies"], position)


def _beyond(registry: Registry, only: str | None, at: Progress, *, done: bool) -> Progress | None:
    """Where to go on: in the same place, with the next institution, with the next pass, or nowhere."""
    if not done:
        return at
    following = _next(registry, only, at.institution)
    if following is not None:
        return Progress(at.stage, following)
    first = _next(registry, only, "")
    return Progress("studies", first) if at.stage == "objects" and first is not None else None


def _next(registry: Registry, only: str | None, after: str) -> str | None:
    """The institution after this one, those that left among them."""
    # What the canary sent lasts a day: its facts have no objects, and that is no damage.
    every = sorted({**registry.former, **registry.members}.keys() - {CANARY}) if only is None else [only]
    return next((one for one in every if one > after), None)


def rebuild(job: Reconciliation, start: Progress, only: str | None = None) -> Done:
    """Make every view anew from the facts, study by study, each in the transaction that moves it on: readers see either."""
    registry = load_registry(job.table)
    count = 0
    position: Progress | None = start
    while position is not None:
        if job.remaining() < RESERVE and position != start:
            break
        institution = position.institution or _next(registry, only, "")
        if institution is None:
            break
        listed = job.objects.keys_after(keys.instance_object(institution, ""), position.after, OBJECTS_AT_ONCE)
        for study in _studies_led_by(job.table, institution, [one.key.rpartition("/")[2] for one in listed]):
            count += _count_anew(job, institution, study, registry)
        if len(listed) == OBJECTS_AT_ONCE:
            position = Progress("objects", institution, listed[-1].key)
        else:
            following = _next(registry, only, institution)
            position = Progress("objects", following) if following is not None else None
    return Done((), 0, count, position)


def _studies_led_by(table: Table, institution: str, hashes: Sequence[str]) -> list[str]:
    """The studies whose first fact is of one of these objects, so that each study comes up once in a whole run."""
    verdicts = table.batch_get(keys.verdict(institution, sha) for sha in hashes)
    studies = sorted({str(item.data["study"]) for item in verdicts.values() if item.data["state"] == "indexed"})
    firsts = {study: table.query(keys.study_facts(institution, study), keys.INSTANCES, limit=1).items for study in studies}
    return [study for study, items in firsts.items() if items and items[0].data["sha256"] in hashes]


# Objects -----------------------------------------------------------------------------------------------------------


def _objects_page(
    job: Reconciliation, registry: Registry, institution: str, after: str
) -> tuple[list[Discrepancy], int, str | None]:
    listed = job.objects.keys_after(keys.instance_object(institution, ""), after, OBJECTS_AT_ONCE)
    old = job.clock() - job.older_than
    stored = [StoredObject(institution, one.key.rpartition("/")[2], one.size) for one in listed if one.modified <= old]
    firsts = {keys.verdict(one.institution, one.sha256): one for one in stored}
    verdicts = verdicts_of(job.table, firsts)
    lost = [one for key, one in firsts.items() if key not in verdicts or is_removed(verdicts[key].data)]
    findings = _without_verdict(job, lost)
    indexed = {
        one: FactPlace(str(found.data["series"]), str(found.data["sop"]))
        for key, one in firsts.items()
        if (found := verdicts.get(key)) is not None and found.data["state"] == "indexed"
    }
    of_study = {one: str(verdicts[keys.verdict(one.institution, one.sha256)].data["study"]) for one in indexed}
    findings += _facts_of(job, registry, indexed, of_study)
    touched = {one.study_instance_uid for one in findings if one.mended}
    findings += _views_there(job, registry, institution, set(of_study.values()) - touched)
    for study in sorted(touched - {""}):
        _count_anew(job, institution, study, registry)
    return findings, len(listed), listed[-1].key if len(listed) == OBJECTS_AT_ONCE else None


def _without_verdict(job: Reconciliation, lost: Sequence[StoredObject]) -> list[Discrepancy]:
    """Objects of which the indexer never heard, or forgot."""
    if not lost:
        return []
    if not job.mend:
        return [Discrepancy(DiscrepancyKind.NO_VERDICT, one.institution, sha256=one.sha256) for one in lost]
    failed = index_instances(job.table, job.objects, job.read_summary, job.clock(), lost, job.remaining, act=job.act)
    verdicts = verdicts_of(job.table, [keys.verdict(one.institution, one.sha256) for one in lost])

    def finding(one: StoredObject) -> Discrepancy:
        verdict = verdicts.get(keys.verdict(one.institution, one.sha256))
        study = str(verdict.data.get("study", "")) if verdict is not None else ""
        mended = one not in failed and verdict is not None
        return Discrepancy(DiscrepancyKind.NO_VERDICT, one.institution, study, sha256=one.sha256, mended=mended)

    return [finding(one) for one in lost]


def _facts_of(
    job: Reconciliation, registry: Registry, indexed: Mapping[StoredObject, FactPlace], of_study: Mapping[StoredObject, str]
) -> list[Discrepancy]:
    """What is missing of what belongs to indexed objects: their facts, identities, patients, metadata."""
    partitions = {one: keys.study_facts(one.institution, of_study[one]) for one in indexed}
    identities = {one: keys.sop(one.institution, place.sop) for one, place in indexed.items()}
    there = job.table.batch_get([*((partitions[one], place.sk) for one, place in indexed.items()), *identities.values()])
    facts: dict[StoredObject, Item] = {}
    findings: list[Discrepancy] = []
    for one, place in indexed.items():
        fact = there.get((partitions[one], place.sk))
        if fact is None or fact.data["sha256"] != one.sha256:
            between = instance_versions.span(*place.instance)
            versions = list(job.table.query_all(partitions[one], between=between))
            fact = next((item for item in versions if item.data["sha256"] == one.sha256), None)
        if fact is None:
            mended = job.mend and _write_fact_again(job, registry, one, place, of_study[one])
            findings.append(_finding(DiscrepancyKind.NO_FACT, one, place, of_study[one], mended))
            continue
        facts[one] = fact
        if identities[one] not in there:
            first = there.get((partitions[one], place.sk))
            stood = str(first.data["sha256"]) if first is not None else one.sha256
            mended = job.mend and job.table.put(PutNew(Item(*identities[one], {"sha256": stood, "study": of_study[one]})))
            findings.append(_finding(DiscrepancyKind.NO_IDENTITY, one, place, of_study[one], mended))
    findings += _filing(job, facts, indexed, of_study)
    findings += _metadata(job, facts, of_study)
    return findings


def _finding(kind: DiscrepancyKind, one: StoredObject, place: FactPlace, study: str, mended: bool) -> Discrepancy:
    return Discrepancy(kind, one.institution, study, place.sop, one.sha256, mended)


def _write_fact_again(job: Reconciliation, registry: Registry, one: StoredObject, place: FactPlace, study: str) -> bool:
    """Write an instance's first fact again from its bytes. Not where a later version stands, which another object is behind."""
    partition = keys.study_facts(one.institution, study)
    if list(job.table.query_all(partition, between=instance_versions.span(*place.instance))):
        return False
    origin = job.table.get(keys.object_facts(one.institution, one.sha256), keys.MADE_FROM)
    original = str(origin.data["sha256"]) if origin is not None else None
    try:
        checked = check(job.objects, job.read_summary, registry, one, original, whole=True)
    except ContenitoreError:
        return False
    if not isinstance(checked, CheckedObject) or checked.summary is None:
        return False
    if (checked.study, checked.summary.series_instance_uid, checked.sop) != (study, *place.instance):
        return False
    file_under_patients(job.table, registry, [checked])
    job.table.put(PutNew(Item(*keys.sop(one.institution, checked.sop), {"sha256": one.sha256, "study": study})))
    part = keys.metadata_part(one.institution, one.sha256[:32])
    text = checked.summary.metadata
    if text is not None:
        _write_lines(job.objects, part, [(one.sha256, text)])
    return job.table.put(PutNew(fact_of(checked, job.clock(), part if text is not None else None)))


def _filing(
    job: Reconciliation,
    facts: Mapping[StoredObject, Item],
    indexed: Mapping[StoredObject, FactPlace],
    of_study: Mapping[StoredObject, str],
) -> list[Discrepancy]:
    """Patients of whom no fact says that they have the study."""
    wanted: dict[Key, tuple[StoredObject, Item]] = {}
    for one, item in facts.items():
        patient = InstanceFact.from_item(item.data).patient
        if patient is not None:
            filed = patients.filed(patient, one.institution, of_study[one])
            wanted.setdefault(filed.key, (one, filed))
    there = job.table.batch_get(wanted)
    findings: list[Discrepancy] = []
    for key, (one, filed) in wanted.items():
        if key not in there:
            mended = job.mend and job.table.put(PutNew(filed))
            findings.append(_finding(DiscrepancyKind.NOT_FILED, one, indexed[one], of_study[one], mended))
    return findings


def _metadata(job: Reconciliation, facts: Mapping[StoredObject, Item], of_study: Mapping[StoredObject, str]) -> list[Discrepancy]:
    """Objects of metadata that facts name and that are not there."""
    named: dict[str, list[StoredObject]] = {}
    for one, item in facts.items():
        if part := str(item.data.get("part", "")):
            named.setdefault(part, []).append(one)
    findings: list[Discrepancy] = []
    for part in sorted(named.keys() - job.objects.existing(list(named))):
        institution = named[part][0].institution
        studies = sorted({of_study[one] for one in named[part]})
        mended = job.mend and _write_part_again(job, institution, studies, part)
        findings += [Discrepancy(DiscrepancyKind.NO_METADATA, institution, study, mended=mended) for study in studies]
    return findings


def _write_part_again(job: Reconciliation, institution: str, studies: Sequence[str], part: str) -> bool:
    """Write an object of metadata again from the bytes of all instances of these studies that name it."""
    lines: list[tuple[str, bytes]] = []
    for study in studies:
        facts = job.table.query_all(keys.study_facts(institution, study), keys.INSTANCES)
        for one in every_version(facts):
            if one.fact.part == part:
                try:
                    lines.append((one.fact.sha256, metadata.read_line(job.objects, institution, one)))
                except ContenitoreError:
                    return False
    _write_lines(job.objects, part, lines)
    return True


def _write_lines(objects: Objects, part: str, lines: Iterable[tuple[str, bytes]]) -> None:
    content = b"\n".join(sorted(sha.encode() + b"\t" + text for sha, text in lines))
    objects.write(part, gzip.compress(content, 6, mtime=0), "application/gzip")


def _views_there(job: Reconciliation, registry: Registry, institution: str, wanted: Collection[str]) -> list[Discrepancy]:
    """Studies that their owner cannot find: without a view, or without the row that finds it."""
    views = {study: keys.study_view(study, institution) for study in wanted}
    rows = {study: (keys.search_rows(institution, study), keys.by_owner(institution)) for study in wanted}
    there = job.table.batch_get([*views.values(), *rows.values()])
    findings: list[Discrepancy] = []
    for study in sorted(wanted):
        view = there.get(views[study])
        if view is not None and (rows[study] in there or view.data.get("gone")):
            continue
        mended = job.mend and _count_anew(job, institution, study, registry)
        findings.append(Discrepancy(DiscrepancyKind.NO_VIEW, institution, study, mended=mended))
    return findings


# Studies -----------------------------------------------------------------------------------------------------------


def _studies_page(
    job: Reconciliation, registry: Registry, institution: str, after: str
) -> tuple[list[Discrepancy], int, str | None]:
    """The studies that an owner finds in its own list, in the order of that index."""
    partition = keys.rows_by_date(institution)
    between = (after, "\U0010ffff") if after else None
    rows = [
        item
        for item in job.table.query(partition, index="gsi3", between=between, limit=STUDIES_AT_ONCE + 1).items
        if item.indexes["gsi3"][1] != after
    ][:STUDIES_AT_ONCE]
    findings: list[Discrepancy] = []
    own = [study for row in rows if (study := _own_study(row, institution)) is not None]
    for study in own:
        findings += _bytes_there(job, institution, study)
        findings += _views_as_facts_say(job, registry, institution, study)
    return findings, len(own), rows[-1].indexes["gsi3"][1] if len(rows) == STUDIES_AT_ONCE else None


def _own_study(row: Item, institution: str) -> str | None:
    read = keys.read(keys.search_rows, row.pk)
    return read[1] if read is not None and row.sk == keys.by_owner(institution) else None


def _bytes_there(job: Reconciliation, institution: str, study: str) -> Iterator[Discrepancy]:
    """Instances whose bytes are gone."""
    facts = job.table.query_all(keys.study_facts(institution, study), keys.INSTANCES)
    wanted = {keys.instance_object(institution, one.fact.sha256): one for one in every_version(facts)}
    for key in sorted(wanted.keys() - job.objects.existing(list(wanted))):
        yield Discrepancy(DiscrepancyKind.NO_OBJECT, institution, study, wanted[key].sop_instance_uid, wanted[key].fact.sha256)


def _views_as_facts_say(job: Reconciliation, registry: Registry, institution: str, study: str) -> list[Discrepancy]:
    """A study's views held against what the projector makes of the facts."""
    if not _differs(job, registry, institution, study) or not _differs(job, registry, institution, study):
        return []  # or somebody was just writing it
    kind = DiscrepancyKind.VIEW_DIFFERS if _any_instance(job.table, institution, study) else DiscrepancyKind.VIEW_OF_NOTHING
    mended = job.mend and kind is DiscrepancyKind.VIEW_DIFFERS and _count_anew(job, institution, study, registry)
    return [Discrepancy(kind, institution, study, mended=mended)]


def _any_instance(table: Table, institution: str, study: str) -> bool:
    return bool(table.query(keys.study_facts(institution, study), keys.INSTANCES, limit=1).items)


def _differs(job: Reconciliation, registry: Registry, institution: str, study: str) -> bool:
    view_key, tally_key = keys.study_view(study, institution), keys.study_tally(institution, study)
    view = job.table.get(*view_key)
    instead: dict[Key, Item | None] = {tally_key: None}
    if view is not None:
        instead[view_key] = unsettled(view)
    on = Rehearsal(job.table, instead)
    projection.project(on, _Silent(), institution, study, job.clock())
    made = {key: item for key, item in on.written.items() if key[0].startswith("V#") and key != tally_key}
    if not made:
        return view is not None
    there = job.table.batch_get(made)
    if any(_said(made[key]) != _said(there.get(key)) for key in made):
        return True
    rows = {key for key in made if made[key] is not None}
    return any(item.key not in rows for item in _rows_there(job.table, registry, institution, study))


def _said(item: Item | None) -> object:
    """What an item says, but for its place among versions. What stands for the tally is counted otherwise when counted anew."""
    if item is None:
        return None
    data = {name: value for name, value in item.data.items() if name != "tally"}
    return data, item.indexes, item.expires


def _rows_there(table: Table, registry: Registry, institution: str, study: str) -> Iterator[Item]:
    """The rows by which anybody finds a study of this owner."""
    for viewer in registry.members:
        for item in table.query_all(keys.search_rows(viewer, study), institution):
            if item.sk == institution or item.sk.startswith(f"{institution}#"):
                yield item


def _count_anew(job: Reconciliation, institution: str, study: str, registry: Registry) -> bool:
    """Have the views of a study made from its facts; whether they are there now. Rows that nothing explains go."""
    view = job.table.get(*keys.study_view(study, institution))
    if view is not None:
        again = replace(unsettled(view), version=(view.version or 0) + 1)
        tally = Delete(*keys.study_tally(institution, study))
        if job.table.transact([PutVersion(again, view.version or 0), tally]):
            return False  # somebody was faster: the next run looks again
    projection.project(job.table, job.alerts, institution, study, job.clock())
    made = job.table.get(*keys.study_view(study, institution))
    rows = made.data["rows"] if made is not None else []
    explained = {(str(key[0]), str(key[1])) for key in rows} if isinstance(rows, list) else set[Key]()
    for item in list(_rows_there(job.table, registry, institution, study)):
        if item.key not in explained:
            job.table.put(Delete(*item.key))
    return made is not None


STAGES: Mapping[str, Callable[[Reconciliation, Registry, str, str], tuple[list[Discrepancy], int, str | None]]] = {
    "objects": _objects_page,
    "studies": _studies_page,
}
"""What compares a page of one institution's, after a key: its findings, how many were looked at, and the key to go on after."""


class _Silent:
    """Nobody is told of what is only tried."""

    def alert(self, kind: str, content: dict[str, str]) -> None:
        """See `ports.Alerts.alert`."""
