"""What an examination shows: places, kind, side, contrast; from its codes and names in the words of hospitals and scanners.

Evidence in order, and not added up: what the procedure's code says, then its name, then what its series are called, then Body
Part Examined, then what the modality implies. The first that names a place decides: a console's wrong body part adds nothing.

Names are read with a table (`chalicelib/data/procedure_names.tsv`: phrase, places, language, source), longest phrase first, each
consuming its words; to which a hospital adds phrases of its own. Of a long word that nothing matched, one letter may be wrong.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from chalicelib.domain import places

_DATA = Path(__file__).parent.parent / "data"
_LONGEST_NAME = 400
_MISSPELT_FROM = 5
"""Letters of a word from which on it may be a misspelling of one that has at least a letter more than that."""

_START = 3
"""Letters that a beginning has at least."""

MODALITIES: dict[str, str] = {
    "radiography": "cr dx rx rg rf xr radiografia radiografi* radiogra* lastra teleradiografi* cxr px io",
    "ct": "ct tc tac tdm tomografia angiotc hrct cbct",
    "mr": "mr rm rmn mri mrt irm risonanza angiorm resonance mra",
    "ultrasound": "us eco ecd ecografi* ultrasound ultrason* sonograph* ecodoppler ecocolordoppler doppler echo ivus",
    "pet": "pt pet petct",
    "nuclear": "nm scintigrafi* scintigraph* spect",
    "mammography": "mg mx mammografi* mammogra* tomosintesi tomosynthesis cesm",
    "angiography": "xa angiografi* angiogra* dsa arteriografi*",
    "densitometry": "bmd moc dexa densitometri*",
}
"""Kind of exam → DICOM modalities (PS3.3 C.7.3.1.1.1) and words for it."""

IMPLIED: dict[str, str] = {"MG": "breast", "PX": "teeth", "IO": "teeth", "PT": "whole-body", "OP": "orbits", "OPT": "orbits"}
"""What a modality shows where nothing else says it."""

_OTHER = "SR PR KO DOC REG SEG OT RTSTRUCT RTPLAN RTDOSE RTRECORD AU PLAN FID RWV HD ECG EPS RESP SMR STAIN TEXTUREMAP ASMT ANN"
NOT_IMAGES = frozenset(_OTHER.split())
"""Modalities of what is no picture to compare with."""

_SIDES: dict[str, str] = {
    "right": "destro destra destri destre dx dex des dest right rt rechts droit droite",
    "left": "sinistro sinistra sinistri sinistre sx sin left lt links gauche",
    "both": "bilaterale bilaterali bilat bil bilateral entrambi entrambe comparativa comparativo comparative ambo beidseits dxsx",
}
_SIDE_OF = {word: side for side, words in _SIDES.items() for word in words.split()}
_LETTERS = {"d": "right", "s": "left", "r": "right", "l": "left"}
_GLUED_BEFORE = ("rx", "tc", "tac", "rmn", "rm", "eco", "ct", "mr", "us", "xr", "angiotc", "angiorm", "angio", "artro", "tele")
_GLUED_BEHIND = {
    "dx": "right",
    "sx": "left",
    "sin": "left",
    "bil": "both",
    "bilat": "both",
    "tc": "",
    "tac": "",
    "rm": "",
    "rmn": "",
    "ct": "",
    "mr": "",
}
_SPINE = frozenset({"spine", "cervical-spine", "thoracic-spine", "lumbar-spine", "sacrum"})
_THORACIC = re.compile(r"toracic[aoh]|toracich[ei]|thoracique|thoracic")


@dataclass(frozen=True)
class Procedure:
    """What is known of an exam: places and kinds by the names above, side (`right`, `left`, `both` or empty), contrast (`with`,
    `without`, `both` or empty). `evidence` is what named the places: `code`, `name`, `series`, `body-part`, `modality`, or empty.
    """

    regions: frozenset[str]
    kinds: frozenset[str]
    side: str = ""
    contrast: str = ""
    evidence: str = ""

    @property
    def understood(self) -> bool:
        """Whether anything said what it shows."""
        return bool(self.regions)


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A table of phrases, ready to be matched: words of a phrase → places; by first word, longest first."""

    by_first: Mapping[str, tuple[tuple[tuple[str, ...], frozenset[str]], ...]]
    beginnings: Mapping[str, tuple[tuple[tuple[str, ...], frozenset[str]], ...]]
    """Phrases whose first word is only a beginning, by its first letters."""
    shortened: Mapping[str, frozenset[str]]
    """Whole words of one-word phrases by what is left of them without one letter: what a misspelt one is compared with."""
    known: frozenset[str]
    """Every word of every phrase."""
    codes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """(scheme, value) as `scheme|value` → places."""


