"""`/transfers`: open a transfer, accept those that wait, end and extend those that run; and whether the images are there."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from forwarder.web.archive_as import ArchiveAs, ArchiveRefusalError, City
from forwarder.web.days import end_of_day, last_day, today
from forwarder.web.evidence import EVIDENCE
from forwarder.web.identity import Person, RefusedError, Role
from forwarder.web.pages import N_, Pages, seen
from forwarder.web.ready import Readiness

PATH = "/transfers"
SHOWN = 50
"""Transfers of one list on the page; what waits beyond them is counted."""
LONGEST_NUMBER, LONGEST_REASON = 64, 500
DONE = {
    "opened": N_("The transfer is open: the other hospital sees the exams from now on."),
    "accepted": N_("The patient is accepted. The other hospital sees the exams made here from the day of the transfer on."),
    "ended": N_("The transfer has ended: nothing of it is seen any more, from now on."),
    "extended": N_("The transfer lasts longer."),
    "taken-back": N_("The acceptance is taken back: the transfer waits again."),
}


@dataclass(frozen=True)
class Comparison:
    """One fact of a patient as two hospitals have it; `agrees` is None where one of them does not say."""

    what: str
    ours: str
    theirs: str
    agrees: bool | None


class TransfersPage:
    """The page and its forms."""

    def __init__(self, pages: Pages, ready: Readiness, on_accepted: Callable[[str], None] = lambda _: None) -> None:
        self._pages, self._ready, self._on_accepted = pages, ready, on_accepted

    def routes(self) -> list[BaseRoute]:
        """The page, and where its forms go."""
        return [
            self._pages.route(PATH, self.show, Role.REGISTRY),
            self._pages.route(PATH, self.act, Role.REGISTRY, methods=("POST",)),
        ]

    async def show(self, request: Request, person: Person) -> Response:
        """200."""
        return await self._shown(request, person)

    async def act(self, request: Request, person: Person) -> Response:
        """303 to the page where something was done, 200 with what is to be confirmed; 400, 404, 409, 429 with the reason."""
        form = await self._pages.form(request, person)
        archive = self._pages.archive(person)
        acts = {
            "look": self._look, "open": self._open, "accept": self._accept, "end": self._end, "extend": self._extend,
            "take-back": self._take_back,
        }  # fmt: skip
        do = acts.get(form.get("act", ""))
        if do is None:
            raise RefusedError(400, "bad-form")
        try:
            return await do(request, person, archive, form)
        except ArchiveRefusalError as error:
            return await self._shown(request, person, error.status, form, wrong(form["act"], error))

    # Opening

    async def _look(self, request: Request, person: Person, archive: ArchiveAs, form: Mapping[str, str]) -> Response:
        """The patient of a number, with what would be shared, before it is."""
        city = await archive.city()
        number, to, reason = (form.get(name, "") for name in ("number", "to", "reason"))
        if to not in city.names or to == city.own or not number or not reason or len(reason) > LONGEST_REASON:
            return await self._shown(request, person, 400, form, N_("Number, destination and reason are needed."))
        until = last_day(form.get("until", ""))
        found = await archive.patient(number) if len(number) <= LONGEST_NUMBER else None
        if found is None:
            return await self._shown(request, person, 404, form, N_("No patient of this hospital has this number."))
        return self._pages.show(
            request, person, "transfer_confirm.html",
            patient=found["patient"], number=number, to=to, to_name=city.name(to), reason=reason, until=until.isoformat(),
            exams=[study for study in found["studies"] if study["owner"] == city.own], key=secrets.token_hex(16),
            running=[transfer for transfer in found["transfers"] if transfer["status"] == "active" and transfer["to"] == to],
        )  # fmt: skip

    async def _open(self, _: Request, __: Person, archive: ArchiveAs, form: Mapping[str, str]) -> Response:
        body = {
            "patient": {"id": form.get("number", "")}, "to": form.get("to", ""), "reason": form.get("reason", ""),
            "expires_at": end_of_day(last_day(form.get("until", ""))),
        }  # fmt: skip
        await archive.do("POST", "/transfers", body, Idempotency_Key=form.get("key", "") or secrets.token_hex(16))
        return seen(PATH, done="opened")

    # Receiving

    async def _accept(self, request: Request, person: Person, archive: ArchiveAs, form: Mapping[str, str]) -> Response:
        """Accept under a number; where it is another patient's by what both hospitals know, only once that is confirmed."""
        transfer, number = _transfer(form), form.get("number", "")
        if not number or len(number) > LONGEST_NUMBER:
            return await self._shown(request, person, 400, form, N_("Write the number that the patient has in this hospital."))
        waiting = await archive.get(f"/transfers/{transfer}")
        compared = await self._compared(archive, waiting, number)
        if form.get("sure") != "yes" and any(record.agrees is False for record in compared):
            city = await archive.city()
            return self._pages.show(
                request, person, "accept_confirm.html", 200,
                transfer=waiting, number=number, compared=compared, from_name=city.name(waiting["from"]),
            )  # fmt: skip
        await archive.do("PUT", f"/transfers/{transfer}/receiving-patient", {"id": number})
        await anyio.to_thread.run_sync(self._on_accepted, transfer)
        return seen(PATH, done="accepted")

    async def _take_back(self, _: Request, __: Person, archive: ArchiveAs, form: Mapping[str, str]) -> Response:
        await archive.do("DELETE", f"/transfers/{_transfer(form)}/receiving-patient")
        return seen(PATH, done="taken-back")

    # Running

    async def _end(self, _: Request, __: Person, archive: ArchiveAs, form: Mapping[str, str]) -> Response:
        await archive.do("DELETE", f"/transfers/{_transfer(form)}")
        return seen(PATH, done="ended")

    async def _extend(self, _: Request, __: Person, archive: ArchiveAs, form: Mapping[str, str]) -> Response:
        body = {"expires_at": end_of_day(last_day(form.get("until", "")))}
        await archive.do("PATCH", f"/transfers/{_transfer(form)}", body)
        return seen(PATH, done="extended")

    # What is shown

    async def _shown(
        self, request: Request, person: Person, status: int = 200, form: Mapping[str, str] | None = None, message: str = ""
    ) -> Response:
        archive = self._pages.archive(person)
        city = await archive.city()
        waiting, incoming, outgoing, past = await asyncio.gather(
            archive.get("/transfers", direction="incoming", accepted="false", limit=str(SHOWN)),
            archive.get("/transfers", direction="incoming", status="active", accepted="true", limit=str(SHOWN)),
            archive.get("/transfers", direction="outgoing", status="active", limit=str(SHOWN)),
            archive.get("/transfers", limit=str(SHOWN)),
        )
        form = form or {}
        typed = form if form.get("act") in ("look", "open") else {}
        return self._pages.show(
            request, person, "transfers.html", status,
            city=city, message=message, evidence=EVIDENCE, done=DONE.get(request.query_params.get("done", "")),
            form={name: typed.get(name, "") for name in ("number", "to", "reason", "until")}, today=today().isoformat(),
            default_until=last_day("").isoformat(), tried=form.get("transfer", ""), typed_number=form.get("number", ""),
            waiting=await self._waiting(archive, waiting["transfers"]), more=bool(waiting.get("next")),
            incoming=await self._running(archive, city, incoming["transfers"]),
            outgoing=await self._running(archive, city, outgoing["transfers"]),
            past=[transfer for transfer in past["transfers"] if transfer["status"] != "active"],
        )  # fmt: skip

    async def _waiting(self, archive: ArchiveAs, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Each with the patient as the sender knows them, what comes, and how a number that is proposed compares."""
        theirs = await archive.patients(transfer["patient"] for transfer in found)
        proposed = await archive.patients(transfer.get("proposed_patient", {}) for transfer in found)
        candidates = await self._ready.candidates()
        return [
            transfer | {
                "person": their["patient"] if their else None,
                "exams": their["studies"] if their else [],
                "candidates": candidates.get(transfer["id"], []),
                "compared": compare(our["patient"], their["patient"]) if our and their else [],
            }
            for transfer, their, our in zip(found, theirs, proposed, strict=True)
        ]  # fmt: skip

    async def _running(self, archive: ArchiveAs, city: City, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Each with the patient's name, and whether the other hospital's exams are here."""
        ours = [each["patient"] if each["from"] == city.own else each.get("receiving_patient", {}) for each in found]
        timelines = await archive.patients(ours)
        return [
            transfer | {
                "number": our.get("id", ""),
                "address": self._pages.door.patient_path(our.get("id", "")),
                "person": timeline["patient"] if timeline else None,
                "ready": await self._ready.of(our.get("id", ""), city.own, timeline["studies"] if timeline else []),
            }
            for transfer, our, timeline in zip(found, ours, timelines, strict=True)
        ]  # fmt: skip

    async def _compared(self, archive: ArchiveAs, transfer: Mapping[str, Any], number: str) -> list[Comparison]:
        ours, theirs = await archive.patients([{"id": number}, transfer["patient"]])
        return compare(ours["patient"], theirs["patient"]) if ours and theirs else []


def compare(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Comparison]:
    """What two hospitals say of a patient, one beside the other. Names differ by a second given name too often to contradict."""
    found = []
    for what, name in ((N_("Name"), "name"), (N_("Born"), "birth_date"), (N_("Sex"), "sex")):
        our, their = str(ours.get(name) or ""), str(theirs.get(name) or "")
        agrees = None if not our or not their else _plain(our) == _plain(their)
        found.append(Comparison(what, our, their, None if name == "name" and agrees is False else agrees))
    return found


def wrong(act: str, error: ArchiveRefusalError) -> str:
    """What a person is told where the archive refuses an act."""
    if error.status == 409 and isinstance(error.body.get("count"), int):
        return N_("Not just one number of yours is linked to this patient: write the one that is meant.")
    told = {
        404: N_("There is no such patient or transfer in this hospital."),
        429: N_("Too many in an hour. Try again later."),
        400: N_("The archive does not take this: look at number, dates and reason."),
        403: N_("Only the other hospital may do this."),
    }
    if error.status == 409 and act == "accept":
        return N_("The archive refuses: the transfer is over, or the two records carry different codici fiscali.")
    return told.get(error.status, N_("The transfer is over, or was changed at the same moment. Look again."))


def _transfer(form: Mapping[str, str]) -> str:
    transfer = form.get("transfer", "")
    if len(transfer) != 32 or not transfer.isalnum():
        raise RefusedError(400, "bad-form")
    return transfer


def _plain(text: str) -> str:
    return " ".join(text.replace("^", " ").split()).casefold()
