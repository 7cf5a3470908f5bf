"""The drill in its short form: the whole city, everything breaks for some seconds, and every promise holds."""

from __future__ import annotations

import subprocess
import sys

from drill import breaking
from tests.harness import ROOT

LEFT_TO_MAKE_DRILL = ("kill_city", "events_late", "line_slow", "letters")
"""What leaves no time to come to rest."""


def test_every_promise_holds_while_everything_breaks() -> None:
    command = [sys.executable, "-m", "drill", "--seconds", "4", "--persons", "2", "--pace", "3"]
    held = subprocess.run(
        [*command, "--without", ",".join(LEFT_TO_MAKE_DRILL)], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert held.returncode == 0, held.stdout[-6000:] + held.stderr[-2000:]
    assert "every promise held" in held.stdout


def test_the_schedule_is_that_of_its_seed_and_has_everything() -> None:
    assert breaking.schedule(7, 60) == breaking.schedule(7, 60) != breaking.schedule(8, 60)
    assert {fault.kind for fault in breaking.schedule(7, 60)} == set(breaking.ALL)
    assert sum(fault.kind == "kill_city" for fault in breaking.schedule(7, 600)) > 5
