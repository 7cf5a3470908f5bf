"""Into Orthanc, a PACS that nobody here wrote: stored, committed on an association of its own, sent back, brought once."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from deliveries import a_case
from hospital import until
from pacs import Pacs

from forwarder.service import running
from local.processes import free_port
from tests.browser import hospital as by_api
from tests.harness import RunningCity

pytestmark = [
    pytest.mark.usefixtures("credentials_of_the_city"),
    pytest.mark.skipif(not shutil.which("Orthanc"), reason="Orthanc is not installed (Debian: orthanc)"),
]


class Orthanc:
    """Its REST API."""

    def __init__(self, http: int) -> None:
        self._address = f"http://127.0.0.1:{http}"

    def ask(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(self._address + path, data, timeout=60) as answer:
            return json.load(answer)

    def is_up(self) -> bool:
        with suppress(OSError):
            return bool(self.ask("/system"))
        return False


@contextmanager
def running_orthanc(folder: Path, port: int, forwarder: int) -> Iterator[Orthanc]:
    folder.mkdir()
    http = free_port()
    settings = {
        "StorageDirectory": str(folder), "IndexDirectory": str(folder), "DicomPort": port, "HttpPort": http, "DicomAet": "PACS",
        "RemoteAccessAllowed": False, "Plugins": [], "LuaScripts": [],
        "DicomModalities": {"forwarder": ["CONTENITORE", "127.0.0.1", forwarder]},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    process = subprocess.Popen(
        [str(shutil.which("Orthanc")), str(folder / "orthanc.json")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        orthanc = Orthanc(http)
        until(orthanc.is_up)
        yield orthanc
    finally:
        process.terminate()
        process.wait(60)


def test_orthanc_gets_it_commits_it_sends_it_back_and_gets_nothing_twice(city: RunningCity, tmp_path: Path) -> None:
    port = free_port()
    with a_case(city, tmp_path, Pacs(port=port)) as case:
        films = [case.prior(source=name) for name in ("CT_small.dcm", "MR_small_implicit.dcm", "JPEG2000.dcm")]
        case.send(*films)
        by_api.transfer(city, case.patient)
        with running_orthanc(tmp_path / "orthanc", port, case.place.port) as orthanc:
            with running(case.place.config()):
                state = until(lambda: (now := case.settled(3)) and not now["unconfirmed"] and now, 90)
                assert state["confirmed"] == {"commitment": 3, "find": 0, "journal": 0}
                assert orthanc.ask("/statistics")["CountInstances"] == 3
                (patient,) = orthanc.ask("/patients?expand")
                assert patient["MainDicomTags"]["PatientID"] == case.number
                studies = orthanc.ask("/studies")
                assert orthanc.ask("/modalities/forwarder/store", {"Resources": studies, "Synchronous": True})
                assert case.state()["echoes"] == 3
                assert case.place.state()["received"] == 0
            (case.place.spool / "journal.sqlite3").unlink()  # a new machine: what Orthanc has counts as there
            for left in ("journal.sqlite3-wal", "journal.sqlite3-shm"):
                (case.place.spool / left).unlink(missing_ok=True)
            with running(case.place.config()):
                until(lambda: case.state()["there"] == 3, 90)
            of_the_patient = {"Level": "Instance", "Query": {"PatientID": case.number}}
            assert len(orthanc.ask("/tools/find", of_the_patient)) == 3
