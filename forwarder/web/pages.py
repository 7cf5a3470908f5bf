"""The staff's pages: rendered here, in Italian or English (gettext), for a person who is known and has the role for it."""

from __future__ import annotations

import gettext
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import anyio
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from forwarder.alerts import LANGUAGES, advise_on_delivery, texts, why_not_delivered
from forwarder.errors import ArchiveError
from forwarder.logs import log
from forwarder.web.archive_as import ArchiveAs, ArchiveRefusalError, CityNames
from forwarder.web.days import HERE
from forwarder.web.door import Door
from forwarder.web.identity import Person, RefusedError, Role

LOCALE = Path(str(resources.files("forwarder") / "web" / "locale"))
DOMAIN = "forwarder"
DEFAULT = "it"
LANGUAGE_COOKIE = "contenitore_language"
LARGEST_FORM = 64 * 1024
MOST_FIELDS = 50
OF_REGISTRATION = re.compile(r"(?P<it>[^/]+) / (?P<en>[^/]+) (?P<event>\(ADT\^A\d\d\))")
Handler = Callable[[Request, Person], Awaitable[Response]]


def N_(text: str) -> str:  # the name by which gettext's tools find texts
    """Marks a text that is translated where it is shown."""
    return text


REASONS = {
    "no-identity": N_("Nobody is signed in. Open this page through the hospital's portal."),
    "session-ended": N_("Your session has ended. Nothing was done: sign in again, and fill in the form once more."),
    "no-role": N_("Your account does not have the role that this page takes. Ask your administrator."),
    "ambiguous-identity": N_("The portal names you in more than one way. Ask your administrator."),
    "unusable-name": N_("Your user name cannot be written into the audit trail. Ask your administrator."),
    "provider-unreachable": N_("The hospital's identity provider does not answer. Try again in a minute."),
    "sign-in-failed": N_("You could not be signed in. Start again from the page that you wanted."),
    "form-not-ours": N_("This form is no longer valid, or is none of ours. Nothing was done: open the page again."),
    "bad-host": N_("The request does not name the host that it is for."),
    "bad-form": N_("The form cannot be read. Nothing was done."),
    "bad-request-type": N_("The request does not say whether a patient or studies are to be shown (requestType)."),
    "bad-identifier": N_("The request names a patient, a study or a date in a way that cannot be read."),
    "nothing-asked-for": N_("The request names neither a patient nor a study."),
    "nothing-there": N_("There is no such patient or exam, or this hospital may not see it."),
    "another-patient": N_("The number is of somebody who was born on another day. Nothing is shown."),
    "several-patients": N_("The exams are of more than one patient. Open them one by one."),
    "unknown-authority": N_("The patient's number is of an authority that is not known here."),
    "bad-signature": N_("The request is not signed by a system that is known here."),
    "signature-expired": N_("The request is too old, or a clock is wrong. Open the images again from the system you came from."),
    "signature-used": N_("The request was used already. Open the images again from the system you came from."),
    "not-found": N_("There is no such page, or it is not for this hospital."),
    "archive-unreachable": N_("The archive cannot be reached now. Look in a minute whether what you did was done."),
}  # fmt: skip

WRITTEN = {"number": N_("Patient number"), "reason": N_("Reason"), "note": N_("Note")}
"""What people write into forms, and would have to write again."""


