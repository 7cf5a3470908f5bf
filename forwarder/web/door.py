"""What every page and service of the door has at hand: who asks, which role that takes, and what proves that a form was ours."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response

from forwarder.archive.client import Archive
from forwarder.config import Config
from forwarder.web.identity import Person, RefusedError, Role, TrustedHeader
from forwarder.web.opaque import Seal
from forwarder.web.sessions import AGAIN, COOKIE, Sessions

if TYPE_CHECKING:
    from forwarder.web.oidc import Provider

SIGNED_OUT = "/signed-out"
HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:\d{1,5})?|\[[0-9a-fA-F:.]{2,45}\](:\d{1,5})?")


class Door:
    """The door of one hospital."""

    def __init__(self, config: Config, archive: Archive) -> None:
        self.config = config
        self.archive = archive
        self.sessions = Sessions(config.identity)
        self._header = TrustedHeader(config.identity)
        oidc = config.identity.oidc
        self.provider: Provider | None = None
        if oidc.issuer:
            from forwarder.web.oidc import Provider  # with its library: only where it is used

            self.provider = Provider(oidc, config.archive.ca_file or None)
        self._secret = secrets.token_bytes(32)
        self.seal = Seal(Path(config.spool.folder) / "web.key")

    async def who(self, connection: HTTPConnection, *, tokens: bool = False) -> Person | None:
        """Who asks; None where nobody is named. `tokens`: also by a bearer token. Raises RefusedError."""
        person = self._header.person(connection)
        if person is not None:
            return person
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if tokens and self.provider is not None and scheme.lower() == "bearer":
            return await self.provider.bearer(token.strip())
        session = self.sessions.get(self._got(connection, COOKIE))
        return session.person if session else None

    def unknown(self, connection: HTTPConnection) -> RefusedError:
        """The refusal of a request without a person: 401 where one could be named, 403 from where nobody's word counts."""
        return RefusedError(401 if self.provider or self._header.trusts(connection) else 403, "no-identity")

    async def require(self, connection: HTTPConnection, *roles: Role, tokens: bool = False) -> Person:
        """The person who asks, with one of these roles. Raises RefusedError."""
        person = await self.who(connection, tokens=tokens)
        if person is None:
            raise self.unknown(connection)
        if not person.roles & set(roles):
            raise RefusedError(403, "no-role")
        return person

    def base(self, connection: HTTPConnection) -> str:
        """This door's address as the caller knows it, without a slash at the end. Raises RefusedError for a Host that is none."""
        if fixed := self.config.web.public_url:
            return fixed
        host = connection.headers.get("host", "")
        if not HOST.fullmatch(host):
            raise RefusedError(400, "bad-host")
        own, port = connection.scope.get("server") or ("", None)
        if host == own and port not in (80, 443, None):
            host = f"{host}:{port}"  # dicomweb-client names an address without the port that it asks at
        return f"{connection.url.scheme}://{host}"

    def secure(self, connection: HTTPConnection) -> bool:
        """Whether the caller came by HTTPS, so that a cookie may say so."""
        return self.base(connection).startswith("https:")

    def patient_path(self, number: str, issuer: str = "") -> str:
        """The address of a patient's page, by a number of ours, or of this issuer."""
        return "/patients/" + self.seal.seal(f"{number}\n{issuer}" if issuer else number)

    def sealed_path(self, path: str, fields: Mapping[str, str]) -> str:
        """The address below `path` of a page that goes on from a form: so that going back, or loading it again, sends nothing."""
        return f"{path}/{self.seal.seal(json.dumps(fields, ensure_ascii=False), path)}"

    def sealed_fields(self, path: str, sealed: str) -> dict[str, str]:
        """What such an address says. Raises RefusedError."""
        found = self.seal.open(sealed, path)
        if found is None:
            raise RefusedError(404, "not-found")
        fields: dict[str, str] = json.loads(found)
        return fields

    # Forms

    def form_token(self, person: Person) -> str:
        """What a form of ours carries, so that no other site can have a person's browser send one."""
        return hmac.new(self._secret, f"form\n{person.name}\n{person.session}".encode(), hashlib.sha256).hexdigest()

    def check_form(self, request: Request, person: Person, token: str) -> None:
        """Raises RefusedError for a form that did not come from a page of ours."""
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self.form_token(person).encode()):
            raise RefusedError(403, "form-not-ours")
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise RefusedError(403, "form-not-ours")

    def lapsed(self, connection: HTTPConnection) -> Person | None:
        """Whose session ended by itself in this browser: they are known no longer, and their forms are."""
        return self.sessions.lapsed(self._got(connection, COOKIE))

    # Signing in

    async def sign_in(self, request: Request) -> Response:
        """To the identity provider, and from there back to the page that was asked for. Raises RefusedError."""
        assert self.provider is not None
        old = self._got(request, COOKIE)
        again = self._got(request, AGAIN) is not None or self.sessions.lapsed(old) is not None
        cookie, session = self.sessions.signing_in(old)
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        state = secrets.token_urlsafe(24)
        session.remember(state, back=path if request.method == "GET" else "/")
        request.scope["session"] = session.signing_in[state]
        answer = await self.provider.redirect(request, self.base(request) + "/signed-in", state, again=again)
        self._set(request, answer, COOKIE, cookie)
        if again:
            self._set(request, answer, AGAIN, "1")
        return answer

    async def signed_in(self, request: Request) -> Response:
        """303 to the page that was asked for, as the person who came back from the provider. Raises RefusedError."""
        old = self._got(request, COOKIE)
        session = self.sessions.get(old)
        remembered = session.signing_in.pop(request.query_params.get("state", ""), None) if session else None
        if self.provider is None or session is None or remembered is None:
            raise RefusedError(403, "sign-in-failed")
        request.scope["session"] = remembered
        found, id_token = await self.provider.signed_in(request)
        self.sessions.end(old)
        cookie, begun = self.sessions.begin(found, id_token)
        begun.signing_in = session.signing_in  # of the browser's other tabs
        answer = RedirectResponse(local(str(remembered["back"])), 303)
        self._set(request, answer, COOKIE, cookie)
        answer.delete_cookie(self._name(request, AGAIN), path="/", secure=self.secure(request))
        return answer

    async def sign_out(self, request: Request) -> Response:
        """303, known no longer: to the page that says so, which leads on to the provider."""
        old = self._got(request, COOKIE)
        session = self.sessions.get(old)
        self.sessions.end(old)
        cookie, leaving = self.sessions.begin()
        if session is not None and self.provider is not None:
            state = leaving.state = secrets.token_urlsafe(16)
            with suppress(RefusedError):  # of a provider that does not answer nobody can sign out
                leaving.leave = await self.provider.sign_out_address(session.id_token, self.base(request) + SIGNED_OUT, state)
        answer = RedirectResponse(SIGNED_OUT, 303)
        self._set(request, answer, COOKIE, cookie)
        self._set(request, answer, AGAIN, "1")
        return answer

    def signed_out(self, request: Request) -> tuple[str, bool] | None:
        """(where the provider is to be told, once; whether it was told) of a browser that signed out, or None."""
        session = self.sessions.get(self._got(request, COOKIE))
        if session is None:
            return "", False
        if session.person:
            return None
        leave, session.leave = session.leave, ""
        return leave, bool(session.state) and request.query_params.get("state") == session.state

    def _set(self, request: Request, answer: Response, name: str, value: str) -> None:
        secure = self.secure(request)
        answer.set_cookie(self._name(request, name), value, path="/", httponly=True, samesite="lax", secure=secure)

    def _got(self, connection: HTTPConnection, name: str) -> str | None:
        return connection.cookies.get(self._name(connection, name)) if connection.cookies else None

    def _name(self, connection: HTTPConnection, name: str) -> str:
        """By HTTPS a name under which no other host of the domain can have a browser hold one (RFC 6265bis)."""
        return f"__Host-{name}" if self.secure(connection) else name


def local(path: str) -> str:
    """A path of this door, or its beginning for what would lead elsewhere."""
    parts = urlsplit(path)
    good = path.startswith("/") and not path.startswith(("//", "/\\")) and not parts.netloc and path.isprintable()
    return path if good else "/"
