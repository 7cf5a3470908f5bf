"""The projector: any order and repetition of the same facts, by several at once, ends in the same views."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cache
from itertools import cycle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.domain import transfers
from chalicelib.domain.errors import TryAgain
from chalicelib.domain.ports import Item, Key, Put, Table, Write
from tests.archive import NOW, Archive, image, patient, project, streamed, views_of
from tests.fakes import MemoryTable, Watched
from tests.interleaving import interleave


class Streamed(MemoryTable):
    """A table whose changed facts wait in `stream` for a projector."""

    def __init__(self) -> None:
        super().__init__(page=5)
        self.stream: list[Key] = []

    def _write(self, writes: Sequence[Write]) -> list[bool]:
        before = self._items.copy()
        held = super()._write(writes)
        changed = [key for key, item in self._items.items() if before.get(key) != item]
        self.stream += streamed(changed)
        return held


# What happens: each line adds facts, in the order in which hospitals did it -----------------------------


def arrivals(archive: Archive) -> None:
    """Two studies of San Matteo, one of them in two series, and Maugeri's of the day after."""
    contents = [image(study="1.1", series=series, sop=sop, patient="SM1") for series in "12" for sop in "12"]
    contents.append(image(study="1.2", patient="SM1", date="20260210", accession="A7"))
    archive.deliver(archive.store("san-matteo", *contents))
    archive.deliver(archive.store("maugeri", image(study="1.3", patient="MG1", date="20260303")))


def announcement(archive: Archive) -> None:
    archive.announce("san-matteo", "1.1", ["a" * 64, "b" * 64])


def transfer(archive: Archive) -> None:
    archive.open_transfer("san-matteo", "maugeri", "SM1")


def named(archive: Archive) -> None:
    archive.accept(archive.transfers[0], "MG1")


def corrected(archive: Archive) -> None:
    archive.accept(archive.transfers[0], "MG2")


def ended(archive: Archive) -> None:
    archive.end_transfer(archive.transfers[0])


def expired(archive: Archive) -> None:
    archive.open_transfer("san-matteo", "mondino", "SM1", opened_at=NOW - timedelta(days=40), days=30)


def two_patients(archive: Archive) -> None:
    """A study that is filed under two patients."""
    archive.deliver(archive.store("san-matteo", image(study="1.1", series="3", patient="SM9")))


def hidden(archive: Archive) -> None:
    archive.objection("san-matteo", "SM1", "1.2")


def withdrawn(archive: Archive) -> None:
    archive.withdraw("san-matteo", "1.1", "1.1.2.1")
    archive.withdraw("san-matteo", "1.1", "1.1.2.2")


STORIES: dict[str, list[Callable[[Archive], None]]] = {
    "arrivals": [arrivals, announcement],
    "a transfer": [arrivals, transfer, named],
    "a transfer that ended": [arrivals, transfer, named, ended],
    "a number that was corrected": [arrivals, transfer, named, corrected],
    "an old transfer and a new one": [arrivals, expired, transfer],
    "two patients in one study": [arrivals, transfer, two_patients],
    "an objection": [arrivals, transfer, hidden],
    "a withdrawal": [arrivals, transfer, withdrawn],
}


@cache
def facts_of(story: str) -> list[Item]:
    """All facts of a story."""
    archive = Archive()
    for part in STORIES[story]:
        part(archive)
    return list(archive.facts().values())


def rebuilt(facts: Sequence[Item]) -> dict[Key, Item]:
    """The views, computed once everything was there."""
    table = Streamed()
    for fact in facts:
        table.put(Put(fact))
    while table.stream:
        keys, table.stream = table.stream, []
        assert project(table, [("0", *key) for key in keys]) is None
    return views_of(table)


def played(facts: Sequence[Item], projectors: int, dice: Sequence[int], turns: Sequence[int]) -> dict[Key, Item]:
    """The views after one function wrote the facts while others projected what the stream had for them.

    `dice` says which event a projector takes next and whether it comes once more; `turns`, whose call on the table is next.
    """
    table = Streamed()
    written = [False]
    rolls = cycle(dice)
    repeated: set[Key] = set()

    def write(seen: Table) -> None:
        for fact in facts:
            seen.put(Put(fact))
        written[0] = True

    def follow(seen: Table) -> None:
        while not written[0] or table.stream:
            if not table.stream:
                seen.get("nothing", "yet")
                continue
            roll = next(rolls)
            key = table.stream.pop(roll % len(table.stream))
            if roll % 3 == 0 and key not in repeated:
                repeated.add(key)
                table.stream.append(key)
            assert project(seen, [("0", *key)]) is None

    interleave(table, [write, *[follow] * projectors], turns)
    assert table.stream == []
    return views_of(table)


@pytest.mark.parametrize("story", STORIES)
def test_a_story_ends_in_views_that_say_something(story: str) -> None:
    views = rebuilt(facts_of(story))
    assert {pk.split("#")[1] for pk, _ in views} == {"STUDY", "SERIES", "SEE"}


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_order_and_repetition_by_several_projectors_at_once_ends_in_the_same_views(data: st.DataObject) -> None:
    story = data.draw(st.sampled_from(sorted(STORIES)))
    facts = data.draw(st.permutations(facts_of(story)))
    dice = data.draw(st.lists(st.integers(0, 99), min_size=1, max_size=20))
    turns = data.draw(st.lists(st.integers(0, 11), min_size=1, max_size=60))
    views = played(facts, data.draw(st.integers(1, 3)), dice, turns)
    assert views == rebuilt(facts)


def rows_of(views: dict[Key, Item]) -> set[Key]:
    """Who can find what."""
    return {key for key in views if key[0].startswith("V#SEE#")}


