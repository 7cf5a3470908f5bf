"""Whether another hospital's exams are here: in our PACS where they are brought there, else in the archive, whole or not."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import anyio

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


class Readiness:
    """What the journal and the archive say of a patient's exams."""

    def __init__(self, journal: Journal, *, delivers: bool) -> None:
        self._journal, self._delivers = journal, delivers

    async def of(self, number: str, own: str, studies: Sequence[Mapping[str, Any]]) -> list[Exam]:
        """Those of a timeline's exams that are others', as they stand here. Raises SpoolError."""
        others = [one for one in studies if one["owner"] != own]
        brought = await anyio.to_thread.run_sync(self._brought, number) if self._delivers and others else {}
        return [self._exam(one, brought.get((one["study_instance_uid"], one["owner"]))) for one in others]

    def _brought(self, number: str) -> dict[tuple[str, str], sqlite3.Row]:
        with self._journal.read() as connection:
            rows = connection.execute(
                "SELECT s.study, s.owner, s.state, s.reason, count(i.state) AS wanted,"
                " sum(i.state IN ('delivered', 'there')) AS there, sum(i.state = 'aside') AS aside,"
                " max(CASE WHEN i.state = 'aside' THEN i.reason END) AS why"
                " FROM deliver_studies s LEFT JOIN deliver_instances i ON i.study = s.study AND i.owner = s.owner"
                " WHERE s.number = ? GROUP BY s.study, s.owner",
                (number,),
            ).fetchall()
        return {(row["study"], row["owner"]): row for row in rows}

    @staticmethod
    def _exam(one: Mapping[str, Any], row: sqlite3.Row | None) -> Exam:
        known = (
            str(one["study_instance_uid"]),
            str(one.get("study_date") or ""),
            str(one.get("description") or ""),
            tuple(one.get("modalities") or ()),
        )
        count = int(one.get("instances") or 0)
        if row is None or row["state"] == "gone":
            return Exam(*known, Standing.WHOLE if one.get("complete") else Standing.PARTIAL, count, count)
        there, wanted, aside = int(row["there"] or 0), int(row["wanted"] or count), int(row["aside"] or 0)
        if row["state"] == "done":
            return Exam(*known, Standing.ASIDE if aside else Standing.IN_PACS, there, wanted, str(row["why"] or ""))
        return Exam(*known, Standing.COMING, there, wanted, str(row["reason"] or ""))
