"""The way back of a transfer needs the receiver; what a sender says of the receiver's number opens, links and tells nothing."""

from __future__ import annotations

from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from chalicelib.domain.errors import BadRequest, Conflict, Forbidden, NotFound, PreconditionFailed
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Table
from chalicelib.domain.rfc3339 import iso
from chalicelib.services import access
from chalicelib.services.sharing import acceptance, expiries, transfers
from tests.interleaving import interleave
from tests.sharing.api import Api
from tests.sharing.codes import fiscal_code
from tests.sharing.images import image
from tests.sharing.test_identifiers import CF, joined
from tests.world import OIDS, A, B, C, World

ADA, UGO = fiscal_code("19600315", "F"), fiscal_code("19710220", "M")
PRIOR, FOLLOW_UP = "1.2.1", "1.2.2"


def discharged(world: World, **more: str) -> str:
    """San Matteo has transferred its patient 1 to Maugeri, which made a follow-up under its number 9; the transfer's id."""
    world.arrive(A, "1", PRIOR)
    world.arrive(B, "9", FOLLOW_UP, date="20260401")
    transfer = world.open(A, "1", B, **more)
    world.settle()
    return transfer


def entries(world: World, kind: str, owner: str) -> int:
    return sum(
        pk.startswith("F#AUDIT#") and item.data.get("kind") == kind and item.data.get("owner") == owner
        for (pk, _), item in world.table.memory.items().items()
    )


# What opens the way back ------------------------------------------------------------------------------------------


def test_the_sender_sees_the_follow_up_only_while_the_receivers_acceptance_stands(world: World) -> None:
    transfer = discharged(world)
    assert world.sees(B, PRIOR), "the receiver sees from the opening on"
    assert not world.sees(A, FOLLOW_UP)
    accepted = world.accept(B, transfer, "9")
    assert accepted["receiving_patient"] == {"id": "9", "issuer": OIDS[B]}
    assert world.transfer(A, transfer)["accepted_at"] == accepted["accepted_at"] == "2026-03-02T09:00:00.000Z"
    assert world.sees(A, FOLLOW_UP), "at once"
    world.settle()
    assert world.found(A, ("PatientID", "1")) == {PRIOR, FOLLOW_UP}
    assert "accepted_at" not in world.take_back(B, transfer)
    assert not world.sees(A, FOLLOW_UP), "at once"
    assert world.handed_out(A, FOLLOW_UP) is None
    assert world.sees(B, PRIOR)
    assert "accepted_at" not in world.take_back(B, transfer), "however often"
    world.settle()
    assert world.found(A) == {PRIOR}
    world.later(minutes=1)
    assert world.accept(B, transfer, "9")["accepted_at"] == "2026-03-02T09:01:00.000Z"
    world.settle()
    assert world.found(A) == {PRIOR, FOLLOW_UP}


def test_each_act_is_told_to_both_and_stands_in_both_trails(world: World) -> None:
    transfer = discharged(world)
    world.accept(B, transfer, "9")
    world.take_back(B, transfer)
    world.accept(B, transfer, "9")
    world.extend(A, transfer, world.now + timedelta(days=400))
    world.settle()
    for who in (A, B):
        told = [change["kind"] for change in world.changes(who) if change["kind"].startswith("transfer-")]
        assert told == ["transfer-opened", "transfer-accepted", "transfer-waiting", "transfer-accepted", "transfer-extended"]
        for kind, count in {"transfer-accepted": 2, "transfer-acceptance-ended": 1, "transfer-extended": 1}.items():
            assert entries(world, kind, who) == count


def test_only_the_receiver_accepts_and_takes_back_and_only_the_sender_extends(world: World) -> None:
    transfer = discharged(world)
    for who, error in ((A, Forbidden), (C, NotFound)):
        with pytest.raises(error):
            world.accept(who, transfer, "9")
        with pytest.raises(error):
            world.take_back(who, transfer)
    with pytest.raises(Forbidden):
        world.extend(B, transfer, world.now + timedelta(days=400))
    with pytest.raises(NotFound):
        world.extend(C, transfer, world.now + timedelta(days=400))


