"""The whole error tree. `api/problems.py` holds the one table from error to HTTP.

    ContenitoreError
    ├── BadRequest             what cannot be parsed, or breaks a limit
    ├── UnknownInstitution     a valid signature of a role that nobody registered
    ├── Forbidden              the caller is known, and this is not its to do
    ├── NotFound               absent, not shared, or hidden: all three look the same
    ├── Conflict               the same key already stands for something else
    ├── PreconditionFailed     it has changed since the caller saw it
    ├── Gone                   a reading session that has ended
    │   └── OpenedElsewhere    a link that another browser opened
    ├── NotAcceptable          no representation fits Accept
    ├── UnsupportedMediaType   a body of a type that is not taken here
    ├── TooLarge               over a limit; says which way works
    ├── TooMany                more of the same in a time than is let through
    └── TryAgain               the cloud under us is throttled or unavailable

No text here may carry personal data: a detail names parameters, limits and tags, never values of patients.
"""

from __future__ import annotations

from collections.abc import Mapping


class ContenitoreError(Exception):
    """Base of all expected errors."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class BadRequest(ContenitoreError):
    """A request that cannot be understood; `parameter` names the part at fault."""

    def __init__(self, detail: str, parameter: str | None = None) -> None:
        super().__init__(detail)
        self.parameter = parameter


class UnknownInstitution(ContenitoreError):
    """Signed by a role that no institution has registered."""

    def __init__(self) -> None:
        super().__init__("The role that signed this request is not registered for any institution.")


class Forbidden(ContenitoreError):
    """The caller may know that this exists, but may not do it."""


class NotFound(ContenitoreError):
    """Absent, not shared with the caller, or hidden. One text for all, so that they cannot be told apart."""

    def __init__(self) -> None:
        super().__init__("There is nothing here that you may see.")


class Conflict(ContenitoreError):
    """The request contradicts what is already recorded.

    `count` says how many there are where one was meant; `stands` what is recorded, to the caller who may read it.
    """

    def __init__(self, detail: str, count: int | None = None, *, stands: Mapping[str, object] | None = None) -> None:
        super().__init__(detail)
        self.count = count
        self.stands = stands


class PreconditionFailed(ContenitoreError):
    """What the request is about is no longer as its If-Match says (RFC 9110 13.1.1)."""

    def __init__(self) -> None:
        super().__init__("This has changed since. Please look at it again.")


class Gone(ContenitoreError):
    """What the link opened has ended."""


class OpenedElsewhere(Gone):
    """The link was opened before, and not by this browser."""

    def __init__(self) -> None:
        super().__init__("This link was opened before, in another browser. Please have a new one made.")


class NotAcceptable(ContenitoreError):
    """None of the representations offered fits the request's Accept."""


class UnsupportedMediaType(ContenitoreError):
    """The body's media type is not taken here."""


class TooLarge(ContenitoreError):
    """Over a size limit; the detail names the way that works."""


class TooMany(ContenitoreError):
    """More of the same within a time than is let through; there is room again after `retry_after` seconds."""

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class TryAgain(ContenitoreError):
    """The storage below is throttled or unavailable; nothing was lost, and the same request will work later."""

    def __init__(self, detail: str = "The archive is busy. Please send the same request again.", retry_after: int = 2) -> None:
        super().__init__(detail)
        self.retry_after = retry_after
