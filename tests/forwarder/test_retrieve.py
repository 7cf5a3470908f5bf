"""C-GET and C-MOVE at the forwarder's DICOM port: what comes, how it is counted, and what is left when something breaks."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from hospital import hospital, process, until
from line_proxy import bad_line
from pacs import PLAIN, running_pacs
from pydicom import Dataset, dcmread
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import build_role, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)
from querying import NEEDS_DCMTK, Case, a_case, dcmtk

from forwarder.dicom import queries
from forwarder.query import retrieval
from forwarder.retrieve.coercion import coerced
from forwarder.service import running
from local import pacs as local_pacs
from local.processes import free_port
from tests.browser import hospital as by_api
from tests.harness import RunningCity

pytestmark = pytest.mark.usefixtures("credentials_of_the_city")


@pytest.fixture
def case(city: RunningCity, tmp_path: Path) -> Iterator[Case]:
    with a_case(city, tmp_path) as made:
        yield made


def test_c_get_brings_instances_coerced_and_counts_them(case: Case) -> None:
    films = [case.prior(source=name) for name in ("CT_small.dcm", "MR_small_implicit.dcm", "JPEG2000.dcm")]
    for film in films:
        film.StudyInstanceUID = films[0].StudyInstanceUID
    case.send(*films)
    by_api.transfer(case.city, case.patient)
    by_api.wait_for_studies(case.city, case.patient, 1)
    came, answers = case.get(QueryRetrieveLevel="STUDY", StudyInstanceUID=films[0].StudyInstanceUID)
    assert answers[-1][0].Status == 0x0000
    assert answers[-1][0].NumberOfCompletedSuboperations == 3
    assert {ds.SOPInstanceUID for ds in came} == {film.SOPInstanceUID for film in films}
    assert {(ds.PatientID, ds.AccessionNumber) for ds in came} == {(case.number, "")}
    told = [status.NumberOfRemainingSuboperations for status, _ in answers[:-1]]
    assert list(dict.fromkeys(told)) == [3, 2, 1]  # the same again where nothing changes for long


def test_c_move_brings_instances_into_a_peer(city: RunningCity, tmp_path: Path) -> None:
    with running_pacs() as pacs:
        peers = [
            {"ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port},
            {"ae_title": "WORKSTATION", "host": "localhost", "port": free_port()},
        ]
        place = hospital(tmp_path, city.api, archive__profile="maugeri", peers=peers)
        case = Case(city, place, by_api.Patient())
        films = [case.prior(), case.prior()]
        case.send(*films)
        by_api.transfer(city, case.patient)
        by_api.wait_for_studies(city, case.patient, 2)
        model = PatientRootQueryRetrieveInformationModelMove
        with running(place.config()), case.association("WORKSTATION", model) as association:
            query = Dataset()
            query.QueryRetrieveLevel, query.PatientID = "PATIENT", case.number
            answers = list(association.send_c_move(query, "PACS", model))
            assert (answers[-1][0].Status, answers[-1][0].NumberOfCompletedSuboperations) == (0x0000, 2)
            answers = list(association.send_c_move(query, "NOWHERE", model))
            assert answers[-1][0].Status == 0xA801
            refused = until(
                lambda: [refusal for refusal in place.state()["refusals"] if refusal["reason"] == "unknown-destination"]
            )
            assert refused[0]["detail"] == "NOWHERE"
    assert {ds.PatientID for ds in pacs.received} == {case.number}


@NEEDS_DCMTK
def test_movescu_of_dcmtk_brings_instances_to_itself(city: RunningCity, tmp_path: Path) -> None:
    port = free_port()
    peers = [{"ae_title": "MOVESCU", "host": "127.0.0.1", "port": port}]
    place = hospital(tmp_path / "here", city.api, archive__profile="maugeri", peers=peers)
    case = Case(city, place, by_api.Patient())
    film = case.prior()
    case.send(film)
    by_api.transfer(city, case.patient)
    by_api.wait_for_studies(city, case.patient, 1)
    folder = tmp_path / "got"
    folder.mkdir()
    with running(place.config()):
        dcmtk(
            "movescu", "-S", "-aet", "MOVESCU", "-aec", "CONTENITORE", "-aem", "MOVESCU", "+P", str(port), "-od", str(folder),
            "-k", "QueryRetrieveLevel=SERIES", "-k", f"StudyInstanceUID={film.StudyInstanceUID}",
            "-k", f"SeriesInstanceUID={film.SeriesInstanceUID}", "127.0.0.1", str(place.port),
        )  # fmt: skip
    (came,) = [dcmread(path) for path in folder.iterdir()]
    assert (came.SOPInstanceUID, came.PatientID) == (film.SOPInstanceUID, case.number)


def test_our_own_exams_come_as_they_were_sent(case: Case) -> None:
    film = by_api.image(case.patient, "maugeri", AccessionNumber="MG-4711")
    case.send(film, owner="maugeri")
    found, _ = case.find(QueryRetrieveLevel="STUDY", PatientID=case.number, AccessionNumber="", StudyInstanceUID="")
    assert [answer.AccessionNumber for answer in found] == ["MG-4711"]
    came, _ = case.get(QueryRetrieveLevel="STUDY", StudyInstanceUID=film.StudyInstanceUID)
    assert "OriginalAttributesSequence" not in came[0]
    assert came[0] == Dataset(film)


def test_a_retrieval_that_is_cancelled_stops_and_says_what_was_done(case: Case) -> None:
    slices = by_api.stack(case.patient, "san-matteo", "20260301", 20)
    case.send(*slices)
    by_api.transfer(case.city, case.patient)
    by_api.wait_for_studies(case.city, case.patient, 1)
    model = StudyRootQueryRetrieveInformationModelGet
    came: list[str] = []

    def store(event: evt.Event) -> int:
        came.append(event.request.AffectedSOPInstanceUID)
        if len(came) == 3:
            event.assoc.send_c_cancel(1, None, model)
        return 0x0000

    with case.association(
        "WORKSTATION", model, contexts=[(CTImageStorage, PLAIN)], ext_neg=[build_role(CTImageStorage, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, store)],
    ) as association:  # fmt: skip
        query = Dataset()
        query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", slices[0].StudyInstanceUID
        *_, (status, _) = association.send_c_get(query, model)
        assert status.Status == 0xFE00
        done, left = status.NumberOfCompletedSuboperations, status.NumberOfRemainingSuboperations
        assert done == len(came) < 20
        assert done + left == 20
        *_, (status, _) = association.send_c_get(query, model)  # the same message id: what was cancelled is over
        assert (status.Status, status.NumberOfCompletedSuboperations) == (0x0000, 20)
    assert list((case.place.spool / "query").iterdir()) == []


@pytest.mark.skipif(not Path(local_pacs.ORTHANC).exists(), reason="Orthanc is not installed (Debian: orthanc)")
def test_orthanc_asks_and_fetches_from_its_own_interface(city: RunningCity, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    orthanc = local_pacs.HospitalsPacs(tmp_path, {"maugeri": "MGPACS"})
    (pacs,) = orthanc.all
    peers = [{"ae_title": "MGPACS", "host": "127.0.0.1", "port": pacs.dicom_port}]
    place = hospital(tmp_path / "here", city.api, archive__profile="maugeri", peers=peers)
    case = Case(city, place, by_api.Patient("FERRARI^LUCIA"))
    films = [case.prior(source=name) for name in ("CT_small.dcm", "JPEG2000.dcm", "MR_small_implicit.dcm")]
    for film in films:
        film.StudyInstanceUID = films[0].StudyInstanceUID
    case.send(*films)
    by_api.transfer(city, case.patient)
    by_api.wait_for_studies(city, case.patient, 1)
    with running(place.config()):
        api = orthanc.start({"maugeri": {"aet": "CONTENITORE", "dicom": f"127.0.0.1:{place.port}"}})["maugeri"]["http"]
        try:
            asked = {"Level": "Study", "Query": {"PatientID": case.number, "StudyDescription": "*torace*".upper()}}
            query = requests.post(f"{api}/modalities/CONTENITORE/query", json=asked, timeout=60).json()["ID"]
            (answer,) = requests.get(f"{api}/queries/{query}/answers?expand&simplify", timeout=60).json()
            assert (answer["PatientID"], answer["StudyInstanceUID"]) == (case.number, films[0].StudyInstanceUID)
            body = {"TargetAet": "MGPACS", "Synchronous": True}
            fetched = requests.post(f"{api}/queries/{query}/retrieve", json=body, timeout=120)
            assert fetched.status_code == 200, fetched.text
            (study,) = requests.get(f"{api}/studies?expand", timeout=60).json()
            assert study["PatientMainDicomTags"]["PatientID"] == case.number
            there = [requests.get(f"{api}/instances/{instance}/simplified-tags", timeout=60).json() for instance in
                     requests.get(f"{api}/instances", timeout=60).json()]  # fmt: skip
            assert {tags["SOPInstanceUID"] for tags in there} == {film.SOPInstanceUID for film in films}
        finally:
            orthanc.stop()


def test_equipment_that_knows_implicit_vr_only_gets_that(case: Case) -> None:
    films = [case.prior(source=name) for name in ("CT_small.dcm", "JPEG2000.dcm", "MR_small_implicit.dcm")]
    for film in films:
        film.StudyInstanceUID = films[0].StudyInstanceUID
    case.send(*films)
    by_api.transfer(case.city, case.patient)
    by_api.wait_for_studies(case.city, case.patient, 1)
    came, answers = case.get(
        syntaxes=[ImplicitVRLittleEndian], QueryRetrieveLevel="STUDY", StudyInstanceUID=films[0].StudyInstanceUID
    )
    assert answers[-1][0].Status == 0x0000
    got = {ds.SOPInstanceUID: ds for ds in came}
    for film in films:
        there = got[film.SOPInstanceUID]
        assert (there.file_meta.TransferSyntaxUID, there.PatientID) == (ImplicitVRLittleEndian, case.number)
        assert there.pixel_array.tobytes() == film.pixel_array.tobytes()


def test_an_exam_of_another_person_under_the_sender_s_number_is_not_retrieved(case: Case) -> None:
    """As into the PACS: a number that the sender used again, or a mistake of its registry."""
    film = case.prior(date="20260302")
    other = case.prior(date="20260301", PatientName="NERI^PAOLO", PatientBirthDate="19700404", PatientSex="M")
    case.send(film, other)
    by_api.transfer(case.city, case.patient)
    by_api.wait_for_studies(case.city, case.patient, 2)
    came, answers = case.get(PatientRootQueryRetrieveInformationModelGet, QueryRetrieveLevel="PATIENT", PatientID=case.number)
    status, told = answers[-1]
    assert (status.Status, status.NumberOfCompletedSuboperations, status.NumberOfFailedSuboperations) == (0xB000, 1, 1)
    assert told.FailedSOPInstanceUIDList == other.SOPInstanceUID
    assert [ds.SOPInstanceUID for ds in came] == [film.SOPInstanceUID]


def test_one_instance_that_nobody_foresaw_is_a_sub_operation_that_failed(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The association stands, and everything else comes."""
    films = by_api.stack(case.patient, "san-matteo", "20260301", 3)
    case.send(*films)
    by_api.transfer(case.city, case.patient)
    by_api.wait_for_studies(case.city, case.patient, 1)
    bad = films[1].SOPInstanceUID

    def stumbles(source: Path, *rest: Any) -> Any:
        return {}[bad] if dcmread(source).SOPInstanceUID == bad else coerced(source, *rest)

    monkeypatch.setattr(retrieval, "coerced", stumbles)
    came, answers = case.get(QueryRetrieveLevel="STUDY", StudyInstanceUID=films[0].StudyInstanceUID)
    status, told = answers[-1]
    assert (status.Status, status.NumberOfCompletedSuboperations, status.NumberOfFailedSuboperations) == (0xB000, 2, 1)
    assert told.FailedSOPInstanceUIDList == bad
    assert {ds.SOPInstanceUID for ds in came} == {films[0].SOPInstanceUID, films[2].SOPInstanceUID}


