"""Damaged bytes, slow clients and ones that never stop, at every door: nobody else notices (`python -m tests.fuzz.doors`)."""

from __future__ import annotations

import json

import pytest

from tests.fuzz.doors import doors_of, hostile, said
from tests.integration.door.doors import Doors


@pytest.mark.filterwarnings("ignore")
def test_whatever_comes_to_a_door_nobody_else_notices(doors: Doors) -> None:
    def pids() -> set[int]:
        return {load["pid"] for load in json.loads((doors.city.state / "endpoints.json").read_text())["forwarders"].values()}

    before = pids()
    assert hostile(doors.city, seed=1, runs=25, slow=24, never_stop=False) == []
    assert pids() == before
    assert doors.city.process.poll() is None


def test_a_header_that_cannot_be_passed_on_is_a_bad_request(doors: Doors) -> None:
    """It had been an error of ours: no header of such bytes can be sent to the archive (RFC 9110 5.5)."""
    page = next(door for door in doors_of(doors.city) if door.name == "page")
    request = page.seeds[2].replace(b"application/dicom+json", b"application/dicom\xea+json")
    assert said(page.address, request).startswith(b"HTTP/1.1 400 ")
