"""Names and birth dates that stand in for what nobody knows, or has given yet: of newborns, twins, unknown persons.

Two who are called so are not called alike, nor born on one day.
"""

from __future__ import annotations

import re

NOBODY = {
    "SCONOSCIUTO", "SCONOSCIUTA", "IGNOTO", "IGNOTA", "ANONIMO", "ANONIMA", "UNKNOWN", "ANONYMOUS", "NEONATO", "NEONATA",
    "GEMELLO", "GEMELLA", "FETO", "BABY", "NEWBORN", "TWIN",
}  # fmt: skip
UNNAMED = NOBODY | {
    "NN", "ND", "MASCHIO", "FEMMINA", "BAMBINO", "BAMBINA", "BIMBO", "BIMBA", "FIGLIO", "FIGLIA", "BOY", "GIRL", "MALE", "FEMALE",
}  # fmt: skip
"""What stands for a given name only: the rest of it may be a family's name."""
BIRTH_DATE = "19000101"


def is_stand_in(name: str) -> bool:
    """Whether a name (`FAMILY^GIVEN`, as in DICOM) is nobody's."""
    family, _, given = name.upper().partition("^")
    return not (NOBODY.isdisjoint(re.findall(r"[^\W_]+", family)) and UNNAMED.isdisjoint(re.findall(r"[^\W_]+", given)))
