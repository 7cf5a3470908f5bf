"""`python -m infra.audit` over a table in memory: what it reads, from where, and what it says."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from chalicelib.domain import audit, audit_chain, audit_verify, keys
from chalicelib.domain.ports import Delete, Item, Put, PutNew
from chalicelib.domain.rfc3339 import iso
from chalicelib.services.audit.anchor import anchor_heads
from chalicelib.services.audit.trail import Trail
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
    (shard,) = [shard for shard in audit_chain.shards("operator") if table.get(keys.audit_records(shard), keys.HEAD)]
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
        if name == "transact":
            raise ConnectionError

    with pytest.raises(ConnectionError):
        anchor_heads(Watched(table, slow), vault, NOW, 10)
    trail.append(context("operator"), [access()])
    anchor_heads(table, vault, NOW, 10)
    anchor_heads(table, vault, NOW + timedelta(minutes=15), 10)
    seen = _verify(table, vault)
    assert (seen.findings, seen.anchors, seen.unanchored) == ([], 3, 0)


def test_a_trail_without_any_anchor_is_not_called_sound_even_where_everything_is_gone() -> None:
    table = MemoryTable()
    shard = written(table, 5, "operator")
    for item in list(table.query_all(keys.audit_records(shard))):
        table.put(Delete(*item.key))
    seen = command.verify(table, [], NOW, 10)
    out = io.StringIO()
    command.report(seen, out)
    assert (seen.findings, seen.proven) == ([], False)
    assert "nothing proves that the audit trail is whole" in out.getvalue()
    assert "sound" not in out.getvalue()


def test_an_old_last_anchor_is_told() -> None:
    table = MemoryTable()
    vault, _ = _anchored_every_five(table, 5)
    for now, told in ((NOW + timedelta(minutes=30), False), (NOW + timedelta(hours=3), True)):
        out = io.StringIO()
        command.report(_verify(table, vault), out, now)
        assert ("No anchor was made for over an hour" in out.getvalue()) == told


def test_what_was_anchored_of_sixty_hospitals_fits_the_tables_items() -> None:
    """An item holds 400 KB; all heads of 64 chains each had been one item."""
    table, vault = MemoryTable(), MemoryVault()
    hospitals = [f"hospital-of-the-city-number-{number:02d}" for number in range(60)]
    for number, hospital in enumerate(hospitals):
        data: dict[str, object] = {"name": hospital, "role_arn": f"arn:aws:iam::123456789012:role/{hospital}", "ae_titles": []}
        data |= {"id": hospital, "patient_id_issuer": f"1.2.{number}", "version": 1, "removed": False}
        table.put(PutNew(Item("F#REGISTRY", f"INSTITUTION#{hospital}#000001", data)))
        for shard in audit_chain.shards(hospital):
            table.put(PutNew(audit_chain.head_item(shard, {"seq": 1, "hash": "0" * 64, "at": "2026-03-01T12:00:00.000Z"})))
    assert anchor_heads(table, vault, NOW, 10) == 60 * 64
    assert anchor_heads(table, vault, NOW, 10) == 0
    table.put(Put(audit_chain.head_item(f"{hospitals[59]}#00", {"seq": 2, "hash": "1" * 64, "at": "2026-03-01T12:01:00.000Z"})))
    assert anchor_heads(table, vault, NOW, 10) == 1


def test_what_an_earlier_release_remembered_of_its_last_anchor_is_gone_on_from() -> None:
    table, vault = MemoryTable(), MemoryVault()
    shard = written(table, 3, "operator")
    assert anchor_heads(table, vault, NOW, 10) == 1
    known = table.get("V#AUDIT", "ANCHOR")
    assert known is not None
    heads = {shard: json.loads(vault.documents["anchors/000000001.json"])["heads"][shard]}
    table.put(Delete("V#AUDIT", "ANCHOR#operator"))
    table.put(Put(Item("V#AUDIT", "ANCHOR", known.data | {"heads": heads}, version=known.version)))
    assert anchor_heads(table, vault, NOW, 10) == 0
    Trail(table, 10).append(context("operator"), [access()])
    assert anchor_heads(table, vault, NOW, 10) == 1
    assert anchor_heads(table, vault, NOW, 10) == 0
    assert _verify(table, vault).findings == []
    assert "heads" not in (table.get("V#AUDIT", "ANCHOR") or known).data


class Restored:
    """A trail anchored every five records, whose table was brought back to minute 12 at minute 20, and went on for ten more."""

    def __init__(self) -> None:
        self.table = MemoryTable()
        self.vault, trail = MemoryVault(), Trail(self.table, 10)
        kept = self.table
        for number in range(20):
            at = NOW + timedelta(minutes=number)
            trail.append(context("operator", at, f"r-{number}"), [access()])
            if number % 5 == 4:
                anchor_heads(self.table, self.vault, at + timedelta(seconds=1), 10)
            if number == 11:
                kept = self.table.copied()
        self.table, trail = kept, Trail(kept, 10)
        self.to, self.at = NOW + timedelta(minutes=12), NOW + timedelta(minutes=20)
        (self.shard,) = [shard for shard in audit_chain.shards("operator") if kept.get(keys.audit_records(shard), keys.HEAD)]
        for number in range(20, 30):
            at = NOW + timedelta(minutes=number)
            self._append(trail, number, at)
            if number % 5 == 4:
                anchor_heads(self.table, self.vault, at + timedelta(seconds=1), 10)

    def _append(self, trail: Trail, number: int, at: datetime) -> None:
        """To the same chain as before: where else would it show."""
        head = audit_chain.head_of(self.table.get(keys.audit_records(self.shard), keys.HEAD))
        new = audit.records(context("operator", at, f"r-{number}"), [access()])
        self.table.transact(audit_chain.appending(self.shard, head, audit_chain.chain(head, self.shard, new, 2**31)))

    def verify(self, *restores: bytes, written_at: datetime | None = None) -> command.Verified:
        documents = [(f"restores/{number}.json", restore, written_at or self.at) for number, restore in enumerate(restores)]
        return command.verify(self.table, sorted(self.vault.documents.items()), NOW, 10, restores=documents)

    def recorded(self, **other: datetime) -> bytes:
        moments = {"to": self.to, "at": self.at} | other
        return audit_verify.restore(iso(moments["to"]), iso(moments["at"]), "arn:aws:iam::1:user/admin", "the disk of the year")


def test_a_restore_is_told_as_one_once_it_is_recorded_and_as_tampering_before() -> None:
    trail = Restored()
    assert {finding.problem for finding in trail.verify().findings} == {"rewritten"}
    seen = trail.verify(trail.recorded())
    assert (seen.findings, seen.proven) == ([], True)
    (told,) = seen.restores
    assert "the disk of the year" in told
    assert "at most 10 anchored records were lost" in told
    out = io.StringIO()
    command.report(seen, out)
    assert told in out.getvalue()
    assert "sound but for what a restore took away" in out.getvalue()
    assert (command._code(seen), command._code(trail.verify())) == (4, 1)


@pytest.mark.parametrize(
    ("moments", "written_after", "said"),
    [
        ({"at": timedelta(days=26000)}, timedelta(0), "was written on"),
        ({"to": timedelta(days=-2000)}, timedelta(0), "which cannot be"),
        ({"to": timedelta(days=-37)}, timedelta(0), "which cannot be"),
        ({"to": timedelta(minutes=1)}, timedelta(0), "which cannot be"),
        ({}, timedelta(days=3), "was written on"),
    ],
)
def test_a_restore_that_cannot_have_been_explains_nothing_and_is_a_finding(
    moments: dict[str, timedelta], written_after: timedelta, said: str
) -> None:
    """Whoever can put one object there says any moments that they like; when it came S3 says."""
    trail = Restored()
    forged = trail.recorded(**{name: trail.at + away for name, away in moments.items()})
    seen = trail.verify(forged, written_at=trail.at + written_after)
    assert {finding.problem for finding in seen.findings} == {"anchor", "rewritten"}
    assert any(said in str(finding) for finding in seen.findings)
    assert (seen.restores, seen.explained, command._code(seen)) == ([], 0, 1)


def test_what_is_explained_ends_where_s3_got_the_record_whatever_it_says() -> None:
    trail = Restored()
    early = trail.to + timedelta(minutes=1)
    assert trail.verify(trail.recorded(at=early + timedelta(minutes=4)), written_at=early).findings


@pytest.mark.parametrize(("years", "expired", "problems"), [(3, 3, []), (3, 2, ["removed"]), (20, 12, ["removed"]), (20, 21, [])])
def test_for_how_long_records_are_kept_the_anchors_say(years: int, expired: int, problems: list[str]) -> None:
    table, vault = MemoryTable(), MemoryVault()
    shard = ""
    for age in range(22, 0, -1):
        at = NOW - timedelta(days=365.25 * age + 1)
        known = audit_chain.head_of(table.get(keys.audit_records(shard), keys.HEAD)) if shard else audit_chain.ChainHead()
        shard = audit_chain.shards("operator")[0]
        new = audit_chain.chain(known, shard, audit.records(context("operator", at, f"r-{age}"), [access()]), 2**31)
        table.transact(audit_chain.appending(shard, known, new))
        anchor_heads(table, vault, at, years)
    for number in range(1, 23):
        if 23 - number >= expired:
            table.put(Delete(*record(table, shard, number).key))
    seen = command.verify(table, sorted(vault.documents.items()), NOW)
    assert [finding.problem for finding in seen.findings] == problems


@pytest.mark.parametrize("years", [0, -3, 10**9])
def test_an_anchor_that_says_what_no_stack_can_lets_no_record_go_and_stops_no_verification(years: int) -> None:
    table, vault = MemoryTable(), MemoryVault()
    shard = audit_chain.shards("operator")[0]
    for age in (9, 6, 3):
        known = audit_chain.head_of(table.get(keys.audit_records(shard), keys.HEAD))
        records = audit.records(context("operator", NOW - timedelta(days=age), f"r-{age}"), [access()])
        table.transact(audit_chain.appending(shard, known, audit_chain.chain(known, shard, records, 2**31)))
    anchor_heads(table, vault, NOW - timedelta(days=1), years)
    assert command.verify(table, sorted(vault.documents.items()), NOW).findings == []
    table.put(Delete(*record(table, shard, 1).key))
    (finding,) = command.verify(table, sorted(vault.documents.items()), NOW).findings
    assert (finding.problem, finding.first) == ("removed", 1)


def test_each_record_is_kept_as_long_as_was_said_when_it_was_written() -> None:
    """Ten years first, and two since: what is of the first goes after what is of the second."""
    table, vault = MemoryTable(), MemoryVault()
    shard = audit_chain.shards("operator")[0]
    for age, years in ((5, 10), (4, 10), (3, 2), (1, 2)):
        at, known = NOW - timedelta(days=366 * age), audit_chain.head_of(table.get(keys.audit_records(shard), keys.HEAD))
        new = audit_chain.chain(known, shard, audit.records(context("operator", at, f"r-{age}"), [access()]), 2**31)
        table.transact(audit_chain.appending(shard, known, new))
        anchor_heads(table, vault, at, years)
    table.put(Delete(*record(table, shard, 3).key))
    assert command.verify(table, sorted(vault.documents.items()), NOW).findings == []
    table.put(Delete(*record(table, shard, 2).key))
    (finding,) = command.verify(table, sorted(vault.documents.items()), NOW).findings
    assert (finding.problem, finding.first) == ("removed", 2)


def test_anchors_of_before_a_restore_keep_nobody_from_anchoring_after_it() -> None:
    trail = Restored()
    assert len(trail.vault.documents) == 6
    assert anchor_heads(trail.table, trail.vault, NOW + timedelta(hours=1), 10) == 0


def test_what_a_recorded_restore_does_not_explain_is_still_tampering() -> None:
    for seq, problem in ((3, "rewritten"), (14, "rewritten"), (22, "altered")):
        trail = Restored()
        rewrite(trail.table, trail.shard, seq, actor="bianchi") if problem == "rewritten" else trail.table.put(
            Put(replace(record(trail.table, trail.shard, seq), data=record(trail.table, trail.shard, seq).data | {"actor": "x"}))
        )
        assert [finding.problem for finding in trail.verify(trail.recorded()).findings] == [problem], seq
    trail = Restored()
    for wrong in (trail.recorded(to=NOW + timedelta(minutes=16)), trail.recorded(at=NOW + timedelta(minutes=14)), b"{}"):
        assert trail.verify(wrong).findings, wrong
    for number in range(5, 23):
        trail.table.put(Delete(*record(trail.table, trail.shard, number).key))
    assert trail.verify(trail.recorded()).findings


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
    assert [(finding.problem, finding.first, finding.last) for finding in within.findings] == [("removed", 7, 7)]
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
    head = table.get(keys.audit_records(shard), keys.HEAD)
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
