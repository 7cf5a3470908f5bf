"""The paths of the staff's pages: which role they take, and what answers."""

from __future__ import annotations

from importlib import resources

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from forwarder.web.aside_page import AsidePage
from forwarder.web.door import SIGNED_OUT, Door
from forwarder.web.identity import Person, RefusedError
from forwarder.web.invoke_image_display import ImageDisplay
from forwarder.web.pages import Pages
from forwarder.web.patient_page import PatientPage
from forwarder.web.ready import Readiness
from forwarder.web.transfers_page import TransfersPage
from forwarder.web.work_page import WorkPage
from forwarder.web.workplace import Workplace


def staff_routes(door: Door, workplace: Workplace) -> list[BaseRoute]:
    """Every page that takes a person, and how a person signs in and out."""
    pages = Pages(door)
    ready = Readiness(workplace.journal, delivers=door.config.deliver.enabled, pace=workplace.pace)

    async def signed_in(request: Request) -> Response:
        try:
            return await door.signed_in(request)
        except RefusedError as error:
            return pages.refused(request, error)

    async def sign_out(request: Request, person: Person) -> Response:
        await pages.form(request, person)
        return await door.sign_out(request)

    def signed_out(request: Request) -> Response:
        found = door.signed_out(request)
        if found is None:
            return RedirectResponse("/", 303)
        leave, everywhere = found
        answer = pages.show(request, None, "signed_out.html", leave=leave, everywhere=everywhere)
        if leave:  # no redirect: browsers follow none from a form to another origin (CSP form-action)
            answer.headers["Refresh"] = f"0; url={leave}"
        return answer

    def style(_: Request) -> Response:
        return Response((resources.files("forwarder") / "web" / "staff.css").read_bytes(), media_type="text/css; charset=utf-8")

    return [
        Route("/staff.css", style),
        Route("/signed-in", signed_in),
        Route(SIGNED_OUT, signed_out),
        pages.route("/sign-out", sign_out, methods=("POST",)),
        *ImageDisplay(pages).routes(),
        *AsidePage(pages).routes(),
        *WorkPage(pages, workplace.work).routes(),
        *PatientPage(pages, workplace.journal).routes(),
        *TransfersPage(pages, ready, workplace.on_accepted).routes(),
    ]
