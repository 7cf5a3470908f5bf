"""Damaged bytes, slow clients and ones that never stop, at every door: nobody else notices (`python -m tests.fuzz.doors`)."""

from __future__ import annotations

import json

import pytest

from tests.fuzz.doors import hostile
from tests.integration.door.doors import Doors


@pytest.mark.filterwarnings("ignore")
def test_whatever_comes_to_a_door_nobody_else_notices(doors: Doors) -> None:
    def pids() -> set[int]:
        return {load["pid"] for load in json.loads((doors.city.state / "endpoints.json").read_text())["forwarders"].values()}

    before = pids()
    assert hostile(doors.city, seed=1, runs=25, slow=24, never_stop=False) == []
    assert pids() == before
    assert doors.city.process.poll() is None
