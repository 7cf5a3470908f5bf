"""One command makes the forwarder's image for both kinds of machine, and both run; arm64's processor is QEMU's here.

Programs for arm64 are known in a user namespace of its own only, so that nothing of this machine is changed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from forwarder import __version__, image
from forwarder.build import build
from tests.harness import ROOT, wait_until
from tests.infra import arm, machines

ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}
_PACKAGES = (
    "base-files,base-passwd,dash,bash,coreutils,passwd,login,grep,sed,ca-certificates,python3-venv,python3-minimal,"
    "libpython3-stdlib,libstdc++6,zlib1g"
)
_BASE = "FROM scratch\nARG TARGETARCH\nADD ${TARGETARCH}.tar /\nRUN python3 -m venv /usr/local\n"
_ELF_OF_ARM64 = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
_ENTER = f"""
set -e
read -r _
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
printf '%s' ':arm64:M::{_ELF_OF_ARM64}:{_MASK}:{arm.EMULATOR}:OCF' > /proc/sys/fs/binfmt_misc/register
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 none /sys/fs/cgroup
exec "$@"
"""
_COMPRESSES = (
    "import platform, numpy, pydicom; from forwarder.compression import jpegls, pool; import forwarder.dicom.scp; "
    "print(platform.machine())"
)


def absent() -> str:
    """Why no image for both can be made here; empty if one can."""
    return arm.missing() or machines.missing("podman", "crun", "unshare", "mmdebstrap")


pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(absent()), reason=absent())]


class Engine:
    """Podman with a store of its own, in a namespace that knows programs for arm64."""

    def __init__(self, folder: Path, short: Path) -> None:
        storage, engine = folder / "storage.conf", folder / "containers.conf"
        storage.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{folder / "store"}"\nrunroot = "{short / "run"}"\n')
        engine.write_text(f'[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\ntmp_dir = "{short / "tmp"}"\n')
        self._environment = {**os.environ, "CONTAINERS_STORAGE_CONF": str(storage), "CONTAINERS_CONF": str(engine)}

    def __call__(self, *command: str) -> str:
        """What a command prints that has to succeed."""
        process = subprocess.Popen(
            ["unshare", "--user", "--mount", "--cgroup", "--propagation", "private", "bash", "-c", _ENTER, "bash", *command],
            cwd=ROOT, env=self._environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        wait_until(lambda: Path(f"/proc/{process.pid}/ns/user").readlink() != Path("/proc/self/ns/user").readlink())
        for kind in ("uid_map", "gid_map"):
            Path(f"/proc/{process.pid}/{kind}").write_text("0 0 65536\n")
        said, _ = process.communicate("go\n", timeout=900)
        assert process.returncode == 0, f"{command}: {process.returncode}\n{said[-3000:]}"
        return said


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("image")
    yield made
    machines.remove(made)


@pytest.fixture(scope="module")
def packages(folder: Path) -> Path:
    """What would come from registries: a Debian with Python for each kind of machine, and the wheels for both."""
    build(folder / "dist")
    (folder / "base").mkdir()
    (folder / "base" / "Dockerfile").write_text(_BASE)
    for architecture, platform in ARCHITECTURES.items():
        root = folder / architecture
        made = ["mmdebstrap", "--quiet", "--mode=root", "--variant=extract", f"--architectures={architecture}"]
        if reason := machines.run([*made, f"--include={_PACKAGES}", "bookworm", str(root)]):
            pytest.skip(reason)
        for name in ("passwd", "group"):  # what installing the base system would do
            (root / "etc" / name).write_bytes((root / "usr" / "share" / "base-passwd" / f"{name}.master").read_bytes())
        subprocess.run(["tar", "-C", root, "-cf", folder / "base" / f"{architecture}.tar", "."], check=True, timeout=120)
        kinds = [f"--platform=manylinux_2_{minor}_{platform}" for minor in (36, 34, 31, 28, 27, 26, 24, 17)]
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--python-version=3.11", *kinds]
        lock = str(folder / "dist" / "requirements.txt")
        if reason := machines.run([*download, f"--platform=manylinux2014_{platform}", f"--dest={folder / 'wheels'}", "-r", lock]):
            pytest.skip(f"the package index cannot be reached: {reason[-200:]}")
    (folder / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    return folder


def test_one_command_makes_it_for_both_and_both_run(packages: Path) -> None:
    options = ["--isolation=chroot", "--pull=never", "--network=host", "--format=docker"]
    mounts = ["-v", f"{packages / 'wheels'}:/wheels:ro", "-v", f"{packages / 'pip.conf'}:/etc/pip.conf:ro"]
    platforms = ",".join(image.PLATFORMS)
    with tempfile.TemporaryDirectory(prefix="pod", ignore_cleanup_errors=True) as short:  # podman wants a short path
        engine = Engine(packages, Path(short))
        engine("podman", "build", *options, f"--platform={platforms}", "--manifest", "localhost/python", str(packages / "base"))
        command = [sys.executable, "-m", "forwarder.image", str(packages / "dist"), "--base", "localhost/python"]
        said = engine(*command, "--", *options, *mounts)
        assert said.splitlines()[-1] == f"{image.NAME}:{__version__}  (linux/amd64, linux/arm64)"
        listed = engine("podman", "manifest", "inspect", f"{image.NAME}:{__version__}")
        assert sorted(re.findall(r'"architecture": "(\w+)"', listed)) == sorted(ARCHITECTURES)
        here = ["--rm", "--cgroups=disabled", "--network=host", "--ulimit=nofile=8192:8192", "--ulimit=nproc=4096:4096"]
        ran: dict[str, str] = {}
        for made in re.findall(r"^([0-9a-f]{64})$", said, re.MULTILINE):
            architecture = engine("podman", "image", "inspect", "--format", "{{.Architecture}}", made).strip()
            machine = engine("podman", "run", *here, "--entrypoint", "python3", made, "-c", _COMPRESSES).splitlines()[-1]
            ran[architecture] = machine
            assert engine("podman", "run", *here, made, "--version").splitlines()[-1] == __version__
        assert ran == ARCHITECTURES
