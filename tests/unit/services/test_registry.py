"""The registry: one item says what all versions of all institutions amount to, and two changes at once are not both made."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain import institutions
from chalicelib.domain.errors import Conflict, NotFound, TryAgain
from chalicelib.domain.institutions import Institution, Registry
from chalicelib.domain.ports import PutNew, Table
from chalicelib.services import membership
from chalicelib.services.registry import Caller, load_registry
from tests.fakes import MemoryTable, Watched

NOW = datetime(2026, 1, 1, tzinfo=UTC)
IDS = ("maugeri", "mondino", "san-matteo")


def body(number: int) -> dict[str, Any]:
    return {
        "name": f"Hospital {number}",
        "role_arn": f"arn:aws:iam::123456789012:role/hospital-{number}",
        "patient_id_issuer": f"1.2.{number}",
    }


def change(table: Table, known: Registry, who: str, number: int | None) -> None:
    """Register `who` with the role of that number, or remove it (None), on the strength of what was known."""
    caller = Caller(None, "operator", known)

    def act(writes: Any, *_: Any) -> list[bool]:
        return table.transact(writes)

    if number is None:
        membership.remove(caller, who, NOW, act)
    else:
        membership.register(table, caller, who, body(number), NOW, act, lambda *_: None)


def from_facts(table: Table) -> dict[str, Institution]:
    """The members by what was ever registered, whatever the one item says."""
    versions = [institutions.from_data(item.data) for item in table.query_all("F#REGISTRY", "INSTITUTION#")]
    return institutions.fold(versions).members


@given(st.lists(st.tuples(st.sampled_from(IDS), st.one_of(st.none(), st.integers(1, 4))), max_size=12))
def test_what_is_read_is_what_the_facts_amount_to(changes: list[tuple[str, int | None]]) -> None:
    table = MemoryTable()
    for who, number in changes:
        with contextlib.suppress(Conflict, NotFound):
            change(table, load_registry(table), who, number)
        assert load_registry(table).members == from_facts(table)


def test_two_that_want_the_same_role_at_the_same_moment_do_not_both_get_it() -> None:
    table = MemoryTable()
    change(table, load_registry(table), "mondino", 3)
    known = load_registry(table)
    change(table, known, "san-matteo", 1)
    with pytest.raises(TryAgain):
        change(table, known, "maugeri", 2)
    with pytest.raises(Conflict):
        change(table, known, "maugeri", 1)
    with pytest.raises(Conflict):
        change(table, load_registry(table), "maugeri", 1)
    assert [member.id for member in load_registry(table).members.values()] == ["mondino", "san-matteo"]


def test_a_registry_of_before_there_was_one_item_is_read_from_its_facts_until_the_next_change() -> None:
    table = MemoryTable()
    change(table, load_registry(table), "san-matteo", 1)
    older = MemoryTable()
    for item in table.query_all("F#REGISTRY", "INSTITUTION#"):
        older.put(PutNew(item))
    assert set(load_registry(older).members) == {"san-matteo"}
    change(older, load_registry(older), "maugeri", 2)
    assert load_registry(older).members == from_facts(older)
    assert set(load_registry(older).members) == {"maugeri", "san-matteo"}


def test_what_a_registration_does_not_name_stays_as_it_is() -> None:
    table = MemoryTable()
    change(table, load_registry(table), "san-matteo", 1)

    def put(**body: object) -> Institution:
        caller = Caller(None, "operator", load_registry(table))
        membership.register(table, caller, "san-matteo", body, NOW, lambda writes, *_: table.transact(writes), lambda *_: None)
        return load_registry(table).members["san-matteo"]

    named = put(issuer_names=["ADT1", " adt1 ", "RIS"], ae_titles=["SANMATTEO"])
    assert (named.name, named.issuer_names, named.ae_titles) == ("Hospital 1", ("ADT1", "RIS"), ("SANMATTEO",))
    assert put(corrections="conflict").issuer_names == ("ADT1", "RIS")
    assert put().corrections == "conflict"
    assert put(issuer_names=[]).issuer_names == ()


def test_a_registration_of_before_there_were_names_for_its_issuer_is_read() -> None:
    kept = {"id": "mondino", "role_arn": body(3)["role_arn"], "patient_id_issuer": "1.2.3", "ae_titles": ["M"], "version": 2}
    read = institutions.from_data(kept | {"name": "Mondino", "removed": False, "at": "2026-01-01T00:00:00Z", "by": "operator"})
    assert (read.ae_titles, read.version, read.issuer_names, read.corrections) == (("M",), 2, (), "accept")


def test_every_request_reads_one_item_of_it() -> None:
    table, read = MemoryTable(), []
    for number, who in enumerate(IDS, 1):
        change(table, load_registry(table), who, number)
    assert set(load_registry(Watched(table, read.append)).members) == set(IDS)
    assert read == ["get"]
