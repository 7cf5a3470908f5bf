"""The line to the archive: how much it bears, whether it is open, and how much of it may be used."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import Enum

from forwarder.archive.retry import PLANS, Blame, pause
from forwarder.config import LimitConfig
from forwarder.errors import ArchiveError

EPOCH = 1.0  # seconds over which the window measures
HOLD = 20  # epochs that it stays where it is after a try that brought nothing


class ConcurrencyWindow:
    """How many uploads at once: climbs while that brings more bytes a second, halves when the line complains.

    It tries half as many again; if that does not bring 5 % more it goes back and stays for a while, since a line that is
    full only gets longer queues. Bounds: 1 and `greatest`. The caller holds a lock.
    """

    def __init__(self, greatest: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.greatest = greatest
        self.limit = min(2, greatest)
        self._clock = clock
        self._rate = 0.0  # bytes a second in the last epoch that told anything
        self._tried_from = 0  # the limit to go back to, while a greater one is being tried
        self._hold = 0  # epochs before the next try
        self._begin()

    def _begin(self) -> None:
        self._since = self._clock()
        self._bytes = 0
        self._filled = False

    def succeeded(self, size: int, in_flight: int) -> None:
        """An upload of `size` bytes ended well while `in_flight` (with it) were under way."""
        self._bytes += size
        self._filled = self._filled or in_flight >= self.limit
        elapsed = self._clock() - self._since
        if elapsed < EPOCH:
            return
        if self._filled:  # else the line was not the bound, and the rate says nothing about it
            self._adapt(self._bytes / elapsed)
        self._begin()

    def _adapt(self, rate: float) -> None:
        before, self._rate = self._rate, rate
        tried_from, self._tried_from = self._tried_from, 0
        if tried_from and rate < before * 1.05:
            self.limit, self._hold = tried_from, HOLD
        elif rate < before * 0.7:
            self.limit, self._hold = max(1, self.limit - max(1, self.limit // 4)), HOLD
        elif self._hold:
            self._hold -= 1
        elif self.limit < self.greatest:
            self._tried_from = self.limit
            self.limit = min(self.greatest, self.limit + max(1, self.limit // 2))

    def failed(self) -> None:
        """The line failed or the archive asked for patience."""
        self.limit = max(1, self.limit // 2)
        self._rate = 0.0
        self._tried_from = self._hold = 0
        self._begin()


class End(Enum):
    """Where the line leads: two hosts, of which a firewall may let one through and not the other."""

    ARCHIVE = "archive"
    STORE = "store"


class Link:
    """Whether the line may be used now. One failure closes it for everyone, for a time drawn by `retry.pause`.

    What is wrong with one end stands until that end has answered, and failures in a row are counted for each: that the archive
    tells where to put an instance says nothing of whether it can be put there, nor that it is there of the next question.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._in_a_row: dict[End, int] = {}
        self._closed_until = 0.0
        self._failed_at = -1.0
        self._errors: dict[End, ArchiveError] = {}
        self.reached = False  # whether the archive has ever answered
        self.since = time.time()

    @property
    def error(self) -> ArchiveError | None:
        """What is wrong now."""
        return next(iter(tuple(self._errors.values())), None)

    def closed_for(self) -> float:
        """Seconds until the line may be tried again; 0 when it may be now."""
        with self._lock:
            return max(0.0, self._closed_until - self._clock())

    def failed(self, error: ArchiveError, started: float, end: End = End.ARCHIVE) -> bool:
        """A request that began at `started` (monotonic) failed. Returns whether the line was to blame.

        Several that were under way together count as one failure.
        """
        if PLANS[error.failure].blame is not Blame.LINE:
            return False
        with self._lock:
            if started >= self._failed_at:
                self._in_a_row[end] = self._in_a_row.get(end, 0) + 1
                self._failed_at = self._clock()
                self._closed_until = self._failed_at + pause(error.failure, self._in_a_row[end], error.retry_after)
                if not self._errors:
                    self.since = time.time()
                self._errors[end] = error
        return True

    def succeeded(self, end: End = End.ARCHIVE) -> None:
        """A request got through to that end."""
        with self._lock:
            self.reached = True
            self._in_a_row.pop(end, None)
            if self._errors.pop(end, None) is not None and not self._errors:
                self.since = time.time()
            if not self._errors:
                self._closed_until = 0.0

    def open_now(self) -> None:
        """Someone knows that it is worth trying again at once."""
        with self._lock:
            self._closed_until = 0.0


class TokenBucket:
    """Holds all uploads together to the bandwidth that the time of day allows (a token bucket)."""

    def __init__(
        self,
        limits: Sequence[LimitConfig],
        clock: Callable[[], float] = time.monotonic,
        time_of_day: Callable[[], float] = lambda: seconds_of_day(datetime.now()),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._limits = [(of_day(limit.start), of_day(limit.end), limit.mbit * 125_000) for limit in limits]
        self._clock = clock
        self._time_of_day = time_of_day
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free_at = 0.0

    def rate(self) -> float | None:
        """Bytes a second that are allowed now (the least of what applies), or None without limit."""
        now = self._time_of_day()
        rates = [rate for start, end, rate in self._limits if (start <= now < end if start <= end else now >= start or now < end)]
        return min(rates, default=None)

    def take(self, count: int) -> None:
        """Account for `count` bytes that left; sleeps for as long as they should have taken."""
        rate = self.rate()
        if rate is None:
            return
        with self._lock:
            now = self._clock()
            self._free_at = max(self._free_at, now) + count / rate
            wait = self._free_at - now
        self._sleep(wait)


def of_day(text: str) -> float:
    """“08:30” → seconds since midnight."""
    hours, _, minutes = text.partition(":")
    return int(hours) * 3600.0 + int(minutes) * 60.0


def seconds_of_day(moment: datetime) -> float:
    return moment.hour * 3600.0 + moment.minute * 60.0 + moment.second