def test_nothing_is_accepted_taken_back_or_extended_of_a_transfer_that_is_over(world: World) -> None:
    transfer = discharged(world)
    world.accept(B, transfer, "9")
    world.end(A, transfer)
    for act in (
        lambda: world.accept(B, transfer, "10"),
        lambda: world.take_back(B, transfer),
        lambda: world.extend(A, transfer, world.now + timedelta(days=400)),
    ):
        with pytest.raises(Conflict):
            act()
    assert not world.sees(A, FOLLOW_UP)


def test_acceptance_ends_with_the_link_that_it_rests_on_whoever_ends_that(world: World) -> None:
    transfer = discharged(world)
    for who, number in ((B, "9"), (A, "1")):
        world.accept(B, transfer, "9")
        (link,) = [link for link in world.links(who, number) if link["status"] == "confirmed"]
        world.undo(who, number, link["link"])
        assert "accepted_at" not in world.transfer(A, transfer)
        assert not world.sees(A, FOLLOW_UP)


@pytest.mark.parametrize("body", [[], "9", {"id": None}, {"id": ""}, {"id": "9", "more": 1}, {"issuer": CF}, {"id": ["9"]}])
def test_what_cannot_be_a_number_accepts_nothing(world: World, body: object) -> None:
    transfer = discharged(world)
    with pytest.raises(BadRequest):
        acceptance.accept(world.table, world.caller(B), transfer, body, world.now, world.act, world.tell)
    for issuer in (OIDS[A], OIDS[C], "somebody's"):
        body = {"id": "1", "issuer": issuer}
        with pytest.raises(BadRequest):
            acceptance.accept(world.table, world.caller(B), transfer, body, world.now, world.act, world.tell)
    assert "accepted_at" not in world.transfer(B, transfer)


def test_a_hospital_that_files_its_patients_under_their_code_accepts_under_that(world: World) -> None:
    world.arrive(A, "1", PRIOR, other_ids=[(ADA, CF)])
    world.arrive(B, ADA, FOLLOW_UP, universal=CF, date="20260401")
    world.settle()
    for transfer in (world.open(A, "1", B), world.open(A, ADA, B, issuer=CF)):
        assert not world.sees(A, FOLLOW_UP)
        body = {"id": ADA, "issuer": CF}
        acceptance.accept(world.table, world.caller(B), transfer, body, world.now, world.act, world.tell)
        assert world.sees(A, FOLLOW_UP)
        world.end(B, transfer)


def test_whom_the_receiver_takes_for_the_patient_opens_nothing_that_the_sender_has_of_that_one(world: World) -> None:
    """The number that it names is its word: by another person's it would read all that the sender has under that."""
    transfer = discharged(world)
    world.arrive(A, "9", "1.2.4", universal=OIDS[B], birth="19710220", sex="M", name="Neri^Ugo")
    world.settle()
    world.accept(B, transfer, "9")
    assert not world.sees(B, "1.2.4"), "at once"
    world.settle()
    assert world.found(B) == {PRIOR, FOLLOW_UP}
    assert "1.2.4" not in world.on_timeline(B, "9", OIDS[B])
    assert world.sees(B, PRIOR)
    world.take_back(B, transfer)
    world.link(A, "1", PatientIdentifier(OIDS[B], "9"))
    assert world.sees(B, "1.2.4"), "what the sender says of its own does"


def test_a_national_code_is_accepted_under_only_where_it_is_known_to_be_the_patients(world: World) -> None:
    """It is everybody's number: what the sender and third ones have under it would become this patient's, in their own views,
    and their acceptances would be of somebody with another code."""
    transfer = discharged(world)
    beside = world.open(A, "1", C)
    world.arrive(A, UGO, "1.2.3", universal=CF, birth="19710220", sex="M", name="Neri^Ugo")
    world.arrive(C, "7", "1.2.7", date="20260401", other_ids=[(ADA, CF)])
    world.settle()
    world.accept(C, beside, "7")
    with pytest.raises(Conflict, match="national code"):
        body = {"id": UGO, "issuer": CF}
        acceptance.accept(world.table, world.caller(B), transfer, body, world.now, world.act, world.tell)
    world.settle()
    assert not world.sees(B, "1.2.3")
    assert world.found(A, ("PatientID", "1")) == {PRIOR, "1.2.7"}
    assert "accepted_at" in world.transfer(C, beside)
    assert "accepted_at" not in world.transfer(B, transfer)


