"""``python -m infra.bill``: what the packages are made of, as CycloneDX 1.6, and under which licences.

Made from the locks, which name every package with its hashes, and from what the packages of this machine's environment, which are
locked to the same versions, say of their licence. Nothing in it depends on when or where it was made.
"""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from chalicelib.config import VERSION
from infra import runtime

ROOT = Path(__file__).parent.parent
LOCKS = {
    "deployment": ROOT / "requirements.txt",
    "pixels": ROOT / "requirements" / "pixels.txt",
    "contenitore-forwarder": ROOT / "forwarder" / "deploy" / "requirements.txt",
}
"""The lock of each thing that is deployed or installed."""
ADDED = {"deployment": ("chalice",)}
"""What a packager adds that no lock names: Chalice's runtime, in the version of the developer's lock."""
LICENCES = "licences.txt"
OLDEST = "3.11"
"""The Python that a hospital has at the least."""
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_LICENCE_CLASSIFIER = "License :: "
_OF_LINUX = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}


@dataclass(frozen=True)
class LockedPackage:
    """A package as a lock names it, with the SHA-256 of each file that it may be installed from."""

    name: str
    version: str
    hashes: tuple[str, ...]
    licence: str = ""

    def to_component(self) -> dict[str, Any]:
        """As CycloneDX has it."""
        purl = f"pkg:pypi/{self.name}@{self.version}"
        files = [{"name": "lock:sha256", "value": sha} for sha in self.hashes]
        component: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": self.name, "version": self.version, "purl": purl}
        if self.licence:
            component["licenses"] = [{"license": {"name": self.licence}}]
        return component | ({"properties": files} if files else {})


def locked(text: str, environment: Mapping[str, str] | None = None) -> list[LockedPackage]:
    """The packages of a lock that an environment gets (markers of PEP 508; None: all)."""
    found: list[LockedPackage] = []
    for line in re.sub(r"\\\s*\n", " ", text).splitlines():
        stated = line.partition(" #")[0].partition("--hash")[0].strip()
        if not stated or stated.startswith(("#", "-")):
            continue
        requirement = Requirement(stated)
        if environment is not None and requirement.marker is not None and not requirement.marker.evaluate(dict(environment)):
            continue
        (version,) = (specifier.version for specifier in requirement.specifier)
        found.append(LockedPackage(canonicalize_name(requirement.name), version, tuple(sorted(_HASH.findall(line)))))
    return sorted(found, key=lambda package: package.name)


def licence_of(name: str) -> str:
    """What an installed package says of its licence: an SPDX expression (PEP 639), else how it classifies itself; or nothing."""
    try:
        said: Any = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return ""
    expression, text = said.get("License-Expression"), said.get("License", "")
    if expression:
        return str(expression)
    classified = [
        str(value).rpartition(" :: ")[2] for value in said.get_all("Classifier") or () if value.startswith(_LICENCE_CLASSIFIER)
    ]
    return " AND ".join(sorted(classified)) or (text.splitlines()[0].strip() if text and len(text) < 100 else "")


def packages_of(part: str) -> list[LockedPackage]:
    """All packages of one of the things that are deployed or installed, with their licences."""
    python = runtime.version(runtime.DEFAULT) if part in ("deployment", "pixels") else OLDEST
    environment = _OF_LINUX | {"python_version": python, "python_full_version": f"{python}.0"}
    found = locked(LOCKS[part].read_text(encoding="utf-8"), environment)
    developers = {package.name: package for package in locked((ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8"))}
    found += [developers[name] for name in ADDED.get(part, ())]
    return [
        LockedPackage(report.name, report.version, report.hashes, licence_of(report.name))
        for report in sorted(found, key=lambda package: package.name)
    ]


def bill(part: str, packages: Iterable[LockedPackage], artefact: Path | None = None) -> dict[str, Any]:
    """The bill of materials of a part; `artefact` is the file that it is of, named by its hash."""
    components = [package.to_component() for package in packages]
    whole: dict[str, Any] = {
        "type": "application",
        "bom-ref": part,
        "name": part,
        "version": VERSION,
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }
    if artefact is not None:
        whole["hashes"] = [{"alg": "SHA-256", "content": hashlib.sha256(artefact.read_bytes()).hexdigest()}]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": whole},
        "components": components,
        "dependencies": [{"ref": part, "dependsOn": [component["bom-ref"] for component in components]}],
    }


def write(out: Path, artefacts: Mapping[str, Path]) -> list[Path]:
    """Write a bill for each of these parts (part → the file that was made), and the list of licences, into `out`; their paths."""
    written: list[Path] = []
    lines: list[str] = []
    for part, artefact in artefacts.items():
        packages = packages_of(part)
        path = out / f"{part}.cdx.json"
        path.write_text(json.dumps(bill(part, packages, artefact), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        written.append(path)
        lines += [f"{part}  {package.name} {package.version}  {package.licence or 'says none'}" for package in packages]
    (out / LICENCES).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [*written, out / LICENCES]


def main(arguments: list[str] | None = None) -> int:
    """The command: bills of what lies in the folder. 1 where something is not there."""
    parser = argparse.ArgumentParser(prog="python -m infra.bill", description="Bills of materials of what was packaged.")
    parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument("--out", type=Path, default=ROOT / "build", help="the folder with the packages (default: build/)")
    options = parser.parse_args(arguments)
    wheels = sorted((options.out / "forwarder").glob("contenitore_forwarder-*.whl"))
    made = {"deployment": options.out / "deployment.zip", "pixels": options.out / "pixels.zip"}
    made |= {"contenitore-forwarder": wheels[-1]} if wheels else {}
    absent = [part for part, path in made.items() if not path.is_file()] + ([] if wheels else ["contenitore-forwarder"])
    if absent:
        print(f"not packaged yet: {', '.join(absent)}", file=sys.stderr)
        return 1
    for path in write(options.out, made):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
