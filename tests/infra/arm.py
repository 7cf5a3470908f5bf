"""Debian for arm64 in a folder, whose programs QEMU runs, and functions that are called in it as Lambda calls them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

EMULATOR = "/usr/bin/qemu-aarch64-static"
RELEASES = {"python3.11": "bookworm", "python3.13": "trixie"}
"""The release of Debian that has the interpreter of a Lambda runtime."""

_PACKAGES = "python3-minimal,libpython3-stdlib,libstdc++6,zlib1g"

_SERVE = """
import importlib, json, os, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
class Context:
    function_name = "function"
    memory_limit_in_mb = 1024
    invoked_function_arn = "arn:aws:lambda:eu-south-1:123456789012:function:function"
    aws_request_id = "11111111-2222-3333-4444-555555555555"
    def get_remaining_time_in_millis(self):
        return 600_000
for line in sys.stdin:
    job = json.loads(line)
    module, _, name = job["handler"].rpartition(".")
    found = getattr(importlib.import_module(module), name)
    answer = callable(found) if job["event"] is None else found(job["event"], Context())
    print(json.dumps(answer), file=answers, flush=True)
"""


def missing() -> str:
    """Why there can be no such world on this machine; empty if there can."""
    if os.geteuid() != 0:
        return "only root may change into another root folder"
    absent = [tool for tool in (EMULATOR, "mmdebstrap", "chroot") if shutil.which(tool) is None]
    return f"{', '.join(absent)} not installed" if absent else ""


def make_root(folder: Path, runtime: str) -> str:
    """Debian for this machine in `folder`, and in its folder `arm` Debian for arm64, both with the interpreter of `runtime`.

    Answers why Debian's packages could not be had, or nothing.
    """
    for root, options in ((folder, ()), (folder / "arm", ("--architectures=arm64",))):
        reason = debian(root, runtime, *options)
        if reason:
            return reason
    shutil.copy(EMULATOR, folder / "arm" / "usr" / "bin" / "emulator")
    return ""


def debian(root: Path, runtime: str, *options: str) -> str:
    """Debian with the interpreter of `runtime` in a folder; why its packages could not be had, or nothing."""
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=extract", f"--include={_PACKAGES}", *options]
    done = subprocess.run(
        [*command, RELEASES[runtime], str(root)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        return f"Debian's packages cannot be had: {done.stderr.strip()[-300:]}"
    for name in ("bin", "lib", "lib64"):  # what installing the base system would do
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    return ""


def compile_all(folder: Path, runtime: str, *others: str) -> None:
    """Compile the library of Python for arm64, or `others` of its folders, which would take the emulated processor minutes.

    This machine's own processor does it, and the same byte code comes of it.
    """
    parts = [f"/arm{other}" for other in others or (f"/usr/lib/{runtime}", "/usr/lib/python3")]
    command = ["chroot", str(folder), f"/usr/bin/{runtime}", "-m", "compileall", "-q", "-j", "2", "-s", "/arm", *parts]
    subprocess.run(command, capture_output=True, check=False, timeout=240)  # some files are templates, and do not compile


def unpack(package: Path, folder: Path, only: tuple[str, ...] = ("",)) -> None:
    """What of a zip begins with one of `only`, as Lambda lays it into a function's folder."""
    with zipfile.ZipFile(package) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith(only)])


class Function:
    """A process in which handlers live, as in an execution environment of Lambda."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process, self._log = process, log

    def __call__(self, handler: str, event: Mapping[str, Any] | None, seconds: float = 120.0) -> Any:
        """What the handler, such as "app.index_instances", returns; without an event, whether it is there at all.

        AssertionError, with what it logged, if it raises.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        watch = threading.Timer(seconds, self._process.kill)
        watch.start()
        try:
            self._process.stdin.write(json.dumps({"handler": handler, "event": event}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            watch.cancel()
        if not line:
            raise AssertionError(f"{handler} did not answer:\n{self._log.read_text(errors='replace')[-3000:]}")
        return json.loads(line)


@contextmanager
def function(command: list[str], folders: list[str], environment: Mapping[str, str], log: Path) -> Iterator[Function]:
    """Start `command`, a Python, with `folders` on its path, and end it."""
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*command, "-c", _SERVE], env={**environment, "PYTHONPATH": ":".join(folders)}, cwd="/", text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
        )  # fmt: skip
    with process:
        try:
            yield Function(process, log)
        finally:
            process.kill()


def emulated(root: Path, runtime: str) -> list[str]:
    """The command that runs the interpreter for arm64 in what `make_root` made, as nobody."""
    return [str(shutil.which("chroot")), "--userspec=65534:65534", str(root / "arm"), "/usr/bin/emulator", f"/usr/bin/{runtime}"]


def native() -> list[str]:
    """The command that runs this interpreter."""
    return [sys.executable]