def test_a_line_that_breaks_costs_no_instance(city: RunningCity, tmp_path: Path) -> None:
    lost: set[str] = set()

    def once(method: str, path: str) -> bool:
        """Of each instance the first answer."""
        first = path.startswith("/contenitore") and "X-Amz-Signature" in path and path not in lost
        lost.add(path)
        return method == "GET" and first

    with bad_line() as line:
        peers = [{"ae_title": "WORKSTATION", "host": "127.0.0.1", "port": free_port()}]
        place = hospital(tmp_path, city.api, archive__profile="maugeri", peers=peers, archive__proxy=line.url)
        case = Case(city, place, by_api.Patient())
        slices = by_api.stack(case.patient, "san-matteo", "20260301", 4)
        case.send(*slices)
        by_api.transfer(city, case.patient)
        by_api.wait_for_studies(city, case.patient, 1)
        line.lose_answer = once
        with running(place.config()):
            came, answers = case.get(QueryRetrieveLevel="STUDY", StudyInstanceUID=slices[0].StudyInstanceUID)
    assert line.lost == 4
    assert (answers[-1][0].Status, {ds.SOPInstanceUID for ds in came}) == (0x0000, {dataset.SOPInstanceUID for dataset in slices})


def test_killed_while_it_retrieves_it_leaves_nothing_behind(city: RunningCity, tmp_path: Path) -> None:
    with running_pacs() as pacs:
        peers = [{"ae_title": title, "host": "127.0.0.1", "port": pacs.port} for title in ("PACS", "WORKSTATION")]
        place = hospital(tmp_path, city.api, archive__profile="maugeri", peers=peers)
        case = Case(city, place, by_api.Patient())
        slices = by_api.stack(case.patient, "san-matteo", "20260301", 6)
        case.send(*slices)
        by_api.transfer(city, case.patient)
        by_api.wait_for_studies(city, case.patient, 1)
        model = StudyRootQueryRetrieveInformationModelMove
        query = Dataset()
        query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", slices[0].StudyInstanceUID
        with process(place) as forwarder:
            pacs.answer = lambda ds: (forwarder.kill(), 0x0000)[1]
            with case.association("WORKSTATION", model) as association:
                *_, (status, _) = association.send_c_move(query, "PACS", model)
            assert "Status" not in status
            forwarder.wait(60)
        assert any((place.spool / "query").rglob("*"))
        pacs.answer = lambda ds: 0x0000
        with process(place), case.association("WORKSTATION", model) as association:
            assert not (place.spool / "query").exists()
            *_, (status, _) = association.send_c_move(query, "PACS", model)
            assert (status.Status, status.NumberOfCompletedSuboperations) == (0x0000, 6)
    assert set(pacs.kept) == {str(dataset.SOPInstanceUID) for dataset in slices}


