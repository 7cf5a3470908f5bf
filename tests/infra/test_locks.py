"""What is deployed or installed is locked with hashes, known by a bill of materials, and the same whoever builds it."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from chalicelib.config import VERSION
from forwarder import __version__, image
from forwarder.build import REQUIRES
from infra import bill, reproducible
from infra.locks import DEVELOPERS, FORWARDER, commands
from infra.package import ROOT

LOCKS = [
    ROOT / "requirements.txt",
    ROOT / "requirements" / "pixels.txt",
    ROOT / "requirements" / "tools.txt",
    DEVELOPERS,
    FORWARDER,
]
SOURCES = [ROOT / "requirements" / f"{name}.in" for name in ("lambda", "pixels", "tools", "dev")]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(ROOT)))
def test_each_package_of_a_lock_has_one_version_and_its_hashes_and_no_address(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    packages = bill.locked(text)
    assert len(packages) >= 4
    assert [package.name for package in packages if not package.hashes] == []
    assert not re.search(r"https?:|--index|--extra|--find-links|\bfile:", text)


def test_what_is_asked_for_is_locked() -> None:
    wanted = {source: _asked(source.read_text(encoding="utf-8").splitlines()) for source in SOURCES}
    wanted[FORWARDER] = _asked(REQUIRES)
    for (_, lock), source in zip(
        ((command, Path(command[-1])) for command, _ in commands()),
        (SOURCES[3], FORWARDER, SOURCES[0], SOURCES[1], SOURCES[2]), strict=True,
    ):  # fmt: skip
        found = {package.name: package.version for package in bill.locked(lock.read_text(encoding="utf-8"))}
        for requirement in wanted[source]:
            assert requirement.specifier.contains(found[canonicalize_name(requirement.name)]), (lock.name, str(requirement))


def _asked(lines: list[str]) -> list[Requirement]:
    stated = [line.partition("#")[0].strip() for line in lines]
    return [Requirement(line) for line in stated if line and not line.startswith("-")]


def test_what_is_tested_is_what_is_deployed_and_installed() -> None:
    """The developers' versions are those of the functions and of the hospitals."""
    tested = {(package.name, package.version) for package in bill.locked(DEVELOPERS.read_text(encoding="utf-8"))}
    for lock in (ROOT / "requirements.txt", ROOT / "requirements" / "pixels.txt", FORWARDER):
        for package in bill.locked(lock.read_text(encoding="utf-8")):
            assert (package.name, package.version) in tested, lock.name


@pytest.mark.parametrize("part", sorted(bill.LOCKS))
def test_a_bill_names_all_that_goes_in_with_its_licence_and_is_the_same_twice(part: str, tmp_path: Path) -> None:
    artefact = tmp_path / "artefact"
    artefact.write_bytes(b"what was made")
    packages = bill.packages_of(part)
    made = bill.bill(part, packages, artefact)
    assert (made["bomFormat"], made["specVersion"], made["version"]) == ("CycloneDX", "1.6", 1)
    whole = made["metadata"]["component"]
    assert (whole["name"], whole["version"]) == (part, VERSION)
    assert whole["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(b"what was made").hexdigest()}]
    refs = [component["bom-ref"] for component in made["components"]]
    assert len(refs) == len(set(refs)) and refs == made["dependencies"][0]["dependsOn"]
    assert all(component["purl"] == f"pkg:pypi/{component['name']}@{component['version']}" for component in made["components"])
    here = [package for package in packages if package.name not in _NOT_ON_THIS_MACHINE]
    assert [package.name for package in here if not package.licence] == []
    first, second = tmp_path / "one", tmp_path / "other"
    for folder in (first, second):
        folder.mkdir()
        bill.write(folder, {part: artefact})
    assert {path.name: path.read_bytes() for path in first.iterdir()} == {
        path.name: path.read_bytes() for path in second.iterdir()
    }
    assert all(package.name in (first / bill.LICENCES).read_text() for package in packages)
    assert str(tmp_path) not in json.dumps(made)


_NOT_ON_THIS_MACHINE = {"colorama", "pywin32", "tzdata"} if sys.platform == "linux" else set()
"""Of other systems, so that nothing here says their licence."""


def test_the_forwarders_wheel_is_the_same_whoever_builds_it() -> None:
    assert reproducible.differing(forwarder_only=True) == ([], 1)


@pytest.mark.slow
def test_all_that_is_packaged_is_the_same_whoever_builds_it() -> None:
    names, count = reproducible.differing()
    assert names == []
    assert count >= 7  # both zips, the template, the wheel, three bills, the licences


def test_one_command_builds_the_image_for_both_kinds_of_machine() -> None:
    asked: Any = ("contenitore-forwarder:1", "")
    for engine, wanted in (
        ("podman", ["podman", "build", "--platform=linux/amd64,linux/arm64", "--manifest", "contenitore-forwarder:1", "out"]),
        (
            "docker",
            ["docker", "buildx", "build", "--platform=linux/amd64,linux/arm64", "--tag", "contenitore-forwarder:1", "out"],
        ),
    ):
        assert image.command(engine, Path("out"), image.PLATFORMS, *asked) == wanted
    based = image.command("podman", Path("out"), ["linux/arm64"], "x", "localhost/python", ["--network=none"])
    assert based[-4:] == ["--build-arg", "BASE=localhost/python", "--network=none", "out"]
    dockerfile = (ROOT / "forwarder" / "deploy" / "Dockerfile").read_text()
    assert "--require-hashes -r /tmp/requirements.txt" in dockerfile
    assert "--no-deps /tmp/contenitore_forwarder" in dockerfile


COMMANDS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for package in ("forwarder", "infra", "local")
    for path in (ROOT / package).glob("*.py")
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
)
"""What is called by name; those of deeper folders are processes of these."""


def test_every_command_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib import import_module

    assert {"forwarder", "infra.operate", "infra.page", "local"} <= {*COMMANDS}
    for name in COMMANDS:
        module = import_module(name if "." in name else f"{name}.__main__")
        with pytest.raises(SystemExit) as ended:
            _called(module, ["--version"])
        said = capsys.readouterr().out.strip()
        assert (ended.value.code, said.split()[-1]) == (0, VERSION), name
    assert __version__ == VERSION


def _called(module: Any, arguments: list[str]) -> None:
    module.main(arguments)


def test_a_package_whose_bytes_are_others_is_not_installed(tmp_path: Path) -> None:
    """What the lock is for: pip takes no file but those whose hashes it names."""
    wheel = tmp_path / "six-1.17.0-py2.py3-none-any.whl"
    wheel.write_bytes(b"not what was locked")
    (package,) = [pinned for pinned in bill.locked(FORWARDER.read_text(encoding="utf-8")) if pinned.name == "six"]
    hashes = " ".join(f"--hash=sha256:{sha}" for sha in package.hashes)
    (tmp_path / "lock.txt").write_text(f"six=={package.version} {hashes}\n")
    command = [sys.executable, "-m", "pip", "install", "--isolated", "--no-index", f"--find-links={tmp_path}", "--no-deps",
               "--require-hashes", "--dry-run", "--ignore-installed", "-r", str(tmp_path / "lock.txt")]  # fmt: skip
    wheel.rename(tmp_path / f"six-{package.version}-py2.py3-none-any.whl")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr.upper()
