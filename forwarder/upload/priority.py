"""What goes first: the newest urgent study before everything else, everything else in the order it came."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from forwarder.config import UrgentConfig
from forwarder.spool.instances import About

REMEMBERED_STUDIES = 1000


def is_urgent(about: About, rules: Sequence[UrgentConfig]) -> bool:
    """Whether one rule matches in all that it gives; a rule that gives nothing matches nothing."""
    return any(
        (rule.modality or rule.calling)
        and (not rule.modality or about.modality in rule.modality)
        and (not rule.calling or about.calling in rule.calling)
        for rule in rules
    )


class Ranks:
    """Gives each instance its rank; the smallest goes first.

    An ordinary instance has the time of its arrival (seconds since the epoch); one of an urgent study the negative of
    the time at which the study's first instance came. So every urgent rank is below every ordinary one, the newest study
    has the lowest, and the instances of one study stay together.
    """

    def __init__(self, rules: Sequence[UrgentConfig], clock: Callable[[], float] = time.time) -> None:
        self._rules = rules
        self._clock = clock
        self._first: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, about: About) -> float:
        now = self._clock()
        if not is_urgent(about, self._rules):
            return now
        with self._lock:
            first = self._first.setdefault(about.study or "", now)
            self._first.move_to_end(about.study or "")
            if len(self._first) > REMEMBERED_STUDIES:
                self._first.popitem(last=False)
        return -first
