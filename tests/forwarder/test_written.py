"""What somebody wrote while their session ended: it is kept on the page that says so, and nowhere else, and for nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient

from forwarder.config import parse
from forwarder.web.door import COOKIE, Door
from forwarder.web.identity import Person, Role
from forwarder.web.pages import Pages
from forwarder.web.sessions import Sessions
from tests.forwarder.test_sessions import Clock

ANNA = Person("anna", frozenset({Role.REGISTRY}))
WRITTEN = "Riabilitazione <dopo> protesi"


class Desk:
    """A page of ours in a browser where Anna is signed in, and has a form before her."""

    def __init__(self, folder: Path) -> None:
        site = f'[archive]\napi = "http://127.0.0.1:1"\n[spool]\nfolder = "{folder}"\n'
        site += '[identity.oidc]\nissuer = "http://127.0.0.1:1"\nclient_id = "x"\n'
        unused: Any = None
        self.door, self.clock = Door(parse(site), unused), Clock()
        self.door.sessions = Sessions(self.door.config.identity, self.clock)
        pages = Pages(self.door)

        async def done(request: Request, person: Person) -> Response:
            await pages.form(request, person)
            return PlainTextResponse("done")

        app = Starlette(routes=[pages.route("/form", done, Role.REGISTRY, methods=("POST",))])
        self.browser = TestClient(app, headers={"Accept-Language": "en", "Sec-Fetch-Site": "same-origin"})
        cookie, session = self.door.sessions.begin(ANNA)
        self.browser.cookies.set(COOKIE, cookie)
        assert session.person
        self.token = self.door.form_token(session.person)

    def send(self, **fields: str) -> Any:
        return self.browser.post("/form", data={"token": self.token, "reason": WRITTEN, "act": "look", **fields})


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_what_was_written_while_the_session_ended_stands_on_the_page_that_says_so(desk: Desk) -> None:
    assert desk.send().text == "done"
    desk.clock.now += 24 * 3600
    answer = desk.send(number="12345")
    assert answer.status_code == 401 and "Your session has ended. Nothing was done" in answer.text
    assert "Riabilitazione &lt;dopo&gt; protesi</textarea>" in answer.text and "12345</textarea>" in answer.text
    assert 'target="_blank"' in answer.text and "anna" not in answer.text and desk.token not in answer.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("how", ["another site's", "without the token", "after signing out", "in another browser"])
def test_nothing_that_is_none_of_our_forms_is_shown(desk: Desk, how: str) -> None:
    desk.clock.now += 24 * 3600
    if how == "another site's":
        desk.browser.headers["Sec-Fetch-Site"] = "cross-site"
    elif how == "after signing out":
        desk.door.sessions.end(desk.browser.cookies.get(COOKIE))
    elif how == "in another browser":
        desk.browser.cookies.clear()
    answer = desk.send(token="x") if how == "without the token" else desk.send()
    assert answer.status_code == 401 and "Your session has ended" in answer.text
    assert "Riabilitazione" not in answer.text and "<textarea" not in answer.text
