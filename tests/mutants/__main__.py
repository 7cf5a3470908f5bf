"""`python -m tests.mutants [--no-baseline] [NUMBER | TEXT …]`: break each promise on purpose, and see that its tests notice.

Runs in a copy of the tree. Prints a line for each mutant: caught, missed, or not run, where the test that should notice was
skipped (no Chromium, no viewer built). Exit 1 unless all are caught. Without `--no-baseline` the same tests must pass unbroken
first. NUMBER is a promise's, TEXT a part of a mutant's name.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from enum import StrEnum
from pathlib import Path
from xml.etree import ElementTree

from tests.mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
SECONDS = 420
FAILED, INTERRUPTED = 1, 2
"""How pytest ends when a test fails, and when a module of tests cannot be read."""
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "state", "build", "node_modules", "__pycache__", ".mypy_cache", ".hypothesis")


class Outcome(StrEnum):
    """What tests made of a change."""

    CAUGHT = "caught"
    MISSED = "MISSED"
    NOT_RUN = "NOT RUN"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="Each promise broken on purpose.")
    parser.add_argument("--no-baseline", action="store_true", help="do not run the tests unbroken first")
    parser.add_argument("which", nargs="*", help="numbers of promises, or parts of names; without any: all")
    chosen = parser.parse_args(arguments)
    wanted = [mutant for mutant in MUTANTS if not chosen.which or any(_is_meant(mutant, name) for name in chosen.which)]
    copy = Path(tempfile.mkdtemp(prefix="mutants-"))
    try:
        shutil.copytree(ROOT, copy, dirs_exist_ok=True, ignore=LEFT_OUT, symlinks=True)
        if not chosen.no_baseline:
            for tests in sorted({mutant.tests for mutant in wanted}):
                if outcome(copy, tests) is Outcome.CAUGHT:
                    print(f"these tests fail unbroken: {' '.join(tests)}")
                    return 2
        outcomes = {mutant: _tried(copy, mutant) for mutant in wanted}
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    left = {mutant: came for mutant, came in outcomes.items() if came is not Outcome.CAUGHT}
    print(f"{len(wanted) - len(left)} of {len(wanted)} caught")
    for mutant, came in left.items():
        print(f"{came} promise {mutant.promise}: {mutant.name}")
    return 1 if left else 0


def _is_meant(mutant: Mutant, which: str) -> bool:
    return mutant.promise == int(which) if which.isdigit() else which in mutant.name


def _tried(copy: Path, mutant: Mutant) -> Outcome:
    file, began = copy / mutant.file, time.monotonic()
    sound = file.read_text(encoding="utf-8")
    if sound.count(mutant.old) != 1:
        raise SystemExit(f"{mutant.name}: its text stands {sound.count(mutant.old)} times in {mutant.file}")
    file.write_text(sound.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        came = outcome(copy, mutant.tests)
    finally:
        file.write_text(sound, encoding="utf-8")
    print(f"{came:7}  {mutant.promise:2}  {mutant.name}  ({time.monotonic() - began:.0f} s)", flush=True)
    return came


def outcome(copy: Path, tests: tuple[str, ...], seconds: float = SECONDS) -> Outcome:
    """What becomes of tests in the copy. One that fails, cannot be read or does not end has noticed; where none did, and one was
    skipped or there was none, nothing is known."""
    told = copy / "outcome.xml"
    told.unlink(missing_ok=True)
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"--junit-xml={told}", *tests]
    try:
        ended = subprocess.run(
            command,
            cwd=copy,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Outcome.CAUGHT
    if ended.returncode in (FAILED, INTERRUPTED):
        return Outcome.CAUGHT
    suite = ElementTree.parse(told).getroot().find("testsuite") if ended.returncode == 0 else None
    ran = suite is not None and int(suite.get("tests", "0")) > 0 and int(suite.get("skipped", "0")) == 0
    return Outcome.MISSED if ran else Outcome.NOT_RUN


if __name__ == "__main__":
    sys.exit(main())
