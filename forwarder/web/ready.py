"""Whether another hospital's exams are here: in our PACS where they are brought there, else in the archive, whole or not."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import anyio

from forwarder.deliver import account
from forwarder.hl7.adt import standing as adt
from forwarder.spool.journal import Journal


class Standing(StrEnum):
    """How one exam of another hospital stands here."""

    IN_PACS = "in-pacs"
    COMING = "coming"
    ASIDE = "aside"
    WHOLE = "whole"
    PARTIAL = "partial"


@dataclass(frozen=True)
class Exam:
    """One exam of another hospital, how it stands, how many images are there of how many, and what holds it up, if anything."""

    study: str
    date: str
    description: str
    modalities: Sequence[str]
    standing: Standing
    there: int
    wanted: int
    reason: str = ""
    seconds_left: float | None = None
    """How long it still takes; None where that is not known."""


@dataclass(frozen=True)
class ProposedNumber:
    """A number of ours under which a transfer might be accepted: whose word that is, and what speaks for and against it."""

    number: str
    source: str
    evidence: Sequence[str]
    against: Sequence[str] = ()


class Readiness:
    """What the journal and the archive say of a patient's exams, and of numbers for those who have none yet."""

    def __init__(self, journal: Journal, *, delivers: bool, pace: Callable[[], float | None] = lambda: None) -> None:
        """`pace`: the seconds that an instance takes now into the PACS, where that is known."""
        self._journal, self._delivers, self._pace = journal, delivers, pace

    async def of(self, number: str, own: str, studies: Sequence[Mapping[str, Any]]) -> list[Exam]:
        """Those of a timeline's exams that are others', as they stand here. Raises SpoolError."""
        others = [study for study in studies if study["owner"] != own]
        brought = await anyio.to_thread.run_sync(self._brought, number) if self._delivers and others else {}
        pace = self._pace()
        return [_exam(study, brought.get((study["study_instance_uid"], study["owner"])), pace) for study in others]

    async def candidates(self) -> dict[str, list[ProposedNumber]]:
        """By transfer, the numbers that registration (ADT) and PACS propose. Raises SpoolError."""
        return await anyio.to_thread.run_sync(self._candidates)

    def _brought(self, number: str) -> dict[tuple[str, str], account.ExamAccount]:
        with self._journal.read() as connection:
            return {(exam.study, exam.owner): exam for exam in account.exams(connection, number)}

    def _candidates(self) -> dict[str, list[ProposedNumber]]:
        found: dict[str, list[ProposedNumber]] = {}
        with self._journal.read() as connection:
            for proposed in adt.proposals(connection):
                number = ProposedNumber(proposed.number, "adt", proposed.evidence, proposed.against)
                found.setdefault(proposed.transfer, []).append(number)
            for other in account.numberless(connection):
                if other.proposal:
                    agreeing = [f"same-{attribute.replace(' ', '-')}" for attribute in other.evidence.split(", ")]
                    found.setdefault(other.transfer, []).append(ProposedNumber(other.proposal, "pacs", agreeing))
        return found


def _exam(study: Mapping[str, Any], brought: account.ExamAccount | None, pace: float | None) -> Exam:
    known = (
        str(study["study_instance_uid"]), str(study.get("study_date") or ""), str(study.get("description") or ""),
        tuple(study.get("modalities") or ()),
    )  # fmt: skip
    count = int(study.get("instances") or 0)
    if brought is None:
        return Exam(*known, Standing.WHOLE if study.get("complete") else Standing.PARTIAL, count, count)
    wanted = count if brought.wanted is None else brought.wanted
    if brought.done:
        return Exam(*known, Standing.ASIDE if brought.aside else Standing.IN_PACS, brought.there, wanted, brought.reason)
    left = None if pace is None else max(0.0, brought.due - time.time()) + brought.missing * pace
    return Exam(*known, Standing.COMING, brought.there, wanted, brought.reason, left)
