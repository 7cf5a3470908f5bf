"""A patient's page: numbers, what is hidden and protected and from whom, who looked, emergencies; and the way to the images.

Its address is sealed (`web.opaque`): no number stands in it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from forwarder.hl7.adt import merges
from forwarder.hl7.adt.merges import Merge, MergeConcern
from forwarder.hl7.priors import ExamForOrder, same_elsewhere
from forwarder.logs import log
from forwarder.spool.journal import Journal
from forwarder.web.archive_as import ArchiveAs, ArchiveRefusalError, segment
from forwarder.web.days import end_of_day, last_day, today
from forwarder.web.evidence import EVIDENCE
from forwarder.web.identity import Person, RefusedError, Role
from forwarder.web.pages import N_, Pages, seen
from forwarder.web.transfers_page import LONGEST_NUMBER, LONGEST_REASON
from forwarder.web.whose_number import SEVERAL, is_anothers, joining

PATH = "/patients"
QUESTION = PATH + "/number"
EVERY = (Role.REGISTRY, Role.RADIOLOGY, Role.PRIVACY)
CODICE_FISCALE = re.compile(
    r"[A-Za-z]{6}[0-9LMNPQRSTUVlmnpqrstuv]{2}[A-Za-z][0-9LMNPQRSTUVlmnpqrstuv]{2}[A-Za-z][0-9A-Za-z]{3}[A-Za-z]"
)
CODICE_FISCALE_ISSUER = "2.16.840.1.113883.2.9.4.3.2"
DECLARED = "declared"
FOUND_SECONDS, AGAIN_SECONDS = 5.0, 0.3
DONE = {
    "linked": N_("The two numbers are the same patient's from now on."),
    "unlinked": N_("The two numbers are no longer one patient's."),
    "objected": N_("From now on nobody else sees it."),
    "objection-ended": N_("The objection has ended: it is shared again as before."),
    "objection-stands": N_("This objection has ended. Another one stands: what that one names stays hidden."),
    "protected": N_("The exam is protected: only those see it to whom the patient consents by name."),
    "consented": N_("The consent is recorded."),
    "consent-ended": N_("The consent has ended."),
    "reviewed": N_("The review is closed."),
    "merge-seen": N_("It was looked at: it waits no more. The two numbers stay one patient's."),
}
BASIS = {
    "transfer": N_("by the acceptance of a transfer"), "confirmed": N_("confirmed by a person"),
    "codice-fiscale": N_("by the codice fiscale"),
}  # fmt: skip
CONCERNS = {
    MergeConcern.ANOTHERS: SEVERAL,
    MergeConcern.PROPOSED: N_("Numbers that are linked to the one given up are proposed for the one that stays."),
    MergeConcern.OBJECTED: N_(
        "Under the number given up there is an objection to all exams: the privacy office has to record it for the one that "
        "stays, too, if it is to hold for whatever is joined to that."
    ),
}
RULES = {
    "objection": N_("The patient objected."),
    "protection": N_("The exam is protected, and the patient did not consent to this hospital."),
    "emergency": N_("This hospital declared an emergency."),
    "transfer": N_("A transfer to this hospital is open."),
    "follow-up": N_("This hospital sent the patient here, and the patient was accepted: it sees what is made since."),
    "nothing": N_("No transfer and no emergency opens it."),
    "withdrawn": N_("The exam was withdrawn."),
}
JOINING = {"confirm-link": {"link": "link"}, "add-link": {"typed": "number"}}
"""The forms that join two numbers, and in which field of theirs stands what is joined."""
Act = Callable[[ArchiveAs, str, Mapping[str, str]], Awaitable[str]]


@dataclass(frozen=True)
class _Allowed:
    role: Role
    do: Act


class PatientPage:
    """The page, its forms, and the finding of a patient."""

    def __init__(self, pages: Pages, journal: Journal) -> None:
        self._pages, self._journal = pages, journal
        self._acts = {
            "confirm-link": _Allowed(Role.REGISTRY, _confirm_link), "add-link": _Allowed(Role.REGISTRY, _add_link),
            "undo-link": _Allowed(Role.REGISTRY, _undo_link),
            "object": _Allowed(Role.PRIVACY, _object), "end-objection": _Allowed(Role.PRIVACY, _end_objection),
            "protect": _Allowed(Role.PRIVACY, _protect), "consent": _Allowed(Role.PRIVACY, _consent),
            "end-consent": _Allowed(Role.PRIVACY, _end_consent),
        }  # fmt: skip

    def routes(self) -> list[BaseRoute]:
        """The pages, and where their forms go."""
        patient = PATH + "/{sealed}"
        return [
            self._pages.route(PATH, self.start, *EVERY),
            self._pages.route(PATH, self.begin, *EVERY, methods=("POST",)),
            self._pages.route(patient, self.show, *EVERY),
            self._pages.route(patient, self.act, *EVERY, methods=("POST",)),
            self._pages.route(QUESTION + "/{sealed}", self.ask, Role.REGISTRY),
            self._pages.route(patient + "/images", self.images, Role.RADIOLOGY),
            self._pages.route(patient + "/accesses.pdf", self.accesses, Role.PRIVACY),
        ]

    # Finding a patient; emergencies

    async def start(self, request: Request, person: Person) -> Response:
        """200."""
        return await self._started(request, person)

    async def begin(self, request: Request, person: Person) -> Response:
        """303 to a patient's page; 200 where an emergency was declared; 400, 403, 404 with the reason."""
        form = await self._pages.form(request, person)
        archive = self._pages.archive(person)
        act, number = form.get("act", ""), form.get("number", "")
        try:
            if act == "find":
                if not 0 < len(number) <= LONGEST_NUMBER or await archive.patient(number) is None:
                    return await self._started(request, person, 404, N_("No patient of this hospital has this number."))
                return seen(self._pages.door.patient_path(number))
            if act == "emergency":
                require(person, Role.RADIOLOGY)
                return await self._emergency(request, person, archive, form)
            if act == "review":
                require(person, Role.PRIVACY)
                body = {"conclusion": form.get("conclusion", ""), "note": form.get("note", "")}
                await archive.do("POST", f"/emergency-access/{segment(form.get('emergency', ''))}/review", body)
                return seen(PATH, done="reviewed")
            if act == "merge-seen":
                require(person, Role.REGISTRY)
                await anyio.to_thread.run_sync(self._looked_at, number, form.get("other", ""))
                log.info("a merge was looked at", by=person.name)
                return seen(PATH, done="merge-seen")
        except ArchiveRefusalError as error:
            return await self._started(request, person, error.status, N_("The archive does not take this. Nothing was done."))
        raise RefusedError(400, "bad-form")

    async def _emergency(self, request: Request, person: Person, archive: ArchiveAs, form: Mapping[str, str]) -> Response:
        """Declare; the images are opened by the link that is shown then."""
        number, reason, name = (form.get(field, "") for field in ("number", "reason", "name"))
        if not 0 < len(number) <= LONGEST_NUMBER or not 0 < len(reason) <= LONGEST_REASON or not name:
            return await self._started(request, person, 400, N_("Number, reason and your name are needed."))
        patient = {"id": number}
        if CODICE_FISCALE.fullmatch(number):
            patient = {"id": number.upper(), "issuer": CODICE_FISCALE_ISSUER}
        practitioner = {"id": person.name, "name": name}
        await archive.do("POST", "/emergency-access", {"patient": patient, "reason": reason, "practitioner": practitioner})
        address = self._pages.door.patient_path(patient["id"], patient.get("issuer", ""))
        images = f"{address}/images?{DECLARED}"
        return self._pages.show(request, person, "emergency.html", number=patient["id"], images=images)

    async def _started(self, request: Request, person: Person, status: int = 200, message: str = "") -> Response:
        archive = self._pages.archive(person)
        after = request.query_params.get("reviews", "")
        reviews: dict[str, Any] = {"reviews": []}
        if Role.PRIVACY in person.roles:
            reviews = await _reviews(archive, after)
        waiting = await anyio.to_thread.run_sync(self._merges) if Role.REGISTRY in person.roles else []
        return self._pages.show(
            request, person, "patients.html", status, message=message, reviews=reviews["reviews"],
            merges=[(merge, self._pages.door.patient_path(merge.number)) for merge in waiting], concerns=CONCERNS,
            beyond=reviews.get("next", ""), earlier=bool(after), city=await archive.city(),
            done=DONE.get(request.query_params.get("done", "")),
        )  # fmt: skip

    # One patient

    async def show(self, request: Request, person: Person) -> Response:
        """200; 404 for an address that was not made here, or a number of which nothing is known."""
        return await self._shown(request, person, self._number(request))

    async def act(self, request: Request, person: Person) -> Response:
        """303 to the page where something was done; 400, 403, 404, 409 with the reason."""
        number = self._number(request)
        form = await self._pages.form(request, person)
        archive = self._pages.archive(person)
        allowed = self._acts.get(form.get("act", ""))
        if allowed is None:
            raise RefusedError(400, "bad-form")
        require(person, allowed.role)
        try:
            if form["act"] in JOINING and form.get("sure") != "yes":
                asked_about = {"number": number} | {name: form.get(field, "") for name, field in JOINING[form["act"]].items()}
                _, asked = await joining(archive, **asked_about)
                if asked.doubts:
                    return seen(self._pages.door.sealed_path(QUESTION, asked_about))
            done = await allowed.do(archive, f"/patients/{segment(number)}", form)
        except ArchiveRefusalError as error:
            return await self._shown(request, person, number, error.status, _wrong(error))
        return seen(self._pages.door.patient_path(number), done=done)

    async def ask(self, request: Request, person: Person) -> Response:
        """200 with what is known of two numbers that are to be joined, and why that is asked; 404."""
        asked_about = self._pages.door.sealed_fields(QUESTION, request.path_params["sealed"])
        archive, number = self._pages.archive(person), asked_about["number"]
        (other, asked), city = await asyncio.gather(joining(archive, **asked_about), archive.city())
        return self._pages.show(
            request, person, "join_confirm.html", number=number, second=other["id"], asked=asked, city=city,
            link=asked_about.get("link", ""), back=self._pages.door.patient_path(number),
        )  # fmt: skip

    async def images(self, request: Request, person: Person) -> Response:
        """303 to the reading page, beginning with `study` where one is named. 404; after an emergency was `declared` just now
        only when nothing was found for `FOUND_SECONDS`, since what it opens is found a moment later.

        By a link and not by a form: pages of ours may send forms nowhere else, and browsers hold a redirect to that too.
        """
        number, issuer = self._identifier(request)
        body: dict[str, Any] = {"patient": {"id": number} | ({"issuer": issuer} if issuer else {}), "purpose": "TREAT"}
        body["practitioner"] = {"id": person.name, "name": person.name}
        if study := request.query_params.get("study"):
            body["current_study"] = study
        archive = self._pages.archive(person)
        until = time.monotonic() + (FOUND_SECONDS if DECLARED in request.query_params else 0)
        while True:
            try:
                link = await archive.do("POST", "/links", body)
                break
            except ArchiveRefusalError as error:
                if error.status != 404 or time.monotonic() >= until:
                    raise
            await asyncio.sleep(AGAIN_SECONDS)
        return RedirectResponse(str(link["url"]), 303, {"Referrer-Policy": "no-referrer"})

    async def accesses(self, request: Request, person: Person) -> Response:
        """200 with the report of accesses that the patient may ask for, as PDF. 404."""
        number = self._number(request)
        language = self._pages.language(request)
        path = f"/patients/{segment(number)}/accesses"
        body = await self._pages.archive(person).document(path, "application/pdf", language=language)
        headers = {"Content-Disposition": 'attachment; filename="accessi.pdf"'}
        return Response(body, media_type="application/pdf", headers=headers)

    def _identifier(self, request: Request) -> tuple[str, str]:
        """(number, issuer; empty: ours) of a page's address. Raises RefusedError."""
        found = self._pages.door.seal.open(request.path_params["sealed"])
        if found is None:
            raise RefusedError(404, "not-found")
        number, _, issuer = found.partition("\n")
        return number, issuer

    def _number(self, request: Request) -> str:
        number, issuer = self._identifier(request)
        if issuer:
            raise RefusedError(404, "not-found")
        return number

    def _merges(self) -> list[Merge]:
        with self._journal.read() as connection:
            return merges.merges(connection)

    def _looked_at(self, number: str, other: str) -> None:
        self._journal.write(lambda connection: merges.forgotten(connection, number, other))

    def _settle(self, number: str, links: Sequence[Mapping[str, Any]]) -> None:
        """Of the merges of a number, what its links say is done does not wait any more."""
        for merge in self._merges():
            left = merges.unsettled(merge, links)
            if merge.number == number and left != merge.concerns:
                self._journal.write(partial(merges.settle, merge=merge, left=left))

    def _same_elsewhere(self, number: str) -> list[ExamForOrder]:
        with self._journal.read() as connection:
            return same_elsewhere(connection, number)

    async def _shown(self, request: Request, person: Person, number: str, status: int = 200, message: str = "") -> Response:
        archive = self._pages.archive(person)
        asked = f"/patients/{segment(number)}"
        to, until = request.query_params.get("to", ""), request.query_params.get("until", "")
        why = {"to": to, "until": end_of_day(last_day(until)) if until else ""} if to else {}
        registry, privacy = Role.REGISTRY in person.roles, Role.PRIVACY in person.roles
        city, timeline, links, sharing = await asyncio.gather(
            archive.city(),
            archive.patient(number),
            archive.maybe(f"{asked}/links") if registry else _none(),
            archive.maybe(f"{asked}/sharing", **why) if privacy else _none(),
        )
        same = await anyio.to_thread.run_sync(self._same_elsewhere, number)
        if timeline is None and links is None and sharing is None:
            raise RefusedError(404, "not-found")
        if links is not None:
            await anyio.to_thread.run_sync(self._settle, number, links["links"])
        shown_links = await _with_persons(archive, (links or {}).get("links", []))
        return self._pages.show(
            request, person, "patient.html", status, number=number, city=city, message=message,
            done=DONE.get(request.query_params.get("done", "")), timeline=timeline, links=shown_links,
            sharing=sharing, same=seen_now(same, timeline), others=_of_others(timeline, city.own),
            to=to, until=until, today=today().isoformat(), evidence=EVIDENCE, basis=BASIS, rules=RULES,
            titles={study["study_instance_uid"]: study for study in (sharing or {}).get("studies", [])},
        )  # fmt: skip


