"""Who may see a study. One pure function over facts, read by every route.

The rules, in full, first match wins:

1. An institution sees its own studies.
2. What the owner hid at the patient's wish (an objection, of one study or of all) nobody else sees.
3. What the owner put under strengthened protection nobody else sees, but for those the patient consented to by name.
4. Emergency access, while it lasts, lets the institution that declared it see the patient's studies of every owner.
5. A live transfer (opened, not expired, not ended) lets
   a. the receiver see all of the sender's studies of that patient;
   b. the sender see the receiver's studies of that patient made on or after the day of the transfer, nothing earlier, and only
      while the receiver's acceptance stands.
6. Nobody sees anything else.

"That patient" is every identifier that is linked to the transfer's, directly and not undone. Of what the sender has, nobody's
word opens more than the sender's own: there only links count that it made, or the archive. Acceptance is of one number of the
receiver's: for the way back, an identifier must besides be that number, or be linked to it. Rules 4 and 5 must hold for
*every* patient identifier of a study: one filed under two patients is shared only where both are, one with no
identifier never. A study without a date is never a follow-up. "The day" is the day at the hospitals: Europe/Rome.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

HOSPITAL_TIME = ZoneInfo("Europe/Rome")


@dataclass(frozen=True)
class Grant:
    """A transfer as it touches one patient identifier. `accepted`: whether the receiver accepted this very patient. `sent`:
    whether it is the one that the sender transferred, or is linked to that by the sender or the archive."""

    transfer_id: str
    sender: str
    receiver: str
    opened_at: datetime
    expires_at: datetime
    ended: bool = False
    accepted: bool = False
    sent: bool = True

    def live(self, now: datetime) -> bool:
        """Whether it holds at `now` (aware)."""
        return not self.ended and self.opened_at <= now < self.expires_at


@dataclass(frozen=True)
class Objection:
    """Hides an owner's studies of a patient from all others: one study, or all (`study` None). Until it is withdrawn."""

    owner: str
    study: str | None = None


@dataclass(frozen=True)
class Protection:
    """Strengthened protection that an owner put on a study."""

    owner: str
    study: str


@dataclass(frozen=True)
class Consent:
    """The patient's explicit consent that `to` sees a protected study of `owner`."""

    owner: str
    study: str
    to: str


@dataclass(frozen=True)
class Emergency:
    """Emergency access declared by an institution."""

    emergency_id: str
    institution: str
    opened_at: datetime
    expires_at: datetime


@dataclass(frozen=True)
class PatientFacts:
    """All that decides on one patient identifier, those of its linked identifiers included."""

    grants: tuple[Grant, ...] = ()
    objections: tuple[Objection, ...] = ()
    protections: tuple[Protection, ...] = ()
    consents: tuple[Consent, ...] = ()
    emergencies: tuple[Emergency, ...] = ()


NOTHING_KNOWN = PatientFacts()


def together(every: Iterable[PatientFacts]) -> PatientFacts:
    """What decides on a number that has several spellings: all that is known of each."""
    found = list(every)
    return PatientFacts(*(tuple(fact for facts in found for fact in getattr(facts, part.name)) for part in fields(PatientFacts)))


@dataclass(frozen=True)
class Study:
    """What deciding needs to know of a study: its owner, its earliest date (YYYYMMDD or empty), its patients' hashes.

    `former` are those of instances that were withdrawn: what was said of this study under them still hides it.
    """

    owner: str
    study_instance_uid: str
    date: str
    patients: tuple[str, ...]
    former: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decision:
    """`allowed`, by which transfers and emergencies, and until when if nothing changes (none and None for the owner)."""

    allowed: bool
    transfers: tuple[str, ...] = ()
    emergencies: tuple[str, ...] = ()
    until: datetime | None = None


DENIED = Decision(False)


class Rule(StrEnum):
    """Which of the rules above says whether an institution sees a study."""

    OWN = "own"
    OBJECTION = "objection"
    PROTECTION = "protection"
    EMERGENCY = "emergency"
    TRANSFER = "transfer"
    FOLLOW_UP = "follow-up"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Explanation:
    """A decision with the rule that makes it, and since when what it rests on holds (None where it rests on no moment)."""

    decision: Decision
    rule: Rule
    since: datetime | None = None


