"""What happens again within minutes is written in short: nothing is lost by it, and each record stays in its chain."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.domain import audit, audit_chain, audit_repeats, keys
from chalicelib.domain.audit import Entry, Kind, Record
from chalicelib.domain.ports import Delete, Put
from chalicelib.services.audit.trail import Trail
from infra import audit as command
from tests.fakes import MemoryTable
from tests.unit.audit.trails import NOW, access, context, record, verified

EVENTS = st.lists(
    st.tuples(
        st.integers(0, 240), st.sampled_from(["rossi", "bianchi"]), st.sampled_from(["1.2", "1.3"]),
        st.sampled_from([Kind.ACCESS, Kind.SENT, Kind.OBJECTION, Kind.QUERY]), st.sampled_from([None, 1, 40]),
    ),
    min_size=1, max_size=60,
)  # fmt: skip


def stored(table: MemoryTable) -> list[Record]:
    return [item.data for (pk, sk), item in table.items().items() if pk.startswith("F#AUDIT#") and sk != keys.HEAD]


def of_a_reading(table: MemoryTable, images: int = 40) -> str:
    """Forty addresses, handed out one by one; the shard."""
    trail = Trail(table, 10)
    for number in range(images):
        trail.append(context("operator", NOW + timedelta(seconds=number), f"r-{number:036d}"), [access()])
    return str(stored(table)[0]["shard"])


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_every_record_can_be_had_as_if_it_had_been_written_whole(events: list[tuple[int, str, str, Kind, int | None]]) -> None:
    table, expected = MemoryTable(), []
    trail = Trail(table, 10)
    seconds = 0
    for number, (pause, actor, study, kind, count) in enumerate(events):
        seconds += pause * 5
        who = context("operator", NOW + timedelta(seconds=seconds), f"r-{number}", actor)
        entry = replace(access(study=study), kind=kind, count=count)
        trail.append(who, [entry])
        expected += audit.records(who, [entry])
    out = io.StringIO()
    command.export(table, out, None, None, as_records=True)
    exported = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [{k: v for k, v in written.items() if k not in audit_repeats._OF_THE_CHAIN} for written in exported] == expected
    (shard,) = {str(written["shard"]) for written in stored(table)}
    chain = iter(item.data for item in table.query_all(keys.audit_records(shard), between=("0", "9" * 12)))
    whole = [{k: v for k, v in written.items() if k not in audit_repeats._OF_THE_CHAIN} for written in command._whole(chain)]
    assert whole == expected
    assert verified(table, shard) == []


def test_a_reading_takes_a_third_of_what_it_would_and_is_chained_record_by_record() -> None:
    table, apart = MemoryTable(), MemoryTable()
    shard = of_a_reading(table)
    for number in range(40):
        Trail(apart, 10).append(context(f"h-{number}", NOW, f"r-{number:036d}"), [access()])  # each in a chain of its own

    def size(of: MemoryTable) -> int:
        """Characters with keys, once more for each index."""
        items = [item for (pk, sk), item in of.items().items() if pk.startswith("F#AUDIT#") and sk != keys.HEAD]
        return sum(len(json.dumps(item.data) + item.pk + item.sk) * (1 + len(item.indexes)) for item in items)

    assert size(table) * 4 < size(apart)
    assert verified(table, shard) == []
    assert len(stored(table)) == 40
    assert [written["same"] for written in stored(table)[1:]] == [1] * 39
    assert all("owner" not in written and not audit_chain.item(written).indexes for written in stored(table)[1:])


def test_a_repeat_that_is_altered_removed_or_moved_is_found() -> None:
    def damaged(how: str) -> list[str]:
        table = MemoryTable()
        shard = of_a_reading(table, 9)
        item = record(table, shard, 5)
        if how == "removed":
            table.put(Delete(*item.key))
        elif how == "altered":
            table.put(Put(replace(item, data=item.data | {"request": "r-other"})))
        else:
            table.put(Put(replace(item, data=item.data | {"same": 3})))
        return [finding.problem for finding in verified(table, shard)]

    assert damaged("removed") == ["removed"]
    assert damaged("altered") == ["altered"]
    assert damaged("given to another") == ["altered"]


def test_what_differs_in_who_whose_or_why_is_written_whole() -> None:
    table = MemoryTable()
    trail = Trail(table, 10)
    variants: list[tuple[Any, Entry]] = [
        (context("operator"), access()), (context("operator", actor="bianchi"), access()),
        (context("operator"), access(study="1.2.4")), (context("operator"), access(owner="mondino")),
        (context("operator"), replace(access(), basis=("f" * 32,))), (context("operator"), replace(access(), kind=Kind.SENT)),
        (replace(context("operator"), address="203.0.113.8"), access()), (replace(context("operator"), session="x"), access()),
        (context("operator"), replace(access(), purpose=audit.Purpose.EMERGENCY)),
    ]  # fmt: skip
    for who, entry in variants:
        trail.append(who, [entry])
    assert not [written for written in stored(table) if "same" in written]


def test_a_refusal_and_an_act_are_always_written_whole() -> None:
    table = MemoryTable()
    trail = Trail(table, 10)
    for kind in (Kind.REFUSAL, Kind.OBJECTION, Kind.EMERGENCY, Kind.ADMINISTRATION, Kind.AUDIT_USED):
        for _ in range(3):
            trail.append(context("operator"), [replace(access(), kind=kind)])
    assert not [written for written in stored(table) if "same" in written]


def test_minutes_later_and_in_another_process_it_is_written_whole_again() -> None:
    table = MemoryTable()
    trail = Trail(table, 10)
    for minutes in (0, 9, 11, 12):
        trail.append(context("operator", NOW + timedelta(minutes=minutes)), [access()])
    assert ["same" in written for written in stored(table)] == [False, True, False, True]
    Trail(table, 10).append(context("operator", NOW + timedelta(minutes=12)), [access()])
    assert len([written for written in stored(table) if "same" not in written]) == 3
