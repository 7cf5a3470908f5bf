"""The indexer: every verdict, every repetition, and every place where it can die."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.domain.errors import TryAgain
from chalicelib.domain.ports import Item, Key
from chalicelib.services.ingest.instance_items import StoredObject
from tests.fakes import MemoryObjects, Watched, WatchedObjects
from tests.unit.dicom import building
from tests.world import World, image, patient, reading_world


class Died(BaseException):
    """The function ends here, as when Lambda takes it away: nothing catches it."""


def test_an_instance_is_indexed_and_says_where_it_belongs() -> None:
    archive = reading_world()
    content = image(study="1.2.3", series="4", sop="5")
    assert archive.bring("san-matteo", content) == ["indexed"]
    status = archive.status("san-matteo", content)
    assert (status["study_instance_uid"], status["sop_instance_uid"]) == ("1.2.3", "1.2.3.4.5")
    assert archive.status("maugeri", content)["state"] == "absent"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"%PDF-1.4 not an image at all" * 20, "not-dicom"),
        (building.part10(building.identity() + building.identity(patient="P2")), "ambiguous-identifier"),
        (building.part10(building.identity(study="../../etc/x")), "invalid-uid"),
        (building.part10(building.identity(sop="1.2.9") + building.pixels()), "meta-mismatch"),
        (image(study="1.2.3")[:-40], "truncated"),
        (building.part10(building.identity(), preamble=b"MZ"), "executable-preamble"),
        (b"", "not-dicom"),
    ],
)
def test_what_is_not_fit_is_rejected_with_its_reason_and_its_neighbours_are_indexed(content: bytes, reason: str) -> None:
    archive = reading_world()
    good = [image(study="1.2.9", sop=str(number)) for number in range(3)]
    assert archive.bring("san-matteo", good[0], content, *good[1:]) == ["indexed", "rejected", "indexed", "indexed"]
    status = archive.status("san-matteo", content)
    assert status["reason"] == reason


def test_the_first_bytes_of_a_uid_stand_and_others_conflict_in_the_same_batch() -> None:
    archive = reading_world()
    first, second = image(comment="first"), image(comment="second")
    assert archive.bring("san-matteo", first, second) == ["indexed", "conflict"]
    assert archive.bring("san-matteo", second, first) == ["conflict", "indexed"]


def test_the_first_bytes_of_a_uid_stand_and_others_conflict_in_a_later_batch() -> None:
    archive = reading_world()
    first = image(comment="first")
    assert archive.bring("san-matteo", first) == ["indexed"]
    before = archive.facts()
    others = [image(comment="second"), image(comment="third", study="1.2.4", sop="1.2.3.1.1"), image(series="2", sop="1.2.3.1.1")]
    assert archive.bring("san-matteo", *others) == ["conflict"] * 3
    added = archive.facts().keys() - before.keys()
    assert {pk.split("#")[1] for pk, _ in added} <= {"OBJECT", "PATIENT", "SOP"}
    assert {sk.partition("#")[0] for pk, sk in added if pk.startswith("F#SOP#")} == {"CONFLICT"}
    assert archive.state(StoredObject("san-matteo", archive.objects.store("san-matteo", first), 1)) == "indexed"


def test_a_conflict_files_nothing_under_the_patient_that_it_names() -> None:
    archive = reading_world()
    assert archive.bring("san-matteo", image()) == ["indexed"]
    before = archive.facts()
    assert archive.bring("san-matteo", image(patient="P2", comment="other bytes")) == ["conflict"]
    assert [pk for pk, _ in archive.facts().keys() - before.keys() if pk.startswith("F#PATIENT#")] == []


def test_many_conflicts_of_one_uid_in_one_batch_leave_exactly_one_instance() -> None:
    archive = reading_world()
    states = archive.bring("san-matteo", *(image(comment=f"version {number}") for number in range(40)))
    assert sorted(states) == ["conflict"] * 39 + ["indexed"]
    assert sum(item.sk.startswith("I#") for item in archive.facts().values()) == 1


def test_the_same_bytes_of_two_hospitals_are_two_instances() -> None:
    archive = reading_world()
    content = image()
    assert archive.bring("san-matteo", content) == ["indexed"]
    assert archive.bring("maugeri", content) == ["indexed"]
    owners = {item.pk.split("#")[2] for item in archive.facts().values() if item.sk.startswith("I#")}
    assert owners == {"san-matteo", "maugeri"}


def test_a_message_that_comes_twice_changes_nothing() -> None:
    archive = reading_world()
    stored = archive.put_objects("san-matteo", *(image(sop=str(number)) for number in range(5)))
    assert archive.index_batch([*stored, *stored, stored[0]]) == {}
    once = archive.facts()
    assert archive.index_batch(stored[::-1]) == {}
    assert archive.facts() == once
    assert sum(item.sk.startswith("I#") for item in once.values()) == 5


def test_a_message_about_an_object_that_is_gone_is_done_with() -> None:
    archive = reading_world()
    (stored,) = archive.put_objects("san-matteo", image())
    archive.objects.contents.clear()
    assert archive.index_batch([stored]) == {}
    assert not any(item.pk.startswith("F#OBJECT#") for item in archive.facts().values())


def test_a_hospital_that_left_meanwhile_still_owns_what_it_sent_under_its_own_numbers() -> None:
    archive = reading_world()
    stored = archive.put_objects("maugeri", image(patient="M7"))
    archive.remove("maugeri")
    assert archive.index_batch(stored) == {}
    (instance,) = [item for item in archive.facts().values() if item.sk.startswith("I#")]
    assert instance.data["patient"] == {"issuer": patient("maugeri", "M7").issuer, "id": "M7"}


# Echoes ----------------------------------------------------------------------------------------------


def shared() -> tuple[World, bytes]:
    """San Matteo's study that Maugeri may see, and how it comes back from Maugeri's PACS under Maugeri's number."""
    archive = reading_world()
    archive.bring("san-matteo", image(patient="SM1"), image(patient="SM1", sop="2"))
    archive.open_transfer("san-matteo", "maugeri", "SM1")
    archive.project_all()
    return archive, image(patient="MG1", comment="pushed into the PACS")


