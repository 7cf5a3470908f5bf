"""Fixtures of the proof that sharing keeps its promises."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sharing.api import Api, api_over
from tests.world import World


@pytest.fixture
def world() -> World:
    """A city in memory with three hospitals, to which nothing has happened yet."""
    return World()


@pytest.fixture
def api() -> Iterator[Api]:
    """The API over a city in memory to which real DICOM files are sent, and whose clock is the real one."""
    with api_over() as api:
        yield api
