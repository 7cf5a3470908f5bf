"""An event that is lost leaves nothing unread: what was offered, is stored and has no verdict is announced until it has one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from chalicelib.domain.errors import TryAgain
from chalicelib.services.ingest import offers, uploads
from chalicelib.services.ingest.uploads import UploadOffer
from tests.archive import NOW, Archive, image
from tests.fakes import Watched

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def offer(archive: Archive, contents: Sequence[bytes], institution: str = "san-matteo", at: datetime = NOW) -> list[str]:
    wanted = [UploadOffer(hashlib.sha256(one).hexdigest(), len(one)) for one in contents]
    answers = uploads.request_uploads(archive.table, archive.objects, archive.announced.append, institution, wanted, at)
    return [one["state"] for one in answers]


def sweep(archive: Archive, at: datetime) -> int:
    return offers.announce_lost(archive.table, archive.objects, archive.announced.append, at)


def images(count: int) -> list[bytes]:
    return [image(sop=str(number)) for number in range(1, count + 1)]


def keys(*contents: bytes, institution: str = "san-matteo") -> dict[str, int]:
    return {f"instances/{institution}/{hashlib.sha256(one).hexdigest()}": len(one) for one in contents}


def test_what_is_offered_again_without_a_verdict_is_announced_at_once() -> None:
    archive = Archive()
    here, absent, read = images(3)
    archive.send("san-matteo", read)
    archive.store("san-matteo", here)
    assert offer(archive, [here, absent, read, here]) == ["stored", "absent", "indexed", "stored"]
    assert archive.announced == [keys(here)]


def test_the_sweep_announces_what_is_stored_and_unread_and_nothing_else() -> None:
    archive = Archive()
    lost, read, absent = images(3)
    offer(archive, [lost, read, absent])
    archive.send("san-matteo", read)
    archive.store("san-matteo", lost)
    assert sweep(archive, NOW + 9 * MINUTE) == 0
    assert sweep(archive, NOW + 10 * MINUTE) == 1
    assert archive.announced == [keys(lost)]


def test_it_repeats_less_and_less_often_until_there_is_a_verdict() -> None:
    archive = Archive()
    (lost,) = images(1)
    offer(archive, [lost])
    archive.store("san-matteo", lost)
    looked = [minute for minute in range(5, 100, 5) if sweep(archive, NOW + minute * MINUTE)]
    assert looked == [10, 30, 90]
    archive.send("san-matteo", lost)
    assert sum(sweep(archive, NOW + hours * HOUR) for hours in range(2, 100)) == 0


def test_what_comes_late_is_found_and_what_never_comes_is_forgotten() -> None:
    archive = Archive()
    late, never = images(2)
    offer(archive, [late, never])
    assert sum(sweep(archive, NOW + minute * MINUTE) for minute in range(5, 60, 5)) == 0
    archive.store("san-matteo", late)
    assert sweep(archive, NOW + 90 * MINUTE) == 1
    archive.send("san-matteo", late)
    for hours in range(2, 100):
        sweep(archive, NOW + hours * HOUR)
    asked = list[str]()
    offers.announce_lost(Watched(archive.table, asked.append), archive.objects, archive.announced.append, NOW + 100 * HOUR)
    assert asked.count("batch_get") == 0


def test_what_no_indexer_can_read_is_given_up_after_days() -> None:
    archive = Archive()
    (lost,) = images(1)
    offer(archive, [lost])
    archive.store("san-matteo", lost)
    announced = [hours for hours in range(1, 24 * 10) if sweep(archive, NOW + hours * HOUR)]
    assert 3 <= len(announced) <= 8
    assert announced[-1] <= 24 * 5


def test_a_quiet_run_reads_one_item_and_two_partitions_at_the_most() -> None:
    archive = Archive()
    sweep(archive, NOW)
    asked = list[str]()
    offers.announce_lost(Watched(archive.table, asked.append), archive.objects, archive.announced.append, NOW + 5 * MINUTE)
    assert sorted(asked) in (["get", "put", "query"], ["get", "put", "query", "query"])


def test_a_run_that_fails_is_made_up_for_by_the_next() -> None:
    archive = Archive()
    contents = images(3)
    for one in contents:
        offer(archive, [one])
        archive.store("san-matteo", one)
    told: list[dict[str, int]] = []

    def busy(sizes: object) -> None:
        if told:
            raise TryAgain
        told.append(dict(sizes))  # type: ignore[call-overload]

    with pytest.raises(TryAgain):
        offers.announce_lost(archive.table, archive.objects, busy, NOW + 10 * MINUTE)
    sweep(archive, NOW + 15 * MINUTE)
    assert {key for sizes in archive.announced for key in sizes} == set(keys(*contents))


def test_a_run_is_bounded_and_the_next_goes_on_from_there() -> None:
    archive = Archive()
    (lost,) = images(1)
    for number in range(9):
        wanted = [UploadOffer(hashlib.sha256(f"{number} {one}".encode()).hexdigest(), 1) for one in range(500)]
        uploads.request_uploads(archive.table, archive.objects, archive.announced.append, "maugeri", wanted, NOW)
    offer(archive, [lost], at=NOW + MINUTE)
    archive.store("san-matteo", lost)
    found = [sweep(archive, NOW + (15 + 5 * run) * MINUTE) for run in range(4)]
    assert found[0] == 0
    assert sum(found) == 1


def test_the_day_that_it_did_not_run_is_made_up_for() -> None:
    archive = Archive()
    (lost,) = images(1)
    sweep(archive, NOW)
    offer(archive, [lost], at=NOW + HOUR)
    archive.store("san-matteo", lost)
    assert sweep(archive, NOW + DAY) == 1
