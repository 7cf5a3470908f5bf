"""The objects that the bucket lists: what the table says of each, and what it should say."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from chalicelib.domain import instance_versions, keys, patients
from chalicelib.domain.instance_facts import InstanceFact
from chalicelib.domain.instance_versions import FactPlace
from chalicelib.domain.institutions import Registry
from chalicelib.domain.ports import Item, Key, PutNew
from chalicelib.domain.verdicts import UploadState, Verdict
from chalicelib.services.ingest.index import index_instances
from chalicelib.services.ingest.instance_items import StoredObject, verdicts_of
from chalicelib.services.operations import reconcile_facts, reconcile_views
from chalicelib.services.operations.discrepancies import Discrepancy, DiscrepancyKind, PageOfFindings, Reconciliation

OBJECTS_AT_ONCE = 200


def page(job: Reconciliation, registry: Registry, institution: str, after: str) -> PageOfFindings:
    listed = job.objects.keys_after(keys.instance_object(institution, ""), after, OBJECTS_AT_ONCE)
    old = job.clock() - job.older_than
    stored = [
        StoredObject(institution, listing.key.rpartition("/")[2], listing.size) for listing in listed if listing.modified <= old
    ]
    firsts = {keys.verdict(stored_object.institution, stored_object.sha256): stored_object for stored_object in stored}
    verdicts = {key: Verdict.from_item(item.data) for key, item in verdicts_of(job.table, firsts).items()}
    lost = [stored_object for key, stored_object in firsts.items() if key not in verdicts or verdicts[key].is_removed]
    findings = _without_verdict(job, lost)
    indexed = {
        firsts[key]: FactPlace(verdict.series_instance_uid, verdict.sop_instance_uid)
        for key, verdict in verdicts.items()
        if verdict.state is UploadState.INDEXED
    }
    of_study = {firsts[key]: verdict.study_instance_uid for key, verdict in verdicts.items() if firsts[key] in indexed}
    findings += _facts_of(job, registry, indexed, of_study)
    touched = {finding.study_instance_uid for finding in findings if finding.mended}
    findings += _views_there(job, registry, institution, set(of_study.values()) - touched)
    for study in sorted(touched - {""}):
        reconcile_views.count_anew(job, institution, study, registry)
    return PageOfFindings(findings, objects=len(listed), after=listed[-1].key if len(listed) == OBJECTS_AT_ONCE else None)


def _without_verdict(job: Reconciliation, lost: Sequence[StoredObject]) -> list[Discrepancy]:
    """Objects of which the indexer never heard, or forgot."""
    if not lost:
        return []
    if not job.mend:
        return [Discrepancy(DiscrepancyKind.NO_VERDICT, stored.institution, sha256=stored.sha256) for stored in lost]
    failed = index_instances(job.table, job.objects, job.read_summary, job.clock(), lost, job.remaining, act=job.act)
    verdicts = verdicts_of(job.table, [keys.verdict(stored.institution, stored.sha256) for stored in lost])

    def finding(stored: StoredObject) -> Discrepancy:
        verdict = verdicts.get(keys.verdict(stored.institution, stored.sha256))
        study = Verdict.from_item(verdict.data).study_instance_uid if verdict is not None else ""
        mended = stored not in failed and verdict is not None
        return Discrepancy(DiscrepancyKind.NO_VERDICT, stored.institution, study, sha256=stored.sha256, mended=mended)

    return [finding(stored) for stored in lost]


def _facts_of(
    job: Reconciliation, registry: Registry, indexed: Mapping[StoredObject, FactPlace], of_study: Mapping[StoredObject, str]
) -> list[Discrepancy]:
    """What is missing of what belongs to indexed objects: their facts, identities, patients, metadata."""
    partitions = {stored: keys.study_facts(stored.institution, of_study[stored]) for stored in indexed}
    identities = {stored_object: keys.sop(stored_object.institution, place.sop) for stored_object, place in indexed.items()}
    pointers = {stored_object: keys.sop_now(stored_object.institution, place.sop) for stored_object, place in indexed.items()}
    firsts = [(partitions[stored_object], place.sk) for stored_object, place in indexed.items()]
    there = job.table.batch_get([*firsts, *identities.values(), *pointers.values()])
    later = _later(indexed, partitions, {pointer: there[key] for pointer, key in pointers.items() if key in there})
    there |= job.table.batch_get(later.values())
    facts: dict[StoredObject, Item] = {}
    findings: list[Discrepancy] = []
    for stored_object, place in indexed.items():
        fact = there.get((partitions[stored_object], place.sk))
        if fact is None or fact.data["sha256"] != stored_object.sha256:
            between = instance_versions.span(*place.instance)
            versions = list(instance_versions.placed(job.table.query_all(partitions[stored_object], between=between)))
            fact = next((item for _, item in versions if item.data["sha256"] == stored_object.sha256), None)
            findings += _pointed(job, stored_object, place, of_study[stored_object], versions, there.get(pointers[stored_object]))
        if fact is None or (stored_object in later and later[stored_object] not in there):
            mended = job.mend and reconcile_facts.write_again(job, registry, stored_object, place, of_study[stored_object])
            findings.append(_finding(DiscrepancyKind.NO_FACT, stored_object, place, of_study[stored_object], mended))
            continue
        facts[stored_object] = fact
        if identities[stored_object] not in there:
            first = there.get((partitions[stored_object], place.sk))
            stood = str(first.data["sha256"]) if first is not None else stored_object.sha256
            mended = job.mend and job.table.put(
                PutNew(Item(*identities[stored_object], {"sha256": stood, "study": of_study[stored_object]}))
            )
            findings.append(_finding(DiscrepancyKind.NO_IDENTITY, stored_object, place, of_study[stored_object], mended))
    findings += _filing(job, facts, indexed, of_study)
    findings += _metadata(job, facts, of_study)
    return findings


def _later(
    indexed: Mapping[StoredObject, FactPlace], partitions: Mapping[StoredObject, str], pointers: Mapping[StoredObject, Item]
) -> dict[StoredObject, Key]:
    """Where the fact of an object stands that its SOP Instance UID stands for now, and did not first."""
    return {
        stored_object: (partitions[stored_object], place._replace(number=int(str(pointers[stored_object].data["number"]))).sk)
        for stored_object, place in indexed.items()
        if stored_object in pointers
        and pointers[stored_object].data["sha256"] == stored_object.sha256
        and pointers[stored_object].data["series"] == place.series
    }


def _pointed(
    job: Reconciliation,
    stored: StoredObject,
    place: FactPlace,
    study: str,
    versions: Sequence[tuple[FactPlace, Item]],
    pointer: Item | None,
) -> list[Discrepancy]:
    """Whether it is said which of several versions counts, as told by the object of the highest of them."""
    if not versions or not versions[-1][0].number or versions[-1][1].data["sha256"] != stored.sha256:
        return []
    last = versions[-1][0]
    if pointer is not None and int(str(pointer.data["number"])) >= last.number:
        return []
    mended = job.mend and reconcile_facts.write_pointer_again(job, stored.institution, place, last, stored.sha256)
    return [_finding(DiscrepancyKind.NO_POINTER, stored, place, study, mended)]


def _finding(kind: DiscrepancyKind, stored: StoredObject, place: FactPlace, study: str, mended: bool) -> Discrepancy:
    return Discrepancy(kind, stored.institution, study, place.sop, stored.sha256, mended)


def _filing(
    job: Reconciliation,
    facts: Mapping[StoredObject, Item],
    indexed: Mapping[StoredObject, FactPlace],
    of_study: Mapping[StoredObject, str],
) -> list[Discrepancy]:
    """Patients of whom no fact says that they have the study."""
    wanted: dict[Key, tuple[StoredObject, Item]] = {}
    for fact, item in facts.items():
        patient = InstanceFact.from_item(item.data).patient
        if patient is not None:
            filed = patients.filed(patient, fact.institution, of_study[fact])
            wanted.setdefault(filed.key, (fact, filed))
    there = job.table.batch_get(wanted)
    findings: list[Discrepancy] = []
    for key, (stored_object, filed) in wanted.items():
        if key not in there:
            mended = job.mend and job.table.put(PutNew(filed))
            findings.append(
                _finding(DiscrepancyKind.NOT_FILED, stored_object, indexed[stored_object], of_study[stored_object], mended)
            )
    return findings


def _metadata(job: Reconciliation, facts: Mapping[StoredObject, Item], of_study: Mapping[StoredObject, str]) -> list[Discrepancy]:
    """Objects of metadata that facts name and that are not there."""
    named: dict[str, list[StoredObject]] = {}
    for fact, item in facts.items():
        if part := str(item.data.get("part", "")):
            named.setdefault(part, []).append(fact)
    findings: list[Discrepancy] = []
    for part in sorted(named.keys() - job.objects.existing(list(named))):
        institution = named[part][0].institution
        studies = sorted({of_study[stored] for stored in named[part]})
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