@cache
def environment(language: str) -> Environment:
    """The templates with the texts of one of `LANGUAGES`."""
    made = Environment(
        loader=PackageLoader("forwarder", "web/templates"), autoescape=True, undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"], trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.install_gettext_translations(_texts(language), newstyle=True)  # type: ignore[attr-defined]
    made.filters |= {"day": day, "moment": moment, "person": person_name, "clock": clock, "lasting": lasting}
    made.filters["reason"] = lambda reason: in_language(reason, language)
    made.filters["why"] = lambda reason: why_not_delivered(reason, texts(language))
    made.filters["what_then"] = lambda reason: advise_on_delivery(reason, texts(language))
    return made


@cache
def _texts(language: str) -> gettext.NullTranslations:
    return gettext.NullTranslations() if language == "en" else gettext.translation(DOMAIN, LOCALE, [language])


def language_of(request: Request) -> str:
    """The language that was chosen here, else the browser's first one that there is, else Italian."""
    chosen = request.query_params.get("language") or request.cookies.get(LANGUAGE_COOKIE)
    if chosen in LANGUAGES:
        return str(chosen)
    accepted = request.headers.get("accept-language", "")[:500].split(",")
    tags = [tag.partition(";")[0].split("-")[0].strip().lower() for tag in accepted]
    return next((tag for tag in tags if tag in LANGUAGES), DEFAULT)


class Pages:
    """Everything that a staff page does but its own matter."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self._cities = CityNames()

    def route(
        self,
        path: str,
        handler: Handler,
        *roles: Role,
        methods: tuple[str, ...] = ("GET",),
        named_by: Callable[[Request], Person | None] = lambda _: None,
    ) -> Route:
        """A page for people with one of these roles: whoever is unknown signs in first, whoever lacks them is told.

        `named_by`: whom the request itself names, if anybody; it raises RefusedError.
        """

        async def answered(request: Request) -> Response:
            person: Person | None = None
            try:
                person = named_by(request) or await self.door.who(request)
                if person is None:
                    if self.door.provider is None:
                        raise self.door.unknown(request)
                    return await (self.door.sign_in if request.method in ("GET", "HEAD") else self._too_late)(request)
                if roles and not person.roles & set(roles):
                    raise RefusedError(403, "no-role")
                answer = await handler(request, person)
            except RefusedError as error:
                return self.refused(request, error, person)
            except ArchiveRefusalError as error:
                refused = RefusedError(404 if error.status in (403, 404) else 502, _slug(error.status))
                return self.refused(request, refused, person)
            except ArchiveError as error:
                log.warning("a page waits for the archive", kind=error.failure.value, trouble=error.trouble)
                return self.refused(request, RefusedError(502, "archive-unreachable"), person)
            return answer

        return Route(path, answered, methods=list(methods))

    @staticmethod
    def language(request: Request) -> str:
        """In which language the caller is answered."""
        return language_of(request)

    def refused(self, request: Request, error: RefusedError, person: Person | None = None) -> Response:
        """The page that says why not, and to whom."""
        reason = REASONS.get(error.reason, REASONS["not-found"])
        return self.show(request, person, "refused.html", error.status, reason=reason, code=error.reason, written={})

    async def _too_late(self, request: Request) -> Response:
        """401 for a form that comes after the session: what was written in it is kept nowhere, and stands on this page alone."""
        left, written = self.door.lapsed(request), {}
        if left is not None:
            with suppress(RefusedError):
                form = await self.form(request, left)
                written = {label: form[name] for name, label in WRITTEN.items() if form.get(name)}
        reason = REASONS["session-ended"]
        return self.show(request, None, "refused.html", 401, reason=reason, code="session-ended", written=written)

    def show(self, request: Request, person: Person | None, template: str, status: int = 200, **values: Any) -> Response:
        """A page in the language of who asks."""
        language = language_of(request)
        common = {
            "language": language, "other": next(code for code in LANGUAGES if code != language), "person": person,
            "roles": person.roles if person else frozenset(), "path": request.url.path,
            "token": self.door.form_token(person) if person else "", "signed_in_here": bool(person and person.session),
        }  # fmt: skip
        text = environment(language).get_template(template).render(common | values)
        answer = Response(text, status, media_type="text/html; charset=utf-8")
        if request.query_params.get("language") in LANGUAGES:
            answer.set_cookie(
                LANGUAGE_COOKIE, language, path="/", httponly=True, samesite="lax", secure=self.door.secure(request)
            )
        answer.headers["Vary"] = "Accept-Language, Cookie"
        return answer

    async def form(self, request: Request, person: Person) -> dict[str, str]:
        """The fields of a form of ours, surrounding blanks removed. Raises RefusedError."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
            raise RefusedError(415, "bad-form")
        body = bytearray()
        with anyio.fail_after(15):
            async for piece in request.stream():
                body += piece
                if len(body) > LARGEST_FORM:
                    raise RefusedError(413, "bad-form")
        try:
            pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
        except ValueError as error:
            raise RefusedError(400, "bad-form") from error
        fields = dict(pairs)
        if len(fields) != len(pairs):
            raise RefusedError(400, "bad-form")
        self.door.check_form(request, person, fields.pop("token", ""))
        return {name: value.strip() for name, value in fields.items()}

    def archive(self, person: Person) -> ArchiveAs:
        """The archive, asked by this person."""
        return ArchiveAs(self.door.archive, person, self._cities)


def seen(path: str, **values: str) -> Response:
    """303, after something was done: what is shown then may be loaded again."""
    query = "&".join(f"{name}={value}" for name, value in values.items())
    return RedirectResponse(path + (f"?{query}" if query else ""), 303)


def day(text: str | None) -> str:
    """A DICOM date (20260301), an RFC 3339 date or moment as people here write dates."""
    if not text:
        return ""
    try:
        if "T" in text:
            return datetime.fromisoformat(text).astimezone(HERE).strftime("%d/%m/%Y")
        return datetime.strptime(text.replace("-", ""), "%Y%m%d").strftime("%d/%m/%Y")
    except ValueError:
        return text


def moment(text: str | None) -> str:
    """An RFC 3339 moment as people here write it."""
    if not text:
        return ""
    try:
        return datetime.fromisoformat(text).astimezone(HERE).strftime("%d/%m/%Y %H:%M")
    except ValueError:
        return text


def clock(seconds: float | None) -> str:
    """Seconds since the epoch as people here write moments."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, HERE).strftime("%d/%m/%Y %H:%M")


def lasting(seconds: float) -> str:
    """How long, as people of both languages read it: the two largest units."""
    minutes = max(0, int(seconds // 60))
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else "< 1 min"


def in_language(reason: str, language: str) -> str:
    """The reason of a transfer; of one that registration opened (“Italian / English (ADT^…)”) what is in this language."""
    both = OF_REGISTRATION.fullmatch(reason)
    return f"{both[language]} {both['event']}" if both else reason


def person_name(text: str | None) -> str:
    """A DICOM person name (PS3.5 6.2.1) as people read it: family name, given names; the alphabetic group."""
    parts = [part.strip() for part in (text or "").partition("=")[0].split("^")]
    return " ".join(part for part in parts[:3] if part)


def _slug(status: int) -> str:
    return "not-found" if status in (403, 404) else "archive-unreachable"
