"""A hospital takes its own with it: its bytes as they were sent, with a DICOMDIR, and nothing of anybody else's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.harness import ROOT, RunningCity
from tests.integration.hospital import send, visible
from tests.world import image

OWN, SECOND, OTHERS = "1.2.810", "1.2.811", "1.2.812"


def exported(city: RunningCity, folder: Path, institution: str = "mondino") -> tuple[int, dict[str, object]]:
    files = {"AWS_CONFIG_FILE": city.endpoints["aws_config_file"],
             "AWS_SHARED_CREDENTIALS_FILE": city.endpoints["aws_shared_credentials_file"], "PATH": "/usr/bin:/bin"}  # fmt: skip
    command = [sys.executable, "-m", "forwarder", "export", str(folder), "--profile", institution, "--api", city.api]
    ran = subprocess.run(command, cwd=ROOT, env=files, capture_output=True, text=True, timeout=120, check=False)
    assert (folder / "export.json").is_file(), ran.stderr
    return ran.returncode, json.loads((folder / "export.json").read_text())


@pytest.fixture(scope="module")
def contents(city: RunningCity) -> list[bytes]:
    """What Mondino sent."""
    sent = [image(study=OWN, series=str(1 + n // 2), sop=str(n), patient="EXPORT-1", institution="M") for n in range(3)]
    sent.append(image(study=SECOND, patient="EXPORT-2"))
    assert {status["state"] for status in send(city.client("mondino"), *sent)} == {"indexed"}
    visible(city.client("mondino"), OWN, 3)
    visible(city.client("mondino"), SECOND, 1)
    return sent


def test_all_that_a_hospital_owns_comes_as_it_was_sent_and_nothing_that_it_merely_sees(
    city: RunningCity, contents: list[bytes], tmp_path: Path
) -> None:
    owner, other = city.client("mondino"), city.client("san-matteo")
    send(other, image(study=OTHERS, patient="EXPORT-3"))
    opened = other.post("/transfers", json={"patient": {"id": "EXPORT-3"}, "to": "mondino", "reason": "follow-up"})
    assert opened.status_code == 201
    visible(owner, OTHERS, 1)
    made = owner.post(
        f"/studies/{OWN}/reports", data=b"Nulla di patologico.", headers={"Content-Type": "text/plain; charset=utf-8"}
    )
    assert made.status_code == 201, made.text
    visible(owner, OWN, 4)

    code, report = exported(city, tmp_path / "taken")
    assert (code, report["missing"]) == (0, [])
    files = [path for path in (tmp_path / "taken").rglob("I*") if path.is_file()]
    mine = {path.read_bytes() for path in files}
    assert set(contents) <= mine
    assert image(study=OTHERS, patient="EXPORT-3") not in mine
    assert report["instances"] == len(files)

    records = dcmread(tmp_path / "taken" / "DICOMDIR").DirectoryRecordSequence
    listed = [record for record in records if record.DirectoryRecordType in ("IMAGE", "SR DOCUMENT")]
    reports = [record for record in listed if record.DirectoryRecordType == "SR DOCUMENT"]
    assert any(
        b"Nulla di patologico." in (tmp_path / "taken").joinpath(*entry.ReferencedFileID).read_bytes() for entry in reports
    )
    assert {(tmp_path / "taken").joinpath(*record.ReferencedFileID) for record in listed} == set(files)
    assert {OWN, SECOND} <= {record.StudyInstanceUID for record in records if record.DirectoryRecordType == "STUDY"}
    events = [json.loads(line) for line in (tmp_path / "taken" / "audit.jsonl").read_text().splitlines()]
    assert {event["resourceType"] for event in events} == {"AuditEvent"}
    transfers = [json.loads(line) for line in (tmp_path / "taken" / "transfers.jsonl").read_text().splitlines()]
    assert opened.json()["id"] in {transfer["id"] for transfer in transfers}


@pytest.mark.usefixtures("contents")
def test_started_again_it_goes_on_and_what_was_cut_off_is_fetched_anew(city: RunningCity, tmp_path: Path) -> None:
    folder = tmp_path / "taken"
    exported(city, folder)
    files = sorted(path for path in folder.rglob("I*") if path.is_file())
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    files[0].rename(files[0].with_name(files[0].name + ".part"))
    cut = files[0].with_name(files[0].name + ".part")
    cut.write_bytes(before[files[0]][0][:100])
    code, _ = exported(city, folder)
    assert code == 0
    assert files[0].read_bytes() == before[files[0]][0]
    assert all(path.stat().st_mtime_ns == before[path][1] for path in files[1:])
    assert not list(folder.rglob("*.part"))


@pytest.mark.usefixtures("contents")
def test_dcmtk_reads_the_directory(city: RunningCity, tmp_path: Path) -> None:
    dcmdump = shutil.which("dcmdump")
    if dcmdump is None:
        pytest.skip("DCMTK is not installed (Debian: apt-get install dcmtk)")
    exported(city, tmp_path)
    ran = subprocess.run([dcmdump, tmp_path / "DICOMDIR"], capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 0
    assert ran.stdout.count("(0004,1430) CS [IMAGE]") >= 4
    assert "W:" not in ran.stderr
    assert "E:" not in ran.stderr