@dataclass(frozen=True)
class _Read:
    """What was read in a name."""

    regions: frozenset[str]
    side: str
    contrast: str
    words: tuple[str, ...]


def understand(
    description: str,
    body_part: str,
    modalities: Sequence[str],
    laterality: str = "",
    *,
    codes: Iterable[str] = (),
    series: Iterable[str] = (),
    body_parts: Iterable[str] = (),
    own: Vocabulary | None = None,
) -> Procedure:
    """What an exam shows. `codes` are procedure and anatomic codes as `scheme|value`; `series` what its series and protocols are
    called; `body_parts` Body Part Examined of all of them; `laterality` R, L or B; `own` the hospital's own phrases."""
    named = _read(description, own)
    pictures = [code for code in modalities if code not in NOT_IMAGES]
    kinds = _kinds(pictures, named.words)
    parts = [part for part in (body_part, *body_parts) if part]
    regions, evidence, side = _first_evidence(
        (
            ("code", lambda: (_coded(codes, own), "")),
            ("name", lambda: (named.regions, "")),
            ("series", lambda: _together(_read(text, own) for text in series)),
            ("body-part", lambda: _together(_body_part(part, own) for part in parts)),
            ("modality", lambda: (frozenset(IMPLIED[code] for code in pictures if code in IMPLIED), "")),
        )
    )
    said = {"R": "right", "L": "left", "B": "both"}.get(laterality.strip().upper(), "")
    return Procedure(places.most_specific(regions), kinds, said or named.side or side, named.contrast, evidence)


def _first_evidence(order: Iterable[tuple[str, Callable[[], tuple[frozenset[str], str]]]]) -> tuple[frozenset[str], str, str]:
    for evidence, look in order:
        regions, side = look()
        if regions:
            return regions, evidence, side
    return frozenset(), "", ""


def _together(read: Iterable[_Read]) -> tuple[frozenset[str], str]:
    found = list(read)
    sides = {reading.side for reading in found if reading.side}
    return frozenset().union(*(reading.regions for reading in found)), sides.pop() if len(sides) == 1 else "both" if sides else ""


def _coded(codes: Iterable[str], own: Vocabulary | None) -> frozenset[str]:
    known = [vocabulary.codes for vocabulary in (own, standard()) if vocabulary is not None]
    return frozenset().union(*(table.get(code, frozenset()) for code in codes for table in known))


def _body_part(part: str, own: Vocabulary | None) -> _Read:
    """Body Part Examined: a defined term of PS3.16 Annex L, however it is spaced; else words as in any name."""
    places_of = body_parts().get(re.sub(r"[^A-Z0-9]", "", part.upper()))
    return _Read(places_of, "", "", ()) if places_of else _read(part, own)


def _kinds(modalities: Iterable[str], words: Iterable[str]) -> frozenset[str]:
    of_modality = frozenset(kind for code in modalities for kind in _KIND_OF.get(code.lower(), ()))
    said = frozenset(kind for word in words for kind in _kinds_of_word(word))
    return (of_modality or said) | (said & {"densitometry"})


@lru_cache(2048)
def _kinds_of_word(word: str) -> tuple[str, ...]:
    return _KIND_OF.get(word) or tuple(kind for start, kind in _KIND_STARTS if word.startswith(start))


_KIND_OF: dict[str, tuple[str, ...]] = {}
_KIND_STARTS: list[tuple[str, str]] = []
for _kind, _terms in MODALITIES.items():
    for _term in _terms.split():
        if _term.endswith("*"):
            _KIND_STARTS.append((_term[:-1], _kind))
        else:
            _KIND_OF[_term] = (*_KIND_OF.get(_term, ()), _kind)


