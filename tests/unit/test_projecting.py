"""The projector: any order and repetition of the same facts, by several at once, ends in the same views."""

from __future__ import annotations

import hashlib
import random
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache
from itertools import cycle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.api import events
from chalicelib.bootstrap import Archive
from chalicelib.domain import keys
from chalicelib.domain.errors import Conflict, TryAgain
from chalicelib.domain.ports import Delete, Item, Key, Page, Put, PutNew, PutVersion, Table, Write
from chalicelib.services.ingest.summaries import read_summary
from chalicelib.services.projection import facts
from chalicelib.telemetry import FunctionFailed
from tests.conftest import THOROUGH
from tests.fakes import MemoryObjects, MemoryTable, Watched
from tests.interleaving import interleave
from tests.streams import MOMENT, Told, changed_keys, project, stream_record, views_of
from tests.world import A, B, C, World, image, patient, reading_world


class Streamed(MemoryTable):
    """A table whose changed facts wait in `stream` for a projector. `by_keys`: see `streams.changed_keys`."""

    def __init__(self, *, by_keys: bool = False) -> None:
        super().__init__(page=5)
        self.by_keys = by_keys
        self.stream: list[Key] = []

    def _write(self, writes: Sequence[Write]) -> list[bool]:
        before = self._items.copy()
        held = super()._write(writes)
        changed = [item for key, item in self._items.items() if before.get(key) != item]
        self.stream += changed_keys(changed, by_keys=self.by_keys)
        return held


# What happens: each line adds facts, in the order in which hospitals did it -----------------------------


def arrivals(archive: World) -> None:
    """Two studies of San Matteo, one of them in two series, and Maugeri's of the day after."""
    contents = [image(study="1.1", series=series, sop=sop, patient="SM1") for series in "12" for sop in "12"]
    contents.append(image(study="1.2", patient="SM1", date="20260210", accession="A7"))
    archive.index_batch(archive.put_objects("san-matteo", *contents))
    archive.index_batch(archive.put_objects("maugeri", image(study="1.3", patient="MG1", date="20260303")))


def announcement(archive: World) -> None:
    archive.announce("san-matteo", "1.1", ["a" * 64, "b" * 64])


def transfer(archive: World) -> None:
    archive.open_transfer("san-matteo", "maugeri", "SM1")


def named(archive: World) -> None:
    archive.accept(archive.opened[0].receiver, archive.opened[0].id, "MG1")


def corrected(archive: World) -> None:
    archive.accept(archive.opened[0].receiver, archive.opened[0].id, "MG2")


def ended(archive: World) -> None:
    archive.end_transfer(archive.opened[0])


def expired(archive: World) -> None:
    archive.open_transfer("san-matteo", "mondino", "SM1", opened_at=MOMENT - timedelta(days=40), days=30)


def two_patients(archive: World) -> None:
    """A study that is filed under two patients."""
    archive.index_batch(archive.put_objects("san-matteo", image(study="1.1", series="3", patient="SM9")))


def hidden(archive: World) -> None:
    archive.object("san-matteo", "SM1", "1.2")


def withdrawn(archive: World) -> None:
    archive.withdraw("san-matteo", "1.1", "1.1.2.1")
    archive.withdraw("san-matteo", "1.1", "1.1.2.2")


def in_batches(archive: World) -> None:
    """A study in two series, of which each batch brings some of both."""
    for sop in "1234":
        archive.index_batch(
            archive.put_objects("san-matteo", *(image(study="1.1", series=series, sop=sop, patient="SM1") for series in "12"))
        )


def corrected_image(archive: World) -> None:
    """The images of one series are another patient's."""
    archive.index_batch(
        archive.put_objects("san-matteo", *(image(study="1.1", series="1", sop=sop, patient="SM7") for sop in "123"))
    )


def withdrawn_whole(archive: World) -> None:
    archive.withdraw("san-matteo", "1.1")


