"""The codice fiscale, checked and decoded by its library."""

from __future__ import annotations

from dataclasses import dataclass

from chalicelib.domain import italian


@dataclass(frozen=True)
class CodiceFiscale:
    """A valid one: without omocodia, with the birth date (YYMMDD; the century is not in it) and the sex (M, F) it encodes.

    `written`: as it was given out. Omocodia tells apart two persons for whom the same `code` was worked out.
    """

    code: str
    birth: str
    sex: str
    written: str


def read(value: str) -> CodiceFiscale | None:
    """The codice fiscale that `value` is, or None when it is not a valid one."""
    if not italian.looks_like_codice_fiscale(value):
        return None
    from codicefiscale import codicefiscale  # 60 ms, and needed only where such a code turns up

    try:
        decoded = codicefiscale.decode(value.strip().upper())
    except ValueError:
        return None
    return CodiceFiscale(decoded["omocodes"][0], decoded["birthdate"].strftime("%y%m%d"), decoded["gender"], decoded["code"])


def encodes(fiscal: CodiceFiscale, given: str) -> bool:
    """Whether a given name is the one that a codice fiscale encodes."""
    from codicefiscale import codicefiscale

    return bool(given) and str(codicefiscale.encode_firstname(given)) == fiscal.code[3:6]
