"""The change feed: in order, nothing twice or skipped, whoever writes to it and reads it at the same time."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.domain.errors import BadRequest
from chalicelib.domain.feed import IssuerNews, StudyNews
from chalicelib.domain.ports import Page, Table
from chalicelib.services import changes
from chalicelib.services.changes import Change
from chalicelib.services.projection import facts
from tests.fakes import Watched
from tests.interleaving import interleave
from tests.streams import Told
from tests.world import A, B, World


class Torn(Watched):
    """A table whose next Query answers of what is written while it reads the later only, as DynamoDB's may."""

    def __init__(self, table: Table, hidden: set[str]) -> None:
        super().__init__(table, lambda _: None)
        self.hidden = hidden

    def query(self, *arguments: Any, **named: Any) -> Page:
        page = super().query(*arguments, **named)
        left = [item for item in page.items if item.sk not in self.hidden]
        self.hidden = set()
        return replace(page, items=left)


@pytest.mark.parametrize("limit", [1, 2, 100])
@pytest.mark.parametrize("hidden", [0, 1, 2])
def test_a_query_that_is_torn_by_a_write_skips_nothing(world: World, hidden: int, limit: int) -> None:
    for number in range(4):
        world.arrive(A, f"p{number}", f"1.2.{number}")
        world.open(A, f"p{number}", B, key=f"{number}")
        world.settle()
    whole = world.changes(B)
    assert len(whole) >= 4
    hides = changes._ENTRIES + whole[hidden]["cursor"]
    read: list[dict[str, Any]] = []
    while len(read) < len(whole):
        since = read[-1]["cursor"] if read else None
        page = changes.read_changes(Torn(world.table, {hides}), world.caller(B), since, limit, 0, lambda: world.now)
        assert page["changes"]
        read += page["changes"]
    assert read == whole
    assert all("before" not in change for change in whole)


@settings(max_examples=25, deadline=None)
@given(turns=st.lists(st.integers(0, 11), min_size=1, max_size=60), limit=st.integers(1, 4))
def test_a_reader_gets_everything_once_and_in_order_while_several_projectors_write(turns: list[int], limit: int) -> None:
    world = World((A, B))
    for number in range(6):
        world.arrive(A, f"p{number}", f"1.2.{number}")
        world.open(A, f"p{number}", B, key=f"{number}")
    batch, world.table.pending = world.table.pending, []
    done = [0]
    read: list[dict[str, Any]] = []

    def projector(which: int) -> Any:
        """Its clock is not the other's."""

        def run(table: Table) -> None:
            records = [(str(place), *key) for place, key in enumerate(batch[which::2])]
            for record in records:
                assert facts.project(table, Told(), [record], lambda: world.now + timedelta(seconds=which)) is None
            done[0] += 1

        return run

    def reader(table: Table) -> None:
        caller = world.caller(B)
        while True:
            finished = done[0] == 2
            since = read[-1]["cursor"] if read else None
            page = changes.read_changes(table, caller, since, limit, 0, lambda: world.now)
            read.extend(page["changes"])
            assert page["next"] == (read[-1]["cursor"] if read else "0" * 20)
            if finished and not page["changes"]:
                return

    interleave(world.table.memory, [projector(0), projector(1), reader], turns)
    assert read == world.changes(B)
    places = [change["cursor"] for change in read]
    assert places == sorted(set(places))
    assert sorted(change["study_instance_uid"] for change in read if change["kind"] == "study-arrived") == [
        f"1.2.{n}" for n in range(6)
    ]
    assert sum(change["kind"] == "transfer-opened" for change in read) == 6


def test_places_rise_even_when_a_clock_goes_back(world: World) -> None:
    for number in range(4):
        world.arrive(A, "1", f"1.2.{number}")
        world.settle()
        world.now -= timedelta(hours=1)
    places = [change["cursor"] for change in world.changes(A)]
    assert places == sorted(set(places))
    assert len(places) == 4


def test_an_entry_takes_no_place_before_one_that_was_read_already(world: World) -> None:
    """The one that looked for its place first writes last; meanwhile another one was told, by a clock that is ahead, and read."""
    table, caller, read = world.table.memory, world.caller(B), []

    def told(name: str) -> Change:
        return Change(B, name, "issuer-unknown", IssuerNews(name))

    def meanwhile(name: str) -> None:
        if name == "transact" and not read:
            changes.tell(table, [told("quick")], world.now + timedelta(seconds=1))
            read.append(changes.read_changes(table, caller, None, 10, 0, lambda: world.now))

    changes.tell(Watched(table, meanwhile), [told("slow")], world.now)
    (page,) = read
    after = changes.read_changes(table, caller, page["next"], 10, 0, lambda: world.now)["changes"]
    assert [change["issuer_name"] for change in (*page["changes"], *after)] == ["quick", "slow"]