def test_what_comes_back_from_a_hospital_that_was_shown_it_is_an_echo() -> None:
    archive, back = shared()
    before = archive.facts()
    assert archive.bring("maugeri", back) == ["echo"]
    added = archive.facts().keys() - before.keys()
    assert {pk.split("#")[1] for pk, _ in added} == {"OBJECT"}


def test_what_comes_back_from_a_hospital_that_was_not_shown_it_is_its_own() -> None:
    archive, back = shared()
    assert archive.bring("mondino", back) == ["indexed"]


def test_a_new_instance_in_a_shared_study_is_not_an_echo() -> None:
    archive, _ = shared()
    assert archive.bring("maugeri", image(patient="MG1", sop="9")) == ["indexed"]


def test_an_echo_does_not_tell_whether_an_instance_of_a_hidden_study_exists() -> None:
    archive, _ = shared()
    archive.bring("san-matteo", image(study="1.9", sop="7", patient="SECRET"))
    claimed = image(study="1.2.3", series="1", sop="1.9.1.7", patient="MG1")
    assert archive.bring("maugeri", claimed) == ["indexed"]


def test_an_echo_that_is_delivered_again_after_the_transfer_ended_stays_an_echo() -> None:
    archive, back = shared()
    archive.bring("maugeri", back)
    archive.end_transfer(archive.opened[0])
    assert archive.bring("maugeri", back) == ["echo"]
    assert archive.bring("maugeri", image(patient="MG1", comment="pushed later")) == ["indexed"]


# Failures --------------------------------------------------------------------------------------------


def test_only_the_message_whose_object_cannot_be_read_comes_again() -> None:
    archive = reading_world()
    stored = archive.put_objects("san-matteo", *(image(sop=str(number)) for number in range(4)))

    class Flaky(MemoryObjects):
        def read(self, key: str, start: int, length: int) -> bytes:
            if key == stored[2].key:
                raise TryAgain
            return super().read(key, start, length)

    flaky = Flaky()
    flaky.contents = archive.objects.contents
    assert list(archive.index_batch(stored, objects=flaky)) == [stored[2]]
    assert [archive.state(item) for item in stored] == ["indexed", "indexed", "stored", "indexed"]
    assert archive.index_batch([stored[2]]) == {}
    assert archive.state(stored[2]) == "indexed"


