"""What is no DICOM goes after a week, or when its sender asks; nothing else ever does."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import count

import pytest

from chalicelib.domain import keys
from chalicelib.domain.errors import Conflict, NotFound, TryAgain
from chalicelib.domain.ports import Item, Put, PutVersion, Version
from chalicelib.domain.rfc3339 import iso
from chalicelib.services.ingest import index as index_instances
from chalicelib.services.ingest import offers, read_again, removals, uploads
from chalicelib.services.ingest.instance_items import StoredObject
from chalicelib.services.ingest.summaries import begins_as_dicom, read_summary
from chalicelib.services.ingest.uploads import UploadOffer
from tests.fakes import MemoryVersions, Watched
from tests.streams import MOMENT
from tests.world import World, image, reading_world

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
JUNK = b"PK\x03\x04 a folder that somebody had zipped" * 9
BARE = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100\x08\x00\x60\x00CS\x02\x00CT"
"""A data set without File Meta Information and without a UID: rejected as no DICOM, and yet perhaps an image."""


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def key(content: bytes, institution: str = "maugeri") -> str:
    return f"instances/{institution}/{sha(content)}"


def sweep(archive: World, at: datetime, versions: MemoryVersions | None = None, seconds: float = 60.0) -> int:
    of = versions or MemoryVersions(archive.objects)
    return removals.remove_due(archive.table, of, begins_as_dicom, at, lambda: seconds, archive.act)


class Sweep:
    """The function that the API asks."""

    def __init__(self, archive: World, at: datetime = MOMENT) -> None:
        self._archive, self._at = archive, at

    def remove(self, institution: str, sha256: str) -> bool:
        archive = self._archive
        return removals.remove(
            archive.table, MemoryVersions(archive.objects), begins_as_dicom,
            StoredObject(institution, sha256, 0), self._at, archive.act,
        )  # fmt: skip


def remove(archive: World, institution: str, content: bytes) -> None:
    uploads.remove(archive.table, archive.objects, Sweep(archive), institution, sha(content))


def offer(archive: World, *contents: bytes, institution: str = "maugeri", at: datetime = MOMENT) -> list[str]:
    wanted = [UploadOffer(sha(content), len(content)) for content in contents]
    answers = uploads.request_uploads(archive.table, archive.objects, archive.announced.append, institution, wanted, at)
    return [status["state"] for status in answers]


def test_it_goes_a_week_after_its_verdict_and_not_before() -> None:
    archive = reading_world()
    assert archive.bring("maugeri", JUNK) == ["rejected"]
    assert [sweep(archive, MOMENT + days * DAY) for days in (0, 1, 6)] == [0, 0, 0]
    assert key(JUNK) in archive.objects.contents
    assert sweep(archive, MOMENT + 7 * DAY) == 1
    assert archive.objects.contents == {}
    assert sweep(archive, MOMENT + 8 * DAY) == 0


def test_its_verdict_stays_and_says_that_it_is_gone() -> None:
    archive = reading_world()
    archive.bring("maugeri", JUNK)
    sweep(archive, MOMENT + 7 * DAY)
    assert archive.status("maugeri", JUNK) == {
        "sha256": sha(JUNK), "state": "rejected", "reason": "not-dicom", "removed_at": "2026-03-09T09:30:00.000Z",
    }  # fmt: skip


def test_its_sender_has_it_removed_at_once_and_may_ask_again() -> None:
    archive = reading_world()
    archive.bring("maugeri", JUNK)
    for _ in range(2):
        remove(archive, "maugeri", JUNK)
        assert archive.objects.contents == {}
    assert archive.status("maugeri", JUNK)["state"] == "rejected"


def test_who_did_not_send_it_cannot_tell_it_from_what_is_not_there() -> None:
    archive = reading_world()
    archive.bring("maugeri", JUNK)
    for content in (JUNK, b"never sent"):
        with pytest.raises(NotFound):
            remove(archive, "san-matteo", content)
    assert key(JUNK) in archive.objects.contents


def test_sent_again_it_is_absent_first_then_rejected_then_gone_again() -> None:
    archive = reading_world()
    archive.bring("maugeri", JUNK)
    remove(archive, "maugeri", JUNK)
    assert offer(archive, JUNK) == ["absent"]
    assert archive.bring("maugeri", JUNK) == ["rejected"]
    assert "removed_at" not in archive.status("maugeri", JUNK)
    assert offer(archive, JUNK) == ["rejected"]
    assert sweep(archive, MOMENT + 7 * DAY) == 1
    assert archive.objects.contents == {}


def test_sent_again_it_has_a_week_of_its_own() -> None:
    archive = reading_world()
    archive.bring("maugeri", JUNK)
    remove(archive, "maugeri", JUNK)
    archive.index_batch(archive.put_objects("maugeri", JUNK), now=MOMENT + 3 * DAY)
    assert sweep(archive, MOMENT + 7 * DAY) == 0
    assert sweep(archive, MOMENT + 10 * DAY) == 1


def test_nothing_is_removed_that_was_not_read() -> None:
    class Vanishing(MemoryVersions):
        def read(self, key: str, version: str, length: int) -> bytes:
            raise NotFound

    archive = reading_world()
    archive.bring("maugeri", JUNK)
    assert sweep(archive, MOMENT + 7 * DAY, Vanishing(archive.objects)) == 0
    assert key(JUNK) in archive.objects.contents
    assert sweep(archive, MOMENT + 8 * DAY) == 1


def test_sent_again_its_event_may_be_lost_as_any_other() -> None:
    archive = reading_world()
    archive.bring("maugeri", JUNK)
    remove(archive, "maugeri", JUNK)
    assert offer(archive, JUNK) == ["absent"]
    archive.put_objects("maugeri", JUNK)
    assert offers.announce_lost(archive.table, archive.objects, archive.announced.append, MOMENT + 10 * MINUTE) == 1
    assert offer(archive, JUNK, at=MOMENT + 11 * MINUTE) == ["stored"]


@pytest.mark.parametrize("content", [BARE, image(), image()[:400], bytes(128) + b"DICM" + JUNK, b"MZ" + image()[2:]])
def test_what_begins_as_dicom_does_is_kept_whatever_its_verdict(content: bytes) -> None:
    archive = reading_world()
    archive.bring("maugeri", content)
    first = keys.verdict("maugeri", sha(content))
    archive.table.put(Put(Item(*first, {"state": "rejected", "reason": "not-dicom", "at": iso(MOMENT), "size": len(content)})))
    archive.table.put(Put(removals.due(StoredObject("maugeri", sha(content), len(content)), MOMENT)))
    with pytest.raises(Conflict):
        remove(archive, "maugeri", content)
    assert sweep(archive, MOMENT + 7 * DAY) == 0
    assert key(content) in archive.objects.contents


@pytest.mark.parametrize("content", [image(), b"MZ" + image()[2:], image()[:400]])
def test_what_has_any_other_verdict_is_no_candidate(content: bytes) -> None:
    archive = reading_world()
    archive.bring("maugeri", content)
    assert not Sweep(archive).remove("maugeri", sha(content))
    with pytest.raises(Conflict):
        remove(archive, "maugeri", content)
    assert sum(sweep(archive, MOMENT + days * DAY) for days in range(30)) == 0
    assert key(content) in archive.objects.contents


def test_what_waits_for_its_verdict_is_no_candidate() -> None:
    archive = reading_world()
    archive.put_objects("maugeri", JUNK)
    with pytest.raises(Conflict):
        remove(archive, "maugeri", JUNK)
    assert key(JUNK) in archive.objects.contents


def test_what_a_later_reader_takes_is_none_any_more_however_close_the_two_come() -> None:
    archive = reading_world()
    archive.bring("maugeri", JUNK)
    pk = keys.verdict("maugeri", sha(JUNK))[0]
    taken = PutVersion(Item(pk, keys.LATER, {"state": "indexed", "at": "x", "size": 1}, version=1), 0)

    def meanwhile(name: str) -> None:
        if name == "transact":
            archive.memory.put(taken)

    archive.table = Watched(archive.memory, meanwhile)
    with pytest.raises(TryAgain):
        Sweep(archive).remove("maugeri", sha(JUNK))
    assert key(JUNK) in archive.objects.contents
    assert not Sweep(archive).remove("maugeri", sha(JUNK))


def test_every_version_goes_that_was_looked_at_and_no_other() -> None:
    class Several(MemoryVersions):
        there = ["3", "2", "1"]  # noqa: RUF012

        def of(self, key: str) -> list[Version]:
            return [Version(version, version == "3") for version in self.there]

        def remove(self, key: str, version: str) -> None:
            self.there = [kept for kept in self.there if kept != version] + (["4"] if version == "1" else [])

    archive, several = reading_world(), None
    archive.bring("maugeri", JUNK)
    several = Several(archive.objects)
    assert sweep(archive, MOMENT + 7 * DAY, several) == 1
    assert several.there == ["4"]


def test_a_store_that_does_not_answer_holds_up_no_other_and_is_asked_again() -> None:
    asked = count()

    class Throttled(MemoryVersions):
        def of(self, key: str) -> list[Version]:
            if next(asked) == 0:
                raise TryAgain
            return super().of(key)

    archive = reading_world()
    archive.bring("maugeri", JUNK, JUNK + b"2")
    assert sweep(archive, MOMENT + 7 * DAY, Throttled(archive.objects)) == 1
    assert len(archive.objects.contents) == 1
    assert sweep(archive, MOMENT + 8 * DAY) == 1
    assert archive.objects.contents == {}


def test_a_run_that_dies_is_made_up_for_by_the_next() -> None:
    class Dying(MemoryVersions):
        def remove(self, key: str, version: str) -> None:
            raise RuntimeError

    archive = reading_world()
    archive.bring("maugeri", JUNK, JUNK + b"2")
    with pytest.raises(RuntimeError):
        sweep(archive, MOMENT + 7 * DAY, Dying(archive.objects))
    sweep(archive, MOMENT + 7 * DAY + 5 * MINUTE)
    assert archive.objects.contents == {}


def test_a_run_ends_while_there_is_time_and_the_next_goes_on_from_there() -> None:
    archive = reading_world()
    archive.bring("maugeri", JUNK, JUNK + b"2")
    assert sweep(archive, MOMENT + 7 * DAY, seconds=5.0) == 0
    assert sweep(archive, MOMENT + 7 * DAY + 5 * MINUTE) == 2


def test_a_quiet_run_reads_one_item_and_two_partitions_at_the_most() -> None:
    archive = reading_world()
    archive.bring("maugeri", JUNK)
    sweep(archive, MOMENT)
    asked = list[str]()
    archive.table = Watched(archive.memory, asked.append)
    sweep(archive, MOMENT + 5 * MINUTE)
    assert sorted(asked) in (["get", "put", "query"], ["get", "put", "query", "query"])


def test_many_at_once_are_all_rejected_and_all_removed() -> None:
    archive = reading_world()
    contents = [JUNK + bytes([number]) for number in range(120)]
    assert set(archive.bring("maugeri", *contents, image())) == {"rejected", "indexed"}
    assert sweep(archive, MOMENT + 7 * DAY) == 120
    assert [content for content in archive.objects.contents if content.startswith("instances/")] == [key(image())]


def test_two_deliveries_of_one_event_are_one_verdict() -> None:
    archive = reading_world()
    stored = archive.put_objects("maugeri", JUNK, JUNK + b"2")
    archive.index_batch(stored[:1])
    copied = archive.memory.copied()

    def late(name: str) -> None:
        if name == "transact":  # the other delivery is done between this one's reading and writing
            archive.memory._items = copied._items

    archive.memory._items = {k: v for k, v in archive.memory._items.items() if "OBJECT" not in k[0] and "REMOVAL" not in k[0]}
    assert archive.index_batch(stored, Watched(archive.memory, late)) == {}
    assert [archive.state(item) for item in stored] == ["rejected", "rejected"]


def test_what_an_earlier_release_would_have_kept_for_ever_gets_its_week_when_it_is_read_again() -> None:
    archive = reading_world()
    archive.bring("maugeri", JUNK)
    archive.memory._items = {k: v for k, v in archive.memory._items.items() if not k[0].startswith(("F#REMOVAL", "V#REMOVAL"))}
    act = lambda _: lambda writes, *entries: archive.table.transact(writes)  # noqa: E731
    read_again.sweep(archive.table, archive.objects, read_summary, MOMENT + DAY, lambda: 60.0, act=act)
    assert sweep(archive, MOMENT + 7 * DAY) == 0
    assert sweep(archive, MOMENT + 8 * DAY) == 1


def test_what_was_removed_and_a_later_reader_takes_when_it_comes_again_is_indexed() -> None:
    archive = reading_world()
    archive.bring("maugeri", JUNK)
    remove(archive, "maugeri", JUNK)
    archive.put_objects("maugeri", JUNK)

    def better(*_: object) -> object:
        return read_summary(lambda start, length: image()[start : start + length], len(image()))

    act = lambda _: lambda writes, *entries: archive.table.transact(writes)  # noqa: E731
    stored: Sequence[StoredObject] = [StoredObject("maugeri", sha(JUNK), len(JUNK))]
    assert index_instances.index_instances(archive.table, archive.objects, better, MOMENT, stored, act=act) == {}  # type: ignore[arg-type]
    assert archive.state(stored[0]) == "indexed"
    assert not Sweep(archive).remove("maugeri", sha(JUNK))
