"""Indexing a batch with patience: what a passing fault of the table or the store held up is tried again within the invocation.

A message that is given back waits for the queue's visibility timeout, seven minutes: one throttled read must not cost an urgent
film that. It uses up a receive, too, of the few after which a message counts as lost.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from chalicelib.domain.errors import TryAgain
from chalicelib.services.ingest.instance_items import StoredObject

Index = Callable[[Sequence[StoredObject]], dict[StoredObject, Exception]]
"""`index_instances` of some objects: those that failed, with why. Raises TryAgain for all of them."""

_FIRST_PAUSE = 0.4
_LONGEST_PAUSE = 8.0
_RESERVE = 20.0
"""Seconds that must be left for another attempt."""


def index_patiently(
    index: Index, batch: Sequence[StoredObject], remaining: Callable[[], float], sleep: Callable[[float], None] = time.sleep
) -> dict[StoredObject, Exception]:
    """What must be delivered again, and why, after as many attempts as the time (`remaining()` seconds) allows.

    Only what says so itself (TryAgain) is tried again; the pauses double, with full jitter.
    """
    failed: dict[StoredObject, Exception] = {}
    waiting = list(dict.fromkeys(batch))
    pause = _FIRST_PAUSE
    while waiting:
        try:
            outcome = index(waiting)
        except TryAgain as error:
            outcome = dict.fromkeys(waiting, error)
        failed |= {stored: error for stored, error in outcome.items() if not isinstance(error, TryAgain)}
        waiting = [stored for stored, error in outcome.items() if isinstance(error, TryAgain)]
        drawn = random.uniform(pause / 2, pause)  # noqa: S311  # jitter
        if waiting and remaining() - drawn < _RESERVE:
            return failed | {stored: outcome[stored] for stored in waiting}
        if waiting:
            sleep(drawn)
            pause = min(2 * pause, _LONGEST_PAUSE)
    return failed