def test_an_object_that_the_reader_stumbles_over_harms_only_itself() -> None:
    """A defect in reading one file must not keep its neighbours from being indexed, delivery after delivery."""
    archive = reading_world()
    stored = archive.put_objects("san-matteo", *(image(sop=str(number)) for number in range(4)))

    class Short(MemoryObjects):
        def read(self, key: str, start: int, length: int) -> bytes:
            return super().read(key, start, length)[: None if key != stored[1].key else -7]

    short = Short()
    short.contents = archive.objects.contents
    assert list(archive.index_batch(stored, objects=short)) == [stored[1]]
    assert [archive.state(item) for item in stored] == ["indexed", "stored", "indexed", "indexed"]


def huge(sop: str) -> bytes:
    """A file of 4 KB that inflates to 80,000 sequence items, which take seconds to read."""
    items = building.element(0x0040A730, "SQ", building.item(b"") * 79_000)
    return building.part10(building.identity(sop=sop) + items, building.DEFLATED, meta=building.file_meta(building.DEFLATED, sop))


def test_huge_headers_are_read_after_their_neighbours_and_only_while_there_is_time() -> None:
    archive = reading_world()
    contents = [huge("1.7.1"), huge("1.7.2"), *(image(sop=str(number)) for number in range(3))]
    stored = archive.put_objects("san-matteo", *contents)
    assert len(contents[0]) < 5000

    def remaining() -> float:
        return 60.0 if archive.state(stored[0]) == "stored" else 3.0

    assert list(archive.index_batch(stored, remaining=remaining)) == [stored[1]]
    assert [archive.state(item) for item in stored] == ["indexed", "stored", "indexed", "indexed", "indexed"]
    assert archive.index_batch(stored) == {}
    assert archive.state(stored[1]) == "indexed"


def test_a_whole_batch_of_the_worst_headers_does_not_delay_a_neighbour_beyond_the_functions_time() -> None:
    archive = reading_world()
    contents = [huge(f"1.7.{number}") for number in range(99)]
    stored = archive.put_objects("san-matteo", *contents, image())
    end = time.monotonic() + 70

    def remaining() -> float:
        return end - time.monotonic() if archive.state(stored[-1]) == "stored" else 0.0

    assert set(archive.index_batch(stored, remaining=remaining)) == set(stored[:-1])
    assert archive.state(stored[-1]) == "indexed"


def test_when_the_table_is_busy_everything_comes_again_and_is_then_done() -> None:
    archive = reading_world()
    stored = archive.put_objects("san-matteo", *(image(sop=str(number)) for number in range(4)))

    def busy(name: str) -> None:
        if name == "transact":
            raise TryAgain

    assert set(archive.index_batch(stored, table=Watched(archive.table, busy))) == set(stored)
    assert archive.index_batch(stored) == {}
    assert [archive.state(item) for item in stored] == ["indexed"] * 4


def mixed(archive: World) -> list[StoredObject]:
    """A batch of everything: more than one transaction, conflicts, rejected ones, echoes, two patients, two hospitals."""
    archive.bring("san-matteo", image(patient="SM1"))
    archive.open_transfer("san-matteo", "maugeri", "SM1")
    archive.project_all()
    stored = archive.put_objects("san-matteo", *(image(study="1.5", sop=str(number), patient="SM2") for number in range(36)))
    stored += archive.put_objects("san-matteo", image(study="1.5", sop="3", patient="SM2", comment="other bytes"))
    stored += archive.put_objects("san-matteo", image(study="1.6", patient="SM3"), b"rubbish" * 40)
    stored += archive.put_objects("maugeri", image(patient="MG1"), image(study="1.7", patient="MG1"))
    return stored


def settled(archive: World) -> dict[Key, Item]:
    """All facts, each instance with its line of metadata instead of the batch in which that was written."""
    facts = archive.facts()
    for item in facts.values():
        if "part" in item.data:
            lines = gzip.decompress(archive.objects.contents[str(item.data.pop("part"))]).split(b"\n")
            sha = str(item.data.get("sha256") or item.sk.rpartition("#")[2])  # of what was refused, its key says it
            (mine,) = [line for line in lines if line.startswith(sha.encode())]
            item.data["metadata"] = hashlib.sha256(mine).hexdigest()
    return facts


