"""A patient reads of sessions: what one person did in one go is one entry, and nothing of it is left out but what nobody saw."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.api import access_report
from chalicelib.api.words import words
from chalicelib.domain.audit import Kind, Record
from chalicelib.domain.audit_sessions import GAP, sessions
from chalicelib.domain.institutions import Registry
from chalicelib.domain.rfc3339 import iso
from chalicelib.services.audit.reading import Details
from tests.unit.audit.trails import NOW


def at(minutes: float, actor: str = "rossi", kind: Kind = Kind.ACCESS, study: str = "1.2", **more: object) -> Record:
    said: Record = {"at": iso(NOW + timedelta(minutes=minutes)), "institution": "maugeri", "actor": actor, "session": "maugeri"}
    return said | {"kind": kind.value, "purpose": "TREAT", "outcome": "success", "study": study} | more


def test_what_one_person_did_in_one_go_is_one_session_and_after_an_hour_another() -> None:
    records = [at(200), at(70, study="1.3"), at(20), at(10, kind=Kind.DISCLOSURE), at(0, kind=Kind.QUERY)]
    later, first = sessions(records)
    assert (later.begin, later.end) == (NOW + timedelta(minutes=200),) * 2
    assert (first.begin, first.end) == (NOW, NOW + timedelta(minutes=70))
    assert first.opened() == {"1.2": 1, "1.3": 1}
    assert first.main["kind"] == "access"
    assert [len(sessions([at(minutes), at(0)])) for minutes in (60, 60.1)] == [1, 2]


def test_a_session_goes_on_while_something_was_repeated_or_on_the_screen() -> None:
    until = iso(NOW + timedelta(minutes=50))
    (session,) = sessions([at(100), at(0, until=until, events=40, count=40)])
    assert session.opened() == {"1.2": 41}
    (kept,) = sessions([at(100, kind=Kind.SHOWN), at(50, kind=Kind.SHOWN), at(0)])
    assert (kept.opened(), kept.end) == ({"1.2": 1}, NOW + timedelta(minutes=100))


def test_two_persons_at_once_and_an_emergency_are_sessions_of_their_own_and_acts_stand_alone() -> None:
    records = [
        at(5, kind=Kind.OBJECTION), at(4, "bianchi"), at(3), at(2, "bianchi"), at(1, purpose="ETREAT"), at(0),
        at(0, kind=Kind.OBJECTION), at(-1, kind=Kind.REFUSAL, outcome="refused"),
    ]  # fmt: skip
    found = [(session.main["kind"], session.main["actor"], len(session.records)) for session in sessions(records)]
    assert found == [
        ("objection", "rossi", 1), ("access", "bianchi", 2), ("access", "rossi", 2), ("access", "rossi", 1),
        ("objection", "rossi", 1), ("refusal", "rossi", 1),
    ]  # fmt: skip


def test_the_table_is_in_the_order_of_the_moments_that_stand_in_it_and_says_from_when_to_when() -> None:
    found = sessions([at(4, "rossi"), at(3, "bianchi"), at(0, "rossi"), at(-24 * 60, "neri"), at(-24 * 60 - 30, "neri")])
    told = access_report.lines(found, Details({}, {}), Registry({}, {}), words("it"))
    begun = [(line.who.partition(",")[0], line.when) for line in told]
    day, before = (NOW + timedelta(days=days) for days in (0, -1))
    assert begun == [
        ("bianchi", clock(day + timedelta(minutes=3))), ("rossi", f"{clock(day)}–{clock(day + timedelta(minutes=4))[-5:]}"),
        ("neri", f"{clock(before - timedelta(minutes=30))}–{clock(before)[-5:]}"),
    ]  # fmt: skip


def clock(moment: datetime) -> str:
    return f"{moment.astimezone(ZoneInfo('Europe/Rome')):%d/%m/%Y %H:%M}"


@given(st.lists(st.tuples(st.integers(0, 600), st.sampled_from("ab"), st.sampled_from(list(Kind))), max_size=40))
def test_no_record_is_told_twice_or_left_out_but_what_nobody_saw_and_no_session_has_a_gap(
    events: list[tuple[int, str, Kind]],
) -> None:
    records = [at(minutes, actor, kind, number=number) for number, (minutes, actor, kind) in enumerate(events)]
    records.sort(key=lambda record: str(record["at"]), reverse=True)
    found = sessions(records)
    told = [record["number"] for session in found for record in session.records]
    looked = [number for number, (_, _, kind) in enumerate(events) if kind is not Kind.AHEAD]
    assert sorted(told) == looked  # type: ignore[type-var]
    for session in found:
        moments = [datetime.fromisoformat(str(record["at"])) for record in session.records]
        assert all(later - earlier <= GAP for later, earlier in pairwise(moments))
