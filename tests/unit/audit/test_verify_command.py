"""`python -m infra.audit` over a table in memory: what it reads, from where, and what it says."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import pytest

from chalicelib.domain import audit_chain
from chalicelib.domain.ports import Delete
from chalicelib.services.audit import Trail
from chalicelib.services.audit_anchor import anchor_heads
from infra import audit as command
from tests.fakes import MemoryTable, Watched
from tests.unit.audit.trails import NOW, access, context, record, rewrite, written


class MemoryVault:
    """A bucket that keeps what was written."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}

    def put_new(self, key: str, content: bytes) -> bool:
        if key in self.documents:
            return False
        self.documents[key] = content
        return True

    def read(self, key: str) -> bytes:
        return self.documents[key]


def _anchored_every_five(table: MemoryTable, count: int) -> tuple[MemoryVault, str]:
    vault, trail = MemoryVault(), Trail(table, 10)
    for number in range(count):
        at = NOW + timedelta(minutes=number)
        trail.append(context("operator", at, f"r-{number}"), [access()])
        if number % 5 == 4:
            anchor_heads(table, vault, at + timedelta(seconds=1), 10)
    (shard,) = [one for one in audit_chain.shards("operator") if table.get(audit_chain.partition(one), audit_chain.HEAD)]
    return vault, shard


def _verify(table: MemoryTable, vault: MemoryVault, **bounds: object) -> command.Verified:
    return command.verify(table, sorted(vault.documents.items()), NOW, 10, **bounds)  # type: ignore[arg-type]


def test_a_sound_trail_is_called_sound_and_counted() -> None:
    table = MemoryTable()
    vault, _ = _anchored_every_five(table, 12)
    seen = _verify(table, vault)
    out = io.StringIO()
    command.report(seen, out)
    assert (seen.findings, seen.records, seen.shards, seen.anchors, seen.unanchored) == ([], 12, 1, 2, 2)
    assert "The audit trail is sound." in out.getvalue()


def test_nothing_is_anchored_while_nothing_happens() -> None:
    table, vault = MemoryTable(), MemoryVault()
    assert anchor_heads(table, vault, NOW, 10) == 0
    written(table, 3, "operator")
    assert [anchor_heads(table, vault, NOW, 10) for _ in range(3)] == [1, 0, 0]
    assert list(vault.documents) == ["anchors/000000001.json"]


def test_two_runs_at_the_same_time_make_one_chain_of_anchors() -> None:
    table, vault = MemoryTable(), MemoryVault()
    written(table, 3, "operator")
    anchor_heads(table, vault, NOW, 10)
    trail = Trail(table, 10)
    trail.append(context("operator"), [access()])

    def slow(name: str) -> None:
        """Between what the slow run read and what it writes, another run is there, which then dies before its last write."""
        if name == "put":
            raise ConnectionError

    with pytest.raises(ConnectionError):
        anchor_heads(Watched(table, slow), vault, NOW, 10)
    trail.append(context("operator"), [access()])
    anchor_heads(table, vault, NOW, 10)
    anchor_heads(table, vault, NOW + timedelta(minutes=15), 10)
    seen = _verify(table, vault)
    assert (seen.findings, seen.anchors, seen.unanchored) == ([], 3, 0)


def test_a_chain_written_anew_is_found_between_two_anchors() -> None:
    table = MemoryTable()
    vault, shard = _anchored_every_five(table, 12)
    rewrite(table, shard, 7, actor="bianchi")
    (finding,) = _verify(table, vault).findings
    assert (finding.problem, finding.first, finding.last) == ("rewritten", 6, 10)


def test_an_anchor_that_is_missing_or_altered_is_told() -> None:
    table = MemoryTable()
    vault, _ = _anchored_every_five(table, 15)
    keys = sorted(vault.documents)
    without = [(key, vault.documents[key]) for key in keys if key != keys[1]]
    (finding,) = command.verify(table, without, NOW, 10).findings
    assert (finding.problem, finding.shard) == ("anchor", keys[2])
    altered = [(key, vault.documents[key] + (b" " if key == keys[0] else b"")) for key in keys]
    (finding,) = command.verify(table, altered, NOW, 10).findings
    assert (finding.problem, finding.shard) == ("anchor", keys[1])


def test_a_part_of_the_trail_is_read_from_anchor_to_anchor() -> None:
    table = MemoryTable()
    vault, shard = _anchored_every_five(table, 20)
    seen = _verify(table, vault, since=NOW + timedelta(minutes=6), until=NOW + timedelta(minutes=9))
    assert (seen.findings, seen.records) == ([], 5)
    table.put(Delete(*record(table, shard, 7).key))
    within = _verify(table, vault, since=NOW + timedelta(minutes=6), until=NOW + timedelta(minutes=9))
    assert [(one.problem, one.first, one.last) for one in within.findings] == [("removed", 7, 7)]
    after = _verify(table, vault, since=NOW + timedelta(minutes=12))
    assert after.findings == []


def test_records_that_are_written_while_the_trail_is_read_are_no_finding() -> None:
    table = MemoryTable()
    written(table, 5, "operator")
    trail = Trail(table, 10)

    def meanwhile(name: str) -> None:
        if name == "query":
            trail.append(context("operator"), [access()])

    assert command.verify(Watched(table, meanwhile), [], NOW, 10).findings == []


def test_records_behind_the_head_that_nobody_wrote_are_a_finding() -> None:
    table = MemoryTable()
    shard = written(table, 5, "operator")
    head = table.get(audit_chain.partition(shard), audit_chain.HEAD)
    last = record(table, shard, 5).data
    content = {name: value for name, value in last.items() if name not in {"shard", "seq", "prev", "hash"}}
    forged = audit_chain.chain(audit_chain.head_of(head), shard, [content], 2**31)
    table.transact(audit_chain.appending(shard, audit_chain.head_of(head), forged)[1:])
    (finding,) = command.verify(table, [], NOW, 10).findings
    assert (finding.problem, finding.first, finding.last) == ("altered", 6, 6)


def test_the_export_is_in_the_order_of_time_and_within_its_bounds() -> None:
    table = MemoryTable()
    trails = [Trail(table, 10) for _ in range(3)]
    for number in range(12):
        trails[number % 3].append(context("operator", NOW + timedelta(minutes=number), f"r-{number}"), [access()])
    out = io.StringIO()
    count = command.export(table, out, NOW + timedelta(minutes=2), NOW + timedelta(minutes=10), as_records=False)
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert count == 8
    assert [event["recorded"] for event in events] == sorted(event["recorded"] for event in events)
    assert {event["resourceType"] for event in events} == {"AuditEvent"}
