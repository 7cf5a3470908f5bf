"""Facts and metadata of instances written again, from their bytes."""

from __future__ import annotations

import gzip
from collections.abc import Collection, Iterable, Sequence

from chalicelib.domain import instance_versions, keys
from chalicelib.domain.errors import ContenitoreError
from chalicelib.domain.instance_facts import InstanceFact
from chalicelib.domain.instance_versions import FactPlace
from chalicelib.domain.institutions import Registry
from chalicelib.domain.ports import Item, Objects, PutNew, PutVersion
from chalicelib.domain.rfc3339 import kept_moment
from chalicelib.domain.studies import every_version
from chalicelib.services.ingest.instance_items import CheckedObject, StoredObject, check, fact_of, file_under_patients
from chalicelib.services.operations.discrepancies import Reconciliation
from chalicelib.services.retrieval import metadata


def write_again(job: Reconciliation, registry: Registry, stored: StoredObject, place: FactPlace, study: str) -> bool:
    """Write an instance's fact again from its bytes: under the number that it had, where the others tell which that was."""
    partition = keys.study_facts(stored.institution, study)
    there = dict(instance_versions.placed(job.table.query_all(partition, between=instance_versions.span(*place.instance))))
    pointer = job.table.get(*keys.sop_now(stored.institution, place.sop))
    number = _number_of(stored, {where.number for where in there}, pointer)
    if number is None:
        return False
    origin = job.table.get(keys.object_facts(stored.institution, stored.sha256), keys.MADE_FROM)
    original = str(origin.data["sha256"]) if origin is not None else None
    try:
        checked = check(job.objects, job.read_summary, registry, stored, original, whole=True)
    except ContenitoreError:
        return False
    if not isinstance(checked, CheckedObject) or checked.summary is None:
        return False
    if (checked.study, checked.summary.series_instance_uid, checked.sop) != (study, *place.instance):
        return False
    file_under_patients(job.table, registry, [checked])
    if number == 0:
        job.table.put(PutNew(Item(*keys.sop(stored.institution, checked.sop), {"sha256": stored.sha256, "study": study})))
    part = keys.metadata_part(stored.institution, stored.sha256[:32])
    text = checked.summary.metadata
    if text is not None:
        _write_lines(job.objects, part, [(stored.sha256, text)])
    verdict = job.table.get(*keys.verdict(stored.institution, stored.sha256))
    came_at = kept_moment(verdict.data["at"]) if verdict is not None else job.clock()
    made = fact_of(checked, came_at, part if text is not None else None)
    before = {where.number: item.data for where, item in there.items()}.get(number - 1)
    data = dict(made.data)
    if before is not None:
        data["corrected"] = InstanceFact.from_item(before).corrected + (before["sha256"] != stored.sha256)
    return job.table.put(PutNew(Item(partition, place._replace(number=number).sk, data)))


def _number_of(stored: StoredObject, there: Collection[int], pointer: Item | None) -> int | None:
    """The number of the version that is missing: what the SOP Instance UID stands for now, or the only one that is not there."""
    if pointer is None:
        return 0 if not there else None
    last = int(str(pointer.data["number"]))
    if pointer.data["sha256"] == stored.sha256:
        return last if last not in there else None
    missing = sorted({*range(last + 1)} - {*there})
    return missing[0] if len(missing) == 1 else None


def write_pointer_again(job: Reconciliation, institution: str, place: FactPlace, last: FactPlace, sha256: str) -> bool:
    """Write again which version of an instance counts: the highest."""
    key = keys.sop_now(institution, place.sop)
    item = job.table.get(*key)
    version = (item.version or 0) if item is not None else 0
    head: dict[str, object] = {"sha256": sha256, "number": last.number, "series": last.series}
    return job.table.put(PutVersion(Item(*key, head, version=version + 1), version))


def write_part_again(job: Reconciliation, institution: str, studies: Sequence[str], part: str) -> bool:
    """Write an object of metadata again from the bytes of all instances of these studies that name it."""
    lines: list[tuple[str, bytes]] = []
    for study in studies:
        facts = job.table.query_all(keys.study_facts(institution, study), keys.INSTANCES)
        for instance in every_version(facts):
            if instance.fact.part == part:
                try:
                    lines.append((instance.fact.sha256, metadata.read_line(job.objects, institution, instance)))
                except ContenitoreError:
                    return False
    _write_lines(job.objects, part, lines)
    return True


def _write_lines(objects: Objects, part: str, lines: Iterable[tuple[str, bytes]]) -> None:
    content = b"\n".join(sorted(sha.encode() + b"\t" + text for sha, text in lines))
    objects.write(part, gzip.compress(content, 6, mtime=0), "application/gzip")
