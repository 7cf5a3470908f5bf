"""Sessions of people who signed in here: kept in memory, known by a random cookie, limited in time and number."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from forwarder.config import IdentityConfig
from forwarder.web.identity import Person

COOKIE = "contenitore_session"
AT_ONCE = 2000
OF_ONE_PERSON = 20
SIGN_IN_SECONDS = 600.0


@dataclass
class Session:
    """One browser: whose, and what a sign-in that is under way has to remember. Times are monotonic seconds."""

    began: float
    seen: float
    person: Person | None = None
    signing_in: dict[str, Any] = field(default_factory=dict)


class Sessions:
    """All of them; the oldest go where there are too many. A cookie is looked up by its hash."""

    def __init__(self, config: IdentityConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle, self._longest = config.session_minutes * 60.0, config.session_hours * 3600.0
        self._clock = clock
        self._lock = threading.Lock()
        self._all: dict[str, Session] = {}

    def get(self, cookie: str | None) -> Session | None:
        """The session of a cookie, while it lasts."""
        if not cookie:
            return None
        with self._lock:
            key, now = _hashed(cookie), self._clock()
            found = self._all.get(key)
            if found is None:
                return None
            if now - found.seen > self._idle or now - found.began > (self._longest if found.person else SIGN_IN_SECONDS):
                del self._all[key]
                return None
            found.seen = now
            return found

    def begin(self, person: Person | None = None) -> tuple[str, Session]:
        """(the cookie of a new session, the session); one for signing in where there is no person yet."""
        cookie, now = secrets.token_urlsafe(32), self._clock()
        key = _hashed(cookie)
        session = Session(now, now, replace(person, session=key) if person else None)
        with self._lock:
            while len(self._all) >= AT_ONCE:  # who only begins to sign in puts out nobody who has
                del self._all[next((key for key, session in self._all.items() if session.person is None), next(iter(self._all)))]
            if person is not None:
                same = [key for key, session in self._all.items() if session.person and session.person.name == person.name]
                for old in same[: max(0, len(same) - OF_ONE_PERSON + 1)]:
                    del self._all[old]
            self._all[key] = session
        return cookie, session

    def end(self, cookie: str | None) -> None:
        """Forget a session."""
        if cookie:
            with self._lock:
                self._all.pop(_hashed(cookie), None)


def _hashed(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("latin-1", "replace")).hexdigest()
