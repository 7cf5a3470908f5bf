"""Dates, times and date-times as search keys: single values and ranges (PS3.4 C.2.2.2.1 and C.2.2.2.5,
PS3.5 6.2).

A value of less precision than a day or a microsecond stands for all that it covers: as the lower end of a
range for its first moment, as the upper end for its last. A stored value stands for its first moment.
Everything is compared as text of fixed width (`YYYYMMDD`, `HHMMSSffffff`, both together), so no calendar
arithmetic is needed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta

_DATE = re.compile(r"(\d{4})(\d{2})(\d{2})|(\d{4})\.(\d{2})\.(\d{2})")
_TIME = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2})(?:\.(\d{1,6}))?)?)?")
_DATETIME = re.compile(r"(\d{4})(?:(\d{2})(?:(\d{2})(\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?)?)?)?([+-]\d{4})?")

Interval = tuple[str, str]
"""First and last moment that a value covers."""


@dataclass(frozen=True, slots=True)
class Range:
    """All moments from `first` to `last`, both included; None where a range is open (PS3.4 C.2.2.2.5)."""

    first: str | None
    last: str | None
    hyphen: bool = False
    """Whether it was written as a range, with a hyphen."""

    @property
    def form(self) -> tuple[bool, bool, bool]:
        """Which of the three forms of a range it has: only the same form of date and time combines."""
        return self.hyphen, self.first is not None, self.last is not None

    @property
    def in_order(self) -> bool:
        """Whether it does not end before it begins."""
        return self.first is None or self.last is None or self.first <= self.last

    def contains(self, moment: str) -> bool:
        """Whether a moment, as text of the same width, lies in it."""
        return (self.first is None or self.first <= moment) and (self.last is None or moment <= self.last)


def parse_date(text: str) -> Interval | None:
    """The day that a DA stands for, as (`YYYYMMDD`, the same); also the old form `YYYY.MM.DD`. None if it
    is none.
    """
    found = _DATE.fullmatch(text)
    if not found:
        return None
    year, month, day = (int(part) for part in found.groups() if part is not None)
    try:
        day_text = date(year, month, day).strftime("%Y%m%d").rjust(8, "0")
    except ValueError:
        return None
    return day_text, day_text


def parse_time(text: str) -> Interval | None:
    """The first and last microsecond that a TM covers, as `HHMMSSffffff`; also the old form with colons.
    None if it is none.
    """
    found = _TIME.fullmatch(text)
    if not found:
        return None
    hour, minute, second, fraction = found.groups()
    if int(hour) > 23 or int(minute or 0) > 59 or int(second or 0) > 60:
        return None
    first = hour + (minute or "00") + (second or "00") + (fraction or "").ljust(6, "0")
    last = hour + (minute or "59") + (second or "59") + (fraction or "").ljust(6, "9")
    return first, last


def parse_datetime(text: str) -> Interval | None:
    """The first and last microsecond that a DT covers, as `YYYYMMDDHHMMSSffffff`; None if it is none.

    With an offset from UTC, the moments are in UTC; without one, they are as written.
    """
    found = _DATETIME.fullmatch(text)
    if not found:
        return None
    year, month, day, time_text, offset = found.groups()
    first_day = parse_date(f"{year}{month or '01'}{day or '01'}")
    last_day = parse_date(f"{year}{month or '12'}{day}") if day else _last_day(year, month or "12")
    time = parse_time(time_text) if time_text else ("000000000000", "235959999999")
    if first_day is None or last_day is None or time is None:
        return None
    first, last = first_day[0] + time[0], last_day[0] + time[1]
    if offset is None:
        return first, last
    minutes = int(offset[0] + "1") * (int(offset[1:3]) * 60 + int(offset[3:5]))
    if not -12 * 60 <= minutes <= 14 * 60 or int(offset[3:5]) > 59:
        return None
    try:
        return _to_utc(first, minutes), _to_utc(last, minutes)
    except (ValueError, OverflowError):
        return None


def _last_day(year: str, month: str) -> Interval | None:
    for day in ("31", "30", "29", "28"):
        found = parse_date(year + month + day)
        if found:
            return found
    return None


def _to_utc(moment: str, minutes: int) -> str:
    leap = moment[12:14] == "60"  # a leap second, which datetime does not know
    whole = moment[:12] + ("59" if leap else moment[12:14])
    shifted = datetime.strptime(whole, "%Y%m%d%H%M%S") - timedelta(minutes=minutes)
    return f"{shifted.year:04d}{shifted:%m%d%H%M}" + moment[12:]


_PARSERS = {"DA": parse_date, "TM": parse_time, "DT": parse_datetime}


def parse_range(vr: str, text: str) -> Range | None:
    """A DA, TM or DT key: one value or `a-b`, `a-`, `-b` with a ≤ b; None if it is neither.

    In a DT, a hyphen may also begin an offset from UTC: a single value is preferred to a range, and of two
    readings as a range the one whose ends are in order (PS3.4 C.2.2.2.5.3).
    """
    parse = _PARSERS[vr]
    text = text.strip()
    single = parse(text)
    if single:
        return Range(*single)
    for at in (i for i, c in enumerate(text) if c == "-"):
        left, right = text[:at].strip(), text[at + 1 :].strip()
        first, last = parse(left), parse(right)
        if (left and first is None) or (right and last is None) or not (left or right):
            continue
        if vr != "DT" or first is None or last is None or first[0] <= last[1]:
            return Range(first[0] if first else None, last[1] if last else None, hyphen=True)
    return None


def stored_moment(vr: str, value: object) -> str | None:
    """The first moment of a stored DA, TM or DT, as text of fixed width; None if it is not one."""
    parsed = _PARSERS[vr](value.strip()) if isinstance(value, str) else None
    return parsed[0] if parsed else None


def combine(dates: Range, times: Range) -> Range | None:
    """A date range and a time range of the same form, as one range of date and time (PS3.4 C.2.2.2.5); else
    None.

    Study Date `20060705-20060707` with Study Time `1000-1800` means from the 5th at 10:00 to the 7th at
    18:00. The times need not be in order unless the days are the same.
    """
    if not dates.hyphen or dates.form != times.form:
        return None
    first = dates.first + times.first if dates.first is not None and times.first is not None else None
    last = dates.last + times.last if dates.last is not None and times.last is not None else None
    return Range(first, last, hyphen=True)
