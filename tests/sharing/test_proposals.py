"""A member that names numbers which it guessed: it reads nothing, learns nothing, is counted, and is told of."""

from __future__ import annotations

from itertools import product

import pytest

from chalicelib.domain.errors import Conflict, NotFound, TooMany
from chalicelib.domain.ports import Table
from chalicelib.services.sharing import proposals, transfers
from chalicelib.services.viewer import sessions
from tests.interleaving import interleave
from tests.sharing.api import Api
from tests.sharing.images import image
from tests.sharing.test_acceptance import ADA, FOLLOW_UP, PRIOR, UGO, acting, discharged
from tests.sharing.test_cost import Rounds
from tests.sharing.test_identifiers import CF, joined
from tests.world import OIDS, A, B, C, World


def test_a_member_follows_nobody_whom_it_links_to_its_own_number_after_the_acceptance(world: World) -> None:
    """Accepted is one number: what the sender's record says of codes since then opens no other patient of the receiver's."""
    world.arrive(B, "victim", "1.2.7", date="20260401", birth="19710220", sex="M", other_ids=[(UGO, CF)], name="Neri^Ugo")
    world.arrive(B, "9", FOLLOW_UP, date="20260401")
    world.open(C, "5", B, receiving="9")
    world.settle()
    assert world.found(C) == {FOLLOW_UP}
    world.make_known(C, "5", birth_date="19710220", sex="M", identifiers=[{"issuer": CF, "id": UGO}])
    world.settle()
    assert joined(world, C, "5", OIDS[B], "victim"), "the code joins the two, as it would its owner's"
    assert not world.sees(C, "1.2.7")
    assert world.found(C) == {FOLLOW_UP}


@pytest.mark.parametrize("how", ["image", "registration"])
def test_naming_a_strangers_code_opens_nothing(world: World, how: str) -> None:
    world.arrive(B, "9", FOLLOW_UP, date="20260401", other_ids=[(ADA, CF)])
    world.settle()
    with pytest.raises(NotFound):
        world.open(C, ADA, B, issuer=CF)
    if how == "image":
        world.arrive(C, "5", "1.2.5", other_ids=[(ADA, CF)])
    else:
        world.make_known(C, "5", birth_date="19600315", sex="F", identifiers=[{"issuer": CF, "id": ADA}])
    world.settle()
    world.open(C, "5", B, proposed="9")
    world.open(C, ADA, B, issuer=CF)
    world.settle()
    assert not world.sees(C, FOLLOW_UP)
    assert world.found(C) == ({"1.2.5"} if how == "image" else set())
    assert "9" not in {identifier["id"] for identifier in world.timeline(C, "5")["patient"]["identifiers"]}  # type: ignore[index]


@pytest.mark.parametrize("transfer", [None, A, B])
@pytest.mark.parametrize("how", ["image", "registration"])
def test_whose_number_it_is_that_a_strangers_code_joins_is_not_found_by_asking(api: Api, how: str, transfer: str | None) -> None:
    """Neither for the timeline nor for a link: the right number is answered as a wrong one, and costs the same."""
    world = api.world
    world.send(B, image("9", FOLLOW_UP, code=ADA), image("8", "1.2.3"))
    if how == "image":
        world.send(C, image("5", "1.2.5", code=ADA))
    else:
        world.make_known(C, "5", birth_date="19600315", sex="F", identifiers=[{"issuer": CF, "id": ADA}])
    world.settle()
    assert joined(world, C, "5", OIDS[B], "9")
    if transfer is not None:
        world.open(C, "5", transfer)
        world.settle()
    api.call(C, "GET", "/transfers")  # the trail's head is read once
    for number in ("9", "8", "nobody"):
        heard = asked_of(api, C, number, OIDS[B])
        assert heard == asked_of(api, C, "nobody", OIDS[B]), number
        assert [status for status, *_ in heard] == [404, 404, 200]
    assert api.call(C, "GET", "/patients/{patient}/timeline", patient="5").status == 200


def asked_of(api: Api, who: str, number: str, issuer: str) -> list[tuple[int, dict[str, object], dict[str, int]]]:
    """What the timeline of a number and a link for it are answered with, and what they cost."""
    body = {"patient": {"id": number, "issuer": issuer}, "practitioner": {"id": "v", "name": "V"}, "purpose": "reading"}
    heard = []
    for method, route, query, content in (
        ("GET", "/patients/{patient}/timeline", [("issuer", issuer)], None),
        ("POST", "/links", [], body),
        ("GET", "/audit", [("patient", number), ("issuer", issuer), ("to", "2026-01-01T00:00:00Z")], None),
    ):
        names = {"patient": number} if "{patient}" in route else {}
        with api.world.counted() as requests:
            answer = api.call(who, method, route, query, content, **names)
        said = {key: value for key, value in answer.json.items() if key not in ("request_id", "id", "link", "timestamp")}
        heard.append((answer.status, said, dict(requests)))
    return heard


