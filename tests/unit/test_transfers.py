"""Transfers: the facts of one fold into what they say, in any order; and what a request may ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain import keys, transfers
from chalicelib.domain.errors import BadRequest, Conflict, Forbidden, NotFound
from chalicelib.domain.ports import Item
from chalicelib.domain.rfc3339 import iso, parse_moment
from chalicelib.domain.transfers import Transfer
from chalicelib.services.identity import known_patients
from chalicelib.services.sharing import acceptance, transfer_reading
from chalicelib.services.sharing import transfers as service
from chalicelib.services.sharing.transfer_reading import TransferFilter
from tests.fakes import Watched
from tests.streams import MOMENT
from tests.world import World, patient, reading_world

TRANSFER = Transfer(
    "0" * 32, "san-matteo", "maugeri", patient("san-matteo", "SM1"), MOMENT, MOMENT + timedelta(days=30), "rehabilitation"
)


def named(number: str, version: int) -> Transfer:
    return replace(TRANSFER, receiving=patient("maugeri", number), accepted_at=MOMENT, version=version)


PROPOSED = replace(TRANSFER, proposed=patient("maugeri", "MG1"))


def own(items: list[Item]) -> list[Item]:
    return [item for item in items if item.pk == keys.transfer_facts(TRANSFER.id)]


END = Item(keys.transfer_facts(TRANSFER.id), "END", {"at": iso(MOMENT)})


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (transfers.opening(TRANSFER), TRANSFER),
        (transfers.opening(PROPOSED), PROPOSED),
        ([*transfers.opening(TRANSFER), *transfers.changing(named("MG1", 1))], named("MG1", 1)),
        (
            [*transfers.opening(TRANSFER), *transfers.changing(named("MG1", 1)), *transfers.changing(named("MG2", 2))],
            named("MG2", 2),
        ),
        ([*transfers.opening(TRANSFER), END], replace(TRANSFER, ended=True)),
        ([*transfers.opening(TRANSFER), END, *transfers.changing(named("MG1", 1))], replace(named("MG1", 1), ended=True)),
        ([], None),
        ([END], None),
    ],
)
def test_facts_fold_into_the_transfer_in_any_order(facts: list[Item], expected: Transfer | None) -> None:
    for order in (facts, facts[::-1], sorted(facts, key=lambda item: hash(item.sk)), facts + facts):
        assert transfers.from_facts(own(order)) == expected


def test_the_patients_partition_says_the_same_as_the_transfers_own() -> None:
    facts = [*transfers.opening(TRANSFER), *transfers.changing(named("MG1", 1)), *transfers.changing(named("MG2", 2))]
    copies = [item for item in facts if item.pk == keys.patient_facts(TRANSFER.patient.hash)]
    assert transfers.in_patient(copies[::-1]) == [named("MG2", 2)]


@pytest.mark.parametrize(
    ("ended", "now", "status"),
    [
        (False, MOMENT, "active"),
        (False, MOMENT + timedelta(days=30), "expired"),
        (True, MOMENT, "revoked"),
        (True, MOMENT + timedelta(days=31), "revoked"),
    ],
)
def test_a_transfer_is_active_expired_or_revoked(ended: bool, now: datetime, status: str) -> None:
    assert replace(TRANSFER, ended=ended).status(now) == status


@given(moments=st.lists(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=2))])), min_size=2, max_size=2))
def test_moments_sort_as_their_texts(moments: list[datetime]) -> None:
    first, second = moments
    if (
        abs(first - second) >= timedelta(milliseconds=1)
        and min(first.year, second.year) > 1000
        and max(first.year, second.year) < 9999
    ):
        assert (iso(first) < iso(second)) is (first < second)


@pytest.mark.parametrize(
    "text", ["", "2026", "yesterday", "2026-03-02T10:00:00", "2026-13-01T00:00:00Z", None, 7, ["x"], "9" * 99]
)
def test_what_is_no_moment_with_an_offset_is_refused(text: object) -> None:
    with pytest.raises(BadRequest, match="expires_at"):
        parse_moment(text, "expires_at")


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_a_moment_that_does_not_exist_in_utc_is_refused_too(text: str) -> None:
    with pytest.raises(BadRequest, match="expires_at"):
        parse_moment(text, "expires_at")


# What the service takes ------------------------------------------------------------------------------


def city() -> World:
    """An archive in which two hospitals have made patients known."""
    archive = reading_world()
    for sender in ("san-matteo", "mondino"):
        for number in ("SM1", "SM2"):
            known_patients.make_known(
                archive.table, archive.caller(sender), number, {}, MOMENT, archive.act, lambda *entries: None
            )
    return archive


def opened(archive: World, key: str | None = None, sender: str = "san-matteo", **changes: Any) -> dict[str, Any]:
    body = {"patient": {"id": "SM1"}, "to": "maugeri", "reason": "rehabilitation", **changes}
    caller = archive.caller(sender)
    return service.open_transfer(archive.table, caller, body, key, MOMENT, archive.act, lambda *entries: None).to_json()


def test_a_transfer_is_opened_for_a_year_under_the_callers_numbering() -> None:
    answer = opened(city())
    assert answer["patient"] == {"id": "SM1", "issuer": patient("san-matteo", "").issuer}
    assert (answer["from"], answer["to"], answer["status"]) == ("san-matteo", "maugeri", "active")
    assert answer["expires_at"] == iso(MOMENT + timedelta(days=365))


def test_the_same_key_gives_the_same_transfer_and_another_body_a_conflict() -> None:
    archive = city()
    expires = "2026-09-01T10:00:00.123456+02:00"
    first = opened(archive, "k1", expires_at=expires)
    assert opened(archive, "k1", expires_at=expires) == first
    assert opened(archive, "k2", expires_at=expires)["id"] != first["id"]
    others: list[dict[str, Any]] = [
        {"reason": "surgery"},
        {"to": "mondino"},
        {"patient": {"id": "SM2"}},
        {"expires_at": "2026-09-02T10:00:00Z"},
    ]
    for changes in others:
        with pytest.raises(Conflict):
            opened(archive, "k1", **{"expires_at": expires, **changes})


def test_the_same_key_gives_the_same_transfer_when_it_is_over_or_its_receiver_has_left() -> None:
    archive = city()
    asked: dict[str, Any] = {"expires_at": iso(MOMENT + timedelta(seconds=4)), "receiving_patient_id": "MG1"}
    first = opened(archive, "k1", **asked)

    def again(key: str, **changes: Any) -> dict[str, Any]:
        body = {"patient": {"id": "SM1"}, "to": "maugeri", "reason": "rehabilitation", **asked, **changes}
        caller, later = archive.caller("san-matteo"), MOMENT + timedelta(days=1)
        return service.open_transfer(archive.table, caller, body, key, later, archive.act, lambda *entries: None).to_json()

    assert (again("k1")["id"], again("k1")["status"]) == (first["id"], "expired")
    archive.remove("maugeri")
    assert again("k1")["id"] == first["id"]
    with pytest.raises(Conflict):
        again("k1", reason="surgery")
    with pytest.raises(BadRequest, match="registered"):
        again("k2")


def test_the_same_key_of_another_institution_is_another_key() -> None:
    archive = city()
    assert opened(archive, "k1")["id"] != opened(archive, "k1", sender="mondino")["id"]


@pytest.mark.parametrize(
    ("changes", "parameter"),
    [
        ({"to": "nowhere"}, "to"),
        ({"to": "san-matteo"}, "to"),
        ({"to": 7}, "to"),
        ({"to": None}, "to"),
        ({"patient": "SM1"}, "patient"),
        ({"patient": None}, "patient"),
        ({"patient": {"id": ""}}, "patient.id"),
        ({"patient": {"id": "x" * 65}}, "patient.id"),
        ({"patient": {"id": "a\\b"}}, "patient.id"),
        ({"patient": {"id": "a\nb"}}, "patient.id"),
        ({"patient": {"id": 1}}, "patient.id"),
        ({"patient": {"id": "SM1", "issuer": 5}}, "patient.issuer"),
        ({"patient": {"id": "SM1", "issuer": "x" * 129}}, "patient.issuer"),
        ({"reason": ""}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"reason": ["x"]}, "reason"),
        ({"expires_at": "2026-03-02T09:30:00Z"}, "expires_at"),
        ({"expires_at": "2036-12-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": 5}, "expires_at"),
        ({"receiving_patient_id": {"id": "x"}}, "receiving_patient_id"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_what_a_transfer_cannot_be_is_refused_naming_the_field(changes: dict[str, Any], parameter: str) -> None:
    archive = city()
    before = archive.facts()
    with pytest.raises(BadRequest) as refused:
        opened(archive, **changes)
    assert refused.value.parameter == parameter
    assert archive.facts() == before


@pytest.mark.parametrize("body", [None, [], "x", 7, True])
def test_a_body_that_is_no_object_is_refused(body: object) -> None:
    archive = city()
    with pytest.raises(BadRequest):
        service.open_transfer(archive.table, archive.caller("maugeri"), body, None, MOMENT, archive.act, lambda *entries: None)


def test_only_the_receiver_names_its_number_and_only_a_party_knows_the_transfer() -> None:
    archive = city()
    answer = opened(archive)
    for institution, error in (("san-matteo", Forbidden), ("mondino", NotFound)):
        with pytest.raises(error):
            acceptance.accept(
                archive.table, archive.caller(institution), answer["id"], {"id": "X"}, MOMENT, archive.act, lambda *entries: None
            )
    known = acceptance.accept(
        archive.table, archive.caller("maugeri"), answer["id"], {"id": "MG1"}, MOMENT, archive.act, lambda *entries: None
    )
    assert known.to_json()["receiving_patient"]["id"] == "MG1"


def listed(archive: World, who: str, direction: str | None, status: str | None = None, limit: int = 2, **more: str) -> list[str]:
    """All pages of a list."""
    found: list[str] = []
    cursor: str | None = None
    for _ in range(50):
        page = transfer_reading.list_transfers(
            archive.table, archive.caller(who), TransferFilter(direction, status, **more), cursor, limit, MOMENT
        )
        assert len(page.transfers) <= limit
        found += [shown.transfer.id for shown in page.transfers]
        cursor = page.next
        if cursor is None:
            return found
        assert quote(cursor, safe="") == cursor, "who pastes it into a URL as it is means it too"
    raise AssertionError("the pages do not end")


def test_lists_are_newest_first_in_pages_by_side_and_status() -> None:
    archive = reading_world()
    made = [
        archive.open_transfer("san-matteo", "maugeri", f"SM{n}", opened_at=MOMENT - timedelta(minutes=n), days=n)
        for n in range(8)
    ]
    for transfer in made[::3]:
        archive.end_transfer(transfer)
    ids = [transfer.id for transfer in made]
    assert listed(archive, "san-matteo", "outgoing") == ids
    assert listed(archive, "maugeri", "incoming") == ids
    assert listed(archive, "san-matteo", "incoming") == listed(archive, "mondino", "outgoing") == []
    assert listed(archive, "maugeri", "incoming", "revoked") == ids[::3]
    assert set(listed(archive, "maugeri", "incoming", "active")) == set(ids) - set(ids[::3])


def test_without_a_direction_both_are_listed_in_one_order() -> None:
    archive = reading_world()
    made = [
        archive.open_transfer(*sides, f"N{n}", opened_at=MOMENT - timedelta(minutes=n), days=9)
        for n, sides in enumerate([("san-matteo", "maugeri"), ("maugeri", "san-matteo"), ("maugeri", "mondino")] * 3)
    ]
    archive.end_transfer(made[1])
    ids = [transfer.id for transfer in made if "san-matteo" in (transfer.sender, transfer.receiver)]
    for limit in (1, 2, 5, 100):
        assert listed(archive, "san-matteo", None, limit=limit) == ids
        assert listed(archive, "san-matteo", None, "active", limit=limit) == [
            transfer_id for transfer_id in ids if transfer_id != made[1].id
        ]


def test_lists_are_narrowed_and_turned_round_without_a_transfer_lost_or_told_twice() -> None:
    """As many as a busy hospital has: several statuses at once, the other hospital, a number, the oldest first, page by page."""
    archive = reading_world()
    sides = [("san-matteo", "maugeri"), ("maugeri", "san-matteo"), ("mondino", "san-matteo")]
    made = [
        archive.open_transfer(*sides[n % 3], f"N{n % 50}", opened_at=MOMENT - timedelta(minutes=n // 4), days=1 + n % 2)
        for n in range(240)
    ]
    for transfer in made[::7]:
        archive.end_transfer(transfer)
    every = listed(archive, "san-matteo", None, limit=1000)
    assert sorted(every) == sorted(transfer.id for transfer in made)
    known = {transfer.id: transfer for transfer in made}
    ended = {transfer.id for transfer in made[::7]}

    def those(wanted: Callable[[Transfer], bool]) -> list[str]:
        return [name for name in every if wanted(known[name])]

    for limit in (7, 100):
        assert listed(archive, "san-matteo", None, limit=limit) == every
        assert listed(archive, "san-matteo", None, limit=limit, order="oldest") == every[::-1]
        assert listed(archive, "san-matteo", None, "expired,revoked", limit=limit) == those(lambda each: each.id in ended)
        with_maugeri = those(lambda each: "maugeri" in (each.sender, each.receiver))
        assert listed(archive, "san-matteo", None, limit=limit, institution="maugeri") == with_maugeri
        of_patient = those(lambda each: each.patient.value == "N7" and each.id not in ended)
        assert listed(archive, "san-matteo", None, "active", limit=limit, patient="N7", order="oldest") == of_patient[::-1]
    assert listed(archive, "san-matteo", None, patient="N777") == listed(archive, "san-matteo", None, institution="x") == []


@pytest.mark.parametrize("wrong", [{"statuses": "active,"}, {"statuses": "ended"}, {"order": "random"}, {"direction": "both"}])
def test_a_list_that_cannot_be_asked_for_names_the_parameter(wrong: dict[str, str]) -> None:
    with pytest.raises(BadRequest) as refused:
        TransferFilter(**wrong)
    assert refused.value.parameter == {"statuses": "status"}.get(*wrong, *wrong)


def test_a_cursor_of_another_institution_leads_nowhere_but_into_ones_own_list() -> None:
    archive = reading_world()
    for n in range(4):
        archive.open_transfer("san-matteo", "maugeri", f"SM{n}", opened_at=MOMENT - timedelta(minutes=n))

    def listing(who: str, cursor: str | None) -> dict[str, Any]:
        page = transfer_reading.list_transfers(archive.table, archive.caller(who), TransferFilter("incoming"), cursor, 2, MOMENT)
        return page.to_json()

    stolen = listing("mondino", listing("maugeri", None)["next"])
    assert stolen == {"transfers": []}


def test_listing_looks_at_a_bounded_number_of_transfers_for_each_page() -> None:
    """However few have the status that is asked for: a page may be short, and then says where to go on."""
    archive = reading_world()
    for n in range(300):
        archive.open_transfer("san-matteo", "maugeri", "SM1", opened_at=MOMENT - timedelta(minutes=n))
    calls: list[str] = []
    page = transfer_reading.list_transfers(
        Watched(archive.table, calls.append), archive.caller("maugeri"), TransferFilter("incoming", "revoked"), None, 10, MOMENT
    )
    assert page.transfers == ()
    assert len(calls) <= 60
    assert listed(archive, "maugeri", "incoming", "revoked", limit=10) == []
