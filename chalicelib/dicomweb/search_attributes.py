"""Which attributes a search matches and returns, as data (PS3.18 10.6, PS3.4 C.6).

What Tables 10.6.3-3, -4 and -5 say of each row of `domain.attributes`. An attribute that has no row is no matching key here
(PS3.4 C.2.2.1.3: it is then ignored for matching and treated as a return key), but can be returned where the archive knows it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from chalicelib.domain import tags
from chalicelib.domain.attributes import ITEM_VRS, TABLE, Attribute, Return
from chalicelib.domain.tags import Tag

Level = Literal["study", "series", "instance"]

LEVELS: tuple[Level, ...] = ("study", "series", "instance")


@dataclass(frozen=True, slots=True)
class SearchAttribute:
    """One attribute of Table 10.6.1-5, 10.6.3-3, 10.6.3-4, 10.6.3-5 or of PS3.4 C.6.1.1 and C.6.2.1.

    `level`: the entity in whose answer it is, the highest one where it is in several; a patient's are its study's.
    """

    tag: str
    keyword: str
    vr: str
    level: Level
    returned: Return


def _level(row: Attribute) -> Level:
    level = row.answer_of or row.level
    return "study" if level == "patient" else level


ATTRIBUTES: dict[str, SearchAttribute] = {
    row.tag: SearchAttribute(row.tag, row.keyword, row.vr, _level(row), row.returned) for row in TABLE
}

# Returned, but no keys: what the archive adds to an answer, and the zone, since none is converted
# (PS3.4 C.4.1.1).
RETURNED_ONLY = frozenset(row.tag for row in TABLE if not row.matched)

# Attributes of more than one entity's answer.
RETURNED_ALSO: dict[Level, frozenset[str]] = {
    level: frozenset(row.tag for row in TABLE if level in row.also_of) for level in LEVELS
}

# Never a key: how the request is encoded (PS3.4 C.2.2.2).
NOT_MATCHED = frozenset({tags.SpecificCharacterSet})

# A date and the time that belongs to it (PS3.18 8.3.4.1.1, PS3.4 C.2.2.2.5).
DATE_TIME_PAIRS: dict[str, str] = {
    tags.StudyDate: tags.StudyTime,
    tags.SeriesDate: tags.SeriesTime,
    tags.ContentDate: tags.ContentTime,
    tags.PerformedProcedureStepStartDate: tags.PerformedProcedureStepStartTime,
}

_TAG_BY_KEYWORD: dict[str, str] = {name: tag for name, tag in vars(tags).items() if isinstance(tag, Tag)}

_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_KEYWORD = re.compile(r"[A-Z][A-Za-z0-9]{1,63}")


def looks_like_attribute(text: str) -> bool:
    """Whether `text` has the form of a tag or of a keyword (PS3.18 8.3.1)."""
    return bool(_TAG.fullmatch(text) or _KEYWORD.fullmatch(text))


def tag_of(identifier: str) -> str | None:
    """The tag, as 8 upper-case hexadecimal digits, of a tag or of a keyword of PS3.6 Table 6-1; None if it
    is neither.

    Keywords that the code speaks of need no dictionary; any other one is looked up in pydicom's, which is
    imported only then.
    """
    if _TAG.fullmatch(identifier):
        return identifier.upper()
    if not _KEYWORD.fullmatch(identifier):
        return None
    known = _TAG_BY_KEYWORD.get(identifier)
    if known is not None:
        return known
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(identifier)
    return None if tag is None else f"{tag:08X}"


def vr_of(path: tuple[str, ...]) -> str | None:
    """The VR of the attribute at the end of `path` if it is a matching key here, else None."""
    first = ATTRIBUTES.get(path[0])
    if first is None or path[0] in RETURNED_ONLY:
        return None
    if len(path) == 1:
        return first.vr
    if first.vr != "SQ" or any(ITEM_VRS.get(tag) != "SQ" for tag in path[1:-1]):
        return None
    return ITEM_VRS.get(path[-1])


def rank(level: Level) -> int:
    """0 for study, 1 for series, 2 for instance."""
    return LEVELS.index(level)
