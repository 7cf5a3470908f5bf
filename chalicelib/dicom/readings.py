"""Numbers, dates and times as equipment writes them, read where they can mean one thing only (PS3.5 6.2).

Software under an Italian or German locale writes decimal commas, other software units, whole numbers with a point, dates with
hyphens or with the time behind them. What could mean two things, such as `10/01/2026`, is not read: a wrong date would show a
study to somebody who must not see it, or hide it from somebody who should.
"""

from __future__ import annotations

import math
import re
from datetime import date

_INTEGER = re.compile(r"[+-]?[0-9]{1,12}")
_WHOLE = re.compile(r"([+-]?[0-9]{1,12})[.,]0*")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eEdD][+-]?[0-9]{1,3})?")
_GROUPED = re.compile(r"[+-]?[0-9]{1,3}(?:(?:,[0-9]{3})+\.[0-9]+|(?:\.[0-9]{3})+,[0-9]+)")
_UNIT = re.compile(r"(?<=[0-9.,])[ \t]*[^\W\d_]*[%°µ²³]?[^\W\d_]*(?:/[^\W\d_]{1,4}[²³]?)?$")
_LONGEST_NUMBER = 64
_LONGEST_UNIT = 12

_DATE = re.compile(r"([0-9]{4})([-./:_ ]?)([0-9]{1,2})\2([0-9]{1,2})(?![0-9])(?!\s*[-/]\s*[0-9]{4})")
_DAY_FIRST = re.compile(r"([0-9]{1,2})([-./])([0-9]{1,2})\2([0-9]{4})(?![0-9])")
_DATE_AND_TIME = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})(?:[0-9]{2}){1,3}(?:[.,+-][0-9.+-]*)?")
_CLOCK = re.compile(r"([0-9]{1,2})(?:[:.]([0-9]{1,2})(?:[:.]([0-9]{1,2})(?:[.,:]([0-9]*))?)?)(?: ?([AaPp])\.?[Mm]\.?)?")
_DIGITS = re.compile(r"([0-9]{2})(?:([0-9]{2})(?:([0-9]{2})(?:[.,]?([0-9]*))?)?)?")
_LEADING_DATE = re.compile(
    r"((?:19|20)[0-9]{2}(?:[0-9]{4}|[-./][0-9]{1,2}[-./][0-9]{1,2}(?![0-9])))[ T]*(?=([0-9]{2}){0,3}(?![0-9]))"
)
_ZONE = re.compile(r"(?<=[0-9.])(?: ?(?:Z|UTC)|[+-][0-9]{2}:?[0-9]{2})$")


def integer(text: str) -> int | None:
    """An IS value; `3.0` is 3, `3.5` is none."""
    if _INTEGER.fullmatch(text):
        return int(text)
    if found := _WHOLE.fullmatch(text):
        return int(found[1])
    value = decimal(text)
    return int(value) if value is not None and float(value).is_integer() and abs(value) < 1e12 else None


def decimal(text: str) -> float | int | None:
    """A DS value; the decimal comma is a point, a unit behind the number is left away."""
    if _INTEGER.fullmatch(text):
        return int(text)
    if len(text) > _LONGEST_NUMBER:
        return None
    number = text if _DECIMAL.fullmatch(text) else _without_unit(text)
    if _GROUPED.fullmatch(number):
        thousands = "," if number.rfind(".") > number.rfind(",") else "."
        number = number.replace(thousands, "")
    number = number.replace(",", ".")
    if not _DECIMAL.fullmatch(number):
        return None
    if _INTEGER.fullmatch(number):
        return int(number)
    value = float(number.replace("d", "e").replace("D", "e"))
    return value if math.isfinite(value) else None


def _without_unit(text: str) -> str:
    found = _UNIT.search(text)
    unit = found[0].strip() if found else ""
    return text[: found.start()] if found and len(unit) <= _LONGEST_UNIT else text


def valid_date(text: str) -> str | None:
    """A DA value as eight digits; None for what is no day.

    Also with points, hyphens or strokes between year, month and day, in this order, and with a time or a zone behind it; or
    with the year last, where only one of the two others can be the month.
    """
    text = text.strip()
    if found := _DATE_AND_TIME.fullmatch(text):
        year, month, day = (int(found[group]) for group in (1, 2, 3))
    elif found := _DAY_FIRST.match(text):
        month, day = sorted((int(found[1]), int(found[3])))
        year = int(found[4])
        if day <= 12 and day != month:
            return None
    else:
        found = _DATE.match(text)
        if not found or (not found[2] and len(found[3] + found[4]) != 4):
            return None
        year, month, day = (int(found[group]) for group in (1, 3, 4))
    try:
        date(year, month, day)
    except ValueError:
        return None
    return f"{year:04}{month:02}{day:02}"


def valid_time(text: str) -> str | None:
    """A TM value without colons, its fraction of six digits at the most; None for what is no time of day.

    Also with a point or comma and no digits, with seven digits of a fraction and more, with a zone, of twelve hours, and
    behind a date.
    """
    text = _without_date(_ZONE.sub("", text.strip()[:_LONGEST_NUMBER]))
    found = _CLOCK.fullmatch(text)
    half = found[5] if found else None
    found = found or _DIGITS.fullmatch(text)
    if not found:
        return None
    hours, minutes, seconds, fraction = found[1], found[2], found[3], found[4]
    hour = int(hours)
    if half:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half in "Pp" else 0)
    if hour > 23 or int(minutes or 0) > 59 or int(seconds or 0) > 60:
        return None
    whole = "".join(f"{int(part):02}" for part in (minutes, seconds) if part is not None)
    return f"{hour:02}{whole}" + (f".{fraction[:6]}" if fraction else "")


def _without_date(text: str) -> str:
    """The time behind a date; the text as it is where it begins with none."""
    found = _LEADING_DATE.match(text)
    return text[found.end() :] if found and valid_date(found[1]) else text
