"""Which of the PACS's patients a transferred one may be: proposed to a person, never decided. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from forwarder.retrieve.coercion import LocalPatient

CODICE_FISCALE = "2.16.840.1.113883.2.9.4.3.2"


def questions(name: str, birth_date: str, code: str) -> list[dict[str, str]]:
    """What to ask the PACS for at the PATIENT level: attributes with their values; a star matches anything (PS3.4 C.2.2.2.4)."""
    asked: list[dict[str, str]] = []
    if code:
        asked.append({"PatientID": code})
    family = name.partition("=")[0].partition("^")[0].strip()
    if len(family) > 1 and birth_date:
        asked.append({"PatientName": f"{family}*", "PatientBirthDate": birth_date})
    return asked


def proposal(candidates: Iterable[LocalPatient], name: str, birth_date: str, sex: str, code: str) -> tuple[str, str]:
    """(the number of the one candidate that agrees, what agrees); empty where none does, or several do.

    Agreeing is: the same codice fiscale, or the same name and birth date; and nothing that contradicts.
    """
    found: dict[str, str] = {}
    for candidate in candidates:
        if not candidate.id or _differ(candidate.birth_date, birth_date) or _differ(candidate.sex, sex):
            continue
        agreeing = []
        if code and candidate.id.upper() == code.upper():
            agreeing.append("codice fiscale")
        if _plain(candidate.name) == _plain(name) and candidate.birth_date == birth_date and birth_date:
            agreeing += ["name", "birth date"]
            agreeing += ["sex"] if sex and candidate.sex == sex else []
        if agreeing:
            found[candidate.id] = ", ".join(agreeing)
    return next(iter(found.items())) if len(found) == 1 else ("", "")


def _differ(one: str, other: str) -> bool:
    return bool(one and other and one != other and "O" not in (one, other))


def _plain(name: str) -> tuple[str, ...]:
    """Family and given name without accents, signs and case: as two registrars may write them."""
    parts = name.partition("=")[0].split("^")[:2]
    return tuple(
        "".join(sign for sign in unicodedata.normalize("NFKD", part).casefold() if sign.isalnum()) for part in (*parts, "")[:2]
    )
