"""What nobody foresaw is logged by kind and place: texts of errors may quote what a hospital sent."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from chalicelib.telemetry import FunctionFailed, logger, without_texts
from tests.fakes import Watched
from tests.sharing.api import api_over
from tests.world import A, World

NAME = "ESPOSITO^GIULIA"


def fail(*_: Any) -> None:
    try:
        {}[NAME]
    except KeyError as error:
        raise ValueError(f"{NAME} is no number") from error


@pytest.fixture
def said() -> Iterator[list[dict[str, Any]]]:
    """What is logged meanwhile, each line with all its fields."""
    lines: list[dict[str, Any]] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.__dict__)

    handler, level = Listening(), logger().log_level
    logger().addHandler(handler)
    logger().setLevel("INFO")
    yield lines
    logger().setLevel(level)
    logger().removeHandler(handler)


def test_a_function_that_fails_says_which_error_it_was_and_where_but_not_its_text(said: list[dict[str, Any]]) -> None:
    with pytest.raises(FunctionFailed) as failed:
        without_texts(fail)()
    assert str(failed.value) == "ValueError"
    assert NAME not in "".join(traceback.format_exception(failed.value))
    (line,) = said
    assert NAME not in repr(line)
    assert (line["error"], line["cause"], line["function"]) == ("ValueError", "KeyError", "fail")
    assert line["at"][-1].startswith("test_telemetry.py:")


def test_a_failure_that_a_function_foresaw_goes_out_as_it_is_and_is_not_called_unexpected(said: list[dict[str, Any]]) -> None:
    def foreseen() -> None:
        raise FunctionFailed("TryAgain")

    with pytest.raises(FunctionFailed, match="TryAgain"):
        without_texts(foreseen)()
    assert said == []


def test_a_request_that_fails_says_nothing_of_it_in_the_log_or_the_answer(said: list[dict[str, Any]]) -> None:
    world = World()
    world.table = Watched(world.table.memory, fail)  # type: ignore[assignment]
    with api_over(world) as api:
        answer = api.call(A, "GET", "/dicomweb/studies", [("PatientID", "1")])
    assert answer.status == 500
    assert "ValueError" in [line.get("error") for line in said]
    assert NAME not in answer.body.decode() + repr(said)
