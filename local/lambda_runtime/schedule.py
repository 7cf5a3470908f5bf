"""Functions that run by the clock, as EventBridge would call them: `rate(…)` expressions only.

When a function ran last is in the state, so that a city that is stopped and started often still runs what is due.
"""

from __future__ import annotations

import datetime
import logging
import re
import time
import uuid
from typing import Any

from local.emulation.moto_patches import ACCOUNT, REGION
from local.lambda_runtime.event_source_mappings import Pump
from local.lambda_runtime.functions import Function
from local.state import State

RETRIES = 2
"""A function that is called asynchronously and raises is called twice more (Lambda Developer Guide)."""

_SECONDS = {"minute": 60.0, "hour": 3600.0, "day": 86400.0}
_log = logging.getLogger("city.schedule")


class UnknownSchedule(Exception):
    """A schedule expression that the local city does not know: an error at start, not a function that never runs."""


def period(expression: str) -> float:
    """Seconds between two runs of `rate(15 minutes)`. Raises UnknownSchedule."""
    match = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression)
    if match is None:
        raise UnknownSchedule(expression)
    return int(match[1]) * _SECONDS[match[2]]


def schedule_pump(function: Function, seconds: float, state: State, pause: float = 1.0) -> Pump:
    """Runs the function every so many seconds, counted from the last run; the first after one period."""
    name = f"schedule:{function.name}"
    if state.setting(name) is None:
        state.set_setting(name, time.time())

    def step(pump: Pump) -> None:
        left = state.setting(name) + seconds - time.time()
        if left > 0:
            pump.stopping.wait(min(left, 60.0))
            return
        pump.delivering = True
        _run(function, pump, pause)
        state.set_setting(name, time.time())
        pump.delivering = False

    return Pump(name, step)


def _run(function: Function, pump: Pump, pause: float) -> None:
    for _ in range(1 + RETRIES):
        try:
            function.invoke(_event(function.name))
            return
        except Exception:  # whatever a function raises, Lambda runs it again
            _log.exception("%s failed", function.name)
            if pump.stopping.wait(pause):
                return


def _event(name: str) -> dict[str, Any]:
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT,
        "time": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}",
        "region": REGION,
        "resources": [f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{name}"],
        "detail": {},
    }
