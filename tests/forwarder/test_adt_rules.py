"""What follows of ADT events, in every order in which they can come, against the rules written a second time.

The ledger is the real one; only the archive is a few lines, which keep transfers and link numbers that carry the same code.
"""

from __future__ import annotations

import hashlib
import itertools
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from registry import Invented, invented

from forwarder.hl7.adt import ledger as ledger_module
from forwarder.hl7.adt import reconciling, standing
from forwarder.hl7.adt.acts import ActKind, ActState
from forwarder.hl7.adt.event import AdtEvent, RegisteredPerson
from forwarder.hl7.adt.ledger import RegistrationLedger
from forwarder.hl7.adt.merges import MergeConcern, concerns_of
from forwarder.hl7.adt.rules import Encounter, Incoming, Terms, judge, plan
from forwarder.hl7.moments import HOSPITAL_TIME, at_the_hospital
from forwarder.spool.journal import Journal
from tests.conftest import THOROUGH

PEOPLE = [invented() for _ in range(3)]
HOSPITALS = ("san-matteo", "maugeri")
TERMS = Terms()
BEGAN = datetime.now(HOSPITAL_TIME) - timedelta(hours=2)


def number_at(hospital: str, person: int) -> str:
    """The numbers of one hospital are the other's, of other people."""
    return f"N{(person + HOSPITALS.index(hospital)) % len(PEOPLE)}"


@dataclass(frozen=True)
class Told:
    """Something that happened: at which hospital, what, to whom, in which visit, where to, and, of a cancel, what it cancels."""

    hospital: str
    trigger: str
    person: int
    visit: str = "V1"
    to: str = ""
    placed: bool = False
    cancels: int | None = None


def event(told: Told, place: int, began: datetime = BEGAN, minutes: int = 1) -> AdtEvent:
    """The event as the registration sends it; `place` in the order in which things happened, each so many minutes after `began`
    and the one before it."""

    def moment(number: int) -> str:
        passed = (began.astimezone(UTC) + timedelta(minutes=number * minutes)).astimezone(HOSPITAL_TIME)
        return at_the_hospital(f"{passed:%Y%m%d%H%M00%z}")

    who: Invented = PEOPLE[told.person]
    return AdtEvent(
        digest=hashlib.sha256(f"{told.hospital}-{place}".encode()).hexdigest(), control_id=str(place), trigger=told.trigger,
        number=number_at(told.hospital, told.person),
        at=moment(place), occurred=moment(place if told.cancels is None else told.cancels), dated=told.cancels is not None,
        person=RegisteredPerson(f"{who.family}^{who.given}", who.birth_date, who.sex, (who.code,)), visit=told.visit, to=told.to,
        placed=told.placed,
    )  # fmt: skip


# The rules, a second time: told in the order in which things happened.


def should_be_open(story: list[Told]) -> set[tuple[int, str, str]]:
    """(person, visit, institution) of the transfers of San Matteo's that are to be open."""
    discharged: dict[tuple[int, str], list[tuple[int, Told]]] = {}
    moved: dict[tuple[int, str], list[tuple[int, Told]]] = {}
    for place, told in enumerate(story):
        if told.hospital != "san-matteo":
            continue
        stay = (told.person, told.visit)
        if told.trigger in ("A03", "A02"):
            (discharged if told.trigger == "A03" else moved).setdefault(stay, []).append((place, told))
        elif told.trigger in ("A13", "A12"):
            mine = (discharged if told.trigger == "A13" else moved).get(stay, [])
            if told.cancels is not None and any(at == told.cancels for at, _ in mine):
                mine[:] = [known for known in mine if known[0] != told.cancels]
            else:
                mine.clear()
    found = set()
    for (person, visit), known in discharged.items():
        placed = [told for _, told in known if told.placed]
        if placed and placed[-1].to:
            found.add((person, visit, placed[-1].to))
    for (person, visit), known in moved.items():
        found |= {(person, visit, told.to) for _, told in known if told.to}
    return found


