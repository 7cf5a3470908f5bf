"""One search key against one attribute: the kinds of matching of PS3.4 C.2.2.2, each a frozen type."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from chalicelib.dicomweb import person_names, range_matching
from chalicelib.dicomweb.range_matching import Range
from chalicelib.domain.identifiers import is_uid

Element = Mapping[str, Any]
"""An attribute in the DICOM JSON Model: `{"vr": …, "Value": […]}` (PS3.18 F.2.2)."""

MAX_VALUES = 100
MAX_TEXT = 1024

# PS3.4 C.2.2.2.4: the VRs with wild cards.
WILDCARD_VRS = frozenset({"AE", "CS", "LO", "LT", "SH", "ST", "UC", "UR", "UT"})
NUMBER_VRS = frozenset({"DS", "IS", "FL", "FD", "SL", "SS", "SV", "UL", "US", "UV"})
_INTEGER_VRS = NUMBER_VRS - {"DS", "FL", "FD"}
MOMENT_VRS = frozenset({"DA", "TM", "DT"})
# Values of these VRs hold no comma, so that a list with commas is unambiguous.
_COMMA_VRS = frozenset({"UI", "CS"})

_AGE = re.compile(r"[0-9]{3}[DWMY]")
_NUMBER = re.compile(r"[+-]?[0-9]{1,32}(\.[0-9]{0,32})?([eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Universal:
    """Every entity matches; the attribute is returned (PS3.4 C.2.2.2.3)."""


@dataclass(frozen=True, slots=True)
class Empty:
    """Matches an attribute without a value (PS3.4 C.2.2.2.7)."""


@dataclass(frozen=True, slots=True)
class Uids:
    """Matches one of the UIDs (PS3.4 C.2.2.2.2)."""

    uids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Texts:
    """Matches one of the patterns, or with `every` all of them (PS3.4 C.2.2.2.1, .4, .8); case counts."""

    patterns: tuple[str, ...]
    every: bool = False


@dataclass(frozen=True, slots=True)
class Names:
    """Matches a person's name: each pattern is (alphabetic, ideographic, phonetic), or one group for any of
    them.
    """

    patterns: tuple[tuple[str, ...], ...]
    fuzzy: bool
    every: bool = False


@dataclass(frozen=True, slots=True)
class Numbers:
    """Matches one of the numbers, by value: `01` is `1` (PS3.4 C.2.2.2.1)."""

    numbers: tuple[Decimal, ...]


@dataclass(frozen=True, slots=True)
class Moments:
    """Matches a date, time or date-time in the range (PS3.4 C.2.2.2.5)."""

    vr: str
    range: Range


Match = Universal | Empty | Uids | Texts | Names | Numbers | Moments


class Unparsable(ValueError):
    """The key's value is not one of its VR. The text says which form is expected, and never repeats the
    value.
    """


def parse_match(vr: str, text: str, *, fuzzy: bool = False, empty_values: bool = False, every: bool = False) -> Match:
    """The kind of matching that a key's value asks for.

    `vr`: of the attribute. `text`: the decoded value. `fuzzy`, `empty_values`, `every`: the parameters
    fuzzymatching, emptyvaluematching and multiplevaluematching. Raises Unparsable.
    """
    if len(text) > MAX_TEXT and vr != "UI":
        raise Unparsable(f"is longer than {MAX_TEXT} characters")
    if "\0" in text:
        raise Unparsable("has a NULL character")
    if not text.strip() or not text.strip().strip("*"):
        return Universal()
    if text.strip() == '""' and empty_values:
        return Empty()
    if vr == "SQ":
        raise Unparsable("is a sequence: name an attribute in it, as in 00400275.00400009")
    if vr in MOMENT_VRS:
        found = range_matching.parse_range(vr, text)
        if found is None:
            raise Unparsable(f"is no {vr} or range of {vr}")
        return Moments(vr, found)
    values = _split(vr, text)
    if len(values) > MAX_VALUES:
        raise Unparsable(f"has more than {MAX_VALUES} values")
    if vr == "UI":
        if not all(map(is_uid, values)):
            raise Unparsable("is no UID or list of UIDs")
        return Uids(frozenset(values))
    if vr in NUMBER_VRS:
        return Numbers(tuple(_number(vr, v) for v in values))
    if vr == "PN":
        return Names(tuple(_name_pattern(v) for v in values), fuzzy, every)
    if vr == "AS" and any(not _AGE.fullmatch(v) for v in values):
        raise Unparsable("is no age such as 018M")
    if vr not in WILDCARD_VRS and vr not in ("AS", "AT"):
        raise Unparsable(f"has the VR {vr}, which cannot be matched")
    return Texts(tuple(unicodedata.normalize("NFC", v) for v in values), every)


def _split(vr: str, text: str) -> tuple[str, ...]:
    """The values of a key; a backslash separates values in every VR that may be multiple (PS3.5 6.4)."""
    if vr in ("LT", "ST", "UT", "UR"):
        return (text.rstrip(),)
    separated = text.replace(",", "\\") if vr in _COMMA_VRS else text
    return tuple(value for value in (part.strip() for part in separated.split("\\")) if value)


def _number(vr: str, text: str) -> Decimal:
    number = Decimal(text) if _NUMBER.fullmatch(text) else None
    if number is None or (vr in _INTEGER_VRS and number != number.to_integral_value()):
        raise Unparsable("is no whole number" if vr in _INTEGER_VRS else "is no number")
    return number


def _name_pattern(text: str) -> tuple[str, ...]:
    groups = tuple(person_names.tidy(group) for group in text.split("="))
    if len(groups) > 3:
        raise Unparsable("has more than three component groups")
    return groups


def values_of(element: Element | None) -> Sequence[Any]:
    """The values of an attribute, without empty ones (PS3.18 F.2.5 writes those as null)."""
    values = element.get("Value") if element else None
    return [v for v in values if v is not None and v != "" and v != {}] if isinstance(values, list) else []


def matches_element(match: Match, element: Element | None) -> bool:
    """Whether an attribute, or its absence (None), matches.

    Of several values, one that matches is enough (PS3.4 C.2.2.3). An absent attribute matches only
    Universal and Empty.
    """
    values = values_of(element)
    match match:
        case Universal():
            return True
        case Empty():
            return not values
        case Uids(uids):
            return any(str(v) in uids for v in values)
        case Texts(patterns, every):
            stored = [unicodedata.normalize("NFC", str(v)).strip() for v in values]
            found = (any(person_names.glob(p, text) for text in stored) for p in patterns)
            return all(found) if every else any(found)
        case Names(patterns, fuzzy, every):
            found = (any(_matches_name(p, v, fuzzy) for v in values) for p in patterns)
            return all(found) if every else any(found)
        case Numbers(numbers):
            return any(_as_number(v) in numbers for v in values)
        case Moments(vr, within):
            found_moments = (range_matching.stored_moment(vr, v) for v in values)
            return any(m is not None and within.contains(m) for m in found_moments)


def _as_number(value: object) -> Decimal | None:
    text = str(value).strip()
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _matches_name(pattern: tuple[str, ...], value: object, fuzzy: bool) -> bool:
    test = person_names.matches_fuzzily if fuzzy else person_names.matches_literally
    if len(pattern) == 1:
        return any(test(pattern[0], group) for group in person_names.compared_groups(value, pattern[0]))
    stored = person_names.groups_of(value)
    return all(test(wanted, group) for wanted, group in zip(pattern, stored, strict=False) if wanted)
