"""What sharing costs, counted in requests to the table."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import pytest

from chalicelib.domain.errors import NotFound
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Item, Key, Page
from chalicelib.domain.study_views import SearchRow
from chalicelib.services import access
from chalicelib.services.sharing import explanation
from tests.fakes import Watched
from tests.sharing.codes import fiscal_code
from tests.sharing.test_identifiers import CF
from tests.world import OIDS, A, B, C, World

STUDY = "1.2.1"


class Rounds(Watched):
    """A table that says how many requests follow one another: those of one pool of threads are made side by side."""

    def __init__(self, table: Any) -> None:
        super().__init__(table, lambda name: None)
        self.rounds = 0
        self.kinds: list[str] = []
        self._last = ""
        self._lock = threading.Lock()

    def _note(self, kind: str) -> None:
        thread = threading.current_thread()
        pool = thread.name.rpartition("_")[0] if thread is not threading.main_thread() else ""
        with self._lock:
            self.rounds += not pool or pool != self._last
            self._last = pool
            self.kinds.append(kind)

    def get(self, pk: str, sk: str) -> Item | None:
        self._note(f"get {pk.split('#')[0]}#")
        return super().get(pk, sk)

    def batch_get(self, keys: Iterable[Key]) -> dict[Key, Item]:
        self._note("batch_get")
        return super().batch_get(keys)

    def query(self, pk: str, *arguments: Any, **options: Any) -> Page:
        self._note(f"query {pk.split('#')[0]}#{pk.split('#')[1]}")
        return super().query(pk, *arguments, **options)


def test_the_page_of_a_number_under_which_hundreds_were_merged_asks_for_them_side_by_side(world: World) -> None:
    """As of the one under which every unknown person was filed: more, one after the other, than a request has time for."""
    world.arrive(A, "U", STUDY)
    for number in range(300):
        world.link(A, "U", PatientIdentifier(OIDS[A], f"S{number}"))
    world.settle()
    world.object(A, "U")
    counted = Rounds(world.table)
    page = explanation.explain(counted, world.caller(A), "U", B, None, world.now, world.tell)
    assert len(page["objections"]) == 1 and page["studies"][0]["rule"] == "objection"
    assert counted.rounds <= 25


def shared(world: World) -> None:
    code = fiscal_code()
    world.arrive(A, "1", STUDY, other_ids=[(code, CF)])
    world.arrive(B, "9", "1.2.2", other_ids=[(code, CF)])
    world.open(A, "1", B, receiving="9")
    world.settle()


def test_deciding_takes_two_consistent_reads_after_the_study_itself(world: World) -> None:
    """One of the patient's facts, those of linked numbers beside it, and one of the ends of the transfers found there."""
    shared(world)
    table = Rounds(world.table)
    view, _ = access.find_study(table, B, STUDY, None, world.now)
    assert view.owner == A
    assert table.rounds == 1 + 2
    assert table.kinds[0] == "query V#STUDY"
    assert sorted(table.kinds[1:]) == ["batch_get", *["query F#PATIENT"] * 3]


def test_ones_own_study_takes_one(world: World) -> None:
    shared(world)
    table = Rounds(world.table)
    access.find_study(table, A, STUDY, None, world.now)
    assert table.kinds == ["query V#STUDY", "get F#"]


def test_absent_and_hidden_take_the_same_requests_in_the_same_order(world: World) -> None:
    shared(world)
    heard = []
    for study in (STUDY, "1.2.999"):
        table = Rounds(world.table)
        with pytest.raises(NotFound):
            access.find_study(table, C, study, None, world.now)
        heard.append((table.rounds, sorted(table.kinds)))
    assert heard[0] == heard[1]


def test_deciding_on_many_studies_of_one_patient_takes_no_more_than_on_one(world: World) -> None:
    for number in range(50):
        world.arrive(A, "1", f"1.2.{number}")
    world.open(A, "1", B)
    world.settle()
    rows = [SearchRow.from_item(item.data) for item in world.table.memory.query_all(f"D#{B}", index="gsi3")]
    assert len(rows) == 50
    with world.counted() as requests:
        decided = access.decide(world.table, B, rows, world.now)
    assert all(study.decision.allowed for study in decided)
    assert dict(requests) == {"query": 1, "batch_get": 1}


def test_what_decides_is_read_without_what_only_lists_images(world: World) -> None:
    """A patient's many studies, or a stranger's forged claims of a code, make no decision slower."""
    code = fiscal_code()
    for number in range(150):
        world.arrive(A, "1", f"1.2.{number}", other_ids=[(code, CF)] if number == 0 else [])
    world.settle()
    for number in range(150):
        world.arrive(C, f"forged{number}", f"1.3.{number}", other_ids=[(code, CF)])
    world.open(A, "1", B)
    world.open(A, code, B, issuer=CF)
    world.settle()
    with world.counted() as requests:
        access.find_study(world.table, B, "1.2.7", None, world.now)
    assert dict(requests) == {"query": 3, "batch_get": 1}, "the study, its patient, and the code beside it"
    with world.counted() as requests:
        world.timeline(C, code, CF)
    assert requests["query"] <= access.WIDTH + 2


def test_a_transfer_of_a_patient_with_two_hundred_studies_makes_them_findable_in_one_pass(world: World) -> None:
    for number in range(200):
        world.arrive(A, "1", f"1.2.{number}")
    world.settle()
    world.open(A, "1", B, receiving="9")
    batch, world.table.pending = world.table.pending, []
    with world.counted() as requests:
        world.deliver(batch)
    assert len(world.found(B, ("limit", "1000"))) == 200
    assert len(world.found(B, ("PatientID", "9"), ("limit", "1000"))) == 200
    assert sum(requests.values()) <= 80, dict(requests)
    print(f"\n200 studies findable after {dict(requests)}")


def test_revoking_is_one_write_with_its_record(world: World) -> None:
    shared(world)
    transfer = world.open(A, "1", C)
    with world.counted() as requests:
        world.end(A, transfer)
    assert {kind: count for kind, count in requests.items() if kind in ("put", "transact")} == {"transact": 1}
    new = [key for key, item in world.table.memory.items().items() if key == (f"F#TRANSFER#{transfer}", "END")]
    assert len(new) == 1


def test_a_refused_timeline_takes_the_same_whether_or_not_the_number_is_known(world: World) -> None:
    shared(world)
    heard = []
    for number, issuer in (("1", OIDS[A]), ("nobody", OIDS[A]), (fiscal_code(), CF), (fiscal_code("19400101", "M"), CF)):
        table = Rounds(world.table)
        from chalicelib.services.finding import timeline

        with pytest.raises(NotFound):
            timeline.timeline(table, world.caller(C), number, issuer, world.now, world.tell)
        heard.append((table.rounds, sorted(table.kinds)))
    assert len({str(answer) for answer in heard}) == 1, heard