def should_be_admitted(story: list[Told]) -> set[int]:
    """Who is at Maugeri."""
    here: dict[tuple[int, str], bool] = {}
    for told in story:
        if told.hospital == "maugeri" and told.trigger in ("A01", "A11"):
            here[told.person, told.visit] = told.trigger == "A01"
    return {person for (person, _), stays in here.items() if stays}


@dataclass
class Open:
    """A transfer in the archive of these tests."""

    id: str
    number: str
    to: str
    accepted: str = ""


@dataclass
class World:
    """Two hospitals' ledgers, and what the archive has."""

    ledgers: dict[str, RegistrationLedger]
    transfers: dict[str, Open] = field(default_factory=dict)
    known: dict[tuple[str, str], str] = field(default_factory=dict)
    """The codice fiscale of each hospital's numbers."""
    ended: set[str] = field(default_factory=set)

    def work(self) -> None:
        """Each hospital's forwarder does what is to be done, until nothing is."""
        while any([self._act(hospital) for hospital in HOSPITALS] + [self._look()]):
            pass

    def _act(self, hospital: str) -> bool:
        ledger = self.ledgers[hospital]
        act = ledger.next_act()
        if act is None:
            return False
        if act.kind is ActKind.OPENING and not act.undo:
            act = ledger.unstated(act.number) or act
        assert ledger.may_begin(act, 1000)
        result = ""
        if act.kind is ActKind.PATIENT:
            self.known[hospital, act.number] = act.content["codes"][0]
        elif act.kind is ActKind.OPENING and not act.undo:
            result = act.key  # the same key is the same transfer
            if result not in self.ended:
                self.transfers.setdefault(result, Open(result, act.number, act.subject))
        elif act.kind is ActKind.OPENING:
            self.transfers.pop(act.result, None)
            self.ended.add(act.result)
        elif act.kind is ActKind.ACCEPTANCE and act.subject in self.transfers:
            self.transfers[act.subject].accepted = "" if act.undo else act.number
        ledger.settled(act, ActState.UNDONE if act.undo else ActState.DONE, None, result)
        return True

    def _look(self) -> bool:
        waiting = [transfer for transfer in self.transfers.values() if transfer.to == "maugeri" and not transfer.accepted]
        incoming = [Incoming(transfer.id, "san-matteo", datetime.now(UTC), self._linked(transfer)) for transfer in waiting]
        encounters = self.ledgers["maugeri"].encounters({number for arrival in incoming for number in arrival.linked}, ())
        return bool(self.ledgers["maugeri"].judged([transfer.id for transfer in waiting], judge(incoming, encounters, TERMS)))

    def _linked(self, transfer: Open) -> tuple[str, ...]:
        code = self.known["san-matteo", transfer.number]
        return tuple(number for (where, number), person in self.known.items() if where == "maugeri" and person == code)


@contextmanager
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory() as folder:
        journals = {hospital: Journal(Path(folder) / f"{hospital}.sqlite3") for hospital in HOSPITALS}
        try:
            yield World({hospital: RegistrationLedger(journal, TERMS) for hospital, journal in journals.items()})
        finally:
            for journal in journals.values():
                journal.close()


@st.composite
def stories(draw: st.DrawFn) -> list[Told]:
    story: list[Told] = []
    for _ in range(draw(st.integers(1, 9))):
        person, visit = draw(st.integers(0, 2)), draw(st.sampled_from(["V1", "V2", ""]))
        if draw(st.booleans()):
            trigger = draw(st.sampled_from(["A01", "A01", "A11", "A08", "A04"]))
            story.append(Told("maugeri", trigger, person, visit))
            continue
        trigger = draw(st.sampled_from(["A03", "A03", "A13", "A02", "A12", "A08"]))
        to = draw(st.sampled_from(["maugeri", "maugeri", "mondino", ""])) if trigger in ("A03", "A02") else ""
        told = Told("san-matteo", trigger, person, visit, to, bool(to) or draw(st.booleans()))
        if trigger in ("A13", "A12") and draw(st.booleans()):
            before = [
                n
                for n, earlier in enumerate(story)
                if (earlier.hospital, earlier.person, earlier.visit) == ("san-matteo", person, visit)
            ]
            told = replace(told, cancels=draw(st.sampled_from(before)) if before else None)
        story.append(told)
    return story


