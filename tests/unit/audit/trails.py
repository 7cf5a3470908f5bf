"""Audit trails in memory, and hands that tamper with them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from chalicelib.domain import audit_chain, audit_verify, keys
from chalicelib.domain.audit import Entry, Kind, RequestContext
from chalicelib.domain.audit_verify import Anchored, ChainFault
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Item, Put, Table
from chalicelib.services.audit.trail import Trail

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PATIENT = PatientIdentifier("2.16.840.1.113883.2.9.99.2.4.1", "A-1")


def context(institution: str = "maugeri", at: datetime = NOW, request: str = "r-1", actor: str = "rossi") -> RequestContext:
    role = f"contenitore-institution-{institution}"
    return RequestContext(at, request, "GET /studies/{study}/manifest", institution, actor, role, institution, "203.0.113.7")


def access(owner: str = "san-matteo", study: str = "1.2.3", patients: Sequence[PatientIdentifier] = (PATIENT,)) -> Entry:
    return Entry(Kind.ACCESS, owner, tuple(patients), study, basis=("0123456789abcdef0123456789abcdef",), count=3)


def written(table: Table, count: int, institution: str = "maugeri") -> str:
    """A trail of `count` records in one shard, a minute apart; the shard's name."""
    trail = Trail(table, 10)
    for number in range(count):
        at = NOW + timedelta(minutes=number)
        assert trail.append(context(institution, at, f"r-{number}"), [access(study=f"1.2.{number}")]) == []
    (shard,) = [shard for shard in audit_chain.shards(institution) if table.get(keys.audit_records(shard), keys.HEAD)]
    return shard


def anchored(table: Table, shard: str, at: datetime = NOW + timedelta(hours=1)) -> Anchored:
    """The shard's head as an anchor of now would have it."""
    head = audit_chain.head_of(table.get(keys.audit_records(shard), keys.HEAD))
    return Anchored(at, head, "anchors/000000001.json")


def verified(
    table: Table, shard: str, anchors: Sequence[Anchored] = (), keep_since: datetime = NOW - timedelta(days=3650)
) -> list[ChainFault]:
    """All findings on a shard."""
    partition = keys.audit_records(shard)
    head = table.get(partition, keys.HEAD)
    return list(audit_verify.verify_shard(shard, table.query_all(partition), head, anchors, keep_since))


def record(table: Table, shard: str, seq: int) -> Item:
    found = table.get(keys.audit_records(shard), keys.audit_record(seq))
    assert found is not None
    return found


def rehashed(item: Item) -> Item:
    """The item with its hash made anew, as one would who knows how it is done."""
    changed = dict(item.data)
    changed["hash"] = audit_chain.digest(changed)
    return audit_chain.item(changed)


def rewrite(table: Table, shard: str, seq: int, **changes: object) -> None:
    """Change a record and everything after it, and the head, so that the chain is sound again."""
    items = [item for item in table.query_all(keys.audit_records(shard)) if item.sk != keys.HEAD]
    prev = str(items[seq - 1].data["prev"])
    for item in items[seq - 1 :]:
        data = item.data | (changes if item.data["seq"] == seq else {}) | {"prev": prev}
        data["hash"] = prev = audit_chain.digest(data)
        table.put(Put(audit_chain.item(data)))
        last = data
    table.put(Put(audit_chain.head_item(shard, last)))
