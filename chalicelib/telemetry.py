"""Structured logs. One line for each request and batch; nothing in it may identify a patient."""

from __future__ import annotations

from functools import cache

from aws_lambda_powertools import Logger


@cache
def logger() -> Logger:
    """The logger of this function; service name and level come from the environment."""
    return Logger()
