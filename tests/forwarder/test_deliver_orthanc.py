"""Into Orthanc, a PACS that nobody here wrote: stored, committed on an association of its own, sent back, brought once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from deliveries import a_case
from hospital import until
from orthanc import running_orthanc
from pacs import Pacs

from forwarder.service import running
from local.processes import free_port
from tests.browser import hospital as by_api
from tests.harness import RunningCity

pytestmark = [
    pytest.mark.usefixtures("credentials_of_the_city"),
    pytest.mark.skipif(not shutil.which("Orthanc"), reason="Orthanc is not installed (Debian: orthanc)"),
]


def test_orthanc_gets_it_commits_it_sends_it_back_and_gets_nothing_twice(city: RunningCity, tmp_path: Path) -> None:
    port = free_port()
    with a_case(city, tmp_path, Pacs(port=port)) as case:
        films = [case.prior(source=name) for name in ("CT_small.dcm", "MR_small_implicit.dcm", "JPEG2000.dcm")]
        case.send(*films)
        by_api.transfer(city, case.patient)
        modalities = {"forwarder": ["CONTENITORE", "127.0.0.1", case.place.port]}
        with running_orthanc(tmp_path / "orthanc", port, DicomModalities=modalities) as orthanc:
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