@settings(max_examples=120 if THOROUGH else 50, deadline=None)
@given(stories(), st.data())
def test_the_end_is_the_same_in_whatever_order_messages_come_and_however_often(story: list[Told], data: st.DataObject):
    happened = [event(told, place) for place, told in enumerate(story)]
    arriving = data.draw(st.permutations(list(range(len(story)))))
    arriving += data.draw(st.lists(st.sampled_from(range(len(story))), max_size=3))  # sent again
    with world() as made:
        for place in arriving:
            made.ledgers[story[place].hospital].take_in([happened[place]])
            if data.draw(st.booleans()):
                made.work()
        made.work()
        numbers = {number_at("san-matteo", person): person for person in range(len(PEOPLE))}
        opened = {(numbers[transfer.number], transfer.to) for transfer in made.transfers.values()}
        wanted = should_be_open(story)
        assert opened == {(person, to) for person, _, to in wanted}
        assert len(made.transfers) == len(wanted)
        here = should_be_admitted(story)
        accepted = {
            (numbers[transfer.number], transfer.accepted) for transfer in made.transfers.values() if transfer.to == "maugeri"
        }
        assert accepted == {
            (person, number_at("maugeri", person) if person in here else "") for person, _, to in wanted if to == "maugeri"
        }


@dataclass(frozen=True)
class Merged:
    """What a registration tells of a patient of two numbers, B, which is given up, and A, and what is to be open in the end:
    (trigger, number, visit, destination), and (number, destination)."""

    told: tuple[tuple[str, str, str, str], ...]
    opened: frozenset[tuple[str, str]] = frozenset()

    def events(self) -> list[AdtEvent]:
        return [
            replace(
                event(Told("san-matteo", trigger, 0, visit, to, bool(to)), place),
                number=number,
                other={"A": "B", "B": "A"}[number] if trigger in ("A40", "A37") else "",
            )
            for place, (trigger, number, visit, to) in enumerate(self.told)
        ]


MERGE, UNDONE = ("A40", "A", "", ""), ("A37", "A", "", "")
LEFT = ("A03", "B", "V1", "maugeri")


@pytest.mark.parametrize(
    "story",
    [
        Merged((LEFT, MERGE, ("A13", "A", "V1", ""))),
        Merged((LEFT, MERGE, ("A13", "A", "V2", "")), frozenset({("B", "maugeri")})),
        Merged((LEFT, MERGE, ("A03", "A", "V1", "mondino")), frozenset({("A", "mondino")})),
        Merged((LEFT, MERGE, LEFT, ("A03", "A", "V1", "maugeri")), frozenset({("B", "maugeri")})),
        Merged((LEFT, MERGE, UNDONE, ("A13", "A", "V1", ""))),
        Merged((LEFT, MERGE, ("A13", "A", "V1", ""), UNDONE)),
        Merged((LEFT, ("A13", "A", "V1", "")), frozenset({("B", "maugeri")})),
        Merged((("A03", "B", "", "maugeri"), MERGE, ("A13", "A", "", "")), frozenset({("B", "maugeri")})),
        Merged((LEFT, MERGE, ("A03", "A", "V2", "maugeri")), frozenset({("B", "maugeri"), ("A", "maugeri")})),
        Merged((LEFT, MERGE, ("A03", "A", "V1", "")), frozenset({("B", "maugeri")})),
    ],
)
def test_after_a_merge_the_number_that_stays_says_what_becomes_of_a_visit(story: Merged) -> None:
    happened = story.events()
    for arriving in itertools.permutations(happened):
        with world() as made:
            for told in arriving:
                made.ledgers["san-matteo"].take_in([told])
                made.work()
            assert {(transfer.number, transfer.to) for transfer in made.transfers.values()} == story.opened, arriving
            assert len(made.transfers) == len(story.opened)


