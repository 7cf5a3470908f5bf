"""What is new to a reader: exams that came, became complete or were reported on since this person first saw the patient's
timeline, and that the person has not had on the screen as they are now. Of links that open a patient; of others nothing is kept.

For each person and patient one item says in which state each exam was seen last, by digests. It is no fact and no secret of
anybody's: without it nothing is marked, and the next visit begins it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from datetime import datetime

from chalicelib.domain import keys
from chalicelib.domain.ports import Item, PutVersion, Table
from chalicelib.domain.timelines import TimelineStudy
from chalicelib.services.sharing.readings import KEPT
from chalicelib.services.viewer.sessions import Reader

MOST_EXAMS = 2000
"""Exams of one patient whose states are kept."""
_TRIES = 3

ExamKey = tuple[str, str]
"""(Study Instance UID, owner)."""


def begin(table: Table, reader: Reader, studies: Collection[TimelineStudy], now: datetime) -> None:
    """A person sees a patient's timeline: for the first time, everything on it counts as seen."""
    key = _key(reader)
    if key is not None and table.get(*key) is None:
        _write(table, key, 0, {_digest(study): _state(study) for study in studies}, now)


def unseen(table: Table, reader: Reader, studies: Iterable[TimelineStudy]) -> frozenset[ExamKey]:
    """The exams that are new to the reader."""
    key = _key(reader)
    item = table.get(*key) if key is not None else None
    if item is None:
        return frozenset()
    seen = _states(item)
    return frozenset(study.key for study in studies if seen.get(_digest(study)) != _state(study))


def looked_at(table: Table, reader: Reader, studies: Collection[TimelineStudy], now: datetime) -> None:
    """These exams are on the reader's screen, as they are now."""
    key = _key(reader)
    if key is None or not studies:
        return
    for _ in range(_TRIES):
        item = table.get(*key)
        if item is None:
            return
        before = _states(item)
        states = before | {_digest(study): _state(study) for study in studies}
        if states == before or _write(table, key, item.version or 0, states, now):
            return


def _key(reader: Reader) -> tuple[str, str] | None:
    patient = reader.link.scope.patient
    return keys.seen_exams(reader.viewer, patient.hash, reader.person.key) if patient is not None else None


def _write(table: Table, key: tuple[str, str], version: int, states: dict[str, str], now: datetime) -> bool:
    kept = dict(list(states.items())[-MOST_EXAMS:])
    item = Item(*key, {"exams": kept}, version=version + 1, expires=int((now + KEPT).timestamp()))
    return table.put(PutVersion(item, version))


def _states(item: Item) -> dict[str, str]:
    exams = item.data["exams"]
    return {str(exam): str(state) for exam, state in exams.items()} if isinstance(exams, dict) else {}


def _digest(study: TimelineStudy) -> str:
    return hashlib.sha256(f"{study.owner}\n{study.study_instance_uid}".encode()).hexdigest()[:16]


def _state(study: TimelineStudy) -> str:
    """What would be news of an exam: that it is complete, how many images it then has, and which reports stand."""
    images = (study.images if study.images is not None else study.instances) if study.missing == 0 else None
    reports = sorted((report.sop_instance_uid, report.status or "") for report in study.reports if report.newest)
    return hashlib.sha256(json.dumps([images, reports]).encode()).hexdigest()[:12]
