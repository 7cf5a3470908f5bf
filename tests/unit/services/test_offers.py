"""An event that is lost leaves nothing unread: what was offered, is stored and has no verdict is announced until it has one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from chalicelib.domain.errors import TryAgain
from chalicelib.services.ingest import offers, uploads
from chalicelib.services.ingest.uploads import UploadOffer
from tests.fakes import Watched
from tests.streams import MOMENT
from tests.world import World, image, reading_world

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def offer(archive: World, contents: Sequence[bytes], institution: str = "san-matteo", at: datetime = MOMENT) -> list[str]:
    wanted = [UploadOffer(hashlib.sha256(content).hexdigest(), len(content)) for content in contents]
    answers = uploads.request_uploads(archive.table, archive.objects, archive.announced.append, institution, wanted, at)
    return [status["state"] for status in answers]


def sweep(archive: World, at: datetime) -> int:
    return offers.announce_lost(archive.table, archive.objects, archive.announced.append, at)


def images(count: int) -> list[bytes]:
    return [image(sop=str(number)) for number in range(1, count + 1)]


def keys(*contents: bytes, institution: str = "san-matteo") -> dict[str, int]:
    return {f"instances/{institution}/{hashlib.sha256(content).hexdigest()}": len(content) for content in contents}


def test_what_is_offered_again_without_a_verdict_is_announced_at_once() -> None:
    archive = reading_world()
    here, absent, read = images(3)
    archive.bring("san-matteo", read)
    archive.put_objects("san-matteo", here)
    assert offer(archive, [here, absent, read, here]) == ["stored", "absent", "indexed", "stored"]
    assert archive.announced == [keys(here)]


def test_the_sweep_announces_what_is_stored_and_unread_and_nothing_else() -> None:
    archive = reading_world()
    lost, read, absent = images(3)
    offer(archive, [lost, read, absent])
    archive.bring("san-matteo", read)
    archive.put_objects("san-matteo", lost)
    assert sweep(archive, MOMENT + 9 * MINUTE) == 0
    assert sweep(archive, MOMENT + 10 * MINUTE) == 1
    assert archive.announced == [keys(lost)]


def test_it_repeats_less_and_less_often_until_there_is_a_verdict() -> None:
    archive = reading_world()
    (lost,) = images(1)
    offer(archive, [lost])
    archive.put_objects("san-matteo", lost)
    looked = [minute for minute in range(5, 100, 5) if sweep(archive, MOMENT + minute * MINUTE)]
    assert looked == [10, 30, 90]
    archive.bring("san-matteo", lost)
    assert sum(sweep(archive, MOMENT + hours * HOUR) for hours in range(2, 100)) == 0


def test_what_comes_late_is_found_and_what_never_comes_is_forgotten() -> None:
    archive = reading_world()
    late, never = images(2)
    offer(archive, [late, never])
    assert sum(sweep(archive, MOMENT + minute * MINUTE) for minute in range(5, 60, 5)) == 0
    archive.put_objects("san-matteo", late)
    assert sweep(archive, MOMENT + 90 * MINUTE) == 1
    archive.bring("san-matteo", late)
    for hours in range(2, 100):
        sweep(archive, MOMENT + hours * HOUR)
    asked = list[str]()
    offers.announce_lost(Watched(archive.table, asked.append), archive.objects, archive.announced.append, MOMENT + 100 * HOUR)
    assert asked.count("batch_get") == 0


def test_what_no_indexer_can_read_is_given_up_after_days() -> None:
    archive = reading_world()
    (lost,) = images(1)
    offer(archive, [lost])
    archive.put_objects("san-matteo", lost)
    announced = [hours for hours in range(1, 24 * 10) if sweep(archive, MOMENT + hours * HOUR)]
    assert 3 <= len(announced) <= 8
    assert announced[-1] <= 24 * 5


def test_a_quiet_run_reads_one_item_and_two_partitions_at_the_most() -> None:
    archive = reading_world()
    sweep(archive, MOMENT)
    asked = list[str]()
    offers.announce_lost(Watched(archive.table, asked.append), archive.objects, archive.announced.append, MOMENT + 5 * MINUTE)
    assert sorted(asked) in (["get", "put", "query"], ["get", "put", "query", "query"])


def test_a_run_that_fails_is_made_up_for_by_the_next() -> None:
    archive = reading_world()
    contents = images(3)
    for content in contents:
        offer(archive, [content])
        archive.put_objects("san-matteo", content)
    told: list[dict[str, int]] = []

    def busy(sizes: object) -> None:
        if told:
            raise TryAgain
        told.append(dict(sizes))  # type: ignore[call-overload]

    with pytest.raises(TryAgain):
        offers.announce_lost(archive.table, archive.objects, busy, MOMENT + 10 * MINUTE)
    sweep(archive, MOMENT + 15 * MINUTE)
    assert {key for sizes in archive.announced for key in sizes} == set(keys(*contents))


def test_a_run_is_bounded_and_the_next_goes_on_from_there() -> None:
    archive = reading_world()
    (lost,) = images(1)
    for number in range(9):
        wanted = [UploadOffer(hashlib.sha256(f"{number} {place}".encode()).hexdigest(), 1) for place in range(500)]
        uploads.request_uploads(archive.table, archive.objects, archive.announced.append, "maugeri", wanted, MOMENT)
    offer(archive, [lost], at=MOMENT + MINUTE)
    archive.put_objects("san-matteo", lost)
    found = [sweep(archive, MOMENT + (15 + 5 * run) * MINUTE) for run in range(4)]
    assert found[0] == 0
    assert sum(found) == 1


def test_the_day_that_it_did_not_run_is_made_up_for() -> None:
    archive = reading_world()
    (lost,) = images(1)
    sweep(archive, MOMENT)
    offer(archive, [lost], at=MOMENT + HOUR)
    archive.put_objects("san-matteo", lost)
    assert sweep(archive, MOMENT + DAY) == 1
