"""Merges that hold, and at which a person has to look all the same.

The registration is the authority on its own numbers (IHE PIR: a merge is taken on), so a merge is never held. But a wrong one is
how one person's films come to be shown as another's; what was linked to the number given up is not linked to the one that
stays before somebody confirms it; and an objection under the one hides what lies under numbers that are linked to that one
only. All this is told to whoever keeps the patients' numbers.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from forwarder.hl7.adt.event import RegisteredPerson
from forwarder.stand_in import are_several

BEYOND = "linked-to-own-number"
"""What speaks, at the archive, for a number that another number of this hospital is linked to."""


class MergeConcern(StrEnum):
    """Why a person has to look at a merge."""

    ANOTHERS = "exams-of-another-person"
    PROPOSED = "numbers-proposed"
    OBJECTED = "objection-under-other-number"


@dataclass(frozen=True, slots=True)
class Merge:
    """A merge to look at: the number that stays, and the one that was given up, since when (seconds)."""

    number: str
    other: str
    concerns: tuple[MergeConcern, ...]
    since: float


def concerns_of(
    number: str, other: str, persons: Collection[RegisteredPerson], links: Iterable[Mapping[str, Any]],
    objections: Iterable[Mapping[str, Any]],
) -> list[MergeConcern]:  # fmt: skip
    """Why a person has to look at a merge of `other` into `number`: from all who are named under the two, and the links and
    objections of the one that stays."""
    found = []
    if are_several((person.name, person.birth_date) for person in persons):
        found.append(MergeConcern.ANOTHERS)
    if _has_proposals(links):
        found.append(MergeConcern.PROPOSED)
    to_all = {said.get("patient", {}).get("id") for said in objections if said.get("study_instance_uid") is None}
    if other in to_all and number not in to_all:
        found.append(MergeConcern.OBJECTED)
    return found


def merges(connection: sqlite3.Connection) -> list[Merge]:
    """What waits for a person's eyes, the oldest first."""
    rows = connection.execute("SELECT number, other, concerns, since FROM adt_merges ORDER BY since, number, other")
    return [Merge(row[0], row[1], tuple(map(MergeConcern, json.loads(row[2]))), row[3]) for row in rows]


def noted(connection: sqlite3.Connection, number: str, other: str, concerns: Sequence[MergeConcern], now: float) -> None:
    """A merge was done: it is to be looked at for these reasons, if there are any."""
    forgotten(connection, number, other)
    if concerns:
        connection.execute(
            "INSERT INTO adt_merges (number, other, concerns, since) VALUES (?, ?, ?, ?)",
            (number, other, json.dumps(concerns), now),
        )


def forgotten(connection: sqlite3.Connection, number: str, other: str) -> int:
    """Somebody looked at it, or the two are two again; how many there were."""
    return connection.execute(
        "DELETE FROM adt_merges WHERE (number = ? AND other = ?) OR (number = ? AND other = ?)", (number, other, other, number)
    ).rowcount


def unsettled(merge: Merge, links: Sequence[Mapping[str, Any]]) -> tuple[MergeConcern, ...]:
    """Why a merge is still to be looked at, by the links of the number that stays: none where the two are linked no more."""
    joined = any(link["status"] == "confirmed" and link["identifier"]["id"] == merge.other for link in links)
    gone = set() if _has_proposals(links) else {MergeConcern.PROPOSED}
    return tuple(concern for concern in merge.concerns if joined and concern not in gone)


def settle(connection: sqlite3.Connection, merge: Merge, left: Sequence[MergeConcern]) -> None:
    """Write down why a merge is still to be looked at."""
    if left:
        connection.execute(
            "UPDATE adt_merges SET concerns = ? WHERE number = ? AND other = ?", (json.dumps(left), merge.number, merge.other)
        )
    else:
        forgotten(connection, merge.number, merge.other)


def _has_proposals(links: Iterable[Mapping[str, Any]]) -> bool:
    return any(link["status"] == "proposed" and BEYOND in link.get("evidence", ()) for link in links)
