"""Days as forms name them, at the hospital: Europe/Rome."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from forwarder.web.identity import RefusedError

HERE = ZoneInfo("Europe/Rome")
YEAR = timedelta(days=365)
"""As long as a transfer lasts for which the archive is told no end."""


def today() -> date:
    """The day it is here."""
    return datetime.now(HERE).date()


def last_day(text: str) -> date:
    """The last day that a form names; a year from now where it names none. Raises RefusedError."""
    if not text:
        return today() + YEAR
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise RefusedError(400, "bad-form") from error


def end_of_day(day: date) -> str:
    """The last second of a day, as the archive writes moments (RFC 3339)."""
    end = datetime.combine(day, time(23, 59, 59), HERE)
    return end.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
