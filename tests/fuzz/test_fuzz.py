"""A bounded part of `make fuzz`: the committed inputs, and some seconds of damage to them."""

from __future__ import annotations

import pytest

from tests.fuzz import mutation
from tests.fuzz.targets import CORPUS, TARGETS

SECONDS, MOST = 1.5, 1500
SEED = 20260401


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.filterwarnings("ignore")
def test_whatever_comes_is_read_or_refused_and_soon(name: str) -> None:
    target = TARGETS[name]
    corpus = target.corpus()
    assert corpus, "the search has to begin somewhere"
    assert [found.error for data in corpus if (found := mutation.tried(target, data))] == []
    count, finding = mutation.run(target, SEED, 0, SECONDS, MOST)
    assert finding is None, f"{finding.error}: {finding.data.hex()}"
    assert count > 10


def test_the_inputs_that_are_kept_are_small() -> None:
    files = [file for file in CORPUS.rglob("*") if file.is_file()]
    assert {file.parent.name for file in files} == set(TARGETS)
    assert max(file.stat().st_size for file in files) < 10_000
    assert sum(file.stat().st_size for file in files) < 700_000
