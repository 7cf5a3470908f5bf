"""The broken builds are still breakable, each promise has three, and docs/promises.md tells of every one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.harness import ROOT
from tests.mutants import page
from tests.mutants.__main__ import Outcome, outcome
from tests.mutants.table import MUTANTS, PROMISES, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_a_mutant_changes_stands_once_in_the_code(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1
    assert mutant.old != mutant.new
    named = [test.partition("::")[0] for test in mutant.tests if test.startswith("tests/")]
    assert named
    assert [file for file in named if not (ROOT / file).exists()] == []


def test_each_promise_has_three_mutants_at_least() -> None:
    of_each = Counter(mutant.promise for mutant in MUTANTS)
    assert set(of_each) == set(PROMISES)
    assert min(of_each.values()) >= 3


def test_the_page_tells_of_every_promise_and_every_mutant() -> None:
    assert (ROOT / "docs" / "promises.md").read_text(encoding="utf-8") == page.text(), "python -m tests.mutants.page"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def test_it(): pass", Outcome.MISSED),
        ("def test_it(): assert False", Outcome.CAUGHT),
        ("def test_it(:", Outcome.CAUGHT),
        ("import pytest\n@pytest.mark.skip\ndef test_it(): pass\ndef test_other(): pass", Outcome.NOT_RUN),
        ("", Outcome.NOT_RUN),
    ],
    ids=["passes", "fails", "cannot be read", "one is skipped", "there is none"],
)
def test_a_test_that_was_skipped_is_not_one_that_noticed_nothing(tmp_path: Path, text: str, expected: Outcome) -> None:
    (tmp_path / "test_it.py").write_text(text)
    assert outcome(tmp_path, ("test_it.py",)) is expected
