"""What an institution's feed says, held against what there is: it may name no study that nobody has."""

from __future__ import annotations

from chalicelib.domain import erasures, keys
from chalicelib.domain.erasures import ErasureState
from chalicelib.domain.institutions import Registry
from chalicelib.domain.ports import Table
from chalicelib.services.operations import reconcile_views
from chalicelib.services.operations.discrepancies import Discrepancy, DiscrepancyKind, PageOfFindings, Reconciliation

ENTRIES_AT_ONCE = 500


def page(job: Reconciliation, registry: Registry, institution: str, after: str) -> PageOfFindings:
    """Entries of a feed in their order: each study that one names has a view, or facts, or was erased."""
    partition, first = keys.feed(institution), keys.begins(keys.feed_entry)
    found = job.table.query(partition, between=(f"{after}!" if after else first, f"{first}~"), limit=ENTRIES_AT_ONCE)
    named = {
        (str(entry.data["owner"]), str(entry.data["study_instance_uid"]))
        for entry in found.items
        if "study_instance_uid" in entry.data
    }
    views = job.table.batch_get(keys.study_view(study, owner) for owner, study in named)
    absent = sorted(ref for ref in named if keys.study_view(ref[1], ref[0]) not in views)
    findings = [
        Discrepancy(DiscrepancyKind.FEED_OF_NOTHING, owner, study)
        for owner, study in absent
        if not reconcile_views.any_instance(job.table, owner, study) and not _is_erased(job.table, registry, owner, study)
    ]
    return PageOfFindings(findings, after=found.items[-1].sk if found.next else None)


def _is_erased(table: Table, registry: Registry, owner: str, study: str) -> bool:
    """Whether the study was erased by itself, or with all of its owner's."""
    partition = keys.erasure_facts(owner)
    found = table.batch_get([(partition, keys.erased(erasures.digest_of([owner, study]))), (partition, keys.WHOLE)])
    whole = found.get((partition, keys.WHOLE))
    state = str(whole.data["state"]) if whole is not None else ""
    goes = owner in registry.former and state == ErasureState.CONFIRMED
    return goes or state == ErasureState.DONE or any(key[1] != keys.WHOLE for key in found)
