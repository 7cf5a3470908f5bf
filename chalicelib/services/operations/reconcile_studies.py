"""The studies that an owner has in its own list: their bytes, their views, and that who sees them was told."""

from __future__ import annotations

from collections.abc import Iterator

from chalicelib.domain import keys
from chalicelib.domain.institutions import Registry
from chalicelib.domain.ports import Item, Table
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.studies import every_version
from chalicelib.services.operations import reconcile_views
from chalicelib.services.operations.discrepancies import (
    IN_STANDARD,
    Discrepancy,
    DiscrepancyKind,
    PageOfFindings,
    Reconciliation,
)

STUDIES_AT_ONCE = 20


def page(job: Reconciliation, registry: Registry, institution: str, after: str) -> PageOfFindings:
    """The studies that an owner finds in its own list, in the order of that index."""
    own, following = listed(job.table, institution, after)
    findings: list[Discrepancy] = []
    for study in own:
        findings += _bytes_there(job, institution, study)
        findings += reconcile_views.as_facts_say(job, registry, institution, study) or _told(job, registry, institution, study)
    return PageOfFindings(findings, studies=len(own), after=following)


def listed(table: Table, institution: str, after: str) -> tuple[list[str], str | None]:
    """A page of the studies in an owner's own list, and the key to go on after, None at the end."""
    between = (f"{after}!", "\U0010ffff") if after else None
    found = table.query(keys.rows_by_date(institution), index="gsi3", between=between, limit=STUDIES_AT_ONCE)
    own = [study for row in found.items if (study := _own_study(row, institution)) is not None]
    return own, found.items[-1].indexes["gsi3"][1] if found.next else None


def _own_study(row: Item, institution: str) -> str | None:
    read = keys.read(keys.search_rows, row.pk)
    return read[1] if read is not None and row.sk == keys.by_owner(institution) else None


def _bytes_there(job: Reconciliation, institution: str, study: str) -> Iterator[Discrepancy]:
    """Instances whose bytes are gone: of those that came of late, or of all, where that is asked for."""
    since = "" if job.every_object else iso(job.clock() - IN_STANDARD)
    facts = job.table.query_all(keys.study_facts(institution, study), keys.INSTANCES)
    wanted = {
        keys.instance_object(institution, instance.fact.sha256): instance
        for instance in every_version(facts)
        if instance.fact.at >= since
    }
    for key in sorted(wanted.keys() - job.objects.existing(list(wanted))):
        yield Discrepancy(DiscrepancyKind.NO_OBJECT, institution, study, wanted[key].sop_instance_uid, wanted[key].fact.sha256)


def _told(job: Reconciliation, registry: Registry, institution: str, study: str) -> list[Discrepancy]:
    """A study of which it is not known what anybody was told: mending tells who sees it, once too often rather than never."""
    view, told = job.table.get(*keys.study_view(study, institution)), (keys.told_of(study), keys.by_owner(institution))
    if view is None or not view.data["rows"] or job.table.get(*told) is not None:
        return []
    mended = job.mend and reconcile_views.count_anew(job, institution, study, registry)
    return [Discrepancy(DiscrepancyKind.NOT_TOLD, institution, study, mended=mended)]
