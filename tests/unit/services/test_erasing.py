"""An erasure that dies anywhere is gone on with by the next run: nothing is left, nothing counted twice, all proven once."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.domain import audit, keys
from chalicelib.domain.erasures import ErasureState, InstitutionErasure
from chalicelib.domain.errors import BadRequest, Conflict, NotFound, TryAgain
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Item, Put, Table
from chalicelib.domain.retention import RetentionPolicy
from chalicelib.services import membership
from chalicelib.services.audit.trail import Trail
from chalicelib.services.erasure import (
    erase_expired,
    erase_institution,
    erase_patient,
    erase_study,
    forgetting,
    institutions,
    orders,
    run,
)
from chalicelib.services.erasure.erase_study import Eraser
from chalicelib.services.erasure.retention import OwnersRetention
from chalicelib.services.ingest import read_again
from chalicelib.services.ingest.instance_items import StoredObject
from chalicelib.services.ingest.summaries import read_summary
from chalicelib.services.registry import load_registry
from tests.fakes import MemoryVersions, ShortPages, Watched
from tests.sharing.codes import fiscal_code
from tests.sharing.test_identifiers import CF
from tests.world import A, B, World, image, patient, summary

GOES, STAYS = "1.2.81", "1.2.82"
ADA, UGO = fiscal_code("19600315", "F"), fiscal_code("19710220", "M")


class Died(Exception):
    """The function was stopped here."""


@pytest.fixture(scope="module")
def city() -> World:
    """A study of three instances that B sees by a transfer, and another patient's; all of A's."""
    world = World()
    for number in range(3):
        world.arrive(A, "P1", GOES, f"{GOES}.{number}")
    world.arrive(A, "P2", STAYS)
    world.arrive(B, "Q1", "1.2.83")
    world.project_all()
    world.open(A, "P1", B)
    world.project_all()
    return world


def eraser(world: World, table: Table) -> Eraser:
    trail = Trail(table, 2)

    def act(writes: Any, *entries: audit.Entry) -> list[bool]:
        return trail.append(audit.RequestContext(world.now, "", "erase_due", "operator", "e", "e", "e"), entries, writes)

    versions = MemoryVersions(world.objects)
    return Eraser(table, world.objects, versions, load_registry(world.table), act, lambda: world.now, lambda: 300.0)


def dies_at(call: int) -> Callable[[str], None]:
    left = [call]

    def before(_: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Died

    return before


def records(world: World, owner: str) -> list[dict[str, Any]]:
    found = world.table.query_all(keys.audit_of_owner(owner), index="gsi3")
    return [item.data for item in found if item.data["kind"] == "erasure"]


def left_of(world: World, *words: str) -> list[tuple[str, str]]:
    kept = ("F#AUDIT#", "F#ERASURE#", "F#REGISTRY", "F#FEED#")
    said = {key: json.dumps([*key, item.data]) for key, item in world.memory.items().items() if not key[0].startswith(kept)}
    return [key for key, text in said.items() if any(word in text for word in words)]


def test_a_study_wherever_the_function_dies(city: World) -> None:
    calls = 0
    while True:
        world = city.copied()
        try:
            erase_study.erase_study(eraser(world, Watched(world.table, dies_at(calls))), A, GOES, "test", lambda _: True)
            through = True
        except Died:
            through = False
        if not through:
            erase_study.erase_study(eraser(world, world.table), A, GOES, "test", lambda _: True)
        world.project_all()
        assert left_of(world, GOES) == [], calls
        assert len([key for key in world.objects.contents if key.startswith(f"instances/{A}/")]) == 1, calls
        assert [proof["count"] for proof in records(world, A)] == [3], calls
        assert world.memory.get(*keys.study_view(STAYS, A)) is not None
        if through:
            break
        calls += 1
    assert calls > 20


def test_what_comes_while_its_study_is_erased_goes_whole_or_stays_whole(city: World) -> None:
    """What was said to be indexed is there, with its bytes; and no bytes are there of which nothing is known."""
    stayed = 0
    for moment in range(0, 75, 3):
        for dies in (None, 45):
            world = city.copied()
            came = arrives_at(world, moment, dies)
            world.project_all()
            facts = {instance.fact.sha256 for instance in forgetting.instances_of(world.table, A, GOES)}
            there = {key.rpartition("/")[2] for key in world.objects.contents if key.startswith(f"instances/{A}/")}
            known = world.memory.get(*keys.verdict(A, came.sha256)) is not None
            assert (came.sha256 in facts, came.sha256 in there) == (known, known), (moment, dies)
            assert len(there) == 1 + known, (moment, dies)
            assert world.sees(A, GOES) is known, (moment, dies)
            assert (GOES in world.on_timeline(B, "P1", world.member(A).patient_id_issuer)) is known, (moment, dies)
            filed = world.memory.get(keys.patient_facts(patient(A, "P1").hash), keys.filed(A, GOES))
            assert (filed is not None) is known, (moment, dies)
            stayed += known
    assert stayed > 25


def arrives_at(world: World, moment: int, dies: int | None) -> StoredObject:
    """Erase the study, to which an instance comes when the table was asked so many times, and again when it was refused; if
    that is said, the function dies then, and the next run goes on."""
    came = world.store(A, json.dumps(summary("P1", GOES, f"{GOES}.9")).encode())
    calls = [0]

    def before(_: str) -> None:
        calls[0] += 1
        if calls[0] == moment:
            world.index_batch([came], world.memory)
        if calls[0] == dies:
            raise Died

    for table in (Watched(world.table, before), world.table):
        with suppress(Died):
            erase_study.erase_study(eraser(world, table), A, GOES, "test", lambda _: True)
            break
    if moment > calls[0] or not moment:
        world.index_batch([came])
    elif world.memory.get(*keys.verdict(A, came.sha256)) is None and f"instances/{A}/{came.sha256}" in world.objects.contents:
        assert world.index_batch([came]) == {}
    return came


@pytest.mark.parametrize("by_rule", [False, True])
def test_what_was_refused_as_of_a_study_goes_with_it_or_by_the_rule_for_what_is_kept_aside(by_rule: bool) -> None:
    world = World(read_summary=read_summary)
    world.send(A, image(GOES, name="Va^Via"))
    refused = world.send(A, image(GOES, name="Va^Via", comment="other bytes", sop=f"{GOES}.1.1"))[0]
    world.send(A, image(STAYS, name="Re^Sta", patient="P2"))
    never_indexed = world.store(A, b"what no event told of")
    world.settle()
    assert world.state(refused) == "conflict"
    if by_rule:
        policy = RetentionPolicy(100, rejected_days=7, execute=True)
        world.later(days=4000)
        erase_expired.carry_out(eraser(world, world.table), OwnersRetention(A, policy))
    else:
        ordered(world)
        carry_out_orders(world)
    assert [key for key in left_of(world, refused.sha256) if key[1] != keys.CONFLICT] == []
    assert (refused.key in world.objects.contents, never_indexed.key in world.objects.contents) == (False, not by_rule)
    kept = b"".join(gzip.decompress(world.objects.contents[key]) for key in world.objects.contents if key.startswith("metadata/"))
    assert (b"other bytes" in kept, b"Re^Sta" in kept) == (False, True)
    assert (b"Va^Via" in kept) is by_rule


def test_with_its_last_study_goes_what_images_said_of_a_patient_wherever_the_function_dies() -> None:
    for calls in range(12, 70, 7):
        world = World()
        world.arrive(A, UGO, GOES, universal=CF, birth="19710220", sex="M")
        world.arrive(A, "P3", GOES, f"{GOES}.2", other_ids=[(ADA, CF)], birth="19600315")
        world.arrive(A, ADA, GOES, f"{GOES}.3", universal=CF)
        world.arrive(B, "Q3", "1.2.88", other_ids=[(ADA, CF)])
        world.settle()
        for table in (Watched(world.table, dies_at(calls)), world.table):
            with suppress(Died):
                erase_study.erase_study(eraser(world, table), A, GOES, "test", lambda _: True)
                break
        world.settle()
        assert left_of(world, UGO, '"P3"', "19710220") == [], calls
        confirmed = [link["identifier"] for link in world.links(B, "Q3") if link["status"] == "confirmed"]
        assert confirmed == [{"issuer": CF, "id": ADA}], calls


def decided(world: World) -> InstitutionErasure:
    """What is decided on A."""
    return institutions.load(world.table, load_registry(world.table), A)


def leaves(world: World) -> None:
    """A leaves, and two operators decide that all of it goes at once."""
    world.remove(A)
    says(world, "bianchi", {"confirm": says(world, "rossi", {"reason": "left", "after_days": 0})["confirm"]})


def says(world: World, session: str, body: object) -> dict[str, object]:
    """What `PUT /institutions/{id}/erasure` answers an operator about A."""
    return institutions.put(world.table, world.operator, session, A, body, world.now, world.act)


def test_of_patients_whom_only_images_made_known_nothing_remains_and_all_of_others(city: World) -> None:
    world = city.copied()
    world.arrive(A, "P3", "1.2.85", other_ids=[(ADA, CF)])
    world.arrive(A, ADA, "1.2.86", universal=CF)
    world.arrive(A, UGO, "1.2.87", universal=CF, birth="19710220", sex="M")
    world.arrive(B, "Q3", "1.2.88", other_ids=[(ADA, CF)])
    world.settle()
    assert world.links(B, "Q3")
    leaves(world)
    run_due(world)
    world.settle()
    assert decided(world).state is ErasureState.DONE
    assert left_of(world, UGO, '"P3"', "19710220") == []
    about = {pk for pk, sk in world.memory.items() if sk.startswith("ABOUT#")}
    others = patient(B, "Q1"), patient(B, "Q3"), PatientIdentifier(CF, ADA)
    assert about == {keys.patient_facts(number.hash) for number in others}
    confirmed = [link["identifier"] for link in world.links(B, "Q3") if link["status"] == "confirmed"]
    assert confirmed == [{"issuer": CF, "id": ADA}]


def run_due(world: World) -> None:
    assert run.erase_due(eraser(world, world.table), lambda *_: None)["failed"] == 0


def test_what_was_decided_of_an_institution_that_left_counts_no_more_once_it_joined_again(city: World) -> None:
    world = city.copied()
    leaves(world)
    membership.register(world.table, world.operator, A, {}, world.now, world.act, world.tell)
    run_due(world)
    assert world.sees(A, GOES), "it is a member"
    world.remove(A)
    run_due(world)
    assert [key for key in world.objects.contents if f"/{A}/" in key], "nobody decided anything since it left again"
    with pytest.raises(Conflict):
        institutions.put(world.table, world.operator, "bianchi", A, {"confirm": True}, world.now, world.act)
    membership.register(world.table, world.operator, A, {}, world.now, world.act, world.tell)
    leaves(world)
    run_due(world)
    assert [key for key in world.objects.contents if f"/{A}/" in key] == []


def test_what_was_asked_for_anew_is_not_confirmed_by_who_saw_what_stood_before(city: World) -> None:
    world = city.copied()
    world.remove(A)
    seen = says(world, "rossi", {"reason": "left", "after_days": 30})
    assert institutions.shown(world.table, world.operator, A) == seen
    institutions.cancel(world.table, world.operator, A, world.act)
    world.now += timedelta(minutes=1)
    stands = says(world, "rossi", {"reason": "left", "after_days": 0})
    for meant in (seen["confirm"], True, None, ""):
        with pytest.raises(Conflict) as refused:
            says(world, "bianchi", {"confirm": meant})
        assert refused.value.stands == stands
    for beside in ({"after_days": 30}, {"reason": "left"}, {"reason": "left", "after_days": 0}):
        with pytest.raises(BadRequest):
            says(world, "bianchi", {"confirm": stands["confirm"], **beside})
    run_due(world)
    assert [key for key in world.objects.contents if f"/{A}/" in key]
    assert says(world, "bianchi", {"confirm": stands["confirm"]})["confirmed_by"] == "bianchi"


def test_of_two_confirmations_at_once_and_of_a_cancellation_beside_it_the_first_counts(city: World) -> None:
    world = city.copied()
    world.remove(A)
    asked = says(world, "rossi", {"reason": "left", "after_days": 0})
    known = decided(world)
    says(world, "bianchi", {"confirm": asked["confirm"]})
    late = known.confirmed("verdi", asked["confirm"], world.now), known.cancelled()
    assert not any(world.table.put(institutions.write(changed)) for changed in late)
    assert decided(world).confirmed_by == "bianchi"
    with pytest.raises(Conflict):
        says(world, "verdi", {"confirm": asked["confirm"]})


def test_one_that_was_erased_and_joined_again_is_erased_again_once_it_left(city: World) -> None:
    world = city.copied()
    leaves(world)
    run_due(world)
    assert decided(world).state is ErasureState.DONE
    membership.register(world.table, world.operator, A, {}, world.now, world.act, world.tell)
    world.arrive(A, "P9", "1.2.91")
    world.settle()
    leaves(world)
    run_due(world)
    assert decided(world).state is ErasureState.DONE
    assert [key for key in world.objects.contents if f"/{A}/" in key] == []


def test_one_that_joins_and_leaves_again_while_the_function_runs_is_not_erased_by_what_was_decided_before(city: World) -> None:
    world = city.copied()
    leaves(world)
    confirmed = decided(world)
    membership.register(world.table, world.operator, A, {}, world.now, world.act, world.tell)
    world.remove(A)
    erase_institution.carry_out(eraser(world, world.table), confirmed)
    assert [key for key in world.objects.contents if f"/{A}/" in key]


def test_what_runs_by_itself_says_nothing_more_of_an_institution_that_is_erased(city: World) -> None:
    world = city.copied()
    leaves(world)
    run_due(world)
    act = lambda _: lambda writes, *entries: world.table.transact(writes)  # noqa: E731
    read_again.sweep(world.table, world.objects, read_summary, world.now, lambda: 60.0, act=act)
    assert world.memory.get(keys.READ_PROGRESS, A) is None
    assert world.memory.get(keys.READ_PROGRESS, B) is not None


def test_an_institution_wherever_the_function_dies(city: World) -> None:
    calls = 0
    while True:
        world = city.copied()
        world.remove(A)
        asked = decided(world).asked("rossi", "left", 0, world.now)
        world.table.put(institutions.write(replace(asked.confirmed("bianchi", asked.confirmation, world.now), version=0)))
        try:
            erase_institution.carry_out(
                eraser(world, Watched(world.table, dies_at(calls))), institutions.load(world.table, load_registry(world.table), A)
            )
            through = True
        except Died:
            through = False
        done = erase_institution.carry_out(
            eraser(world, world.table), institutions.load(world.table, load_registry(world.table), A)
        )
        world.project_all()
        assert (done.state, done.erased.objects) == (ErasureState.DONE, 4), calls
        assert [key for key in world.objects.contents if f"/{A}/" in key] == []
        assert left_of(world, GOES, STAYS, '"P1"', '"P2"', f"#{A}#") == [], calls
        assert world.memory.get(*keys.study_view("1.2.83", B)) is not None
        assert len(records(world, A)) == 1, calls
        if through:
            break
        calls += 7  # each seventh call is enough to meet every kind of them
    assert calls > 20


def test_of_an_institution_whose_records_do_not_fit_into_a_page_nothing_is_left() -> None:
    world = World()
    for number in range(5):
        world.make_known(A, f"K{number}", name="Rossi^Ada")
        world.open(A, f"T{number}", B)
        world.arrive(A, f"P{number}", f"1.2.9{number}")
    world.project_all()
    for key in [key for key in world.objects.contents if f"/{A}/" in key]:
        world.objects.contents.pop(key)  # its own list alone still has the studies
    leaves(world)
    run.erase_due(eraser(world, ShortPages(world.table)), lambda *_: None)
    world.project_all()
    assert decided(world).state is ErasureState.DONE
    assert left_of(world, "1.2.9", "Rossi", '"T', '"K', '"P', f"#{A}#") == []


def test_a_patient_whom_its_hospital_files_under_a_national_code_is_erased_by_that(city: World) -> None:
    world = city.copied()
    world.arrive(A, ADA, "1.2.89", universal=CF)
    world.arrive(B, "Q3", "1.2.88", other_ids=[(ADA, CF)])
    world.settle()
    with pytest.raises(NotFound):
        orders.order(world.table, world.caller(B), ADA, {}, world.now, world.act, world.tell)
    first = ordered(world, ADA)
    assert orders.take_back(world.table, world.caller(A), ADA, first["id"], world.act)["status"] == "cancelled"
    ordered(world, ADA)
    carry_out_orders(world)
    world.settle()
    assert left_of(world, "1.2.89") == []
    assert "confirmed" in {link["status"] for link in world.links(B, "Q3")}, "what the other hospital knows by the code stays"


def ordered(world: World, number: str = "P1") -> dict[str, Any]:
    """The order of all that A has of its patient, due at once; what was answered."""
    caller, args = world.caller(A), (world.now, world.act, world.tell)
    shown, _ = orders.order(world.table, caller, number, {}, *args)
    said = {"reason": "asked", "after_days": 0, "confirm": shown["confirm"]}
    answer, is_ordered = orders.order(world.table, caller, number, said, *args)
    assert is_ordered
    return answer


def carry_out_orders(world: World, table: Table | None = None) -> None:
    """Carry out the orders of A that wait."""
    for made in list(erase_patient.waiting(world.table, A)):
        assert erase_patient.carry_out(eraser(world, table or world.table), made)


def test_what_came_of_the_patient_since_the_order_stays_with_all_that_was_said_of_it(city: World) -> None:
    world = city.copied()
    ordered(world)
    world.arrive(A, "P1", "1.2.84")
    world.object(A, "P1", "1.2.84")
    world.project_all()
    carry_out_orders(world)
    world.project_all()
    assert left_of(world, GOES) == []
    assert world.sees(A, "1.2.84")
    assert not world.sees(B, "1.2.84"), "the patient objected, and the transfer of before is there still"
    assert world.transfers(B)


def test_an_order_is_taken_back_or_carried_out_and_never_both(city: World) -> None:
    for moment in range(0, 48, 3):
        world = city.copied()
        said = taken_back_at(world, moment, ordered(world)["id"])
        carry_out_orders(world)
        there = len(forgetting.instances_of(world.table, A, GOES))
        assert (there, said) in [(3, ["cancelled"]), (0, ["Conflict"]), (0, ["NotFound"])], moment


@pytest.mark.parametrize("cancel", [True, False])
def test_an_order_of_an_earlier_release_is_taken_back_or_carried_out(city: World, cancel: bool) -> None:
    """That one knew no `begun`, and counted no versions."""
    world = city.copied()
    order = ordered(world)["id"]
    (item,) = world.table.query_all(keys.erasure_facts(A), keys.begins(keys.erasure_order))
    data = {name: value for name, value in item.data.items() if name != "begun"}
    world.memory.put(Put(Item(item.pk, item.sk, data)))
    if cancel:
        assert orders.take_back(world.table, world.caller(A), "P1", order, world.act)["status"] == "cancelled"
    carry_out_orders(world)
    assert bool(left_of(world, GOES)) is cancel
    assert list(erase_patient.waiting(world.table, A)) == []


def taken_back_at(world: World, moment: int, order: str) -> list[str]:
    """Carry out the orders of A, and take one back when the table was asked so many times; what was answered to that."""
    said: list[str] = []
    left = [moment]

    def before(_: str) -> None:
        left[0] -= 1
        if left[0] == -1:
            try:
                said.append(str(orders.take_back(world.memory, world.caller(A), "P1", order, world.act)["status"]))
            except (Conflict, NotFound) as error:
                said.append(type(error).__name__)

    try:
        carry_out_orders(world, Watched(world.table, before))
    except TryAgain:
        assert said == ["cancelled"]
    return said


def test_what_was_not_answered_is_not_ordered_and_the_same_again_goes_on(city: World) -> None:
    world, calls = city.copied(), list[int]()
    world.arrive(A, "P1", "1.2.84")
    world.project_all()
    args = world.now, world.act, world.tell
    confirm = orders.order(world.table, world.caller(A), "P1", {}, *args)[0]["confirm"]

    def busy(writes: Any, *entries: audit.Entry) -> list[bool]:
        calls.append(1)
        if len(calls) == 2:
            raise TryAgain
        return world.act(writes, *entries)

    said = {"reason": "asked", "after_days": 0, "confirm": confirm}
    with pytest.raises(TryAgain):
        orders.order(world.table, world.caller(A), "P1", said, world.now, busy, world.tell)
    assert list(erase_patient.waiting(world.table, A)) == []
    ordered(world)
    assert not any(world.sees(A, study) for study in (GOES, "1.2.84"))


def test_a_study_to_which_another_patients_images_came_meanwhile_stays_whole_and_that_is_recorded(city: World) -> None:
    world = city.copied()
    ordered(world)
    world.arrive(A, "P2", GOES, f"{GOES}.9")  # no view knows of it yet
    there = set(world.objects.contents)
    carry_out_orders(world)
    world.project_all()
    assert set(world.objects.contents) >= there
    assert len(forgetting.instances_of(world.table, A, GOES)) == 4
    found = world.table.query_all(keys.audit_of_owner(A), index="gsi3")
    assert [item.data["study"] for item in found if "another patient" in str(item.data.get("text"))] == [GOES]


def test_what_came_late_and_no_view_knows_of_keeps_a_study_that_is_past_its_time() -> None:
    for came_late, stays in ((False, False), (True, True)):
        world = World()
        world.arrive(A, "P1", GOES, date="20000101")
        world.project_all()
        if came_late:
            world.arrive(A, "P1", GOES, f"{GOES}.2", date="20260101")
        policy = RetentionPolicy(10, execute=True)
        erase_expired.carry_out(eraser(world, world.table), OwnersRetention(A, policy))
        assert bool(forgetting.instances_of(world.table, A, GOES)) is stays


def test_a_rule_goes_through_the_list_of_an_owner_whose_exams_do_not_fit_into_a_page() -> None:
    world = World()
    for number in range(5):
        world.arrive(A, "P1", f"{GOES}.{number}", date="20000101")
    world.project_all()
    policy = RetentionPolicy(10, execute=True)
    erase_expired.carry_out(eraser(world, ShortPages(world.table)), OwnersRetention(A, policy))
    assert not any(forgetting.instances_of(world.table, A, f"{GOES}.{number}") for number in range(5))
