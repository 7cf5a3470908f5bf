"""What is wanted, in which order, under which number, and that the account of it always adds up."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import anyio
import pytest
from deliveries import Case, a_case
from hospital import until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pacs import running_pacs

from forwarder.config import DeliverConfig
from forwarder.deliver import account, engine, proposals
from forwarder.deliver.deliveries import Confirmation, DeliveryState, Look, RecallReason, WaitingInstance
from forwarder.deliver.ledger import Ledger
from forwarder.deliver.rules import ExamElsewhere, Patient, chosen, rank
from forwarder.operations import admin
from forwarder.retrieve.coercion import LocalPatient
from forwarder.retrieve.instances import Instance
from forwarder.service import running
from forwarder.spool.journal import Journal, open_read_only
from forwarder.spool.schema import SCHEMAS
from forwarder.web.pages import environment
from forwarder.web.ready import Readiness
from tests.browser import hospital as by_api
from tests.harness import RunningCity, hospital_day, on_its_own

TODAY = date(2026, 11, 30)


@pytest.fixture
def case(city: RunningCity, tmp_path: Path) -> Iterator[Case]:
    with running_pacs() as pacs, a_case(city, tmp_path, pacs) as made:
        yield made


def exam(study: str, made: str, modality: str = "CT") -> ExamElsewhere:
    return ExamElsewhere(study, "san-matteo", made, (modality,), 10, ("T1",))


def patient(*exams: ExamElsewhere, accepted_at: str = "2026-11-30T10:00:00Z", own: str = "") -> Patient:
    return Patient("MG-1", "FERRARI^LUCIA", "19510314", "F", exams, accepted_at, "9.9" if own else "", own)


def test_relevant_priors_come_first_then_the_newest_and_no_more_than_wanted() -> None:
    exams = [
        exam("1.1", "20260101"),
        exam("1.2", "20250101", "MR"),
        exam("1.3", ""),
        exam("1.4", "20100101"),
        exam("1.5", "20240101"),
    ]
    found = patient(*exams)
    order = [prior.study for prior in chosen(found, DeliverConfig(), TODAY, [("1.5", "san-matteo"), ("1.3", "san-matteo")])]
    assert order == ["1.5", "1.3", "1.1", "1.2"]
    assert [prior.study for prior in chosen(found, DeliverConfig(max_studies=1), TODAY)] == ["1.1"]
    assert [prior.study for prior in chosen(found, DeliverConfig(modalities=["MR"]), TODAY)] == ["1.2"]


def test_who_is_examined_here_now_goes_before_everybody() -> None:
    earlier = rank(patient(accepted_at="2026-11-28T10:00:00Z", own="20261130"), 5, TODAY)
    later = rank(patient(accepted_at="2026-11-30T10:00:00Z"), 0, TODAY)
    latest = rank(patient(accepted_at="2026-11-30T11:00:00Z"), 0, TODAY)
    moments = [rank(patient(accepted_at=f"2026-11-30T11:00:00.{ms}Z"), 0, TODAY) for ms in (120, 121)]
    assert moments[1] < moments[0] < latest, "also within a second"
    assert sorted([later, latest, earlier]) == [earlier, latest, later]


CODE = "FRRLCU51C54G388X"


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        ([LocalPatient("MG-1", "", "FERRARI^LUCIA", "19510314", "F")], ("MG-1", "name, birth date, sex")),
        ([LocalPatient("MG-1", "", "Ferrari^Lùcia^^", "19510314", "")], ("MG-1", "name, birth date")),
        ([LocalPatient(CODE, "", "FERRARI^L", "", "")], (CODE, "codice fiscale")),
        ([LocalPatient("MG-1", "", "FERRARI^LUCIA", "19510315", "F")], ("", "")),
        ([LocalPatient("MG-1", "", "FERRARI^LUCIA", "19510314", "M")], ("", "")),
        ([LocalPatient("MG-1", "", "FERRARI^LUCIANA", "19510314", "F")], ("", "")),
        ([LocalPatient(f"MG-{n}", "", "FERRARI^LUCIA", "19510314", "F") for n in (1, 2)], ("", "")),
        ([], ("", "")),
    ],
)  # fmt: skip
def test_a_number_is_proposed_where_one_patient_alone_agrees(candidates: list[LocalPatient], expected: tuple[str, str]) -> None:
    assert proposals.proposal(candidates, "FERRARI^LUCIA", "19510314", "F", CODE) == expected


@pytest.mark.usefixtures("credentials_of_the_city")
def test_a_transfer_without_a_number_waits_says_so_and_has_one_proposed(city: RunningCity, tmp_path: Path) -> None:
    with running_pacs() as pacs, a_case(city, tmp_path, pacs) as case:
        pacs.knows("MG-TWIN", "FERRARI^LUCIO", sex="M")
        pacs.knows(case.number, "FERRARI^LUCIA")
        case.send(case.prior())
        body = {"patient": {"id": case.patient.at["san-matteo"]}, "to": "maugeri", "reason": "rehabilitation"}
        transfer = city.client("san-matteo").post("/transfers", json=body).json()["id"]
        with running(case.place.config()):
            until(lambda: case.state()["numbers_proposed"] == 1)
            assert case.state()["not_accepted"] == 1
            (waiting,) = admin.deliveries(case.place.spool)[1]
            assert (waiting.transfer, waiting.accepted) == (transfer, False)
            assert (waiting.proposal, waiting.evidence) == (case.number, "name, birth date, sex")
            assert pacs.received == []  # a proposal is nobody's decision
            by_api.accept(city, transfer, case.patient)
            case.settled(1)
            assert (case.state()["not_accepted"], case.state()["numbers_proposed"]) == (0, 0)


@pytest.mark.usefixtures("credentials_of_the_city")
def test_what_is_relevant_to_the_exam_that_is_read_comes_first(city: RunningCity, tmp_path: Path) -> None:
    with running_pacs() as pacs, a_case(city, tmp_path, pacs, pacs__associations=1) as case:
        old = case.prior(date="20240101", description="TC TORACE")
        newer = [case.prior(date=day, description="RX MANO", BodyPartExamined="HAND") for day in ("20260101", "20260201")]
        case.send(old, *newer)
        own = by_api.image(case.patient, "maugeri", date=hospital_day(), description="TC TORACE")
        by_api.send(city.client("maugeri"), own)
        by_api.transfer(city, case.patient)
        with running(case.place.config()):
            case.settled(3)
        assert str(pacs.received[0].StudyInstanceUID) == str(old.StudyInstanceUID)


@pytest.mark.usefixtures("credentials_of_the_city")
def test_each_patient_has_an_account_that_names_nobody(case: Case) -> None:
    case.pacs.answer = lambda ds: 0xA700
    case.send(case.prior(), case.prior())
    by_api.transfer(case.city, case.patient)
    with running(case.place.config()):
        until(lambda: case.state()["waiting_for"] == {"pacs-full": 2})
        (told,) = case.state()["patients"]
        assert (told["missing"], told["exams_waiting"], told["reasons"]) == (2, 2, {"pacs-full": 2})
        assert told["waiting_seconds"] >= 0
        for personal in (case.number, case.patient.at["san-matteo"], case.patient.name, "19510314"):
            assert personal not in str(case.place.state()) and personal not in case.place.get("/metrics").data.decode()
        (known,) = admin.deliveries(case.place.spool)[0]
        assert (known.number, known.name) == (case.number, told["patient"])
        case.pacs.answer = lambda ds: 0x0000
        admin.retry(case.place.spool)
        case.settled(2)
        (told,) = case.state()["patients"]
        assert (told["announced"], told["delivered"], told["missing"], told["seconds_left"]) == (2, 2, 0, 0.0)


def listed(study: str, numbers: dict[int, int]) -> dict[str, Instance]:
    """Instances by SOP Instance UID; `numbers`: by its number, the version of its bytes."""
    return {
        f"{study}.1.{n}": Instance(f"{study}.1.{n}", "1.2.840.10008.5.1.4.1.1.2", f"{study}.1", "1.2", 1, f"{study}-{n}-{v}", "")
        for n, v in numbers.items()
    }


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["want", "list", "delivered", "there", "aside", "all aside", "commit", "lose", "retry", "gone", "finish"]
        ),
        st.sampled_from(["1.1", "1.2"]), st.dictionaries(st.integers(0, 4), st.integers(0, 1), max_size=4),
    ),
    max_size=40,
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_announced_is_delivered_and_there_and_aside_and_waiting_after_anything(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, dict[int, int]]]
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    journal = Journal(folder / "journal.sqlite3")
    ledger, moments = Ledger(journal), itertools.count()
    now = datetime(2026, 11, 30, tzinfo=UTC)
    try:
        for what, study, numbers in steps:
            found = patient(exam(study, "20260101"))
            if what in ("want", "gone"):
                ledger.followed(str(next(moments)), [("patient", "MG-1")], [])
                look = ledger.next_look() or Look("patient", "MG-1")
                wanted = [(exam, rank(found, 0, TODAY)) for exam in found.exams if what == "want"]
                ledger.planned(look, found, wanted, {(study, "san-matteo"): RecallReason.NO_LONGER_SHARED}, now)
            elif what == "retry":
                admin.retry(folder, everything=True)
            task = ledger.next_task()
            if task is not None:
                if what == "list":
                    ledger.announced(task, listed(task.study, numbers))
                for n, version in numbers.items():
                    instance = WaitingInstance(f"{task.study}.1.{n}", f"{task.study}-{n}-{version}", 0)
                    if what in ("delivered", "there", "aside"):
                        ledger.settle(task, instance, DeliveryState(what), "why" if what == "aside" else None)
                if what == "all aside":
                    ledger.put_aside(task, "other-person")
                if what == "finish":
                    ledger.finish(task)
            asked = ledger.next_to_confirm()
            if asked is not None and what in ("commit", "lose"):
                uids = [entry.sop_instance for entry in asked.instances][: len(numbers)]
                kept, lost = (uids, []) if what == "commit" else ([], uids)
                ledger.confirmed(asked, kept, lost, Confirmation.FIND, 3)
            with journal.read() as connection:
                told, people = account.summary(connection), account.patients(connection)
            assert told["announced"] == told["delivered"] + told["there"] + told["aside"] + told["waiting"]
            assert told["delivered"] == sum(told["confirmed"].values()) + told["unconfirmed"]
            for person in people:
                assert person.announced == person.delivered + person.there + person.aside + person.waiting
            assert sum(person.announced for person in people) == told["announced"]
    finally:
        journal.close()


def test_a_journal_from_before_confirmations_is_told_of_and_taken_over(tmp_path: Path) -> None:
    import sqlite3

    with closing(sqlite3.connect(tmp_path / "journal.sqlite3")) as old:
        for version, script in enumerate(SCHEMAS[:5], 1):
            old.executescript(script + f"PRAGMA user_version = {version};")
        old.execute(
            "INSERT INTO deliver_studies (study, owner, number, state, rank, coerced_at, since)"
            " VALUES ('1.1', 'san-matteo', 'MG-1', 'done', '0', '2026-01-01T00:00:00+00:00', 1)"
        )
        old.execute(
            "INSERT INTO deliver_instances (study, owner, sop_instance, sha256, state, since)"
            " VALUES ('1.1', 'san-matteo', '1.1.1', 'ab', 'delivered', 1)"
        )
        old.commit()
    with closing(open_read_only(tmp_path)) as journal:
        assert account.summary(journal)["announced"] == 0
    journal_now = Journal(tmp_path / "journal.sqlite3")
    with journal_now.read() as connection:
        assert account.summary(connection)["delivered"] == 1
    assert Ledger(journal_now).was_brought("1.1.1")
    journal_now.close()


def test_a_patient_who_is_here_before_the_images_stands_in_red_with_how_long_it_still_takes(tmp_path: Path) -> None:
    """What is reckoned: the instances of an exam and of all that go before it, at the pace of the last ones, after a pause."""
    journal = Journal(tmp_path / "journal.sqlite3")
    ledger = Ledger(journal)
    found = patient(exam("1.1", "20260301"), exam("1.2", "20260201"))
    now = datetime.now(UTC)
    ledger.followed("1", [("patient", "MG-1")], [])
    look = ledger.next_look()
    assert look is not None
    ledger.planned(look, found, [(study, rank(found, place, TODAY)) for place, study in enumerate(found.exams)], {}, now)
    task = ledger.next_task()
    assert task is not None
    listed = {
        f"1.1.{number}": Instance(f"1.1.{number}", "1.2", "1.1.0", "1.2.840.10008.1.2.1", 9, f"{number:064}", "")
        for number in range(4)
    }
    first, *_ = ledger.announced(task, listed)
    ledger.settle(task, first, DeliveryState.DELIVERED)
    timeline = [
        {"study_instance_uid": uid, "owner": "san-matteo", "study_date": "20260301", "instances": 10, "complete": True}
        for uid in ("1.1", "1.2")
    ]
    ready = Readiness(journal, delivers=True, pace=lambda: 2.0)
    exams = {study.study: study for study in on_its_own(lambda: anyio.run(ready.of, "MG-1", "maugeri", timeline))}
    assert [(exams[uid].standing, exams[uid].there) for uid in ("1.1", "1.2")] == [("coming", 1), ("coming", 0)]
    assert [exams[uid].seconds_left for uid in ("1.1", "1.2")] == [6.0, 26.0]  # three left; and ten behind them
    ledger.later(task, 100, "pacs-full")
    waiting = on_its_own(lambda: anyio.run(ready.of, "MG-1", "maugeri", timeline))[0]
    assert waiting.seconds_left is not None and 100 < waiting.seconds_left < 107
    macro = environment("it").get_template("parts.html").module.exams_ready  # type: ignore[attr-defined]
    shown = str(macro([waiting]))
    assert '<span>in arrivo nel nostro PACS (1/4), circa 1 min</span> <span class="bad-text">Il PACS è pieno.' in shown
    assert "in arrivo nel nostro PACS (1/4), meno di 1 minuto<" in str(macro([replace(waiting, seconds_left=7)]))
    journal.close()


def test_the_longest_pause_between_two_tries_is_a_quarter_of_an_hour() -> None:
    pauses = [engine._pause(attempts) for attempts in range(20)]
    assert pauses[:3] == [10.0, 20.0, 40.0] and max(pauses) == 900.0
