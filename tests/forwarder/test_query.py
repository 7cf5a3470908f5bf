"""Query and retrieve at the forwarder's DICOM port: what the archive shows this hospital, under its own numbers, to its peers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hospital import Hospital, free_port, hospital, until
from pacs import PLAIN, running_pacs
from pydicom import Dataset, dcmread
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    MRImageStorage,
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelMove,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from forwarder.service import running
from tests.browser import hospital as by_api
from tests.harness import RunningCity

PATIENT, STUDY = PatientRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelFind
NEEDS_DCMTK = pytest.mark.skipif(not Path("/usr/bin/findscu").exists(), reason="findscu is not installed (Debian: dcmtk)")


@pytest.fixture
def credentials_of_the_city(city: RunningCity, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", city.endpoints["aws_config_file"])
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", city.endpoints["aws_shared_credentials_file"])


pytestmark = pytest.mark.usefixtures("credentials_of_the_city")


@dataclass
class Case:
    """A patient of San Matteo's who is at Maugeri, Maugeri's forwarder, and a workstation that is its peer."""

    city: RunningCity
    place: Hospital
    patient: by_api.Patient
    films: list[Dataset] = field(default_factory=list)

    @property
    def number(self) -> str:
        return self.patient.at["maugeri"]

    def send(self, *images: Dataset, owner: str = "san-matteo") -> None:
        by_api.send(self.city.client(owner), *images)

    def prior(self, **more: Any) -> Dataset:
        return by_api.image(self.patient, "san-matteo", **more)

    def find(self, model: Any = PATIENT, calling: str = "WORKSTATION", **keys: Any) -> tuple[list[Dataset], Dataset]:
        """(the identifiers of the matches, the final status)."""
        query = Dataset()
        for keyword, value in keys.items():
            setattr(query, keyword, value)
        with self.association(calling, model) as association:
            answers = list(association.send_c_find(query, model))
        assert [status.Status in (0xFF00, 0xFF01) for status, _ in answers[:-1]] == [True] * (len(answers) - 1)
        return [found for _, found in answers[:-1]], answers[-1][0]

    @contextmanager
    def association(self, calling: str, *models: Any, **more: Any) -> Iterator[Any]:
        ae = AE(calling)
        for model in models:
            ae.add_requested_context(model, PLAIN)
        for context in more.pop("contexts", []):
            ae.add_requested_context(*context)
        association = ae.associate("127.0.0.1", self.place.port, ae_title="CONTENITORE", **more)
        assert association.is_established
        try:
            yield association
        finally:
            association.release()

    def get(self, model: Any = StudyRootQueryRetrieveInformationModelGet, syntaxes: Any = PLAIN, answer: Any = None, **keys: Any):
        """(the instances that came, the statuses that did)."""
        query, came = Dataset(), []
        for keyword, value in keys.items():
            setattr(query, keyword, value)

        def store(event: evt.Event) -> int:
            ds = event.dataset
            ds.file_meta = event.file_meta
            came.append(ds)
            return 0x0000 if answer is None else answer(ds)

        classes = [CTImageStorage, MRImageStorage, "1.2.840.10008.5.1.4.1.1.7"]
        with self.association(
            "WORKSTATION", model, contexts=[(one, syntaxes) for one in classes],
            ext_neg=[build_role(one, scp_role=True) for one in classes], evt_handlers=[(evt.EVT_C_STORE, store)],
        ) as association:  # fmt: skip
            answers = list(association.send_c_get(query, model))
        return came, answers


@pytest.fixture
def case(city: RunningCity, tmp_path: Path) -> Iterator[Case]:
    peers = [{"ae_title": title, "host": "127.0.0.1", "port": free_port()} for title in ("WORKSTATION", "FINDSCU", "GETSCU")]
    place = hospital(tmp_path, city.api, archive__profile="maugeri", peers=peers)
    with running(place.config()):
        yield Case(city, place, by_api.Patient("FERRARI^LUCIA"))


def test_a_peer_finds_the_other_hospitals_exams_under_its_own_number(case: Case) -> None:
    films = [case.prior(source=name, AccessionNumber="SM-1") for name in ("CT_small.dcm", "MR_small_implicit.dcm")]
    case.send(*films)
    by_api.transfer(case.city, case.patient)
    by_api.wait_for_studies(case.city, case.patient, 2)
    patients, status = case.find(
        QueryRetrieveLevel="PATIENT", PatientID=case.number, PatientName="", PatientBirthDate="", IssuerOfPatientID="",
        NumberOfPatientRelatedStudies="", NumberOfPatientRelatedInstances="",
    )  # fmt: skip
    assert status.Status == 0x0000
    (patient,) = patients
    assert (patient.PatientID, str(patient.PatientName), patient.PatientBirthDate) == (case.number, "FERRARI^LUCIA", "19510314")
    assert (patient.NumberOfPatientRelatedStudies, patient.NumberOfPatientRelatedInstances) == (2, 2)
    studies, _ = case.find(
        QueryRetrieveLevel="STUDY", PatientID=case.number, StudyInstanceUID="", StudyDate="20260101-", StudyTime="0800-1000",
        ModalitiesInStudy="", AccessionNumber="", InstitutionName="", StudyDescription="", NumberOfStudyRelatedInstances="",
    )  # fmt: skip
    assert {one.StudyInstanceUID for one in studies} == {film.StudyInstanceUID for film in films}
    assert {one.ModalitiesInStudy for one in studies} == {"CT", "MR"}
    assert {(one.AccessionNumber, one.RetrieveAETitle, one.PatientID) for one in studies} == {("", "CONTENITORE", case.number)}
    film = films[0]
    (series,), _ = case.find(
        QueryRetrieveLevel="SERIES", PatientID=case.number, StudyInstanceUID=film.StudyInstanceUID, SeriesInstanceUID="",
        Modality="", NumberOfSeriesRelatedInstances="",
    )  # fmt: skip
    assert (series.SeriesInstanceUID, series.Modality, series.NumberOfSeriesRelatedInstances) == (film.SeriesInstanceUID, "CT", 1)
    (image,), _ = case.find(
        STUDY, QueryRetrieveLevel="IMAGE", StudyInstanceUID=film.StudyInstanceUID, SeriesInstanceUID=film.SeriesInstanceUID,
        SOPInstanceUID="", InstanceNumber="",
    )  # fmt: skip
    assert image.SOPInstanceUID == film.SOPInstanceUID


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
            refused = until(lambda: [one for one in place.state()["refusals"] if one["reason"] == "unknown-destination"])
            assert refused[0]["detail"] == "NOWHERE"
    assert {ds.PatientID for ds in pacs.received} == {case.number}


def test_nobody_else_may_query_whatever_it_calls_itself(case: Case) -> None:
    ae = AE("STRANGER")
    ae.add_requested_context(STUDY, PLAIN)
    ae.add_requested_context(CTImageStorage, PLAIN)
    association = ae.associate("127.0.0.1", case.place.port, ae_title="CONTENITORE")
    assert [str(one.abstract_syntax) for one in association.accepted_contexts] == [CTImageStorage]
    assert [one.result for one in association.rejected_contexts] == [1]
    association.release()
    told = until(lambda: [one for one in case.place.state()["refusals"] if one["reason"] == "not-a-peer"])
    assert (told[0]["calling"], told[0]["peer"], told[0]["sop_class"]) == ("STRANGER", "127.0.0.1", STUDY)
    assert case.place.state()["contexts_refused"] >= 1


def test_a_peer_is_known_by_its_address_too(city: RunningCity, tmp_path: Path) -> None:
    peers = [
        {"ae_title": "WORKSTATION", "host": "127.0.0.2", "port": 104},
        {"ae_title": "CT1", "host": "127.0.0.1", "port": 104, "query": False},
    ]
    place = hospital(tmp_path, city.api, archive__profile="maugeri", peers=peers)
    with running(place.config()):
        for title in ("WORKSTATION", "CT1"):
            ae = AE(title)
            ae.add_requested_context(STUDY, PLAIN)
            assert not ae.associate("127.0.0.1", place.port, ae_title="CONTENITORE").is_established
        ae = AE("WORKSTATION")
        ae.add_requested_context(STUDY, PLAIN)
        association = ae.associate("127.0.0.1", place.port, ae_title="CONTENITORE", bind_address=("127.0.0.2", 0))
        assert association.is_established
        association.release()


def test_without_peers_there_is_no_query(city: RunningCity, tmp_path: Path) -> None:
    place = hospital(tmp_path, city.api, archive__profile="maugeri")
    with running(place.config()):
        ae = AE("WORKSTATION")
        ae.add_requested_context(STUDY, PLAIN)
        ae.add_requested_context(CTImageStorage, PLAIN)
        association = ae.associate("127.0.0.1", place.port, ae_title="CONTENITORE")
        assert [one.result for one in association.rejected_contexts] == [3]
        association.release()
        assert place.state()["queries"]["enabled"] is False


def dcmtk(program: str, *arguments: str) -> str:
    """The output of a DCMTK program (pynetdicom puts namesakes on PATH), which has to succeed."""
    done = subprocess.run(
        [f"/usr/bin/{program}", *arguments], check=False, capture_output=True, text=True, timeout=60,
        env={**os.environ, "TCP_NODELAY": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@NEEDS_DCMTK
def test_findscu_and_getscu_of_dcmtk(case: Case, tmp_path: Path) -> None:
    films = [case.prior(source=name) for name in ("CT_small.dcm", "JPEG2000.dcm")]
    for film in films:
        film.StudyInstanceUID = films[0].StudyInstanceUID
    case.send(*films)
    by_api.transfer(case.city, case.patient)
    by_api.wait_for_studies(case.city, case.patient, 1)
    address = ["127.0.0.1", str(case.place.port)]
    said = dcmtk(
        "findscu", "-S", "-aet", "FINDSCU", "-aec", "CONTENITORE", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName=ferr*",
        "-k", "StudyDate=20260101-20261231", "-k", f"PatientID={case.number}", "-k", "StudyInstanceUID", *address,
    )  # fmt: skip
    assert films[0].StudyInstanceUID in said and "Pending" in said
    folder = tmp_path / "got"
    folder.mkdir()
    dcmtk(
        "getscu", "-S", "-aet", "GETSCU", "-aec", "CONTENITORE", "-od", str(folder), "-k", "QueryRetrieveLevel=STUDY",
        "-k", f"StudyInstanceUID={films[0].StudyInstanceUID}", *address,
    )  # fmt: skip
    got = {ds.SOPInstanceUID: ds for ds in map(dcmread, folder.iterdir())}
    assert set(got) == {film.SOPInstanceUID for film in films}
    assert got[films[0].SOPInstanceUID].PixelData == films[0].PixelData
    assert {ds.PatientID for ds in got.values()} == {case.number}


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
