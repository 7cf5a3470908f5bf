"""Which earlier exams to look at beside a current one: scores with their reasons. Pure.

Region and kind of exam first, then side, then recency; another hospital's exam wins a tie, since it is the one that the
reader has not seen. Reasons are slugs with a text in Italian and in English, in the order of their weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from chalicelib.domain import procedures
from chalicelib.domain.procedures import Procedure

TEXTS: dict[str, tuple[str, str]] = {
    "same-region": ("stessa regione", "same body region"),
    "related-region": ("regione vicina", "neighbouring body region"),
    "same-modality": ("stessa metodica", "same modality"),
    "same-side": ("stesso lato", "same side"),
    "other-side": ("lato opposto", "other side"),
    "within-a-week": ("nell'ultima settimana", "within a week"),
    "within-a-month": ("nell'ultimo mese", "within a month"),
    "within-a-year": ("nell'ultimo anno", "within a year"),
    "older": ("più di un anno prima", "more than a year before"),
    "undated": ("senza data", "undated"),
    "other-hospital": ("di un altro ospedale", "from another hospital"),
}
"""Slug → (Italian, English)."""

_WEIGHTS = {
    "same-region": 100,
    "related-region": 40,
    "same-modality": 60,
    "same-side": 15,
    "other-side": -30,
    "other-hospital": 2,
}
_RECENCY = (("within-a-week", 7, 20), ("within-a-month", 31, 15), ("within-a-year", 366, 8))


@dataclass(frozen=True)
class Exam:
    """An exam as choosing a prior sees it. `date` is YYYYMMDD or empty, `time` HHMMSS… or empty."""

    study_instance_uid: str
    owner: str
    date: str
    time: str
    procedure: Procedure


@dataclass(frozen=True)
class Prior:
    """A proposed prior, its score (higher is better), and the slugs of the reasons."""

    exam: Exam
    score: int
    reasons: tuple[str, ...]


def exam(study: dict[str, object]) -> Exam:
    """An exam from an entry of the timeline."""
    modalities = study["modalities"]
    return Exam(
        str(study["study_instance_uid"]),
        str(study["owner"]),
        str(study["study_date"]),
        str(study["study_time"]),
        procedures.understand(
            str(study["description"]),
            str(study["body_part"]),
            tuple(str(code) for code in modalities) if isinstance(modalities, list) else (),
            str(study.get("laterality", "")),
        ),
    )


def rank(current: Exam, others: list[Exam]) -> list[Prior]:
    """Those of `others` that are not later than `current`, most relevant first.

    On the same day the time decides where both have one; an undated exam may be earlier, so it is kept, last of its kind.
    """
    earlier = [one for one in others if (one.study_instance_uid, one.owner) != _identity(current) and _not_later(one, current)]
    scored = [_score(current, one) for one in earlier]
    return sorted(scored, key=lambda prior: (prior.score, prior.exam.date, prior.exam.time, _identity(prior.exam)), reverse=True)


def reasons(slugs: tuple[str, ...]) -> list[dict[str, str]]:
    """Reasons as they are answered: `{"reason", "it", "en"}`."""
    return [{"reason": slug, "it": TEXTS[slug][0], "en": TEXTS[slug][1]} for slug in slugs]


def _identity(one: Exam) -> tuple[str, str]:
    return one.study_instance_uid, one.owner


def _not_later(one: Exam, current: Exam) -> bool:
    if not one.date or not current.date or one.date != current.date:
        return not one.date or not current.date or one.date < current.date
    return not one.time or not current.time or one.time <= current.time


def _score(current: Exam, one: Exam) -> Prior:
    mine, its = current.procedure, one.procedure
    found: list[str] = []
    if mine.regions & its.regions:
        found.append("same-region")
    elif procedures.related(mine.regions, its.regions):
        found.append("related-region")
    if mine.kinds & its.kinds:
        found.append("same-modality")
    if found and mine.side and its.side:
        found.append("same-side" if mine.side == its.side or "both" in (mine.side, its.side) else "other-side")
    slug, points = _recency(current.date, one.date)
    found.append(slug)
    if one.owner != current.owner:
        found.append("other-hospital")
    return Prior(one, points + sum(_WEIGHTS.get(reason, 0) for reason in found), tuple(found))


def _recency(current: str, earlier: str) -> tuple[str, int]:
    now, then = _day(current), _day(earlier)
    if now is None or then is None:
        return "undated", 0
    days = (now - then).days
    return next(((slug, points) for slug, limit, points in _RECENCY if days <= limit), ("older", 0))


def _day(text: str) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None
