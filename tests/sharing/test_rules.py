"""The rules themselves: `domain.sharing.decide`, one case after the other; and that a fact reaches everything it concerns."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain.errors import NotFound
from chalicelib.domain.sharing import (
    Consent,
    Emergency,
    Grant,
    Objection,
    PatientFacts,
    Protection,
    Study,
    decide,
    hidden,
)  # fmt: skip
from chalicelib.services.sharing import protection
from tests.sharing.codes import fiscal_code
from tests.sharing.test_identifiers import CF
from tests.world import A, B, C, World

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
STUDY = Study(A, "1.2.3", "20260101", ("p",))
GRANT = Grant("t", A, B, NOW - timedelta(days=1), NOW + timedelta(days=1))
ACCEPTED = replace(GRANT, accepted=True)
EMERGENCY = Emergency("e", C, NOW - timedelta(hours=1), NOW + timedelta(hours=23))


def facts(**known: object) -> PatientFacts:
    return PatientFacts(**known)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("viewer", "study", "known", "allowed"),
    [
        (A, STUDY, facts(objections=(Objection(A),)), True),
        (B, STUDY, facts(), False),
        (B, STUDY, facts(grants=(GRANT,)), True),
        (C, STUDY, facts(grants=(GRANT,)), False),
        (B, STUDY, facts(grants=(replace(GRANT, ended=True),)), False),
        (B, STUDY, facts(grants=(replace(GRANT, expires_at=NOW),)), False),
        (B, STUDY, facts(grants=(replace(GRANT, expires_at=NOW + timedelta(milliseconds=1)),)), True),
        (B, STUDY, facts(grants=(GRANT,), objections=(Objection(A),)), False),
        (B, STUDY, facts(grants=(GRANT,), objections=(Objection(A, "1.2.3"),)), False),
        (B, STUDY, facts(grants=(GRANT,), objections=(Objection(A, "1.2.4"),)), True),
        (B, STUDY, facts(grants=(GRANT,), objections=(Objection(B),)), True),
        (B, STUDY, facts(grants=(GRANT,), protections=(Protection(A, "1.2.3"),)), False),
        (B, STUDY, facts(grants=(GRANT,), protections=(Protection(A, "1.2.4"),)), True),
        (B, STUDY, facts(grants=(GRANT,), protections=(Protection(A, "1.2.3"),), consents=(Consent(A, "1.2.3", B),)), True),
        (B, STUDY, facts(grants=(GRANT,), protections=(Protection(A, "1.2.3"),), consents=(Consent(A, "1.2.3", C),)), False),
        (B, STUDY, facts(protections=(Protection(A, "1.2.3"),), consents=(Consent(A, "1.2.3", B),)), False),
        (C, STUDY, facts(emergencies=(EMERGENCY,)), True),
        (B, STUDY, facts(emergencies=(EMERGENCY,)), False),
        (C, STUDY, facts(emergencies=(replace(EMERGENCY, expires_at=NOW),)), False),
        (C, STUDY, facts(emergencies=(EMERGENCY,), objections=(Objection(A),)), False),
        (A, replace(STUDY, owner=B, date="20260301"), facts(grants=(ACCEPTED,)), True),
        (A, replace(STUDY, owner=B, date="20260301"), facts(grants=(GRANT,)), False),
        (A, replace(STUDY, owner=B, date="20260301"), facts(grants=(replace(ACCEPTED, ended=True),)), False),
        (A, replace(STUDY, owner=B, date="20260228"), facts(grants=(ACCEPTED,)), False),
        (A, replace(STUDY, owner=B, date=""), facts(grants=(ACCEPTED,)), False),
        (C, replace(STUDY, owner=B, date="20260301"), facts(grants=(ACCEPTED,)), False),
        (B, STUDY, facts(grants=(ACCEPTED,)), True),
        (B, replace(STUDY, owner=C), facts(grants=(GRANT,)), False),
        (B, replace(STUDY, patients=()), facts(grants=(GRANT,)), False),
        (B, replace(STUDY, patients=("p", "q")), facts(grants=(GRANT,)), False),
    ],
)
def test_a_case_is_decided(viewer: str, study: Study, known: PatientFacts, allowed: bool) -> None:
    assert decide(viewer, study, {"p": known}, NOW).allowed is allowed


def test_the_day_of_a_transfer_is_the_day_at_the_hospitals() -> None:
    late = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)  # half past midnight of the 2nd in Rome
    grant = replace(ACCEPTED, opened_at=late)
    for date, allowed in (("20260301", False), ("20260302", True)):
        study = replace(STUDY, owner=B, date=date)
        assert decide(A, study, {"p": facts(grants=(grant,))}, NOW).allowed is allowed


def test_what_was_said_of_a_study_under_a_number_that_it_no_longer_has_still_hides_it() -> None:
    study = replace(STUDY, former=("q",))
    now = {"p": facts(grants=(GRANT,)), "q": facts(objections=(Objection(A, "1.2.3"),))}
    assert not decide(B, study, now, NOW).allowed
    assert hidden(B, study, now)
    assert decide(B, study, now | {"q": facts(objections=(Objection(A),))}, NOW).allowed, "of all studies of a number it is not"


def test_a_decision_says_how_long_it_holds() -> None:
    short = replace(GRANT, transfer_id="s", expires_at=NOW + timedelta(hours=1))
    both = decide(B, replace(STUDY, patients=("p", "q")), {"p": facts(grants=(GRANT,)), "q": facts(grants=(short, GRANT))}, NOW)
    assert both.until == GRANT.expires_at
    assert both.transfers == ("s", "t")
    sooner = decide(B, replace(STUDY, patients=("p", "q")), {"p": facts(grants=(GRANT,)), "q": facts(grants=(short,))}, NOW)
    assert sooner.until == short.expires_at
    assert decide(A, STUDY, {}, NOW).until is None


@given(st.lists(st.sampled_from([Objection(A), Objection(A, "1.2.3"), Protection(A, "1.2.3")]), max_size=3), st.booleans())
def test_no_grant_outweighs_what_hides(hiding: list[Objection | Protection], emergency: bool) -> None:
    objections = tuple(rule for rule in hiding if isinstance(rule, Objection))
    protections = tuple(rule for rule in hiding if isinstance(rule, Protection))
    declared = (replace(EMERGENCY, institution=B),) if emergency else ()
    known = PatientFacts((GRANT,), objections, protections, (), declared)
    assert decide(B, STUDY, {"p": known}, NOW).allowed is not bool(hiding)


def test_a_fact_under_one_number_reaches_the_studies_of_those_linked_to_it(world: World) -> None:
    world.arrive(A, "a1", "1.2.1")
    world.arrive(A, "a2", "1.2.2")
    world.open(A, "a1", B)
    world.confirm(A, "a1", {"id": "a2"})
    world.settle()
    assert world.found(B) == {"1.2.1", "1.2.2"}
    world.object(A, "a1")
    world.settle()
    assert world.found(B) == set()
    assert {key[0] for key in world.table.memory.items() if key[0].startswith(f"V#SEE#{B}")} == set()


def test_a_hospital_that_files_its_patients_under_their_code_hides_and_protects_under_that(world: World) -> None:
    code = fiscal_code("19600315", "F")
    world.arrive(A, code, "1.2.3", universal=CF)
    world.open(A, code, B, issuer=CF)
    world.settle()
    assert world.sees(B, "1.2.3")
    for who in (B, C):
        with pytest.raises(NotFound):
            world.object(who, code)
    objection = world.object(A, code)
    assert not world.sees(B, "1.2.3"), "at once"
    caller, args = world.caller(A), (world.now, world.act)
    assert protection.list_objections(world.table, caller, code, world.tell)["objections"][0]["id"] == objection
    protection.withdraw_objection(world.table, caller, code, objection, *args)
    assert world.sees(B, "1.2.3")
    protection.protect(world.table, caller, code, {"study_instance_uid": "1.2.3"}, *args)
    assert not world.sees(B, "1.2.3")
    protection.consent(world.table, caller, code, {"study_instance_uid": "1.2.3", "to": B}, *args)
    assert world.sees(B, "1.2.3")


def test_rows_end_with_what_opens_them(world: World) -> None:
    world.arrive(A, "1", "1.2.1")
    world.open(A, "1", B, expires_at="2026-03-10T00:00:00Z")
    world.open(A, "1", B, expires_at="2026-03-20T00:00:00.500Z")
    world.settle()
    theirs = {item.expires for key, item in world.table.memory.items().items() if key[0] == f"V#SEE#{B}#1.2.1"}
    assert theirs == {int(datetime(2026, 3, 20, 0, 0, 1, tzinfo=UTC).timestamp())}
    assert {item.expires for key, item in world.table.memory.items().items() if key[0] == f"V#SEE#{A}#1.2.1"} == {None}


@pytest.mark.parametrize("said", ["objection", "protection"])
def test_what_is_said_under_a_number_that_the_projector_has_not_seen_yet_holds_at_once(world: World, said: str) -> None:
    world.arrive(A, "1", "1.2.1")
    world.open(A, "1", B)
    world.settle()
    world.arrive(A, "2", "1.2.1", "1.2.1.1.2")  # the same study, under another number
    assert world.handed_out(B, "1.2.1")
    if said == "objection":
        objection = world.object(A, "2", "1.2.1")
    else:
        protection.protect(world.table, world.caller(A), "2", {"study_instance_uid": "1.2.1"}, world.now, world.act)
    assert world.handed_out(B, "1.2.1") is None
    world.settle()
    assert world.handed_out(B, "1.2.1") is None
    if said == "objection":
        world.open(A, "2", B)
        protection.withdraw_objection(world.table, world.caller(A), "2", objection, world.now, world.act)
        assert world.handed_out(B, "1.2.1")
