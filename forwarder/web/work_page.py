"""`/waiting`: what waits for a person, by role, with its age and the page on which it is done. It names no patient."""

from __future__ import annotations

import time
from dataclasses import dataclass

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from forwarder.alerts import texts
from forwarder.operations.work_items import PLACES, WorkItem, WorkKind, WorkList
from forwarder.web.identity import Person, Role
from forwarder.web.pages import N_, Pages

PATH = "/waiting"


@dataclass(frozen=True, slots=True)
class Pile:
    """All that waits of a kind: what people call it, where it is done, and when each began (seconds), the oldest first."""

    name: str
    path: str
    since: list[float]


class WorkPage:
    """The page."""

    def __init__(self, pages: Pages, work: WorkList) -> None:
        self._pages, self._work = pages, work

    def routes(self) -> list[BaseRoute]:
        """The page: each person sees what is theirs."""
        return [self._pages.route(PATH, self.show, *Role)]

    async def show(self, request: Request, person: Person) -> Response:
        """200."""
        items = await anyio.to_thread.run_sync(self._work.look)
        words = texts(self._pages.language(request))
        piles = {role: piles_of(items, str(role), words) for role in Role if role in person.roles}
        return self._pages.show(request, person, "work.html", piles=piles, titles=TITLES, now=time.time())


TITLES = {
    Role.REGISTRY: N_("Registry"), Role.RADIOLOGY: N_("Radiology"), Role.PRIVACY: N_("Privacy"), Role.ADMIN: N_("Administrator"),
}  # fmt: skip


def piles_of(items: list[WorkItem], role: str, words: dict[str, str]) -> list[Pile]:
    """What is this role's, by kind."""
    found = []
    for kind in WorkKind:
        since = [item.since for item in items if item.kind is kind]
        if since and PLACES[kind].role == role:
            found.append(Pile(words[f"work.{kind}"], PLACES[kind].path, since))
    return found
