"""Names and birth dates that stand in for what nobody knows, or has given yet: of newborns, twins, unknown persons.

Two who are called so are not called alike, nor born on one day.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

NOBODY = {
    "SCONOSCIUTO", "SCONOSCIUTA", "IGNOTO", "IGNOTA", "ANONIMO", "ANONIMA", "UNKNOWN", "ANONYMOUS", "NEONATO", "NEONATA",
    "GEMELLO", "GEMELLA", "FETO", "BABY", "NEWBORN", "TWIN",
}  # fmt: skip
UNNAMED = NOBODY | {
    "NN", "ND", "MASCHIO", "FEMMINA", "BAMBINO", "BAMBINA", "BIMBO", "BIMBA", "FIGLIO", "FIGLIA", "BOY", "GIRL", "MALE", "FEMALE",
}  # fmt: skip
"""What stands for a given name only: the rest of it may be a family's name."""
BIRTH_DATE = "19000101"
MOST_NAMED = 100
"""Who is named in more ways than these is not held against each other any more: a person looks."""


def is_stand_in(name: str) -> bool:
    """Whether a name (`FAMILY^GIVEN`, as in DICOM) is nobody's."""
    family, _, given = name.upper().partition("^")
    return not (NOBODY.isdisjoint(re.findall(r"[^\W_]+", family)) and UNNAMED.isdisjoint(re.findall(r"[^\W_]+", given)))


def are_two(name: str, birth_date: str, other_name: str, other_birth_date: str) -> bool:
    """Whether both the names and the birth dates (YYYYMMDD) are two: said of one number, they are of two persons.

    One of them alone is a slip, a marriage, a second given name. What is not said, or stands in for something, tells nothing.
    """
    if not (name and other_name and birth_date and other_birth_date) or BIRTH_DATE in (birth_date, other_birth_date):
        return False
    if birth_date == other_birth_date or is_stand_in(name) or is_stand_in(other_name):
        return False
    return not may_be_one(name.partition("=")[0], other_name.partition("=")[0])


def are_several(said: Iterable[tuple[str, str]]) -> bool:
    """Whether what is said (name, birth date) of one number, or of two that are to be one patient's, is of several persons."""
    different = set(said)
    return len(different) > MOST_NAMED or any(are_two(*one, *other) for one, other in itertools.combinations(different, 2))


def may_be_one(name: str, other_name: str) -> bool:
    """Whether two names may be one person's: one has all words of the other. A second given name is often left out."""
    words, others = (set(re.findall(r"[^\W_]+", said.casefold())) for said in (name, other_name))
    return words <= others or others <= words
