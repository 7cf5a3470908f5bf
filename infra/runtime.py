"""The Lambda runtime that everything is packaged for: its wheels, and its interpreter for byte code, where there is one.

What packages need not be the version of Python that it packages for: wheels are asked for by version and platform.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from infra import elf

DEFAULT = "python3.13"
"""The newest for which there is a wheel of everything and an interpreter (Debian's) to try the packages with."""
CHOICES = ("python3.12", "python3.13", "python3.14")
"""Those on Amazon Linux 2023: there are no wheels of the decoders for the C library of earlier ones."""

COMMAND = "CONTENITORE_RUNTIME_PYTHON"
"""Environment variable: how the runtime's interpreter is called where it is not on the path, such as in a container."""

_PLATFORMS = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_27", "manylinux_2_26", "manylinux2014", "manylinux_2_17")


class WrongInterpreter(Exception):
    """What was said to be the runtime's interpreter is none."""


class WheelsMissing(Exception):
    """A wheel for the runtime is not to be had; the text is what pip says."""


def version(runtime: str) -> str:
    """ "3.13" of "python3.13"."""
    return runtime.removeprefix("python")


def cache_tag(runtime: str) -> str:
    """What names the runtime's byte code: "cpython-313"."""
    return "cpython-" + version(runtime).replace(".", "")


def interpreter(runtime: str) -> list[str] | None:
    """The command of an interpreter of the runtime's version, or None where this machine has none.

    Raises WrongInterpreter when COMMAND names one of another version, or none.
    """
    if command := os.environ.get(COMMAND):
        if not _is(shlex.split(command), runtime):
            raise WrongInterpreter(f"{COMMAND} is no {runtime}: {command}")
        return shlex.split(command)
    for found in (sys.executable, shutil.which(runtime)):
        if found and _is([found], runtime):
            return [found]
    return None


def _is(command: list[str], runtime: str) -> bool:
    """Whether a command is an interpreter of that version: a name on the path may lead to nothing."""
    try:
        told = subprocess.run(
            [*command, "-c", "import sys; print('python%d.%d' % sys.version_info[:2])"],
            capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except OSError:
        return False
    return told.returncode == 0 and told.stdout.strip() == runtime


def install(requirements: Path, runtime: str, folder: Path) -> None:
    """Put the wheels that a lock names, for the runtime on arm64, into a folder. Raises WheelsMissing."""
    if not re.search(r"^\s*[^#\s]", requirements.read_text(encoding="utf-8"), re.MULTILINE):
        return
    glibc = elf.RUNTIMES[runtime].newest["GLIBC"]
    platforms = [name for name in _PLATFORMS if name == "manylinux2014" or _glibc(name) <= glibc]
    done = subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile",
            *[part for name in platforms for part in ("--platform", f"{name}_aarch64")],
            "--implementation", "cp", "--python-version", version(runtime), "--only-binary=:all:",
            "--target", str(folder), "-r", str(requirements),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise WheelsMissing(done.stdout + done.stderr)


def _glibc(platform: str) -> elf.Version:
    return tuple(int(part) for part in platform.removeprefix("manylinux_").split("_"))
