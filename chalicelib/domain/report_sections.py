"""Sections of a report: what was asked, how it was done, with what it was compared, what is seen, what it means.

Told by the code of a section, where a document has coded sections (LOINC in CDA and SR; the headings of PS3.16 CID 7001), else by
headings, as people write them in Italian and English: in capitals or with a colon, on a line of their own or at its beginning.
Nothing is left out or put elsewhere: titles and texts, one after the other, are the report. What is no heading that is known here
stays in the section in which it was written.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

QUESTION, HISTORY, TECHNIQUE, COMPARISON = "question", "history", "technique", "comparison"
FINDINGS, IMPRESSION, RECOMMENDATION, ADDENDUM = "findings", "impression", "recommendation", "addendum"
KINDS = (QUESTION, HISTORY, TECHNIQUE, COMPARISON, FINDINGS, IMPRESSION, RECOMMENDATION, ADDENDUM)
MAX_SECTIONS = 200
"""Of one report; what follows is text of the last one."""
MAX_TEXT = 500_000
"""Characters of a report that is split."""
_MAX_LINES = 5000
"""Lines of a report in which headings are looked for."""
_MAX_HEADING = 80
LONGEST_LINE = 200
"""Characters of what a list shows of a report."""
_ENDED = re.compile(r"(?<=[.!?])[^\S\n]*\n")
"""Where a line ends with what it says."""


@dataclass(frozen=True)
class Section:
    """A section: one of `KINDS`, or empty for another; its title as it was written, or empty; its text, or empty."""

    kind: str
    title: str
    text: str


def split(text: str) -> tuple[Section, ...]:
    """The sections of a report in plain text, as they were written; one without kind and title where no heading is known."""
    found: list[Section] = []
    kind, title, lines = "", "", []
    for number, line in enumerate(text.splitlines()):
        heading = _heading(line) if number < _MAX_LINES and len(found) < MAX_SECTIONS else None
        if heading is None:
            lines.append(line)
            continue
        _add(found, kind, title, lines)
        kind, title, rest = heading
        lines = [rest] if rest else []
    _add(found, kind, title, lines)
    return tuple(found)


def of_coded(sections: Iterable[tuple[str, str, str]]) -> tuple[Section, ...]:
    """The sections of a document that has some: (code, title, text) of each, in order.

    Where a whole report stands in one section, it is split at its headings; one that repeats the section's title stands once.
    """
    found: list[Section] = []
    for code, title, text in sections:
        kind = of_code(code) or kind_of(title)
        title = title.strip()
        inner = split(text)
        whole = kind in ("", FINDINGS) and any(section.kind not in ("", kind) for section in inner)
        if not whole or len(found) + len(inner) > MAX_SECTIONS:
            found.append(Section(kind, title, _trimmed(text.split("\n"))))
        elif inner[0].title:
            found += inner if _same(title, inner[0].title) else [Section("", title, ""), *inner]
        else:
            found += [Section(kind, title, inner[0].text), *inner[1:]]
    return tuple(section for section in found if section.title or section.text)


def conclusion(sections: Iterable[Section], text: str) -> str:
    """What a list shows of a report: the first sentence of what it concludes, else of its last section, or the first line where
    that holds more; at most `LONGEST_LINE`, with a sign where it is cut. A line that ends without a stop goes on in the next:
    “Versamento pleurico” must not stand there without its “assente”.
    """
    said = [section for section in sections if section.text.strip()]
    chosen = next((section for section in said if section.kind == IMPRESSION), said[-1] if said else None)
    paragraph = re.split(r"\n\s*\n", (chosen.text if chosen else text).strip(), maxsplit=1)[0]
    line = " ".join(_ENDED.split(paragraph, maxsplit=1)[0][: 4 * LONGEST_LINE].split())
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 1]}…"


def of_code(code: str) -> str:
    """What section a code (LOINC, DCM) means, or empty where it is none that is known."""
    return _CODES.get(code, "")


def kind_of(title: str) -> str:
    """What section a heading begins, or empty where it is none that is known."""
    words = _NUMBERING.sub("", _plain(title))
    words = re.sub(r"\s*\([^)]*\)\s*$", "", words)
    if words in _PHRASES:
        return _PHRASES[words]
    for joint in (" e ", " and ", " / ", "/", " ed "):
        first, _, second = words.partition(joint)
        if first in _PHRASES and second in _PHRASES:
            return _PHRASES[first]
    first, _, qualifier = words.partition(" ")
    return _PHRASES.get(first, "") if qualifier and all(word in _MODALITIES for word in qualifier.split()) else ""


def _heading(line: str) -> tuple[str, str, str] | None:
    """(kind, title, what follows it on the line) of a line that begins a section, else None."""
    stripped = line.strip().strip("*_=#").strip()
    before, colon, after = stripped.partition(":")
    title = before.strip("*_ ")
    if colon and len(title) <= _MAX_HEADING and (kind := kind_of(title)):
        return kind, title, after.strip("*_ ")
    if colon and len(title) <= _MAX_HEADING and (named := _COMPARED.match(title)):
        return COMPARISON, named[0], stripped[len(named[0]) :].strip()  # with what, and what came of it, is its text
    if alone := _alone(stripped):
        return *alone, ""
    capitals = _CAPITALS.match(stripped[: 2 * _MAX_HEADING])
    if capitals and (kind := kind_of(capitals[1])):
        return kind, capitals[1], stripped[len(capitals[0]) :]
    return None


def _alone(line: str) -> tuple[str, str] | None:
    """(kind, title) of a line that is a heading and nothing else; a word that a line break left alone is none."""
    title = line.rstrip("-–— ")
    if title.isupper():
        title = title.rstrip(". ")
    first = next((letter for letter in title if letter.isalpha()), "")
    if len(title) > _MAX_HEADING or not first.isupper() or title.endswith("."):
        return None
    return (kind, title) if (kind := kind_of(title)) else None


def _add(found: list[Section], kind: str, title: str, lines: list[str]) -> None:
    """A heading with nothing below it is the title of what follows, as REFERTO above a whole report."""
    text = _trimmed(lines)
    if title or text:
        found.append(Section(kind if text else "", title, text))


def _trimmed(lines: list[str]) -> str:
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def _same(one: str, other: str) -> bool:
    return _plain(one) == _plain(other)


def _plain(text: str) -> str:
    """Small letters without accents, one blank between words: what headings are compared by."""
    unaccented = "".join(letter for letter in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(letter))
    return " ".join(re.sub(r"['’`´._]", " ", unaccented).split()).strip(" :-–—")


_NUMBERING = re.compile(r"^(?:[(\[]?(?:\d{1,2}|[a-h])[)\]]\s*|\d{1,2}\s*[-–]?\s+|[-–—•·]\s*)")
_CAPITALS = re.compile(r"([A-ZÀ-Ý'’]{2,}(?:[ /]+(?:[A-ZÀ-Ý'’]{2,}|E))*)(?:\s*[.\-–—]\s+|\s+)(?=\S*[a-zà-ý])")
_COMPARED = re.compile(r"confronto(?=\s+con\s)|comparison(?=\s+(?:with|to)\s)", re.IGNORECASE)
_MODALITIES = frozenset({
    "rx", "tc", "tac", "rm", "rmn", "rmi", "eco", "us", "ecografia", "ecografico", "radiografia", "mx", "pet", "ct", "mr",
    "mri", "xr",
    "cr", "dx",
})  # fmt: skip

_CODES = {
    # LOINC, as CDA (the national radiology report's too) and SR since 2015 use them
    "29299-5": QUESTION, "18785-6": QUESTION, "55115-0": QUESTION, "42349-1": QUESTION,
    "11329-0": HISTORY, "10164-2": HISTORY, "55752-0": HISTORY,
    "55111-9": TECHNIQUE, "62387-6": TECHNIQUE,
    "55114-3": COMPARISON, "18834-2": COMPARISON,
    "18782-3": FINDINGS, "59776-5": FINDINGS,
    "19005-8": IMPRESSION, "55110-1": IMPRESSION,
    "18783-1": RECOMMENDATION,
    "55107-7": ADDENDUM,
    # DCM, PS3.16 CID 7001
    "121062": QUESTION, "121060": HISTORY, "121064": TECHNIQUE, "121066": COMPARISON, "121068": COMPARISON,
    "121070": FINDINGS, "121072": IMPRESSION, "121076": IMPRESSION, "121074": RECOMMENDATION, "121078": ADDENDUM,
}  # fmt: skip

_WRITTEN = {
    QUESTION: (
        "quesito", "quesito clinico", "quesito diagnostico", "quesito clinico diagnostico", "indicazione", "indicazioni",
        "indicazione clinica", "indicazioni cliniche", "indicazione all esame", "indicazione dell esame", "motivo dell esame",
        "motivo della richiesta", "motivo", "sospetto diagnostico", "sospetto clinico", "richiesta", "domanda clinica",
        "clinical question", "question", "indication", "indications", "clinical indication", "clinical indications",
        "indication for study", "reason for exam", "reason for examination", "reason for study", "reason for the study",
        "reason for the exam", "reason for request", "request", "reason for visit",
    ),
    HISTORY: (
        "notizie cliniche", "dati clinici", "anamnesi", "storia clinica", "notizie anamnestiche", "dati anamnestici",
        "informazioni cliniche", "inquadramento clinico", "cenni anamnestici",
        "clinical history", "history", "clinical information", "clinical details", "clinical data", "patient history",
    ),
    TECHNIQUE: (
        "tecnica", "tecnica d esame", "tecnica di esame", "tecnica dell esame", "tecnica di studio", "tecnica e metodica",
        "metodica", "metodica d esame", "protocollo", "protocollo di studio", "protocollo d esame", "modalita di esecuzione",
        "esame eseguito", "esami eseguiti", "prestazione", "prestazioni", "prestazione eseguita", "mezzo di contrasto", "esame",
        "technique", "procedure", "protocol", "examination", "exam", "method", "technical information", "contrast",
        "procedure description", "study", "current procedure descriptions",
    ),
    COMPARISON: (
        "confronto", "confronti", "esami di confronto", "esame di confronto", "esami precedenti", "esame precedente",
        "precedenti",
        "precedente", "precedenti esami", "precedenti esami eseguiti", "confronto con precedenti", "a confronto",
        "precedenti radiologici", "precedenti disponibili", "documentazione precedente", "indagini precedenti",
        "comparison", "comparisons", "comparison study", "comparison studies", "comparison exam", "comparison exams",
        "prior studies",
        "prior study", "priors", "previous studies", "previous study", "previous examinations", "compared with", "prior exams",
        "prior procedure descriptions", "previous findings",
    ),
    FINDINGS: (
        "reperto", "reperti", "referto", "descrizione", "descrizione dei reperti", "reperto radiologico", "reperti radiologici",
        "reperto tc", "reperti tc", "osservazioni", "esito", "quadro radiologico", "descrizione dell esame", "risultati",
        "risultato",
        "findings", "finding", "report", "description", "observations", "results", "result", "radiology findings",
        "imaging findings",
    ),
    IMPRESSION: (
        "conclusioni", "conclusione", "conclusioni diagnostiche", "conclusione diagnostica", "in conclusione", "impressione",
        "impressione diagnostica", "impressioni", "giudizio", "giudizio conclusivo", "giudizio diagnostico", "diagnosi",
        "diagnosi radiologica", "orientamento diagnostico", "sintesi", "sintesi conclusiva", "sintesi diagnostica", "valutazione",
        "valutazione conclusiva", "commento", "commento conclusivo", "parere",
        "impression", "impressions", "conclusion", "conclusions", "summary", "diagnosis", "opinion", "interpretation",
        "assessment",
        "comment", "in summary", "in conclusion",
    ),
    RECOMMENDATION: (
        "consigli", "consiglio", "raccomandazioni", "raccomandazione", "suggerimenti", "suggerimento", "indicazioni al follow up",
        "suggerimenti per il medico prescrittore", "programma", "follow up", "si consiglia",
        "recommendation", "recommendations", "advice", "suggestions", "follow up recommendations", "plan",
    ),
    ADDENDUM: (
        "addendum", "integrazione", "integrazione al referto", "integrazione del referto", "nota integrativa", "nota aggiuntiva",
        "informazioni aggiuntive", "aggiunta", "postilla", "addenda", "addendum to report",
    ),
}  # fmt: skip
_PHRASES = {phrase: kind for kind, phrases in _WRITTEN.items() for phrase in phrases}
