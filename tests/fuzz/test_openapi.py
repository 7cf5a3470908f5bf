"""A bounded part of `python -m tests.fuzz.openapi`: requests of schemathesis's own, and what follows from one another."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fuzz.openapi import tried
from tests.harness import running_city

SECONDS = (6, 60)
"""At the most. On a busy machine it has made no request yet when the first of them are over."""


@pytest.mark.skipif(find_spec("schemathesis") is None, reason="schemathesis is not installed (make setup)")
def test_every_answer_to_requests_of_its_own_is_one_that_the_document_describes(tmp_path: Path) -> None:
    with running_city(tmp_path) as city:
        for seconds in SECONDS:
            ended = tried(city, seconds, 2, 20260401, "stateful,fuzzing")
            assert ended.returncode == 0, ended.stdout[-6000:]
            if "Tested:" in ended.stdout:
                break
    assert "Tested:" in ended.stdout and "passed" in ended.stdout, ended.stdout[-6000:]