# With what is linked already --------------------------------------------------------------------------------------


def by_code(world: World, *numbers: str) -> str:
    world.arrive(A, "1", PRIOR, other_ids=[(ADA, CF)])
    for place, number in enumerate(numbers):
        world.arrive(B, number, f"{FOLLOW_UP}{place}", date="20260401", other_ids=[(ADA, CF)])
    transfer = world.open(A, "1", B)
    world.settle()
    return transfer


def test_a_number_that_counts_is_not_yet_an_acceptance_and_an_empty_body_accepts_with_it(world: World) -> None:
    transfer = by_code(world, "9")
    assert joined(world, A, "1", OIDS[B], "9")
    assert not world.sees(A, f"{FOLLOW_UP}0")
    assert world.transfer(B, transfer)["linked_patients"] == [{"id": "9", "issuer": OIDS[B]}]
    assert "linked_patients" not in world.transfer(A, transfer), "the sender is told nothing"
    assert world.accept(B, transfer)["receiving_patient"]["id"] == "9"
    assert world.sees(A, f"{FOLLOW_UP}0")
    assert world.accept(B, transfer)["receiving_patient"]["id"] == "9", "again: the same answer"
    world.take_back(B, transfer)
    assert joined(world, A, "1", OIDS[B], "9"), "what the code joins stays joined"
    assert not world.sees(A, f"{FOLLOW_UP}0")


@pytest.mark.parametrize("numbers", [(), ("9", "10"), ("9", "10", "11")])
def test_an_empty_body_accepts_with_one_linked_number_and_says_how_many_there_are_instead(
    api: Api, numbers: tuple[str, ...]
) -> None:
    world = api.world
    world.send(A, image("1", PRIOR, code=ADA))
    for place, number in enumerate(numbers):
        world.send(B, image(number, f"{FOLLOW_UP}{place}", code=ADA))
    transfer = world.open(A, "1", B)
    world.settle()
    answer = api.call(B, "PUT", "/transfers/{transfer}/receiving-patient", body={}, transfer=transfer)
    assert (answer.status, answer.json["count"]) == (409, len(numbers))
    assert "accepted_at" not in world.transfer(B, transfer)


def test_what_a_person_of_the_sender_confirmed_is_not_the_receivers_word(world: World) -> None:
    """Mondino received a patient of San Matteo; it links a number of its own to that one, and sends it back."""
    world.arrive(A, "1", PRIOR)
    world.arrive(C, "5", "1.2.5")
    world.open(A, "1", C)
    world.settle()
    world.confirm(C, "5", {"issuer": OIDS[A], "id": "1"})
    transfer = world.open(C, "5", A)
    world.arrive(A, "1", FOLLOW_UP, date="20260401")
    world.settle()
    assert world.transfer(A, transfer)["linked_patients"] == []
    with pytest.raises(Conflict) as refused:
        world.accept(A, transfer)
    assert refused.value.count == 0


def test_a_receiver_whose_own_word_linked_the_number_accepts_with_it(world: World) -> None:
    transfer = discharged(world)
    (proposal,) = world.links(B, "9")
    world.confirm(B, "9", {"link": proposal["link"]})
    assert not world.sees(A, FOLLOW_UP)
    assert world.accept(B, transfer)["receiving_patient"]["id"] == "9"
    world.take_back(B, transfer)
    assert joined(world, A, "1", OIDS[B], "9"), "what a person confirmed stays"


# Lasting longer ---------------------------------------------------------------------------------------------------


def test_a_transfer_is_extended_and_never_shortened_nor_beyond_ten_years(world: World) -> None:
    transfer = world.open(A, "1", B, expires_at="2026-03-10T00:00:00Z")
    world.arrive(A, "1", PRIOR)
    later = world.now + timedelta(days=30)
    for asked in (world.now + timedelta(days=2), world.now - timedelta(days=1), world.now + timedelta(days=3653, seconds=1)):
        with pytest.raises(BadRequest) as refused:
            world.extend(A, transfer, asked)
        assert refused.value.parameter == "expires_at"
    longest = world.now + timedelta(days=3653)
    assert world.extend(A, world.open(A, "1", C), longest)["expires_at"] == iso(longest)
    assert world.extend(A, transfer, later)["expires_at"] == "2026-04-01T09:00:00.000Z"
    assert world.extend(A, transfer, later)["expires_at"] == "2026-04-01T09:00:00.000Z", "again: the same answer"
    world.settle()
    world.later(days=20)
    assert expiries.notify_expired(world.table, world.now) == 0
    assert world.found(B) == {PRIOR}, "after the first expiry"
    world.later(days=20)
    assert not world.sees(B, PRIOR)
    assert expiries.notify_expired(world.table, world.now) == 1
    assert expiries.notify_expired(world.table, world.now) == 0
    with pytest.raises(Conflict):
        world.extend(A, transfer, world.now + timedelta(days=9))


