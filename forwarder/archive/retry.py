"""What to do after each kind of failure: a plan, decided in pure code, with full jitter.

“Full jitter”: the pause is drawn evenly from nothing to a bound that doubles with each attempt, so that many senders
that failed together do not come back together.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from forwarder.errors import Failure

JITTER = random.Random()  # noqa: S311  # no secret
"""Nobody else's: who seeds the process's own, as a test of properties does, would have all senders come back together."""


class Blame(Enum):
    """What a failure says something about."""

    LINE = "line"  # nobody gets through now: everything waits, no instance is at fault
    INSTANCE = "instance"  # this one only: it steps aside, the others go on


@dataclass(frozen=True, slots=True)
class RetryPlan:
    """First and greatest bound of the pause (seconds), whose fault it is, whether a person is needed."""

    first: float
    greatest: float
    blame: Blame
    needs_person: bool = False


PLANS: dict[Failure, RetryPlan] = {
    Failure.NETWORK: RetryPlan(0.5, 60, Blame.LINE),
    Failure.THROTTLED: RetryPlan(1, 60, Blame.LINE),
    Failure.SERVER: RetryPlan(1, 120, Blame.LINE),
    Failure.SKEW: RetryPlan(0.1, 60, Blame.LINE),
    Failure.CREDENTIALS: RetryPlan(2, 120, Blame.LINE, needs_person=True),
    Failure.REFUSED: RetryPlan(5, 300, Blame.LINE, needs_person=True),
    Failure.PROTOCOL: RetryPlan(5, 300, Blame.LINE, needs_person=True),
    Failure.EXPIRED_URL: RetryPlan(0, 5, Blame.INSTANCE),
    Failure.BUSY: RetryPlan(0.5, 10, Blame.INSTANCE),
    Failure.INSTANCE: RetryPlan(2, 3600, Blame.INSTANCE),
    Failure.ABSENT: RetryPlan(2, 6 * 3600, Blame.INSTANCE),
}


def bound(plan: RetryPlan, attempt: int) -> float:
    """The greatest pause (seconds) after failure number `attempt` (from 1)."""
    return min(plan.greatest, plan.first * 2.0 ** min(attempt - 1, 30))


def pause(
    failure: Failure,
    attempt: int,
    retry_after: float | None = None,
    draw: Callable[[float, float], float] = JITTER.uniform,
) -> float:
    """Seconds to wait after failure number `attempt` (from 1); never less than the archive asked for (at most 900)."""
    jittered = draw(0.0, bound(PLANS[failure], attempt))
    return max(jittered, min(retry_after or 0.0, 900.0))
