"""The objects that the bucket lists: what the table says of each, and what it should say."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from chalicelib.domain import instance_versions, keys, patients
from chalicelib.domain.instance_facts import InstanceFact
from chalicelib.domain.instance_versions import FactPlace
from chalicelib.domain.institutions import Registry
from chalicelib.domain.ports import Item, Key, PutNew
from chalicelib.services.ingest.index import index_instances
from chalicelib.services.ingest.instance_items import StoredObject, is_removed, verdicts_of
from chalicelib.services.operations import reconcile_facts, reconcile_views
from chalicelib.services.operations.discrepancies import Discrepancy, DiscrepancyKind, PageOfFindings, Reconciliation

OBJECTS_AT_ONCE = 200


def page(job: Reconciliation, registry: Registry, institution: str, after: str) -> PageOfFindings:
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
        reconcile_views.count_anew(job, institution, study, registry)
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
    pointers = {one: keys.sop_now(one.institution, place.sop) for one, place in indexed.items()}
    firsts = [(partitions[one], place.sk) for one, place in indexed.items()]
    there = job.table.batch_get([*firsts, *identities.values(), *pointers.values()])
    later = _later(indexed, partitions, {one: there[key] for one, key in pointers.items() if key in there})
    there |= job.table.batch_get(later.values())
    facts: dict[StoredObject, Item] = {}
    findings: list[Discrepancy] = []
    for one, place in indexed.items():
        fact = there.get((partitions[one], place.sk))
        if fact is None or fact.data["sha256"] != one.sha256:
            between = instance_versions.span(*place.instance)
            versions = list(instance_versions.placed(job.table.query_all(partitions[one], between=between)))
            fact = next((item for _, item in versions if item.data["sha256"] == one.sha256), None)
            findings += _pointed(job, one, place, of_study[one], versions, there.get(pointers[one]))
        if fact is None or (one in later and later[one] not in there):
            mended = job.mend and reconcile_facts.write_again(job, registry, one, place, of_study[one])
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


def _later(
    indexed: Mapping[StoredObject, FactPlace], partitions: Mapping[StoredObject, str], pointers: Mapping[StoredObject, Item]
) -> dict[StoredObject, Key]:
    """Where the fact of an object stands that its SOP Instance UID stands for now, and did not first."""
    return {
        one: (partitions[one], place._replace(number=int(str(pointers[one].data["number"]))).sk)
        for one, place in indexed.items()
        if one in pointers and pointers[one].data["sha256"] == one.sha256 and pointers[one].data["series"] == place.series
    }


def _pointed(
    job: Reconciliation,
    one: StoredObject,
    place: FactPlace,
    study: str,
    versions: Sequence[tuple[FactPlace, Item]],
    pointer: Item | None,
) -> list[Discrepancy]:
    """Whether it is said which of several versions counts, as told by the object of the highest of them."""
    if not versions or not versions[-1][0].number or versions[-1][1].data["sha256"] != one.sha256:
        return []
    last = versions[-1][0]
    if pointer is not None and int(str(pointer.data["number"])) >= last.number:
        return []
    mended = job.mend and reconcile_facts.write_pointer_again(job, one.institution, place, last, one.sha256)
    return [_finding(DiscrepancyKind.NO_POINTER, one, place, study, mended)]


def _finding(kind: DiscrepancyKind, one: StoredObject, place: FactPlace, study: str, mended: bool) -> Discrepancy:
    return Discrepancy(kind, one.institution, study, place.sop, one.sha256, mended)


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
        mended = job.mend and reconcile_facts.write_part_again(job, institution, studies, part)
        findings += [Discrepancy(DiscrepancyKind.NO_METADATA, institution, study, mended=mended) for study in studies]
    return findings


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
        mended = job.mend and reconcile_views.count_anew(job, institution, study, registry)
        findings.append(Discrepancy(DiscrepancyKind.NO_VIEW, institution, study, mended=mended))
    return findings
