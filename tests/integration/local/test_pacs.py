"""The PACS of the demo's hospitals: what one brings into the other's, and the small one where there is no Orthanc."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    MRImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)

from local import pacs
from local.processes import free_port
from tests.harness import ROOT, RunningCity, wait_until

FIND, MOVE = StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelMove


def test_the_demo_brings_the_films_into_the_other_hospitals_pacs_and_the_follow_up_back(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "local", "up", "--state", str(tmp_path), "--ports", str(free_port(3))]
    with (tmp_path / "told").open("w") as told:
        process = subprocess.Popen(command, cwd=ROOT, stdout=told, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        wait_until(lambda: process.poll() is not None or (tmp_path / "endpoints.json").exists(), 300)
        city = RunningCity(tmp_path, process)
        said = (tmp_path / "told").read_text()
        assert "they are in the PACS of ICS Maugeri Pavia" in said, said
        assert re.search(r"MG-77120 +│ \[Fondazione IRCCS Policlinico San Matteo\][^│]*│ +25 │", said), said
        assert re.search(r"SM-0451837 +│ \[Istituti Clinici Scientifici Maugeri,[^│]*│ +2 │", said), said
        assert set(city.endpoints["pacs"]) == {"san-matteo", "maugeri"}  # type: ignore[arg-type]
        assert city.stop() == 0
    finally:
        process.terminate()  # and not killed, which would leave PACS and forwarders behind
        process.wait(60)


@pytest.fixture(params=["Orthanc", "small"])
def hospital(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A hospital's PACS, and its forwarder's place: a C-STORE SCP that keeps what comes."""
    if request.param == "small":
        monkeypatch.setattr(pacs, "ORTHANC", "/nowhere/Orthanc")
    elif not Path(pacs.ORTHANC).exists():
        pytest.skip("Orthanc is not installed (Debian: orthanc)")
    came: list[Dataset] = []
    forwarder = AE("MAUGERI")
    for uid in (CTImageStorage, MRImageStorage):
        forwarder.add_supported_context(uid)
    server = forwarder.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda event: (came.append(event.dataset), 0x0000)[1])]
    )
    (tmp_path / "logs").mkdir()
    every = pacs.HospitalsPacs(tmp_path, {"maugeri": "MGPACS"})
    place = {"aet": "MAUGERI", "dicom": f"127.0.0.1:{server.server_address[1]}"}
    try:
        shown = every.start({"maugeri": place})["maugeri"]
        assert ("http" in shown) == (request.param == "Orthanc")
        yield shown, came
    finally:
        every.stop()
        server.shutdown()


def test_a_pacs_keeps_is_asked_and_sends(hospital: tuple[dict, list[Dataset]]) -> None:
    shown, came = hospital
    films = [dcmread(get_testdata_file(name)) for name in ("CT_small.dcm", "MR_small_implicit.dcm")]
    ae = AE(pacs.MODALITY)
    for film in films:
        ae.add_requested_context(film.SOPClassUID, film.file_meta.TransferSyntaxUID)
    ae.add_requested_context(FIND)
    ae.add_requested_context(MOVE)
    host, port = shown["dicom"].split(":")
    association = ae.associate(host, int(port), ae_title="MGPACS")
    assert association.is_established
    try:
        assert [association.send_c_store(film).Status for film in films] == [0x0000, 0x0000]
        query = Dataset()
        query.QueryRetrieveLevel, query.StudyInstanceUID, query.PatientID = "STUDY", films[0].StudyInstanceUID, ""
        query.NumberOfStudyRelatedInstances = ""
        found = [identifier for _, identifier in association.send_c_find(query, FIND) if identifier is not None]
        assert [(dataset.PatientID, dataset.NumberOfStudyRelatedInstances) for dataset in found] == [(films[0].PatientID, 1)]
        *_, (status, _) = association.send_c_move(query, "MAUGERI", MOVE)
        assert status.Status == 0x0000
    finally:
        association.release()
    assert [dataset.SOPInstanceUID for dataset in came] == [films[0].SOPInstanceUID]
    assert came[0].PixelData == films[0].PixelData


SLOW_TO_HTTP = """#!{python}
import json, socket, sys, time
told = json.load(open(sys.argv[1]))
kept = []
for port in ("DicomPort", "HttpPort"):
    time.sleep(1)
    kept.append(socket.create_server(("127.0.0.1", told[port])))
time.sleep(60)
"""


def test_a_pacs_is_ready_when_its_http_answers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orthanc listens for DICOM first: who was told of it by then found nobody at its HTTP port on a busy machine."""
    program = tmp_path / "Orthanc"
    program.write_text(SLOW_TO_HTTP.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setattr(pacs, "ORTHANC", str(program))
    (tmp_path / "logs").mkdir()
    every = pacs.HospitalsPacs(tmp_path, {"maugeri": "MGPACS"})
    try:
        shown = every.start({"maugeri": {"aet": "MAUGERI", "dicom": "127.0.0.1:104"}})["maugeri"]
        with socket.create_connection(("127.0.0.1", int(shown["http"].rpartition(":")[2])), timeout=1):
            pass
    finally:
        every.stop()
