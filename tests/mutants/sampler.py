"""Mutations at random, by seed, of the rules and the forwarder's spool: `python -m tests.mutants.sampler [--count N] [--seed N]
[--jobs N]`.

An operator, a constant or a condition of one line is changed; the tests that name the module are run, and where they notice
nothing, those of the services and of sharing, which go through the rules. What none of them notices is a survivor: a person looks
at it, since some changes change nothing. Exit 0, whatever survives.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from tests.mutants.__main__ import LEFT_OUT, ROOT, Outcome, outcome

FOLDERS = ("chalicelib/domain", "forwarder/spool")
MOST_TESTS = 8
THROUGH = (
    "tests/unit/services", "tests/unit/priors", "tests/unit/audit", "tests/unit/test_projecting.py",
    "tests/unit/test_indexing.py", "tests/sharing",
)  # fmt: skip
"""Tests in which the rules decide, whichever they name."""
THROUGH_SECONDS = 1800.0
_COMPARED = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.In: "not in", ast.NotIn: "in",
    ast.Is: "is not", ast.IsNot: "is",
}  # fmt: skip
_SIGN = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.In: "in", ast.NotIn: "not in",
    ast.Is: "is", ast.IsNot: "is not",
}  # fmt: skip


@dataclass(frozen=True)
class Change:
    """Characters `start` to `end` of a file become `new`; `line` is where, and `told` what."""

    file: Path
    start: int
    end: int
    new: str
    line: int
    told: str


def changes(file: Path) -> Iterator[Change]:
    """Every mutation of a file that is known here."""
    text = file.read_text(encoding="utf-8")
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line.encode()))
    data = text.encode()

    def at(line: int, column: int) -> int:
        return len(data[: starts[line - 1] + column].decode())

    def change(first: int, last: int, old: str, new: str, line: int) -> Iterator[Change]:
        found = re.search(rf"(?<![<>=!\w]){re.escape(old)}(?![<>=\w])" if old.isalpha() else re.escape(old), text[first:last])
        if found is not None:
            yield Change(file, first + found.start(), first + found.end(), new, line, f"{old} → {new}")

    for node in _behaviour(ast.parse(text)):
        if isinstance(node, ast.Compare):
            left = node.left
            for sign, right in zip(node.ops, node.comparators, strict=True):
                between = at(left.end_lineno or 0, left.end_col_offset or 0), at(right.lineno, right.col_offset)
                yield from change(*between, _SIGN[type(sign)], _COMPARED[type(sign)], node.lineno)
                left = right
        elif isinstance(node, ast.BoolOp):
            old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
            for operand, other in zip(node.values, node.values[1:], strict=False):
                between = at(operand.end_lineno or 0, operand.end_col_offset or 0), at(other.lineno, other.col_offset)
                yield from change(*between, old, new, node.lineno)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            first = at(node.lineno, node.col_offset)
            yield Change(file, first, at(node.operand.lineno, node.operand.col_offset), "", node.lineno, "not is left out")
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int) and node.end_lineno == node.lineno:
            first, last = at(node.lineno, node.col_offset), at(node.lineno, node.end_col_offset or 0)
            new = str(not node.value) if isinstance(node.value, bool) else str(node.value + 1)
            yield Change(file, first, last, new, node.lineno, f"{text[first:last]} → {new}")


def _behaviour(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those of decorators: whether a class is frozen, the types hold and not the tests."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        left_out = getattr(node, "decorator_list", [])
        waiting += [child for child in ast.iter_child_nodes(node) if child not in left_out]


def tests_of(file: Path) -> tuple[str, ...]:
    """The test modules that name a module, those of units and rules first, the smallest first."""
    name, package = file.stem, file.parent.name
    wanted = re.compile(rf"\b{package}\.{name}\b|\b{package} import [^\n]*\b{name}\b|\bspool\.{name}\b")
    found = []
    for folder in ("tests/unit", "tests/sharing", "tests/contract", "tests/forwarder"):
        for test in sorted((ROOT / folder).rglob("test_*.py")):
            text = test.read_text(encoding="utf-8")
            if wanted.search(text) and "RunningCity" not in text and "mount" not in text:
                found.append((not folder.endswith("unit"), len(text), str(test.relative_to(ROOT))))
    return tuple(name for _, _, name in sorted(found)[:MOST_TESTS])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants.sampler", description="Mutations at random; survivors are told."
    )
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="so many at once")
    chosen = parser.parse_args(arguments)
    seed = chosen.seed if chosen.seed is not None else int.from_bytes(os.urandom(3), "big")
    files = [file for folder in FOLDERS for file in sorted((ROOT / folder).glob("*.py")) if file.name != "__init__.py"]
    every = [change for file in files if tests_of(file) for change in changes(file)]
    sample = random.Random(seed).sample(every, min(chosen.count, len(every)))
    print(f"{len(sample)} of {len(every)} mutations, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="sampled-") as folder:
        copies: Queue[Path] = Queue()
        for job in range(chosen.jobs):
            copies.put(Path(shutil.copytree(ROOT, Path(folder, str(job)), ignore=LEFT_OUT, symlinks=True)))

        def tried(change: Change) -> bool:
            copy = copies.get()
            try:
                return _noticed(copy, change)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(chosen.jobs) as jobs:
            noticed = sum(jobs.map(tried, sample))
    print(f"{noticed} of {len(sample)} noticed, seed {seed}")
    return 0


def _noticed(copy: Path, change: Change) -> bool:
    name, began = change.file.relative_to(ROOT), time.monotonic()
    text = change.file.read_text(encoding="utf-8")
    (copy / name).write_text(text[: change.start] + change.new + text[change.end :], encoding="utf-8")
    try:
        came = outcome(copy, tests_of(change.file))
        if came is Outcome.MISSED and change.file.parent.name == "domain":
            came = Outcome.CAUGHT if outcome(copy, THROUGH, THROUGH_SECONDS) is Outcome.CAUGHT else came
    finally:
        (copy / name).write_text(text, encoding="utf-8")
    where = f"{name}:{change.line}: {change.told}"
    word = {Outcome.CAUGHT: "noticed", Outcome.MISSED: "SURVIVED", Outcome.NOT_RUN: "NOT RUN"}[came]
    told = f"{word:8}  {where}  ({time.monotonic() - began:.0f} s)\n"
    if came is not Outcome.CAUGHT:
        told += f"          {text.splitlines()[change.line - 1].strip()}\n"
    print(told, end="", flush=True)
    return came is Outcome.CAUGHT


if __name__ == "__main__":
    sys.exit(main())