@lru_cache(4096)
def _read(text: str, own: Vocabulary | None) -> _Read:
    vocabularies = tuple(vocabulary for vocabulary in (own, standard()) if vocabulary is not None)
    words = tuple(_spelt(vocabularies, word) for word in tokens(text))
    regions: set[str] = set()
    sides: set[str] = set()
    adjectives = False
    after_place = False
    spine_before = False
    position = 0
    if words[:1] == ("dx",):
        position = 1  # radiography, before the name of a part
    while position < len(words):
        word = words[position]
        length, found = _longest(vocabularies, words, position)
        if length:
            if found == {"chest"} and length == 1 and _THORACIC.fullmatch(word):
                adjectives = True
            else:
                regions |= found
            after_place, spine_before = bool(found), bool(found & _SPINE)
            position += length
            continue
        if word in _SIDE_OF:
            sides.add(_SIDE_OF[word])
        elif _is_side_letter(word, after_place, bool(regions)) and not spine_before and len(words) > 1:
            sides.add(_LETTERS[word])
        else:
            parts, side = _unglued(vocabularies, word)
            regions |= parts
            sides |= {side} if side else set()
            after_place, spine_before = bool(parts), bool(parts & _SPINE)
            position += 1
            continue
        position += 1
    if adjectives:
        regions.add("thoracic-spine" if regions & _SPINE else "chest")
    side = "both" if "both" in sides or {"right", "left"} <= sides else next(iter(sides), "")
    return _Read(places.most_specific(regions), side, _contrast(words), words)


def _is_side_letter(word: str, after_place: bool, any_place: bool) -> bool:
    """ "GINOCCHIO D." and "GINOCCHIO S." are Italian and stand behind the part; "R KNEE" and "KNEE L" are English."""
    return word in _LETTERS and (after_place or (word in ("r", "l") and not any_place))


def _longest(vocabularies: tuple[Vocabulary, ...], words: tuple[str, ...], position: int) -> tuple[int, frozenset[str]]:
    """The longest phrase that begins here: its number of words (0 for none) and places. A hospital's own wins among equals."""
    best: tuple[int, frozenset[str]] = (0, frozenset())
    for vocabulary in vocabularies:
        for phrase, where in vocabulary.by_first.get(words[position], ()):
            if len(phrase) > best[0] and _fits(phrase, words, position):
                best = len(phrase), where
                break  # they are in order of length
        for phrase, where in vocabulary.beginnings.get(words[position][:_START], ()):
            if len(phrase) > best[0] and _fits(phrase, words, position):
                best = len(phrase), where
    return best


def _fits(phrase: tuple[str, ...], words: tuple[str, ...], position: int) -> bool:
    here = words[position : position + len(phrase)]
    return len(here) == len(phrase) and all(
        word.startswith(wanted[:-1]) if wanted.endswith("*") else word == wanted
        for wanted, word in zip(phrase, here, strict=True)
    )


def _unglued(vocabularies: tuple[Vocabulary, ...], word: str) -> tuple[frozenset[str], str]:
    """(places, side) of a word that no phrase begins with: written together with its kind or side."""
    for start in _GLUED_BEFORE:
        rest = word.removeprefix(start)
        if rest != word and len(rest) > 2:
            length, found = _longest(vocabularies, (rest,), 0)
            if length and found:
                return found, ""
            inner = _behind(vocabularies, rest)
            if inner[0]:
                return inner
    return _behind(vocabularies, word)


def _behind(vocabularies: tuple[Vocabulary, ...], word: str) -> tuple[frozenset[str], str]:
    for end, side in _GLUED_BEHIND.items():
        rest = word.removesuffix(end)
        if rest != word and len(rest) > 2:
            length, found = _longest(vocabularies, (rest,), 0)
            if length and found:
                return found, side
    return frozenset(), ""


@lru_cache(8192)
def _spelt(vocabularies: tuple[Vocabulary, ...], word: str) -> str:
    """The word as it was meant: where it is long, matches nothing, and just one word of the table is a letter away."""
    if len(word) < _MISSPELT_FROM or not word.isalpha() or word in _SIDE_OF or _kinds_of_word(word):
        return word
    if any(word in vocabulary.known for vocabulary in vocabularies) or _longest(vocabularies, (word,), 0)[0]:
        return word
    if _unglued(vocabularies, word)[0]:
        return word
    near = {
        known
        for vocabulary in vocabularies
        for short in (word, *_without_a_letter(word))
        for known in vocabulary.shortened.get(short, ())
        if _one_apart(known, word)
    }
    meant = {_longest(vocabularies, (known,), 0)[1] for known in near}
    return min(near) if len(meant) == 1 else word


def _without_a_letter(word: str) -> set[str]:
    return {word[:at] + word[at + 1 :] for at in range(len(word))}


