"""Anchoring: the heads of all audit chains are copied to where nobody can change them, so that no chain can be made anew.

Anchors are numbered, `anchors/<nine digits>.json`, and written only if their number is free: who is slower than another
run adopts that run's anchor. Each names the one before it, and the heads of the chains that grew since.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime

from chalicelib.domain import audit, audit_chain, audit_verify
from chalicelib.domain.ports import Item, PutVersion, Table, Vault
from chalicelib.domain.transfers import iso
from chalicelib.services.registry import OPERATOR, load_registry

_KEY = ("V#AUDIT", "ANCHOR")
"""(pk, sk) of what was anchored last: only so that nothing is written when nothing changed."""


def anchor_key(number: int) -> str:
    """The key of an anchor, which sorts by its number."""
    return f"anchors/{number:09d}.json"


def all_shards(institutions: list[str]) -> list[str]:
    """Every shard that may have records: those of all institutions that ever were, of the operator, of strangers."""
    return [shard for who in [*sorted(institutions), OPERATOR, audit.UNREGISTERED] for shard in audit_chain.shards(who)]


def anchor_heads(table: Table, vault: Vault, now: datetime, retention_years: int) -> int:
    """Write an anchor if a chain has grown since the last one; the number of chains that had. Safe to repeat."""
    shards = all_shards(list(load_registry(table).versions))
    found = table.batch_get((audit_chain.partition(shard), audit_chain.HEAD) for shard in shards)
    heads = {item.pk.removeprefix("F#AUDIT#"): item.data for item in found.values()}
    known = table.get(*_KEY)
    before = known.data if known else {"number": 0, "heads": {}}
    last = before["heads"] if isinstance(before["heads"], dict) else {}
    grown = {shard: head for shard, head in heads.items() if last.get(shard) != head}
    if not grown:
        return 0
    previous = (anchor_key(int(str(before["number"]))), str(before["sha256"])) if known else None
    number = int(str(before["number"])) + 1
    content = audit_verify.anchor(iso(now), grown, previous, retention_years)
    if not vault.put_new(anchor_key(number), content):
        content = vault.read(anchor_key(number))
        grown = json.loads(content)["heads"]
    data: dict[str, object] = {"number": number, "sha256": hashlib.sha256(content).hexdigest(), "heads": last | grown}
    version = (known.version or 0) if known else 0
    table.put(PutVersion(Item(*_KEY, data, version=version + 1), version))
    return len(grown)
