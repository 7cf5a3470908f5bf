"""The slowest tests, and those that wait for something, again and again: `python -m tests.repeated [--rounds N] [--slowest N]
[--waiting] [--busy N] [--seed N]`.

What is slowest stands in `build/tests.xml`, which `make test` leaves. Each round has another order, and so many endless loops
beside it. Prints a line for each round, and what failed. Exit 1 when something did.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from _pytest.junitxml import mangle_test_address

ROOT = Path(__file__).parents[1]
TIMES = ROOT / "build" / "tests.xml"
_WAITS = re.compile(r"\b(?:wait_until|until|sleep|wait_for\w*)\(")


def slowest(count: int) -> set[str]:
    """Names of the tests that took longest, as a report has them."""
    cases = ElementTree.parse(TIMES).getroot().iter("testcase")
    took = sorted(((float(case.get("time", 0)), f"{case.get('classname')}.{case.get('name')}") for case in cases), reverse=True)
    return {name for _, name in took[:count]}


def modules(names: set[str], waiting: bool) -> list[str]:
    """The test modules that have them."""
    found = []
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        dotted = ".".join(file.relative_to(ROOT).with_suffix("").parts) + "."
        if any(name.startswith(dotted) for name in names) or (waiting and _WAITS.search(file.read_text(encoding="utf-8"))):
            found.append(str(file.relative_to(ROOT)))
    return found


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves what is meant (this module is a plugin of the tests that it starts)."""
    meant = slowest(int(os.environ["SLOWEST"]))
    waiting = os.environ["WAITING"] == "1"

    def is_meant(item: pytest.Item) -> bool:
        if waiting and isinstance(item, pytest.Function) and _WAITS.search(inspect.getsource(item.function)):
            return True
        return ".".join(mangle_test_address(item.nodeid)) in meant

    left_out = [item for item in items if not is_meant(item)]
    items[:] = [item for item in items if is_meant(item)]
    config.hook.pytest_deselected(items=left_out)


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processors have something else to do."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.repeated", description="The slowest tests again and again.")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--slowest", type=int, default=50)
    parser.add_argument("--waiting", action="store_true", help="also each test that waits for something itself")
    parser.add_argument("--busy", type=int, default=os.cpu_count() or 2, help="endless loops beside them")
    parser.add_argument("--seed", type=int, default=None)
    chosen = parser.parse_args(arguments)
    if not TIMES.is_file():
        print("Which tests are slowest is not known: run make test first.", file=sys.stderr)
        return 2
    seed = chosen.seed if chosen.seed is not None else int.from_bytes(os.urandom(2), "big")
    print(f"{chosen.rounds} rounds, seed {seed}, {chosen.busy} endless loops beside them", flush=True)
    failed = sum(not _held(seed + number, chosen) for number in range(chosen.rounds))
    print(f"{chosen.rounds - failed} of {chosen.rounds} rounds without a failure, seed {seed}")
    return 1 if failed else 0


def _held(order: int, chosen: argparse.Namespace) -> bool:
    began = time.monotonic()
    environment = os.environ | {"ORDER": str(order), "SLOWEST": str(chosen.slowest), "WAITING": str(int(chosen.waiting))}
    command = [
        sys.executable, "-m", "pytest", "-v", "-n", "4", "--dist", "loadscope", "--no-loadscope-reorder", "-p", "tests.repeated",
        *modules(slowest(chosen.slowest), chosen.waiting),
    ]  # fmt: skip
    with busy(chosen.busy), tempfile.NamedTemporaryFile("w+", suffix=".txt") as said:
        status = subprocess.run(command, cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT, check=False).returncode
        said.seek(0)
        lines = said.read().splitlines()
    print(f"order {order}: {lines[-1] if lines else 'nothing was said'}  ({time.monotonic() - began:.0f} s)", flush=True)
    if status:
        print("\n".join(lines[-200:]), file=sys.stderr, flush=True)
        print("\n".join(line for line in lines if line.startswith(("FAILED", "ERROR"))), flush=True)
    return status == 0


if __name__ == "__main__":
    sys.exit(main())
