"""What was brought and must not be used is rejected in the PACS where that is wanted (IHE IOCM), and never what merely ended."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from deliveries import Case, a_case
from hospital import until
from line_proxy import bad_line
from pacs import running_pacs
from pydicom import Dataset

from forwarder.deliver import engine, planning
from forwarder.operations import admin
from forwarder.service import running
from tests.browser import hospital as by_api
from tests.harness import RunningCity

pytestmark = pytest.mark.usefixtures("credentials_of_the_city")
KEY_OBJECT = "1.2.840.10008.5.1.4.1.1.88.59"


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patients are reviewed every second: that one objected, the feed does not tell."""
    monkeypatch.setattr(engine, "REVIEW_EVERY", timedelta(seconds=1))


@pytest.fixture
def case(city: RunningCity, tmp_path: Path) -> Iterator[Case]:
    with running_pacs() as pacs, a_case(city, tmp_path, pacs, deliver__recall="reject") as made:
        yield made


def notes(case: Case) -> list[Dataset]:
    return [ds for ds in case.pacs.kept.values() if ds.SOPClassUID == KEY_OBJECT]


def rejected_by(note: Dataset) -> tuple[str, set[str]]:
    """(the code of its title, the SOP Instance UIDs that it names)."""
    (evidence,) = note.CurrentRequestedProcedureEvidenceSequence
    named = {
        str(item.ReferencedSOPInstanceUID)
        for series in evidence.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert named == {str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for item in note.ContentSequence}
    return str(note.ConceptNameCodeSequence[0].CodeValue), named


def recalls(case: Case) -> dict[str, str]:
    return {recall.study: recall.reason for recall in admin.recalls(case.place.spool)}


def test_a_withdrawn_study_is_rejected_once_under_the_local_patient(case: Case) -> None:
    case.pacs.knows(case.number, "FERRARI^LUCIA")
    kept, withdrawn = case.prior(), case.prior()
    case.send(kept, withdrawn)
    by_api.transfer(case.city, case.patient)
    with running(case.place.config()):
        case.settled(2)
        path = f"/studies/{withdrawn.StudyInstanceUID}/withdrawals"
        assert case.city.client("san-matteo").post(path, json={"reason": "wrong patient"}).status_code == 201
        until(lambda: case.state()["recalls_rejected"] == 1)
        (note,) = notes(case)
        assert rejected_by(note) == ("113037", {str(withdrawn.SOPInstanceUID)})
        assert (note.PatientID, note.StudyInstanceUID, note.Modality) == (case.number, withdrawn.StudyInstanceUID, "KO")
        assert admin.recalls(case.place.spool)[0].rejected_at
    with running(case.place.config()):
        until(lambda: case.state()["recalls_rejected"] == 1)
    assert len(notes(case)) == 1 and len(case.pacs.received) == 3


@pytest.mark.usefixtures("often")
def test_what_is_gone_before_the_feed_says_that_it_was_withdrawn_is_rejected_as_that(case: Case) -> None:
    case.pacs.knows(case.number, "FERRARI^LUCIA")
    kept, withdrawn = case.prior(), case.prior()
    case.send(kept, withdrawn)
    by_api.transfer(case.city, case.patient)
    with bad_line() as line:
        case.place.values["archive.proxy"] = line.url
        with running(case.place.config()):
            case.settled(2)
            line.instead = lambda _, path: (500, b"{}") if "/changes" in path else None
            path = f"/studies/{withdrawn.StudyInstanceUID}/withdrawals"
            assert case.city.client("san-matteo").post(path, json={"reason": "wrong patient"}).status_code == 201
            until(lambda: recalls(case) == {str(withdrawn.StudyInstanceUID): "no-longer-shared"})
            line.instead = lambda _, path: None
            until(lambda: recalls(case) == {str(withdrawn.StudyInstanceUID): "withdrawn"})
            until(lambda: case.state()["recalls_rejected"] == 1)
    assert [rejected_by(note) for note in notes(case)] == [("113037", {str(withdrawn.SOPInstanceUID)})]


def test_of_a_study_of_which_one_image_was_withdrawn_that_one_is_rejected(case: Case) -> None:
    films = [case.prior() for _ in range(3)]
    for film in films:
        film.StudyInstanceUID, film.SeriesInstanceUID = films[0].StudyInstanceUID, films[0].SeriesInstanceUID
    case.send(*films)
    by_api.transfer(case.city, case.patient)
    with running(case.place.config()):
        case.settled(3)
        body = {"reason": "blurred", "sop_instance_uids": [str(films[1].SOPInstanceUID)]}
        path = f"/studies/{films[0].StudyInstanceUID}/withdrawals"
        assert case.city.client("san-matteo").post(path, json=body).status_code == 201
        until(lambda: notes(case))
        assert rejected_by(notes(case)[0])[1] == {str(films[1].SOPInstanceUID)}


def test_a_correction_is_red_and_rejects_what_was_corrected(case: Case) -> None:
    film = case.prior()
    case.send(film)
    by_api.transfer(case.city, case.patient)
    with running(case.place.config()):
        case.settled(1)
        film.PatientBirthDate = "19510315"
        case.send(film)
        until(lambda: notes(case))
        assert rejected_by(notes(case)[0]) == ("113037", {str(film.SOPInstanceUID)})
        assert "recalls-to-act-on" in case.place.state()["troubles"]
        assert case.state()["aside_reasons"] == {"corrected": 1}  # the corrected one waits for a person


@pytest.mark.usefixtures("often")
def test_an_objection_is_found_out_and_rejected(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    assert planning.FEED_SECONDS == 20.0
    monkeypatch.setattr(planning, "FEED_SECONDS", 0.5)
    film = case.prior()
    case.send(film)
    by_api.transfer(case.city, case.patient)
    owner = case.city.client("san-matteo")
    with running(case.place.config()):
        case.settled(1)
        assert owner.post(f"/patients/{case.patient.at['san-matteo']}/objections", json={}).status_code in (200, 201)
        until(lambda: notes(case))
        assert rejected_by(notes(case)[0]) == ("113039", {str(film.SOPInstanceUID)})
        assert recalls(case) == {str(film.StudyInstanceUID): "no-longer-shared"}


def test_what_is_linked_to_another_patient_is_red_and_rejected(case: Case) -> None:
    film = case.prior()
    case.send(film)
    transfer = by_api.transfer(case.city, case.patient)
    with running(case.place.config()):
        case.settled(1)
        answer = case.city.client("maugeri").delete(f"/transfers/{transfer}/receiving-patient")
        assert answer.status_code == 200, answer.text
        until(lambda: notes(case))
        assert recalls(case) == {str(film.StudyInstanceUID): "linked-otherwise"}
        assert admin.recalls(case.place.spool)[0].urgent
        # Accepted under another number, it comes once more, under that one, when somebody has seen to it.
        other = f"{case.number}-2"
        accepted = case.city.client("maugeri").put(f"/transfers/{transfer}/receiving-patient", json={"id": other})
        assert accepted.status_code == 200
        until(lambda: any(patient.number == other for patient in admin.deliveries(case.place.spool)[0]))


def test_a_second_number_of_the_patient_s_takes_nothing_from_the_one_that_was_accepted(case: Case) -> None:
    """A merge after the acceptance, confirmed by a person: what came next had been looked for under the smallest number, and what
    the PACS had under the accepted one was rejected."""
    film, later, another = case.prior(), case.prior(), case.prior()
    later.StudyInstanceUID, later.SeriesInstanceUID = film.StudyInstanceUID, film.SeriesInstanceUID
    case.send(film)
    by_api.transfer(case.city, case.patient)
    maugeri, second = case.city.client("maugeri"), f"0{case.number}"
    with running(case.place.config()):
        case.settled(1)
        assert maugeri.post(f"/patients/{second}/links", json={"id": case.number}).status_code == 201
        links = until(lambda: maugeri.get(f"/patients/{second}/links").json()["links"])
        (proposed,) = [link["link"] for link in links if link["status"] == "proposed"]
        assert maugeri.post(f"/patients/{second}/links", json={"link": proposed}).status_code == 201
        until(lambda: _shown_under(case, film) == second)
        case.send(later)
        case.settled(2)
        case.send(another)
        case.settled(3)
        assert recalls(case) == {} and notes(case) == []
        assert {patient.number for patient in admin.deliveries(case.place.spool)[0]} == {case.number}
        assert {str(brought.PatientID) for brought in case.pacs.kept.values()} == {case.number}


def _shown_under(case: Case, film: Dataset) -> str:
    (match,) = case.city.client("maugeri").get(f"/dicomweb/studies?StudyInstanceUID={film.StudyInstanceUID}").json()
    return str(match["00100020"]["Value"][0])


def test_what_a_transfer_that_ended_had_opened_is_listed_and_never_rejected(case: Case) -> None:
    film = case.prior()
    case.send(film)
    transfer = by_api.transfer(case.city, case.patient)
    with running(case.place.config()):
        case.settled(1)
        case.city.client("san-matteo").delete(f"/transfers/{transfer}")
        until(lambda: recalls(case) == {str(film.StudyInstanceUID): "transfer-ended"})
        other = by_api.Patient()
        by_api.send(case.city.client("san-matteo"), by_api.image(other, "san-matteo"))
        by_api.transfer(case.city, other)
        case.settled(2)  # what came later was done meanwhile
        assert notes(case) == []
        assert not case.place.state()["troubles"]


def test_what_may_not_be_seen_any_more_while_it_is_listed_is_not_taken_for_withdrawn(city: RunningCity, tmp_path: Path) -> None:
    with bad_line() as line, running_pacs() as pacs, a_case(city, tmp_path, pacs, deliver__recall="reject") as case:
        case.place.values["archive.proxy"] = line.url
        film, later = case.prior(), case.prior()
        later.StudyInstanceUID, later.SeriesInstanceUID = film.StudyInstanceUID, film.SeriesInstanceUID
        case.send(film)
        transfer = by_api.transfer(city, case.patient)

        def ends(_: str, path: str) -> None:
            if f"/studies/{film.StudyInstanceUID}/manifest" in path:
                city.client("san-matteo").delete(f"/transfers/{transfer}")

        with running(case.place.config()):
            case.settled(1)
            line.instead = ends
            case.send(later)
            until(lambda: recalls(case) and case.state()["studies_waiting"] == 0)
            assert recalls(case) == {str(film.StudyInstanceUID): "transfer-ended"}
            assert notes(case) == []


def test_a_pacs_that_takes_no_rejection_notes_leaves_them_to_a_person(city: RunningCity, tmp_path: Path) -> None:
    refuses = frozenset([KEY_OBJECT])
    values: dict[str, Any] = {"deliver__recall": "reject"}
    with running_pacs(refuses=refuses) as pacs, a_case(city, tmp_path, pacs, **values) as case:
        film = case.prior()
        case.send(film)
        by_api.transfer(city, case.patient)
        with running(case.place.config()):
            case.settled(1)
            path = f"/studies/{film.StudyInstanceUID}/withdrawals"
            assert city.client("san-matteo").post(path, json={"reason": "wrong patient"}).status_code == 201
            until(lambda: [recall.rejection for recall in admin.recalls(case.place.spool)] == ["pacs-takes-no-rejection-note"])
            assert case.state()["recalls_rejected"] == 0
