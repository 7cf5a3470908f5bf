"""Appending to the audit trail: nothing is lost, nothing half done, whoever writes at the same time."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.domain import audit, audit_chain, keys
from chalicelib.domain.audit import EVENTS, DisclosedStudy, Entry, Kind
from chalicelib.domain.errors import TryAgain
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Item, PutNew
from chalicelib.services.audit.trail import Trail
from tests.fakes import MemoryTable, Watched
from tests.unit.audit.trails import PATIENT, access, context, verified


def _records(table: MemoryTable) -> list[Item]:
    return [item for (pk, sk), item in table.items().items() if pk.startswith("F#AUDIT#") and sk != keys.HEAD]


def _sound(table: MemoryTable, institution: str = "maugeri") -> bool:
    return not [finding for shard in audit_chain.shards(institution) for finding in verified(table, shard)]


def test_a_record_says_who_what_whose_when_why_and_how_it_ended() -> None:
    table = MemoryTable()
    Trail(table, 10).append(context(), [access()])
    (item,) = _records(table)
    assert item.data | {"hash": "", "shard": "", "expires": 0} == {
        "at": "2026-03-01T12:00:00.000Z", "kind": "access", "outcome": "success", "purpose": "TREAT",
        "institution": "maugeri", "actor": "rossi", "role": "contenitore-institution-maugeri", "session": "maugeri",
        "address": "203.0.113.7", "request": "r-1", "route": "GET /studies/{study}/manifest",
        "owner": "san-matteo", "patients": [[PATIENT.issuer, PATIENT.value]], "study": "1.2.3",
        "basis": ["0123456789abcdef0123456789abcdef"], "count": 3,
        "seq": 1, "prev": audit_chain.GENESIS, "hash": "", "shard": "", "expires": 0,
    }  # fmt: skip


def test_a_record_is_found_by_its_owner_by_time_and_by_each_number_of_the_patient() -> None:
    table = MemoryTable()
    other = PatientIdentifier("2.16.840.1.113883.2.9.4.3.2", "RSSMRA85T10A562S")
    Trail(table, 10).append(context(), [access(patients=[PATIENT, other])])
    (item,) = _records(table)
    assert table.query(keys.audit_of_owner("san-matteo"), index="gsi3").items == [item]
    assert table.query(keys.audit_of_patient("san-matteo", PATIENT.hash), index="gsi1").items == [item]
    assert table.query(keys.audit_of_patient("san-matteo", other.hash), index="gsi2").items == [item]


def test_a_patient_with_more_numbers_than_a_record_carries_is_found_by_all_of_them() -> None:
    table = MemoryTable()
    numbers = [PatientIdentifier("1.2", str(number)) for number in range(5)]
    Trail(table, 10).append(context(), [access(patients=numbers)])
    for number in numbers:
        key = keys.audit_of_patient("san-matteo", number.hash)
        found = [item for index in ("gsi1", "gsi2") for item in table.query(key, index=index).items]
        assert len(found) == 1


def test_no_key_holds_a_patients_number() -> None:
    table = MemoryTable()
    Trail(table, 10).append(context(), [access()])
    (item,) = _records(table)
    keys = [item.pk, item.sk, *(part for pair in item.indexes.values() for part in pair)]
    assert not any(PATIENT.value in key for key in keys)


@given(
    text=st.text(max_size=2000), actor=st.text(max_size=300), route=st.sampled_from(["GET /dicomweb/studies"]),
    values=st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=64), max_size=2),
)  # fmt: skip
def test_a_record_takes_any_text_and_stays_small(text: str, actor: str, route: str, values: list[str]) -> None:
    patients = tuple(PatientIdentifier("2.16.840.1.113883.2.9.99.2.4.1", value) for value in values)
    entry = Entry(Kind.QUERY, "maugeri", patients, "1." * 31 + "1", text=text, basis=("a" * 32,) * 9, subject="s" * 500)
    (record,) = audit.records(context(actor=actor), [entry])
    assert len(json.dumps(record, ensure_ascii=False)) <= 1300
    json.dumps(record, ensure_ascii=False).encode()


def test_an_ordinary_access_takes_less_than_one_kilobyte_with_keys_and_indexes() -> None:
    table = MemoryTable()
    Trail(table, 10).append(context(), [access(study="1.2.826.0.1.3680043.8.498.12345678901234567890123456789012345")])
    (item,) = _records(table)
    text = json.dumps(item.data, separators=(",", ":")) + item.pk + item.sk + "".join(a + b for a, b in item.indexes.values())
    assert len(text) + 80 <= 1024  # 80: the names of the attributes


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=40), st.integers(2, 8))
def test_chains_are_sound_whoever_appends_at_the_same_time(requests: list[tuple[int, int]], threads: int) -> None:
    table = MemoryTable()
    trails = [Trail(table, 10) for _ in range(4)]  # four processes, each with its own memory of where it wrote

    def request(number: int) -> None:
        trail, entries = requests[number]
        assert (
            trails[trail].append(context(request=f"r-{number}"), [access(study=f"1.{number}.{n}") for n in range(entries)]) == []
        )

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(request, range(len(requests))))
    written = Counter(str(item.data["request"]) for item in _records(table))
    assert written == {f"r-{number}": entries for number, (_, entries) in enumerate(requests)}
    assert _sound(table)


def test_two_processes_that_take_one_chain_at_the_same_moment_leave_both_records() -> None:
    table = MemoryTable()
    other, came = Trail(table, 10), []

    def meanwhile(name: str) -> None:
        if name == "transact" and not came:
            came.append(name)
            random.seed(7)  # it begins with the same chain
            assert other.append(context(request="r-2"), [access()]) == []

    random.seed(7)
    assert Trail(Watched(table, meanwhile), 10).append(context(request="r-1"), [access()]) == []
    assert {str(item.data["request"]) for item in _records(table)} == {"r-1", "r-2"}
    assert _sound(table)


def test_threads_of_one_process_do_not_get_into_each_others_way() -> None:
    calls: Counter[str] = Counter()
    lock = threading.Lock()

    def count(name: str) -> None:
        with lock:
            calls[name] += 1

    table = MemoryTable()
    trail = Trail(Watched(table, count), 10)
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda number: trail.append(context(request=f"r-{number}"), [access()]), range(200)))
    assert len(_records(table)) == 200
    assert calls["transact"] == 200
    assert calls["get"] <= audit_chain.SHARDS
    assert _sound(table)


def test_a_process_pays_one_transaction_and_no_read_once_it_knows_its_head() -> None:
    calls: list[str] = []
    trail = Trail(Watched(MemoryTable(), calls.append), 10)
    trail.append(context(), [access()])
    calls.clear()
    trail.append(context(), [access(), access(study="1.2.4")])
    assert calls == ["transact"]


def test_all_records_of_a_request_are_in_one_chain_and_one_transaction() -> None:
    calls: list[str] = []
    table = MemoryTable()
    Trail(Watched(table, calls.append), 10).append(context(), [access(study=f"1.{n}") for n in range(99)])
    assert calls.count("transact") == 1
    assert len({item.pk for item in _records(table)}) == 1


def test_more_records_than_a_transaction_takes_are_all_written() -> None:
    table = MemoryTable()
    Trail(table, 10).append(context(), [access(study=f"1.{n}") for n in range(250)])
    assert len(_records(table)) == 250
    assert _sound(table)


def test_an_act_and_its_record_are_one_transaction() -> None:
    table = MemoryTable()
    act = PutNew(Item("F#TRANSFER#1", "OPEN", {"x": 1}))
    trail = Trail(table, 10)
    assert trail.append(context(), [access()], [act]) == []
    assert table.get("F#TRANSFER#1", "OPEN") is not None
    assert trail.append(context(), [access()], [act]) == [False]
    assert len(_records(table)) == 1
    assert trail.append(context(), [access()]) == []
    assert _sound(table)


def test_an_act_whose_record_cannot_be_written_is_not_done() -> None:
    def refuse(name: str) -> None:
        if name == "transact":
            raise TryAgain

    table = MemoryTable()
    with pytest.raises(TryAgain):
        Trail(Watched(table, refuse), 10).append(context(), [access()], [PutNew(Item("F#TRANSFER#1", "OPEN", {}))])
    assert table.items() == {}


def test_after_a_failure_the_chain_goes_on_where_it_truly_is() -> None:
    failing = threading.Event()

    def fail(name: str) -> None:
        if name == "transact" and failing.is_set():
            raise TryAgain

    table = MemoryTable()
    trail = Trail(Watched(table, fail), 10)
    for number in range(30):
        if number % 3 == 2:
            failing.set()
            with pytest.raises(TryAgain):
                trail.append(context(request=f"r-{number}"), [access()])
            failing.clear()
        else:
            trail.append(context(request=f"r-{number}"), [access()])
    assert len(_records(table)) == 20
    assert _sound(table)


def test_an_act_without_a_record_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one entry"):
        Trail(MemoryTable(), 10).append(context(), [], [PutNew(Item("a", "b"))])


def test_records_are_kept_for_as_long_as_configured() -> None:
    table = MemoryTable()
    Trail(table, 10).append(context(), [access()])
    (item,) = _records(table)
    years = (int(item.expires or 0) - context().at.timestamp()) / (365.25 * 86400)
    assert years == pytest.approx(10, abs=0.01)
    assert item.data["expires"] == item.expires


def test_what_others_patients_were_shown_is_one_disclosure_for_each() -> None:
    other = PatientIdentifier("1.2", "B")
    shown = [
        DisclosedStudy("maugeri", "1.1", (PATIENT,)), DisclosedStudy("san-matteo", "1.2", (PATIENT,), ("t1",)),
        DisclosedStudy("san-matteo", "1.3", (PATIENT,), ("t2",)), DisclosedStudy("san-matteo", "1.4", (other,), ("t1",)),
    ]  # fmt: skip
    entries = audit.disclosures("maugeri", shown)
    assert [(entry.owner, entry.patients, entry.study, entry.basis, entry.count) for entry in entries] == [
        ("san-matteo", (PATIENT,), None, ("t1", "t2"), 2),
        ("san-matteo", (other,), "1.4", ("t1",), 1),
    ]


def test_every_kind_of_event_has_its_code() -> None:
    assert set(EVENTS) == set(Kind)
