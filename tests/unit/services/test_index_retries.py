"""One throttled read does not put an urgent film back by the queue's visibility timeout: it is tried again at once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from chalicelib.domain.errors import NotFound, TryAgain
from chalicelib.services.ingest.instance_items import StoredObject
from chalicelib.services.ingest.retries import index_patiently
from tests.fakes import Watched, WatchedObjects
from tests.world import image, reading_world


class Throttled:
    """Fails the first so many calls of a name."""

    def __init__(self, name: str, times: int) -> None:
        self.name, self.left = name, times

    def __call__(self, name: str) -> None:
        if name == self.name and self.left:
            self.left -= 1
            raise TryAgain


class Clock:
    """Seconds left of an invocation; sleeping uses them up."""

    def __init__(self, left: float = 70.0) -> None:
        self.left = left
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.left -= seconds


@pytest.mark.parametrize(
    ("call", "of"), [("read", "objects"), ("batch_get", "table"), ("transact", "table"), ("write", "objects")]
)
def test_what_is_throttled_twice_is_indexed_within_seconds_in_the_same_invocation(call: str, of: str) -> None:
    archive, clock, fault = reading_world(), Clock(), Throttled(call, 2)
    stored = archive.put_objects("san-matteo", *(image(sop=str(number)) for number in range(3)))
    table = Watched(archive.table, fault if of == "table" else lambda name: None)
    objects = WatchedObjects(archive.objects.contents, fault if of == "objects" else lambda name: None)

    def attempt(some: Sequence[StoredObject]) -> dict[StoredObject, Exception]:
        return archive.index_batch(some, table, objects, lambda: clock.left)  # type: ignore[arg-type]

    assert index_patiently(attempt, stored, lambda: clock.left, clock.sleep) == {}
    assert fault.left == 0
    assert sum(clock.slept) < 5
    archive.project_all()
    assert [archive.state(item) for item in stored] == ["indexed"] * 3


def test_it_gives_up_while_there_is_time_to_say_so_and_keeps_what_is_done() -> None:
    clock = Clock()
    good, bad = StoredObject("san-matteo", "a" * 64, 1), StoredObject("san-matteo", "b" * 64, 1)
    asked: list[list[StoredObject]] = []

    def attempt(some: Sequence[StoredObject]) -> dict[StoredObject, Exception]:
        asked.append(list(some))
        return {stored: TryAgain() for stored in some if stored == bad}

    failed = index_patiently(attempt, [good, bad, good], lambda: clock.left, clock.sleep)
    assert set(failed) == {bad}
    assert asked[0] == [good, bad]
    assert all(some == [bad] for some in asked[1:])
    assert 5 < len(asked) < 20
    assert clock.left >= 19


def test_what_fails_for_good_is_not_tried_again() -> None:
    wrong = StoredObject("san-matteo", "a" * 64, 1)
    asked: list[int] = []

    def attempt(some: Sequence[StoredObject]) -> dict[StoredObject, Exception]:
        asked.append(len(some))
        return {wrong: NotFound()}

    assert set(index_patiently(attempt, [wrong], lambda: 60.0, lambda seconds: None)) == {wrong}
    assert asked == [1]


def test_a_table_that_answers_nobody_fails_all_and_not_the_invocation() -> None:
    clock = Clock(25.0)
    stored = [StoredObject("san-matteo", digit * 64, 1) for digit in "ab"]

    def attempt(some: Sequence[StoredObject]) -> dict[StoredObject, Exception]:
        raise TryAgain

    assert set(index_patiently(attempt, stored, lambda: clock.left, clock.sleep)) == set(stored)
