"""Which exams of a patient are brought into the PACS, and in which order. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from forwarder.config import DeliverConfig

UNDATED = "00000000"
URGENT_DAYS = 1
"""A patient who is examined here today, or was yesterday, is being read now."""


@dataclass(frozen=True, slots=True)
class ExamElsewhere:
    """An exam of another hospital: whose, when (YYYYMMDD or empty), its modalities, number of instances, and the transfers that
    open it."""

    study: str
    owner: str
    date: str
    modalities: tuple[str, ...]
    instances: int
    opened_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Patient:
    """A patient by the hospital's own number, as the archive's timeline has them: what other hospitals' exams there are that an
    accepted transfer opens, when the latest of these transfers was accepted, the hospital's own latest exam, every number of
    theirs that the archive tells, by issuer, and the hospital's own numbers under which transfers were accepted."""

    number: str
    name: str
    birth_date: str
    sex: str
    exams: tuple[ExamElsewhere, ...]
    accepted_at: str
    latest_own: str = ""
    latest_own_date: str = ""
    numbers: tuple[tuple[str, str], ...] = ()
    accepted_under: tuple[str, ...] = ()


def number_in(transfer: Mapping[str, Any], issuer: str) -> str | None:
    """The number of this issuer's by which an accepted transfer names its patient."""
    for identifier in (transfer.get("receiving_patient"), transfer["patient"]):
        if identifier and identifier["issuer"] == issuer:
            return str(identifier["id"])
    return None


def patient(number: str, timeline: Mapping[str, Any], own: str, issuer: str = "") -> Patient:
    """What a timeline (`GET /patients/{id}/timeline`) says. `own`: the id of the hospital itself; `issuer`: of its numbers, where
    `number` is one of them: of two that are one patient's, an exam is brought under the one that the transfer names which was
    accepted first, wherever the patient is looked at.

    Raises KeyError, TypeError, ValueError for an answer that is not what the contract says.
    """
    running = [each for each in timeline["transfers"] if each.get("accepted_at") and each["status"] == "active"]
    accepted = {str(transfer["id"]): str(transfer["accepted_at"]) for transfer in running}
    named = {str(transfer["id"]): number_in(transfer, issuer) for transfer in running} if issuer else {}
    exams: list[ExamElsewhere] = []
    moments: list[str] = []
    latest = ("", "")  # date, study
    for study in timeline["studies"]:
        uid, made = str(study["study_instance_uid"]), str(study["study_date"])
        if study["owner"] == own:
            latest = max(latest, (made, uid))
            continue
        opened_by = tuple(str(name) for name in study["opened_by"] if name in accepted)
        if not opened_by:
            continue  # what only an emergency opened is looked at there, and brought nowhere
        naming = sorted((accepted[name], known) for name in opened_by if (known := named.get(name)) is not None)
        if naming and naming[0][1] != number:
            continue
        modalities = tuple(str(code) for code in study["modalities"])
        exams.append(ExamElsewhere(uid, str(study["owner"]), made, modalities, int(study["instances"]), opened_by))
        moments += [accepted[name] for name in opened_by]
    who = timeline["patient"]
    numbers = tuple((str(entry["issuer"]), str(entry["id"])) for entry in who["identifiers"])
    made, uid = latest
    return Patient(
        number,
        str(who["name"]),
        str(who["birth_date"]),
        str(who["sex"]),
        tuple(exams),
        max(moments, default=""),
        uid,
        made,
        numbers,
        tuple(sorted({known for known in named.values() if known is not None})),
    )


def chosen(found: Patient, config: DeliverConfig, today: date, relevant: Sequence[tuple[str, str]] = ()) -> list[ExamElsewhere]:
    """The exams that the configuration wants: first the priors that are `relevant` (study, owner) to the exam that is read, in
    that order, then the newest first. An undated one is wanted too, last."""
    wanted = set(config.modalities)
    oldest = (today - timedelta(days=config.max_age_days)).strftime("%Y%m%d")
    fitting = [
        exam for exam in found.exams if (not wanted or wanted & set(exam.modalities)) and (not exam.date or exam.date >= oldest)
    ]
    fitting.sort(key=lambda exam: (exam.date or UNDATED, exam.study), reverse=True)
    places = {key: place for place, key in enumerate(relevant)}
    fitting.sort(key=lambda exam: places.get((exam.study, exam.owner), len(places)))
    return fitting[: config.max_studies]


def rank(found: Patient, place: int, today: date, *, ordered: bool = False) -> str:
    """Where the exam at this place of a patient's stands among all, the smallest first: what is relevant for an exam that was
    `ordered` here, then patients who are examined here now, then all others; of each kind the patient accepted last first."""
    urgent = found.latest_own_date >= (today - timedelta(days=URGENT_DAYS)).strftime("%Y%m%d")
    digits = "".join(sign for sign in found.accepted_at if sign.isdigit())[:17].ljust(17, "0")  # to the millisecond
    return f"{0 if ordered else 1 if urgent else 2}#{10**17 - 1 - int(digits):017d}#{place:05d}"


def open_now(hours: Sequence[str], now: datetime) -> bool:
    """Whether it is one of the configured hours, of this machine's day."""
    minute = now.hour * 60 + now.minute
    for interval in hours:
        start, end = (_minutes(part) for part in interval.split("-"))
        if start <= minute < end if start < end else (minute >= start or minute < end):
            return True
    return False


def _minutes(text: str) -> int:
    hour, minute = text.split(":")
    return int(hour) * 60 + int(minute)
