"""A link opens one reading session, and no rearrangement of its facts makes that longer."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain import viewer_sessions
from chalicelib.domain.errors import BadRequest
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Item
from chalicelib.domain.viewer_sessions import IDLE_LIMIT, OPEN_WITHIN, SESSION_LIMIT, LinkScope, Practitioner, ViewerLink

NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
BODY: dict[str, Any] = {"patient": {"id": "MG-1"}, "practitioner": {"id": "rossi", "name": "Dr. Rossi"}, "purpose": "report"}


def fresh(studies: tuple[tuple[str, str], ...] = (("1.2.3", "san-matteo"),)) -> ViewerLink:
    return ViewerLink(
        viewer_sessions.link_id(viewer_sessions.new_secret()) or "", "maugeri", Practitioner("rossi", "Dr. Rossi"), "report",
        LinkScope(None, studies), NOW, NOW + OPEN_WITHIN, None, None, False, frozenset(),
    )  # fmt: skip


def folded(link: ViewerLink, *facts: Item) -> ViewerLink:
    found = viewer_sessions.from_facts(link.id, [viewer_sessions.creation(link, "ris"), *facts])
    assert found is not None
    return found


def test_facts_say_again_what_the_link_was() -> None:
    link = fresh()
    assert folded(link) == link
    of_patient = ViewerLink(**{**link.__dict__, "scope": LinkScope(PatientIdentifier("2.16.1", "MG-1"))})
    assert folded(of_patient) == of_patient


def test_a_link_that_was_never_made_is_none() -> None:
    link = fresh()
    assert viewer_sessions.from_facts(link.id, [viewer_sessions.first_opening(link, NOW)]) is None


def test_a_link_waits_half_an_hour_to_be_opened_and_no_longer() -> None:
    link = folded(fresh())
    assert link.may_open(NOW + OPEN_WITHIN - timedelta(seconds=1))
    assert not link.may_open(NOW + OPEN_WITHIN)
    assert not link.live(NOW)


def test_opening_again_joins_the_session_and_does_not_make_it_longer() -> None:
    link = fresh()
    again = NOW + timedelta(hours=7)
    opened = folded(link, viewer_sessions.first_opening(link, NOW), alive(link, again))
    assert opened.may_open(again)
    assert opened.ends_at == NOW + SESSION_LIMIT
    assert opened.live(NOW + SESSION_LIMIT - timedelta(minutes=1))
    assert not opened.live(NOW + SESSION_LIMIT)
    assert not opened.may_open(NOW + SESSION_LIMIT)


def test_a_session_in_which_nobody_is_goes_idle_and_a_sign_of_life_prevents_it() -> None:
    link = fresh()
    opened = folded(link, viewer_sessions.first_opening(link, NOW))
    assert not opened.live(NOW + IDLE_LIMIT)
    kept = folded(link, viewer_sessions.first_opening(link, NOW), alive(link, NOW + timedelta(minutes=40)))
    assert kept.live(NOW + IDLE_LIMIT)


def test_an_ended_link_opens_nothing_whatever_else_is_known() -> None:
    link = fresh()
    opened = folded(link, viewer_sessions.first_opening(link, NOW), viewer_sessions.ending(link, "rossi", NOW))
    assert not opened.live(NOW)
    assert not opened.may_open(NOW)


def test_a_key_is_no_pass_and_only_their_hashes_are_kept() -> None:
    link, key, pass_ = fresh(), viewer_sessions.new_secret(), viewer_sessions.new_secret()
    facts = viewer_sessions.opening(link, key, pass_, NOW)
    opened = folded(link, viewer_sessions.first_opening(link, NOW), *facts)
    assert opened.holds("key", key)
    assert opened.holds("pass", pass_)
    assert not opened.holds("pass", key)
    assert not opened.holds("key", pass_)
    assert not opened.holds("key", viewer_sessions.new_secret())
    assert not any(secret in f"{fact.key}{fact.data}" for fact in facts for secret in (key, pass_))


def test_signs_of_life_are_written_every_five_minutes_at_the_most() -> None:
    link = folded(fresh(), viewer_sessions.first_opening(fresh(), NOW))
    assert viewer_sessions.sign_of_life(link, NOW + timedelta(minutes=4)) is None
    assert viewer_sessions.sign_of_life(link, NOW + timedelta(minutes=5)) is not None


@given(st.randoms(use_true_random=False), st.lists(st.integers(0, 500), max_size=6))
def test_any_order_and_repetition_of_facts_means_the_same(order: random.Random, minutes: list[int]) -> None:
    link = fresh()
    facts = [
        viewer_sessions.creation(link, "ris"), viewer_sessions.first_opening(link, NOW),
        *viewer_sessions.opening(link, "k" * 43, "p" * 43, NOW),
        *(alive(link, NOW + timedelta(minutes=minute)) for minute in minutes),
    ]  # fmt: skip
    shuffled = facts + order.sample(facts, k=order.randrange(len(facts)))
    order.shuffle(shuffled)
    assert viewer_sessions.from_facts(link.id, shuffled) == viewer_sessions.from_facts(link.id, facts)


@pytest.mark.parametrize("text", ["", "x", "../etc", "A" * 42, "A" * 44, "A" * 42 + "/", "A" * 43 + "\n"])
def test_what_cannot_be_a_token_or_a_credential_is_none(text: str) -> None:
    assert viewer_sessions.link_id(text) is None
    assert viewer_sessions.split_credential(text) is None
    assert viewer_sessions.split_credential(f"{text}.{text}") is None


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"patient": None}, "study_instance_uids"),
        ({"study_instance_uids": ["1.2"]}, "study_instance_uids"),
        ({"patient": None, "study_instance_uids": []}, "study_instance_uids"),
        ({"patient": None, "study_instance_uids": ["../x"]}, "study_instance_uids"),
        ({"patient": "MG-1"}, "patient"),
        ({"patient": None, "study_instance_uids": ["1.2"], "current_study": "1.2"}, "current_study"),
        ({"current_study": "../x"}, "current_study"),
        ({"current_study": 7}, "current_study"),
        ({"practitioner": None}, "practitioner"),
        ({"practitioner": {"id": "ròssi", "name": "x"}}, "practitioner.id"),
        ({"practitioner": {"id": "rossi"}}, "practitioner.name"),
        ({"purpose": " "}, "purpose"),
        ({"purpose": "a\nb"}, "purpose"),
        ({"open_within_seconds": 59}, "open_within_seconds"),
        ({"open_within_seconds": True}, "open_within_seconds"),
        ({"open_within_seconds": 8 * 3600 + 1}, "open_within_seconds"),
        ({"host": "evil.example"}, "host"),
    ],
)
def test_a_request_that_says_too_little_or_too_much_is_refused_by_name(change: dict[str, Any], parameter: str) -> None:
    with pytest.raises(BadRequest) as refused:
        viewer_sessions.parse({key: value for key, value in {**BODY, **change}.items() if value is not None}, "2.16.1")
    assert refused.value.parameter == parameter


def test_a_request_names_the_patient_by_the_callers_own_number_unless_it_says_otherwise() -> None:
    assert viewer_sessions.parse(BODY, "2.16.1").patient == PatientIdentifier("2.16.1", "MG-1")
    other = {**BODY, "patient": {"id": "SM-1", "issuer": "2.16.2"}}
    assert viewer_sessions.parse(other, "2.16.1").patient == PatientIdentifier("2.16.2", "SM-1")


def alive(link: ViewerLink, at: datetime) -> Item:
    fact = viewer_sessions.sign_of_life(link, at)
    assert fact is not None
    return fact
