"""Fresh machines for what is installed: a bare Debian, booted with its own systemd, or the base of a container."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.harness import wait_until

_PACKAGES = "systemd,systemd-sysv,python3-venv,ca-certificates"
_LEFT_OUT = ("doc", "man", "locale")


def missing(*tools: str) -> str:
    """Why there can be no such machine here; empty if there can."""
    if os.geteuid() != 0:
        return "only root may boot a machine in a folder"
    absent = [tool for tool in tools if shutil.which(tool) is None]
    return f"{', '.join(absent)} not installed" if absent else ""


def make_debian(folder: Path) -> str:
    """Debian 12 with systemd and Python in `folder`; empty, or why its packages could not be had."""
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _LEFT_OUT]
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--dpkgopt=force-unsafe-io", *excluded]
    return run([*command, f"--include={_PACKAGES}", "bookworm", str(folder)])


def remove(folder: Path) -> None:
    """Remove a machine's folder, and nothing that is mounted in it."""
    subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=True, timeout=120)


def run(command: Sequence[str], seconds: float = 400) -> str:
    """Run a command of this machine; empty, or the end of what it said when it failed."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=seconds, stdin=subprocess.DEVNULL, errors="replace"
    )
    return f"{command[0]}: {(done.stdout + done.stderr).strip()[-1500:]}" if done.returncode else ""


class Machine:
    """A booted machine. It shares this one's network, and nothing else."""

    def __init__(self, first: int, environment: dict[str, str]) -> None:
        self._enter = ["nsenter", "-t", str(first), "-m", "-u", "-i", "-p", "-C", "-r", "-w"]
        self._environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
        } | environment

    def try_(
        self, command: str, given: str = "", folder: str = "/root", seconds: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """What came of a command of root's shell in `folder`, with `given` on its standard input."""
        return subprocess.run(
            [str(shutil.which(self._enter[0])), *self._enter[1:], "/bin/bash", "-ec", f"cd {folder}; {command}"],
            input=given, env=self._environment, text=True, capture_output=True, check=False, timeout=seconds,
        )  # fmt: skip

    def __call__(self, command: str, given: str = "", folder: str = "/root") -> str:
        """The output of a command that has to succeed."""
        done = self.try_(command, given, folder)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def write(self, file: str, content: str) -> None:
        self(f"cat > {file}", content)

    def shown(self, unit: str, name: str) -> str:
        """A property of a unit, as systemd tells it."""
        return self(f"systemctl show --value -p {name} {unit}")


@contextmanager
def booted(root: Path, name: str, binds: dict[Path, str], environment: dict[str, str], log: Path) -> Iterator[Machine]:
    """Boot the Debian in `root` and halt it; what happens in it is forgotten. `binds` are folders that it may read.

    Raises AssertionError, with what it said, when it does not come up.
    """
    options = [f"--bind-ro={folder}:{place}" for folder, place in binds.items()]
    with log.open("w") as output:
        process = subprocess.Popen(
            ["systemd-nspawn", "--register=no", "--keep-unit", f"--machine={name}", "--volatile=overlay", "--console=pipe",
             f"--directory={root}", *options, "--boot"],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        first = wait_until(lambda: process.poll() is not None or _first_process(process.pid))
        assert process.poll() is None, log.read_text()
        machine = Machine(first, environment)
        wait_until(lambda: machine.try_("systemctl is-system-running").stdout.strip() in ("running", "degraded"))
        yield machine
        machine.try_("systemctl poweroff")
        process.wait(60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(60)


def _first_process(nspawn: int) -> int | None:
    """The machine's process 1, once it is systemd."""
    for child in psutil.Process(nspawn).children(recursive=True):
        try:
            status = Path(f"/proc/{child.pid}/status").read_text()
            if child.name() == "systemd" and status.split("NSpid:")[1].splitlines()[0].split()[-1] == "1":
                return int(child.pid)
        except (psutil.NoSuchProcess, FileNotFoundError):
            continue
    return None


class Podman:
    """Podman with a store of its own, in a namespace where there is one hierarchy of control groups, as crun wants it."""

    def __init__(self, store: Path, short: str, holder: int) -> None:
        places = [f"--root={store}", f"--runroot={short}/run", f"--tmpdir={short}/tmp"]
        settings = ["--cgroup-manager=cgroupfs", "--events-backend=file"]
        self._command = ["nsenter", "-t", str(holder), "-m", "podman", *places, *settings]

    def try_(self, *arguments: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._command, *arguments], text=True, capture_output=True, check=False, timeout=seconds, stdin=subprocess.DEVNULL
        )

    def __call__(self, *arguments: str) -> str:
        """The output of a command that has to succeed."""
        done = self.try_(*arguments)
        assert done.returncode == 0, f"podman {arguments[0]}: {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout.strip()


@contextmanager
def podman(store: Path) -> Iterator[Podman]:
    """Podman with its images and containers in `store`; at the end all containers are stopped."""
    prepare = "umount -R /sys/fs/cgroup 2>/dev/null; mount -t cgroup2 none /sys/fs/cgroup && echo ready && exec sleep 3600"
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", prepare], stdout=subprocess.PIPE, text=True
    )
    with holder, tempfile.TemporaryDirectory(prefix="pod", ignore_cleanup_errors=True) as short:  # podman wants a short path
        try:
            assert holder.stdout is not None and holder.stdout.readline() == "ready\n"
            made = Podman(store, short, holder.pid)
            yield made
            made.try_("rm", "--all", "--force", "--time", "5")
        finally:
            holder.kill()


def commands_of(manual: Path, heading: str) -> list[str]:
    """The commands that a section of a manual says, in order: its indented blocks, but those that are a file's content."""
    after = manual.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1]
    section = re.split(r"\n###? ", after)[0]
    blocks: list[list[str]] = [[]]
    for line in section.splitlines():
        if line.startswith(" " * 7):
            blocks[-1].append(line.strip())
        elif blocks[-1]:
            blocks.append([])
    return [line for block in blocks if block and not block[0].startswith("[") for line in block]
