"""The demo's data, for whoever starts a city with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from local.processes import free_port
from tests.harness import ROOT, RunningCity, wait_until


def test_who_sees_endpoints_json_finds_the_whole_demo(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "local", "up", "--state", str(tmp_path), "--ports", str(free_port(3)), "--no-forwarders"]
    with (tmp_path / "told").open("w") as told:
        process = subprocess.Popen(command, cwd=ROOT, stdout=told, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        wait_until(lambda: process.poll() is not None or (tmp_path / "endpoints.json").exists(), 90)
        city = RunningCity(tmp_path, process)
        timeline = city.client("maugeri").get("/patients/MG-77120/timeline").json()
        assert [study["owner"] for study in timeline["studies"]] == ["maugeri", "san-matteo", "san-matteo", "san-matteo"]
        reported = [study for study in timeline["studies"] if study["reports"]]
        assert len(reported) == 2
        written = [report["date"] for study in reported for report in study["reports"]]
        assert written == [study["study_date"] for study in reported]
        assert f"{city.endpoints['viewer']}/#" in (tmp_path / "told").read_text()
        assert city.stop() == 0
    finally:
        process.kill()
        process.wait()