@pytest.mark.parametrize("body", [None, {}, [], {"expires_at": None}, {"expires_at": "soon"}, {"expires_at": 7}, {"reason": "x"}])
def test_what_is_no_expiry_extends_nothing(world: World, body: object) -> None:
    transfer = world.open(A, "1", B)
    with pytest.raises(BadRequest):
        transfers.extend_transfer(world.table, world.caller(A), transfer, body, world.now, world.act, world.tell)


def test_what_waits_is_listed(api: Api) -> None:
    world = api.world
    world.send(A, image("1", PRIOR, code=ADA), image("2", "1.2.4"))
    world.send(B, image("9", FOLLOW_UP, code=ADA))
    waits, accepted, over = world.open(A, "1", B), world.open(A, "2", B, receiving="10"), world.open(A, "2", B)
    world.end(A, over)
    world.settle()

    def listed(who: str, **query: str) -> list[str]:
        answer = api.call(who, "GET", "/transfers", list(query.items()))
        assert answer.status == 200
        return [transfer["id"] for transfer in answer.json["transfers"]]

    assert listed(B, direction="incoming", accepted="false") == [waits]
    assert listed(A, direction="outgoing", accepted="false") == [waits]
    assert listed(B, accepted="true") == [accepted]
    assert listed(B, accepted="false", status="revoked") == [over]
    assert listed(A, direction="incoming", accepted="false") == []
    assert api.call(B, "GET", "/transfers", [("accepted", "maybe")]).json["parameter"] == "accepted"
    (shown,) = api.call(B, "GET", "/transfers", [("accepted", "false")]).json["transfers"]
    assert shown["linked_patients"] == [{"id": "9", "issuer": OIDS[B]}]


def test_a_transfer_that_was_changed_often_is_listed_as_it_stands(world: World) -> None:
    transfer = discharged(world)
    for number in ("9", "10", "11", "12", "13"):
        world.accept(B, transfer, number)
    assert [transfer["receiving_patient"]["id"] for transfer in world.transfers(B)] == ["13"]
    world.take_back(B, transfer)
    assert ["accepted_at" in transfer for transfer in world.transfers(B)] == [False]


# At the same moment -----------------------------------------------------------------------------------------------


def acting(table: Table) -> object:
    def act(writes: list[object], *_: object) -> list[bool]:
        return table.transact(writes)  # type: ignore[arg-type]

    return act


CHOICES = list(product((0, 1), repeat=6))[::5]


@pytest.mark.parametrize("choices", CHOICES)
def test_two_numbers_accepted_at_once_leave_one_with_one_link(choices: tuple[int, ...]) -> None:
    world = World(audited=False)
    transfer = discharged(world)

    def accept(number: str) -> object:
        return lambda table: acceptance.accept(
            table, world.caller(B), transfer, {"id": number}, world.now, acting(table), world.tell
        )

    interleave(world.table, [accept("9"), accept("10")], choices)  # type: ignore[list-item]
    number = world.transfer(B, transfer)["receiving_patient"]["id"]
    record = access.load_record(world.table, PatientIdentifier(OIDS[A], "1").hash)
    assert [number.value for number in record.linked] == [number]
    world.settle()
    assert world.sees(A, FOLLOW_UP) is (number == "9")


