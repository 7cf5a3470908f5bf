"""Which earlier exam a report speaks of: "confronto con RX del 26/10", "rispetto al precedente", "prior CT of 12 March". Pure.

Never a wrong one: what may be several is told as several, and what is not among the exams as absent. A date without its year is
the nearest such day before the report's own exam. Kind, place and side must fit where they are named. A date is a citation only
behind an exam's name or words of comparison; an event's (an operation, an admission) is none. "The previous one" is the nearest
earlier exam that shows what the report's own does; where the hospital's own nearest is not the nearest of all, it may be either.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date

from chalicelib.domain import places, procedures
from chalicelib.domain.priors import Exam, not_later
from chalicelib.domain.procedures import Procedure

MAX_CITATIONS = 40
"""Of one text; what follows is text."""
_MAX_TEXT = 20_000
"""Characters in which citations are looked for."""
_MOST = 200
"""Dates, and words for the one before, that are looked at."""
_BEFORE = 110
_MAX_UNKNOWN = 2


@dataclass(frozen=True)
class Citation:
    """Words of a report that speak of an earlier exam, and the exams that these may be: one, several, or none that is here."""

    start: int
    end: int
    exams: tuple[Exam, ...]


@dataclass(frozen=True)
class _Mention:
    """A citation before it is resolved. `first`, `last`: the days that it may be of, or empty for the previous exam."""

    start: int
    end: int
    shows: Procedure
    first: str = ""
    last: str = ""
    clock: str = ""
    """HHMM, where it is written behind the day."""


def cited(text: str, current: Exam, exams: Iterable[Exam], *, comparison: bool = False) -> list[Citation]:
    """The citations in a text of the report of `current`, in order, resolved among `exams`.

    `comparison`: the text is that of a section of comparison, where a date needs no other word.
    """
    if not current.date:
        return []
    text = text[:_MAX_TEXT]
    dated = list(_dated(text, current.date, comparison))
    taken = [(mention.start, mention.end) for mention in dated]
    undated = [mention for mention in _undated(text) if all(mention.end <= start or end <= mention.start for start, end in taken)]
    others = _others(current, exams)
    found = []
    for mention in sorted([*dated, *undated], key=lambda named: named.start)[:MAX_CITATIONS]:
        meant = _on_its_day(mention, current, others) if mention.first else _previous(mention, current, others)
        if mention.first == mention.last == current.date and not meant:
            continue  # the exam itself
        found.append(Citation(mention.start, mention.end, tuple(meant)))
    return found


def may_cite(text: str) -> bool:
    """Whether there is a date in a text, or a word for the exam before."""
    text = text[:_MAX_TEXT]
    return _DATE.search(text) is not None or any(_folded(word[0]) in _PREVIOUS for word in _WORD.finditer(text))


def _others(current: Exam, exams: Iterable[Exam]) -> list[Exam]:
    """Every other exam with images once: of copies under one UID, that of the report's own hospital."""
    by_uid: dict[str, Exam] = {}
    for exam in exams:
        if exam.study_instance_uid != current.study_instance_uid and exam.images and exam.date:
            kept = by_uid.get(exam.study_instance_uid)
            if kept is None or (exam.owner == current.owner and kept.owner != current.owner):
                by_uid[exam.study_instance_uid] = exam
    return list(by_uid.values())


# ---- what is meant ------------------------------------------------------------------------------------------------


def _on_its_day(mention: _Mention, current: Exam, others: Sequence[Exam]) -> list[Exam]:
    found = [exam for exam in others if mention.first <= exam.date <= mention.last and not_later(exam, current)]
    found = [exam for exam in found if _fits(mention.shows, exam)]
    if mention.clock:
        found = [exam for exam in found if exam.time.startswith(mention.clock)] or found
    if len(found) > 1 and mention.shows.kinds:
        found = [exam for exam in found if mention.shows.kinds <= exam.procedure.kinds] or found
    if len(found) > 1 and not mention.shows.regions:
        found = [exam for exam in found if places.coverage(current.procedure.regions, exam.procedure.regions)] or found
    return sorted(found, key=lambda exam: (exam.date, exam.time, exam.study_instance_uid))


