"""Structured logs. One line for each request and batch; nothing in it may identify a patient."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import cache, wraps
from typing import ParamSpec, TypeVar

from aws_lambda_powertools import Logger


@cache
def logger() -> Logger:
    """The logger of this function; service name and level come from the environment."""
    return Logger()


P = ParamSpec("P")
R = TypeVar("R")


class FunctionFailed(Exception):
    """A function ended because of an error, which this one names without repeating what it says."""


def log_unexpected(error: BaseException, **more: str) -> None:
    """An error that nobody foresaw: its kind, its cause's, and where it arose; not what they say, which may quote a patient."""
    places = [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    cause = type(error.__cause__).__name__ if error.__cause__ is not None else ""
    logger().error("unexpected", extra={"error": type(error).__name__, "cause": cause, "at": places, **more})


def without_texts(function: Callable[P, R]) -> Callable[P, R]:
    """For what Lambda calls: it writes the text of any error that gets out into the log. Raises FunctionFailed in its place;
    one that the function raised itself was foreseen, and goes out as it is.
    """

    @wraps(function)
    def guarded(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return function(*arguments, **named)
        except FunctionFailed:
            raise
        except Exception as error:
            log_unexpected(error, function=function.__name__)
            raise FunctionFailed(type(error).__name__) from None

    return guarded