def test_after_a_merge_an_admission_is_cancelled_under_the_number_that_stays() -> None:
    here = number_at("maugeri", 0)
    leaves = event(Told("san-matteo", "A03", 0, "V1", "maugeri", placed=True), 0)
    arrives = event(Told("maugeri", "A01", 0), 1)
    merge = replace(event(Told("maugeri", "A40", 0, ""), 2), number="M9", other=here)
    cancels = replace(event(Told("maugeri", "A11", 0), 3), number="M9")
    with world() as made:
        made.ledgers["san-matteo"].take_in([leaves])
        for told, accepted in ((arrives, here), (merge, here), (cancels, "")):
            made.ledgers["maugeri"].take_in([told])
            made.work()
            assert [transfer.accepted for transfer in made.transfers.values()] == [accepted]


@pytest.mark.parametrize("digests", [("a", "b"), ("b", "a")])
def test_two_numbers_that_are_joined_and_parted_in_one_moment_are_two(digests: tuple[str, str]) -> None:
    day = at_the_hospital("20260302")
    joined, parted = (
        replace(told, digest=digest, at=day) for told, digest in zip(Merged((MERGE, UNDONE)).events(), digests, strict=True)
    )
    assert plan("A", [joined, parted], TERMS).links == {("A", "B"): parted}


def test_what_was_cancelled_does_not_outlive_a_cancel_that_came_before_it() -> None:
    left, cancelled = (event(Told("san-matteo", trigger, 0, to=to, placed=bool(to)), place)
                       for place, (trigger, to) in enumerate([("A03", "maugeri"), ("A13", "")]))  # fmt: skip
    with world() as made:
        ledger = made.ledgers["san-matteo"]
        for told, days in ((cancelled, 64), (left, 62)):
            ledger.take_in([told])
            ledger._journal.write(
                lambda connection, told=told, days=days: connection.execute(
                    "UPDATE adt_events SET received_at = ? WHERE digest = ?", (time.time() - days * 86400, told.digest)
                )
            )
        made.work()
        ledger.forget(time.time() - 30 * 86400)
        ledger.take_in([event(Told("san-matteo", "A08", 0), 2)])
        made.work()
        assert made.transfers == {}


@settings(max_examples=400 if THOROUGH else 100, deadline=None)
@given(st.lists(st.sampled_from(["A03", "A13", "A02", "A12"]), min_size=2, max_size=8), st.integers(-60, 0), st.data())
def test_in_the_hour_that_comes_twice_the_order_is_that_in_which_things_happened(
    triggers: list[str], since_summer_time: int, data: st.DataObject
):
    began = datetime(2026, 10, 25, 1, tzinfo=UTC) + timedelta(minutes=since_summer_time)
    going = [trigger in ("A03", "A02") for trigger in triggers]
    story = [
        Told("san-matteo", trigger, 0, to="maugeri" if goes else "", placed=goes)
        for trigger, goes in zip(triggers, going, strict=True)
    ]
    happened = [event(told, place, began, minutes=10) for place, told in enumerate(story)]
    openings = plan(number_at("san-matteo", 0), data.draw(st.permutations(happened)), TERMS).openings
    assert {(0, visit, to) for visit, to in openings} == should_be_open(story)


@pytest.mark.parametrize("kept", ["20261025013000", "20261025013000.5", "20261025"])
def test_what_was_kept_before_sorts_beside_what_is_kept_now(kept: str):
    left = replace(event(Told("san-matteo", "A03", 0, to="maugeri", placed=True), 0), at=kept, occurred=kept)
    cancelled = replace(event(Told("san-matteo", "A13", 0), 1), at="20261025021000+0100", occurred="20261025021000+0100")
    again = replace(left, digest="again", at="20261025023000+0100", occurred="20261025023000+0100")
    assert not plan(left.number, [cancelled, left], TERMS).openings
    assert plan(left.number, [again, cancelled, left], TERMS).openings == {("V1", "maugeri"): again}


