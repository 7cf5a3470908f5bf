"""Erasing one study: its bytes, what was made of them, and what the table says of it, with a record that proves it.

The bytes go first, while the facts still say which they are; then what went is recorded, in one transaction with the tombstone
that stays; then the facts and views go. Whatever stops it in between, the next run goes on from there, and records once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from chalicelib.domain import erasures, keys, study_totals
from chalicelib.domain.audit import Act, Entry, Kind, Purpose
from chalicelib.domain.erasures import ErasedCount
from chalicelib.domain.institutions import Registry
from chalicelib.domain.ports import Item, Objects, Put, PutNew, Table, Versions
from chalicelib.domain.reading_order import in_reading_order
from chalicelib.domain.refusals import RefusedInstance
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.studies import Instance, instances
from chalicelib.domain.study_views import SeriesView
from chalicelib.services.erasure import bytes, forgetting

RESERVE = 30.0
"""Seconds that are kept for what was begun."""
_OBJECTS_AT_ONCE = 500


@dataclass(frozen=True)
class Eraser:
    """What an erasure works with. `remaining` answers how many seconds are left."""

    table: Table
    objects: Objects
    versions: Versions
    registry: Registry
    act: Act
    clock: Callable[[], datetime]
    remaining: Callable[[], float]

    def has_time(self) -> bool:
        """Whether something more may be begun."""
        return self.remaining() > RESERVE


@dataclass(frozen=True)
class ErasedStudy:
    """What went with a study. `is_kept`: nothing went, as its facts say."""

    count: ErasedCount
    is_kept: bool = False


MayGo = Callable[[Sequence[Instance]], bool]
"""Whether a study may be erased, by the facts of its instances as they are now: a view may not know yet what came."""


def erase_study(run: Eraser, owner: str, study: str, subject: str, may_go: MayGo) -> ErasedStudy | None:
    """Erase a study for the reason that `subject` names; None where the time ran out, and the next run goes on.

    What was begun is gone on with, whatever `may_go` says of what is left.
    """
    table, partition = run.table, keys.study_facts(owner, study)
    if table.get(partition, keys.ERASING) is None and not may_go(list(instances(table.query_all(partition, keys.INSTANCES)))):
        return ErasedStudy(ErasedCount(), is_kept=True)
    table.put(PutNew(Item(partition, keys.ERASING, {"at": iso(run.clock())})))
    facts = list(table.query_all(partition))
    versions = forgetting.instances_in(facts)
    refused = forgetting.refused_of(table, owner, study, versions)
    count = ErasedCount(1)
    sizes = {instance.fact.sha256: instance.fact.size for instance in versions} | {aside.sha256: aside.size for aside in refused}
    for sha, size in sorted(sizes.items()):
        count = count.and_object(sha, size)
    tombstone = keys.erased(erasures.digest_of([owner, study]))
    stone = table.get(keys.erasure_facts(owner), tombstone)
    marker = table.get(partition, keys.ERASING)
    began = str(marker.data.get("at", "")) if marker is not None else ""
    is_new = stone is None or stone.data.get("began") != began
    if versions and is_new:
        if not _remove_bytes(run, owner, study, versions, refused):
            return None
        view = forgetting.view_of(table, owner, study)
        entry = Entry(
            Kind.ERASURE, owner, view.patients if view is not None else (), study, Purpose.ADMINISTRATION,
            subject=subject, count=count.objects, text=str(count),
        )  # fmt: skip
        said: dict[str, object] = {"began": began, "done_at": iso(run.clock()), "subject": subject, **asdict(count)}
        run.act([Put(Item(keys.erasure_facts(owner), tombstone, said))], entry)
    else:  # it was recorded, or there never was anything; what has its bytes came since
        count = erasures.counted(stone.data) if stone is not None else ErasedCount()
        came = {instance.fact.sha256 for instance in versions if _has_bytes(run, owner, instance)}
        facts = [fact for fact in facts if not fact.sk.startswith(keys.INSTANCES) or fact.data["sha256"] not in came]
    forgetting.forget_study(table, run.registry, owner, study, facts)
    return ErasedStudy(count)


def _has_bytes(run: Eraser, owner: str, instance: Instance) -> bool:
    return not all(version.marker for version in run.versions.of(keys.instance_object(owner, instance.fact.sha256)))


def _remove_bytes(run: Eraser, owner: str, study: str, versions: list[Instance], refused: list[RefusedInstance]) -> bool:
    """Remove the objects of a study, and the lines that were kept of them; whether there was time for all."""
    hashes = sorted({instance.fact.sha256 for instance in versions} | {aside.sha256 for aside in refused})
    for start in range(0, len(hashes), _OBJECTS_AT_ONCE):
        if not run.has_time():
            return False
        some = hashes[start : start + _OBJECTS_AT_ONCE]
        bytes.remove_objects(run.versions, [keys.instance_object(owner, sha) for sha in some])
    for part in sorted({instance.fact.part for instance in versions} | {aside.part for aside in refused} - {""}):
        bytes.remove_lines(run.objects, run.versions, part, hashes)
    bytes.remove_objects(run.versions, [keys.metadata_of_series(owner, digest) for digest in _digests(run.table, owner, study)])
    return True


def _digests(table: Table, owner: str, study: str) -> set[str]:
    """What names the metadata of the study's series as they are now; what was of before goes by the bucket's own rule."""
    found = {SeriesView.from_item(item.sk, item.data).digest for item in table.query_all(keys.series_views(owner, study))}
    by_series: dict[str, list[Instance]] = {}
    for instance in instances(table.query_all(keys.study_facts(owner, study), keys.INSTANCES)):
        by_series.setdefault(instance.series_instance_uid, []).append(instance)
    return found | {study_totals.series_digest(in_reading_order(of_series)) for of_series in by_series.values()}
