"""A bounded part of `python -m tests.fuzz.openapi`: requests of schemathesis's own, and what follows from one another."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fuzz.openapi import tried
from tests.harness import running_city


@pytest.mark.skipif(find_spec("schemathesis") is None, reason="schemathesis is not installed (make setup)")
def test_every_answer_to_requests_of_its_own_is_one_that_the_document_describes(tmp_path: Path) -> None:
    with running_city(tmp_path) as city:
        ended = tried(city, None, 2, 20260401, "stateful,fuzzing")
    assert ended.returncode == 0, ended.stdout[-6000:]
    counted = re.search(r"Selected: (\d+)/\1\s+Tested: (\d+)", ended.stdout)
    assert counted and counted[1] == counted[2], ended.stdout[-6000:]
    assert "passed" in ended.stdout
