"""Whoever changes the audit trail is found, and what was changed is named."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from chalicelib.domain import audit_chain, keys
from chalicelib.domain.audit_verify import ChainFault
from chalicelib.domain.ports import Delete, Put
from tests.fakes import MemoryTable
from tests.unit.audit.trails import NOW, anchored, record, rehashed, rewrite, verified, written


def _where(findings: list[ChainFault]) -> list[tuple[str, int, int]]:
    return [(finding.problem, finding.first, finding.last) for finding in findings]


@pytest.fixture
def table() -> MemoryTable:
    return MemoryTable()


def test_a_trail_that_nobody_touched_is_sound(table: MemoryTable) -> None:
    shard = written(table, 10)
    assert verified(table, shard, [anchored(table, shard)]) == []


def test_an_empty_shard_is_sound(table: MemoryTable) -> None:
    assert verified(table, "maugeri#00") == []


@pytest.mark.parametrize("seq", [1, 5, 10])
@pytest.mark.parametrize("field", ["actor", "at", "study", "patients", "prev", "outcome", "expires"])
def test_a_record_altered_in_place_is_named(table: MemoryTable, seq: int, field: str) -> None:
    shard = written(table, 10)
    item = record(table, shard, seq)
    table.put(Put(replace(item, data=item.data | {field: "another"})))
    assert _where(verified(table, shard)) == [("altered", seq, seq)]


@pytest.mark.parametrize("seq", [1, 5, 10])
def test_a_record_altered_with_a_fitting_hash_is_named(table: MemoryTable, seq: int) -> None:
    shard = written(table, 10)
    item = record(table, shard, seq)
    table.put(Put(rehashed(replace(item, data=item.data | {"actor": "bianchi"}))))
    assert _where(verified(table, shard)) == [("altered", seq, seq)]


def test_a_record_hidden_from_its_owner_by_its_indexes_is_named(table: MemoryTable) -> None:
    shard = written(table, 10)
    table.put(Put(replace(record(table, shard, 4), indexes={})))
    assert _where(verified(table, shard)) == [("altered", 4, 4)]


def test_a_record_made_to_expire_early_is_named(table: MemoryTable) -> None:
    shard = written(table, 10)
    table.put(Put(replace(record(table, shard, 4), expires=1)))
    assert _where(verified(table, shard)) == [("altered", 4, 4)]


@pytest.mark.parametrize(("gone", "named"), [([1], (1, 1)), ([5], (5, 5)), ([4, 5, 6], (4, 6))])
def test_records_removed_are_named(table: MemoryTable, gone: list[int], named: tuple[int, int]) -> None:
    shard = written(table, 10)
    for seq in gone:
        table.put(Delete(*record(table, shard, seq).key))
    assert _where(verified(table, shard)) == [("removed", *named)]


def test_a_record_moved_to_another_number_is_named(table: MemoryTable) -> None:
    shard = written(table, 10)
    third, seventh = record(table, shard, 3), record(table, shard, 7)
    table.put(Put(replace(third, sk=seventh.sk)))
    table.put(Put(replace(seventh, sk=third.sk)))
    assert _where(verified(table, shard)) == [("moved", 3, 3), ("moved", 7, 7)]


def test_a_record_moved_to_another_shard_is_named_in_both(table: MemoryTable) -> None:
    shard, other = written(table, 10), written(table, 3, "mondino")
    item = record(table, shard, 10)
    table.put(Delete(*item.key))
    table.put(Put(replace(item, pk=keys.audit_records(other), sk=keys.audit_record(4))))
    assert _where(verified(table, shard)) == [("truncated", 10, 10)]
    assert _where(verified(table, other)) == [("moved", 4, 4), ("altered", 4, 4)]


def test_a_chain_cut_off_behind_its_head_is_named(table: MemoryTable) -> None:
    shard = written(table, 10)
    for seq in (9, 10):
        table.put(Delete(*record(table, shard, seq).key))
    assert _where(verified(table, shard)) == [("truncated", 9, 10)]


def test_a_chain_cut_off_with_its_head_set_back_is_named_by_the_anchor(table: MemoryTable) -> None:
    shard = written(table, 10)
    anchor = anchored(table, shard)
    for seq in (9, 10):
        table.put(Delete(*record(table, shard, seq).key))
    table.put(Put(audit_chain.head_item(shard, record(table, shard, 8).data)))
    assert verified(table, shard) == []
    assert _where(verified(table, shard, [anchor])) == [("truncated", 9, 10)]


def test_a_chain_removed_whole_is_named_by_the_anchor(table: MemoryTable) -> None:
    shard = written(table, 10)
    anchor = anchored(table, shard)
    for key in table.items():
        table.put(Delete(*key))
    assert _where(verified(table, shard, [anchor])) == [("truncated", 1, 10)]


def test_a_head_that_was_removed_is_told(table: MemoryTable) -> None:
    shard = written(table, 10)
    table.put(Delete(keys.audit_records(shard), keys.HEAD))
    assert _where(verified(table, shard)) == [("truncated", 10, 10)]


def test_a_chain_written_anew_is_named_between_its_anchors(table: MemoryTable) -> None:
    shard = written(table, 4)
    first = anchored(table, shard)
    _append(table, shard, 6)
    second = anchored(table, shard, NOW + timedelta(hours=2))
    rewrite(table, shard, 7, actor="bianchi")
    assert verified(table, shard) == []
    assert _where(verified(table, shard, [first, second])) == [("rewritten", 5, 10)]


def _append(table: MemoryTable, shard: str, count: int) -> None:
    head = audit_chain.head_of(table.get(keys.audit_records(shard), keys.HEAD))
    last = {
        name: value for name, value in record(table, shard, head.seq).data.items() if name not in {"shard", "seq", "prev", "hash"}
    }
    chained = audit_chain.chain(head, shard, [last] * count, 2**31)
    assert table.transact(audit_chain.appending(shard, head, chained)) == []


def test_records_that_were_kept_long_enough_may_be_gone(table: MemoryTable) -> None:
    shard = written(table, 10)
    for seq in (1, 2, 3):
        table.put(Delete(*record(table, shard, seq).key))
    later = NOW + timedelta(minutes=3, seconds=30)
    assert verified(table, shard, keep_since=later) == []
    assert _where(verified(table, shard)) == [("removed", 1, 3)]


def test_an_anchor_proves_the_age_of_what_expired_before_a_long_silence(table: MemoryTable) -> None:
    shard = written(table, 3)
    anchor = anchored(table, shard)
    _append(table, shard, 1)
    rewrite(table, shard, 4, at="2036-06-01T12:00:00.000Z")
    for seq in (1, 2, 3):
        table.put(Delete(*record(table, shard, seq).key))
    then = NOW + timedelta(days=3000)
    assert verified(table, shard, [anchor], keep_since=then) == []
    assert _where(verified(table, shard, [], keep_since=then)) == [("removed", 1, 3)]