@pytest.mark.parametrize("choices", CHOICES)
@pytest.mark.parametrize("first", ["end", "take back"])
def test_acceptance_while_the_transfer_ends_or_is_taken_back_opens_nothing_that_should_be_shut(
    choices: tuple[int, ...], first: str
) -> None:
    world = World(audited=False)
    transfer = discharged(world)
    if first == "take back":
        world.accept(B, transfer, "9")

    def accept(table: Table) -> None:
        try:
            acceptance.accept(table, world.caller(B), transfer, {"id": "9"}, world.now, acting(table), world.tell)
        except Conflict:
            assert first == "end"

    def shut(table: Table) -> None:
        if first == "end":
            transfers.end_transfer(table, world.caller(A), transfer, world.now, acting(table), world.tell)
        else:
            acceptance.take_back(table, world.caller(B), transfer, world.now, acting(table), world.tell)

    interleave(world.table, [accept, shut], choices)
    known = world.transfer(A, transfer)
    assert world.sees(A, FOLLOW_UP) is ("accepted_at" in known and known["status"] == "active")
    if first == "end":
        assert known["status"] == "revoked"
    world.settle()
    assert (FOLLOW_UP in world.found(A)) is world.sees(A, FOLLOW_UP)


@pytest.mark.parametrize("choices", CHOICES)
@pytest.mark.parametrize("other", ["accept", "extend"])
def test_an_end_that_meets_another_change_either_ends_it_or_says_that_it_did_not(choices: tuple[int, ...], other: str) -> None:
    """Both clerks see the transfer wait. Whoever is first, one that was told to have ended it has."""
    world = World(audited=False)
    transfer = discharged(world)
    waits, told = f'"{world.transfer(A, transfer)["state"]}"', []

    def end(table: Table) -> None:
        try:
            transfers.end_transfer(table, world.caller(A), transfer, world.now, acting(table), world.tell, waits)
            told.append("ended")
        except PreconditionFailed:
            told.append("not ended")

    def change(table: Table) -> None:
        try:
            if other == "accept":
                acceptance.accept(table, world.caller(B), transfer, {"id": "9"}, world.now, acting(table), world.tell, waits)
            else:
                body, caller = {"expires_at": iso(world.now + timedelta(days=700))}, world.caller(A)
                transfers.extend_transfer(table, caller, transfer, body, world.now, acting(table), world.tell, waits)
        except (Conflict, PreconditionFailed):
            assert told == ["ended"]

    interleave(world.table, [end, change], choices)
    ended = told == ["ended"]
    assert world.transfer(A, transfer)["status"] == ("revoked" if ended else "active")
    world.settle()
    assert world.sees(B, PRIOR) is not ended
    assert world.sees(A, FOLLOW_UP) is (not ended and other == "accept")


@pytest.mark.parametrize("choices", CHOICES)
def test_a_reading_that_begins_after_the_acceptance_was_taken_back_sees_nothing(choices: tuple[int, ...]) -> None:
    world = World(audited=False)
    transfer = discharged(world)
    world.accept(B, transfer, "9")
    world.settle()
    taken, seen_after = [], []

    def take_back(table: Table) -> None:
        acceptance.take_back(table, world.caller(B), transfer, world.now, acting(table), world.tell)
        taken.append(True)

    def read(table: Table) -> None:
        for _ in range(4):
            before = bool(taken)
            try:
                access.find_study(table, A, FOLLOW_UP, None, world.now)
                seen_after.append(before)
            except NotFound:
                pass

    interleave(world.table, [take_back, read], choices)
    assert not any(seen_after)


# Who acts on what they saw ----------------------------------------------------------------------------------------


def _asked(api: Api, transfer: str, act: str, if_match: str | None) -> tuple[int, dict[str, Any]]:
    who, method, path, body = {
        "accept": (B, "PUT", "/receiving-patient", {"id": "9"}),
        "accept otherwise": (B, "PUT", "/receiving-patient", {"id": "10"}),
        "take back": (B, "DELETE", "/receiving-patient", None),
        "extend": (A, "PATCH", "", {"expires_at": iso(api.world.now + timedelta(days=400))}),
        "end": (B, "DELETE", "", None),
    }[act]
    headers = {} if if_match is None else {"If-Match": if_match}
    answer = api.call(who, method, "/transfers/{transfer}" + path, body=body, headers=headers, transfer=transfer)
    return answer.status, answer.json