@pytest.mark.parametrize(("said", "stands"), [("20261025021000+0100", ["first"]), ("20261025021000.0+0100", ["first"]),
                                              ("20261025021000+0200", ["second"]), ("20261025021000", ["second"])])  # fmt: skip
def test_a_cancel_cancels_what_happened_in_that_very_moment_of_the_hour_that_comes_twice(said: str, stands: list[str]):
    moved = event(Told("san-matteo", "A02", 0), 0)
    first, second = (
        replace(moved, digest=name, at=at, occurred=at, to=to, placed=True)
        for name, at, to in (("first", "20261025021000+0200", "maugeri"), ("second", "20261025021000+0100", "mondino"))
    )
    cancel = replace(moved, digest="cancel", trigger="A12", at="20261025040000", occurred=said, dated=True)
    openings = plan(moved.number, [cancel, second, first], TERMS).openings
    assert [event.digest for event in openings.values()] == stands


def encounter(who: Invented = PEOPLE[0], trigger: str = "A01", agrees: bool | None = True, **more: str) -> Encounter:
    told = replace(event(Told("maugeri", trigger, 0), 0), **{"number": "M1"} | more)  # type: ignore[arg-type]
    person = RegisteredPerson(f"{who.family}^{who.given}", who.birth_date, who.sex, (who.code,))
    return Encounter(told, person, agrees, trigger == "A01")


def incoming(name: str = "T1", sender: str = "san-matteo", linked: tuple[str, ...] = ("M1",), **more: object) -> Incoming:
    return replace(Incoming(name, sender, datetime.now(UTC), linked), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("coming_from", "certain"), [("", False), ("mondino", False), ("san-matteo", True)])
def test_where_a_hospital_wants_the_sender_named_only_such_an_admission_accepts(coming_from: str, certain: bool):
    (candidate,) = judge([incoming()], [encounter(coming_from=coming_from)], replace(TERMS, only_named=True))
    assert candidate.certain is certain


SOMEBODY_ELSE = RegisteredPerson("ROSSI^MARIA", "19400101", "F")
UNCERTAIN = {
    "two of our numbers are linked": ([incoming(linked=("M1", "M2"))], encounter()),
    "only registered": ([incoming()], encounter(trigger="A04")),
    "the message's codice fiscale does not agree": ([incoming()], encounter(agrees=False)),
    "the sender says another birth date": ([incoming(person=SOMEBODY_ELSE)], encounter()),
    "the patient comes from elsewhere": ([incoming()], encounter(coming_from="mondino")),
    "two hospitals' transfers wait for one number": ([incoming(), incoming("T2", "mondino")], encounter()),
}


@pytest.mark.parametrize(("transfers", "here"), UNCERTAIN.values(), ids=UNCERTAIN)
def test_what_is_not_certain_is_a_proposal(transfers: list[Incoming], here: Encounter):
    found = judge(transfers, [here], TERMS)
    assert found and not any(candidate.certain for candidate in found)
    assert all(candidate.against or here.event.trigger == "A04" for candidate in found)


def test_of_two_hospitals_that_from_which_the_patient_comes_is_meant():
    found = judge([incoming(), incoming("T2", "mondino")], [encounter(coming_from="mondino")], TERMS)
    assert [candidate.transfer for candidate in found if candidate.certain] == ["T2"]


@pytest.mark.parametrize(("opened", "certain"), [(-31, False), (-29, True), (2, True), (4, False)])
def test_an_admission_accepts_within_its_window_only(opened: int, certain: bool):
    transfer = incoming(opened_at=datetime.now(UTC) + timedelta(days=opened))
    assert any(candidate.certain for candidate in judge([transfer], [encounter()], TERMS)) is certain