STORIES: dict[str, list[Callable[[World], None]]] = {
    "arrivals": [arrivals, announcement],
    "a transfer": [arrivals, transfer, named],
    "a transfer that ended": [arrivals, transfer, named, ended],
    "a number that was corrected": [arrivals, transfer, named, corrected],
    "an old transfer and a new one": [arrivals, expired, transfer],
    "two patients in one study": [arrivals, transfer, two_patients],
    "an objection": [arrivals, transfer, hidden],
    "a withdrawal": [arrivals, transfer, withdrawn],
    "a study in batches": [in_batches, announcement, transfer],
    "a study in batches of which some are withdrawn": [in_batches, withdrawn],
    "a correction": [in_batches, transfer, corrected_image],
    "a study that is withdrawn as a whole": [in_batches, transfer, withdrawn, withdrawn_whole],
}


@cache
def facts_of(story: str) -> list[Item]:
    """All facts of a story."""
    archive = reading_world()
    for part in STORIES[story]:
        part(archive)
    return list(archive.facts().values())


def rebuilt(facts: Sequence[Item]) -> dict[Key, Item]:
    """The views, computed once everything was there."""
    table = Streamed()
    for fact in facts:
        table.put(Put(fact))
    while table.stream:
        keys, table.stream = table.stream, []
        assert project(table, [("0", *key) for key in keys]) is None
    return views_of(table)


def transactions(facts: Sequence[Item]) -> list[list[Item]]:
    """The facts, those together that are written in one transaction: of a batch of instances all that says that they are here."""
    batch_of = {
        str(fact.data["sha256"]): str(fact.data["batch"]) for fact in facts if fact.sk.startswith("I#") and "batch" in fact.data
    }
    found: dict[str, list[Item]] = {}
    for number, fact in enumerate(facts):
        sha = fact.pk.rpartition("#")[2] if fact.pk.startswith("F#OBJECT#") else str(fact.data.get("sha256", ""))
        batch = fact.sk.removeprefix("P#") if fact.sk.startswith("P#") else batch_of.get(sha)
        found.setdefault(batch or str(number), []).append(fact)
    return list(found.values())


def played(
    transactions: Sequence[Sequence[Item]], projectors: int, dice: Sequence[int], turns: Sequence[int], by_keys: bool
) -> dict[Key, Item]:
    """The views after one function wrote the facts while others projected what the stream had for them.

    `dice` says which event a projector takes next and whether it comes once more; `turns`, whose call on the table is next.
    """
    table = Streamed(by_keys=by_keys)
    written = [False]
    rolls = cycle(dice)
    repeated: set[Key] = set()

    def write(seen: Table) -> None:
        for together in transactions:
            assert seen.transact([Put(fact) for fact in together]) == []
        written[0] = True

    def follow(seen: Table) -> None:
        while not written[0] or table.stream:
            if not table.stream:
                seen.get("nothing", "yet")
                continue
            roll = next(rolls)
            key = table.stream.pop(roll % len(table.stream))
            if roll % 3 == 0 and key not in repeated:
                repeated.add(key)
                table.stream.append(key)
            if project(seen, [("0", *key)]) is not None:
                table.stream.append(key)  # the others were faster: it is delivered again

    interleave(table, [write, *[follow] * projectors], turns)
    assert table.stream == []
    return views_of(table)


@pytest.mark.parametrize("story", STORIES)
def test_a_story_ends_in_views_that_say_something(story: str) -> None:
    views = rebuilt(facts_of(story))
    gone = {"SERIES", "SEE"} if "as a whole" in story else set()
    assert {pk.split("#")[1] for pk, _ in views} == {"STUDY", "TALLY", "SERIES", "SEE"} - gone


