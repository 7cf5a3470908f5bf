"""The acts that follow of ADT events, and in which states they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

TOO_MANY, DISAGREES, ANOTHERS = "too-many", "codice-fiscale-disagrees", "exams-of-another-person"
"""Why an act is held."""
WITHIN = "within-the-house"
"""Why an opening is nothing: a patient who moves within the hospital."""


class ActKind(StrEnum):
    """What an act does at the archive; in this order they are done."""

    PATIENT = "patient"
    LINK = "link"
    OPENING = "opening"
    ACCEPTANCE = "acceptance"


class ActState(StrEnum):
    """How an act stands. `held`: beyond the hour's limit, or in doubt; `aside`: the archive refused it; both wait for a person.
    `dropped`: it was not wanted any more before it was tried."""

    WAITING = "waiting"
    HELD = "held"
    DONE = "done"
    UNDO = "undo"
    UNDONE = "undone"
    ASIDE = "aside"
    DROPPED = "dropped"


LIVE = (ActState.WAITING, ActState.HELD, ActState.DONE, ActState.ASIDE)
DISCARDED = "discarded"
"""Why an act was dropped that a person has done by nobody: it stands as that until what it follows of is cancelled."""


@dataclass(frozen=True, slots=True)
class Act:
    """One act, to be done or undone (`undo`). `subject`: the institution, the transfer or the second number; `key`: what makes it
    the same to the archive however often it is asked; `released_from`: the reason for which it was held, where a person
    who was shown it let it go on."""

    seq: int
    kind: ActKind
    number: str
    visit: str
    subject: str
    cause: str
    actor: str
    content: Mapping[str, Any]
    undo: bool
    result: str
    tried: bool
    attempts: int
    key: str
    released_from: str
