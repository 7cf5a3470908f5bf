"""docs/openapi.yaml against a city, by schemathesis: `python -m tests.fuzz.openapi [--seconds N] [--examples N] [--seed N]`.

schemathesis makes requests of its own from the description, one after the other by its links too, and holds every answer against
it: no 5xx, no status, media type, header or body that is not described. The requests are signed; most of what they name is there
(`tests/fuzz/openapi_hooks.py`). Exit 1 when something is found.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.browser import hospital
from tests.browser.hospital import Patient
from tests.harness import RunningCity, running_city

ROOT = Path(__file__).parents[2]
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance",
)  # fmt: skip
PATIENTS = 8
_COUNTED = re.compile(r"^ *(?:Operations: .*|Tested: .*|Scenarios: .*|API Links: .*|\d+ generated, .*)$", re.MULTILINE)
"""Of what schemathesis says, how much it tried."""


def known(city: RunningCity, seed: int) -> dict[str, object]:
    """What is there: patients with an exam each, of the first a transfer, and two readings that are open."""
    client = city.client("san-matteo")
    patients = [Patient() for _ in range(PATIENTS)]
    images = [hospital.image(patient, "san-matteo") for patient in patients]
    hospital.send(client, *images)
    transfer = hospital.transfer(city, patients[0])
    links = [hospital.link(city, "san-matteo", patient={"id": patients[0].at["san-matteo"]}) for _ in range(2)]
    readings = [city.client(None).post("/view/session", json={"token": link["url"].split("#")[1]}).json() for link in links]
    signers = {name: city.credentials(name) for name in ("san-matteo", "maugeri", "operator")}
    exams = [
        {
            "patient": str(image.PatientID), "study": str(image.StudyInstanceUID), "sop": str(image.SOPInstanceUID),
            "sha256": str(hospital._offer(image)["sha256"]), "reader": readings[0]["pass"],
        }
        for image in images
    ]  # fmt: skip
    return {
        "seed": seed, "api": city.api, "region": city.endpoints["region"], "exams": exams, "transfer": transfer,
        "link": links[1]["id"], "reading": readings[0]["key"], "ending": readings[1]["key"],
        "credentials": {name: [signer.access_key, signer.secret_key, signer.token] for name, signer in signers.items()},
    }  # fmt: skip


def tried(city: RunningCity, seconds: int | None, examples: int, seed: int, phases: str) -> subprocess.CompletedProcess[str]:
    """schemathesis against the city, so long; without seconds, once through all operations."""
    file = city.state / "known.json"
    file.write_text(json.dumps(known(city, seed)), encoding="utf-8")
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", str(ROOT / "docs" / "openapi.yaml"), "--url", city.api, "--checks",
        ",".join(CHECKS), "--workers", "1", "--max-examples", str(examples), "--continue-on-failure", "--phases", phases,
        "--request-timeout", "30", "--seed", str(seed), "--generation-database", "none", "--no-color",
        *([] if seconds is None else ["--max-time", str(seconds)]),
    ]  # fmt: skip
    found = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "SCHEMATHESIS_HOOKS": "tests.fuzz.openapi_hooks", "KNOWN": str(file), "PYTHONPATH": os.pathsep.join(found)
    }  # fmt: skip
    return subprocess.run(
        command, cwd=city.state, env=environment, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.openapi", description="docs/openapi.yaml against a city.")
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--examples", type=int, default=20, help="of each operation")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    print(f"seed {chosen.seed}")
    status = 0
    for phases, share in (("stateful", 3), ("coverage,fuzzing", 1)):  # of itself it comes to what follows from answers last
        with tempfile.TemporaryDirectory() as folder, running_city(Path(folder)) as city:
            seconds = chosen.seconds * share // 4
            ended = tried(city, seconds, chosen.examples * share, chosen.seed, phases)
        told = ended.stdout if ended.returncode else "\n".join(_COUNTED.findall(ended.stdout))
        print(f"{phases}, {seconds} s at the most:\n{told}")
        status = status or ended.returncode
    return status


if __name__ == "__main__":
    sys.exit(main())
