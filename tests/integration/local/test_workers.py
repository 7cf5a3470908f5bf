"""The function that decodes pixels runs apart: what ends it ends nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.iam.identities import RoleSession
from local.lambda_runtime.workers import Crashed, Workers
from tests.harness import ROOT

HOSTILE = """
import json, os, sys, time
print("ready", flush=True)
for line in sys.stdin:
    job = json.loads(line)
    if job["do"] == "die": os._exit(9)
    if job["do"] == "hang": time.sleep(60)
    secrets = sorted(name for name in os.environ if name.startswith(("TABLE", "OPERATOR", "AWS_LAMBDA")))
    print(json.dumps({"pid": os.getpid(), "secrets": secrets}), flush=True)
"""


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    (tmp_path / "pixels").mkdir()
    (tmp_path / "pixels" / "__init__.py").touch()
    (tmp_path / "pixels" / "worker.py").write_text(HOSTILE)
    monkeypatch.setenv("TABLE_NAME", "secret")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "contenitore")  # as the city has it
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    identity = RoleSession("AKIA", "secret", "token", "arn:aws:iam::123456789012:role/pixels", "pixels", "AROA:pixels", 4e9)
    made = Workers(tmp_path, identity, {}, timeout=1.5, most=1)
    yield made
    made.stop()


@pytest.mark.parametrize("do", ["die", "hang"])
def test_one_that_dies_or_hangs_is_replaced(workers: Workers, do: str) -> None:
    first = workers.invoke({"do": "work"})["pid"]
    with pytest.raises(Crashed):
        workers.invoke({"do": do})
    assert workers.invoke({"do": "work"})["pid"] not in (first, os.getpid())


def test_one_lives_on_for_the_next_job_and_knows_nothing_of_the_table(workers: Workers) -> None:
    """Nor that it is in Lambda, where what others left is removed: here two are at work in one folder."""
    first = workers.invoke({"do": "work"})
    assert workers.invoke({"do": "work"}) == first
    assert first["secrets"] == []


def test_the_real_one_is_bounded_by_the_kernel() -> None:
    import subprocess

    code = "import sys, resource, pixels.worker as w; sys.stdin = []; w.main(); print(resource.getrlimit(resource.RLIMIT_AS)[0])"
    environment = {**os.environ, "BUCKET_NAME": "b", "AWS_DEFAULT_REGION": "eu-south-1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert int(done.stdout.split()[-1]) == 4 * 1024**3
