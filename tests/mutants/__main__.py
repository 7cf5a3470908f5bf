"""`python -m tests.mutants [--no-baseline] [NUMBER | TEXT …]`: break each promise on purpose, and see that its tests notice.

Runs in a copy of the tree. Prints a line for each mutant, caught or missed; exit 1 when one is missed. Without `--no-baseline`
the same tests must pass unbroken first. NUMBER is a promise's, TEXT a part of a mutant's name.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
SECONDS = 420
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "state", "build", "node_modules", "__pycache__", ".mypy_cache", ".hypothesis")


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
                if noticed(copy, tests):
                    print(f"these tests fail unbroken: {' '.join(tests)}")
                    return 2
        missed = [mutant for mutant in wanted if not _caught(copy, mutant)]
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    print(f"{len(wanted) - len(missed)} of {len(wanted)} caught")
    for mutant in missed:
        print(f"MISSED promise {mutant.promise}: {mutant.name}")
    return 1 if missed else 0


def _is_meant(mutant: Mutant, which: str) -> bool:
    return mutant.promise == int(which) if which.isdigit() else which in mutant.name


def _caught(copy: Path, mutant: Mutant) -> bool:
    file, began = copy / mutant.file, time.monotonic()
    sound = file.read_text(encoding="utf-8")
    if sound.count(mutant.old) != 1:
        raise SystemExit(f"{mutant.name}: its text stands {sound.count(mutant.old)} times in {mutant.file}")
    file.write_text(sound.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        caught = noticed(copy, mutant.tests)
    finally:
        file.write_text(sound, encoding="utf-8")
    print(
        f"{'caught' if caught else 'MISSED'}  {mutant.promise:2}  {mutant.name}  ({time.monotonic() - began:.0f} s)", flush=True
    )
    return caught


def noticed(copy: Path, tests: tuple[str, ...]) -> bool:
    """Whether one of the tests fails in the copy, or does not end."""
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    try:
        ended = subprocess.run(
            command,
            cwd=copy,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return True
    return ended.returncode == 1


if __name__ == "__main__":
    sys.exit(main())
