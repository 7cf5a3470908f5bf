"""Orders by MLLP to the real local city: what is relevant goes first into the PACS, the same exam elsewhere is told."""

from __future__ import annotations

import itertools
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import ris
from deliveries import skip_what_is_told_already
from hospital import Hospital, hospital, until
from pacs import running_pacs
from pydicom import Dataset

from forwarder.config import Hl7Config
from forwarder.hl7.message import RefusedMessage, read_header
from forwarder.hl7.order import read_orders
from forwarder.hl7.priors import ExamForOrder, same_elsewhere, told
from forwarder.service import running
from forwarder.spool.journal import Journal
from forwarder.web.patient_page import seen_now
from local.processes import free_port
from tests.browser import hospital as by_api
from tests.harness import RunningCity

_numbers = itertools.count(1)


def order(patient: str, description: str = "TC TORACE", section: str = "CT", kind: str = "ORM^O01", **more: str) -> bytes:
    """An order as a common RIS writes it."""
    control = more.get("control", "NW")
    return (
        f"MSH|^~\\&|RIS|MG|CONTENITORE|CITY|20260301100000||{kind}|O{next(_numbers)}|P|2.5||||||UNICODE UTF-8\r"
        f"PID|1||{patient}^^^{more.get('authority', 'MG')}^PI||FERRARI^LUCIA\r"
        f"ORC|{control}|P-1|F-1\rOBR|1|P-1|F-1|TCT^{description}^LOCAL{'|' * 20}{section}\r"
    ).encode()


@pytest.fixture
def patient(city: RunningCity, monkeypatch: pytest.MonkeyPatch) -> by_api.Patient:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", city.endpoints["aws_config_file"])
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", city.endpoints["aws_shared_credentials_file"])
    return by_api.Patient()


def place(city: RunningCity, folder: Path, **values: Any) -> Hospital:
    settings = {
        "archive__profile": "maugeri", "hl7__address": "127.0.0.1", "hl7__port": free_port(), "hl7__orders__enabled": True,
        "hl7__allowed_addresses": ["127.0.0.1"], "hl7__patient_authority": "MG", "hl7__orders__answer_segment": "NTE",
        "hl7__orders__answer_seconds": 15.0,
    }  # fmt: skip
    return hospital(folder, city.api, **settings | values)


def days_ago(days: int) -> str:
    return f"{datetime.now(ZoneInfo('Europe/Rome')) - timedelta(days=days):%Y%m%d}"


def prior(patient: by_api.Patient, description: str, days: int, source: str = "CT_small.dcm", **more: Any) -> Dataset:
    return by_api.image(patient, "san-matteo", source, days_ago(days), description, **more)


def post(at: Hospital, message: bytes) -> ris.Answer:
    with ris.Ris(int(at.values["hl7.port"])) as sender:
        return sender.send(message)


def test_the_ris_is_told_of_the_same_examination_of_the_last_days_and_of_nothing_else(
    city: RunningCity, tmp_path: Path, patient: by_api.Patient
):
    san_matteo = city.client("san-matteo")
    by_api.send(san_matteo, prior(patient, "TC TORACE", 5), prior(patient, "TC ENCEFALO", 6), prior(patient, "TC TORACE", 400))
    number = patient.at["maugeri"]
    at = place(city, tmp_path)
    with running(at.config()):
        before = post(at, order(number))
        assert (before.code, before.field("NTE", 3)) == ("AA", "")  # nothing is shared yet
        by_api.transfer(city, patient)
        by_api.wait_for_studies(city, patient, 3)
        for kind in ("ORM^O01", "OMG^O19", "OMI^O23"):
            told = post(at, order(number, kind=kind))
            day = f"{datetime.now(ZoneInfo('Europe/Rome')) - timedelta(days=5):%d/%m/%Y}"
            assert told.field("NTE", 3) == (
                f"Stesso esame del {day} presso Fondazione IRCCS Policlinico San Matteo, disponibile in visione: TC TORACE (CT)"
            )
            assert told.text.count("\rNTE") == 1
        assert post(at, order(number, "RM GINOCCHIO", "MR")).field("NTE", 3) == ""
        assert post(at, order(number, control="CA")).field("NTE", 3) == ""
        assert post(at, order("another-patient")).field("NTE", 3) == ""
        assert post(at, order(number, authority="SM")).code == "AE"
        state = at.state()["orders"]
    assert (state["received"], state["waiting"], state["with_same"]) == (6, 0, 3)
    assert state["same"][0]["hospitals"] == ["Fondazione IRCCS Policlinico San Matteo"]
    assert number not in str(state)


def test_a_segment_of_the_hospitals_own_tells_it_field_by_field(city: RunningCity, tmp_path: Path, patient: by_api.Patient):
    film = prior(patient, "TC TORACE", 5)
    by_api.send(city.client("san-matteo"), film)
    by_api.transfer(city, patient)
    by_api.wait_for_studies(city, patient, 1)
    at = place(city, tmp_path, hl7__orders__answer_segment="ZPR")
    with running(at.config()):
        told = post(at, order(patient.at["maugeri"]))
    assert [told.field("ZPR", field) for field in (1, 2, 3, 5, 6, 7)] == [
        "1", str(film.StudyInstanceUID), "san-matteo", days_ago(5), "TC TORACE", "CT",
    ]  # fmt: skip


