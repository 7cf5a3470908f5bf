"""For how long a study is kept: what is not known keeps, and the longest time counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain import retention
from chalicelib.domain.erasures import ErasedCount, ErasureState, InstitutionErasure, plus
from chalicelib.domain.errors import BadRequest, Conflict
from chalicelib.domain.retention import RetentionPolicy

RULE = RetentionPolicy(10, {"MG": 30, "XA": 5}, minors_until_age=28)
ADULT = date(1950, 1, 1)
EXAM = date(2020, 2, 29)


@pytest.mark.parametrize(
    ("modalities", "births", "until"),
    [
        (["CT"], [ADULT], date(2030, 3, 1)),
        (["XA"], [ADULT], date(2025, 3, 1)),
        (["CT", "MG"], [ADULT], date(2050, 3, 1)),
        ([], [ADULT], date(2030, 3, 1)),
        (["CT"], [date(2002, 3, 1)], date(2030, 3, 1)),  # a day before the eighteenth birthday, and 28 on 1 March 2030
        (["CT"], [date(2002, 2, 28)], date(2030, 3, 1)),  # of age since the day before
        (["CT"], [date(2015, 6, 1)], date(2043, 6, 1)),
        (["CT"], [None], date(2048, 2, 29)),  # may have been born that day
        (["CT"], [ADULT, date(2015, 6, 1)], date(2043, 6, 1)),  # the longest of its patients
        (["CT"], [date(2021, 1, 1)], date(2048, 2, 29)),  # born after the exam: not known
    ],
)
def test_until_when(modalities: list[str], births: list[date | None], until: date) -> None:
    assert RULE.kept_until(EXAM, modalities, births) == until


@given(st.dates(), st.lists(st.sampled_from(["CT", "MG", "XA"])), st.lists(st.none() | st.dates()))
def test_never_before_the_shortest_time_and_never_an_error(exam: date, modalities: list[str], births: list[date | None]) -> None:
    assert RULE.kept_until(exam, modalities, births) >= retention.years_later(exam, RULE.shortest)


def test_what_is_kept_aside_goes_by_its_days_and_never_without_any() -> None:
    now = datetime(2026, 11, 30, tzinfo=UTC)
    assert not RULE.lets_go(datetime(1990, 1, 1, tzinfo=UTC), now)
    rule = RetentionPolicy(10, rejected_days=30)
    assert rule.lets_go(now - timedelta(days=30), now)
    assert not rule.lets_go(now - timedelta(days=30) + timedelta(seconds=1), now)


@pytest.mark.parametrize(
    "body",
    [[], {}, {"years": 0}, {"years": True}, {"years": 10.0}, {"years": 10, "by_modality": {"ct scan": 3}},
     {"years": 1, "held": ["x"]}, {"years": 10, "minors_until_age": 17}, {"years": 10, "rejected_days": 1},
     {"years": 10, "execute": "yes"}, {"years": 10, "more": 1}],
)  # fmt: skip
def test_a_rule_that_says_something_else_is_refused(body: Any) -> None:
    with pytest.raises(BadRequest):
        retention.parse(body)


def test_a_rule_comes_back_as_it_was_kept_and_carrying_it_out_makes_it_no_other() -> None:
    said = {"years": 10, "by_modality": {"MG": 30}, "minors_until_age": 28, "rejected_days": 90, "held": ["1.2.3"]}
    rule = retention.parse(said)
    assert retention.from_item(rule.to_item()) == rule
    assert retention.parse(said | {"execute": True}).digest == rule.digest
    assert retention.parse(said | {"years": 9}).digest != rule.digest


NOW = datetime(2026, 11, 30, tzinfo=UTC)


def asked_for(by: str = "rossi", reason: str = "left", days: int = 30, now: datetime = NOW) -> InstitutionErasure:
    """What an operator asked for."""
    return InstitutionErasure("partente").asked(by, reason, days, now)


def test_who_asked_cannot_confirm_and_nothing_is_taken_back_once_it_began() -> None:
    asked = asked_for()
    for same in ("rossi", "Rossi", "ROSSI"):
        with pytest.raises(Conflict):
            asked.confirmed(same, asked.confirmation, NOW)
    with pytest.raises(Conflict):
        asked.asked("bianchi", "left", 30, NOW)
    confirmed = asked.confirmed("bianchi", asked.confirmation, NOW)
    assert not asked.is_due(NOW + timedelta(days=31))
    assert not confirmed.is_due(NOW + timedelta(days=29))
    assert confirmed.is_due(NOW + timedelta(days=30))
    assert confirmed.cancelled().state is ErasureState.CANCELLED
    item = confirmed.to_item() | {"stage": "objects"}
    with pytest.raises(Conflict):
        InstitutionErasure.from_item(item, 2).cancelled()


def test_a_session_whose_name_an_sdk_made_up_is_nobody() -> None:
    asked = asked_for()
    for session in (
        "botocore-session-1796182034",
        "AWS-CLI-session-1796182034",
        "aws-sdk-java-1",
        "aws-go-sdk-1796182034000000000",
    ):
        with pytest.raises(Conflict):
            asked_for(by=session)
        with pytest.raises(Conflict):
            asked.confirmed(session, asked.confirmation, NOW)


def test_the_days_of_grace_begin_with_the_confirmation() -> None:
    asked, later = asked_for(), NOW + timedelta(days=40)
    confirmed = asked.confirmed("bianchi", asked.confirmation, later)
    assert (asked.due_at, confirmed.due_at) == ("", "2027-02-08T00:00:00.000Z")
    assert not confirmed.is_due(later + timedelta(days=29))
    assert confirmed.is_due(later + timedelta(days=30))


def test_a_confirmation_is_of_what_was_shown_and_of_nothing_else() -> None:
    asked = asked_for()
    others = (
        asked_for(by="verdi"), asked_for(reason="left "), asked_for(days=0), asked_for(now=NOW + timedelta(milliseconds=1)),
        replace(asked, institution="other"), replace(asked, registration=2),
    )  # fmt: skip
    for stands in others:
        with pytest.raises(Conflict):
            stands.confirmed("bianchi", asked.confirmation, NOW)
    for meant in (True, None, "", asked.confirmation.upper(), [asked.confirmation]):
        with pytest.raises(Conflict):
            asked.confirmed("bianchi", meant, NOW)
    confirmed = asked.confirmed("bianchi", asked.confirmation, NOW)
    with pytest.raises(Conflict):
        confirmed.confirmed("verdi", asked.confirmation, NOW)
    with pytest.raises(Conflict):
        confirmed.cancelled().confirmed("verdi", asked.confirmation, NOW)


def test_what_an_earlier_release_kept_of_an_erasure_counts_its_days_from_the_confirmation_too() -> None:
    kept = {name: value for name, value in asked_for().to_item().items() if name != "after_days"}
    earlier = InstitutionErasure.from_item(kept | {"due_at": "2026-12-30T00:00:00.000Z"}, 1)
    assert (earlier.due_at, earlier.after_days) == ("", 30)
    confirmed = earlier.confirmed("bianchi", earlier.confirmation, NOW + timedelta(days=30))
    assert not confirmed.is_due(NOW + timedelta(days=59))
    decided = kept | {"due_at": "2026-12-30T00:00:00.000Z", "state": "confirmed", "confirmed_by": "bianchi"}
    assert InstitutionErasure.from_item(decided, 2).due_at == "2026-12-30T00:00:00.000Z", "what was decided stands"
    assert InstitutionErasure.from_item(kept | {"state": "cancelled", "asked_at": "", "due_at": ""}, 2).after_days == 0


def test_what_is_proven_depends_on_each_hash_and_their_order() -> None:
    first, second = ("1" * 64, 3), ("2" * 64, 4)
    both = ErasedCount().and_object(*first).and_object(*second)
    assert both.digest != ErasedCount().and_object(*second).and_object(*first).digest
    assert (both.objects, both.bytes) == (2, 7)
    together = plus(both.and_studies(1), ErasedCount(1).and_object("3" * 64, 5))
    assert (together.studies, together.objects, together.bytes) == (2, 3, 12)
    assert together.digest != both.digest
