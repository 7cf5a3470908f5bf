"""Until when the request that a thread answers must be answered."""

from __future__ import annotations

import time
from contextvars import ContextVar

_ANSWER_WITHIN = 26.0
"""Seconds in which a request is answered, or refused for now: its gateway waits for 29."""
_until: ContextVar[float | None] = ContextVar("until", default=None)


def begin_request() -> None:
    """A request begins: whatever waits for others in it, one after another, stops waiting before its own caller does."""
    _until.set(time.monotonic() + _ANSWER_WITHIN)


def remaining() -> float:
    """Seconds left of the request that this thread answers."""
    until = _until.get()
    return _ANSWER_WITHIN if until is None else until - time.monotonic()
