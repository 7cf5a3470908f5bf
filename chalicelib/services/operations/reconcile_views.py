"""The views of a study held against what the projector makes of its facts, and made anew."""

from __future__ import annotations

from collections.abc import Iterator

from chalicelib.domain import keys
from chalicelib.domain.institutions import Registry
from chalicelib.domain.ports import Delete, Item, Key, Table
from chalicelib.domain.study_views import StudyView
from chalicelib.services.operations.discrepancies import Discrepancy, DiscrepancyKind, Reconciliation
from chalicelib.services.operations.rehearsal import Rehearsal
from chalicelib.services.projection import studies as projection
from chalicelib.services.projection import tallies


def as_facts_say(job: Reconciliation, registry: Registry, institution: str, study: str) -> list[Discrepancy]:
    """A study's views held against what the projector makes of the facts."""
    if not _differs(job, registry, institution, study) or not _differs(job, registry, institution, study):
        return []  # or somebody was just writing it
    kind = DiscrepancyKind.VIEW_DIFFERS if any_instance(job.table, institution, study) else DiscrepancyKind.VIEW_OF_NOTHING
    mended = job.mend and kind is DiscrepancyKind.VIEW_DIFFERS and count_anew(job, institution, study, registry)
    return [Discrepancy(kind, institution, study, mended=mended)]


def any_instance(table: Table, institution: str, study: str) -> bool:
    return bool(table.query(keys.study_facts(institution, study), keys.INSTANCES, limit=1).items)


def _differs(job: Reconciliation, registry: Registry, institution: str, study: str) -> bool:
    view, tally = keys.study_view(study, institution), keys.study_tally(institution, study)
    kept = job.table.batch_get([view, tally])
    if view in kept and tallies.counted_study(StudyView.from_item(kept[view].data), kept.get(tally), whole=False).is_torn:
        return True
    on = Rehearsal(job.table)
    projection.project(on, _Silent(), institution, study, job.clock(), anew=True)
    made = {key: item for key, item in on.written.items() if key[0].startswith("V#") and key != tally}
    if not made:
        return view in kept
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


def count_anew(job: Reconciliation, institution: str, study: str, registry: Registry) -> bool:
    """Have the views of a study made from its facts; whether they are there now. Rows that nothing explains go.

    What is made takes the place of what is there in one transaction: who reads meanwhile reads the one or the other.
    """
    projection.project(job.table, job.alerts, institution, study, job.clock(), anew=True)
    made = job.table.get(*keys.study_view(study, institution))
    rows = made.data["rows"] if made is not None else []
    explained = {(str(key[0]), str(key[1])) for key in rows} if isinstance(rows, list) else set[Key]()
    for item in list(_rows_there(job.table, registry, institution, study)):
        if item.key not in explained:
            job.table.put(Delete(*item.key))
    return made is not None


class _Silent:
    """Nobody is told of what is only tried."""

    def alert(self, kind: str, content: dict[str, str]) -> None:
        """See `ports.Alerts.alert`."""
