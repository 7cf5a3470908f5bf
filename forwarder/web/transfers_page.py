"""`/transfers`: open a transfer, accept those that wait, end and extend those that run; and whether the images are there."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from forwarder.web.archive_as import ArchiveAs, ArchiveRefusalError, City
from forwarder.web.days import HERE, end_of_day, last_day, today
from forwarder.web.evidence import EVIDENCE
from forwarder.web.identity import Person, RefusedError, Role
from forwarder.web.pages import N_, Pages, person_name, seen
from forwarder.web.ready import ProposedNumber, Readiness
from forwarder.web.transfer_lists import View, listed
from forwarder.web.whose_number import compare, is_anothers, question

PATH = "/transfers"
LONGEST_NUMBER, LONGEST_REASON = 64, 500
IDENTIFIER = re.compile(r"[0-9a-z]{32}")
STATE = re.compile(r"[0-9a-z-]{1,32}")
REVIEWED = ("act", "number", "to", "reason", "until", "key")
REMEMBERED = 1000
UNKNOWN_NUMBER = N_("No patient of this hospital has this number.")
EXTEND_BY = N_("The new last day has to be later than the present one, and within ten years of the opening.")
MORE_DAYS = ("7", "30")
"""By how many days one click extends a transfer."""
REVIEW, QUESTION, LIST = PATH + "/new", PATH + "/number", PATH + "/list"
DONE_COOKIE = "contenitore_done"
DONE = {
    "opened": N_(
        "The transfer of %(patient)s is open. To: %(hospital)s. The exams of this hospital are seen there from now on, but for "
        "what is protected or was objected to; those that are made there are seen here once the transfer is accepted."
    ),
    "accepted": N_(
        "The transfer of %(patient)s is accepted under number %(number)s. From: %(hospital)s. "
        "The exams made here from the day of the transfer on are seen there."
    ),
    "ended": N_(
        "The transfer of %(patient)s has ended. With: %(hospital)s. By this transfer neither hospital sees the other's exams any "
        "more. Images that are in a hospital's own PACS already stay there."
    ),
    "extended": N_("The transfer of %(patient)s lasts longer: it is open until %(until)s. To: %(hospital)s."),
    "taken-back": N_(
        "The acceptance of the transfer of %(patient)s is taken back. From: %(hospital)s. The transfer waits again."
    ),
}
CHANGED = {
    "waiting": N_(
        "Nothing was done: the transfer of %(patient)s has changed since this page was made. From: %(hospital)s. It waits for "
        "its acceptance, and is open until %(until)s."
    ),
    "accepted": N_(
        "Nothing was done: the transfer of %(patient)s has changed since this page was made. With: %(hospital)s. It is accepted "
        "under number %(number)s, and open until %(until)s."
    ),
    "sent": N_(
        "Nothing was done: the transfer of %(patient)s has changed since this page was made. To: %(hospital)s. It is open until "
        "%(until)s."
    ),
    "revoked": N_("Nothing was done: the transfer of %(patient)s has ended already. With: %(hospital)s."),
    "expired": N_("Nothing was done: the transfer of %(patient)s had already run out, on %(until)s. With: %(hospital)s."),
}
"""What a transfer is by now of which somebody knew something else."""
STILL_OPEN = N_("Another transfer of this patient with the same hospital is still open: by that one exams are still seen.")


@dataclass(frozen=True)
class Told:
    """What was done, in words, and what stands in them; `more`: what has to be known besides."""

    text: str
    facts: Mapping[str, str] = field(default_factory=dict)
    more: str = ""


class TransfersPage:
    """The page and its forms."""

    def __init__(self, pages: Pages, ready: Readiness, on_accepted: Callable[[str], None] = lambda _: None) -> None:
        self._pages, self._ready, self._on_accepted = pages, ready, on_accepted
        self._opened: dict[str, str] = {}
        """What each form opened, so that a second click on it opens nothing and asks nothing."""

    def routes(self) -> list[BaseRoute]:
        """The page, and where its forms go."""
        return [
            self._pages.route(PATH, self.show, Role.REGISTRY),
            self._pages.route(PATH, self.act, Role.REGISTRY, methods=("POST",)),
            self._pages.route(LIST + "/{sealed}", self.show, Role.REGISTRY),
            self._pages.route(LIST + "/{sealed}", self.act, Role.REGISTRY, methods=("POST",)),
            self._pages.route(REVIEW + "/{sealed}", self.review, Role.REGISTRY),
            self._pages.route(QUESTION + "/{sealed}", self.ask, Role.REGISTRY),
        ]

    async def show(self, request: Request, person: Person) -> Response:
        """200; what was just done is told once."""
        answer = await self._shown(request, person)
        if DONE_COOKIE in request.cookies:
            answer.delete_cookie(DONE_COOKIE, path=PATH)
        return answer

    async def act(self, request: Request, person: Person) -> Response:
        """303 to the page where something was done, or to what is to be confirmed; 400, 404, 409, 429 with the reason."""
        form = await self._pages.form(request, person)
        archive = self._pages.archive(person)
        acts = {
            "look": self._look, "open": self._open, "accept": self._accept, "end": self._end, "extend": self._extend,
            "take-back": self._take_back, "find": self._find,
        }  # fmt: skip
        do = acts.get(form.get("act", ""))
        if do is None:
            raise RefusedError(400, "bad-form")
        try:
            return await do(request, person, archive, form)
        except ArchiveRefusalError as error:
            told = await self._changed(archive, _transfer(form)) if error.status == 412 else Told(wrong(form["act"], error))
            return await self._shown(request, person, error.status, form, told.text, told.facts)

    async def _find(self, request: Request, person: Person, archive: ArchiveAs, form: Mapping[str, str]) -> Response:
        """To the lists of the transfers of a number, and with another hospital: of either alone, too."""
        number, hospital = form.get("number", ""), form.get("hospital", "")
        if len(number) > LONGEST_NUMBER:
            return await self._shown(request, person, 404, form, UNKNOWN_NUMBER)
        known = hospital in (await archive.city()).names
        return seen(self._address(View(number=number, hospital=hospital if known else "")))

    def _address(self, view: View) -> str:
        """Where the lists are shown so: no number stands in it."""
        return PATH if view == View() else self._pages.door.sealed_path(LIST, view.fields())

    def _view(self, request: Request) -> View:
        """How the lists are shown at the address that was asked for."""
        if not request.url.path.startswith(LIST + "/"):
            return View()
        return View(**self._pages.door.sealed_fields(LIST, request.path_params["sealed"]))

    # Opening

    async def _look(self, request: Request, person: Person, archive: ArchiveAs, form: Mapping[str, str]) -> Response:
        """To the page that shows the patient of a number, and what would be shared."""
        city = await archive.city()
        number, to, reason = (form.get(name, "") for name in ("number", "to", "reason"))
        if to not in city.names or to == city.own or not number or not reason or len(reason) > LONGEST_REASON:
            return await self._shown(request, person, 400, form, N_("Number, destination and reason are needed."))
        if len(number) > LONGEST_NUMBER:
            return await self._shown(request, person, 404, form, UNKNOWN_NUMBER)
        until = last_day(form.get("until", "")).isoformat()
        asked = {"act": "look", "number": number, "to": to, "reason": reason, "until": until, "key": secrets.token_hex(16)}
        return seen(self._pages.door.sealed_path(REVIEW, asked))

    async def review(self, request: Request, person: Person) -> Response:
        """200 with the patient of a number and what would be shared, before it is; 404."""
        form = self._pages.door.sealed_fields(REVIEW, request.path_params["sealed"])
        archive = self._pages.archive(person)
        city, found = await asyncio.gather(archive.city(), archive.patient(form["number"]))
        if found is None:
            return await self._shown(request, person, 404, form, UNKNOWN_NUMBER)
        own = [study for study in found["studies"] if study["owner"] == city.own]
        return self._pages.show(
            request, person, "transfer_confirm.html", form=form, to_name=city.name(form["to"]), patient=found["patient"],
            exams=[study | {"another": is_anothers(study, found["patient"])} for study in own], more_days=MORE_DAYS,
            running=[transfer | _days(transfer) for transfer in _open_between(found, city, form["to"])],
        )  # fmt: skip

    async def _open(self, request: Request, __: Person, archive: ArchiveAs, form: Mapping[str, str]) -> Response:
        key = form.get("key", "") or secrets.token_hex(16)
        opened_since = await self._running_now(archive, form) - {*form.get("running", "").split(), self._opened.get(key, "")}
        if opened_since:  # by somebody else, since the patient was shown
            return seen(self._pages.door.sealed_path(REVIEW, {name: form.get(name, "") for name in REVIEWED}))
        body = {
            "patient": {"id": form.get("number", "")}, "to": form.get("to", ""), "reason": form.get("reason", ""),
            "expires_at": end_of_day(last_day(form.get("until", ""))),
        }  # fmt: skip
        opened = await archive.do("POST", "/transfers", body, Idempotency_Key=key)
        while len(self._opened) >= REMEMBERED:
            del self._opened[next(iter(self._opened))]
        self._opened[key] = opened["id"]
        return self._done(request, "opened", opened["id"])

    async def _running_now(self, archive: ArchiveAs, form: Mapping[str, str]) -> set[str]:
        """The transfers of a number to a hospital that are open."""
        found, city = await asyncio.gather(archive.patient(form.get("number", "")), archive.city())
        return {transfer["id"] for transfer in _open_between(found, city, form.get("to", ""))} if found else set()

    # Receiving

    async def _accept(self, request: Request, person: Person, archive: ArchiveAs, form: Mapping[str, str]) -> Response:
        """Accept under a number; where it is not certain that it is this patient's, only once that is confirmed."""
        transfer, number = _transfer(form), form.get("number", "")
        if not number or len(number) > LONGEST_NUMBER:
            return await self._shown(request, person, 400, form, N_("Write the number that the patient has in this hospital."))
        if form.get("sure") != "yes":
            _, asked = await question(archive, transfer, number)
            if asked.doubts:
                asked_about = {"transfer": transfer, "number": number, "state": form.get("state", "")}
                return seen(self._pages.door.sealed_path(QUESTION, asked_about))
        await archive.do("PUT", f"/transfers/{transfer}/receiving-patient", {"id": number}, **_as_seen(form))
        await anyio.to_thread.run_sync(self._on_accepted, transfer)
        return self._done(request, "accepted", transfer)

    async def ask(self, request: Request, person: Person) -> Response:
        """200 with what is known of the number under which a transfer is to be accepted, and why that is asked; 404."""
        form = self._pages.door.sealed_fields(QUESTION, request.path_params["sealed"])
        archive = self._pages.archive(person)
        (transfer, asked), city = await asyncio.gather(question(archive, form["transfer"], form["number"]), archive.city())
        return self._pages.show(
            request, person, "accept_confirm.html", transfer=transfer | {"state": form["state"]},
            number=form["number"], asked=asked, from_name=city.name(transfer["from"]),
        )  # fmt: skip

    async def _take_back(self, request: Request, __: Person, archive: ArchiveAs, form: Mapping[str, str]) -> Response:
        await archive.do("DELETE", f"/transfers/{_transfer(form)}/receiving-patient", **_as_seen(form))
        return self._done(request, "taken-back", _transfer(form))

    # Running

    async def _end(self, request: Request, __: Person, archive: ArchiveAs, form: Mapping[str, str]) -> Response:
        await archive.do("DELETE", f"/transfers/{_transfer(form)}", **_as_seen(form))
        return self._done(request, "ended", _transfer(form))

    async def _extend(self, request: Request, person: Person, archive: ArchiveAs, form: Mapping[str, str]) -> Response:
        """To the day that is named, or by `more` days."""
        transfer, more = _transfer(form), form.get("more", "")
        if more in MORE_DAYS:
            until = last_day_of(await archive.get(f"/transfers/{transfer}")) + timedelta(days=int(more))
        elif more or not form.get("until"):
            return await self._shown(request, person, 400, form, EXTEND_BY)
        else:
            until = last_day(form["until"])
        await archive.do("PATCH", f"/transfers/{transfer}", {"expires_at": end_of_day(until)}, **_as_seen(form))
        return self._done(request, "extended", transfer)

    # What was done

    def _done(self, request: Request, what: str, transfer: str) -> Response:
        """303 to the page, which tells it once: what and of which transfer stands in a cookie, nothing of the patient."""
        answer = seen(self._address(self._view(request)))
        secure = self._pages.door.secure(request)
        answer.set_cookie(DONE_COOKIE, f"{what}.{transfer}", 60, path=PATH, httponly=True, samesite="lax", secure=secure)
        return answer

    async def _told(self, archive: ArchiveAs, city: City, cookie: str, open_now: list[dict[str, Any]]) -> Told | None:
        what, _, name = cookie.partition(".")
        if what not in DONE or not IDENTIFIER.fullmatch(name):
            return None
        transfer = await archive.maybe(f"/transfers/{name}")
        if transfer is None:
            return None
        facts, known = await self._facts(archive, city, transfer)
        others = [
            other for other in (*open_now, *known)
            if other["id"] != name and other["status"] == "active" and _of_same(other, transfer)
        ]  # fmt: skip
        return Told(DONE[what], facts, STILL_OPEN if what == "ended" and others else "")

    async def _changed(self, archive: ArchiveAs, name: str) -> Told:
        """What a transfer is now. Raises ArchiveRefusalError."""
        transfer, city = await asyncio.gather(archive.get(f"/transfers/{name}"), archive.city())
        accepted = "accepted" if "accepted_at" in transfer else "sent" if transfer["from"] == city.own else "waiting"
        facts, _ = await self._facts(archive, city, transfer)
        facts["number"] = str(transfer.get("receiving_patient", transfer["patient"])["id"])
        return Told(CHANGED[accepted if transfer["status"] == "active" else transfer["status"]], facts)

    async def _facts(
        self, archive: ArchiveAs, city: City, transfer: Mapping[str, Any]
    ) -> tuple[dict[str, str], list[dict[str, Any]]]:
        """(what of a transfer stands in words, the patient's transfers that are known by our number)."""
        sent = transfer["from"] == city.own
        ours = transfer["patient"] if sent else transfer.get("receiving_patient", transfer["patient"])
        found, theirs = await archive.patients([ours, {} if sent else transfer["patient"]])  # ours is found by it a little later
        known = next((person_name(each["patient"]["name"]) for each in (found, theirs) if each and each["patient"]["name"]), "")
        facts = {
            "patient": known or str(ours["id"]), "number": str(ours["id"]), "until": last_day_of(transfer).strftime("%d/%m/%Y"),
            "hospital": city.name(transfer["to"] if sent else transfer["from"]),
        }  # fmt: skip
        return facts, found["transfers"] if found else []

    # What is shown

    async def _shown(
        self,
        request: Request,
        person: Person,
        status: int = 200,
        form: Mapping[str, str] | None = None,
        message: str = "",
        facts: Mapping[str, str] | None = None,
    ) -> Response:
        archive = self._pages.archive(person)
        city = await archive.city()
        view = self._view(request)
        lists = await listed(archive, view)
        tell = {"waiting": self._waiting, "incoming": self._running, "outgoing": self._running, "past": self._ended}
        form = form or {}
        tried = form.get("transfer", "")
        cookie = request.cookies.get(DONE_COOKIE, "") if form.get("act") is None else ""
        open_now = [transfer for name, found in lists.items() if name != "past" for transfer in found.transfers]
        beside = bool(message) and tried in {transfer["id"] for transfer in open_now}
        typed = form if form.get("act") in ("look", "open") else {}
        return self._pages.show(
            request, person, "transfers.html", status,
            city=city, message=message, facts=facts or {}, beside=beside, evidence=EVIDENCE, more_days=MORE_DAYS,
            done=await self._told(archive, city, cookie, open_now) if cookie else None,
            form={name: typed.get(name, "") for name in ("number", "to", "reason", "until")}, today=today().isoformat(),
            default_until=last_day("").isoformat(), tried=tried, typed_number=form.get("number", ""),
            view=view, here=self._address(view), path_of_all=PATH,
            further={name: self._address(view.beyond(name, found.next)) if found.next else "" for name, found in lists.items()},
            lists={name: await tell[name](archive, city, found.transfers) for name, found in lists.items()},
        )  # fmt: skip

    async def _waiting(self, archive: ArchiveAs, _: City, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Each with the patient as the sender knows them, what comes, and how a number that is proposed compares."""
        theirs = await archive.patients(transfer["patient"] for transfer in found)
        proposed = await archive.patients(transfer.get("proposed_patient", {}) for transfer in found)
        candidates = await self._ready.candidates()
        return [
            transfer | _choices(transfer, candidates.get(transfer["id"], [])) | {
                "person": their["patient"] if their else None,
                "exams": their["studies"] if their else [],
                "compared": compare(our["patient"], their["patient"]) if our and their else [],
            }
            for transfer, their, our in zip(found, theirs, proposed, strict=True)
        ]  # fmt: skip

    async def _running(self, archive: ArchiveAs, city: City, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Each with the patient's name, our exams of somebody else that go along, and whether the other hospital's are here."""
        ours = [each["patient"] if each["from"] == city.own else each.get("receiving_patient", {}) for each in found]
        timelines = await archive.patients(ours)
        return [
            transfer | _days(transfer) | {
                "number": our.get("id", ""),
                "address": self._pages.door.patient_path(our.get("id", "")),
                "person": timeline["patient"] if timeline else None,
                "others": _of_another(transfer, city.own, timeline) if timeline else [],
                "ready": await self._ready.of(our.get("id", ""), city.own, timeline["studies"] if timeline else []),
            }
            for transfer, our, timeline in zip(found, ours, timelines, strict=True)
        ]  # fmt: skip

    async def _ended(self, _: ArchiveAs, city: City, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Each with our number of the patient and where its page is; the sender's number where we never had one."""
        ours = [each["patient"] if each["from"] == city.own else each.get("receiving_patient") for each in found]
        return [
            transfer | {
                "number": str((our or transfer["patient"])["id"]),
                "address": self._pages.door.patient_path(str(our["id"])) if our else "",
            }
            for transfer, our in zip(found, ours, strict=True)
        ]  # fmt: skip


def wrong(act: str, error: ArchiveRefusalError) -> str:
    """What a person is told where the archive refuses an act."""
    if error.status == 409 and isinstance(error.body.get("count"), int):
        return N_("Not just one number of yours is linked to this patient: write the one that is meant.")
    if error.status == 400 and act == "extend":
        return EXTEND_BY
    told = {
        404: N_("There is no such patient or transfer in this hospital."),
        429: N_("Too many in an hour. Try again later."),
        400: N_("The archive does not take this: look at number, dates and reason."),
        403: N_("Only the other hospital may do this."),
    }
    if error.status == 409 and act == "accept":
        return N_("The archive refuses: the transfer is over, or the two records carry different codici fiscali.")
    return told.get(error.status, N_("The transfer is over, or was changed at the same moment. Look again."))


def last_day_of(transfer: Mapping[str, Any]) -> date:
    """The day here on which a transfer ends."""
    return datetime.fromisoformat(transfer["expires_at"]).astimezone(HERE).date()


def _of_another(transfer: Mapping[str, Any], own: str, timeline: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Our exams under a number that are of somebody else, and go along with a transfer: to where it was sent all, from where it
    was received those since it was opened."""
    opened = datetime.fromisoformat(transfer["opened_at"]).astimezone(HERE).strftime("%Y%m%d")
    since = "" if transfer["from"] == own else opened
    made = (exam for exam in timeline["studies"] if exam["owner"] == own and (exam["study_date"] or opened) >= since)
    return [exam for exam in made if is_anothers(exam, timeline["patient"])]


def _days(transfer: Mapping[str, Any]) -> dict[str, str]:
    """The last day of a transfer, and the first to which it can be extended, as forms write them."""
    last = last_day_of(transfer)
    return {"last_day": last.isoformat(), "later": (last + timedelta(days=1)).isoformat()}


def _choices(transfer: Mapping[str, Any], candidates: list[ProposedNumber]) -> dict[str, Any]:
    """Our numbers that are linked already, and what else is proposed."""
    linked = [str(known["id"]) for known in transfer.get("linked_patients", ())]
    return {"linked": linked, "candidates": [candidate for candidate in candidates if candidate.number not in linked]}


def _of_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two transfers are of one patient between the same two hospitals, in either direction."""

    def numbers(transfer: Mapping[str, Any]) -> set[tuple[str, str]]:
        named = (transfer["patient"], transfer.get("receiving_patient"))
        return {(number["issuer"], number["id"]) for number in named if number}

    return {one["from"], one["to"]} == {other["from"], other["to"]} and not numbers(one).isdisjoint(numbers(other))


def _open_between(found: Mapping[str, Any], city: City, to: str) -> list[dict[str, Any]]:
    """The transfers of a patient to a hospital that are open."""
    both = (city.own, to)
    return [each for each in found["transfers"] if each["status"] == "active" and (each["from"], each["to"]) == both]


def _as_seen(form: Mapping[str, str]) -> dict[str, str]:
    """The header by which nothing is done to a transfer that has changed since the form was made (RFC 9110 13.1.1)."""
    state = form.get("state", "")
    return {"If_Match": f'"{state}"'} if STATE.fullmatch(state) else {}


def _transfer(form: Mapping[str, str]) -> str:
    transfer = form.get("transfer", "")
    if not IDENTIFIER.fullmatch(transfer):
        raise RefusedError(400, "bad-form")
    return transfer
