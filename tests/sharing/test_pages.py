"""Paging through a long study reads what a page shows, and not what came before it."""

from __future__ import annotations

from typing import Any

import pytest

from chalicelib.dicomweb.qido import SearchScope, parse_query
from chalicelib.domain.ports import Page
from chalicelib.services.finding import search
from tests.fakes import Watched
from tests.world import A, B, C, World

STUDY = "1.2.1"
COUNT, LIMIT = 60, 10


class Counting(Watched):
    """A table that counts the items of facts and of series' views that are read from it."""

    def __init__(self, table: Any) -> None:
        super().__init__(table, lambda name: None)
        self.read = 0

    def query(self, pk: str, *arguments: Any, **options: Any) -> Page:
        page = super().query(pk, *arguments, **options)
        self.read += len(page.items) if pk.startswith(("F#STUDY#", "V#SERIES#")) else 0
        return page


@pytest.fixture
def city(world: World) -> World:
    world.table.memory._page = 10
    for number in range(COUNT):
        world.arrive(A, "1", STUDY, f"{STUDY}.1.{number:02}", series=f"{STUDY}.{number % 3}")
    world.open(A, "1", B)
    world.settle()
    return world


def page(
    table: Any, world: World, who: str, offset: int, level: Any = "instance", series: str | None = None, **keys: str
) -> list[str]:
    query = parse_query(level, [("limit", str(LIMIT)), ("offset", str(offset)), *keys.items()], SearchScope(STUDY, series))
    found = search.search(table, world.caller(who), query, world.now)
    return [str(match.sop or match.series) for match in found.matches]


@pytest.mark.parametrize("who", [A, B])
def test_pages_of_a_study_read_what_they_show_and_have_each_instance_once(city: World, who: str) -> None:
    shown: list[str] = []
    for offset in range(0, COUNT, LIMIT):
        table = Counting(city.table)
        shown += page(table, city, who, offset)
        assert table.read <= 2 * LIMIT + 10, f"{table.read} items for the page at {offset}"
    assert len(shown) == len(set(shown)) == COUNT
    assert page(city.table, city, who, COUNT) == []
    assert page(city.table, city, who, 25) == shown[25:35], "an offset that nobody came to"


def test_pages_of_one_series_and_of_a_narrower_search_are_their_own(city: World) -> None:
    series = f"{STUDY}.1"
    every = [f"{STUDY}.1.{number:02}" for number in range(COUNT) if number % 3 == 1]
    assert page(city.table, city, A, 0) != page(city.table, city, A, 0, series=series) == every[:10]
    assert page(city.table, city, A, 10, series=series) == every[10:]
    assert page(city.table, city, A, 10, SeriesInstanceUID=series) == every[10:]
    assert page(city.table, city, A, 0, level="series") == [f"{STUDY}.{number}" for number in range(3)]


def test_what_comes_or_is_withdrawn_between_two_pages_is_counted(city: World) -> None:
    first = page(city.table, city, A, 0)
    city.arrive(A, "1", STUDY, f"{STUDY}.1.000", series=f"{STUDY}.0")
    city.withdraw(A, STUDY, first[3])
    city.settle()
    shown = [study for offset in range(0, COUNT + 10, LIMIT) for study in page(city.table, city, A, offset)]
    assert len(shown) == len(set(shown)) == COUNT
    assert f"{STUDY}.1.000" in shown
    assert first[3] not in shown


def test_what_may_not_be_seen_is_not_found_at_any_page(city: World) -> None:
    from chalicelib.domain.errors import NotFound

    page(city.table, city, A, 0)
    for offset in (0, LIMIT):
        with pytest.raises(NotFound):
            page(city.table, city, C, offset)