def test_a_patient_whom_the_sender_never_had_is_as_unknown_to_it_as_nobody(api: Api) -> None:
    world = api.world
    world.send(B, image("9", FOLLOW_UP, code=ADA), image(ADA, "1.2.3", issuer=CF))
    world.settle()
    api.call(C, "GET", "/transfers")  # the trail's head is read once
    heard = []
    for number, issuer in ((ADA, CF), (UGO, CF), ("9", OIDS[C]), ("nobody", None)):
        body = {"patient": {"id": number} | ({"issuer": issuer} if issuer else {}), "to": B, "reason": "x"}
        with world.counted() as requests:
            answer = api.call(C, "POST", "/transfers", body=body)
        heard.append((answer.status, {**answer.json, "request_id": ""}, dict(requests)))
    assert {refusal[0] for refusal in heard} == {404}
    assert heard[0] == heard[1], "a code that others know, and one that nobody does"
    assert heard[2] == heard[3], "another's number, and nobody's"
    assert heard[0][:2] == heard[2][:2]


def everything(world: World, who: str, number: str, transfer: str) -> dict[str, object]:
    """All that a hospital can learn of its patient, and what it costs."""
    heard: dict[str, object] = {}
    with world.counted() as requests:
        heard["transfer"] = world.transfer(who, transfer)
        heard["transfers"] = world.transfers(who, "outgoing")
        heard["links"] = world.links(who, number)
        heard["changes"] = [{k: v for k, v in change.items() if k != "cursor"} for change in world.changes(who)]
        for searched in (number, "9", "8", ADA):
            heard[f"search {searched}"] = world.find(who, ("PatientID", searched))
            for issuer in (None, OIDS[B], CF):
                heard[f"timeline {searched} {issuer}"] = world.timeline(who, searched, issuer)
        heard["sees"] = [world.sees(who, uid) for uid in (PRIOR, FOLLOW_UP, "1.2.3")]
    heard["requests"] = dict(requests)
    return heard


@pytest.mark.parametrize("code", [False, True], ids=["no code", "one code"])
def test_a_proposal_is_answered_alike_whether_it_is_right_wrong_or_nobodys(code: bool) -> None:
    heard = []
    for proposed in ("9", "8", "7"):
        world = World()
        carried = [(ADA, CF)] if code else []
        world.arrive(A, "1", PRIOR, other_ids=carried)
        world.arrive(B, "9", FOLLOW_UP, date="20260401", other_ids=carried)
        world.arrive(B, "8", "1.2.3", date="20260401", name="Neri^Ugo", sex="M", birth="19710220")
        world.settle()
        table = Rounds(world.table)
        body = {"patient": {"id": "1"}, "to": B, "reason": "discharge", "receiving_patient_id": proposed}
        opened = transfers.open_transfer(table, world.caller(A), body, "key", world.now, world.act, world.tell).to_json()
        world.settle()
        answers = everything(world, A, "1", opened["id"])
        text = repr((opened, answers)).replace(f"'issuer': '{OIDS[B]}', 'id': '{proposed}'", "what it said itself")
        heard.append((text, table.rounds, sorted(table.kinds)))
    assert heard[0] == heard[1] == heard[2]


def test_the_receiver_finds_a_proposal_in_its_audit_under_the_number_that_was_proposed(world: World) -> None:
    discharged(world, proposed="8")
    records = [item.data for (pk, _), item in world.table.memory.items().items() if pk.startswith("F#AUDIT#")]
    mine = [record for record in records if record.get("owner") == B and record.get("kind") == "transfer-opened"]
    assert [record["patients"] for record in mine] == [[[OIDS[B], "8"]]]


