"""The door's ASGI application: which path is answered by what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forwarder.archive.client import Archive
from forwarder.archive.link import Link
from forwarder.background import Background
from forwarder.config import Config
from forwarder.logs import log, place_of
from forwarder.spool.spool import Spool
from forwarder.web import queue_page
from forwarder.web.cache import Cache
from forwarder.web.queue_page import HasSnapshot
from forwarder.web.server import serving
from forwarder.web.workplace import Workplace

if TYPE_CHECKING:
    from forwarder.web.door import Door

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'self';"
    " frame-ancestors 'none'; base-uri 'none'"
)


@contextmanager
def opened(
    config: Config, state: HasSnapshot, spool: Spool, archive: Archive, line: Link, background: Background, workplace: Workplace
) -> Iterator[None]:
    """The door, while the block runs. Raises ConfigError, SpoolError."""
    if not config.identity.configured and not config.web.ris_secret_file:
        with serving(config, application(state)):
            yield
        return
    from forwarder.web.door import Door

    cache = Cache(spool.folder / "web", config.web.cache_mb * 1_000_000, spool.reserve_bytes)
    background.begin("web-feed", lambda stop: cache.follow(archive, line, stop), waited_for=False)
    with serving(config, application(state, Door(config, archive), workplace, cache)):
        yield


def application(
    state: HasSnapshot, door: Door | None = None, workplace: Workplace | None = None, cache: Cache | None = None
) -> ASGIApp:
    """The queue for everyone; with a `door`, that is, where somebody can be known, everything else too."""

    def queue(request: Request) -> Response:
        status, media_type, body = queue_page.respond(state, request.url.path, staff=door is not None)
        return Response(body, status, media_type=media_type)

    routes: list[BaseRoute] = [Route(path, queue) for path in queue_page.PATHS]
    if door is None or workplace is None:
        return Starlette(routes=routes, middleware=[Middleware(_Headers)], exception_handlers=_ERRORS)

    from forwarder.web.dicomweb import SERVICE, DicomWeb
    from forwarder.web.staff import staff_routes

    dicomweb = DicomWeb(door, cache)
    routes += [Route(path, _Cors(dicomweb, door.config.web.allowed_origins)) for path in (SERVICE, SERVICE + "/{rest:path}")]

    routes += staff_routes(door, workplace)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with dicomweb:
            yield

    return Starlette(routes=routes, middleware=[Middleware(_Headers)], exception_handlers=_ERRORS, lifespan=lifespan)


class _Cors(CORSMiddleware):
    """CORS for DICOMweb alone: viewers of named origins, with the identity that the browser brings along."""

    def __init__(self, app: ASGIApp, origins: list[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["Accept", "Authorization", "Content-Type", "If-None-Match", "Range"],
            allow_credentials=True,
            expose_headers=["Content-Location", "Content-Range", "ETag", "Location", "Warning"],
            max_age=600,
        )


class _Headers:
    """What stands in every answer that says nothing else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers") or [])
                there = {name.lower() for name, _ in headers}
                message["headers"] = headers + [(name, value) for name, value in _ALWAYS if name not in there]
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


_ALWAYS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
)


def _absent(_: Request, __: Exception) -> Response:
    return PlainTextResponse("There is no such page.\n", 404)


def _unexpected(_: Request, error: Exception) -> Response:
    log.error("a page could not be shown", error=type(error).__name__, where=place_of(error.__traceback__))
    return PlainTextResponse("This page cannot be shown now.\n", 500)


_ERRORS: dict[int | type[Exception], Callable[[Request, Exception], Response | Awaitable[Response]]] = {
    404: _absent,
    Exception: _unexpected,
}