@pytest.mark.parametrize("act", ["accept", "take back", "extend", "end"])
@pytest.mark.parametrize("since", ["accept", "extend", "take back", "end"])
def test_who_says_how_a_transfer_was_does_nothing_once_it_is_another_way(api: Api, since: str, act: str) -> None:
    world = api.world
    transfer = discharged(world)
    if since == "take back":
        world.accept(B, transfer, "10")
    seen = f'"{world.transfer(B, transfer)["state"]}"'
    assert _asked(api, transfer, {"accept": "accept otherwise"}.get(since, since), seen)[0] == 200
    before = world.transfer(B, transfer)
    told = {
        kind: entries(world, kind, A)
        for kind in ("transfer-accepted", "transfer-acceptance-ended", "transfer-extended", "transfer-ended")
    }
    status, problem = _asked(api, transfer, act, seen)
    assert (status, problem["type"]) == (412, "urn:contenitore:problem:precondition-failed")
    assert world.transfer(B, transfer) == before
    assert {kind: entries(world, kind, A) for kind in told} == told
    now = f'"0", W/"x" , "{before["state"]}"'
    assert _asked(api, transfer, "end", now)[0] == 200


def test_who_does_not_say_how_it_was_acts_as_ever_and_an_expired_one_is_another(api: Api) -> None:
    world = api.world
    transfer = discharged(world)
    for act in ("accept", "accept otherwise", "accept"):
        assert _asked(api, transfer, act, None)[0] == 200
    assert _asked(api, transfer, "extend", "*")[0] == 200
    seen = f'"{world.transfer(B, transfer)["state"]}"'
    world.now += timedelta(days=500)
    asked = world.table, world.caller(B), transfer, world.now, world.act, world.tell
    with pytest.raises(PreconditionFailed):
        transfers.end_transfer(*asked, seen)
    assert world.transfer(B, transfer)["status"] == "expired"
    for _ in range(2):
        assert transfers.end_transfer(*asked).to_json()["status"] == "revoked"
    assert entries(world, "transfer-ended", A) == 1


def test_the_state_that_is_shown_is_the_one_that_counts_once_the_link_of_an_acceptance_is_undone(api: Api) -> None:
    world = api.world
    transfer = discharged(world)
    before = world.transfer(B, transfer)["state"]
    world.accept(B, transfer, "9")
    (link,) = [link for link in world.links(B, "9") if link["status"] == "confirmed"]
    world.undo(B, "9", link["link"])
    assert world.transfer(B, transfer)["state"] == before
    assert _asked(api, transfer, "accept", f'"{before}"')[0] == 200


@pytest.mark.parametrize("known", [True, False], ids=["it has images", "it has none yet"])
def test_after_a_merge_what_was_sent_is_proposed_to_the_number_that_stays(world: World, known: bool) -> None:
    """Whoever came unknown gets a name, and the number of then is given up (A40): nothing led from the new one to the film."""
    world.arrive(A, "1", "1.1")
    world.arrive(B, "8", "2.1", date="20260401", name="SCONOSCIUTO")
    if known:
        world.arrive(B, "9", "2.2", date="20260401", name="BIANCHI^ADA")
    world.open(A, "1", B, receiving="8")
    assert world.links(B, "9") == [] if known else True
    world.confirm(B, "9", {"id": "8"})
    world.settle()
    (proposal,) = [link for link in world.links(B, "9") if link["status"] == "proposed"]
    assert (proposal["identifier"]["id"], proposal["evidence"][0]) == ("1", "linked-to-own-number")
    assert "1.1" not in world.on_timeline(B, "9")
    world.confirm(B, "9", {"link": proposal["link"]})
    world.arrive(B, "9", "2.3", date="20260402")
    world.settle()
    assert world.on_timeline(B, "9") == {"1.1", "2.1", "2.3"} | ({"2.2"} if known else set()) == world.on_timeline(A, "1")
    (made,) = [link for link in world.links(B, "9") if link["identifier"]["id"] == "8"]
    world.undo(B, "9", made["link"])
    assert not world.sees(A, "2.3"), "only what is linked to the number that was accepted"


