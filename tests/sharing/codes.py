"""Codici fiscali that cannot belong to anybody: for surname and name they have three times X, which none makes."""

from __future__ import annotations

import uuid

from codicefiscale import codicefiscale

MONTHS = "ABCDEHLMPRST"
OMOCODIA = "LMNPQRSTUV"
_DIGITS = (6, 7, 9, 10, 12, 13, 14)


def fiscal_code(birth: str = "19600315", sex: str = "F", place: str = "F205") -> str:
    """A valid code for a birth date (YYYYMMDD) and sex."""
    day = int(birth[6:]) + (40 if sex == "F" else 0)
    body = f"XXXXXX{birth[2:4]}{MONTHS[int(birth[4:6]) - 1]}{day:02d}{place}"
    return body + codicefiscale.encode_cin(body)


def somebodys_code(birth: str, sex: str) -> str:
    """A valid code of somebody born then, at a place by chance: one of twenty numbers of places is none's."""
    while True:
        code = fiscal_code(birth, sex, f"H{uuid.uuid4().int % 900 + 100}")
        if codicefiscale.is_valid(code):
            return code


def omocode(code: str, places: int = 1) -> str:
    """The same code as it is given out to the second, third … person with it: digits replaced by letters from the right."""
    body = list(code[:15])
    for position in _DIGITS[::-1][:places]:
        body[position] = OMOCODIA[int(body[position])]
    text = "".join(body)
    return text + codicefiscale.encode_cin(text)
