"""One error tree. Every message is a sentence that a PACS administrator can act on, without patient data.

ForwarderError
├── ConfigError          a configuration file or an argument is wrong
├── SpoolError           the disk refused, or the journal cannot be used
└── ArchiveError         the archive, or the line to it; `.failure` says which kind
"""

from __future__ import annotations

from enum import Enum

from forwarder.alerts import Trouble


class Failure(Enum):
    """The kinds of failure between forwarder and archive. What to do about each: `forwarder.archive.retry.PLANS`."""

    NETWORK = "network"  # no route, connection cut, time-out, TLS trouble
    THROTTLED = "throttled"  # 429, 503 with Retry-After
    SERVER = "server"  # 5xx
    SKEW = "clock-skew"  # the signature's time is not the server's time
    CREDENTIALS = "credentials"  # none, or expired
    REFUSED = "refused"  # signed well, but by nobody the archive knows
    EXPIRED_URL = "expired-url"  # the presigned PUT is too old
    BUSY = "busy"  # 409: the same object is just being written
    INSTANCE = "instance"  # these bytes and no others were refused
    ABSENT = "study-not-there"  # a report came before its study
    PROTOCOL = "protocol"  # an answer that the contract does not know


class ForwarderError(Exception):
    """The root; its text is meant for the user."""


class ConfigError(ForwarderError):
    """The configuration or the command line is wrong; the text names the key."""


class SpoolError(ForwarderError):
    """The spool's disk refused to write or to read."""


class ArchiveError(ForwarderError):
    """A call to the archive failed.

    `failure` is the kind, `retry_after` what the archive asked for (seconds), or None. `trouble` names what is wrong to
    people, more exactly than the kind where that is known; `host` is which of the archive's hosts it concerns.
    """

    def __init__(
        self, message: str, failure: Failure, retry_after: float | None = None, trouble: Trouble | None = None, host: str = ""
    ) -> None:
        super().__init__(message)
        self.failure = failure
        self.retry_after = retry_after
        self.trouble: str = trouble or failure.value
        self.host = host
