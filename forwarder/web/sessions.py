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
AGAIN = "contenitore_again"
"""The cookie of a browser in which somebody signed out or left: whoever signs in there next shows who they are."""
AT_ONCE = 2000
OF_ONE_PERSON = 20
SIGN_IN_SECONDS = 600.0
TABS = 20


@dataclass
class Session:
    """One browser: whose, and by which ID token. Times are monotonic seconds.

    `signing_in`: by state, what each tab's sign-in has to remember. `leave`: where the provider is told that this browser signed
    out, and `state`: what comes back then.
    """

    began: float
    seen: float
    person: Person | None = None
    id_token: str = ""
    leave: str = ""
    state: str = ""
    signing_in: dict[str, dict[str, Any]] = field(default_factory=dict)

    def remember(self, state: str, *, back: str) -> None:
        """A sign-in begins, which leads to this path; the oldest of too many is forgotten."""
        while len(self.signing_in) >= TABS:
            del self.signing_in[next(iter(self.signing_in))]
        self.signing_in[state] = {"back": back}


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
            found = self._all.get(_hashed(cookie))
            if found is None or self._over(found):
                return None
            found.seen = self._clock()
            return found

    def lapsed(self, cookie: str | None) -> Person | None:
        """Whose it was, who did not sign out."""
        with self._lock:
            found = self._all.get(_hashed(cookie or ""))
            return found.person if found is not None and self._over(found) else None

    def _over(self, session: Session) -> bool:
        now, longest = self._clock(), self._longest if session.person else SIGN_IN_SECONDS
        return now - session.seen > self._idle or now - session.began > longest

    def signing_in(self, cookie: str | None) -> tuple[str, Session]:
        """(cookie, session) to sign in with: those of another tab that signs in now, else new ones."""
        found = self.get(cookie)
        if not cookie or not found or found.person or not found.signing_in:
            return self.begin()
        found.began = found.seen
        return cookie, found

    def begin(self, person: Person | None = None, id_token: str = "") -> tuple[str, Session]:
        """(the cookie of a new session, the session); one for signing in where there is no person yet."""
        cookie, now = secrets.token_urlsafe(32), self._clock()
        key = _hashed(cookie)
        session = Session(now, now, replace(person, session=key) if person else None, id_token)
        with self._lock:
            while len(self._all) >= AT_ONCE:  # who only begins to sign in puts out nobody who has
                useless = (key for key, session in self._all.items() if session.person is None or self._over(session))
                del self._all[next(useless, next(iter(self._all)))]
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
