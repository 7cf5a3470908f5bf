"""Whose a number is under which a transfer is to be accepted: what the two hospitals know, and what asks for a second look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forwarder.stand_in import BIRTH_DATE, is_stand_in, may_be_one
from forwarder.web.archive_as import ArchiveAs
from forwarder.web.pages import N_, person_name

DIFFERS = N_("What the two hospitals know of the patient differs.")
UNKNOWN = N_("Never seen here: the archive knows no patient of this hospital by this number. It may be a slip.")
ANOTHER = N_("Another number of this hospital is linked to this patient already.")
OMOCODIA = N_(
    "The two codici fiscali are the same only without omocodia. It is given so that two persons are told apart: compare the "
    "whole code with a document."
)
UNSURE = N_("What the two hospitals know is not enough to say that it is the same person.")


@dataclass(frozen=True)
class Comparison:
    """One fact of a patient as two hospitals have it; `agrees` is None where one of them does not say."""

    what: str
    ours: str
    theirs: str
    agrees: bool | None


@dataclass(frozen=True)
class Question:
    """What is asked before a number is accepted: why (nothing: it is certain), the facts, and our numbers that are linked."""

    doubts: Sequence[str]
    compared: Sequence[Comparison]
    linked: Sequence[str]


async def question(archive: ArchiveAs, transfer_id: str, number: str) -> tuple[Mapping[str, Any], Question]:
    """A transfer, and what speaks against accepting it under a number of ours without a second look. Raises as `ArchiveAs`."""
    transfer = await archive.get(f"/transfers/{transfer_id}", compare=number)
    linked = [str(known["id"]) for known in transfer.get("linked_patients", ())]
    ours, theirs = await archive.patients([{"id": number}, transfer["patient"]])
    our, their = (timeline["patient"] if timeline else {} for timeline in (ours, theirs))
    compared = compare(our, their)
    found = doubts(compared, linked, number, known=ours is not None)
    if transfer.get("codice_fiscale") == "omocodia":
        found.append(OMOCODIA)
    return transfer, Question(found, compared, linked)


def doubts(compared: Sequence[Comparison], linked: Sequence[str], number: str, *, known: bool) -> list[str]:
    """Why a number is not certain: it is where it is linked, or is known here, agrees in birth date, and in nothing differs. What
    stands in for a name (a newborn's) agrees with nobody's."""
    agree = {fact.what: fact.agrees for fact in compared}
    found = [ANOTHER] if linked and number not in linked else []
    if not known and number not in linked:
        return [*found, UNKNOWN]
    if agree["Born"] is False or agree["Sex"] is False or (agree["Name"] is False and number not in linked):
        return [*found, DIFFERS]
    unnamed = any(fact.what == "Name" and is_stand_in(name) for fact in compared for name in (fact.ours, fact.theirs))
    return [*found, UNSURE] if (agree["Born"] is None or unnamed) and number not in linked else found


def compare(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Comparison]:
    """What two hospitals say of a patient, one beside the other. A second given name that one leaves out decides nothing."""
    found = []
    for what, name in ((N_("Name"), "name"), (N_("Born"), "birth_date"), (N_("Sex"), "sex")):
        our, their = str(ours.get(name) or ""), str(theirs.get(name) or "")
        agrees = None if not our or not their else _plain(our) == _plain(their)
        if agrees and (our == BIRTH_DATE or (name == "name" and is_stand_in(our))):
            agrees = None
        if name == "name" and agrees is False:
            agrees = None if may_be_one(_plain(our), _plain(their)) else False
        found.append(Comparison(what, our, their, agrees))
    return found


def _plain(text: str) -> str:
    return (person_name(text) or text).casefold()