def test_after_sixty_proposals_in_an_hour_there_is_no_more_for_a_while(api: Api) -> None:
    world = api.world
    world.send(C, image("5", "1.2.5"))
    world.settle()

    def propose(number: int | None, to: str = B, **headers: str) -> tuple[int, dict[str, str]]:
        more = {} if number is None else {"receiving_patient_id": f"{number}"}
        body = {"patient": {"id": "5"}, "to": to, "reason": "x"} | more
        answer = api.call(C, "POST", "/transfers", body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})
        return answer.status, answer.headers

    assert [propose(number, (A, B)[number % 2])[0] for number in range(proposals.LIMIT - 1)] == [201] * (proposals.LIMIT - 1)
    assert propose(59, Idempotency_Key="k")[0] == 201
    assert propose(59, Idempotency_Key="k")[0] == 201, "the same one again is no other"
    status, headers = propose(60)
    assert status == 429
    assert 3500 < int(headers["retry-after"]) <= 3600
    assert propose(None)[0] == 201, "without a proposal as before"
    assert propose(60, "nowhere")[0] == 400
    world.settle()
    for receiver in (A, B):
        kinds = [change["kind"] for change in world.changes(receiver)]
        assert kinds.count("link-proposed") == 1


def test_the_limit_is_of_any_hour_and_of_each_institution_for_itself(world: World) -> None:
    for number in range(proposals.LIMIT):
        world.open(C, "5", B, proposed=str(number))
        world.later(seconds=30)
    with pytest.raises(TooMany) as refused:
        world.open(C, "5", B, proposed="60")
    assert refused.value.retry_after == 1800
    world.open(A, "1", B, proposed="60")
    world.later(seconds=1800)
    world.open(C, "5", B, proposed="60")
    with pytest.raises(TooMany):
        world.open(C, "5", B, proposed="61")


@pytest.mark.parametrize("choices", list(product((0, 1), repeat=4)))
def test_of_two_proposals_at_once_where_there_is_room_for_one_only_one_is_made(choices: tuple[int, ...]) -> None:
    world = World(audited=False)
    for number in range(proposals.LIMIT - 1):
        world.open(C, "5", B, proposed=str(number))
    outcomes: list[str] = []

    def propose(table: Table) -> None:
        body = {"patient": {"id": "5"}, "to": B, "reason": "x", "receiving_patient_id": "y"}
        try:
            transfers.open_transfer(table, world.caller(C), body, None, world.now, acting(table), world.tell)
            outcomes.append("opened")
        except TooMany:
            outcomes.append("too many")

    interleave(world.table, [propose, propose], choices)
    assert sorted(outcomes) == ["opened", "too many"]


def test_proposals_are_told_once_an_hour_and_sender_however_often_records_come(world: World) -> None:
    for minute in range(0, 150, 10):
        world.open(C, "5", B, proposed=str(minute))
        batch, world.table.pending = world.table.pending, []
        world.deliver(batch)
        world.deliver(batch)
        world.later(minutes=10)
    world.open(A, "1", B, proposed="9")
    world.settle()
    told = [(change["from"], change["at"][11:16]) for change in world.changes(B) if change["kind"] == "link-proposed"]
    assert told == [(C, "09:00"), (C, "10:00"), (C, "11:00"), (A, "11:30")]
    assert all(
        set(change) == {"cursor", "kind", "at", "from", "to", "transfer_id"}
        for change in world.changes(B)
        if change["kind"] == "link-proposed"
    )


def test_a_reading_link_for_a_patient_shows_what_the_institution_may_see_and_no_more(world: World) -> None:
    transfer = discharged(world, proposed="9")
    body = {"practitioner": {"id": "v", "name": "V"}, "purpose": "reading"}
    for patient in ({"id": "9", "issuer": OIDS[B]}, {"id": "nobody"}):
        with pytest.raises(NotFound):
            sessions.make(
                world.table, world.caller(A), body | {"patient": patient}, "https://v", world.now, world.act, world.tell
            )
    with pytest.raises(NotFound):
        more = {"study_instance_uids": [FOLLOW_UP]}
        sessions.make(world.table, world.caller(A), body | more, "https://v", world.now, world.act, world.tell)
    assert "accepted_at" not in world.transfer(B, transfer)


def test_a_key_of_a_transfer_without_or_with_another_proposal_is_another_transfers(world: World) -> None:
    world.open(A, "1", B, key="k", proposed="9")
    for proposed in (None, "8"):
        with pytest.raises(Conflict):
            world.open(A, "1", B, key="k", proposed=proposed)
    assert world.open(A, "1", B, key="k", proposed="9") == world.open(A, "1", B, key="k", proposed="9")


def test_a_number_that_was_guessed_is_not_confirmed_by_the_guesser(world: World) -> None:
    discharged(world, proposed="9")
    for body in ({"issuer": OIDS[B], "id": "9"}, {"issuer": OIDS[B], "id": "8"}):
        with pytest.raises(NotFound):
            world.confirm(A, "1", body)
