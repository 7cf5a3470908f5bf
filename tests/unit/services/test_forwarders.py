"""A forwarder that was heard and is heard no more is counted, one that never was is not."""

from __future__ import annotations

from datetime import timedelta

from chalicelib.services.operations import forwarders
from tests.archive import NOW, Archive


def test_a_forwarder_is_silent_ten_minutes_after_its_last_sign_and_none_that_never_sent_any() -> None:
    archive = Archive()
    assert forwarders.count_silent(archive.table, NOW) == 0
    forwarders.heard(archive.table, "maugeri", {"version": "0.1.0"}, NOW)
    assert forwarders.count_silent(archive.table, NOW + timedelta(minutes=10)) == 0
    assert forwarders.count_silent(archive.table, NOW + timedelta(minutes=10, seconds=1)) == 1
    (seen,) = [one for one in forwarders.shown(archive.table, NOW + timedelta(hours=1)) if one["institution"] == "maugeri"]
    assert (seen["silent"], seen["age_seconds"]) == (True, 3600)
