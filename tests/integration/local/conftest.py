"""A city around the stand-in app: what is tested here is the city, not the archive."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness import RunningCity, running_city

STANDIN = ("--app", "tests.integration.local.standin", "--member-accounts", "210987654321,222222222222")


@pytest.fixture(scope="session")
def standin_city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCity]:
    with running_city(tmp_path_factory.mktemp("standin"), *STANDIN) as running:
        yield running
