"""For how long an owner has its studies kept: years, by modality, and longer for who was a minor. Pure.

What is not known keeps: a study without a date counts from when it came, a patient without a birth date may have been born on the
day of the exam, a study of several modalities or patients is kept for the longest of their times.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from chalicelib.domain.errors import BadRequest
from chalicelib.domain.fields import fields
from chalicelib.domain.identifiers import uid
from chalicelib.domain.json_object import JsonObject

MOST_YEARS, MOST_HELD, MOST_MODALITIES = 150, 1000, 50
OF_AGE = 18
_MODALITY = re.compile(r"[A-Z0-9_]{1,16}")
_DATE = re.compile(r"\d{8}")


@dataclass(frozen=True)
class RetentionPolicy:
    """`years` after the exam; `by_modality` another number of years; `minors_until_age`: who was under 18 then, at least until
    this age. `rejected_days`: what is kept aside goes so many days after its verdict. `held`: studies that stay whatever else
    is said. `execute`: False only counts what would go.
    """

    years: int
    by_modality: Mapping[str, int] = field(default_factory=dict)
    minors_until_age: int | None = None
    rejected_days: int | None = None
    held: frozenset[str] = frozenset()
    execute: bool = False

    def to_item(self) -> JsonObject:
        """As its fact keeps it, and as it is answered."""
        return {
            "years": self.years,
            "by_modality": dict(sorted(self.by_modality.items())),
            "minors_until_age": self.minors_until_age,
            "rejected_days": self.rejected_days,
            "held": sorted(self.held),
            "execute": self.execute,
        }

    @property
    def digest(self) -> str:
        """Stands for the rule, whether or not it is carried out: what was tried is what is carried out."""
        rule = {name: value for name, value in self.to_item().items() if name != "execute"}
        return hashlib.sha256(json.dumps(rule, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def shortest(self) -> int:
        """The years within which nothing is ever due."""
        return min(self.years, *self.by_modality.values()) if self.by_modality else self.years

    def kept_until(self, exam: date, modalities: Iterable[str], births: Iterable[date | None]) -> date:
        """The first day on which a study of these modalities and patients (None: birth date unknown) may go."""
        years = max((self.by_modality.get(modality, self.years) for modality in modalities), default=self.years)
        days = [years_later(exam, years)]
        if self.minors_until_age is not None:
            for birth in births:
                born = birth if birth is not None and birth <= exam else exam
                if exam < years_later(born, OF_AGE):
                    days.append(years_later(born, self.minors_until_age))
        return max(days)

    def lets_go(self, rejected_at: datetime, now: datetime) -> bool:
        """Whether what is kept aside since `rejected_at` may go at `now` (both aware)."""
        return self.rejected_days is not None and rejected_at <= now - timedelta(days=self.rejected_days)


def years_later(day: date, years: int) -> date:
    """The same day so many years later; of 29 February, 1 March where there is none."""
    if day.year + years > date.max.year:
        return date.max
    try:
        return day.replace(year=day.year + years)
    except ValueError:
        return date(day.year + years, 3, 1)


def dicom_date(text: str) -> date | None:
    """The day that a DA value names, None where it names none (PS3.5 6.2)."""
    if not _DATE.fullmatch(text):
        return None
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None


def parse(body: object) -> RetentionPolicy:
    """The body of `PUT /retention`. Raises BadRequest naming the field."""
    names = ("years", "by_modality", "minors_until_age", "rejected_days", "held", "execute")
    said = fields(body, names, ("years",))
    by_modality = fields(said.get("by_modality", {}), of="by_modality")
    if len(by_modality) > MOST_MODALITIES or not all(_MODALITY.fullmatch(name) for name in by_modality):
        raise BadRequest("by_modality must name modalities, such as MG (PS3.3 C.7.3.1.1.1).", "by_modality")
    held = said.get("held", [])
    if not isinstance(held, list) or len(held) > MOST_HELD:
        raise BadRequest(f"held must list at most {MOST_HELD} Study Instance UIDs.", "held")
    if not isinstance(said.get("execute", False), bool):
        raise BadRequest("execute must be true or false.", "execute")
    until_age = said.get("minors_until_age")
    rejected = said.get("rejected_days")
    return RetentionPolicy(
        _number(said["years"], 1, MOST_YEARS, "years"),
        {name: _number(years, 1, MOST_YEARS, "by_modality") for name, years in by_modality.items()},
        None if until_age is None else _number(until_age, OF_AGE, MOST_YEARS, "minors_until_age"),
        None if rejected is None else _number(rejected, 7, 36500, "rejected_days"),
        frozenset(uid(str(study), "held") for study in held),
        said.get("execute", False),
    )


def from_item(item: Mapping[str, Any]) -> RetentionPolicy:
    """What `to_item` made."""
    return parse(dict(item))


def _number(value: object, least: int, most: int, parameter: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadRequest(f"{parameter} must be a whole number from {least} to {most}.", parameter)
    return value
