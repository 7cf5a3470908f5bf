"""Which exams of a patient are brought into the PACS, and in which order. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from forwarder.config import DeliverConfig

UNDATED = "00000000"


@dataclass(frozen=True, slots=True)
class Exam:
    """An exam of another hospital: whose, when (YYYYMMDD or empty), its modalities and number of instances."""

    study: str
    owner: str
    date: str
    modalities: tuple[str, ...]
    instances: int


@dataclass(frozen=True, slots=True)
class Patient:
    """A patient by the hospital's own number, as the archive's timeline has them: what other hospitals' exams there are that an
    accepted transfer opens, and when the latest of these transfers was accepted."""

    number: str
    name: str
    birth_date: str
    sex: str
    exams: tuple[Exam, ...]
    accepted_at: str
    parties: frozenset[str] = frozenset()
    """The other sides of the accepted transfers that run."""


def patient(number: str, timeline: Mapping[str, Any], own: str) -> Patient:
    """What a timeline (`GET /patients/{id}/timeline`) of one's own number says. `own`: the id of the hospital itself.

    Raises KeyError, TypeError, ValueError for an answer that is not what the contract says.
    """
    accepted = {
        str(transfer["id"]): str(transfer["accepted_at"])
        for transfer in timeline["transfers"]
        if transfer.get("accepted_at") and transfer["status"] == "active"
    }
    exams: list[Exam] = []
    moments: list[str] = []
    for study in timeline["studies"]:
        opened_by = [accepted[name] for name in study["opened_by"] if name in accepted]
        if study["owner"] == own or not opened_by:
            continue  # what only an emergency opened is looked at there, and brought nowhere
        modalities = tuple(str(code) for code in study["modalities"])
        exams.append(
            Exam(
                str(study["study_instance_uid"]),
                str(study["owner"]),
                str(study["study_date"]),
                modalities,
                int(study["instances"]),
            )
        )
        moments += opened_by
    who = timeline["patient"]
    return Patient(number, str(who["name"]), str(who["birth_date"]), str(who["sex"]), tuple(exams), max(moments, default=""))


def chosen(found: Patient, config: DeliverConfig, today: date) -> list[Exam]:
    """The exams that the configuration wants, the newest first. An undated one is wanted too, last."""
    wanted = set(config.modalities)
    oldest = (today - timedelta(days=config.max_age_days)).strftime("%Y%m%d")
    fitting = [
        exam for exam in found.exams if (not wanted or wanted & set(exam.modalities)) and (not exam.date or exam.date >= oldest)
    ]
    fitting.sort(key=lambda exam: (exam.date or UNDATED, exam.study), reverse=True)
    return fitting[: config.max_studies]


def rank(found: Patient, place: int) -> str:
    """Where the exam at this place of a patient's stands among all: the patient accepted last first, each one's newest first."""
    digits = "".join(sign for sign in found.accepted_at if sign.isdigit())[:14].ljust(14, "0")
    return f"{99999999999999 - int(digits):014d}#{place:05d}"


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