def _one_apart(one: str, other: str) -> bool:
    """Whether a letter more, less, other, or two exchanged make one word the other."""
    if len(one) < len(other):
        one, other = other, one
    start = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(other))
    if len(one) > len(other):
        return one[start + 1 :] == other[start:]
    swapped = one[start : start + 2] == other[start : start + 2][::-1] and one[start + 2 :] == other[start + 2 :]
    return one[start + 1 :] == other[start + 1 :] or swapped


def _contrast(words: tuple[str, ...]) -> str:
    text = f" {' '.join(words)} "
    both = (" s c mdc ", " s c ", " senza e con ", " con e senza ", " w wo ", " wo w ", " with and without ", " scmdc ")
    if any(phrase in text for phrase in both):
        return "both"
    without = (" smdc ", " senza mdc ", " senza contrasto ", " senza ", " wo ", " without ", " nativ ", " nativa ")
    if any(phrase in text for phrase in without):
        return "without"
    using = (
        " cmdc ",
        " con mdc ",
        " mdc ",
        " con contrasto ",
        " w contrast ",
        " with contrast ",
        " contrast ",
        " mit km ",
        " angio",
    )
    return "with" if any(phrase in text for phrase in using) else ""


def tokens(text: str) -> tuple[str, ...]:
    """The words of a name: without accents, lower case, split where case changes, at digits and at what is no letter."""
    folded = _folded(text[:_LONGEST_NAME])
    folded = re.sub(r"\((?:s|es|e|i)\)", " ", folded, flags=re.IGNORECASE)
    folded = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])", " ", folded)
    return tuple(re.findall(r"[a-z]+|\d+", folded.lower()))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def vocabulary(rows: Iterable[tuple[str, Iterable[str]]], codes: Mapping[str, Iterable[str]] | None = None) -> Vocabulary:
    """Phrases (a trailing `*` of a word: its beginning) and their places. Raises ValueError for a place that there is not."""
    by_first: dict[str, list[tuple[tuple[str, ...], frozenset[str]]]] = {}
    beginnings: dict[str, list[tuple[tuple[str, ...], frozenset[str]]]] = {}
    shortened: dict[str, set[str]] = {}
    known: set[str] = set()
    for text, named in rows:
        where = frozenset(named)
        if unknown := where - places.ABOVE.keys():
            raise ValueError(f"no such place: {', '.join(sorted(unknown))}")
        phrase = tuple(
            re.findall(r"[a-z]+\*?|\d+", unicodedata.normalize("NFKD", text.lower()).encode("ascii", "ignore").decode())
        )
        if not phrase:
            raise ValueError("a phrase needs a word")
        known |= set(phrase)
        if phrase[0].endswith("*"):
            if len(phrase[0]) <= _START:
                raise ValueError(f"a beginning needs {_START} letters: {text}")
            beginnings.setdefault(phrase[0][:_START], []).append((phrase, where))
        else:
            by_first.setdefault(phrase[0], []).append((phrase, where))
            if len(phrase) == 1 and where and len(phrase[0]) > _MISSPELT_FROM:
                for short in (phrase[0], *_without_a_letter(phrase[0])):
                    shortened.setdefault(short, set()).add(phrase[0])
    return Vocabulary(
        {first: tuple(sorted(found, key=lambda entry: -len(entry[0]))) for first, found in by_first.items()},
        {start: tuple(found) for start, found in beginnings.items()},
        {short: frozenset(words) for short, words in shortened.items()},
        frozenset(known),
        {code: frozenset(where) for code, where in (codes or {}).items()},
    )


@lru_cache(1)
def standard() -> Vocabulary:
    """The phrases that come with the archive, and the anatomic codes of PS3.16 Annex L, with those of its earlier editions."""
    rows = [(row["phrase"], row["places"].split()) for row in _table("procedure_names.tsv")]
    codes = {row["code"]: row["places"].split() for row in _table("former_codes.tsv")}
    codes |= {f"SCT|{row['code']}": row["places"].split() for row in _table("body_parts.tsv")}
    return vocabulary(rows, codes)


@lru_cache(1)
def body_parts() -> Mapping[str, frozenset[str]]:
    """Body Part Examined's defined terms (PS3.16 Table L-1) → places."""
    return {row["term"]: frozenset(row["places"].split()) for row in _table("body_parts.tsv")}


def _table(name: str) -> list[dict[str, str]]:
    first, *rest = (_DATA / name).read_text("utf-8").splitlines()
    columns = first.split("\t")
    return [dict(zip(columns, row.split("\t"), strict=True)) for row in rest]