def test_records_that_come_again_tell_nothing_again(world: World) -> None:
    world.arrive(A, "1", "1.2.1")
    transfer = world.open(A, "1", B)
    world.end(A, transfer)
    batch, world.table.pending = world.table.pending, []
    world.deliver(batch)
    once = world.changes(A), world.changes(B)
    for _ in range(3):
        world.deliver(batch)
        world.deliver(batch[::-1])
    assert (world.changes(A), world.changes(B)) == once


def test_a_page_that_is_full_of_what_is_hidden_goes_on_to_what_is_not(world: World) -> None:
    for number in range(30):
        world.arrive(A, "hidden", f"1.2.{number}")
    world.open(A, "hidden", B)
    world.settle()
    world.arrive(A, "1", "1.3.1")
    world.open(A, "1", B)
    world.settle()
    world.object(A, "hidden")
    world.settle()
    (first,) = [change for change in world.changes(B, limit=5) if change["kind"] == "study-arrived"]
    assert first["study_instance_uid"] == "1.3.1"


def test_who_does_not_wait_gets_past_thousands_that_are_hidden(world: World) -> None:
    world.arrive(A, "hidden", "1.2.1")
    world.open(A, "hidden", B)
    world.settle()
    known = world.changes(B)
    news = StudyNews(A, "1.2.1", 1)
    for _ in range(60):
        again = [Change(B, "again", "study-updated", news) for _ in range(90)]
        assert not world.table.transact(changes.entry_writes(world.table, again, world.now))
    world.object(A, "hidden")
    world.settle()
    world.arrive(A, "1", "1.3.1")
    world.open(A, "1", B)
    world.settle()
    assert "1.3.1" in [change.get("study_instance_uid") for change in world.changes(B, known[-1]["cursor"], limit=100)]


def test_a_long_poll_answers_as_soon_as_something_happens_and_else_after_its_time(world: World) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            world.arrive(A, "1", "1.2.1")
            world.settle()
        if len(slept) > 500:
            raise AssertionError("it never ends")

    answer = changes.read_changes(world.table, world.caller(A), None, 10, 20, lambda: world.now, sleep)
    assert [change["kind"] for change in answer["changes"]] == ["study-arrived"]
    assert len(slept) == 3
    started = time.monotonic()
    waiting = threading.Event()
    answer = changes.read_changes(world.table, world.caller(B), None, 10, 0.3, lambda: world.now, waiting.wait)
    assert answer == {"changes": [], "next": "0" * 20}
    assert 0.3 <= time.monotonic() - started < 5


def test_a_long_poll_of_more_than_20_seconds_is_one_of_20(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert changes.MAX_WAIT == 20
    monkeypatch.setattr(changes, "MAX_WAIT", 0.1)
    started = time.monotonic()
    answer = changes.read_changes(world.table, world.caller(B), None, 10, 999_999_999, lambda: world.now)
    assert (answer["changes"], time.monotonic() - started < 5) == ([], True)


def test_a_reader_may_begin_with_what_comes_from_now_on(world: World) -> None:
    world.arrive(A, "1", "1.2.1")
    world.settle()
    world.now += timedelta(hours=1)
    answer = changes.read_changes(world.table, world.caller(A), "now", 10, 20, lambda: world.now)
    assert answer["changes"] == []
    world.arrive(A, "2", "1.2.2")
    world.settle()
    after = changes.read_changes(world.table, world.caller(A), answer["next"], 10, 0, lambda: world.now)
    assert [change["study_instance_uid"] for change in after["changes"]] == ["1.2.2"]
    empty = changes.read_changes(world.table, world.caller(B), "now", 10, 20, lambda: world.now)
    assert empty["next"] == changes.read_changes(world.table, world.caller(A), "now", 10, 20, lambda: world.now)["next"]


@pytest.mark.parametrize("since", ["", "1", "x" * 20, "٣" * 20, "0" * 21, "-0000000000000000001", "9" * 20])
def test_a_cursor_that_was_not_given_is_refused(world: World, since: str) -> None:
    if since:
        with pytest.raises(BadRequest):
            world.changes(A, since)
