"""Reports by HL7 to the real local city: they stand beside the images, at the other hospital too, in whatever order."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ris
from hospital import Hospital, hospital, store, until
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from images import ct_slice
from line_proxy import bad_line
from test_kill import doomed

from forwarder.hl7.outbox import ReportOutbox
from forwarder.operations import admin
from forwarder.service import running
from local.processes import free_port
from tests.browser import hospital as hospital_by_api

_numbers = itertools.count(1)


@dataclass
class Case:
    """A patient of San Matteo of whom Maugeri may see the study, and San Matteo's forwarder."""

    city: Any
    place: Hospital
    patient: str
    study: str
    accession: str

    @property
    def port(self) -> int:
        return int(self.place.values["hl7.port"])

    def image(self, patient: str = "", date: str = "20200303") -> None:
        """The PACS sends the study, perhaps under another patient's number; it is there when this returns."""
        ds = ct_slice(1, study=self.study, edge=16)
        ds.PatientID, ds.AccessionNumber = patient or self.patient, self.accession
        ds.StudyDate = date
        assert store(self.place, [ds]) == [0x0000]
        who = self.city.client("san-matteo" if patient else "maugeri")
        until(lambda: who.get(f"/studies/{self.study}/reports").status_code == 200)

    def oru(self, text: str, **more: Any) -> bytes:
        return ris.oru(text, **{"patient": self.patient, "study": self.study} | more)

    def send(self, *messages: bytes) -> list[str]:
        return ris.send(self.port, *messages)

    def reports(self) -> dict[str, Any]:
        """What the journal says of reports; received = sent + aside + waiting."""
        found: dict[str, Any] = self.place.state()["reports"]
        assert found["received"] == found["sent"] + found["aside"] + found["waiting"]
        return found

    def settled(self, count: int, seconds: float = 60) -> dict[str, Any]:
        return until(lambda: (now := self.reports())["received"] >= count and not now["waiting"] and now, seconds)

    def on_disk(self, text: str) -> bool:
        """Whether a text stands anywhere in the journal's files, be it in a row or not."""
        return any(text.encode() in file.read_bytes() for file in self.place.spool.glob("journal.sqlite3*"))

    def seen(self) -> list[tuple[str, int, str]]:
        """(title, version, text) of the reports that Maugeri sees, newest first."""
        return [(report["title"], report["version"], text) for report, text in self._seen()]

    def standing(self) -> list[str]:
        """The texts of those of them that nothing has replaced."""
        return [text for report, text in self._seen() if report["newest"]]

    def _seen(self) -> list[tuple[dict[str, Any], str]]:
        maugeri, path = self.city.client("maugeri"), f"/studies/{self.study}/reports"
        listed = maugeri.get(path).json()["reports"]
        return [(report, maugeri.get(f"{path}/{report['sop_instance_uid']}").text) for report in listed]


