"""Which earlier exams to look at beside a current one: relevant or not, and scores with their reasons. Pure.

The gate is the place: an exam is relevant where it shows the same place as the current one, or one above or below it; else it is
not, whatever the rest says, and what nobody understood is never. Within, the share of the current one's places that it shows and
its kind weigh most, then side, contrast and recency; another hospital's exam wins a tie, since it is the one that the reader has
not seen. Reasons are slugs with a text in Italian and in English, in the order of their weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from chalicelib.domain import places, procedures
from chalicelib.domain.procedures import Procedure, Vocabulary
from chalicelib.domain.timelines import TimelineStudy

TEXTS: dict[str, tuple[str, str]] = {
    "same-region": ("stessa regione", "same body region"),
    "part-of-region": ("una parte della stessa regione", "part of the same body region"),
    "other-region": ("altra regione", "another body region"),
    "region-not-recognised": ("regione non riconosciuta", "body region not recognised"),
    "no-images": ("nessuna immagine", "no images"),
    "same-modality": ("stessa metodica", "same modality"),
    "similar-modality": ("metodica affine", "similar modality"),
    "same-side": ("stesso lato", "same side"),
    "other-side": ("lato opposto", "other side"),
    "same-contrast": ("stesso uso del contrasto", "same use of contrast"),
    "within-a-week": ("nell'ultima settimana", "within a week"),
    "within-a-month": ("nell'ultimo mese", "within a month"),
    "within-a-year": ("nell'ultimo anno", "within a year"),
    "older": ("più di un anno prima", "more than a year before"),
    "undated": ("senza data", "undated"),
    "other-hospital": ("di un altro ospedale", "from another hospital"),
}
"""Slug → (Italian, English)."""

_SHOWN, _SHOWN_ONLY = 80, 20
"""Points for the share of the current exam's places that another shows, and for how little else it shows."""
_WEIGHTS = {
    "same-modality": 60,
    "similar-modality": 12,
    "same-side": 15,
    "other-side": -30,
    "same-contrast": 4,
    "other-hospital": 2,
}
_SECTIONS = frozenset({"ct", "mr", "pet"})
"""Kinds that show sections through the body."""
_RECENCY = (("within-a-week", 7, 20), ("within-a-month", 31, 15), ("within-a-year", 366, 8))


@dataclass(frozen=True)
class Exam:
    """An exam as choosing a prior sees it. `date` is YYYYMMDD or empty, `time` HHMMSS… or empty."""

    study_instance_uid: str
    owner: str
    date: str
    time: str
    procedure: Procedure
    images: bool = True
    """Whether there is a picture in it: a letter, a dose report or a tracing is compared with nothing."""


@dataclass(frozen=True)
class Prior:
    """An earlier exam, whether it is relevant, its score (higher is better), and the slugs of the reasons."""

    exam: Exam
    relevant: bool
    score: int
    reasons: tuple[str, ...]


def exam(study: TimelineStudy, own: Vocabulary | None = None) -> Exam:
    """An exam from a study of the timeline, read with the phrases of its own hospital too."""
    return Exam(
        study.study_instance_uid,
        study.owner,
        study.study_date,
        study.study_time,
        procedures.understand(
            study.description,
            study.body_part,
            study.modalities,
            study.laterality,
            codes=study.codes,
            series=study.series_names,
            body_parts=study.body_parts,
            own=own,
        ),
        (not study.modalities or any(code not in procedures.NOT_IMAGES for code in study.modalities)) and not _all_reports(study),
    )


def _all_reports(study: TimelineStudy) -> bool:
    """Whether there is nothing but reports in an exam."""
    return 0 < study.instances <= len(study.reports)


def rank(current: Exam, others: list[Exam]) -> list[Prior]:
    """Those of `others` that are not later than `current`: the relevant ones first, the best of them at the top.

    On the same day the time decides where both have one; an undated exam may be earlier, so it is kept, last of its kind.
    """
    earlier = [
        exam for exam in others if (exam.study_instance_uid, exam.owner) != _identity(current) and not_later(exam, current)
    ]
    scored = [_score(current, exam) for exam in earlier]
    return sorted(
        scored,
        key=lambda prior: (prior.relevant, prior.score, prior.exam.date, prior.exam.time, _identity(prior.exam)),
        reverse=True,
    )


def reasons(slugs: tuple[str, ...]) -> list[dict[str, str]]:
    """Reasons as they are answered: `{"reason", "it", "en"}`."""
    return [{"reason": slug, "it": TEXTS[slug][0], "en": TEXTS[slug][1]} for slug in slugs]


def _identity(candidate: Exam) -> tuple[str, str]:
    return candidate.study_instance_uid, candidate.owner


def not_later(candidate: Exam, current: Exam) -> bool:
    """Whether an exam is not later than another; an undated one may be earlier."""
    if not candidate.date or not current.date or candidate.date != current.date:
        return not candidate.date or not current.date or candidate.date < current.date
    return not candidate.time or not current.time or candidate.time <= current.time


def _score(current: Exam, candidate: Exam) -> Prior:
    mine, its = current.procedure, candidate.procedure
    found: list[str] = []
    points = 0
    shown = places.coverage(mine.regions, its.regions)
    relevant = shown > 0 and candidate.images
    if relevant:
        only = places.coverage(its.regions, mine.regions)
        points += round(_SHOWN * shown + _SHOWN_ONLY * only)
        found.append("same-region" if shown == 1 else "part-of-region")
        if mine.regions == its.regions:
            points += 1
    elif not candidate.images:
        found.append("no-images")
    else:
        found.append("other-region" if mine.understood and its.understood else "region-not-recognised")
    if mine.kinds & its.kinds:
        found.append("same-modality")
    elif relevant and mine.kinds & _SECTIONS and its.kinds & _SECTIONS:
        found.append("similar-modality")
    if relevant and mine.side and its.side:
        found.append("same-side" if mine.side == its.side or "both" in (mine.side, its.side) else "other-side")
    if relevant and mine.contrast and mine.contrast == its.contrast:
        found.append("same-contrast")
    slug, recent = _recency(current.date, candidate.date)
    found.append(slug)
    if candidate.owner != current.owner:
        found.append("other-hospital")
    return Prior(candidate, relevant, points + recent + sum(_WEIGHTS.get(reason, 0) for reason in found), tuple(found))


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