def test_a_function_that_dies_at_any_call_leaves_nothing_that_the_next_delivery_does_not_complete() -> None:
    undisturbed = reading_world()
    calls: list[str] = []
    batch = mixed(undisturbed)
    assert (
        undisturbed.index_batch(
            batch,
            table=Watched(undisturbed.table, calls.append),
            objects=WatchedObjects(undisturbed.objects.contents, calls.append),
        )
        == {}
    )
    expected = settled(undisturbed)
    places = [number for number, name in enumerate(calls) if name != "read"]
    places += random.Random(7).sample([number for number, name in enumerate(calls) if name == "read"], 3)
    assert len(places) > 10
    for place in places:
        archive = reading_world()
        stored = mixed(archive)
        seen = [0]

        def die(name: str, seen: list[int] = seen, place: int = place) -> None:
            seen[0] += 1
            if seen[0] > place:
                raise Died

        with pytest.raises(Died):
            archive.index_batch(stored, table=Watched(archive.table, die), objects=WatchedObjects(archive.objects.contents, die))
        assert archive.index_batch(stored) == {}
        assert settled(archive) == expected, f"died at call {place}"


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_order_division_and_repetition_of_messages_indexes_the_same(data: st.DataObject) -> None:
    """But for which of two conflicting contents was first: that is decided once, and the same for all."""
    archive = reading_world()
    contents = [image(study=f"1.{number % 3}", sop=str(number), patient=f"P{number % 2}") for number in range(6)]
    contents += [image(study="1.0", sop="0", patient="P0", comment="other bytes"), b"rubbish" * 30]
    stored = archive.put_objects("san-matteo", *contents)
    messages = data.draw(st.permutations([*stored, *data.draw(st.lists(st.sampled_from(stored), max_size=4))]))
    while messages:
        count = data.draw(st.integers(1, 5))
        assert archive.index_batch(messages[:count]) == {}
        messages = messages[count:]
    states = [archive.state(item) for item in stored]
    assert states[1:6] == ["indexed"] * 5
    assert sorted([states[0], states[6]]) == ["conflict", "indexed"]
    assert states[7] == "rejected"
    instances = [item for item in archive.facts().values() if item.sk.startswith("I#")]
    assert len(instances) == 6
    standing = {
        item.pk.rsplit("#", 1)[1]: item.data["sha256"]
        for item in archive.facts().values()
        if item.pk.startswith("F#SOP#") and item.sk == "."
    }
    assert all(standing[item.sk.rsplit("#", 1)[1]] == item.data["sha256"] for item in instances)


def test_the_facts_of_an_instance_take_no_more_than_two_kilobytes() -> None:
    archive = reading_world()
    (path,) = [path for name, path in building.real_files().items() if name.endswith("CT_small.dcm")]
    assert archive.bring("san-matteo", path.read_bytes()) == ["indexed"]
    own = [item for item in archive.facts().values() if item.pk.split("#")[1] in ("OBJECT", "SOP", "STUDY")]
    size = sum(len(json.dumps([*item.key, item.data], ensure_ascii=False, separators=(",", ":")).encode()) for item in own)
    assert size <= 2048


@pytest.mark.parametrize("size_of_a_batch", [100, 40])
def test_the_facts_of_a_ct_of_500_slices_are_written_in_few_requests_and_each_head_is_read_once(size_of_a_batch: int) -> None:
    archive = reading_world()
    stored = archive.put_objects("san-matteo", *(image(study="1.2.500", sop=str(number)) for number in range(500)))
    calls: list[str] = []
    table, objects = Watched(archive.table, calls.append), WatchedObjects(archive.objects.contents, calls.append)
    for start in range(0, 500, size_of_a_batch):
        assert archive.index_batch(stored[start : start + size_of_a_batch], table, objects) == {}
    assert calls.count("read") == 500
    assert calls.count("transact") + calls.count("put") <= 40
