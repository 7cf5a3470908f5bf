"""The priors of a study: what else its viewer may see of the same patient, most relevant first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from chalicelib.domain import audit, keys, places, priors
from chalicelib.domain.audit import Kind, Recorder
from chalicelib.domain.errors import NotFound
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.ports import Table
from chalicelib.domain.priors import Exam, Prior
from chalicelib.domain.sharing import HOSPITAL_TIME
from chalicelib.domain.study_views import SearchRow
from chalicelib.domain.timelines import TimelineStudy
from chalicelib.services import access
from chalicelib.services.finding.procedure_names import vocabularies
from chalicelib.services.finding.timeline import timeline
from chalicelib.services.registry import Caller

DEFAULT_LIMIT = 5
MAX_LIMIT = 50


@dataclass(frozen=True)
class RankedPrior:
    """An earlier exam as the timeline has it, and why it is one."""

    entry: TimelineStudy
    prior: Prior

    def to_json(self) -> JsonObject:
        """As it is answered."""
        why = {"relevant": self.prior.relevant, "score": self.prior.score, "reasons": priors.reasons(self.prior.reasons)}
        return self.entry.to_json() | why


@dataclass(frozen=True)
class RankedPriors:
    """The priors of a study, best first. `study`: (Study Instance UID, owner), None of an exam that is yet to be made."""

    priors: tuple[RankedPrior, ...]
    study: tuple[str, str] | None = None

    def to_json(self) -> JsonObject:
        """As it is answered."""
        of = {"study_instance_uid": self.study[0], "owner": self.study[1]} if self.study else {}
        return {**of, "priors": [prior.to_json() for prior in self.priors]}


def priors_of(
    table: Table, caller: Caller, study: str, owner: str | None, limit: int, now: datetime, record: Recorder
) -> RankedPriors:
    """What `GET /studies/{uid}/priors` answers. Raises NotFound for a study that the caller may not see."""
    view, decided = access.find_study(table, caller.member.id, study, owner, now)
    record(audit.of_study(Kind.READ, audit.disclosed(view, decided.decision)))
    row = table.get(keys.search_rows(caller.member.id, study), view.owner)
    number = SearchRow.from_item(row.data).found_as if row is not None else None
    entries: Sequence[TimelineStudy] = ()
    if number is not None:
        try:
            entries = timeline(table, caller, number.value, number.issuer, now, record).studies
        except NotFound:
            entries = ()  # the view is older than the facts: nothing to propose yet
    return among(table, entries, study, view.owner, limit)


@dataclass(frozen=True)
class OrderedExam:
    """An exam that is to be made: what the order calls it, its modality (as in DICOM), its code as `scheme|value`."""

    description: str = ""
    modality: str = ""
    code: str = ""


def priors_of_order(
    table: Table,
    caller: Caller,
    patient_id: str,
    issuer: str | None,
    ordered: OrderedExam,
    limit: int,
    now: datetime,
    record: Recorder,
) -> RankedPriors:
    """What `GET /patients/{id}/priors` answers: all that the caller may see of a patient, as priors of an exam that it is about
    to make. Raises NotFound when the caller may see nothing of the patient."""
    entries = timeline(table, caller, patient_id, issuer, now, record).studies
    today = now.astimezone(HOSPITAL_TIME).strftime("%Y%m%d")
    wanted = TimelineStudy(
        "",
        caller.member.id,
        max([today, *(entry.study_date for entry in entries)]),  # a modality's clock may be ahead
        modalities=(ordered.modality,) if ordered.modality else (),
        description=ordered.description,
        codes=(ordered.code,) if ordered.code else (),
    )
    current = understood(table, [wanted])[0]
    return RankedPriors(_best(priors.rank(current, understood(table, entries)), entries, limit))


def first_to_read(entries: Sequence[TimelineStudy], today: str) -> TimelineStudy | None:
    """The entry of a timeline that one looks at first: the newest one with images that is not dated after `today` (YYYYMMDD), as
    a console's wrong clock has it, else the newest with images, else the newest; None of none."""
    pictured = [entry for entry in entries if priors.exam(entry).images]
    return next(iter([*(entry for entry in pictured if entry.study_date <= today), *pictured, *entries]), None)


def courses(table: Table, entries: Sequence[TimelineStudy]) -> list[dict[str, list[str]]]:
    """Of each entry, what exams of one course have in common: `kinds`, `regions`, and `within`, which is these and all that
    contain them. Two regions are of one course where one of them is within the other."""
    read = [exam.procedure for exam in understood(table, entries)]
    return [
        {
            "kinds": sorted(procedure.kinds),
            "regions": sorted(procedure.regions),
            "within": sorted({above for region in procedure.regions for above in places.containing(region)}),
        }
        for procedure in read
    ]


def understood(table: Table, entries: Sequence[TimelineStudy]) -> list[Exam]:
    """The entries of a timeline as exams, each read with the words of its own hospital too."""
    own = vocabularies(table, {entry.owner for entry in entries})
    return [priors.exam(entry, own.get(entry.owner)) for entry in entries]


def among(table: Table, entries: Sequence[TimelineStudy], study: str, owner: str, limit: int) -> RankedPriors:
    """The priors of one entry of a timeline among the others."""
    exams = understood(table, entries)
    mine = [exam for exam in exams if (exam.study_instance_uid, exam.owner) == (study, owner)]
    ranked = priors.rank(mine[0], exams) if mine else []
    return RankedPriors(_best(ranked, entries, limit), (study, owner))


def _best(ranked: list[Prior], entries: Sequence[TimelineStudy], limit: int) -> tuple[RankedPrior, ...]:
    by_key = {entry.key: entry for entry in entries}
    return tuple(RankedPrior(by_key[prior.exam.study_instance_uid, prior.exam.owner], prior) for prior in ranked[:limit])
