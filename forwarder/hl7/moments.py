"""Moments as HL7 v2 writes them (TS, DTM: YYYYMMDD[HH[MM[SS[.ffff]]]][+ZZZZ], v2.5.1 2.A.77), at the hospital."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

HOSPITAL_TIME = ZoneInfo("Europe/Rome")
EARLIEST = 1850
"""The first year that is meant: for a moment that they do not know, databases write their first one (0001, 1753, 1840)."""
_MOMENT = re.compile(r"(\d{8})(?:(\d{2})(?:(\d{2})(?:(\d{2})(?:\.\d+)?)?)?)?([+-]\d{4})?")
_WRITTEN_OUT = re.compile(r"(\d{4})[-./](\d{2})[-./](\d{2})|(\d{8})(?=[T ])")
_CLOCK = re.compile(r"[T ]*(\d{2}):?(\d{2})(?::?(\d{2})(?:[.,]\d+)?)? ?(?:([+-]\d{2}):?(\d{2})|(Z))?")


def at_the_hospital(text: str) -> str:
    """YYYYMMDDHHMMSS at the hospital, or YYYYMMDD where only the day is given; "" for what is no moment.

    Also as databases write them: with signs between year, month and day, in this order, and between hour and minute.
    """
    found = _MOMENT.fullmatch(_plain(text.strip()))
    if not found:
        return ""
    day, hour, minute, second, zone = found.groups()
    try:
        moment = datetime.strptime(f"{day}{hour or '00'}{minute or '00'}{second or '00'}", "%Y%m%d%H%M%S")
        if hour and zone:
            moment = datetime.strptime(f"{moment:%Y%m%d%H%M%S}{zone}", "%Y%m%d%H%M%S%z").astimezone(HOSPITAL_TIME)
    except (ValueError, OverflowError):
        return ""
    if moment.year < EARLIEST:
        return ""
    return f"{moment:%Y%m%d%H%M%S}" if hour else day


def _plain(text: str) -> str:
    """A moment without the signs that may stand in it; the text as it is where it is none."""
    day = _WRITTEN_OUT.match(text)
    if not day:
        return text
    clock = _CLOCK.fullmatch(text, day.end())
    if not clock:
        return text if day.end() < len(text) else "".join(filter(None, day.groups()))
    hour, minute, second, east, west, utc = clock.groups()
    return (
        "".join(filter(None, day.groups())) + hour + minute + (second or "") + ("+0000" if utc else (east or "") + (west or ""))
    )


def moment_at_the_hospital(seconds: float) -> str:
    """Seconds since the epoch as YYYYMMDDHHMMSS.ffffff at the hospital."""
    return f"{datetime.fromtimestamp(seconds, UTC).astimezone(HOSPITAL_TIME):%Y%m%d%H%M%S.%f}"