def seen_now(exams: Sequence[ExamForOrder], timeline: Mapping[str, Any] | None) -> list[ExamForOrder]:
    """Those that this person sees now: what was shared when an order came may be hidden since."""
    seen_by_them = {(study["study_instance_uid"], study["owner"]) for study in (timeline or {}).get("studies", ())}
    return [exam for exam in exams if (exam.study, exam.owner) in seen_by_them]


def _of_others(timeline: Mapping[str, Any] | None, own: str) -> dict[str, Mapping[str, Any]]:
    """By Study Instance UID, whom exams of ours name that are not the patient's, by name and birth date."""
    if timeline is None:
        return {}
    exams = (study for study in timeline["studies"] if study["owner"] == own)
    return {study["study_instance_uid"]: study["patient"] for study in exams if is_anothers(study, timeline["patient"])}


async def _with_persons(archive: ArchiveAs, links: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With whom each proposed number names, and that number's exams, as far as this hospital sees them."""
    proposed = [link["identifier"] if link["status"] != "confirmed" else {} for link in links]
    found = await archive.patients(proposed)
    return [
        link | ({"person": timeline["patient"], "exams": timeline["studies"]} if timeline else {"person": None, "exams": []})
        for link, timeline in zip(links, found, strict=True)
    ]


async def _reviews(archive: ArchiveAs, cursor: str) -> dict[str, Any]:
    """Emergencies to review, from a cursor on; the first ones where it is none of the archive's."""
    try:
        found: dict[str, Any] = await archive.get("/emergency-access", cursor=cursor)
    except ArchiveRefusalError as error:
        if error.status != 400 or not cursor:
            raise
        found = await archive.get("/emergency-access")
    return found


async def _none() -> None:
    return None


def require(person: Person, role: Role) -> None:
    """Raises RefusedError for who does not have the role."""
    if role not in person.roles:
        raise RefusedError(403, "no-role")


async def _confirm_link(archive: ArchiveAs, patient: str, form: Mapping[str, str]) -> str:
    await archive.do("POST", f"{patient}/links", {"link": form.get("link", "")})
    return "linked"


async def _add_link(archive: ArchiveAs, patient: str, form: Mapping[str, str]) -> str:
    number = form.get("number", "")
    if not 0 < len(number) <= LONGEST_NUMBER:
        raise RefusedError(400, "bad-form")
    await archive.do("POST", f"{patient}/links", {"id": number})
    return "linked"


async def _undo_link(archive: ArchiveAs, patient: str, form: Mapping[str, str]) -> str:
    await archive.do("DELETE", f"{patient}/links/{segment(form.get('link', ''))}")
    return "unlinked"


async def _object(archive: ArchiveAs, patient: str, form: Mapping[str, str]) -> str:
    """`study` empty: all exams; the form has to say which of the two is meant."""
    if "study" not in form:
        raise RefusedError(400, "bad-form")
    await archive.do("POST", f"{patient}/objections", {"study_instance_uid": form["study"]} if form["study"] else {})
    return "objected"


async def _end_objection(archive: ArchiveAs, patient: str, form: Mapping[str, str]) -> str:
    await archive.do("DELETE", f"{patient}/objections/{segment(form.get('objection', ''))}")
    return "objection-stands" if (await archive.get(f"{patient}/objections"))["objections"] else "objection-ended"


async def _protect(archive: ArchiveAs, patient: str, form: Mapping[str, str]) -> str:
    await archive.do("POST", f"{patient}/protections", {"study_instance_uid": form.get("study", "")})
    return "protected"


async def _consent(archive: ArchiveAs, patient: str, form: Mapping[str, str]) -> str:
    body = {"study_instance_uid": form.get("study", ""), "to": form.get("to", "")}
    await archive.do("POST", f"{patient}/consents", body)
    return "consented"


async def _end_consent(archive: ArchiveAs, patient: str, form: Mapping[str, str]) -> str:
    await archive.do("DELETE", f"{patient}/consents/{segment(form.get('consent', ''))}")
    return "consent-ended"


def _wrong(error: ArchiveRefusalError) -> str:
    if error.status == 409:
        return N_("The archive refuses: the two records carry different codici fiscali, or were changed at the same moment.")
    return N_("The archive does not take this. Nothing was done.")