def _previous(mention: _Mention, current: Exam, others: Sequence[Exam]) -> list[Exam]:
    wanted = replace(
        mention.shows,
        kinds=mention.shows.kinds or current.procedure.kinds,
        regions=mention.shows.regions or current.procedure.regions,
    )
    fitting = [exam for exam in others if not_later(exam, current) and exam.procedure.understood and _fits(wanted, exam)]
    nearest = _nearest(fitting) + _nearest(exam for exam in fitting if exam.owner == current.owner)
    return list(dict.fromkeys(nearest))


def _nearest(exams: Iterable[Exam]) -> list[Exam]:
    """The latest, and whatever is of the same day where one of them says no time."""
    ordered = sorted(exams, key=lambda exam: (exam.date, exam.time))
    last = ordered[-1:]
    same = [
        exam
        for exam in ordered[:-1]
        if exam.date == last[0].date and (exam.time == last[0].time or not exam.time or not last[0].time)
    ]
    return last + same


def _fits(named: Procedure, exam: Exam) -> bool:
    """Whether an exam may be the one that is named so; what it does not say of itself is no contradiction, but its kind is."""
    shown = exam.procedure
    if named.kinds and (not named.kinds & shown.kinds or ("pet" in named.kinds and "pet" not in shown.kinds)):
        return False
    if named.regions and shown.regions and not places.coverage(named.regions, shown.regions):
        return False
    return {named.side, shown.side} != {"right", "left"}


