"""An ordinary client, written from the contract only, does the whole job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.harness import RunningCity

CLIENT = Path(__file__).parent / "ordinary_client.py"


def test_an_ordinary_client_does_the_whole_job(city: RunningCity, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_") and name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(CLIENT), str(city.state)],
        check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "health": "ok",
        "unsigned": 403,
        "puts": [200] * 5,
        "sent": ["indexed"] * 5,
        "sent again": [[], ["indexed"] * 5],
        "before": [404, 404],
        "opened": [201, "active"],
        "opened again": True,
        "incoming": True,
        "named": 200,
        "found": [True],
        "shown number": True,
        "counted": 5,
        "identical": True,
        "follow-up": ["indexed"],
        "timeline": ["maugeri", "san-matteo"],
        "follow-up identical": True,
        "stranger": [404, 404],
        "strangers search": [],
        "ended": "revoked",
        "ended again": "revoked",
        "after": [404, 404, 200],
    }


def test_the_ordinary_client_knows_nothing_of_the_archives_code() -> None:
    imported = [
        line.split()[1].split(".")[0] for line in CLIENT.read_text().splitlines() if line.startswith(("import ", "from "))
    ]
    assert not {"chalicelib", "forwarder", "local", "infra", "tests", "app"} & set(imported)
