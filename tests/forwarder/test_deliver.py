"""Into the hospital's own PACS: what an accepted transfer opens stands there under the local number, once; nothing else does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import requests
from deliveries import Case, a_case, skip_what_is_told_already
from hospital import process, store, until
from line_proxy import bad_line
from pacs import PLAIN, running_pacs
from pydicom import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from forwarder.deliver import source
from forwarder.deliver.engine import Deliveries
from forwarder.deliver.ledger import Ledger
from forwarder.deliver.source import Source
from forwarder.operations import admin
from forwarder.service import running
from forwarder.spool.journal import Journal
from tests.browser import hospital as by_api
from tests.harness import RunningCity, hospital_day

pytestmark = pytest.mark.usefixtures("credentials_of_the_city")


@pytest.fixture
def case(city: RunningCity, tmp_path: Path) -> Iterator[Case]:
    with running_pacs() as pacs, a_case(city, tmp_path, pacs) as made:
        yield made


def test_what_an_accepted_transfer_opens_stands_in_the_pacs_under_the_local_patient(case: Case) -> None:
    case.pacs.knows(case.number, "FERRARI^LUCIA MARIA")
    films = [case.prior(source=name) for name in ("CT_small.dcm", "MR_small_implicit.dcm", "JPEG2000.dcm")]
    case.send(*films)
    transfer = case.city.client("san-matteo").post(
        "/transfers", json={"patient": {"id": case.patient.at["san-matteo"]}, "to": "maugeri", "reason": "rehabilitation"}
    ).json()["id"]  # fmt: skip
    with running(case.place.config()):
        until(lambda: case.city.client("maugeri").get("/changes").json()["changes"])
        by_api.accept(case.city, transfer, case.patient)
        state = case.settled(3)
    assert (state["delivered"], state["recalls"], state["aside_reasons"]) == (3, {}, {})
    assert sorted(case.pacs.kept) == sorted(str(dataset.SOPInstanceUID) for dataset in films)
    for film in films:
        came = case.pacs.kept[str(film.SOPInstanceUID)]
        assert (came.PatientID, str(came.PatientName), came.PatientBirthDate) == (case.number, "FERRARI^LUCIA MARIA", "19510314")
        assert came.AccessionNumber == ""
        assert came.StudyDescription.startswith("[Fondazione IRCCS Policlinico San Matteo] ")
        assert came.OriginalAttributesSequence[-1].ModifiedAttributesSequence[0].PatientID == case.patient.at["san-matteo"]
        assert came.PixelData == film.PixelData


def test_who_is_accepted_here_is_not_waited_for_in_the_feed(
    city: RunningCity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry office accepts at the door; the archive's feed, which this forwarder asks now and then, tells it later."""
    monkeypatch.setattr(Deliveries, "follow", lambda self, stop: None)
    values = {"identity__header": "X-Remote-User", "identity__trusted": ["127.0.0.1"], "identity__roles_header": "X-Remote-Roles"}
    with running_pacs() as pacs, a_case(city, tmp_path, pacs, **values) as case:
        case.send(case.prior())
        body = {"patient": {"id": case.patient.at["san-matteo"]}, "to": "maugeri", "reason": "rehabilitation"}
        transfer = city.client("san-matteo").post("/transfers", json=body).json()["id"]
        who = {"X-Remote-User": "anna", "X-Remote-Roles": "registry"}
        with running(case.place.config()):
            page = requests.get(f"{case.place.page}/transfers", headers=who, timeout=60).text
            token = re.search(r'name="token" value="([0-9a-f]+)"', page)
            assert token
            form = {"token": token[1], "act": "accept", "transfer": transfer, "number": case.number, "sure": "yes"}
            requests.post(f"{case.place.page}/transfers", headers=who, data=form, timeout=60, allow_redirects=False)
            assert case.settled(1)["delivered"] == 1