@pytest.fixture
def case(city, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", city.endpoints["aws_config_file"])
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", city.endpoints["aws_shared_credentials_file"])
    place = hospital(tmp_path, city.api, hl7__address="127.0.0.1", hl7__port=free_port())
    number = f"{time.time_ns()}{next(_numbers)}"
    patient = f"SM-{number}"
    sender, transfer = city.client("san-matteo"), {"patient": {"id": patient}, "to": "maugeri", "reason": "test"}
    assert sender.put(f"/patients/{patient}", json={"event": "A01"}).status_code == 200
    assert sender.post("/transfers", json=transfer).status_code == 201
    return Case(city, place, patient, f"2.25.{number}", number[-16:])


@pytest.fixture
def up(case: Case) -> Iterator[Case]:
    with running(case.place.config()):
        yield case


def test_a_machine_that_is_lost_is_made_up_for_by_sending_once_more(case: Case):
    """docs/forwarder.md, When the machine is lost: images and reports that are there already are there once, in their order."""
    preliminary = case.oru("Prima.", state="P", status_at="20260301101000", control_id="L-1")
    final = case.oru("Seconda.", state="F", status_at="20260301103000", control_id="L-2")
    images = [ct_slice(number, study=case.study, edge=16) for number in range(1, 6)]
    for ds in images:
        ds.PatientID, ds.AccessionNumber = case.patient, case.accession
    with running(case.place.config()):
        assert store(case.place, images[:3]) == [0x0000] * 3
        until(lambda: case.place.settled(3))
        for count, message in enumerate((preliminary, final), 1):
            assert case.send(message) == ["AA"]
            case.settled(count)
        before = until(lambda: (seen := case.seen()) and len(seen) == 2 and seen)
    shutil.rmtree(case.place.spool)
    with running(case.place.config()):
        assert store(case.place, images) == [0x0000] * 5
        assert until(lambda: case.place.settled(5))["indexed"] == 5
        assert (
            case.send(preliminary, final, case.oru("Terza.", state="C", status_at="20260301110000", control_id="L-3"))
            == ["AA"] * 3
        )
        assert case.settled(3)["sent"] == 3
        after = until(lambda: (seen := case.seen()) and len(seen) == 3 and seen)
    assert after == [("RX TORACE PA (corretto)", 3, "Terza."), *before]


def test_a_report_stands_beside_the_images_at_the_other_hospital(up: Case):
    up.image()
    assert up.send(up.oru("Non lesioni focali.\nConclusioni: negativo per perché.")) == ["AA"]
    up.settled(1)
    ((title, version, text),) = until(up.seen)
    assert (title, version) == ("RX TORACE PA", 1)
    assert text == "Non lesioni focali.\nConclusioni: negativo per perché."
    with contextlib.closing(sqlite3.connect(up.place.spool / "journal.sqlite3")) as journal:
        kept = journal.execute("SELECT content, patients, study, accession, title FROM reports").fetchall()
    assert kept == [(None, "[]", "", "", "")]
    until(lambda: not up.on_disk("lesioni focali"))


def test_a_report_that_comes_before_its_study_waits_for_it_and_holds_up_no_other(up: Case):
    early = up.oru("In anticipo.", study=f"{up.study}.9", order="F-0")
    assert up.send(early, up.oru("Prima delle immagini.")) == ["AA", "AA"]
    up.image()
    assert [text for _, _, text in until(up.seen)] == ["Prima delle immagini."]
    assert until(lambda: (now := up.reports())["sent"] == 1 and now)["waiting"] == 1


@pytest.mark.parametrize(("by", "feed"), [("study", False), ("study", True), ("accession", True)])
def test_images_wake_the_report_that_waits_for_them_within_two_seconds_however_they_come(case: Case, by: str, feed: bool):
    """Through this forwarder, with the archive's feed cut off; or another way, of which the feed alone can tell.

    One of a few has to be so fast: the machine may be busy with something else.
    """
    asked: list[str] = []

    def answers(_: str, path: str) -> tuple[int, bytes] | None:
        asked.append(path)
        return (500, b"{}") if "/changes" in path and not feed else None

    def seconds_after_its_images(number: int) -> float:
        study, accession = f"{case.study}.{number}", f"{case.accession[2:]}{number:02}"
        image = ct_slice(1, study=study, edge=16)
        image.PatientID, image.AccessionNumber = case.patient, accession
        named = {"study": study} if by == "study" else {"study": "", "accession": accession}
        asked.clear()
        assert case.send(case.oru("Prima delle immagini.", order=f"F-{number}", **named)) == ["AA"]
        until(lambda: any(("/changes?since=" if feed else "/changes?since=now") in path for path in asked))
        if feed:
            until(lambda: any("/changes?since=" in path and "since=now" not in path for path in asked))
        postponed = "UPDATE reports SET not_before = ?, attempts = 20 WHERE reason = 'study-not-there'"
        journal = sqlite3.connect(case.place.spool / "journal.sqlite3", timeout=60, isolation_level=None)
        with contextlib.closing(journal):
            until(lambda: journal.execute(postponed, (time.time() + 3600,)).rowcount)
        client = case.city.client("san-matteo")
        if feed:
            hospital_by_api.send(client, image)
        else:
            assert store(case.place, [image]) == [0x0000]
        until(lambda: client.get(f"/studies/{study}/reports").status_code == 200)
        there = time.monotonic()
        until(lambda: case.reports()["sent"] == number)
        return time.monotonic() - there

    with bad_line() as line:
        case.place.values["archive.proxy"] = line.url
        line.instead = answers
        with running(case.place.config()):
            assert any(seconds_after_its_images(number) < 2 for number in range(1, 6))


@pytest.mark.parametrize(("zeros", "state"), [("ignored", "sent"), ("kept", "aside")])
def test_zeros_before_a_patients_number_count_or_not_as_configured(case: Case, zeros: str, state: str):
    case.place.values["hl7.patient_zeros"] = zeros
    with running(case.place.config()):
        case.image(patient=f"000{case.patient}")
        assert (
            case.send(case.oru("Con zeri.", patient=f"0{case.patient}"), case.oru("Di un altro.", patient="7", order="F-2"))
            == ["AA"] * 2
        )
        settled = case.settled(2)
        assert settled[state] == {"sent": 1, "aside": 2}[state]
        assert case.place.state()["aside"] == {"report-of-another-patient": settled["aside"]}


STATES = {"P": 0, "R": 0, "A": 1, "F": 1, "C": 2}
VERSIONS = st.lists(st.tuples(st.integers(8, 12), st.sampled_from(sorted(STATES))), min_size=2, max_size=5)


@settings(
    max_examples=3,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(documents=st.lists(VERSIONS, min_size=2, max_size=5), shuffle=st.randoms(use_true_random=False))
def test_whatever_the_order_in_which_versions_come_the_latest_stands(up: Case, documents: list[Any], shuffle: Any):
    """Against a model: the latest OBR-22 stands, of equal ones the status, of these what came last. Some come twice."""
    if not up.reports()["received"]:
        up.image()
    messages = []
    for order, versions in enumerate(documents):
        for number, (hour, state) in enumerate(versions):
            for _ in range(shuffle.choice((1, 1, 2))):
                messages.append((f"{order}-{shuffle.random()}", number, hour, state, f"d{order} v{number} {hour} {state}"))
    shuffle.shuffle(messages)
    run = next(_numbers)
    came: dict[str, tuple[int, int, int]] = {}
    for place, (_, _, hour, state, text) in enumerate(messages):
        came.setdefault(text, (hour, STATES[state], place))
    before = up.reports()["received"]
    sent = [
        up.oru(
            f"{run} {text}", order=f"{run}-{text.split()[0]}", state=state, obx_state=state, status_at=f"20260110{hour:02}0000"
        )
        for _, _, hour, state, text in messages
    ]
    assert set(up.send(*sent)) == {"AA"}
    assert up.settled(before + len(sent), 180)["aside"] == 0
    expected = {
        max((report for report in came if report.startswith(f"d{order} ")), key=lambda report: came[report])
        for order in range(len(documents))
    }
    client, address = up.city.client("san-matteo"), f"/studies/{up.study}/reports"

    def standing() -> set[str]:
        listed = [report for report in client.get(address).json()["reports"] if report["newest"]]
        texts = [client.get(f"{address}/{report['sop_instance_uid']}").text.splitlines()[-1] for report in listed]
        return {text.removeprefix(f"{run} ") for text in texts if text.startswith(f"{run} ")}

    with contextlib.suppress(AssertionError):
        until(lambda: standing() == expected)
    assert standing() == expected


def test_a_report_whose_study_does_not_come_is_put_aside_in_the_end_and_tried_again_when_it_did_come(up: Case):
    assert up.send(up.oru("Troppo presto.")) == ["AA"]
    long_ago = time.time() - 31 * 86400
    with contextlib.closing(sqlite3.connect(up.place.spool / "journal.sqlite3", timeout=60, isolation_level=None)) as journal:
        journal.execute("UPDATE reports SET received_at = ?, not_before = 0", (long_ago,))
    assert up.settled(1)["aside"] == 1
    assert up.place.state()["aside"] == {"report-without-study": 1}
    up.image()
    assert admin.retry(up.place.spool, everything=True) == 1
    assert up.settled(1)["sent"] == 1
    assert [text for _, _, text in until(up.seen)] == ["Troppo presto."]


def test_a_final_report_replaces_the_preliminary_one_and_a_correction_the_final_one(up: Case):
    up.image()
    versions = [up.oru("Negativo.", state="P"), up.oru("Negativo."), up.oru("Nodulo di 4 mm.", state="C")]
    assert up.send(*versions) == ["AA"] * 3
    up.settled(3)
    assert until(lambda: len(seen := up.seen()) == 3 and seen) == [
        ("RX TORACE PA (corretto)", 3, "Nodulo di 4 mm."),
        ("RX TORACE PA", 2, "Negativo."),
        ("RX TORACE PA (provvisorio)", 1, "REFERTO PROVVISORIO\n\nNegativo."),
    ]


def test_what_is_sent_again_is_acknowledged_and_makes_no_new_version(up: Case):
    up.image()
    first = up.oru("Negativo.", control_id="A1")
    later = up.oru("Negativo.", control_id="A1", field_7="20260301110000")
    renumbered = up.oru("Negativo.", control_id="A2")
    assert up.send(first, first, later, renumbered) == ["AA"] * 4
    assert up.settled(2)["sent"] == 2  # the third is a message of its own, whose content the archive has already
    assert up.send(up.oru("Nodulo di 4 mm.", state="C")) == ["AA"]
    up.settled(3)
    expected = [(2, "Nodulo di 4 mm."), (1, "Negativo.")]
    until(lambda: len(seen := up.seen()) > 1 and seen)
    assert [(version, text) for _, version, text in up.seen()] == expected


def test_by_accession_number_and_any_of_the_patients_numbers(up: Case):
    up.image()
    numbers = f"FRRLCU51C54G388X^^^MEF^CF~{up.patient}"
    assert up.send(up.oru("Per numero.", study="", accession=up.accession, patient=numbers)) == ["AA"]
    up.settled(1)
    assert [text for _, _, text in until(up.seen)] == ["Per numero."]


def test_a_report_goes_to_no_exam_of_another_time_whose_accession_number_was_given_again(up: Case):
    up.image()  # of 3 March 2020
    up.study = f"{up.study}.2"
    new = up.oru("Del nuovo esame.", study="", accession=up.accession, exam_at="202603011000")
    assert up.send(new) == ["AA"]
    time.sleep(2)
    assert up.reports()["waiting"] == 1
    up.image(date="20260301")
    assert up.settled(1)["sent"] == 1
    assert [text for _, _, text in until(up.seen)] == ["Del nuovo esame."]
    old = up.oru("Del vecchio esame.", study="", accession=up.accession, exam_at="20200303", order="F-2")
    assert up.send(old, up.oru("Di quale?", study="", accession=up.accession, order="F-3")) == ["AA", "AA"]
    assert up.settled(3)["aside"] == 1
    assert up.place.state()["aside"] == {"report-of-several-exams": 1}
    assert [text for _, _, text in up.seen()] == ["Del nuovo esame."]
    up.study = up.study.removesuffix(".2")
    assert [text for _, _, text in until(up.seen)] == ["Del vecchio esame."]


def test_each_exam_whose_accession_number_is_named_gets_the_report_and_waits_for_no_other(up: Case):
    first, accession = up.study, up.accession
    up.image()
    both = {"study": "", "accession": f"{accession}~X{accession[1:]}"}
    assert up.send(up.oru("Di tutti e due.", **both), up.oru("Corretto.", state="C", **both)) == ["AA", "AA"]
    until(lambda: up.reports()["sent"] == 2)
    assert until(lambda: up.standing() == ["Corretto."])
    up.study, up.accession = f"{first}.2", f"X{accession[1:]}"
    up.image()
    assert up.settled(4)["sent"] == 4
    assert until(lambda: up.standing() == ["Corretto."])


def test_a_wild_card_is_no_accession_number(up: Case):
    up.image()
    assert up.send(up.oru("Di nessuno.", study="", accession="*"), up.oru("Suo.", order="F-2")) == ["AA", "AA"]
    until(lambda: up.reports()["sent"] == 1)
    assert up.reports()["waiting"] == 1
    assert [text for _, _, text in until(up.seen)] == ["Suo."]


def test_text_pdf_and_cda_of_one_report_stand_beside_each_other(up: Case):
    up.image()
    cda = b'<ClinicalDocument xmlns="urn:hl7-org:v3"><title>Referto CDA</title></ClinicalDocument>'
    assert up.send(up.oru("Testo.", documents=(ris.pdf(), cda))) == ["AA"]
    assert up.settled(3)["sent"] == 3
    seen = until(lambda: len(seen := up.seen()) == 3 and seen)
    assert {text for _, _, text in seen} == {"Testo.", ris.pdf().decode(), cda.decode()}


def test_a_corrected_pdf_replaces_the_final_text_and_all_attachments_of_the_same_report(up: Case):
    up.image()
    assert up.send(up.oru("Frattura.", status_at="20260301100000", documents=(ris.pdf("a"), ris.pdf("b")))) == ["AA"]
    up.settled(3)
    assert up.send(up.oru("", state="C", status_at="20260301110000", documents=(ris.pdf("Nessuna frattura."),))) == ["AA"]
    up.settled(4)
    until(lambda: len(up.seen()) == 4)
    assert up.standing() == [ris.pdf("Nessuna frattura.").decode()]


@pytest.mark.parametrize("reverse", [False, True])
def test_a_preliminary_of_a_time_does_not_displace_the_final_of_the_same_day(up: Case, reverse: bool):
    up.image()
    messages = [up.oru("Prima lettura.", state="P", status_at="20260301170000"), up.oru("Definitivo.", status_at="20260301")]
    assert up.send(*messages[:: -1 if reverse else 1]) == ["AA", "AA"]
    up.settled(2)
    until(lambda: len(up.seen()) == 2)
    assert up.standing() == ["Definitivo."]


def test_rtf_and_the_notes_behind_it_are_text_at_the_other_hospital(up: Case):
    up.image()
    assert up.send(up.oru(r"{\rtf1\ansi Perch\'e9\par 10{\super 3}}") + b"NTE|1||Avvisato il reparto.\r") == ["AA"]
    up.settled(1)
    assert [text for *_, text in until(up.seen)] == ["Perché\n10^3\nAvvisato il reparto."]


def test_a_report_is_never_attached_to_another_patients_study(up: Case):
    up.image(patient="SOMEBODY-ELSE")
    assert up.send(up.oru("Di un altro."), up.oru("Di un altro.", study="", accession=up.accession, order="F-2")) == ["AA", "AA"]
    assert up.settled(2)["aside"] == 2
    assert up.place.state()["aside"] == {"report-of-another-patient": 2}
    assert up.city.client("san-matteo").get(f"/studies/{up.study}/reports").json()["reports"] == []
    first, second = admin.rejected(up.place.spool)
    assert (first.state, first.reason, first.modality) == ("aside", "report-of-another-patient", "report")
    shown = admin.show(up.place.spool, first.digest[:12])
    assert shown["from"] == "RIS@SAN-MATTEO" and shown["study"] == up.study
    assert not {up.patient, "Di un altro."} & {*shown.values()}
    assert admin.retry(up.place.spool, [first.digest]) == 1
    until(lambda: [entry.digest for entry in admin.rejected(up.place.spool)] == [second.digest, first.digest])
    assert admin.discard(up.place.spool, []) == 2
    assert up.place.state()["aside"] == {} and up.reports()["aside"] == 2
    assert not up.on_disk("Di un altro.")
    assert up.send(up.oru("Di un altro.", control_id="AGAIN"), up.oru("Di un altro.", control_id="AGAIN")) == ["AA", "AA"]
    (again,) = until(lambda: admin.rejected(up.place.spool))
    admin.discard(up.place.spool, [again.digest])
    assert up.send(up.oru("Di un altro.", control_id="AGAIN")) == ["AA"]
    assert until(lambda: admin.rejected(up.place.spool))[0].reason == "report-of-another-patient"


def test_a_document_that_names_another_patient_is_put_aside_and_the_right_one_goes(up: Case):
    up.image()
    issuer = "2.16.840.1.113883.2.9.99.1.4.1"

    def cda(patient: str) -> bytes:
        target = f'<recordTarget><patientRole><id root="{issuer}" extension="{patient}"/></patientRole></recordTarget>'
        return f'<ClinicalDocument xmlns="urn:hl7-org:v3"><title>Di {patient[:2]}</title>{target}</ClinicalDocument>'.encode()

    wrong, right = (up.oru("", documents=(cda(patient),)) for patient in ("SOMEBODY-ELSE", up.patient))
    assert up.send(wrong, right) == ["AA", "AA"]
    assert up.settled(2)["sent"] == 1
    assert up.place.state()["aside"] == {"report-of-another-patient": 1}
    assert [text for _, _, text in until(up.seen)] == [cda(up.patient).decode()]


def test_a_report_that_is_taken_back_while_it_waits_is_not_sent(up: Case):
    report = up.oru("Da ritirare.")
    assert up.send(report, up.oru("Da ritirare.", state="X"), report) == ["AA"] * 3
    assert up.settled(2)["aside"] == 2
    assert up.place.state()["aside"] == {"report-deletion": 1, "report-taken-back": 1}
    up.image()
    deletion = next(entry for entry in admin.rejected(up.place.spool) if entry.reason == "report-deletion")
    assert admin.retry(up.place.spool, [deletion.digest]) == 0  # there is nothing to send
    assert up.seen() == []


def test_an_older_version_that_is_sent_late_does_not_replace_its_correction(up: Case):
    up.image(patient=up.patient)
    wrong, right = up.oru("Prima versione.", patient="SOMEBODY-ELSE"), up.oru("Seconda versione.", state="C")
    assert up.send(wrong, right) == ["AA", "AA"]
    up.settled(2)
    admin.retry(up.place.spool, everything=True)
    until(lambda: up.place.state()["aside"] == {"report-of-another-patient": 1})
    assert [text for _, _, text in until(up.seen)] == ["Seconda versione."]


def test_an_answer_that_was_lost_makes_no_second_version(case: Case):
    with bad_line() as line:
        case.place.values["archive.proxy"] = line.url
        line.lose_answer = lambda method, path: method == "POST" and "/reports" in path and not line.lost
        with running(case.place.config()):
            case.image()
            assert case.send(case.oru("Una volta sola.")) == ["AA"]
            assert case.settled(1)["sent"] == 1
    assert line.lost == 1
    assert [(version, text) for _, version, text in until(case.seen)] == [(1, "Una volta sola.")]


@pytest.mark.parametrize("answer", [(403, b"<html>"), (500, b"{}"), (200, b"<html>"), (200, b'{"a": [1]}')], ids=str)
def test_a_report_that_the_archive_or_a_proxy_fails_at_does_not_hold_up_the_others(case: Case, answer: tuple[int, bytes]):
    with bad_line() as line:
        case.place.values["archive.proxy"] = line.url
        line.instead = lambda method, path: answer if f"StudyInstanceUID={case.study}.9" in path else None
        with running(case.place.config()):
            case.image()
            poison = case.oru("Veleno.", study=f"{case.study}.9", order="F-0")
            assert case.send(poison, case.oru("Uno."), case.oru("Due.", order="F-2")) == ["AA"] * 3
            until(lambda: case.reports()["sent"] == 2)
    seen = until(lambda: len(seen := case.seen()) == 2 and seen)
    assert {text for _, _, text in seen} == {"Uno.", "Due."}


def test_what_the_archive_refuses_is_put_aside(case: Case):
    with bad_line() as line:
        case.place.values["archive.proxy"] = line.url
        line.instead = lambda method, path: (413, b"{}") if method == "POST" and "/reports" in path else None
        with running(case.place.config()):
            case.image()
            assert case.send(case.oru("Rifiutato.")) == ["AA"]
            assert case.settled(1)["aside"] == 1
            assert case.place.state()["aside"] == {"report-refused-by-archive": 1}


@pytest.mark.parametrize("step", ["report-journaled", "report-found", "report-added", "report-settled"])
def test_death_right_after_each_step_loses_and_doubles_no_report(case: Case, step: str):
    versions = [case.oru("Primo.", state="P"), case.oru("Secondo.")]
    acknowledged = 0
    with doomed(case.place, step, 1) as forwarder:
        case.image()
        with ris.Ris(case.port) as sender:
            for message in versions:
                sender.post(message)
                answer = sender.answer()
                if answer is None:
                    break
                assert answer.code == "AA"
                acknowledged += 1
        assert until(lambda: forwarder.poll() is not None) and forwarder.returncode == -signal.SIGKILL
    with running(case.place.config()):
        assert case.send(*versions[acknowledged:]) == ["AA"] * (2 - acknowledged)  # a RIS sends again what had no answer
        assert case.settled(2)["sent"] == 2
    seen = until(lambda: len(seen := case.seen()) == 2 and seen)
    assert [(version, text.split("\n")[-1]) for _, version, text in seen] == [(2, "Secondo."), (1, "Primo.")]


def test_a_report_that_stumbles_over_what_nobody_foresaw_holds_up_no_other(up: Case, monkeypatch: pytest.MonkeyPatch):
    up.image()
    adds = ReportOutbox._add
    monkeypatch.setattr(
        ReportOutbox, "_add", lambda self, report, *rest: {}[0] if report.content == b"primo" else adds(self, report, *rest)
    )
    assert up.send(up.oru("primo"), up.oru("secondo", order="2")) == ["AA", "AA"]
    until(lambda: [text for _, _, text in up.seen()] == ["secondo"])
    assert up.reports()["waiting"] == 1
    monkeypatch.setattr(ReportOutbox, "_add", adds)
    admin.retry(up.place.spool, everything=True)
    up.settled(2)
    until(lambda: {text for _, _, text in up.seen()} == {"primo", "secondo"})