def test_nobody_is_proposed_by_a_name_alone_nor_by_a_birth_date_alone():
    others = [
        encounter(replace(PEOPLE[1], family="ROSSI", given="MARIA")),
        encounter(replace(PEOPLE[1], birth_date="19400101")),
    ]
    transfer = incoming(linked=(), person=SOMEBODY_ELSE)
    assert judge([transfer], others, TERMS) == []
    same = encounter(replace(PEOPLE[1], family="ROSSI", given="MARIA", birth_date="19400101", sex="F"))
    assert [candidate.certain for candidate in judge([transfer], [same], TERMS)] == [False]


@pytest.mark.parametrize(
    ("name", "birth_date"),
    [
        ("SCONOSCIUTO^SCONOSCIUTO", "19000101"),
        ("ROSSI^NEONATA", "20261101"),
        ("GEMELLO A^ROSSI", "20261101"),
        ("ROSSI^ADA", "19000101"),
    ],
)
def test_nobody_is_proposed_by_what_stands_in_for_a_name_or_a_birth_date(name: str, birth_date: str):
    """Of all newborns of a day, and all whom nobody knows, each had been proposed as the other: same name, same birth date."""
    here = encounter()
    here = replace(here, person=replace(here.person, name=name, birth_date=birth_date))
    transfer = incoming(linked=(), person=RegisteredPerson(name, birth_date, here.person.sex))
    assert judge([transfer], [here], TERMS) == []
    (candidate,) = judge([replace(transfer, linked=("M1",))], [here], TERMS)
    assert candidate.certain, "a codice fiscale, or a person, joined the numbers"


def test_what_a_message_leaves_out_of_a_patient_stays():
    first, later = event(Told("maugeri", "A01", 0), 0), event(Told("maugeri", "A08", 0), 1)
    later = replace(later, person=RegisteredPerson("NUOVO^NOME"))
    known = plan(first.number, [later, first], TERMS)
    assert known.person == replace(first.person, name="NUOVO^NOME")


def test_a_registration_that_tells_of_everybody_delays_nobody_who_leaves() -> None:
    with world() as made:
        ledger = made.ledgers["san-matteo"]
        everybody = event(Told("san-matteo", "A31", 0), 0)
        for count in range(50):
            ledger.take_in([replace(everybody, digest=f"bulk-{count}", number=f"B{count}")])
        leaves = event(Told("san-matteo", "A03", 1, to="maugeri", placed=True), 1)
        ledger.take_in([leaves])
        act = ledger.next_act()
        assert act is not None and (act.kind, act.number) == (ActKind.OPENING, leaves.number)
        patient = ledger.unstated(leaves.number)
        assert patient is not None and patient.kind is ActKind.PATIENT
        ledger.settled(act, ActState.DONE)
        act = ledger.next_act()
        assert act is not None and act.number == leaves.number  # the newest of those of whom only something is told


@pytest.mark.parametrize(("minutes", "stays"), [(0, 1), (1, 2)])
def test_what_names_no_visit_belongs_together_within_a_week(minutes: int, stays: int) -> None:
    first = event(Told("maugeri", "A01", 0, visit=""), 0)
    second = event(Told("maugeri", "A01", 0, visit=""), 7 * 24 * 60 + minutes)
    assert len(plan(first.number, [first, second], TERMS).admissions) == stays