def test_who_a_patient_is_is_not_asked_for_each_of_their_exams(
    city: RunningCity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for each that the feed tells of, to look what is wanted; not again for each that is brought."""
    monkeypatch.setattr(source, "REMEMBERED_SECONDS", 600.0)  # however slow the machine
    asked: list[str] = []
    with bad_line() as line, running_pacs() as pacs, a_case(city, tmp_path, pacs, archive__proxy=line.url) as case:
        line.instead = lambda _, path: asked.append(path) if path.split("?")[0].endswith("/timeline") else None
        films = [case.prior() for _ in range(8)]
        case.send(*films)
        by_api.wait_for_studies(city, case.patient, len(films), "san-matteo")
        skip_what_is_told_already(city, case.place)
        by_api.transfer(city, case.patient)
        with running(case.place.config()):
            case.settled(len(films))
    assert {str(came.PatientID) for came in case.pacs.kept.values()} == {case.number}
    assert 1 <= len(asked) < 2 * len(films)


def test_nothing_is_brought_before_the_transfer_is_accepted_nor_for_an_emergency(case: Case) -> None:
    case.send(case.prior())
    client = case.city.client("maugeri")
    body = {"patient": {"id": case.patient.at["san-matteo"]}, "to": "maugeri", "reason": "rehabilitation"}
    assert case.city.client("san-matteo").post("/transfers", json=body).status_code == 201
    with running(case.place.config()):
        other = by_api.Patient()
        declared = {
            "patient": {"id": other.at["san-matteo"], "issuer": "2.16.840.1.113883.2.9.99.1.4.1"},
            "reason": "unconscious after a fall",
            "practitioner": "verdi",
        }
        by_api.send(case.city.client("san-matteo"), by_api.image(other, "san-matteo"))
        assert client.post("/emergency-access", json=declared).status_code == 201
        with_transfer = by_api.Patient()
        by_api.send(case.city.client("san-matteo"), by_api.image(with_transfer, "san-matteo"))
        by_api.transfer(case.city, with_transfer)  # comes last in the feed, so that all before it was looked at
        until(lambda: case.pacs.kept)
        case.settled(1)
    assert {ds.PatientID for ds in case.pacs.received} == {with_transfer.at["maugeri"]}


def test_a_pacs_that_takes_uncompressed_images_only_gets_them_uncompressed(city: RunningCity, tmp_path: Path) -> None:
    with running_pacs(syntaxes=PLAIN) as pacs, a_case(city, tmp_path, pacs) as case:
        film = case.prior(source="JPEG2000.dcm")
        case.send(film)
        by_api.transfer(city, case.patient)
        with running(case.place.config()):
            assert case.settled(1)["delivered"] == 1
        came = pacs.kept[str(film.SOPInstanceUID)]
        assert len(came.PixelData) == came.Rows * came.Columns * came.SamplesPerPixel * came.BitsAllocated // 8
        assert came.PatientID == case.number


def test_what_the_pacs_has_is_not_sent_again_and_its_echo_is_no_instance(case: Case) -> None:
    films = [case.prior(), case.prior()]
    for film in films:
        film.StudyInstanceUID, film.SeriesInstanceUID = films[0].StudyInstanceUID, films[0].SeriesInstanceUID
    case.send(*films)
    case.pacs.kept[str(films[0].SOPInstanceUID)] = films[0]  # from a CD
    by_api.transfer(case.city, case.patient)
    with running(case.place.config()):
        state = case.settled(2)
        assert (state["there"], state["delivered"]) == (1, 1)
        back = case.pacs.kept[str(films[1].SOPInstanceUID)]
        for _ in range(20):
            assert store(case.place, [back, films[0]]) == [0x0000, 0x0000]
        assert case.state()["echoes"] == 40
        assert case.place.state()["received"] == 0
    assert len(case.pacs.received) == 1


@pytest.mark.parametrize("finds", [True, False])
def test_killed_after_the_pacs_took_an_image_and_before_it_was_noted(city: RunningCity, tmp_path: Path, finds: bool) -> None:
    """With a PACS that answers no C-FIND the same bytes come again, which are the same instance to it."""
    with running_pacs(finds=finds) as pacs, a_case(city, tmp_path, pacs) as case:
        film = case.prior()
        case.send(film)
        by_api.transfer(city, case.patient)
        with process(case.place) as forwarder:
            pacs.answer = lambda ds: (forwarder.kill(), 0x0000)[1]
            until(lambda: pacs.kept)
            forwarder.wait(60)
        pacs.answer = lambda ds: 0x0000
        with process(case.place):
            state = case.settled(1)
        assert state["delivered"] + state["there"] == 1
        assert len({str(ds) for ds in pacs.received}) == 1
        assert len(pacs.received) == (1 if finds else 2)


def test_refusals_are_told_by_kind_and_hold_up_nobody(case: Case) -> None:
    films = [case.prior() for _ in range(3)]
    for film in films:
        film.StudyInstanceUID, film.SeriesInstanceUID = films[0].StudyInstanceUID, films[0].SeriesInstanceUID
    answers = dict(zip((str(film.SOPInstanceUID) for film in films), (0xC000, 0xB007, 0x0000), strict=True))
    case.pacs.answer = lambda ds: answers[str(ds.SOPInstanceUID)]
    case.send(*films)
    by_api.transfer(case.city, case.patient)
    with running(case.place.config()):
        state = case.settled(3)
        assert (state["aside"], state["delivered"], state["aside_reasons"]) == (1, 2, {"pacs-status-c000": 1})
        case.pacs.answer = lambda ds: 0x0000
        assert admin.retry(case.place.spool, everything=True) == 1
        assert until(lambda: (now := case.state())["delivered"] == 3 and now)["aside"] == 0


def test_a_pacs_that_is_full_or_away_is_waited_for_and_said(case: Case) -> None:
    case.pacs.answer = lambda ds: 0xA700
    case.send(case.prior())
    by_api.transfer(case.city, case.patient)
    with running(case.place.config()):
        until(lambda: case.state()["trouble"] == "full")
        assert case.state()["waiting_for"] == {"pacs-full": 1}
        assert "pacs-does-not-take" in case.place.state()["troubles"]
        case.pacs.answer = lambda ds: 0x0000
        admin.retry(case.place.spool, everything=True)
        assert case.settled(1)["delivered"] == 1
        assert case.state()["trouble"] is None
        assert case.place.state()["line"]["open"]  # also of a hospital that only receives


def test_another_person_under_the_number_gets_no_images_until_somebody_decides(case: Case) -> None:
    """Also those that say no birth date themselves, where the archive knows it of others of the same number."""
    case.pacs.knows(case.number, "BIANCHI^ADA", "19990101")
    case.send(case.prior(), case.prior(date="20260201", PatientBirthDate=""))
    by_api.transfer(case.city, case.patient)
    with running(case.place.config()):
        state = case.settled(2)
    assert state["aside_reasons"] == {"other-person": 2}
    assert case.pacs.received == []


def test_images_in_containers_as_some_equipment_writes_them_are_brought(case: Case) -> None:
    """What the archive takes and shows (docs/conformance.md, 7) does not stop at the PACS."""
    films = [case.prior(source="MR_small.dcm") for _ in range(5)]
    whole = [by_api._bytes(film) for film in films]
    begin = [144 + int.from_bytes(content[140:144], "little") for content in whole]

    def implicit(film: Dataset) -> bytes:
        file = BytesIO()
        film.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        film.save_as(file, implicit_vr=True, little_endian=True)
        return file.getvalue()[144 + int.from_bytes(file.getvalue()[140:144], "little") :]

    at = whole[4].index(b"\x08\0\x60\0CS")
    contents = [
        whole[0][132:],  # without preamble
        whole[1][begin[1] :],  # nor File Meta Information
        implicit(films[2]),
        whole[3][: begin[3]] + implicit(films[3]),  # under Explicit VR
        whole[4][: at + 4] + b"??" + whole[4][at + 6 :],
    ]
    files = [(content, str(film.StudyInstanceUID)) for content, film in zip(contents, films, strict=True)]
    by_api.send_files(case.city.client("san-matteo"), files)
    by_api.transfer(case.city, case.patient)
    with running(case.place.config()):
        assert case.settled(5)["delivered"] == 5
    for film in films:
        came = case.pacs.kept[str(film.SOPInstanceUID)]
        assert (came.PatientID, came.Modality, came.PixelData) == (case.number, "MR", film.PixelData)


@pytest.mark.parametrize("knows", ["", "19600303", None])
@pytest.mark.parametrize(
    "other", [("NERI^PAOLA", "19700404", "F"), ("NERI^PAOLO", "19700404", "M"), ("VERDI^LUCIA", "19600303", "F")]
)
def test_an_exam_of_another_person_under_the_sender_s_number_is_not_brought(
    case: Case, knows: str | None, other: tuple[str, str, str]
) -> None:
    """A number that the sender used again, or a mistake of its registry. `knows`: the birth date that the PACS has."""
    if knows is not None:
        case.pacs.knows(case.number, "VERDI^LUCA", knows, "M" if knows else "")
    case.patient.name = "VERDI^LUCA"
    theirs = dict(zip(("PatientName", "PatientBirthDate", "PatientSex"), other, strict=True))
    films = [
        case.prior(date="20260302", PatientBirthDate="19600303", PatientSex="M"),
        case.prior(date="20260301", source="JPEG2000.dcm", **theirs),
    ]
    case.send(*films)
    by_api.transfer(case.city, case.patient)
    with running(case.place.config()):
        state = case.settled(2)
    assert (state["delivered"], state["aside_reasons"]) == (1, {"other-person": 1})
    assert [(ds.SOPInstanceUID, str(ds.PatientName)) for ds in case.pacs.received] == [(films[0].SOPInstanceUID, "VERDI^LUCA")]


def test_the_same_number_of_another_issuer_is_another_person_s(city: RunningCity, tmp_path: Path) -> None:
    """From a CD of another hospital, say, without a birth date: nothing comes under that name."""
    with running_pacs() as pacs, a_case(city, tmp_path, pacs, pacs__issuer="MAUGERI") as case:
        for name, issuer in (("BIANCHI^ADA", "SM"), ("FERRARI^LUCIA MARIA", "MAUGERI")):
            pacs.knows(case.number, name, "")
            pacs.patients[name] = pacs.patients.pop(case.number)
            pacs.patients[name].IssuerOfPatientID = issuer
        case.send(case.prior())
        by_api.transfer(case.city, case.patient)
        with running(case.place.config()):
            assert case.settled(1)["delivered"] == 1
        ((name, issuer),) = {(str(came.PatientName), came.IssuerOfPatientID) for came in pacs.received}
        assert (name, issuer) == ("FERRARI^LUCIA MARIA", "MAUGERI")


def test_what_was_withdrawn_corrected_or_ended_is_listed_for_a_recall(case: Case) -> None:
    kept, withdrawn, corrected = (case.prior(date=date) for date in ("20260301", "20260201", "20260101"))
    case.send(kept, withdrawn, corrected)
    transfer = by_api.transfer(case.city, case.patient)
    owner = case.city.client("san-matteo")
    with running(case.place.config()):
        case.settled(3)
        body = {"reason": "wrong patient"}
        assert owner.post(f"/studies/{withdrawn.StudyInstanceUID}/withdrawals", json=body).status_code == 201
        corrected.PatientBirthDate = "19510315"
        case.send(corrected)

        def reasons() -> dict[str, str]:
            return {recall.study: recall.reason for recall in admin.recalls(case.place.spool)}

        until(lambda: reasons().get(str(withdrawn.StudyInstanceUID)))
        until(lambda: reasons().get(str(corrected.StudyInstanceUID)) == "corrected")
        assert (first := admin.recalls(case.place.spool)[0]).urgent and first.reason == "corrected"
        assert str(kept.StudyInstanceUID) not in reasons()
        owner.delete(f"/transfers/{transfer}")
        until(lambda: reasons().get(str(kept.StudyInstanceUID)) == "transfer-ended")
    assert len(case.pacs.received) == 3


def test_the_follow_up_comes_back_to_the_sender(city: RunningCity, tmp_path: Path) -> None:
    with running_pacs() as pacs, a_case(city, tmp_path, pacs, archive__profile="san-matteo") as case:
        case.send(case.prior())
        by_api.transfer(city, case.patient)
        follow_up = by_api.image(case.patient, "maugeri", date=hospital_day())
        by_api.send(city.client("maugeri"), follow_up)
        with running(case.place.config()):
            assert case.settled(1)["delivered"] == 1
        assert pacs.kept[str(follow_up.SOPInstanceUID)].PatientID == case.patient.at["san-matteo"]
        assert len(pacs.received) == 1


def test_what_comes_for_a_patient_costs_what_came_and_not_what_the_pacs_has_of_them(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive's list of an exam is asked for when the feed told of that exam, however often the patient is looked at."""
    listed: list[str] = []
    look = Source.listed

    def noted(source: Source, study: str, owner: str) -> Any:
        listed.append(study)
        return look(source, study, owner)

    monkeypatch.setattr(Source, "listed", noted)
    priors = [case.prior() for _ in range(5)]
    case.send(*priors)
    by_api.transfer(case.city, case.patient)
    with running(case.place.config()):
        case.settled(5)
        assert set(listed) == {str(prior.StudyInstanceUID) for prior in priors}
        for another in (case.prior(), case.prior(StudyInstanceUID=str(priors[0].StudyInstanceUID))):
            cursor = case.told_until()
            known = case.state()["announced"]
            listed.clear()
            case.send(another)
            assert case.settled(known + 1)["delivered"] == known + 1
            assert str(another.StudyInstanceUID) in listed
            assert set(listed) <= case.told_since(cursor) < {str(prior.StudyInstanceUID) for prior in [*priors, another]}


def test_a_wish_that_comes_while_one_is_fulfilled_is_not_lost(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite3")
    ledger = Ledger(journal)
    ledger.followed("1", [("patient", "MG-1")], [])
    look = ledger.next_look()
    assert look is not None
    ledger.followed("2", [("patient", "MG-1")], [])
    ledger.looked(look)
    assert ledger.next_look() is not None
    assert ledger.cursor() == "2"
    journal.close()


def test_what_the_feed_told_last_is_looked_at_before_all_that_was_told_earlier(tmp_path: Path) -> None:
    """After a night without a line, or at the first start, a patient who is accepted now does not wait for hundreds of others."""
    journal = Journal(tmp_path / "journal.sqlite3")
    ledger = Ledger(journal)
    earlier = [("patient", "MG-1"), ("study", "1.2.3"), ("patient", "MG-2")]
    ledger.followed("1", earlier, [])
    ledger.followed("2", [("transfer", "now"), earlier[0]], [])
    found = []
    while look := ledger.next_look():
        found.append((look.kind, look.name))
        more = [("patient", "of-the-transfer")] if look.kind == "transfer" else []
        ledger.looked(look, more)
    assert found == [earlier[0], ("transfer", "now"), ("patient", "of-the-transfer"), earlier[2], earlier[1]]
    journal.close()