def test_a_projection_that_saw_a_transfer_does_not_put_it_back_after_its_end() -> None:
    """The slow one reads between opening and end; the quick one finds that nothing changed since the view was written."""
    facts = facts_of("arrivals")
    opened, ended_too = facts_of("a transfer"), facts_of("a transfer that ended")
    table = Streamed()
    for fact in facts:
        table.put(Put(fact))
    keys, table.stream = table.stream, []
    assert project(table, [("0", *key) for key in keys]) is None
    before = views_of(table)
    for fact in opened:
        table.put(Put(fact))
    slow, table.stream = table.stream, []

    def meanwhile(name: str) -> None:
        if name == "transact" and table.get("F#STUDY", "done") is None:
            table.put(Put(Item("F#STUDY", "done")))
            for fact in ended_too:
                table.put(Put(fact))
            quick, table.stream = [key for key in table.stream if key[0] != "F#STUDY"], []
            assert project(table, [("0", *key) for key in quick]) is None

    assert project(Watched(table, meanwhile), [("0", *key) for key in slow]) is None
    assert {key for key in views_of(table) if key[0].startswith("V#SEE#")} == {
        key for key in before if key[0].startswith("V#SEE#")
    }


# Failures --------------------------------------------------------------------------------------------


class Died(BaseException):
    """The function ends here."""


@pytest.mark.parametrize("story", ["a number that was corrected", "a withdrawal"])
def test_a_projector_that_dies_at_any_call_leaves_nothing_that_the_next_delivery_does_not_complete(story: str) -> None:
    facts = facts_of(story)
    expected = rebuilt(facts)
    changes = [("0", *key) for key in streamed(fact.key for fact in facts)]
    place = 0
    while True:
        table, calls = Streamed(), [0]
        for fact in facts:
            table.put(Put(fact))

        def die(name: str, calls: list[int] = calls, place: int = place) -> None:
            calls[0] += 1
            if calls[0] > place:
                raise Died

        try:
            assert project(Watched(table, die), changes) is None
            assert views_of(table) == expected
            return
        except Died:
            assert project(table, changes) is None
        assert views_of(table) == expected, f"died at call {place}"
        place += 1


def many_rows(numbers: int = 35) -> Archive:
    """A study that can be found under more numbers than one transaction can write rows."""
    archive = Archive()
    archive.deliver(archive.store("san-matteo", image(study="1.1", patient="SM1")))
    for number in range(numbers):
        opened = archive.open_transfer("san-matteo", "maugeri", "SM1", opened_at=NOW - timedelta(seconds=number))
        archive.accept(opened, f"MG{number}")
    for number in range(numbers):
        archive.link("san-matteo", "SM1", patient("san-matteo", f"SM{100 + number}"))
    return archive


def test_more_rows_than_one_transaction_takes_are_written_and_removed() -> None:
    archive = many_rows()
    archive.project_all()
    rows = [key for key in archive.views() if key[0].startswith("V#SEE#")]
    assert len(rows) > 100
    for opened in archive.transfers:
        archive.end_transfer(opened)
    archive.project_all()
    assert {pk for pk, _ in archive.views() if pk.startswith("V#SEE#")} == {"V#SEE#san-matteo#1.1"}


def test_a_projector_that_dies_between_two_parts_of_many_rows_is_completed_by_the_next_delivery() -> None:
    expected = many_rows()
    expected.project_all()
    archive, calls = many_rows(), [0]

    def die(name: str) -> None:
        calls[0] += name == "transact"
        if calls[0] > 1:
            raise Died

    with pytest.raises(Died):
        project(Watched(archive.table, die), [("0", "F#STUDY#san-matteo#1.1", "I#1.1.1#1.1.1.1")])
    assert archive.views() != expected.views()
    archive.project_all()
    assert archive.views() == expected.views()


def test_what_fails_is_delivered_again_from_there_on_and_what_came_before_is_done() -> None:
    archive = Archive()
    archive.deliver(archive.store("san-matteo", *(image(study=f"1.{number}", patient=f"SM{number}") for number in range(4))))
    changes = [(f"{number}", f"F#STUDY#san-matteo#1.{number}", "I#x") for number in range(4)]

    def busy(name: str) -> None:
        if name == "transact" and archive.memory.get("V#STUDY#1.1", "san-matteo") is not None:
            raise TryAgain

    failed = project(Watched(archive.table, busy), changes)
    assert failed is not None
    assert failed[0] == "2"
    assert {pk for pk, _ in archive.views() if pk.startswith("V#STUDY#")} == {"V#STUDY#1.0", "V#STUDY#1.1"}


def test_a_fact_that_cannot_be_looked_up_does_not_lose_those_before_it() -> None:
    archive = Archive()
    archive.deliver(archive.store("san-matteo", image(study="1.1", patient="SM1")))
    opened = archive.open_transfer("san-matteo", "maugeri", "SM1")
    changes = [("1", "F#STUDY#san-matteo#1.1", "I#x"), ("2", transfers.partition(opened.id), "OPEN")]
    queries = [0]

    def busy(name: str) -> None:
        queries[0] += name == "query"
        if name == "query" and queries[0] == 1:
            raise TryAgain

    failed = project(Watched(archive.table, busy), changes)
    assert failed is not None
    assert failed[0] == "2"
    assert ("V#STUDY#1.1", "san-matteo") in archive.views()


def test_summaries_are_the_same_whatever_the_order_of_a_thousand_instances() -> None:
    facts = facts_of("arrivals")
    for seed in range(5):
        shuffled = random.Random(seed).sample(facts, len(facts))
        assert rebuilt(shuffled) == rebuilt(facts)
