"""The ends of the audit chains: no number is missing, each record follows the one before, and the head names the last.

A glance at the newest records, where damage is young enough to be undone; the whole trail, with the anchors, is verified by
`python -m infra.audit verify`.
"""

from __future__ import annotations

from datetime import timedelta

from chalicelib.domain import audit_chain, audit_verify, keys
from chalicelib.domain.audit_chain import ChainHead
from chalicelib.domain.institutions import Registry
from chalicelib.domain.ports import Item
from chalicelib.services.operations.discrepancies import Discrepancy, DiscrepancyKind, PageOfFindings, Reconciliation

RECORDS = 100
"""The newest of each chain that are looked at."""
_SURELY_KEPT = timedelta(days=700)
_FIRST, _LAST = keys.audit_record(0), "~"


def page(job: Reconciliation, registry: Registry, institution: str, after: str) -> PageOfFindings:
    """All chains of an institution. Nothing of it can be mended: what a record said nobody else knows."""
    del registry, after
    shards = audit_chain.shards(institution)
    anchored = keys.AUDIT_PROGRESS, keys.anchored(institution)
    heads = job.table.batch_get([*((keys.audit_records(shard), keys.HEAD) for shard in shards), anchored])
    said = heads[anchored].data["heads"] if anchored in heads else {}
    findings: list[Discrepancy] = []
    for shard in shards:
        head = heads.get((keys.audit_records(shard), keys.HEAD))
        was_anchored = isinstance(said, dict) and shard in said
        if head is None and not was_anchored:
            continue  # nothing was ever written to it
        records = _newest(job, shard, head)
        since = job.clock() - _SURELY_KEPT
        if head is None or any(audit_verify.verify_shard(shard, records, head, [], since, _before(records))):
            findings.append(Discrepancy(DiscrepancyKind.AUDIT_GAP, institution, shard=shard))
    return PageOfFindings(findings)


def _newest(job: Reconciliation, shard: str, head: Item | None) -> list[Item]:
    """The newest records of a chain up to its head, which may have grown since it was read."""
    last = keys.audit_record(audit_chain.head_of(head).seq) if head is not None else _LAST
    partition = keys.audit_records(shard)
    if last < _FIRST:
        return []
    return job.table.query(partition, between=(_FIRST, last), limit=RECORDS, descending=True).items[::-1]


def _before(records: list[Item]) -> ChainHead | None:
    """What the first of these follows."""
    if not records or not records[0].sk.isdigit():
        return None
    return ChainHead(int(records[0].sk) - 1, str(records[0].data.get("prev", "")))