def test_a_response_of_the_orders_own_tells_it_where_the_ris_takes_no_general_acknowledgement(
    city: RunningCity, tmp_path: Path, patient: by_api.Patient
):
    film = prior(patient, "TC TORACE", 5)
    by_api.send(city.client("san-matteo"), film)
    by_api.transfer(city, patient)
    by_api.wait_for_studies(city, patient, 1)
    number = patient.at["maugeri"]
    at = place(city, tmp_path, hl7__orders__acknowledgement="response")
    expected = {"ORM^O01": "ORR^O02^ORR_O02", "OMG^O19": "ORG^O20^ORG_O20", "OMI^O23": "ORI^O24^ORI_O24"}
    with running(at.config()):
        answers = {kind: post(at, order(number, kind=kind)) for kind in expected}
        refused = post(at, order(number, authority="SM"))
    assert {kind: answer.field("MSH", 9) for kind, answer in answers.items()} == expected
    assert all(answer.code == "AA" and answer.field("NTE", 3).startswith("Stesso esame") for answer in answers.values())
    assert (refused.code, refused.field("MSH", 9)) == ("AE", "ORR^O02^ORR_O02")
    journal = Journal(at.spool / "journal.sqlite3")
    with journal.read() as connection:
        (same,) = same_elsewhere(connection, number)  # once, though it was ordered three times
        assert (same.study, same.owner) == (str(film.StudyInstanceUID), "san-matteo")
        assert same_elsewhere(connection, "another-patient") == []
    journal.close()
    timeline = {"studies": [{"study_instance_uid": same.study, "owner": "san-matteo"}]}
    assert seen_now([same], timeline) == [same]
    assert seen_now([same], {"studies": []}) == seen_now([same], None) == []


def test_without_an_answer_of_the_archive_in_time_the_order_is_acknowledged_all_the_same(
    city: RunningCity, tmp_path: Path, patient: by_api.Patient
):
    at = place(city, tmp_path, hl7__orders__answer_seconds=0.2)
    cut = hospital(at.folder, "http://127.0.0.1:9", **{name.replace(".", "__"): value for name, value in at.values.items()
                                                       if name != "archive.api"})  # fmt: skip
    with running(cut.config()):
        assert post(cut, order(patient.at["maugeri"])).code == "AA"
        assert cut.state()["orders"]["waiting"] == 1
    with running(at.config()):
        until(lambda: at.state()["orders"]["waiting"] == 0)


def test_what_is_relevant_for_the_order_goes_first_into_the_pacs(city: RunningCity, tmp_path: Path, patient: by_api.Patient):
    films = [prior(patient, "TC TORACE", 2), prior(patient, "TC ADDOME", 3), prior(patient, "TC ENCEFALO", 300)]
    by_api.send(city.client("san-matteo"), *films)
    now = datetime.now()
    with running_pacs() as pacs:
        closed = {"deliver__hours": [f"{now + timedelta(hours=2):%H}:00-{now + timedelta(hours=3):%H}:00"]}
        values = {"pacs__host": "127.0.0.1", "pacs__port": pacs.port, "deliver__enabled": True}
        at = place(city, tmp_path, **values, **closed)
        skip_what_is_told_already(city, at)
        by_api.transfer(city, patient)
        by_api.wait_for_studies(city, patient, 3)
        with running(at.config()):
            until(lambda: at.state()["deliver"]["studies_waiting"] == 3)
            assert post(at, order(patient.at["maugeri"], "TC ENCEFALO")).code == "AA"
            until(lambda: at.state()["orders"]["with_priors"] == 1)
        later = place(city, tmp_path, **values)
        with running(later.config()):
            until(lambda: len(pacs.received) == 3)
        assert pacs.received[0].SOPInstanceUID == films[2].SOPInstanceUID


def test_an_order_message_has_20_orders_and_an_answer_tells_of_five_exams() -> None:
    config = Hl7Config(patient_authority="MG")
    for count in (20, 21):
        content = order("1") + b"".join(b"OBR|%d|P|F|TCT^TC TORACE^LOCAL\r" % number for number in range(2, count + 1))
        try:
            found = read_orders(content, read_header(content), config, "digest")
            assert len(found) == count == 20
        except RefusedMessage as refused:
            assert (count, refused.code, refused.condition) == (21, "AE", 207)
    exams = [ExamForOrder(f"1.{n}", "san-matteo", "San Matteo", "20260301", "TC", ("CT",), True) for n in range(6)]
    assert [len(told("NTE", exams[:count])) for count in (4, 5, 6)] == [4, 5, 5]


def test_an_order_that_cannot_be_read_back_holds_up_neither_the_others_nor_the_forwarder(
    city: RunningCity, tmp_path: Path, patient: by_api.Patient
):
    by_api.send(city.client("san-matteo"), prior(patient, "TC TORACE", 5))
    by_api.transfer(city, patient)
    by_api.wait_for_studies(city, patient, 1)
    at = place(city, tmp_path)
    at.spool.mkdir(parents=True, exist_ok=True)
    journal = Journal(at.spool / "journal.sqlite3")
    row = (
        "INSERT INTO orders (digest, control_id, number, content, state, received_at) VALUES ('x', '1', '1', '{}', 'waiting', ?)"
    )
    journal.write(lambda connection: connection.execute(row, (time.time() + 60,)))  # newest first: it would be asked for first
    journal.close()
    with running(at.config()):
        assert post(at, order(patient.at["maugeri"])).field("NTE", 3).startswith("Stesso esame")
        state = at.state()
    assert state["orders"]["waiting"] == 1
    assert "part-stumbles" not in state["troubles"]
