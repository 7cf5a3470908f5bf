"""What is decided in pure code: pauses, the window, the limiter, the ranks."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3 import HTTPResponse

from forwarder.archive import link
from forwarder.archive.client import classify, failed
from forwarder.archive.link import ConcurrencyWindow, End, Link, TokenBucket, of_day
from forwarder.archive.retry import PLANS, bound, pause
from forwarder.config import LimitConfig, UrgentConfig
from forwarder.errors import ArchiveError, Failure
from forwarder.spool.instances import About
from forwarder.upload.priority import Ranks


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_every_kind_of_failure_has_a_plan():
    assert set(PLANS) == set(Failure)


@given(st.sampled_from(Failure), st.integers(1, 500), st.floats(0, 1e6))
def test_a_pause_is_jittered_bounded_and_never_less_than_asked(failure, attempt, asked):
    plan = PLANS[failure]
    assert 0 <= pause(failure, attempt) <= plan.greatest
    assert pause(failure, attempt, asked) >= min(asked, 900)
    assert bound(plan, attempt) <= bound(plan, attempt + 1)


def test_jitter_is_full():
    rng = random.Random(1)
    drawn = [pause(Failure.NETWORK, 8, draw=rng.uniform) for _ in range(500)]
    assert min(drawn) < 2 and max(drawn) > 55


def test_failures_in_a_row_are_counted_for_each_end(monkeypatch: pytest.MonkeyPatch):
    """Else, once the store had failed last and had nothing more to take, pauses grew with each lost answer of the archive."""
    monkeypatch.setattr(link, "pause", lambda failure, attempt, _: bound(PLANS[failure], attempt))
    clock = Clock()
    line = Link(clock)
    lost = ArchiveError("The answer did not come.", Failure.NETWORK)
    line.failed(lost, clock(), End.STORE)
    pauses = []
    for _ in range(10):
        clock.sleep(100)
        line.failed(lost, clock())
        pauses.append(line.closed_for())
        clock.sleep(100)
        line.succeeded()
    assert pauses == [PLANS[Failure.NETWORK].first] * 10
    line.failed(lost, clock(), End.STORE)
    assert line.closed_for() == bound(PLANS[Failure.NETWORK], 2)


def test_an_answer_of_the_archive_says_nothing_of_its_store():
    line = Link(Clock())
    assert not line.reached
    blocked = ArchiveError("A proxy answers.", Failure.REFUSED)
    line.succeeded()
    line.failed(blocked, 1.0, End.STORE)
    line.succeeded()
    assert line.error is blocked and line.reached
    line.succeeded(End.STORE)
    assert line.error is None and line.closed_for() == 0


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (503, "<Error><Code>SlowDown</Code></Error>", Failure.THROTTLED),
        (429, '{"message": "Too Many Requests"}', Failure.THROTTLED),
        (500, "", Failure.SERVER),
        (504, '{"message": "Endpoint request timed out"}', Failure.SERVER),
        (403, '{"message": "Signature expired: 1 is now earlier than 2"}', Failure.SKEW),
        (403, '{"message": "Signature not yet current"}', Failure.SKEW),
        (403, '{"message": "The security token included in the request is expired"}', Failure.CREDENTIALS),
        (400, "<Error><Code>ExpiredToken</Code></Error>", Failure.EXPIRED_URL),
        (400, "<Error><Code>RequestTimeout</Code></Error>", Failure.NETWORK),
        (403, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>", Failure.REFUSED),
        (407, "<html>a proxy that wants a password</html>", Failure.REFUSED),
        (404, "<html>a page of something else</html>", Failure.PROTOCOL),
        (
            403,
            "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>",
            Failure.EXPIRED_URL,
        ),
        (403, '{"type": "urn:contenitore:problem:unknown-institution"}', Failure.REFUSED),
        (409, "<Error><Code>ConditionalRequestConflict</Code></Error>", Failure.BUSY),
        (400, "<Error><Code>BadDigest</Code></Error>", Failure.INSTANCE),
        (413, '{"detail": "too large"}', Failure.INSTANCE),
        (302, "", Failure.PROTOCOL),
    ],
)
def test_answers_are_told_apart(status, body, kind):
    assert classify(status, body) is kind


@pytest.mark.parametrize(
    "body",
    [
        b'{"message": "not authorized"}',
        b'{"Message": "not authorized"}',
        b'{"title": "not", "detail": "not authorized"}',
        b"<Error><Code>AccessDenied</Code><Message>not authorized</Message></Error>",
    ],
)
def test_what_gateway_iam_archive_and_store_say_is_told(body: bytes):
    assert str(failed(HTTPResponse(body, status=403), "GET /health")) == "GET /health was answered with 403: not authorized"


class TestWindow:
    def run(self, window: ConcurrencyWindow, clock: Clock, capacity: float, seconds: int, each: float) -> None:
        """A line that carries `capacity` bytes a second and each upload at most `each`."""
        for _ in range(seconds):
            rate = min(capacity, each * window.limit)
            clock.now += 1
            window.succeeded(int(rate), window.limit)

    def test_it_climbs_while_that_brings_more_and_stops_where_the_line_is_full(self):
        clock = Clock()
        window = ConcurrencyWindow(32, clock)
        self.run(window, clock, capacity=10e6, seconds=30, each=1e6)
        assert 8 <= window.limit <= 16

    def test_it_goes_to_the_bound_on_a_line_without_one(self):
        clock = Clock()
        window = ConcurrencyWindow(16, clock)
        self.run(window, clock, capacity=1e12, seconds=30, each=1e6)
        assert window.limit == 16

    def test_a_complaint_halves_it_and_it_never_falls_below_one(self):
        window = ConcurrencyWindow(16, Clock())
        window.limit = 16
        window.failed()
        assert window.limit == 8
        for _ in range(10):
            window.failed()
        assert window.limit == 1

    def test_it_gives_way_when_the_line_gets_worse(self):
        clock = Clock()
        window = ConcurrencyWindow(32, clock)
        self.run(window, clock, capacity=50e6, seconds=30, each=2e6)
        high = window.limit
        self.run(window, clock, capacity=2e6, seconds=10, each=2e6)
        assert window.limit < high

    def test_an_idle_line_teaches_nothing(self):
        clock = Clock()
        window = ConcurrencyWindow(32, clock)
        for _ in range(30):
            clock.now += 1
            window.succeeded(1000, in_flight=1)
        assert window.limit == 2


class TestLine:
    error = ArchiveError("cut", Failure.NETWORK)

    def test_failures_that_were_under_way_together_count_once(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(link, "pause", lambda failure, attempt, _: float(attempt))
        clock = Clock()
        line = Link(clock)
        for _ in range(50):
            clock.now = 10.0
            assert line.failed(self.error, started=5.0 if line.error is None else 9.0)
        assert line.closed_for() == 1

    def test_one_success_opens_it(self):
        clock = Clock()
        line = Link(clock)
        line.failed(ArchiveError("busy", Failure.THROTTLED, retry_after=30), started=0.0)
        assert line.closed_for() >= 29
        line.succeeded()
        assert line.closed_for() == 0 and line.error is None

    def test_an_instances_own_failure_does_not_close_it(self):
        line = Link(Clock())
        assert not line.failed(ArchiveError("bad", Failure.INSTANCE), started=0.0)
        assert line.closed_for() == 0


class TestLimiter:
    def test_it_holds_the_line_to_the_rate_of_the_hour(self):
        clock = Clock()
        limiter = TokenBucket([LimitConfig("08:00", "18:00", 8.0)], clock, lambda: of_day("09:00"), clock.sleep)
        for _ in range(100):
            limiter.take(100_000)
        assert clock.now == pytest.approx(10.0)

    def test_outside_the_hours_the_line_is_free(self):
        clock = Clock()
        limiter = TokenBucket([LimitConfig("08:00", "18:00", 1.0)], clock, lambda: of_day("20:00"), clock.sleep)
        limiter.take(10**9)
        assert clock.now == 0

    @pytest.mark.parametrize(("hour", "limited"), [("23:00", True), ("03:00", True), ("12:00", False)])
    def test_a_night_goes_past_midnight(self, hour, limited):
        limiter = TokenBucket([LimitConfig("22:00", "06:00", 1.0)], time_of_day=lambda: of_day(hour))
        assert (limiter.rate() is not None) == limited


RULES = [UrgentConfig(modality=["CR", "DX"]), UrgentConfig(calling=["ER_CT"])]


class TestRanks:
    def test_the_newest_urgent_study_is_first_and_studies_stay_together(self):
        clock = Clock()
        ranks = Ranks(RULES, clock)
        seen = []
        for name, about in (
            ("ct", About(study="1", modality="CT")),
            ("old", About(study="2", modality="CR")),
            ("new", About(study="3", modality="CT", calling="ER_CT")),
            ("old", About(study="2", modality="CR")),
            ("ct", About(study="4", modality="CT")),
        ):
            clock.now += 1
            seen.append((ranks(about), name))
        assert [name for _, name in sorted(seen)] == ["new", "old", "old", "ct", "ct"]

    def test_a_rule_that_gives_nothing_matches_nothing(self):
        assert Ranks([UrgentConfig()], lambda: 5.0)(About(modality="CR")) == 5.0
