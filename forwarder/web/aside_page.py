"""`/queue` for the administrator: what was put aside, what of ADT waits for a person, what is to be recalled from the PACS."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from forwarder.alerts import texts
from forwarder.errors import ConfigError
from forwarder.logs import log
from forwarder.operations import admin
from forwarder.web.identity import Person, RefusedError, Role
from forwarder.web.pages import N_, Pages, seen

PATH = "/queue"
PLACE = re.compile(r"[0-9]{1,9}")
SHOWN = 200
"""Of each list on the page; a link leads to what is beyond them."""
DONE = {
    "retried": N_("It is tried again."),
    "discarded": N_("It was let go of: the forwarder no longer has it."),
    "released": N_("It goes on."),
    "dropped": N_("It will be done by nobody."),
}
RECALLS = {
    "corrected": N_("corrected by its owner since: the PACS has the old one"),
    "linked-otherwise": N_("brought under a number that is another patient's since"),
    "withdrawn": N_("withdrawn by its owner"),
    "no-longer-shared": N_("the patient objected, or it is protected"),
    "transfer-ended": N_("the transfer ended; nothing has to be done"),
}


@dataclass(frozen=True)
class Part:
    """What is shown of a list: the `rows` from the place `first` on (from 0), and how many there are in all."""

    rows: Sequence[Any]
    first: int
    count: int

    @property
    def next(self) -> int:
        """Where the list goes on; 0: it does not."""
        beyond = self.first + len(self.rows)
        return beyond if beyond < self.count else 0


def part(found: Sequence[Any], first: str) -> Part:
    """What is shown of a list from a place on; of one that has become shorter its last part."""
    asked = int(first) if PLACE.fullmatch(first) else 0
    place = asked if asked < len(found) else max(0, len(found) - SHOWN)
    return Part(found[place : place + SHOWN], place, len(found))


class AsidePage:
    """The page and its forms. It names no patient."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._folder = Path(pages.door.config.spool.folder)

    def routes(self) -> list[BaseRoute]:
        """The page, and where its forms go."""
        return [
            self._pages.route(PATH, self.show, Role.ADMIN),
            self._pages.route(PATH, self.act, Role.ADMIN, methods=("POST",)),
        ]

    async def show(self, request: Request, person: Person) -> Response:
        """200."""
        found = await anyio.to_thread.run_sync(self._found, request.query_params)
        language = self._pages.language(request)
        return self._pages.show(
            request, person, "queue.html", **found, words=texts(language), recall_words=RECALLS, now=time.time(),
            done=DONE.get(request.query_params.get("done", "")),
        )  # fmt: skip

    async def act(self, request: Request, person: Person) -> Response:
        """303 to the page; 400 for a form that names nothing of it."""
        form = await self._pages.form(request, person)
        acts: dict[str, Callable[[Mapping[str, str]], str]] = {
            "retry": self._retry, "retry-all": self._retry_all, "discard": self._discard, "release": self._release,
            "drop": self._drop,
        }  # fmt: skip
        do = acts.get(form.get("act", ""))
        if do is None:
            raise RefusedError(400, "bad-form")
        try:
            done = await anyio.to_thread.run_sync(do, form)
        except (ConfigError, ValueError) as error:
            raise RefusedError(400, "bad-form") from error
        log.info(
            "the administrator acted", act=form["act"], by=person.name, what=form.get("digest") or form.get("number") or "all"
        )
        return seen(PATH, done=done)

    def _found(self, asked: Mapping[str, str]) -> dict[str, Any]:
        lists: dict[str, Sequence[Any]] = {
            "aside": admin.rejected(self._folder), "recalls": admin.recalls(self._folder), "adt": admin.adt_waiting(self._folder),
        }  # fmt: skip
        shown = {name: part(found, asked.get(name, "")) for name, found in lists.items()}
        return {**shown, "deliveries": admin.deliveries_aside(self._folder)}

    def _retry(self, form: Mapping[str, str]) -> str:
        admin.retry(self._folder, [form.get("digest", "")])
        return "retried"

    def _retry_all(self, _: Mapping[str, str]) -> str:
        admin.retry(self._folder, everything=True)
        return "retried"

    def _discard(self, form: Mapping[str, str]) -> str:
        admin.discard(self._folder, [form.get("digest", "")])
        return "discarded"

    def _release(self, form: Mapping[str, str]) -> str:
        admin.adt_release(self._folder, [int(form.get("number", ""))])
        return "released"

    def _drop(self, form: Mapping[str, str]) -> str:
        admin.adt_discard(self._folder, [int(form.get("number", ""))])
        return "dropped"
