"""``python -m infra.vulnerabilities``: what is known against the locked versions, by pip-audit (requirements/tools.txt).

Of a package of which the index says nothing, pip-audit alone says nothing either and finds "no known vulnerabilities". Here
that is told: 0 means that something was known of each package, and nothing bad.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chalicelib.config import VERSION
from infra.locks import DEVELOPERS, FORWARDER, ROOT

LOCKS = (ROOT / "requirements.txt", ROOT / "requirements" / "pixels.txt", FORWARDER, DEVELOPERS)


@dataclass(frozen=True)
class Audited:
    """What an audit of one lock says: how many packages it names, those of which nothing is known, and what is known of others,
    a line each."""

    packages: int
    unknown: tuple[str, ...]
    known: tuple[str, ...]


def audited(report: str) -> Audited | None:
    """What pip-audit's report (``--format json``) says; None where it could not ask at all, and wrote none."""
    try:
        dependencies = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return None
    unknown = [entry["name"] for entry in dependencies if "skip_reason" in entry]
    known = [
        f"{entry['name']} {entry['version']}: {found['id']}, mended in {', '.join(found['fix_versions']) or 'no version yet'}"
        for entry in dependencies
        for found in entry.get("vulns", ())
    ]
    return Audited(len(dependencies), tuple(unknown), tuple(known))


def told(lock: str, said: Audited | None) -> tuple[int, list[str]]:
    """(What the command answers for this lock, what it prints.) 0: nothing bad is known; 1: something is; 2: there is no data."""
    if said is None:
        return 2, [f"{lock}: not audited: there is no way to the advisories from here"]
    lines = [f"{lock}: {line}" for line in said.known]
    if said.unknown:
        lines.append(
            f"{lock}: no data of {len(said.unknown)} of {said.packages} packages: they were not audited"
            f" ({', '.join(said.unknown[:3])} …)"
        )
    if not lines:
        lines = [f"{lock}: {said.packages} packages, none with a known vulnerability"]
    return 1 if said.known else 2 if said.unknown else 0, lines


def _asked(auditor: Path, lock: Path) -> Audited | None:
    command = [
        str(auditor),
        "--require-hashes",
        "--disable-pip",
        "--progress-spinner",
        "off",
        "--format",
        "json",
        "-r",
        str(lock),
    ]
    return audited(subprocess.run(command, capture_output=True, text=True, check=False).stdout)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: 1 where something is known, else 2 where there is no data, else 0."""
    parser = argparse.ArgumentParser(prog="python -m infra.vulnerabilities", description="What is known against what is locked.")
    parser.add_argument("--version", action="version", version=VERSION)
    auditor = ROOT / ".venv" / "tools" / "bin" / "pip-audit"
    parser.add_argument("--auditor", type=Path, default=auditor, metavar="FILE", help="pip-audit (default: make's own)")
    options = parser.parse_args(arguments)
    codes = set()
    for lock in LOCKS:
        code, lines = told(str(lock.relative_to(ROOT)), _asked(options.auditor, lock))
        print("\n".join(lines))
        codes.add(code)
    return next((code for code in (1, 2) if code in codes), 0)


if __name__ == "__main__":
    sys.exit(main())
