"""Person names as they are searched and sorted (PS3.5 6.2.1, PS3.4 C.2.2.2.1, PS3.18 8.3.4.2)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

GROUPS = ("Alphabetic", "Ideographic", "Phonetic")

# Latin letters that Unicode does not decompose into a base letter and a mark.
_BASE_LETTERS = str.maketrans(
    {
        "Ø": "O",
        "Đ": "D",
        "Ð": "D",
        "Ł": "L",
        "Ħ": "H",
        "Ŧ": "T",
        "Æ": "AE",
        "Œ": "OE",
        "Þ": "TH",
        "ẞ": "SS",
        "I": "I",
    }
)
_SPACES = re.compile(r"\s+")
_AROUND_DELIMITER = re.compile(r" *\^ *")
_WORD_BREAKS = re.compile(r"[\s^,='’\-.]+")


def fold(text: str) -> str:
    """Upper case without accents: `Nicolò` and `NICOLO` become the same."""
    decomposed = unicodedata.normalize("NFKD", text.upper())
    return "".join(c for c in decomposed if not unicodedata.combining(c)).upper().translate(_BASE_LETTERS)


def tidy(group: str) -> str:
    """One component group without insignificant blanks and trailing delimiters (PS3.5 6.2.1.1)."""
    text = _SPACES.sub(" ", unicodedata.normalize("NFC", group)).strip()
    return _AROUND_DELIMITER.sub("^", text).rstrip("^ ")


def groups_of(value: object) -> tuple[str, str, str]:
    """The alphabetic, ideographic and phonetic groups of a PN, from DICOM JSON (`{"Alphabetic": …}`) or
    from text.

    A group that is missing is the empty string.
    """
    if isinstance(value, Mapping):
        texts = [str(value.get(name) or "") for name in GROUPS]
    elif isinstance(value, str):
        texts = value.split("=")
    else:
        texts = []
    tidied = [tidy(text) for text in texts[:3]] + ["", "", ""]
    return tidied[0], tidied[1], tidied[2]


def name_key(value: object) -> str:
    """The key under which a name is indexed: `FAMILY^GIVEN` in upper case and without accents, "" for no
    name.

    It is made of the alphabetic group, or of the first one that is not empty.
    """
    group = next((g for g in groups_of(value) if g), "")
    return key_prefix(group)


def key_prefix(start: str) -> str:
    """How `name_key` begins, for every name whose compared group begins with `start` (case and accents
    aside).
    """
    return tidy("^".join(fold(tidy(start)).split("^")[:2]))


def words(group: str) -> tuple[str, ...]:
    """The words of a component group, folded: what fuzzy matching compares."""
    return tuple(word for word in _WORD_BREAKS.split(fold(group)) if word)


def compared_groups(value: object, key_group: str) -> Sequence[str]:
    """The groups of a name that a key without `=` is compared with.

    A key in Latin letters: the group that is indexed, the alphabetic one; any other key: every group.
    """
    groups = [g for g in groups_of(value) if g]
    return groups[:1] if fold(key_group).isascii() else groups


def matches_literally(pattern: str, group: str) -> bool:
    """Whether one group matches a key, case aside; `*` and `?` are wild cards (PS3.4 C.2.2.2.1 and .4)."""
    return _glob_name(pattern.upper(), group.upper())


def matches_fuzzily(pattern: str, group: str) -> bool:
    """Whether one group matches a key with `fuzzymatching=true` (PS3.4 C.2.2.2.1.1, which leaves the rule
    open).

    Case and accents are ignored, and so is the order of words: each word of the key has to begin a word of
    the name (or to match one, where it has wild cards). What matches literally matches fuzzily.
    """
    if _glob_name(fold(pattern), fold(group)):
        return True
    wanted = words(pattern)
    offered = list(words(group))
    for word in sorted(wanted, key=len, reverse=True):
        found = next((o for o in offered if glob(word if _has_wildcard(word) else word + "*", o)), None)
        if found is None:
            return False
        offered.remove(found)
    return bool(wanted)


def _glob_name(pattern: str, group: str) -> bool:
    missing = pattern.count("^") - group.count("^")
    return glob(pattern, group) or (missing > 0 and glob(pattern, group + "^" * missing))


def _has_wildcard(text: str) -> bool:
    return "*" in text or "?" in text


def glob(pattern: str, text: str) -> bool:
    """Whether `text` matches `pattern` with `*` and `?` (PS3.4 C.2.2.2.4), in time ≤ |pattern| × |text|."""
    p = t = 0
    star, resume = -1, 0
    while t < len(text):
        if p < len(pattern) and pattern[p] == "*":
            star, resume = p, t
            p += 1
        elif p < len(pattern) and pattern[p] in ("?", text[t]):
            p += 1
            t += 1
        elif star >= 0:
            resume += 1
            p, t = star + 1, resume
        else:
            return False
    return all(c == "*" for c in pattern[p:])


def display(value: Any) -> str:
    """A PN as one string with `=` between its groups (PS3.5 6.2.1)."""
    return "=".join(groups_of(value)).rstrip("=")
