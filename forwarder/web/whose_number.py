"""Whose a number is under which a transfer is to be accepted, or that is to be joined to another one: what is known of both, and
what asks for a second look."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forwarder.stand_in import BIRTH_DATE, are_several, are_two, is_stand_in, may_be_one
from forwarder.web.archive_as import ArchiveAs, segment
from forwarder.web.pages import N_, person_name

SEVERAL = N_("Under the two numbers somebody else is named, too, with another birth date: is it one person?")
DIFFERS = N_("What is known under the two numbers differs.")
UNKNOWN = N_("Never seen here: the archive knows no patient of this hospital by this number. It may be a slip.")
ANOTHER = N_("Another number of this hospital is linked to this patient already.")
OMOCODIA = N_(
    "The two codici fiscali are the same only without omocodia. It is given so that two persons are told apart: compare the "
    "whole code with a document."
)
UNSURE = N_("What is known under the two numbers is not enough to say that it is the same person.")


@dataclass(frozen=True)
class Comparison:
    """One fact of a patient as two hospitals have it; `agrees` is None where one of them does not say."""

    what: str
    ours: str
    theirs: str
    agrees: bool | None


@dataclass(frozen=True)
class Question:
    """What is asked before a number is accepted, or joined: why (nothing: it is certain), the facts, our numbers that are linked,
    and the exams that are seen of our number and of the other one."""

    doubts: Sequence[str]
    compared: Sequence[Comparison]
    linked: Sequence[str]
    ours: Sequence[Mapping[str, Any]]
    theirs: Sequence[Mapping[str, Any]]


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
    if DIFFERS not in found and are_several((*_named(ours), *_named(theirs))):
        found.append(SEVERAL)
    return transfer, Question(found, compared, linked, _exams(ours), _exams(theirs))


async def joining(archive: ArchiveAs, number: str, link: str = "", typed: str = "") -> tuple[Mapping[str, str], Question]:
    """(what a number of ours is to be joined to: what is proposed as `link`, or another one of ours that somebody `typed`; why a
    second look is asked for): two persons are named, or the codes differ in omocodia; of what was typed, also whatever is not
    certain. Of what is linked already, or not proposed any more, nothing is asked. Raises as `ArchiveAs`."""
    found, city = await asyncio.gather(archive.maybe(f"/patients/{segment(number)}/links"), archive.city())
    mine = {"issuer": city.issuer, "id": typed}
    listed = found["links"] if found else []
    said = next((each for each in listed if (each["link"] == link if link else each["identifier"] == mine)), None)
    other: Mapping[str, str] = said["identifier"] if said else mine
    ours, theirs = await archive.patients([{"id": number}, other])
    our, their = (timeline["patient"] if timeline else {} for timeline in (ours, theirs))
    compared = compare(our, their)
    asked = doubts(compared, (), typed, known=theirs is not None) if typed else []
    if said and "different-omocodia" in said["against"]:
        asked.append(OMOCODIA)
    if DIFFERS not in asked and are_several((*_named(ours), *_named(theirs))):
        asked.append(SEVERAL)
    settled = said["status"] == "confirmed" if said else not typed
    return other, Question([] if settled else asked, compared, (), _exams(ours), _exams(theirs))


def is_anothers(study: Mapping[str, Any], patient: Mapping[str, Any]) -> bool:
    """Whether an exam is of somebody else than whom the number is shown as."""
    return are_two(patient["name"], patient["birth_date"], study["patient"]["name"], study["patient"]["birth_date"])


def _exams(timeline: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The exams of a number, first those of somebody else than whom it is shown as."""
    return sorted(timeline["studies"], key=lambda exam: not is_anothers(exam, timeline["patient"])) if timeline else []


def _named(timeline: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """(name, birth date) of all who are named under a number."""
    if timeline:
        for who in (timeline["patient"], *(exam["patient"] for exam in timeline["studies"])):
            yield str(who.get("name") or ""), str(who.get("birth_date") or "")


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
