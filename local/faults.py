"""What goes wrong on purpose: the file `DIR/faults.json` says how often, as long as it is there.

    {"throttled": 0.5, "dies": 0.02, "answer_lost": 0.05, "events_lost": 0.05, "events_doubled": 0.2, "events_late": 0.1,
     "late_seconds": 20, "events_shuffled": true, "records_doubled": 0.2, "records_late_seconds": 3, "seed": 7}

Each is a probability but for `late_seconds`, `events_shuffled`, `records_late_seconds` and `seed`. `throttled`, `dies` and
`answer_lost` are of one call of a function to AWS: refused for its rate; the function's end, before the call or after it; the
connection's end after the call was done. The events are those of S3, as the queue hands them on; the records those of the
table's stream. Without the file nothing of this happens; see docs/local-city.md.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import logging
import os
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

LOOKED_AT_EVERY = 0.2
"""Seconds between two looks at the file."""
_log = logging.getLogger("city.faults")


@dataclass(frozen=True)
class Chances:
    """How often each fault happens: what the file says."""

    throttled: float = 0.0
    dies: float = 0.0
    answer_lost: float = 0.0
    events_lost: float = 0.0
    events_doubled: float = 0.0
    events_late: float = 0.0
    late_seconds: float = 10.0
    events_shuffled: bool = False
    records_doubled: float = 0.0
    records_late_seconds: float = 0.0
    seed: int = 0


NONE = Chances()


class Died(BaseException):
    """The function's process ends here: nothing in the function may catch it."""


class FunctionDied(Exception):
    """An invocation ended without an answer, as when the machine under a function dies."""


@dataclass
class _Invocation:
    dead: bool = False
    ended: bool = False


_invocation: contextvars.ContextVar[_Invocation | None] = contextvars.ContextVar("invocation", default=None)


@contextlib.contextmanager
def invocation() -> Iterator[None]:
    """Within it a function is invoked, and may die. Raises FunctionDied in place of Died."""
    running = _Invocation()
    token = _invocation.set(running)
    try:
        yield
    except Died:
        raise FunctionDied from None
    finally:
        running.ended = True
        _invocation.reset(token)


class Faults:
    """The faults of the city in `directory`, which the file in it may change at any moment."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "faults.json"
        self._lock = threading.Lock()
        self._chances, self._random = NONE, random.Random()  # noqa: S311
        self._looked_at, self._stamp = float("-inf"), 0

    @property
    def chances(self) -> Chances:
        """What holds now."""
        with self._lock:
            now = time.monotonic()
            if now - self._looked_at >= LOOKED_AT_EVERY:
                self._looked_at = now
                self._look()
            return self._chances

    def _look(self) -> None:
        try:
            stamp = self._file.stat().st_mtime_ns
            if stamp == self._stamp:
                return
            found = json.loads(self._file.read_text(encoding="utf-8"))
            known = {field.name for field in fields(Chances)}
            if unknown := sorted(set(found) - known):
                _log.error("faults.json names what is no fault: %s", ", ".join(unknown))
            self._chances = Chances(**{name: value for name, value in found.items() if name in known})
            self._random.seed(self._chances.seed)
            self._stamp = stamp
        except (FileNotFoundError, NotADirectoryError):
            self._chances, self._stamp = NONE, 0
        except (OSError, ValueError, TypeError) as error:
            _log.error("faults.json cannot be read: %s", error)

    def happens(self, chance: float) -> bool:
        """Whether it happens this time."""
        if chance <= 0:
            return False
        with self._lock:
            return self._random.random() < chance

    def shuffle(self, things: list[object]) -> None:
        """In any order."""
        with self._lock:
            self._random.shuffle(things)

    def before_call(self) -> None:
        """What befalls a function before one of its calls. Raises Died."""
        running = _invocation.get()
        if running is None or running.ended:
            return
        if running.dead or self.happens(self.chances.dies / 2):
            running.dead = True
            raise Died

    def after_call(self) -> None:
        """What befalls it when the call was done. Raises Died."""
        running = _invocation.get()
        if running is not None and not running.ended and self.happens(self.chances.dies / 2):
            running.dead = True
            raise Died


NEVER = Faults(Path(os.devnull))
"""Of a city in which nothing goes wrong on purpose."""
