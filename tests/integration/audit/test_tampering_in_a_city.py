"""Somebody with all rights on the table changes the trail of a running city; `python -m infra.audit verify` names what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chalicelib.adapters.dynamodb import DynamoTable
from chalicelib.adapters.vault import S3Vault
from chalicelib.domain import audit_chain, keys
from chalicelib.domain.ports import Delete, Item, Put
from chalicelib.services.audit.anchor import anchor_heads
from infra import audit as command
from tests.harness import RunningCity, running_city
from tests.unit.audit.trails import record, rehashed, rewrite


class Tampered:
    """A city with a trail of operator's and institutions' records, anchored; its chain with the most records."""

    def __init__(self, city: RunningCity) -> None:
        self.city = city
        self.table = DynamoTable(city.aws("dynamodb"), city.outputs()["TableName"])
        for number in range(12):
            city.client("maugeri").get(f"/dicomweb/studies?PatientID=P{number}")
        self.anchor()
        shards = audit_chain.shards("maugeri")
        self.shard = max(shards, key=lambda shard: self.head(shard).seq)
        assert self.head(self.shard).seq >= 5

    def head(self, shard: str) -> audit_chain.ChainHead:
        return audit_chain.head_of(self.table.get(keys.audit_records(shard), keys.HEAD))

    def anchor(self) -> int:
        vault = S3Vault(self.city.aws("s3"), self.city.outputs()["AuditAnchorBucketName"])
        return anchor_heads(self.table, vault, datetime.now(UTC), 10)


@pytest.fixture(scope="module")
def audited(own_city: RunningCity) -> Tampered:
    return Tampered(own_city)


@pytest.fixture
def spoiled(tmp_path: Path) -> Iterator[Tampered]:
    """A trail of which nothing can be put back afterwards."""
    with running_city(tmp_path / "city") as city:
        yield Tampered(city)


@pytest.fixture
def trail(audited: Tampered) -> Iterator[Tampered]:
    """The trail, put back as it was afterwards."""
    before = list(audited.table.query_all(keys.audit_records(audited.shard)))
    yield audited
    for item in audited.table.query_all(keys.audit_records(audited.shard)):
        audited.table.put(Delete(*item.key))
    for item in before:
        audited.table.put(Put(item))


def _verify(trail: Tampered, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = command.main(["verify", "--endpoints", str(trail.city.state / "endpoints.json")])
    return code, capsys.readouterr().out


def _is_named(trail: Tampered, capsys: pytest.CaptureFixture[str], *findings: str) -> bool:
    code, out = _verify(trail, capsys)
    return code == 1 and all(f"{finding} of {trail.shard}" in out for finding in findings)


def test_a_trail_that_nobody_touched_is_sound(trail: Tampered, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = _verify(trail, capsys)
    assert (code, "The audit trail is sound." in out) == (0, True), out


def test_an_altered_record_is_named(trail: Tampered, capsys: pytest.CaptureFixture[str]) -> None:
    item = record(trail.table, trail.shard, 3)
    trail.table.put(Put(replace(item, data=item.data | {"actor": "nobody"})))
    assert _is_named(trail, capsys, "altered: record 3")


def test_an_altered_record_whose_hash_was_made_anew_is_named(trail: Tampered, capsys: pytest.CaptureFixture[str]) -> None:
    item = record(trail.table, trail.shard, 3)
    trail.table.put(Put(rehashed(replace(item, data=item.data | {"actor": "nobody"}))))
    assert _is_named(trail, capsys, "altered: record 3")


def test_a_removed_record_is_named(trail: Tampered, capsys: pytest.CaptureFixture[str]) -> None:
    trail.table.put(Delete(*record(trail.table, trail.shard, 3).key))
    assert _is_named(trail, capsys, "removed: record 3")


def test_moved_records_are_named(trail: Tampered, capsys: pytest.CaptureFixture[str]) -> None:
    second, fourth = record(trail.table, trail.shard, 2), record(trail.table, trail.shard, 4)
    trail.table.put(Put(Item(second.pk, fourth.sk, second.data, second.indexes, expires=second.expires)))
    trail.table.put(Put(Item(fourth.pk, second.sk, fourth.data, fourth.indexes, expires=fourth.expires)))
    assert _is_named(trail, capsys, "moved: record 2", "moved: record 4")


def test_a_chain_that_was_cut_off_is_named_by_its_anchor(trail: Tampered, capsys: pytest.CaptureFixture[str]) -> None:
    last = trail.head(trail.shard).seq
    trail.table.put(Delete(*record(trail.table, trail.shard, last).key))
    trail.table.put(Put(audit_chain.head_item(trail.shard, record(trail.table, trail.shard, last - 1).data)))
    assert _is_named(trail, capsys, f"truncated: record {last}")


def test_a_chain_that_was_written_anew_is_named_by_its_anchor(trail: Tampered, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(trail.table, trail.shard, 2, actor="nobody")
    code, out = _verify(trail, capsys)
    assert code == 1
    assert "rewritten: records 1 to" in out


def test_a_trail_that_cannot_be_read_is_no_sound_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert command.main(["verify", "--endpoints", str(tmp_path_factory.mktemp("none") / "endpoints.json")]) == 2


def test_an_anchor_that_was_deleted_or_written_over_is_told_and_its_first_version_read(
    spoiled: Tampered, capsys: pytest.CaptureFixture[str]
) -> None:
    s3, bucket = spoiled.city.aws("s3"), spoiled.city.outputs()["AuditAnchorBucketName"]
    s3.delete_object(Bucket=bucket, Key="anchors/000000001.json")
    s3.put_object(Bucket=bucket, Key="anchors/000000001.json", Body=b"{}", IfNoneMatch="*")
    code, out = _verify(spoiled, capsys)
    assert code == 1
    assert "it was written over" in out and "it was deleted" in out
    assert "cannot be read" not in out


def test_the_export_is_one_event_a_line(trail: Tampered, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["export", "--endpoints", str(trail.city.state / "endpoints.json")]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(events) >= 15
    assert {event["resourceType"] for event in events} == {"AuditEvent"}


def test_a_restore_is_recorded_by_a_command_and_then_told_as_one(spoiled: Tampered, capsys: pytest.CaptureFixture[str]) -> None:
    anchored = ("V#AUDIT", *(keys.audit_records(shard) for shard in audit_chain.shards("maugeri")))
    kept = [item for pk in anchored for item in spoiled.table.query_all(pk)]
    to = datetime.now(UTC)
    for number in range(6):
        spoiled.city.client("maugeri").get(f"/dicomweb/studies?PatientID=LOST{number}")
    spoiled.anchor()
    for pk in anchored:
        for item in list(spoiled.table.query_all(pk)):
            spoiled.table.put(Delete(*item.key))
    for item in kept:
        spoiled.table.put(Put(item))
    assert "truncated: record" in _verify(spoiled, capsys)[1]
    endpoints = ["--endpoints", str(spoiled.city.state / "endpoints.json")]
    assert command.main(["restored", "--to", "2019-01-01T00:00:00Z", "--reason", "x", *endpoints]) == 2
    assert (
        command.main(
            ["restored", "--to", to.isoformat(), "--reason", "a wrong deletion", *endpoints, "--profile", "administrator"]
        )
        == 0
    )
    said = _verify(spoiled, capsys)[1]
    assert "truncated" not in said
    assert "a wrong deletion; at most" in said
    assert spoiled.anchor() >= 0, "the numbers of anchors that the restore forgot are gone through"
    spoiled.table.put(Delete(*record(spoiled.table, spoiled.shard, 3).key))
    assert f"removed: record 3 of {spoiled.shard}" in _verify(spoiled, capsys)[1]
