"""Who may see a study. One pure function over facts, read by every route.

The rules, in full:

1. An institution sees its own studies.
2. A transfer that is live (opened, not expired, not ended) and touches *every* patient identifier of the study lets
   a. the receiver see all of the sender's studies of that patient;
   b. the sender see the receiver's studies of that patient made on or after the day of the transfer, nothing earlier.
3. Nobody sees anything else. A study without a patient identifier is never shared; one filed under two
   identifiers is shared only where both are; a study without a date is never a follow-up.

"The day" is the day at the hospitals: Europe/Rome.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

HOSPITAL_TIME = ZoneInfo("Europe/Rome")


@dataclass(frozen=True)
class Grant:
    """A transfer as it touches one patient identifier."""

    transfer_id: str
    sender: str
    receiver: str
    opened_at: datetime
    expires_at: datetime
    ended: bool = False

    def live(self, now: datetime) -> bool:
        """Whether it holds at `now` (aware)."""
        return not self.ended and self.opened_at <= now < self.expires_at


@dataclass(frozen=True)
class Study:
    """What deciding needs to know of a study: its owner, its earliest date (YYYYMMDD or empty), its patients' hashes."""

    owner: str
    study_instance_uid: str
    date: str
    patients: tuple[str, ...]


@dataclass(frozen=True)
class Decision:
    """`allowed`, and by which transfers (empty for the owner)."""

    allowed: bool
    transfers: tuple[str, ...] = ()


DENIED = Decision(False)


def decide(viewer: str, study: Study, facts: Mapping[str, Iterable[Grant]], now: datetime) -> Decision:
    """Whether `viewer` may see `study` at `now` (aware), given the grants of each of its patients' identifiers."""
    if viewer == study.owner:
        return Decision(True)
    if not study.patients:
        return DENIED
    used: set[str] = set()
    for patient in study.patients:
        granting = {grant.transfer_id for grant in facts.get(patient, ()) if _opens(grant, viewer, study, now)}
        if not granting:
            return DENIED
        used |= granting
    return Decision(True, tuple(sorted(used)))


def _opens(grant: Grant, viewer: str, study: Study, now: datetime) -> bool:
    if not grant.live(now):
        return False
    if (grant.sender, grant.receiver) == (study.owner, viewer):
        return True
    if (grant.sender, grant.receiver) == (viewer, study.owner):
        return study.date >= grant.opened_at.astimezone(HOSPITAL_TIME).strftime("%Y%m%d")
    return False
