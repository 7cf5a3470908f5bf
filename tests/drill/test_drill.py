"""The drill in its short form: the whole city, everything breaks for some seconds, and every promise holds."""

from __future__ import annotations

import os

from drill import breaking
from drill.__main__ import hold

SHORT = tuple(kind for kind in breaking.ALL if kind not in ("kill_city", "events_late", "line_slow", "letters"))
"""What leaves time to come to rest; `make drill` has everything."""


def test_every_promise_holds_while_everything_breaks() -> None:
    seed = int(os.environ.get("DRILL_SEED", "") or int.from_bytes(os.urandom(2), "big"))
    assert hold(seed, 5, SHORT, persons=2, pace=2.0) == [], f"play it again: python -m drill --seed {seed} --seconds 5"


def test_the_schedule_is_that_of_its_seed_and_has_everything() -> None:
    assert breaking.schedule(7, 60) == breaking.schedule(7, 60) != breaking.schedule(8, 60)
    assert {fault.kind for fault in breaking.schedule(7, 60)} == set(breaking.ALL)
    assert sum(fault.kind == "kill_city" for fault in breaking.schedule(7, 600)) > 5