@settings(max_examples=100 if THOROUGH else 25, deadline=None)
@given(data=st.data())
def test_any_order_and_repetition_by_several_projectors_at_once_ends_in_the_same_views(data: st.DataObject) -> None:
    """Facts are written in any order, but for those of one transaction; of what changed sometimes only the key is known."""
    facts = facts_of(data.draw(st.sampled_from(sorted(STORIES))))
    by_keys = data.draw(st.booleans())
    written = data.draw(st.permutations(transactions(facts)))
    dice = data.draw(st.lists(st.integers(0, 99), min_size=1, max_size=20))
    turns = data.draw(st.lists(st.integers(0, 11), min_size=1, max_size=60))
    views = played(written, data.draw(st.integers(1, 3)), dice, turns, by_keys)
    assert views == rebuilt(facts)


# What happens one after the other, some of it seen on the way ---------------------------------------------


class Followed(World):
    """An archive whose projector follows when it is told to, from what the stream has for it."""

    def __init__(self) -> None:
        self.followed = Streamed()
        stores = {"memory": self.followed, "table": self.followed, "objects": MemoryObjects()}
        super().__init__((A, B, C), read_summary, audited=False, now=MOMENT, **stores)
        self.sent = 0
        self.withdrawals: list[str] = []

    def follow(self, dice: random.Random) -> None:
        """Bring the views up to date with what happened, in any order, some of it twice."""
        while self.followed.stream:
            keys, self.followed.stream = self.followed.stream, []
            keys += dice.sample(keys, len(keys) // 2)
            dice.shuffle(keys)
            assert project(self.table, [("0", *key) for key in keys]) is None

    def arrive(self, dice: random.Random) -> None:
        count = dice.choice([1, 3, 40])
        self.sent += count
        numbers = range(self.sent - count, self.sent)
        kinds = {"modality": dice.choice(["CT", "PT"]), "patient": dice.choice(["SM1", "SM1", "SM2"])}
        slices = [image(study="1.1", series=str(number % 3), sop=str(number), **kinds) for number in numbers]
        if dice.random() < 0.5:
            self.announce("san-matteo", "1.1", [hashlib.sha256(slice_).hexdigest() for slice_ in [*slices, b"never sent"]])
        assert self.index_batch(self.put_objects("san-matteo", *slices)) == {}

    def correct(self, dice: random.Random) -> None:
        number = dice.randrange(self.sent)
        content = image(study="1.1", series=str(number % 3), sop=str(number), patient="SM3", name=dice.choice(["A", "B"]))
        assert self.index_batch(self.put_objects("san-matteo", content)) == {}

    def take_back(self, dice: random.Random) -> None:
        number = dice.randrange(self.sent)
        named = [] if dice.random() < 0.3 else [f"1.1.{number % 3}.{number}"]
        self.withdrawals.append(self.withdraw("san-matteo", "1.1", *named))

    def show_again(self, dice: random.Random) -> None:
        if self.withdrawals:
            self.end_withdrawal("san-matteo", "1.1", dice.choice(self.withdrawals))

    def withdraw_early(self, dice: random.Random) -> None:
        """A rejection note comes before the image that it names."""
        number = self.sent + dice.choice([0, 1, 5])
        marker = {"at": "2026-03-02T09:30:00.000Z", "by": "rejection-note", "reason": "113001", "id": f"{number:024x}"}
        self.table.put(PutNew(Item("F#STUDY#san-matteo#1.1", f"W#1.1.{number % 3}.{number}", marker)))

    def by_an_earlier_release(self, dice: random.Random) -> None:
        """A release that kept no tallies indexes and projects for a while: it leaves nothing of a batch."""
        self.follow(dice)
        self.arrive(dice)
        self.followed.stream = []
        keep_tally = dice.random() < 0.5
        for key, item in self.followed.items().items():
            if key[1].startswith("P#") or (key[0].startswith("V#TALLY#") and not keep_tally):
                self.table.put(Delete(*key))
            kept = {"V#STUDY": ("tally", "waiting"), "V#SERIES": ("firsts", "fingerprint"), "F#STUDY": ("batch",)}
            dropped = kept.get("#".join(key[0].split("#")[:2]), ())
            if any(name in item.data for name in dropped):
                old = {name: value for name, value in item.data.items() if name not in dropped}
                self.table.put(Put(replace(item, data=old)))
        self.followed.stream = []


@settings(max_examples=150 if THOROUGH else 40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_was_seen_on_the_way_the_views_are_those_that_all_facts_make(seed: int) -> None:
    """What is added as it comes, and what is counted anew where something was taken back, corrected, or of an earlier release."""
    dice = random.Random(seed)
    archive = Followed()
    archive.arrive(dice)
    acts = [archive.arrive] * 5 + [archive.correct, archive.take_back, archive.show_again, archive.withdraw_early]
    acts.append(archive.by_an_earlier_release)
    for _ in range(dice.randint(1, 9)):
        dice.choice(acts)(dice)
        if dice.random() < 0.6:
            archive.follow(dice)
    archive.arrive(dice)
    archive.follow(dice)
    assert not [key for key in archive.followed.items() if key[1].startswith("P#")]
    assert archive.views() == rebuilt(list(archive.facts().values()))


def test_a_batch_that_comes_while_its_study_is_counted_anew_is_counted_once() -> None:
    """Some of it is written where the count has been, some where it has yet to come, and some of both in another batch."""
    archive = Followed()
    every = [image(study="1.1", series="1", sop=f"{number:02}", patient="SM1") for number in range(1, 25)]
    archive.index_batch(archive.put_objects("san-matteo", *every[8:16]))
    archive.followed.stream = []
    calls = [0]

    def meanwhile(name: str) -> None:
        calls[0] += name == "query"
        if calls[0] == 4:
            calls[0] += 1
            archive.index_batch(archive.put_objects("san-matteo", every[0], every[20]))
            archive.index_batch(archive.put_objects("san-matteo", every[1], every[2]))

    assert project(Watched(archive.table, meanwhile), [("0", "F#STUDY#san-matteo#1.1", "I#1.1.1#1.1.1.09")]) is None
    assert calls[0] > 4
    archive.follow(random.Random(0))
    assert archive.views()["V#STUDY#1.1", "san-matteo"].data["instances"] == 12
    assert archive.views() == rebuilt(list(archive.facts().values()))


class Counting(Watched):
    """A table that counts the instances' facts that are read from it."""

    def __init__(self, table: Table) -> None:
        super().__init__(table, lambda name: None)
        self.facts = self.series = 0

    def query(self, *arguments: Any, **options: Any) -> Page:
        page = super().query(*arguments, **options)
        self.facts += sum(item.sk.startswith("I#") for item in page.items)
        self.series += sum(item.pk.startswith("V#SERIES#") for item in page.items)
        return page

    def batch_get(self, keys: Iterable[Key]) -> dict[Key, Item]:
        found = super().batch_get(keys)
        self.facts += sum(item.sk.startswith("I#") for item in found.values())
        return found


@pytest.mark.parametrize("before", ["nothing", "an instance was withdrawn", "the study was withdrawn"])
def test_what_arrives_reads_nothing_of_what_is_there(before: str) -> None:
    archive = Followed()
    dice = random.Random(1)
    archive.arrive(dice)
    if before == "an instance was withdrawn":
        archive.withdraw("san-matteo", "1.1", "1.1.0.0")
    elif before == "the study was withdrawn":
        archive.withdraw("san-matteo", "1.1")
    archive.follow(dice)
    for _ in range(5):
        archive.arrive(dice)
        keys, archive.followed.stream = archive.followed.stream, []
        table = Counting(archive.followed)
        assert project(table, [("0", *key) for key in keys]) is None
        assert (table.facts, table.series) == (0, 0)
    assert archive.views() == rebuilt(list(archive.facts().values()))


def test_images_that_arrive_read_no_report_of_the_study() -> None:
    archive, dice = Followed(), random.Random(1)
    archive.arrive(dice)
    archive.follow(dice)
    partition, _ = keys.study_tally("san-matteo", "1.1")
    archive.followed.put(Put(Item(partition, f"{keys.begins(keys.report)}1.1.9#1.1.9.1", {})))  # which nobody could read
    archive.arrive(dice)
    changed, archive.followed.stream = archive.followed.stream, []
    assert project(archive.followed, [("0", *key) for key in changed]) is None


def test_withdrawing_a_whole_study_reads_no_instance() -> None:
    archive = Followed()
    dice = random.Random(1)
    archive.arrive(dice)
    archive.follow(dice)
    archive.withdraw("san-matteo", "1.1")
    table = Counting(archive.followed)
    assert project(table, [("0", *key) for key in archive.followed.stream]) is None
    assert table.facts == 0
    assert archive.views()["V#STUDY#1.1", "san-matteo"].data["gone"] is True


def rows_of(views: dict[Key, Item]) -> set[Key]:
    """Who can find what."""
    return {key for key in views if key[0].startswith("V#SEE#")}


def test_a_projection_that_saw_a_transfer_does_not_put_it_back_after_its_end() -> None:
    """The slow one reads between opening and end; the quick one finds that nothing changed since the view was written."""
    facts = facts_of("arrivals")
    opened, ended_too = facts_of("a transfer"), facts_of("a transfer that ended")
    table = Streamed()
    for fact in facts:
        table.put(Put(fact))
    keys, table.stream = table.stream, []
    assert project(table, [("0", *key) for key in keys]) is None
    before = views_of(table)
    for fact in opened:
        table.put(Put(fact))
    slow, table.stream = table.stream, []

    def meanwhile(name: str) -> None:
        if name == "transact" and table.get("F#STUDY", "done") is None:
            table.put(Put(Item("F#STUDY", "done")))
            for fact in ended_too:
                table.put(Put(fact))
            quick, table.stream = [key for key in table.stream if key[0] != "F#STUDY"], []
            assert project(table, [("0", *key) for key in quick]) is None

    assert project(Watched(table, meanwhile), [("0", *key) for key in slow]) is None
    assert {key for key in views_of(table) if key[0].startswith("V#SEE#")} == {
        key for key in before if key[0].startswith("V#SEE#")
    }


def test_a_projection_with_nothing_to_tell_does_not_overwrite_a_later_one() -> None:
    """The slow one read before the objection, and what it has to write concerns no feed, whose place would stop it."""
    archive = reading_world()
    arrivals(archive)
    transfer(archive)
    table = Streamed()
    for fact in archive.facts().values():
        table.put(Put(fact))
    keys, table.stream = table.stream, []
    assert project(table, [("0", *key) for key in keys]) is None
    known = archive.facts()
    archive.announce("san-matteo", "1.2", ["c" * 64])
    announced = [fact for key, fact in archive.facts().items() if known.get(key) != fact]
    known = archive.facts()
    hidden(archive)
    objected = [fact for key, fact in archive.facts().items() if known.get(key) != fact]
    for fact in announced:
        table.put(Put(fact))
    slow, table.stream = table.stream, []
    seen: list[str] = []

    def meanwhile(name: str) -> None:
        seen.append(name)
        if name == "transact" and seen.count("transact") == 1:
            for fact in objected:
                table.put(Put(fact))
            quick, table.stream = table.stream, []
            assert project(table, [("0", *key) for key in quick]) is None

    assert project(Watched(table, meanwhile), [("0", *key) for key in slow]) is None
    assert "transact" in seen
    assert views_of(table) == rebuilt([*archive.facts().values()])


# Failures --------------------------------------------------------------------------------------------


class Died(BaseException):
    """The function ends here."""


@pytest.mark.parametrize("story", ["a number that was corrected", "a withdrawal"])
def test_a_projector_that_dies_at_any_call_leaves_nothing_that_the_next_delivery_does_not_complete(story: str) -> None:
    facts = facts_of(story)
    expected = rebuilt(facts)
    changes = [("0", *key) for key in changed_keys(facts)]
    place = 0
    while True:
        table, calls = Streamed(), [0]
        for fact in facts:
            table.put(Put(fact))

        def die(name: str, calls: list[int] = calls, place: int = place) -> None:
            calls[0] += 1
            if calls[0] > place:
                raise Died

        try:
            assert project(Watched(table, die), changes) is None
            assert views_of(table) == expected
            return
        except Died:
            assert project(table, changes) is None
        assert views_of(table) == expected, f"died at call {place}"
        place += 1


def many_rows(numbers: int = 35) -> World:
    """A study that can be found under more numbers than one transaction can write rows."""
    archive = reading_world()
    archive.index_batch(archive.put_objects("san-matteo", image(study="1.1", patient="SM1")))
    for number in range(numbers):
        opened = archive.open_transfer("san-matteo", "maugeri", "SM1", opened_at=MOMENT - timedelta(seconds=number))
        archive.accept(opened.receiver, opened.id, f"MG{number}")
    for number in range(numbers):
        archive.link("san-matteo", "SM1", patient("san-matteo", f"SM{100 + number}"))
    return archive


def test_more_rows_than_one_transaction_takes_are_written_and_removed() -> None:
    archive = many_rows()
    archive.project_all()
    rows = [key for key in archive.views() if key[0].startswith("V#SEE#")]
    assert len(rows) > 100
    for opened in archive.opened:
        archive.end_transfer(opened)
    archive.project_all()
    assert {pk for pk, _ in archive.views() if pk.startswith("V#SEE#")} == {"V#SEE#san-matteo#1.1"}


def test_a_projector_that_dies_between_two_parts_of_many_rows_is_completed_by_the_next_delivery() -> None:
    expected = many_rows()
    expected.project_all()
    archive, calls = many_rows(), [0]

    def die(name: str) -> None:
        calls[0] += name == "transact"
        if calls[0] > 1:
            raise Died

    with pytest.raises(Died):
        project(Watched(archive.table, die), [("0", "F#STUDY#san-matteo#1.1", "I#1.1.1#1.1.1.1")])
    assert archive.views() != expected.views()
    archive.project_all()
    assert archive.views() == expected.views()


def test_what_fails_is_delivered_again_from_there_on_and_what_came_before_is_done() -> None:
    archive = reading_world()
    archive.index_batch(
        archive.put_objects("san-matteo", *(image(study=f"1.{number}", patient=f"SM{number}") for number in range(4)))
    )
    changes = [(f"{number}", f"F#STUDY#san-matteo#1.{number}", "I#x") for number in range(4)]

    def busy(name: str) -> None:
        if name == "transact" and archive.memory.get("V#STUDY#1.1", "san-matteo") is not None:
            raise TryAgain

    failed = project(Watched(archive.table, busy), changes)
    assert failed is not None
    assert failed[0] == "2"
    assert {pk for pk, _ in archive.views() if pk.startswith("V#STUDY#")} == {"V#STUDY#1.0", "V#STUDY#1.1"}


def test_a_fact_that_cannot_be_looked_up_does_not_lose_those_before_it() -> None:
    archive = reading_world()
    archive.index_batch(archive.put_objects("san-matteo", image(study="1.1", patient="SM1")))
    opened = archive.open_transfer("san-matteo", "maugeri", "SM1")
    changes = [("1", "F#STUDY#san-matteo#1.1", "I#x"), ("2", keys.transfer_facts(opened.id), "OPEN")]
    queries = [0]

    def busy(name: str) -> None:
        queries[0] += name == "query"
        if name == "query" and queries[0] == 1:
            raise TryAgain

    failed = project(Watched(archive.table, busy), changes)
    assert failed is not None
    assert failed[0] == "2"
    assert ("V#STUDY#1.1", "san-matteo") in archive.views()


class Clock:
    """What is left of an invocation of 300 seconds, of which only sleeping takes some."""

    slept = 0.0

    def left(self) -> float:
        return 300 - self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


class Poisoned(Watched):
    """A table that never takes the view of one study, whose number holds a patient's name."""

    def __init__(self, table: Table, study: str) -> None:
        super().__init__(table, lambda name: None)
        self.study = study

    def transact(self, writes: Sequence[Write]) -> list[bool]:
        if any(isinstance(write, Put | PutNew | PutVersion) and write.item.pk == f"V#STUDY#{self.study}" for write in writes):
            raise Conflict("ROSSI^MARIO")
        return super().transact(writes)


def handed(*studies: str) -> dict[str, Any]:
    """What Lambda hands over: a fact of each of these studies, numbered from 1."""
    records = [stream_record((f"F#STUDY#san-matteo#{study}", "I#x"), None) for study in studies]
    for number, record in enumerate(records, 1):
        record["dynamodb"]["SequenceNumber"] = str(number)
    return {"Records": records}


def test_what_fails_behind_others_is_named_and_what_fails_before_others_fails_as_a_whole(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Lambda halves only what failed as a whole: named as the first, it took all behind it along to the dead letters."""
    archive = reading_world()
    archive.index_batch(
        archive.put_objects("san-matteo", *(image(study=f"1.{number}", patient=f"SM{number}") for number in range(4)))
    )
    table = Poisoned(archive.table, "1.2")
    projector = Archive({"table": table, "alerts": Told()})
    answer = events.project(projector, handed("1.0", "1.1", "1.2", "1.3"), Clock().left)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "3"}]}
    with pytest.raises(FunctionFailed, match=r"^Conflict$") as failed:
        events.project(projector, handed("1.2", "1.3"), Clock().left)
    assert "ROSSI" not in "".join(traceback.format_exception(failed.value))
    assert "ROSSI" not in repr([record.__dict__ for record in caplog.records])
    assert events.project(projector, handed("1.2"), Clock().left) == {"batchItemFailures": [{"itemIdentifier": "1"}]}
    assert events.project(projector, handed("1.3"), Clock().left) == {"batchItemFailures": []}


@pytest.mark.parametrize("refusals", [5, 10**6])
def test_a_fact_that_is_alone_waits_within_the_invocation_for_what_others_refuse(refusals: int) -> None:
    """Lambda's own pauses are not known: an outage of a few minutes had used up the tries, and the fact was set aside."""
    archive = reading_world()
    archive.index_batch(archive.put_objects("san-matteo", image(study="1.1", patient="SM1"), image(study="1.2", patient="SM2")))
    left, clock = [refusals], Clock()

    def busy(name: str) -> None:
        if name == "transact" and left[0]:
            left[0] -= 1
            raise TryAgain

    projector = Archive({"table": Watched(archive.table, busy), "alerts": Told()})
    answer = events.project(projector, handed("1.1"), clock.left, clock.sleep)
    if left[0]:
        assert answer == {"batchItemFailures": [{"itemIdentifier": "1"}]}
        assert facts.PATIENCE_SECONDS - 8 <= clock.slept <= facts.PATIENCE_SECONDS
    else:
        assert answer == {"batchItemFailures": []}
        assert ("V#STUDY#1.1", "san-matteo") in archive.views()


def test_what_is_not_alone_or_will_not_pass_is_not_waited_for() -> None:
    archive, clock = reading_world(), Clock()
    archive.index_batch(archive.put_objects("san-matteo", image(study="1.1", patient="SM1"), image(study="1.2", patient="SM2")))
    for_good = Archive({"table": Poisoned(archive.table, "1.1"), "alerts": Told()})
    events.project(for_good, handed("1.1"), clock.left, clock.sleep)

    def busy(name: str) -> None:
        raise TryAgain

    refused = Archive({"table": Watched(archive.table, busy), "alerts": Told()})
    with pytest.raises(FunctionFailed, match="TryAgain"):
        events.project(refused, handed("1.1", "1.2"), clock.left, clock.sleep)
    assert clock.slept == 0


def test_summaries_are_the_same_whatever_the_order_of_a_thousand_instances() -> None:
    facts = facts_of("arrivals")
    for seed in range(5):
        shuffled = random.Random(seed).sample(facts, len(facts))
        assert rebuilt(shuffled) == rebuilt(facts)
