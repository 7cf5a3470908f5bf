"""Moments as texts: how the archive writes them, keeps them, and reads them in requests (RFC 3339)."""

from __future__ import annotations

from datetime import UTC, datetime

from chalicelib.domain.errors import BadRequest

_LONGEST = 40


def iso(moment: datetime) -> str:
    """An aware moment in UTC with milliseconds, which sorts as text."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def kept_moment(text: object) -> datetime:
    """The moment that the archive wrote, or that AWS tells. Raises ValueError."""
    return datetime.fromisoformat(str(text))


def parse_moment(text: object, parameter: str) -> datetime:
    """A moment of a request with its offset from UTC, to the millisecond, as it is kept. Raises BadRequest naming `parameter`."""
    moment = None
    if isinstance(text, str) and len(text) <= _LONGEST:
        try:
            moment = datetime.fromisoformat(text)
            utc = moment.astimezone(UTC)
        except (ValueError, OverflowError):
            moment = None
    if moment is None or moment.tzinfo is None:
        raise BadRequest(f"{parameter} must be an RFC 3339 time with its offset, such as 2026-03-01T12:00:00Z.", parameter)
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)
