"""A forwarder that was heard and is heard no more is counted, one that never was is not."""

from __future__ import annotations

from datetime import timedelta

from chalicelib.services.operations import forwarders
from tests.streams import MOMENT
from tests.world import reading_world


def test_a_forwarder_is_silent_ten_minutes_after_its_last_sign_and_none_that_never_sent_any() -> None:
    archive = reading_world()
    assert forwarders.counted(archive.table, MOMENT)["silent"] == 0
    forwarders.heard(archive.table, "maugeri", {"version": "0.1.0"}, MOMENT)
    assert forwarders.counted(archive.table, MOMENT + timedelta(minutes=10))["silent"] == 0
    assert forwarders.counted(archive.table, MOMENT + timedelta(minutes=10, seconds=1))["silent"] == 1
    (seen,) = [
        forwarder
        for forwarder in forwarders.shown(archive.table, MOMENT + timedelta(hours=1))
        if forwarder["institution"] == "maugeri"
    ]
    assert (seen["silent"], seen["age_seconds"]) == (True, 3600)
