"""The local city's forwarders: C-STORE to visible, and started again when one dies."""

import json
import os
import signal
import socket
from pathlib import Path

import pytest
import requests
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pynetdicom import AE

from tests.harness import RunningCity, running_city, wait_until


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory):
    with running_city(tmp_path_factory.mktemp("city"), forwarders=True) as running:
        yield running


def _forwarder(city: RunningCity, institution: str = "san-matteo") -> dict:
    return json.loads((Path(city.state) / "endpoints.json").read_text())["forwarders"][institution]


def _store(forwarder: dict, name: str) -> int:
    image = dcmread(get_testdata_file(name))
    pacs = AE(ae_title="PACS")
    pacs.add_requested_context(image.SOPClassUID, image.file_meta.TransferSyntaxUID)
    host, port = forwarder["dicom"].split(":")
    association = pacs.associate(host, int(port), ae_title=forwarder["aet"])
    assert association.is_established
    status = association.send_c_store(image).Status
    association.release()
    return int(status)


def _found(city: RunningCity, study: str) -> list:
    return city.client("san-matteo").get(f"/dicomweb/studies?StudyInstanceUID={study}").json()


def test_what_the_pacs_stores_is_found_in_the_archive(city: RunningCity):
    study = dcmread(get_testdata_file("CT_small.dcm"), stop_before_pixels=True).StudyInstanceUID
    assert _store(_forwarder(city), "CT_small.dcm") == 0x0000
    wait_until(lambda: _found(city, study))


def test_what_the_ris_sends_by_hl7_is_read_beside_the_images(city: RunningCity):
    image = dcmread(get_testdata_file("CT_small.dcm"), stop_before_pixels=True)
    path = f"/studies/{image.StudyInstanceUID}/reports"
    assert _store(_forwarder(city), "CT_small.dcm") == 0x0000
    report = [
        "MSH|^~\\&|RIS|SM|CONTENITORE||20260301||ORU^R01|1|P|2.5||||||UNICODE UTF-8",
        f"PID|1||{image.PatientID}",
        "OBR|1|P|F|^TC",
        f"ZDS|{image.StudyInstanceUID}^^Application^DICOM",
        "OBX|1|TX|^Referto||Negativo.||||||F",
    ]
    host, port = _forwarder(city)["hl7"].split(":")
    with socket.create_connection((host, int(port)), timeout=60) as ris:
        ris.sendall(b"\x0b" + "\r".join(report).encode() + b"\x1c\r")
        assert b"MSA|AA|1" in ris.recv(65536)
    (found,) = wait_until(lambda: city.client("san-matteo").get(path).json().get("reports"))
    assert city.client("san-matteo").get(f"{path}/{found['sop_instance_uid']}").text == "Negativo."


def test_a_forwarder_that_is_killed_comes_back_with_its_ports_and_sends_what_it_had(city: RunningCity):
    before = _forwarder(city)
    study = dcmread(get_testdata_file("MR_small.dcm"), stop_before_pixels=True).StudyInstanceUID
    assert _store(before, "MR_small.dcm") == 0x0000
    os.kill(before["pid"], signal.SIGKILL)
    after = wait_until(lambda: (now := _forwarder(city))["pid"] != before["pid"] and now)
    assert {**after, "pid": 0} == {**before, "pid": 0}
    wait_until(lambda: _found(city, study))


def test_what_site_toml_says_is_laid_over_at_the_next_start_and_an_unknown_key_stops_it_by_name(city: RunningCity):
    before = _forwarder(city, "mondino")
    site = Path(before["config"]).with_name("site.toml")
    site.write_text("[dicom]\nae_titel = 'ODD'\n")
    os.kill(before["pid"], signal.SIGKILL)
    log = Path(city.state) / "logs" / "forwarder-mondino.log"
    wait_until(lambda: "dicom.ae_titel" in log.read_text())
    site.write_text("[dicom]\nae_title = 'SITE'\n")

    def title() -> str:
        try:
            return str(requests.get(before["page"] + "/status.json", timeout=60).json()["ae_title"])
        except requests.ConnectionError:
            return ""

    wait_until(lambda: title() == "SITE")
