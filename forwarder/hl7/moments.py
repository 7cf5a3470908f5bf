"""Moments as HL7 v2 writes them (TS, DTM: YYYYMMDD[HH[MM[SS[.ffff]]]][+ZZZZ], v2.5.1 2.A.77), at the hospital."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

HOSPITAL_TIME = ZoneInfo("Europe/Rome")
_MOMENT = re.compile(r"(\d{8})(?:(\d{2})(?:(\d{2})(?:(\d{2})(?:\.\d+)?)?)?)?([+-]\d{4})?")


def at_the_hospital(text: str) -> str:
    """YYYYMMDDHHMMSS at the hospital, or YYYYMMDD where only the day is given; "" for what is no moment."""
    found = _MOMENT.fullmatch(text.strip())
    if not found:
        return ""
    day, hour, minute, second, zone = found.groups()
    try:
        moment = datetime.strptime(f"{day}{hour or '00'}{minute or '00'}{second or '00'}", "%Y%m%d%H%M%S")
        if hour and zone:
            moment = datetime.strptime(f"{moment:%Y%m%d%H%M%S}{zone}", "%Y%m%d%H%M%S%z").astimezone(HOSPITAL_TIME)
    except (ValueError, OverflowError):
        return ""
    return f"{moment:%Y%m%d%H%M%S}" if hour else day


def moment_at_the_hospital(seconds: float) -> str:
    """Seconds since the epoch as YYYYMMDDHHMMSS.ffffff at the hospital."""
    return f"{datetime.fromtimestamp(seconds, UTC).astimezone(HOSPITAL_TIME):%Y%m%d%H%M%S.%f}"
