"""Who may see a study: every rule of `domain.sharing`, and what follows from them for any facts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain.sharing import (
    HOSPITAL_TIME,
    Consent,
    Emergency,
    Grant,
    Objection,
    PatientFacts,
    Protection,
    Rule,
    Study,
    decide,
    explain,
)

NOON = datetime(2026, 3, 2, 12, tzinfo=HOSPITAL_TIME)
PRIOR = Study("san-matteo", "1.2.3", "20260115", ("P",))
FOLLOW_UP = Study("maugeri", "1.2.4", "20260305", ("P",))
TRANSFER = Grant("t1", "san-matteo", "maugeri", NOON, NOON + timedelta(days=30), accepted=True)
LATER = NOON + timedelta(days=5)


def facts(*grants: Grant, **more: object) -> dict[str, PatientFacts]:
    return {"P": PatientFacts(grants, **more)}  # type: ignore[arg-type]


def sees(viewer: str, study: Study, known: dict[str, PatientFacts], now: datetime = LATER) -> bool:
    return decide(viewer, study, known, now).allowed


def test_an_institution_sees_its_own_studies_whatever_else_is_known() -> None:
    assert sees("san-matteo", replace(PRIOR, patients=(), date=""), {})
    assert sees("san-matteo", PRIOR, facts(objections=(Objection("san-matteo"),)))


def test_nobody_else_sees_anything_without_a_transfer() -> None:
    assert not sees("maugeri", PRIOR, {})
    assert not sees("mondino", PRIOR, facts(TRANSFER))


def test_the_receiver_sees_all_of_the_senders_studies_however_old_or_new() -> None:
    for date in ("19990101", "20260115", "20260302", "20270101", ""):
        assert decide("maugeri", replace(PRIOR, date=date), facts(TRANSFER), LATER).transfers == ("t1",)


@pytest.mark.parametrize(
    ("date", "seen"), [("20260301", False), ("20260302", True), ("20260305", True), ("", False), ("19700101", False)]
)
def test_the_sender_sees_the_receivers_studies_of_the_day_of_the_transfer_and_after(date: str, seen: bool) -> None:
    assert sees("san-matteo", replace(FOLLOW_UP, date=date), facts(TRANSFER)) is seen


def test_the_sender_sees_nothing_of_a_patient_whom_the_receiver_has_not_accepted() -> None:
    waiting = replace(TRANSFER, accepted=False)
    for date in ("20260302", "20260305", "20990101"):
        assert not sees("san-matteo", replace(FOLLOW_UP, date=date), facts(waiting))
    assert sees("maugeri", PRIOR, facts(waiting)), "the receiver sees the sender's from the opening on"
    assert sees("san-matteo", FOLLOW_UP, facts(waiting, replace(TRANSFER, transfer_id="t2"))), "but by another transfer"


@pytest.mark.parametrize(
    ("opened", "day"),
    [
        ("2026-03-01T22:59:59Z", "20260301"),  # 23:59:59 in Rome
        ("2026-03-01T23:00:00Z", "20260302"),  # midnight in Rome: one hour before that of Greenwich
        ("2026-07-01T21:59:59Z", "20260701"),  # summer time: two hours
        ("2026-07-01T22:00:00Z", "20260702"),
        ("2026-03-29T00:59:59Z", "20260329"),  # the night in which the hour from two to three does not exist
        ("2026-03-29T22:00:00Z", "20260330"),
        ("2026-10-25T00:30:00Z", "20261025"),  # the night in which it comes twice
        ("2026-10-25T22:59:59Z", "20261025"),
        ("2026-10-25T23:00:00Z", "20261026"),
    ],
)
def test_the_day_of_a_transfer_is_the_day_in_rome(opened: str, day: str) -> None:
    moment = datetime.fromisoformat(opened)
    transfer = replace(TRANSFER, opened_at=moment, expires_at=moment + timedelta(days=30))
    before = (datetime.strptime(day, "%Y%m%d") - timedelta(days=1)).strftime("%Y%m%d")
    now = moment + timedelta(hours=1)
    assert sees("san-matteo", replace(FOLLOW_UP, date=day), facts(transfer), now)
    assert not sees("san-matteo", replace(FOLLOW_UP, date=before), facts(transfer), now)


@pytest.mark.parametrize(
    ("transfer", "now"),
    [
        (replace(TRANSFER, ended=True), LATER),
        (TRANSFER, TRANSFER.expires_at),
        (TRANSFER, TRANSFER.opened_at - timedelta(microseconds=1)),
    ],
)
def test_a_transfer_that_ended_expired_or_has_not_begun_opens_nothing(transfer: Grant, now: datetime) -> None:
    assert not sees("maugeri", PRIOR, facts(transfer), now)
    assert not sees("san-matteo", FOLLOW_UP, facts(transfer), now)


def test_a_transfer_holds_from_its_first_moment_to_the_one_before_its_expiry() -> None:
    assert sees("maugeri", PRIOR, facts(TRANSFER), TRANSFER.opened_at)
    assert sees("maugeri", PRIOR, facts(TRANSFER), TRANSFER.expires_at - timedelta(microseconds=1))


def test_one_of_two_transfers_is_enough_and_the_later_end_counts() -> None:
    longer = replace(TRANSFER, transfer_id="t2", expires_at=TRANSFER.expires_at + timedelta(days=9))
    decision = decide("maugeri", PRIOR, facts(TRANSFER, longer), LATER)
    assert (decision.transfers, decision.until) == (("t1", "t2"), longer.expires_at)
    assert decide("maugeri", PRIOR, facts(replace(TRANSFER, ended=True), longer), LATER).transfers == ("t2",)


def test_a_study_under_two_patients_is_seen_only_where_both_are_open() -> None:
    both = replace(PRIOR, patients=("P", "Q"))
    other = replace(TRANSFER, transfer_id="t2", expires_at=NOON + timedelta(days=6))
    assert not sees("maugeri", both, facts(TRANSFER))
    decision = decide("maugeri", both, {**facts(TRANSFER), "Q": PatientFacts((other,))}, LATER)
    assert (decision.allowed, decision.transfers, decision.until) == (True, ("t1", "t2"), other.expires_at)
    hidden = {**facts(TRANSFER), "Q": PatientFacts((other,), (Objection("san-matteo"),))}
    assert not sees("maugeri", both, hidden)


def test_a_study_without_a_patient_is_never_shared() -> None:
    assert not sees("maugeri", replace(PRIOR, patients=()), {**facts(TRANSFER), "": PatientFacts((TRANSFER,))})


def test_an_objection_hides_one_study_or_all_of_its_owner_from_everybody_else() -> None:
    emergency = Emergency("e1", "mondino", NOON, NOON + timedelta(days=9))
    for objection in (Objection("san-matteo"), Objection("san-matteo", "1.2.3")):
        known = facts(TRANSFER, objections=(objection,), emergencies=(emergency,))
        assert not sees("maugeri", PRIOR, known)
        assert not sees("mondino", PRIOR, known)
        assert sees("san-matteo", PRIOR, known)
        assert sees("san-matteo", FOLLOW_UP, known)
    assert sees("maugeri", PRIOR, facts(TRANSFER, objections=(Objection("san-matteo", "1.2.9"), Objection("mondino"))))


def test_a_protected_study_is_seen_only_by_those_the_patient_consented_to() -> None:
    protection, consent = Protection("san-matteo", "1.2.3"), Consent("san-matteo", "1.2.3", "maugeri")
    assert not sees("maugeri", PRIOR, facts(TRANSFER, protections=(protection,)))
    assert sees("maugeri", PRIOR, facts(TRANSFER, protections=(protection,), consents=(consent,)))
    assert not sees("maugeri", PRIOR, facts(protections=(protection,), consents=(consent,)))
    for other in (replace(consent, to="mondino"), replace(consent, study="1.9"), replace(consent, owner="maugeri")):
        assert not sees("maugeri", PRIOR, facts(TRANSFER, protections=(protection,), consents=(other,)))


def test_emergency_access_opens_every_owners_studies_to_the_one_who_declared_it_for_its_time() -> None:
    emergency = Emergency("e1", "mondino", NOON, NOON + timedelta(hours=24))
    known = facts(emergencies=(emergency,))
    for study in (PRIOR, FOLLOW_UP, replace(FOLLOW_UP, date="")):
        decision = decide("mondino", study, known, NOON)
        assert (decision.allowed, decision.emergencies, decision.until) == (True, ("e1",), emergency.expires_at)
        assert not sees("mondino", study, known, emergency.expires_at)
        assert not sees("maugeri" if study.owner != "maugeri" else "san-matteo", study, known, NOON)


# For any facts ----------------------------------------------------------------------------------------

_HOUSES = st.sampled_from(["san-matteo", "maugeri", "mondino"])
_MOMENTS = st.integers(-50, 50).map(lambda hours: NOON + timedelta(hours=hours))
_GRANTS = st.builds(
    Grant, st.sampled_from(["t1", "t2"]), _HOUSES, _HOUSES, _MOMENTS, _MOMENTS, st.booleans(), accepted=st.booleans()
)
_STUDIES = st.builds(
    Study, _HOUSES, st.just("1.2.3"), st.sampled_from(["", "20260228", "20260301", "20260302", "20260303", "20260304"]),
    st.sampled_from([(), ("P",), ("Q",), ("P", "Q")]),
)  # fmt: skip
_KNOWN = st.builds(
    PatientFacts,
    st.lists(_GRANTS, max_size=3).map(tuple),
    st.lists(st.builds(Objection, _HOUSES, st.sampled_from([None, "1.2.3", "9"])), max_size=1).map(tuple),
    st.lists(st.builds(Protection, _HOUSES, st.just("1.2.3")), max_size=1).map(tuple),
    st.lists(st.builds(Consent, _HOUSES, st.just("1.2.3"), _HOUSES), max_size=1).map(tuple),
    st.lists(st.builds(Emergency, st.just("e1"), _HOUSES, _MOMENTS, _MOMENTS), max_size=1).map(tuple),
)
_FACTS = st.fixed_dictionaries({}, optional={"P": _KNOWN, "Q": _KNOWN})


@given(viewer=_HOUSES, study=_STUDIES, known=_FACTS, now=_MOMENTS)
def test_whoever_is_allowed_owns_it_or_is_named_by_what_still_holds(
    viewer: str, study: Study, known: dict[str, PatientFacts], now: datetime
) -> None:
    decision = decide(viewer, study, known, now)
    if not decision.allowed:
        assert decision == replace(decision, transfers=(), emergencies=(), until=None)
        return
    if viewer == study.owner:
        return
    assert decision.transfers or decision.emergencies
    assert decision.until is not None
    assert now < decision.until
    for patient in study.patients:
        live = [
            grant
            for grant in known[patient].grants
            if grant.live(now)
            and {viewer, study.owner} == {grant.sender, grant.receiver}
            and (grant.accepted or viewer == grant.receiver)
        ]
        assert live or any(emergency.institution == viewer for emergency in known[patient].emergencies)


@given(viewer=_HOUSES, study=_STUDIES, known=_FACTS, now=_MOMENTS)
def test_ending_everything_leaves_every_institution_with_its_own(
    viewer: str, study: Study, known: dict[str, PatientFacts], now: datetime
) -> None:
    over = {
        patient: replace(fact, grants=tuple(replace(grant, ended=True) for grant in fact.grants), emergencies=())
        for patient, fact in known.items()
    }
    assert decide(viewer, study, over, now).allowed is (viewer == study.owner)


@given(viewer=_HOUSES, study=_STUDIES, known=_FACTS, now=_MOMENTS, zone=st.sampled_from([UTC, HOSPITAL_TIME]))
def test_the_zone_in_which_a_moment_is_written_makes_no_difference(
    viewer: str, study: Study, known: dict[str, PatientFacts], now: datetime, zone: object
) -> None:
    assert decide(viewer, study, known, now) == decide(viewer, study, known, now.astimezone(zone))  # type: ignore[arg-type]


@given(viewer=_HOUSES, study=_STUDIES, known=_FACTS, now=_MOMENTS, objection=st.builds(Objection, _HOUSES, st.none()))
def test_an_objection_never_opens_anything(
    viewer: str, study: Study, known: dict[str, PatientFacts], now: datetime, objection: Objection
) -> None:
    more = {patient: replace(fact, objections=(*fact.objections, objection)) for patient, fact in known.items()}
    assert decide(viewer, study, more, now).allowed <= decide(viewer, study, known, now).allowed


@given(viewer=_HOUSES, study=_STUDIES, known=_FACTS, now=_MOMENTS)
def test_the_reason_that_is_given_is_that_of_the_decision(
    viewer: str, study: Study, known: dict[str, PatientFacts], now: datetime
) -> None:
    found = explain(viewer, study, known, now)
    assert found.decision == decide(viewer, study, known, now)
    assert (found.rule is Rule.OWN) == (viewer == study.owner)
    assert found.decision.allowed == (found.rule in (Rule.OWN, Rule.EMERGENCY, Rule.TRANSFER, Rule.FOLLOW_UP))
    assert (found.since is not None) == (found.rule in (Rule.EMERGENCY, Rule.TRANSFER, Rule.FOLLOW_UP))
    if found.since is not None:
        assert found.since <= now
    assert bool(found.decision.emergencies) == (found.rule is Rule.EMERGENCY)
