"""The zip of the archive's functions at a cold start: compiled, and without what nothing in it can call."""

from __future__ import annotations

import os
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from infra import bundle, runtime
from infra import package as packaging
from tests.infra.conftest import Interpreter


@pytest.fixture(scope="module")
def names(packaged: packaging.Package) -> set[str]:
    with zipfile.ZipFile(packaged.zip_file) as archive:
        return set(archive.namelist())


@pytest.fixture
def python(interpreter: Interpreter | None) -> Interpreter:
    if interpreter is None:
        pytest.skip(f"there is no {runtime.DEFAULT} on this machine, and no Debian that has it")
    return interpreter


def test_every_module_that_a_cold_start_loads_is_loaded_from_byte_code(
    packaged: packaging.Package, python: Interpreter, tmp_path: Path
) -> None:
    folder = (tmp_path if python.root == Path("/") else python.root) / "unpacked"
    with zipfile.ZipFile(packaged.zip_file) as archive:
        archive.extractall(folder)
    seen = f"/{folder.relative_to(python.root)}"
    load = f"import sys; sys.path.insert(0, {seen!r}); import app, pydicom; from chalicelib.api import events"
    done = subprocess.run(
        [*python.command, "-I", "-B", "-v", "-c", load], capture_output=True, text=True, check=True, timeout=120,
        env={"AWS_DEFAULT_REGION": "eu-south-1", "PATH": os.environ["PATH"]},
    )  # fmt: skip
    loaded = re.findall(rf"^# code object from '?{re.escape(seen)}/([^'\n]+)", done.stderr, re.MULTILINE)
    assert len(re.findall(rf"{re.escape(seen)}/\S+ matches ", done.stderr)) > 200
    assert [name for name in loaded if not name.endswith(".pyc")] == []


def test_byte_code_is_trusted_without_a_look_at_the_source(packaged: packaging.Package, python: Interpreter) -> None:
    with zipfile.ZipFile(packaged.zip_file) as archive:
        for name in archive.namelist():
            if name.endswith(".pyc"):
                assert int.from_bytes(archive.read(name)[4:8], "little") == 1, name  # PEP 552: hash-based, unchecked


def test_a_module_of_ours_without_byte_code_is_a_fault(names: set[str], python: Interpreter) -> None:
    assert list(packaging.uncompiled(names)) == []
    gone = ("__pycache__/app.", "chalicelib/services/ingest/__pycache__/uploads.")
    without = {name for name in names if not name.startswith(gone)}
    expected = ["no byte code of app.py", "no byte code of chalicelib/services/ingest/uploads.py"]
    assert list(packaging.uncompiled(without)) == expected


def test_every_service_that_has_a_client_is_described_and_hardly_any_other(names: set[str]) -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in (packaging.ROOT / "chalicelib").rglob("*.py"))
    used = set(re.findall(r"boto3\.(?:client|resource)\(\s*\"([a-z0-9-]+)\"", code))
    assert used == set(bundle.SERVICES) - {"sts"}
    described = {name.split("/")[2] for name in names if re.match(r"botocore/data/[^/]+/.", name)}
    assert described == set(bundle.SERVICES)
    for file in ("endpoints.json", "partitions.json", "sdk-default-configuration.json", "_retry.json"):
        assert f"botocore/data/{file}" in names


def test_a_service_that_nothing_calls_is_left_out_and_nothing_else() -> None:
    assert not bundle.is_called("botocore/data/ec2/2016-11-15/service-2.json.gz")
    assert not bundle.is_called("botocore/data/s3/2006-03-01/examples-1.json")
    assert bundle.is_called("botocore/data/s3/2006-03-01/service-2.json.gz")
    assert bundle.is_called("botocore/data/endpoints.json")
    assert bundle.is_called("chalicelib/config.py")
