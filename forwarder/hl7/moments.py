"""Moments as HL7 v2 writes them (TS, DTM: YYYYMMDD[HH[MM[SS[.ffff]]]][+ZZZZ], v2.5.1 2.A.77), at the hospital."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

HOSPITAL_TIME = ZoneInfo("Europe/Rome")
EARLIEST = 1850
"""The first year that is meant: for a moment that they do not know, databases write their first one (0001, 1753, 1840)."""
_MOMENT = re.compile(r"(\d{8})(?:(\d{2})(?:(\d{2})(?:(\d{2})(?:\.\d+)?)?)?)?([+-]\d{4})?")
_WRITTEN_OUT = re.compile(r"(\d{4})[-./](\d{2})[-./](\d{2})|(\d{8})(?=[T ])")
_KEPT = re.compile(r"(\d{8})(\d{6})?(?:\.(\d{1,6}))?([+-]\d{4})?")
_CLOCK = re.compile(r"[T ]*(\d{2}):?(\d{2})(?::?(\d{2})(?:[.,]\d+)?)? ?(?:([+-]\d{2}):?(\d{2})|(Z))?")


def at_the_hospital(text: str) -> str:
    """YYYYMMDDHHMMSS at the hospital, or YYYYMMDD where only the day is given; "" for what is no moment.

    In the hour that comes twice when summer time ends, a moment that was written with an offset has the hospital's after it
    (+0200, then +0100). One without an offset cannot be told apart, and is taken to be of the first time (`moment_of`).

    Also as databases write them: with signs between year, month and day, in this order, and between hour and minute.
    """
    found = _MOMENT.fullmatch(_plain(text.strip()))
    if not found:
        return ""
    day, hour, minute, second, zone = found.groups()
    try:
        moment = datetime.strptime(f"{day}{hour or '00'}{minute or '00'}{second or '00'}", "%Y%m%d%H%M%S")
        offset = ""
        if hour and zone:
            moment = datetime.strptime(f"{moment:%Y%m%d%H%M%S}{zone}", "%Y%m%d%H%M%S%z").astimezone(HOSPITAL_TIME)
            offset = _offset_where_needed(moment)
    except (ValueError, OverflowError):
        return ""
    if moment.year < EARLIEST:
        return ""
    return f"{moment:%Y%m%d%H%M%S}{offset}" if hour else day


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
    """Seconds since the epoch as YYYYMMDDHHMMSS.ffffff at the hospital, with the offset in the hour that comes twice."""
    moment = datetime.fromtimestamp(seconds, UTC).astimezone(HOSPITAL_TIME)
    return f"{moment:%Y%m%d%H%M%S.%f}{_offset_where_needed(moment)}"


def _offset_where_needed(moment: datetime) -> str:
    """The offset of a moment at the hospital whose date and time are those of another moment too, or ""."""
    other = moment.replace(fold=1 - moment.fold)
    return "" if moment.utcoffset() == other.utcoffset() else f"{moment:%z}"


def with_fraction(moment: str, digits: str) -> str:
    """A moment at the hospital with a fraction of its second; a day stays a day."""
    return f"{moment[:14]}.{digits}{moment[14:]}" if len(moment) > 8 else moment


def moment_of(text: str) -> datetime:
    """What was kept as YYYYMMDD[HHMMSS[.f]][+ZZZZ] at the hospital, in UTC: only so do moments sort and compare.

    A day is its midnight. What has no offset in the hour that comes twice is of the first time, as in what was kept before
    offsets were. Raises ValueError for another text.
    """
    found = _KEPT.fullmatch(text)
    if not found:
        raise ValueError("This is no moment at the hospital.")
    day, clock, fraction, zone = found.groups()
    moment = datetime.strptime(f"{day}{clock or '000000'}", "%Y%m%d%H%M%S").replace(tzinfo=HOSPITAL_TIME)
    if zone:
        moment = moment.replace(tzinfo=datetime.strptime(zone, "%z").tzinfo)
    return moment.astimezone(UTC) + timedelta(microseconds=int((fraction or "").ljust(6, "0")))