@pytest.mark.parametrize(("days", "there"), [(399, True), (401, False)])
def test_what_stands_of_an_event_is_kept_for_400_days(days: int, there: bool) -> None:
    with world() as made:
        ledger = made.ledgers["san-matteo"]
        ledger.take_in([event(Told("san-matteo", "A03", 1, to="maugeri", placed=True), 1)])
        act = ledger.next_act()
        assert act is not None
        ledger.settled(act, ActState.DONE)
        old = time.time() - days * 86400

        def age(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE adt_events SET received_at = ?", (old,))
            connection.execute("UPDATE adt_acts SET since = ?", (old,))

        ledger._journal.write(age)
        ledger.forget(time.time())
        with ledger._journal.read() as connection:
            assert bool(connection.execute("SELECT 1 FROM adt_events").fetchall()) == there


def test_of_a_patient_of_whom_news_comes_without_end_the_latest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciling, "MOST_UPDATES", 3)
    monkeypatch.setattr(ledger_module, "MOST_OF_A_PATIENT", 5)
    with world() as made:
        ledger = made.ledgers["maugeri"]
        for place in range(6):
            told = event(Told("maugeri", "A08", 0), place)
            ledger.take_in([replace(told, person=RegisteredPerson(f"NAME{place}"))])
            assert not ledger.is_crowded(told.number)
        act = ledger.next_act()
        assert act is not None and act.content["name"] == "NAME5"
        for place in range(6, 9):
            ledger.take_in([event(Told("maugeri", "A01", 0, f"V{place}"), place)])
        assert ledger.is_crowded(told.number)


def test_of_a_sender_without_visit_numbers_no_further_message_undoes_what_an_admission_or_a_discharge_did() -> None:
    with world() as made:
        leaves = replace(event(Told("san-matteo", "A03", 0, "", "maugeri", placed=True), 0), at="20260302100000")
        arrives = replace(event(Told("maugeri", "A01", 0, ""), 1), at="20260302110000")
        made.ledgers["san-matteo"].take_in([leaves])
        made.ledgers["maugeri"].take_in([arrives])
        made.work()
        (transfer,) = made.transfers.values()
        assert transfer.accepted == arrives.number
        for ledger, known in ((made.ledgers["san-matteo"], leaves), (made.ledgers["maugeri"], arrives)):
            for day in ("20260303", "20260301"):  # what was recorded the day before comes last
                ledger.take_in([replace(known, trigger="A08", digest=f"{known.digest}-{day}", at=f"{day}090000")])
                act = ledger.next_act()
                assert act is None or not act.undo


@pytest.mark.parametrize("kind", ["opening", "acceptance"])
def test_what_a_person_has_done_by_nobody_is_not_wanted_again_until_it_was_cancelled(kind: str) -> None:
    hospital, does, cancels = {"opening": ("san-matteo", "A03", "A13"), "acceptance": ("maugeri", "A01", "A11")}[kind]

    def told(trigger: str, place: int) -> AdtEvent:
        return event(Told(hospital, trigger, 0, to="maugeri" if trigger == "A03" else "", placed=trigger == "A03"), place)

    with world() as made:
        made.known["san-matteo", number_at("san-matteo", 0)] = made.known["maugeri", number_at("maugeri", 0)] = PEOPLE[0].code
        ledger, waits = made.ledgers[hospital], [incoming(linked=(number_at("maugeri", 0),))]

        def acts() -> list[str]:
            if kind == "acceptance":
                ledger.judged(["T1"], judge(waits, ledger.encounters({number_at("maugeri", 0)}, ()), TERMS))
            with ledger._journal.read() as connection:
                return [
                    row["state"] for row in connection.execute("SELECT state FROM adt_acts WHERE kind = ? ORDER BY seq", (kind,))
                ]

        ledger.take_in([told(does, 0)])
        assert acts() == ["waiting"]
        act = ledger.next_act()
        assert act is not None and not ledger.may_begin(act, 0)  # it is held
        ledger._journal.write(lambda connection: standing.discard(connection, []))
        ledger.take_in([told("A08", 1)])
        assert acts() == ["dropped"]
        for place, trigger in ((2, cancels), (3, does)):
            ledger.take_in([told(trigger, place)])
        assert acts() == ["dropped", "waiting"]


def test_a_merge_under_very_many_names_is_for_a_person_to_look_at_and_takes_no_time() -> None:
    names = {RegisteredPerson(f"Bianchi^{number}", "19600315") for number in range(20_000)}
    assert concerns_of("1", "2", set(list(names)[:100]), [], []) == []
    assert concerns_of("1", "2", names, [], []) == [MergeConcern.ANOTHERS]