@pytest.mark.parametrize("name", ["BIANCHI^ADA", "ROSSI^MARIA"], ids=["another's", "the same person's"])
def test_a_merge_that_was_none_takes_with_it_what_was_confirmed_because_of_it(world: World, name: str) -> None:
    world.arrive(A, "1", "1.1", name="ROSSI^MARIA")
    world.arrive(B, "8", "2.1", date="20260401", name="SCONOSCIUTO")
    world.arrive(B, "9", "2.2", date="20260401", name=name)
    transfer = world.open(A, "1", B, receiving="8")
    merge = world.confirm(B, "9", {"id": "8"})
    world.settle()
    (proposal,) = [link for link in world.links(B, "9") if link["status"] == "proposed"]
    assert proposal["evidence"][0] == "linked-to-own-number"
    world.confirm(B, "9", {"link": proposal["link"]})
    world.settle()
    assert world.on_timeline(B, "9") == {"1.1", "2.1", "2.2"}
    world.undo(B, "9", merge["link"])
    world.settle()
    own_reason = name == "ROSSI^MARIA"
    assert world.on_timeline(B, "9") == {"2.2"} | ({"1.1"} if own_reason else set())
    assert world.on_timeline(B, "8") == {"1.1", "2.1"}
    assert world.transfer(B, transfer)["receiving_patient"]["id"] == "8"
    assert not world.sees(A, "2.2") or own_reason


def test_a_merge_of_numbers_that_a_code_joined_outlives_the_code(world: World) -> None:
    """A registration mistypes a birth date and corrects it: what the code joined is gone for good, what it merged is not."""
    for number in ("8", "9"):
        world.arrive(B, number, f"2.{number}", other_ids=[(ADA, CF)])
    world.settle()
    merge = world.confirm(B, "9", {"id": "8"})
    world.settle()

    def linked() -> list[str]:
        return [link["identifier"]["id"] for link in world.links(B, "9") if link["status"] == "confirmed"]

    assert sorted(linked()) == sorted(["8", ADA])
    world.arrive(B, "9", "2.10", birth="19610315", other_ids=[(ADA, CF)])
    world.settle()
    assert linked() == ["8"]
    assert world.on_timeline(B, "9") == {"2.8", "2.9", "2.10"}
    world.undo(B, "9", merge["link"])
    world.settle()
    assert world.on_timeline(B, "9") == {"2.9", "2.10"}


def test_undoing_a_merge_of_numbers_that_a_code_joined_undoes_both(world: World) -> None:
    for number in ("8", "9"):
        world.arrive(B, number, f"2.{number}", other_ids=[(ADA, CF)])
    world.settle()
    merge = world.confirm(B, "9", {"id": "8"})
    assert world.confirm(B, "9", {"id": "8"})["link"] == merge["link"]
    world.settle()
    world.undo(B, "9", merge["link"])
    world.settle()
    assert world.on_timeline(B, "9") == {"2.9"}


def test_undoing_what_a_code_and_a_person_said_ends_the_acceptance_once(world: World) -> None:
    for owner, number in ((A, "1"), (B, "9")):
        world.arrive(owner, number, f"2.{number}", other_ids=[(ADA, CF)])
    world.settle()
    transfer = world.open(A, "1", B, receiving="9")
    world.settle()
    link = world.confirm(B, "9", {"id": "1", "issuer": OIDS[A]})
    world.settle()
    world.undo(B, "9", link["link"])
    world.settle()
    assert "receiving_patient" not in world.transfer(B, transfer)
    assert [shown for shown in world.links(B, "9") if shown["identifier"]["id"] == "1" and shown["status"] == "confirmed"] == []


def test_a_sender_that_merges_its_numbers_is_proposed_what_the_transfer_told_it_of_and_nothing_else(world: World) -> None:
    for number in ("1", "2", "3"):
        world.arrive(A, number, f"1.{number}", name=f"NOME{number}^X")
    world.arrive(B, "8", "2.1", date="20260401", name="SCONOSCIUTO")
    world.arrive(C, "77", "3.1", name="ALTRO^Y")
    world.open(A, "2", B, receiving="8")
    world.open(C, "77", B, receiving="8")
    world.confirm(A, "2", {"id": "1"})
    world.confirm(A, "3", {"id": "2"})
    world.settle()

    def proposed(number: str) -> set[str]:
        return {link["identifier"]["id"] for link in world.links(A, number) if link["status"] == "proposed"}

    assert (proposed("1"), proposed("2"), proposed("3")) == ({"3", "8"}, set(), {"1", "8"})
    world.confirm(A, "1", {"id": "8", "issuer": OIDS[B]})
    world.settle()
    assert world.on_timeline(B, "8") == {"1.1", "1.2", "2.1", "3.1"}
