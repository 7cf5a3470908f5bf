"""Build the forwarder's wheel: `python -m forwarder.build OUT`. Needs pip and setuptools, and no network."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from forwarder import __version__
from forwarder.errors import ForwarderError

# What an installation needs. pynetdicom is pinned, since `forwarder.dicom.storage` reaches into it.
REQUIRES = [
    "authlib>=1.7,<2",
    "botocore>=1.40",
    "cryptography>=44",
    "httpx2>=2.10,<3",
    "jinja2>=3.1,<4",
    "joserfc>=1,<2",
    "numpy>=1.26",
    "prometheus-client>=0.20",
    "pydicom>=3.0.2,<4",
    "pydyf>=0.12",
    "pyjpegls>=1.5.1",
    "pynetdicom==3.0.4",
    "pypdfium2>=5",
    "python-codicefiscale>=0.12,<1",
    "rich>=13",
    "starlette>=1,<2",
    "urllib3>=2.2,<3",
    "uvicorn>=0.50,<1",
]
_EPOCH = "315532800"
"""Seconds: 1 January 1980, the first moment that a zip knows. The same sources give the same wheel, byte for byte."""
PYPROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "contenitore-forwarder"
version = "{version}"
description = "From a hospital's PACS to the city's archive, and nothing lost on the way"
requires-python = ">=3.11"
license = "Apache-2.0"
dependencies = {requires}

[project.scripts]
contenitore-forwarder = "forwarder.__main__:main"

[tool.setuptools]
packages = {packages}

[tool.setuptools.package-data]
forwarder = ["web/**/*", "deploy/*"]

[tool.setuptools.data-files]
"share/contenitore" = ["forwarder.md"]
"""


def build(out: Path) -> Path:
    """Build the wheel into `out`, with the manual, the Dockerfile and the systemd unit beside it; returns its path.

    Raises ForwarderError when pip fails, or where this is no copy of the sources.
    """
    package = Path(__file__).parent
    manual = package.parent / "docs" / "forwarder.md"
    if not manual.exists():
        raise ForwarderError("The wheel is built from the sources, with docs/forwarder.md beside the package.")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch)
        ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(package, project / "forwarder", ignore=ignore)
        shutil.copy(manual, project)
        for path in project.rglob("*"):  # who checked the sources out, and when, is nothing of the wheel's
            path.chmod(0o755 if path.is_dir() else 0o644)
        packages = sorted(".".join(init.parent.relative_to(project).parts) for init in project.glob("forwarder/**/__init__.py"))
        described = PYPROJECT.format(version=__version__, requires=json.dumps(REQUIRES), packages=json.dumps(packages))
        (project / "pyproject.toml").write_text(described)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": _EPOCH, "PYTHONHASHSEED": "0"}
        done = subprocess.run([*command, "--wheel-dir", str(out), str(project)], env=environment, umask=0o022, check=False)
    if done.returncode:
        raise ForwarderError("The wheel could not be built; pip said why above.")
    for path in (manual, *(package / "deploy").iterdir()):
        shutil.copy(path, out / path.name)
    return out / f"contenitore_forwarder-{__version__}-py3-none-any.whl"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m forwarder.build", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to build into")
    try:
        print(build(parser.parse_args(arguments).out))
    except ForwarderError as error:
        print(f"forwarder: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