def explain(viewer: str, study: Study, facts: Mapping[str, PatientFacts], now: datetime) -> Explanation:
    """`decide`, and why."""
    decision = decide(viewer, study, facts, now)
    if viewer == study.owner:
        return Explanation(decision, Rule.OWN)
    if (hiding := _hiding(viewer, study, facts)) is not None:
        return Explanation(decision, hiding)
    if not decision.allowed:
        return Explanation(decision, Rule.NOTHING)
    starts = [
        min([grant.opened_at for grant in known.grants if _opens(grant, viewer, study, now)]
            + [emergency.opened_at for emergency in known.emergencies if _declared(emergency, viewer, now)])
        for known in (facts[patient] for patient in study.patients)
    ]  # fmt: skip
    if decision.emergencies:
        return Explanation(decision, Rule.EMERGENCY, max(starts))
    sent = any(
        grant.transfer_id in decision.transfers and grant.sender == study.owner
        for patient in study.patients
        for grant in facts[patient].grants
    )
    return Explanation(decision, Rule.TRANSFER if sent else Rule.FOLLOW_UP, max(starts))


def decide(viewer: str, study: Study, facts: Mapping[str, PatientFacts], now: datetime) -> Decision:
    """Whether `viewer` may see `study` at `now` (aware), given the facts of each of its patients' identifiers."""
    if viewer == study.owner:
        return Decision(True)
    if not study.patients or hidden(viewer, study, facts):
        return DENIED
    transfers: set[str] = set()
    emergencies: set[str] = set()
    ends: list[datetime] = []
    for patient in study.patients:
        known = facts.get(patient, NOTHING_KNOWN)
        declared = [emergency for emergency in known.emergencies if _declared(emergency, viewer, now)]
        granting = [grant for grant in known.grants if _opens(grant, viewer, study, now)]
        if not declared and not granting:
            return DENIED
        transfers |= {grant.transfer_id for grant in granting}
        emergencies |= {emergency.emergency_id for emergency in declared}
        ends.append(max([grant.expires_at for grant in granting] + [emergency.expires_at for emergency in declared]))
    return Decision(True, tuple(sorted(transfers)), tuple(sorted(emergencies)), min(ends))


def hidden(viewer: str, study: Study, facts: Mapping[str, PatientFacts]) -> bool:
    """Whether rule 2 or 3 keeps `study` from `viewer`, whatever else holds.

    Of the study itself it counts under whichever of its patient identifiers it was said; of all, only of those it has now.
    """
    return _hiding(viewer, study, facts) is not None


def _hiding(viewer: str, study: Study, facts: Mapping[str, PatientFacts]) -> Rule | None:
    if viewer == study.owner:
        return None
    now = [facts.get(patient, NOTHING_KNOWN) for patient in study.patients]
    ever = [*now, *(facts.get(patient, NOTHING_KNOWN) for patient in study.former)]
    if any(Objection(study.owner) in known.objections for known in now):
        return Rule.OBJECTION
    if any(Objection(study.owner, study.study_instance_uid) in known.objections for known in ever):
        return Rule.OBJECTION
    protected = any(Protection(study.owner, study.study_instance_uid) in known.protections for known in ever)
    consented = any(Consent(study.owner, study.study_instance_uid, viewer) in known.consents for known in ever)
    return Rule.PROTECTION if protected and not consented else None


def _declared(emergency: Emergency, viewer: str, now: datetime) -> bool:
    return emergency.institution == viewer and emergency.opened_at <= now < emergency.expires_at


def _opens(grant: Grant, viewer: str, study: Study, now: datetime) -> bool:
    if not grant.live(now):
        return False
    if (grant.sender, grant.receiver) == (study.owner, viewer):
        return grant.sent
    if (grant.sender, grant.receiver) == (viewer, study.owner):
        return grant.accepted and study.date >= grant.opened_at.astimezone(HOSPITAL_TIME).strftime("%Y%m%d")
    return False
