"""Fixtures of the proof that sharing keeps its promises."""

from __future__ import annotations

import pytest

from tests.sharing.world import World


@pytest.fixture
def world() -> World:
    """A city in memory with three hospitals, to which nothing has happened yet."""
    return World()
