"""What deliveries are about: what becomes of an instance, a study, a patient, and why something is recalled."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class DeliveryState(StrEnum):
    """What has become of an instance that is to be in the PACS."""

    WAITING = "waiting"
    DELIVERED = "delivered"  # the PACS took it from us
    THERE = "there"  # the PACS had it already
    ASIDE = "aside"  # it takes a person


class Confirmation(StrEnum):
    """By what we know that the PACS keeps an instance that it took."""

    COMMITMENT = "commitment"  # storage commitment, PS3.4 J
    FIND = "find"  # C-FIND at the IMAGE level
    JOURNAL = "journal"  # by its answer to C-STORE alone: it does neither


class RecallReason(StrEnum):
    """Why something in the PACS is not to stand there unseen, the gravest first."""

    CORRECTED = "corrected"
    LINKED_OTHERWISE = "linked-otherwise"
    WITHDRAWN = "withdrawn"
    NO_LONGER_SHARED = "no-longer-shared"  # the patient objected, or the owner protected it
    ENDED = "transfer-ended"  # somebody decided on it, and nobody has to act


SAFETY = frozenset({RecallReason.CORRECTED, RecallReason.LINKED_OTHERWISE})
"""These concern a patient's safety."""
GRAVITY = tuple(RecallReason)


@dataclass(frozen=True, slots=True)
class Look:
    """Something to look at anew: `kind` is patient (a number of ours), study (its UID) or transfer (its id)."""

    kind: str
    name: str
    asked: int = 0
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """A study to bring into the PACS."""

    study: str
    owner: str
    number: str
    coerced_at: datetime
    asked: int
    attempts: int
    rank: str


@dataclass(frozen=True, slots=True)
class WaitingInstance:
    """An instance of a study that is not in the PACS yet."""

    sop_instance: str
    sha256: str
    attempts: int


@dataclass(frozen=True, slots=True)
class InPacs:
    """An instance that came into the PACS from here: as it is there, and of which of the archive's it was made."""

    sop_instance: str
    sop_class: str
    series: str
    original: str


@dataclass(frozen=True, slots=True)
class ToConfirm:
    """A study of which the PACS took instances, and has not said yet that it keeps them."""

    study: str
    owner: str
    transaction_uid: str
    attempts: int
    instances: tuple[InPacs, ...]


@dataclass(frozen=True, slots=True)
class ToReject:
    """A study of which the PACS is to be told that it must not be used, and why."""

    study: str
    owner: str
    number: str
    reason: RecallReason
    attempts: int
    since: float
    instances: tuple[InPacs, ...]


@dataclass(frozen=True, slots=True)
class Brought:
    """A study that was brought under a number, and by which transfers it could be seen."""

    study: str
    owner: str
    opened_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Numberless:
    """A transfer for which no number of ours is known; `proposal` is one of the PACS's, for a person to judge by `evidence`."""

    accepted: bool
    proposal: str = ""
    evidence: str = ""