def test_a_retrieval_says_that_it_goes_on(city: RunningCity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert queries.PENDING_SECONDS == 5.0
    monkeypatch.setattr(queries, "PENDING_SECONDS", 0.5)
    goes_on = threading.Event()
    with running_pacs(answer=lambda ds: (goes_on.wait(30), 0x0000)[1]) as pacs:
        peers = [{"ae_title": title, "host": "127.0.0.1", "port": pacs.port} for title in ("PACS", "WORKSTATION")]
        place = hospital(tmp_path, city.api, archive__profile="maugeri", peers=peers)
        case = Case(city, place, by_api.Patient())
        film = case.prior()
        case.send(film)
        by_api.transfer(city, case.patient)
        by_api.wait_for_studies(city, case.patient, 1)
        model = StudyRootQueryRetrieveInformationModelMove
        query = Dataset()
        query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", film.StudyInstanceUID
        told: list[tuple[int, int | None]] = []
        with running(place.config()), case.association("WORKSTATION", model) as association:
            for status, _ in association.send_c_move(query, "PACS", model):
                told.append((status.Status, status.get("NumberOfRemainingSuboperations")))
                if len(told) == 3:
                    goes_on.set()
    assert told[:3] == [(0xFF00, 1)] * 3
    assert told[-1] == (0x0000, None)


def test_an_instance_is_never_whole_in_memory(city: RunningCity, tmp_path: Path) -> None:
    peers = [{"ae_title": "WORKSTATION", "host": "127.0.0.1", "port": free_port()}]
    place = hospital(tmp_path, city.api, archive__profile="maugeri", peers=peers)
    case = Case(city, place, by_api.Patient())
    film = case.prior(Rows=2048, Columns=2048, NumberOfFrames=16)
    film.PixelData = os.urandom(2048) * 2048 * 32
    case.send(film)
    by_api.transfer(city, case.patient)
    by_api.wait_for_studies(city, case.patient, 1)
    with process(place) as forwarder:
        running_one, over, most = psutil.Process(forwarder.pid), threading.Event(), [0]

        def watch() -> None:
            while not over.wait(0.02):
                most.append(max(most.pop(), running_one.memory_info().rss))

        before = running_one.memory_info().rss
        watching = threading.Thread(target=watch)
        watching.start()
        came, answers = case.get(QueryRetrieveLevel="STUDY", StudyInstanceUID=film.StudyInstanceUID)
        over.set()
        watching.join()
    assert (answers[-1][0].Status, came[0].PatientID, came[0].PixelData == film.PixelData) == (0x0000, case.number, True)
    assert most[0] - before < 50e6 < len(film.PixelData)
