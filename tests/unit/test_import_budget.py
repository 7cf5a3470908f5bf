"""A cold start pays for every import: what only some requests need is not imported before they come."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = {"pydicom", "numpy", "PIL", "imagecodecs", "codicefiscale", "moto", "pynetdicom", "pydyf", "requests"}
ALONE = "import chalice, boto3, aws_lambda_powertools"
TIMED = "import time; started = time.process_time(); {}; print(time.process_time() - started)"
BUDGET = 1.3
RUNS = 7


def python(code: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment["AWS_DEFAULT_REGION"] = "eu-south-1"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


def test_what_is_banned_is_there_to_be_imported() -> None:
    assert [name for name in sorted(HEAVY) if find_spec(name) is None] == []


def test_what_is_heavy_is_imported_only_where_it_is_needed() -> None:
    every = "from importlib import import_module; [import_module('chalicelib.api.' + name) for name in routes.ROUTES]"
    for code in ("import app", f"import app; from chalicelib.api import events, routes; {every}"):
        assert python(f"{code}; import sys; print(sorted({{name.split('.')[0] for name in sys.modules}} & {HEAVY}))") == "[]"


def test_importing_the_app_costs_little_more_than_what_it_cannot_do_without() -> None:
    """Processor time, and the least of several runs of each taken in turns, since the machine may be busy."""
    alone, whole = float("inf"), float("inf")
    for _ in range(RUNS):
        alone = min(alone, float(python(TIMED.format(ALONE))))
        whole = min(whole, float(python(TIMED.format("import app"))))
    assert whole <= BUDGET * alone, f"import app takes {whole:.3f} s, its libraries alone {alone:.3f} s"
