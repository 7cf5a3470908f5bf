"""`python -m tests.fuzz [--seconds N] [--runs N] [--seed N] [--guided] [TARGET …]`: hostile input for the pure readers.

Each target gets so many seconds, or so many runs, and goes on where the last call with this seed ended (`build/fuzz/`).
`--guided` uses atheris, which is guided by coverage, where it is installed (`requirements/fuzz.txt`). What is found is kept
there, and told; exit 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz import mutation
from tests.fuzz.targets import CORPUS, TARGETS, Finding

BUILD = Path(__file__).parents[2] / "build" / "fuzz"
MEMORY = 3 * 1024**3
"""Bytes of address space: a reader that takes more ends with a MemoryError, which is a finding."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Hostile input for the pure readers.")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each target (default 10)")
    parser.add_argument("--runs", type=int, default=10**9, help="inputs of each target at the most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--guided", action="store_true", help="guided by coverage, with atheris")
    parser.add_argument("targets", nargs="*", default=[], metavar="TARGET", help=f"of {', '.join(TARGETS)}; without any: all")
    chosen = parser.parse_args(arguments)
    if unknown := sorted(set(chosen.targets) - set(TARGETS)):
        parser.error(f"no such target: {', '.join(unknown)}")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    found = 0
    print(f"seed {chosen.seed}", flush=True)
    for name in chosen.targets or TARGETS:
        if chosen.guided:
            found += _guided(name, chosen.seconds, chosen.runs)
            continue
        finding = _mutated(name, chosen.seed, chosen.seconds, chosen.runs)
        if finding is not None:
            found += 1
            _keep(finding)
    return 1 if found else 0


def _mutated(name: str, seed: int, seconds: float, runs: int) -> Finding | None:
    folder = BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"progress-{seed}.json"
    done = json.loads(file.read_text())["done"] if file.exists() else 0
    began = time.monotonic()
    count, finding = mutation.run(TARGETS[name], seed, done, seconds, runs)
    file.write_text(json.dumps({"done": done + count}))
    print(f"{name:18} {count:9} inputs, {done + count:10} in all, {count / (time.monotonic() - began):8.0f}/s", flush=True)
    return finding


def _keep(finding: Finding) -> None:
    file = BUILD / finding.target / f"finding-{hashlib.sha256(finding.data).hexdigest()[:16]}"
    file.write_bytes(finding.data)
    print(f"FOUND {finding.target}: {finding.error}\n      {file}", flush=True)


def _guided(name: str, seconds: float, runs: int) -> bool:
    folder = BUILD / name / "guided"
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "tests.fuzz.guided", name, str(folder), str(CORPUS / name), f"-max_total_time={int(seconds)}",
        f"-runs={min(runs, 2**31 - 1)}", "-timeout=2", "-rss_limit_mb=2048",
        f"-artifact_prefix={BUILD / name}/", "-print_final_stats=1",
    ]  # fmt: skip
    return subprocess.run(command, check=False, cwd=Path(__file__).parents[2]).returncode != 0


if __name__ == "__main__":
    sys.exit(main())