# ---- what is written ----------------------------------------------------------------------------------------------

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "gennaio genn gen january jan", "febbraio febbr feb february", "marzo mar march", "aprile apr april",
            "maggio mag may",
            "giugno giu june jun", "luglio lug july jul", "agosto ago august aug", "settembre sett set september sept sep",
            "ottobre ott october oct", "novembre nov november", "dicembre dic december dec",
        ), 1,
    )
    for name in names.split()
}  # fmt: skip
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_YEAR = r"(?:\s*[’']\s*(?P<y2{0}>\d{{2}})|\s*,?\s*(?P<y{0}>(?:19|20)\d{{2}}))"
_DATE = re.compile(
    r"(?<![\w/.-])(?:"
    r"(?P<yi>(?:19|20)\d{2})-(?P<mi>\d{1,2})-(?P<di>\d{1,2})"
    r"|(?P<dn>\d{1,2})(?P<sep>[/.-])(?P<mn>\d{1,2})(?:(?P=sep)[’']?(?P<yn>(?:19|20)\d{2}|\d{2})(?!\d))?"
    rf"|(?P<dw>\d{{1,2}})\s*[°º]?(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<mw>{_MONTH})\b\.?(?:{_YEAR.format('w')})?"
    rf"|(?P<me>{_MONTH})\b\.?\s+(?P<de>\d{{1,2}})(?:st|nd|rd|th)?(?!\d)(?:{_YEAR.format('e')})?"
    rf"|(?P<mm>{_MONTH})\b\.?\s+(?P<ym>(?:19|20)\d{{2}})"
    r"|(?P<ms>\d{1,2})/(?P<ys>(?:19|20)\d{2})"
    r")(?![\w/]|[.,-]\d|\s*(?:[x×%]|(?:mm|cm|ml|hu|medi[oa]|superior[ei]|inferior[ei]|sup|inf|med|prossimal[ei]|distal[ei])\b))",
    re.IGNORECASE,
)
_CLOCK = re.compile(r",?\s*(?:alle\s+ore|alle|ore|at)\s+(\d{1,2})[:.](\d{2})(?!\d)", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+")
_SENTENCE = re.compile(r"(?<=[^\W\d_])[.!?;](?=\s)|[!?;]|\n[ \t]*\n")
_NEXT = re.compile(
    r"\s*(?:,|;|e|ed|and|&)?\s*(?:a\s+)?(?:quell[oa]\s+)?(?:(?:del|of|il|in data|al|from|the)\s+|(?:dell|all)['’]\s*)?", re.I
)


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_OF_A_DAY = re.compile(r"(?:\b(?:del|il|of|on|data|dated)\s+|\bdell['’]\s*|\brispetto\s+al\s+)$", re.IGNORECASE)

_TRIGGERS = _words("""
    confronto confronti confrontato confrontata confrontando raffronto raffrontato rispetto paragonato paragone
    comparazione comparato comparata compared comparison comparing versus
""")
_PREVIOUS = _words("""
    precedente prior previous preceding ultimo ultima last
""")
_NOUNS = _words("""
    esame esami indagine controllo studio accertamento radiogramma radiogrammi esam referto precedente precedenti analogo
    analoga exam examination study film films radiograph radiogram scan scans x-ray xray prior priors report imaging
""")
_LINKS = _words("""
    a ad al allo alla all ai agli alle con col coi il lo la l i gli le un uno una del dello della dell dei degli delle di
    da in nel nella e ed o data quello quella più piu recente stesso stessa analogo analoga nostro nostra altra altro sede
    esterno esterna presso eseguito eseguita eseguiti effettuato effettuata effettuati praticato praticata datato datata
    refertato refertata per esame giorno mese scorso u s us senza mdc contrasto mezzo basale standard digitale diretta
    diretto proiezioni proiezione ap pa ll letto of on from dated date performed done taken obtained the with without
    contrast to and an our outside last recent most made portable bedside supine upright acquired
""")
_EVENTS = re.compile(
    r"intervent|operat|operaz|chirurg|biops|istolog|citolog|ematochim|ematic|laborator|prelievo|trauma|cadut|incident|ricover"
    r"|dimission|visit|consul|terap|cicl|chemio|radioter|nat[oa]$|nascita|born|birth|surg|admi|discharg|accident|injur|fall$|fell"
    r"|posizionament|inserim|impiant|implant|insert|placement|richiest|prescri|request|accettaz|esordio|onset|decess|death|firma"
    r"|signed|stamp|paziente|patient|guidat|guided|drenagg|drain|toracentes|vaccin|frattur|fractur|infart|ictus|stroke"
)
_NONE = _words("""
    nessun nessuno nessuna senza assenza manca mancanza no none without non not lack
""")


def _dated(text: str, exam_day: str, comparison: bool) -> Iterator[_Mention]:
    previous: _Mention | None = None
    for found in itertools.islice(_DATE.finditer(text), _MOST):
        days = _days(found, exam_day)
        if days is None:
            continue
        if previous is not None and _NEXT.fullmatch(text, previous.end, found.start()):
            mention = _Mention(found.start(), found.end(), previous.shows, *days, _clock(text, found.end()))
        elif _may_be_a_number(found) and not _OF_A_DAY.search(text, max(0, found.start() - 20), found.start()):
            continue
        else:
            phrase = _phrase(text, previous.end if previous else 0, found.start())
            if phrase is None and not comparison:
                previous = None
                continue
            start = phrase[0] if phrase else found.start()
            mention = _Mention(start, found.end(), phrase[1] if phrase else _NOTHING, *days, _clock(text, found.end()))
        previous = mention
        if mention.first <= exam_day:
            yield mention


def _clock(text: str, at: int) -> str:
    """HHMM of a clock time behind a day ("del 26/10/2025 ore 9:05"), else empty."""
    found = _CLOCK.match(text, at)
    return f"{int(found[1]):02}{found[2]}" if found else ""


def _may_be_a_number(found: re.Match[str]) -> bool:
    """3.2, 2-3, 1/3: a day only where a word says so."""
    if not found["dn"] or found["yn"]:
        return False
    return found["sep"] != "/" or (int(found["dn"]) < 5 and int(found["mn"]) < 5)


_NOTHING = Procedure(frozenset(), frozenset())


def _phrase(text: str, begins: int, end: int) -> tuple[int, Procedure] | None:
    """(where it begins, what it shows) of the words that lead to a date, when these speak of an exam; else None."""
    begins = max(begins, end - _BEFORE)
    for stop in _SENTENCE.finditer(text, begins, end):
        begins = stop.end()
    words = [(word.start(), _folded(word[0])) for word in _WORD.finditer(text, begins, end)]
    start, unknown = None, 0
    for place, word in reversed(words):
        if _EVENTS.match(word):
            if start is not None and not re.search(r"[,;:.()]", text[place:start]):
                start = None  # "biopsia sotto guida TC del …" is of the biopsy
            break
        if word in _TRIGGERS or _speaks_of_exam(word):
            start, unknown = place, 0
        elif word not in _LINKS and word not in procedures.standard().known and word not in _PREVIOUS:
            unknown += 1
            if unknown > _MAX_UNKNOWN:
                break
    return None if start is None else (start, _shows(text[start:end]))


def _undated(text: str) -> Iterator[_Mention]:
    """ "Radiogramma precedente", "prior CT", "rispetto al precedente": one exam that is only said to be the one before."""
    words = [(word.start(), word.end(), _folded(word[0])) for word in _WORD.finditer(text)]
    at_previous = (at for at, (_, _, word) in enumerate(words) if word in _PREVIOUS)
    for at in itertools.islice(at_previous, _MOST):
        word = words[at][2]
        first, last = at, at
        while first > 0 and at - first < 6 and _joined(text, words, first) and _names(words[first - 1][2]):
            first -= 1
        while last + 1 < len(words) and last - at < 5 and _joined(text, words, last + 1) and _names(words[last + 1][2]):
            last += 1
        run = [word for _, _, word in words[first : last + 1]]
        before = [word for _, _, word in words[max(0, first - 4) : first] if _clear(text, words, first)]
        named = any(_speaks_of_exam(word) for word in run if word not in _PREVIOUS)
        if not named and not _compares(before, run, word):
            continue
        if _NONE & {*before[-3:], *run[:1]} or re.match(
            r"\W*(?:non|not|un)\W*(?:e\W*|è\W*)?(?:disponib|availab)", text[words[last][1] :], re.I
        ):
            continue
        shows = _shows(text[words[first][0] : words[last][1]])
        yield _Mention(words[first][0], words[last][1], shows)


def _compares(before: list[str], run: list[str], word: str) -> bool:
    """ "Rispetto al precedente": the exam itself goes without saying; "ultimo" alone says nothing."""
    return word in ("precedente", "prior", "previous") and len(run) == 1 and bool(_TRIGGERS & set(before))


def _joined(text: str, words: list[tuple[int, int, str]], at: int) -> bool:
    """Whether nothing but a blank, a hyphen or an apostrophe stands between a word and the one before it."""
    return re.fullmatch(r"[ \t\n]?|\s*[-/'’]\s*", text[words[at - 1][1] : words[at][0]]) is not None


def _clear(text: str, words: list[tuple[int, int, str]], first: int) -> bool:
    return not _SENTENCE.search(text, words[max(0, first - 4)][0], words[first][0])


def _names(word: str) -> bool:
    """Whether a word belongs to an exam's name."""
    return _speaks_of_exam(word) or word in ("dx", "sx") or (word not in _LINKS and word in procedures.standard().known)


def _speaks_of_exam(word: str) -> bool:
    return word in _NOUNS or (word != "dx" and bool(_shows(word).kinds))


def _shows(phrase: str) -> Procedure:
    """What the words name. DX is a side in a sentence, and no modality."""
    words = re.sub(r"x[- ]?ray|\bfilms?\b", " xr ", _folded(phrase))
    named = procedures.understand(words, "", ())
    kinds = procedures.understand(re.sub(r"\bdx\b", " ", words), "", ()).kinds
    return replace(named, kinds=kinds, contrast="")


def _folded(word: str) -> str:
    return unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode().lower()


def _days(found: re.Match[str], exam_day: str) -> tuple[str, str] | None:
    """The first and the last day that a date may be of, as YYYYMMDD; None for what is no date."""
    part = found.groupdict()
    year: str | None
    if part["mm"] or part["ms"]:
        month = _MONTHS[part["mm"].lower()] if part["mm"] else int(part["ms"])
        year = str(part["ym"] or part["ys"])
        return (f"{year}{month:02}01", f"{year}{month:02}31") if 1 <= month <= 12 else None
    if part["yi"]:
        day, month, year = int(part["di"]), int(part["mi"]), part["yi"]
    elif part["dn"]:
        day, month, year = int(part["dn"]), int(part["mn"]), part["yn"]
        if month > 12 >= day and year:
            day, month = month, day  # as in the United States, where it cannot be otherwise
    else:
        day, month = int(part["dw"] or part["de"]), _MONTHS[(part["mw"] or part["me"]).lower()]
        year = part["yw"] or part["ye"] or part["y2w"] or part["y2e"]
    years = [_whole_year(year, exam_day)] if year else range(int(exam_day[:4]), int(exam_day[:4]) - 5, -1)
    for candidate in years:
        try:
            moment = date(candidate, month, day).strftime("%Y%m%d")
        except ValueError:
            continue
        if year or moment <= exam_day:
            return moment, moment
    return None


def _whole_year(year: str, exam_day: str) -> int:
    """Two digits are of the century in which they do not lie after the exam."""
    if len(year) == 4:
        return int(year)
    century = int(exam_day[:2]) * 100
    return century + int(year) - (100 if int(year) > int(exam_day[2:4]) else 0)
