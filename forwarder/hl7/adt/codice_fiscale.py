"""The codice fiscale of a message, checked by its library, and held against birth date and sex."""

from __future__ import annotations

import re

from forwarder.hl7.adt.event import RegisteredPerson

_NONE = re.compile(r"(STP|ENI)[0-9]{13}")


def agrees(person: RegisteredPerson) -> bool | None:
    """Whether the message's only codice fiscale is valid, and encodes the birth date and the sex that it gives beside it.

    None where there is no such code: a provisional one of 11 digits, STP and ENI are none. Without birth date or sex it does
    not agree.
    """
    codes = [code for code in person.codes if len(code) == 16 and not _NONE.fullmatch(code)]
    if not codes:
        return None
    if len(codes) > 1:
        return False
    from codicefiscale import codicefiscale  # 60 ms, and needed only where such a code turns up

    try:
        decoded = codicefiscale.decode(codes[0])
    except ValueError:
        return False
    return bool(decoded["birthdate"].strftime("%y%m%d") == person.birth_date[2:] and decoded["gender"] == person.sex)
