"""Anchoring: the heads of all audit chains are copied to where nobody can change them, so that no chain can be made anew.

Anchors are numbered, `anchors/<nine digits>.json`, and written only if their number is free: who is slower than another
run adopts that run's anchor. Each names the one before it, and the heads of the chains that grew since.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime

from chalicelib.domain import audit, audit_chain, audit_verify, keys
from chalicelib.domain.audit import Record
from chalicelib.domain.ports import Item, Put, PutVersion, Table, Vault
from chalicelib.domain.rfc3339 import iso
from chalicelib.services.registry import OPERATOR, load_registry

Heads = dict[str, Record]
"""Number, hash and time of the last record of each shard."""
"""(pk, sk) of what was anchored last, with an item beside it for each institution's heads: only so that nothing is written
when nothing changed."""
_AT_ONCE = 99
"""Institutions' items that are written in one transaction with the last anchor's number."""
_MOST_ADOPTED = 2000
"""Anchors of other runs, or of before a restore, that one run goes through until it finds a number that is free."""


def anchor_key(number: int) -> str:
    """The key of an anchor, which sorts by its number."""
    return keys.anchor(number)


def all_shards(institutions: list[str]) -> list[str]:
    """Every shard that may have records: those of all institutions that ever were, of the operator, of strangers."""
    return [shard for who in [*sorted(institutions), OPERATOR, audit.UNREGISTERED] for shard in audit_chain.shards(who)]


def anchor_heads(table: Table, vault: Vault, now: datetime, retention_years: int) -> int:
    """Write an anchor if a chain has grown since the last one; the number of chains that had. Safe to repeat.

    Anchors that are there already under the next numbers, of a run that died or of before the table was restored, are adopted
    first: what they say was anchored, whatever the table says now.
    """
    shards = all_shards(list(load_registry(table).versions))
    found = table.batch_get((keys.audit_records(shard), keys.HEAD) for shard in shards)
    heads: Heads = {keys.shard_of(item.pk): item.data for item in found.values()}
    known, last, stale = _last(table)
    number, sha256 = (int(str(known.data["number"])), str(known.data["sha256"])) if known else (0, "")
    grown = _grown(heads, last)
    moved = False
    for _ in range(_MOST_ADOPTED):
        new = _grown(heads, last)
        if not new:
            break
        content = audit_verify.anchor(iso(now), new, (anchor_key(number), sha256) if number else None, retention_years)
        written = vault.put_new(anchor_key(number + 1), content)
        if not written:
            content = vault.read(anchor_key(number + 1))
            new = json.loads(content)["heads"]
        number, sha256, moved = number + 1, hashlib.sha256(content).hexdigest(), True
        last |= new
        stale |= {_institution(shard) for shard in new}
        if written:
            break
    if moved:
        _remember(table, known, {"number": number, "sha256": sha256}, last, stale)
    return len(grown)


def _grown(heads: Heads, last: Heads) -> Heads:
    return {shard: head for shard, head in heads.items() if last.get(shard) != head}


def _last(table: Table) -> tuple[Item | None, Heads, set[str]]:
    """The last anchor's item, all heads as they were anchored, and the institutions whose item is yet to be written.

    The last anchor's item of before had all heads in itself, until there were too many for one.
    """
    items = list(table.query_all(keys.AUDIT_PROGRESS, keys.ANCHOR))
    known = next((item for item in items if item.sk == keys.ANCHOR), None)
    heads: Heads = {}
    stale: set[str] = set()
    for item in [known, *(item for item in items if item is not known)] if known else items:
        said = item.data.get("heads")
        if isinstance(said, dict):
            heads |= said
            stale |= {_institution(shard) for shard in said} if item is known else set()
    return known, heads, stale


def _remember(table: Table, known: Item | None, last: dict[str, object], heads: Heads, changed: set[str]) -> None:
    """Write what was anchored last, unless another run did meanwhile: then that one's is as good."""
    of: dict[str, Heads] = {institution: {} for institution in sorted(changed)}
    for shard, head in heads.items():
        if (institution := _institution(shard)) in of:
            of[institution][shard] = head
    puts = [Put(Item(keys.AUDIT_PROGRESS, keys.anchored(institution), {"heads": heads})) for institution, heads in of.items()]
    version = (known.version or 0) if known else 0
    first = PutVersion(Item(keys.AUDIT_PROGRESS, keys.ANCHOR, last, version=version + 1), version)
    if table.transact([first, *puts[:_AT_ONCE]]):
        return
    for put in puts[_AT_ONCE:]:
        table.put(put)


def _institution(shard: str) -> str:
    return shard.partition("#")[0]
