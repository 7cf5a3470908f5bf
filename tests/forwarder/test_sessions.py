"""How long a person is known in a browser, and how its session ends."""

from __future__ import annotations

from forwarder.config import IdentityConfig
from forwarder.web.identity import Person, Role
from forwarder.web.sessions import AT_ONCE, SIGN_IN_SECONDS, Sessions

ANNA = Person("anna", frozenset({Role.REGISTRY}))
MINUTE, HOUR = 60.0, 3600.0


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def sessions() -> tuple[Sessions, Clock]:
    clock = Clock()
    return Sessions(IdentityConfig(session_minutes=30, session_hours=10), clock), clock


def test_each_request_prolongs_it_up_to_the_end() -> None:
    found, clock = sessions()
    cookie, _ = found.begin(ANNA, "token")
    for _ in range(20):
        clock.now += 29 * MINUTE
        session = found.get(cookie)
        assert session is not None and session.id_token == "token" and not found.lapsed(cookie)
    clock.now += 29 * MINUTE
    assert found.get(cookie) is None and found.lapsed(cookie)


def test_one_that_nobody_used_lapsed_and_one_that_was_ended_did_not() -> None:
    found, clock = sessions()
    left, ended = found.begin(ANNA)[0], found.begin(ANNA)[0]
    found.end(ended)
    clock.now += 31 * MINUTE
    for _ in range(2):
        assert found.get(left) is None and found.lapsed(left), "as often as it is asked for"
    assert not found.lapsed(ended) and not found.lapsed("another") and not found.lapsed(None)


def test_a_sign_in_that_nobody_finished_was_nobodys() -> None:
    found, clock = sessions()
    cookie, _ = found.begin()
    clock.now += SIGN_IN_SECONDS + 1
    assert found.get(cookie) is None and not found.lapsed(cookie)


def test_where_there_are_too_many_those_that_lapsed_go_before_one_that_is_used() -> None:
    found, clock = sessions()
    used, _ = found.begin(ANNA)
    left = found.begin(Person("left", ANNA.roles))[0]
    clock.now += 20 * MINUTE
    assert found.get(used)
    clock.now += 20 * MINUTE
    for number in range(AT_ONCE - 1):
        found.begin(Person(f"p{number}", ANNA.roles))
    assert found.get(used) and not found.lapsed(left)
