"""docs/openapi.yaml against a running city, by schemathesis: `FUZZ_PYTHON -m tests.fuzz.openapi [--seconds N]`.

schemathesis makes requests of its own from the description, also one after the other by its links, and holds every answer against
it. It wants other versions of libraries than ours, so it lives in an environment of its own, which `make fuzz` makes
(`requirements/fuzz-openapi.txt`); the city is started by ours.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.harness import running_city

ROOT = Path(__file__).parents[2]
TOOL = ROOT / ".venv" / "fuzz" / "bin" / "schemathesis"
CHECKS = "not_a_server_error,status_code_conformance,response_schema_conformance"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.openapi", description="docs/openapi.yaml against a city.")
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--examples", type=int, default=20, help="of each operation")
    chosen = parser.parse_args(arguments)
    if not TOOL.exists():
        print("schemathesis is not installed: make fuzz installs it")
        return 0
    with tempfile.TemporaryDirectory() as folder, running_city(Path(folder)) as city:
        command = [
            str(TOOL), "run", str(ROOT / "docs" / "openapi.yaml"), "--url", city.api, "--checks", CHECKS, "--workers", "2",
            "--max-examples", str(chosen.examples), "--max-time", str(chosen.seconds), "--continue-on-failure",
            "--phases", "examples,coverage,fuzzing,stateful", "--request-timeout", "30",
        ]  # fmt: skip
        environment = os.environ | {
            "SCHEMATHESIS_HOOKS": "tests.fuzz.signing", "ENDPOINTS": str(city.state / "endpoints.json"), "PYTHONPATH": str(ROOT)
        }  # fmt: skip
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
