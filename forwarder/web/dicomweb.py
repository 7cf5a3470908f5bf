"""DICOMweb without signatures: the archive's service, asked as this hospital for a person, its addresses called by this door's.

Bodies are streamed: what lies in the store is fetched from there, so that a workstation needs no way to it. Who may see what is
the archive's decision, at every request; so is the record of who read.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import anyio
import httpx2
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from forwarder import __version__
from forwarder.archive.client import Answer, failed
from forwarder.errors import ArchiveError, Failure
from forwarder.logs import log
from forwarder.web import rewriting
from forwarder.web.cache import Cache, Kept, Taking
from forwarder.web.door import Door
from forwarder.web.identity import RefusedError, Role
from forwarder.web.large_store import LargeStore
from forwarder.web.problem import problem, refusal
from forwarder.web.server import ABORT

SERVICE = "/dicomweb"
LARGEST_BODY = 10 * 1024 * 1024  # bytes: API Gateway's limit
BODIES_AT_ONCE = 4
BODY_SECONDS = 60.0
STREAMS_AT_ONCE = 200
SEND_SECONDS = 60.0
"""Within which a client takes a piece; one that does not is let go, since its answer holds a connection to the store."""
PIECE = 64 * 1024
MOST_PARAMETERS = 200
LARGEST_REFUSAL = 64 * 1024
_PATH = re.compile(rb"/dicomweb(?:/[A-Za-z0-9._~,;:=@!$&'()*+%-]{1,400}){0,12}/?")
_LEAVES = "bulkdata|metadata|pixeldata|rendered|thumbnail"
_FRAMES = "frames/[^/]+(?:/(?:rendered|thumbnail))?"
_INSTANCE = f"instances/[^/]+(?:/(?:{_LEAVES}|bulkdata/[^/]+|{_FRAMES}))?"
_SERIES = f"series/[^/]+(?:/(?:{_LEAVES}|instances|{_INSTANCE}))?"
_READ = re.compile(f"studies|series|instances|wado|studies/[^/]+(?:/(?:{_LEAVES}|instances|series|{_SERIES}))?")
_WRITTEN = re.compile("studies(?:/[^/]+)?|commitment-requests/[^/]+")
_APPENDED = re.compile(rb"(owner=[a-z0-9-]{1,64})(/[A-Za-z0-9._/-]{1,400})(?:[?&](.*))?")
"""A query of a Retrieve URL of another hospital's, to which a viewer appended what it wants below it, as Weasis does."""
_ASKED = (
    "accept", "accept-charset", "content-encoding", "content-type", "if-match", "if-modified-since", "if-none-match",
    "if-unmodified-since",
)  # fmt: skip
_OF_THE_STORE = ("if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "range")
_ANSWERED = (
    "accept-ranges", "allow", "cache-control", "content-disposition", "content-location", "content-range", "content-type", "etag",
    "last-modified", "link", "location", "retry-after", "vary", "warning",
)  # fmt: skip
_KEPT = ("cache-control", "content-disposition", "content-type", "etag", "last-modified")
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")
INERT = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
"""What a body may do that a browser shows as a page: it stands on the same origin as the staff's pages."""


@dataclass
class _Found:
    """What is to be sent: the status, the headers, the body as it comes, and whether it may be kept."""

    status: int
    headers: dict[str, str]
    body: AsyncIterator[bytes]
    taking: Taking | None = None


def methods(resource: str) -> tuple[str, ...]:
    """How a resource below the service may be asked for; nothing for one that the archive does not have.

    It is known here, since API Gateway answers for it as it does for an address of another API, which must stay a fault: a
    hospital whose forwarder asks at a wrong place is not told that there are no exams.
    """
    read, written = _READ.fullmatch(resource), _WRITTEN.fullmatch(resource)
    if not resource:
        return ("OPTIONS",)
    return (*(("GET", "HEAD") if read or written else ()), *(("POST",) if written else ()))


class DicomWeb:
    """The ASGI application below `/dicomweb`. Start it with `async with`."""

    def __init__(self, door: Door, cache: Cache | None) -> None:
        self._door, self._cache = door, cache
        self._archive = door.archive
        self._bodies = asyncio.Semaphore(BODIES_AT_ONCE)
        self._streams = 0
        self._client: httpx2.AsyncClient | None = None
        spool = door.config.spool
        self._large = LargeStore(self._archive, Path(spool.folder) / "stow", spool.reserve_mb * 1_000_000)

    async def __aenter__(self) -> DicomWeb:
        section = self._door.config.archive
        context: ssl.SSLContext | bool = ssl.create_default_context(cafile=section.ca_file) if section.ca_file else True
        self._client = httpx2.AsyncClient(
            verify=context,
            proxy=section.proxy or None,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(float(section.timeout_seconds), connect=10.0),
            limits=httpx2.Limits(max_connections=2 * STREAMS_AT_ONCE, max_keepalive_connections=32),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """200, 206, 304 and what the archive answers; 401, 403, 404, 405, 408, 413, 414, 502, 503 of this door's own."""
        request = Request(scope, receive)
        try:
            person = await self._door.require(request, Role.RADIOLOGY, tokens=True)
            self._check_origin(request, self._door.base(request))
            url, resource = self._url(request)
            allowed = methods(resource)
            if not allowed:
                raise RefusedError(404, "no-such-resource")
            if request.method not in allowed:
                await problem(405, "method-not-allowed", Allow=", ".join(allowed))(scope, receive, send)
                return
            if not all(request.headers.get(name, "").isascii() for name in _ASKED):
                raise RefusedError(400, "bad-header")
            if self._streams >= STREAMS_AT_ONCE:
                raise RefusedError(503, "busy")
        except RefusedError as error:
            await refusal(error)(scope, receive, send)
            return
        self._streams += 1
        try:
            if self._large.takes(request):
                answer = await self._large.answer(request, person.name, self._door.base(request) + SERVICE)
                await answer(scope, receive, send)
                return
            async with AsyncExitStack() as stack:
                body = await self._body(request, stack)
                await self._answer(request, url, person.name, body, send)
        except RefusedError as error:
            await refusal(error)(scope, receive, send)
        except ArchiveError as error:
            log.warning("DICOMweb cannot store", kind=error.failure.value, trouble=error.trouble)
            await problem(502, "archive-unreachable", **{"Retry-After": "5"})(scope, receive, send)
        finally:
            self._streams -= 1

    # The request

    def _check_origin(self, request: Request, base: str) -> None:
        """A page of another origin may only have a person's browser ask where it is named in the configuration."""
        origin = request.headers.get("origin")
        if request.method in ("GET", "HEAD", "OPTIONS") or origin is None:
            return
        if origin != base and origin not in self._door.config.web.allowed_origins:
            raise RefusedError(403, "other-origin")

    def _url(self, request: Request) -> tuple[str, str]:
        """The archive's address of what is asked for, and the resource, below the service. Raises RefusedError."""
        raw = bytes(request.scope.get("raw_path") or request.scope["path"].encode())
        query_string = bytes(request.scope["query_string"])
        if appended := _APPENDED.fullmatch(query_string):
            raw, query_string = raw + appended[2], appended[1] + (b"&" + appended[3] if appended[3] else b"")
        segments = raw.decode("latin-1").split("/")
        if not _PATH.fullmatch(raw) or any(unquote(segment) in (".", "..") or "/" in unquote(segment) for segment in segments):
            raise RefusedError(404, "no-such-resource")
        try:  # encoded anew, as the signature's canonical form wants it (RFC 3986 2.3)
            pairs = parse_qsl(
                query_string.decode("latin-1"), keep_blank_values=True, errors="surrogateescape",
                max_num_fields=MOST_PARAMETERS,
            )  # fmt: skip
        except ValueError as error:
            raise RefusedError(400, "bad-query") from error
        query = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in pairs)
        path = "/".join(segments).rstrip("/")
        return self._archive.api + path + (f"?{query}" if query else ""), unquote("/".join(segments[2:]).rstrip("/"))

    async def _body(self, request: Request, stack: AsyncExitStack) -> bytes:
        """The request's body; held while `stack` lasts, a few at once. Raises RefusedError."""
        if request.method != "POST":
            return b""
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > LARGEST_BODY:
            raise RefusedError(413, "body-too-large")
        try:
            async with asyncio.timeout(BODY_SECONDS):
                await stack.enter_async_context(self._bodies)
                pieces = bytearray()
                async for piece in request.stream():
                    pieces += piece
                    if len(pieces) > LARGEST_BODY:
                        raise RefusedError(413, "body-too-large")
        except TimeoutError as error:
            raise RefusedError(408, "body-too-slow") from error
        return bytes(pieces)

    # The archive and the store

    async def _answer(self, request: Request, url: str, person: str, body: bytes, send: Send) -> None:
        """Ask, and send what comes, while the client is there."""
        async with anyio.create_task_group() as group:

            async def until_gone() -> None:
                while (await request.receive())["type"] != "http.disconnect":
                    pass
                group.cancel_scope.cancel()

            group.start_soon(until_gone)
            try:
                async with AsyncExitStack() as stack:
                    found = await self._found(request, url, person, body, stack)
                    await self._send(request, found, send)
            except ArchiveError as error:
                log.warning("DICOMweb cannot be answered", kind=error.failure.value, trouble=error.trouble)
                answer = problem(502, "archive-unreachable", **{"Retry-After": "5"})
                await answer(request.scope, request.receive, send)
            except RefusedError as error:
                await refusal(error)(request.scope, request.receive, send)
            group.cancel_scope.cancel()

    async def _found(self, request: Request, url: str, person: str, body: bytes, stack: AsyncExitStack) -> _Found:
        """The archive's answer, or the object in the store that it names. Raises ArchiveError, RefusedError."""
        headers = {name: request.headers[name] for name in _ASKED if name in request.headers}
        headers |= {"x-on-behalf-of": person, "accept-encoding": "gzip", "accept": headers.get("accept", "*/*")}
        key = f"{url}\n{headers['accept']}"
        kept = self._cache.get(key) if self._cache is not None and request.method == "GET" else None
        if kept is not None:  # the archive says whether it is still what is here, and still this hospital's to see
            headers = {name: value for name, value in headers.items() if not name.startswith("if-")}
            headers["if-none-match"] = kept.headers["etag"]
        answer = await self._signed(request.method, url, body, headers, stack)
        by_gateway = answer.headers.get("x-amzn-errortype", "").startswith("RequestTooLarge")
        if answer.status_code == 413 and by_gateway and request.method in ("GET", "HEAD"):  # for its address and headers
            raise RefusedError(414, "address-too-long")
        if kept is not None and answer.status_code == 304:
            whole = self._rewriter(request, kept.headers.get("content-type", "")) is not None
            found = await self._from_cache(request, kept, whole=whole, stack=stack)
            if found is not None:
                return found
            raise ArchiveError("What was here has just gone.", Failure.BUSY)
        if kept is not None and self._cache is not None:
            self._cache.drop(key)
        location = answer.headers.get("location", "")
        if answer.status_code not in (301, 302, 303, 307, 308) or request.method not in ("GET", "HEAD"):
            taking = self._taking(request, key, answer)
            return _Found(answer.status_code, _picked(answer.headers, _ANSWERED), answer.aiter_bytes(PIECE), taking)
        content_type = answer.headers.get("content-type", "")
        await answer.aclose()
        return await self._in_store(request, location, content_type, stack)

    def _taking(self, request: Request, key: str, answer: httpx2.Response) -> Taking | None:
        """Where the archive's own answer is kept, if it may be: whole, and with an entity tag by which to ask again."""
        length = answer.headers.get("content-length", "")
        wanted = request.method == "GET" and answer.status_code == 200 and "etag" in answer.headers and length.isdigit()
        if self._cache is None or not wanted or "content-encoding" in answer.headers:
            return None
        return self._cache.take(key, int(length))

    async def _signed(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], stack: AsyncExitStack
    ) -> httpx2.Response:
        """A signed request's answer; a wrong clock and stale credentials are put right once. Raises ArchiveError."""
        for again in (True, False):
            offset = self._archive.signer.clock.offset
            target = str(httpx2.URL(url))
            signed = await anyio.to_thread.run_sync(self._archive.signer.sign, method, target, body, headers)
            signed["user-agent"] = f"contenitore-forwarder/{__version__}"
            answer = await self._sent(method, target, signed, body, stack)
            self._archive.signer.clock.learn(answer.headers.get("date"))
            if answer.status_code not in (403, 429) and answer.status_code < 500:
                return answer
            content = (await answer.aread())[:LARGEST_REFUSAL]
            failure = failed(Answer(answer.status_code, _capitalised(answer.headers), content), f"{method} {SERVICE}")
            if again and failure.failure is Failure.SKEW and self._archive.signer.clock.offset != offset:
                continue
            if again and failure.failure is Failure.CREDENTIALS:
                self._archive.signer.reload()
                continue
            if failure.failure is Failure.THROTTLED:
                return answer
            raise failure
        raise AssertionError("unreachable")

    async def _in_store(self, request: Request, location: str, content_type: str, stack: AsyncExitStack) -> _Found:
        """The object at a presigned address, from the cache if it is there. Raises ArchiveError."""
        parts = urlsplit(location)
        key = f"{parts.netloc}{parts.path}\n{content_type}"
        rewritten = self._rewriter(request, content_type) is not None
        kept = self._cache.get(key) if self._cache is not None and request.method == "GET" else None
        if kept is not None:
            found = await self._from_cache(request, kept, whole=rewritten, stack=stack)
            if found is not None:
                return found
        wanted = {name: request.headers[name] for name in _OF_THE_STORE if name in request.headers}
        if rewritten:
            wanted = {name: value for name, value in wanted.items() if name not in ("range", "if-range")}
        answer = await self._sent(request.method, location, {**wanted, "accept-encoding": "identity"}, b"", stack)
        if answer.status_code not in (200, 206, 304, 412, 416):
            log.warning("the store does not give what the archive named", status=answer.status_code)
            raise ArchiveError("The store does not give what the archive named.", Failure.SERVER)
        headers = _picked(answer.headers, _ANSWERED)
        encoded = "content-encoding" in answer.headers
        length = answer.headers.get("content-length", "")
        if length.isdigit() and not encoded:
            headers["content-length"] = length
        taking = None
        if self._cache is not None and request.method == "GET" and answer.status_code == 200 and "content-length" in headers:
            taking = self._cache.take(key, int(length))
            headers["cache-status"] = "contenitore; fwd=miss"
        if answer.status_code in (412, 416):
            headers.pop("content-type", None)
            headers["content-length"] = "0"
            return _Found(answer.status_code, headers, _nothing())
        return _Found(answer.status_code, headers, answer.aiter_bytes(PIECE), taking)

    async def _from_cache(self, request: Request, kept: Kept, *, whole: bool, stack: AsyncExitStack) -> _Found | None:
        """An object that is here, or the part of it that is asked for (RFC 9110 14); None where it has just gone."""
        headers = {**kept.headers, "accept-ranges": "bytes", "cache-status": "contenitore; hit"}
        tag = kept.headers.get("etag", "")
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if tag and tag.removeprefix("W/") in known:
            return _Found(304, headers, _nothing())
        try:
            file = await stack.enter_async_context(await anyio.open_file(kept.path, "rb"))
        except OSError:
            return None
        start, end, status = 0, kept.size, 200
        asked = _RANGE.fullmatch(request.headers.get("range", ""))
        if asked and not whole and any(asked.groups()) and request.headers.get("if-range", tag) == tag:
            start, end = _part(asked[1], asked[2], kept.size)
            if start >= end:
                headers |= {"content-range": f"bytes */{kept.size}", "content-length": "0"}
                return _Found(416, headers, _nothing())
            headers["content-range"] = f"bytes {start}-{end - 1}/{kept.size}"
            status = 206
        headers["content-length"] = str(end - start)

        async def pieces() -> AsyncIterator[bytes]:
            await file.seek(start)
            left = end - start
            while left and (piece := await file.read(min(left, 4 * PIECE))):
                left -= len(piece)
                yield piece

        return _Found(status, headers, pieces())

    async def _sent(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, stack: AsyncExitStack
    ) -> httpx2.Response:
        """An answer of which the head is there; closed with the stack. Raises ArchiveError."""
        assert self._client is not None
        request = self._client.build_request(method, url, headers=dict(headers), content=body or None)
        try:
            answer = await self._client.send(request, stream=True)
        except httpx2.HTTPError as error:
            raise ArchiveError(f"The line to the archive broke ({type(error).__name__}).", Failure.NETWORK) from error
        stack.push_async_callback(answer.aclose)
        return answer

    # The answer

    def _rewriter(self, request: Request, content_type: str) -> rewriting.Rewriter | None:
        return rewriting.rewriter(content_type, self._archive.api + SERVICE, self._door.base(request) + SERVICE)

    async def _send(self, request: Request, found: _Found, send: Send) -> None:
        """Send it piece by piece. A body that breaks off is broken off here too: the connection is closed without its end."""
        rewriter = self._rewriter(request, found.headers.get("content-type", ""))
        headers = dict(found.headers)
        if rewriter is not None:
            headers.pop("content-length", None)
            headers.pop("accept-ranges", None)
        old, new = self._archive.api + SERVICE, self._door.base(request) + SERVICE
        for name in ("content-location", "location"):
            if name in headers:
                headers[name] = rewriting.address(headers[name], old, new)
        for name in ("link", "warning"):
            if name in headers:
                headers[name] = rewriting.addresses(headers[name], old, new)
        headers |= {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
        headers.setdefault("cache-control", "no-store")
        if not headers.get("content-type", "").startswith("application/pdf"):
            headers["content-security-policy"] = INERT
        begun = False
        try:
            raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
            await _patiently(send, {"type": "http.response.start", "status": found.status, "headers": raw})
            begun = True
            async for piece in found.body:
                if found.taking is not None:
                    found.taking.write(piece)
                if piece := rewriter.feed(piece) if rewriter else piece:
                    await _patiently(send, {"type": "http.response.body", "body": piece, "more_body": True})
            last = rewriter.end() if rewriter and request.method != "HEAD" and found.status not in (204, 304) else b""
            if found.taking is not None:
                found.taking.keep({name: value for name, value in found.headers.items() if name in _KEPT})
            await _patiently(send, {"type": "http.response.body", "body": last, "more_body": False})
        except (httpx2.HTTPError, httpx2.StreamError, rewriting.MalformedError, TimeoutError, OSError) as error:
            log.warning("an answer of DICOMweb broke off", kind=type(error).__name__)
            if not begun:
                raise ArchiveError("The archive's answer cannot be read.", Failure.NETWORK) from error
            request.scope["state"][ABORT]()
        finally:
            if found.taking is not None:
                found.taking.drop()  # does nothing to what was kept


async def _patiently(send: Send, message: Mapping[str, object]) -> None:
    async with asyncio.timeout(SEND_SECONDS):
        await send(dict(message))


async def _nothing() -> AsyncIterator[bytes]:
    for piece in tuple[bytes, ...]():
        yield piece


def _picked(headers: httpx2.Headers, names: tuple[str, ...]) -> dict[str, str]:
    return {name: headers[name] for name in names if name in headers}


def _capitalised(headers: httpx2.Headers) -> dict[str, str]:
    """Names as the archive's client looks them up."""
    return {name.title(): value for name, value in headers.items()}


def _part(first: str, last: str, size: int) -> tuple[int, int]:
    """(start, end) of a byte range of something of this size; empty where there is no such part."""
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def _quoted(text: str) -> str:
    return quote(text, safe="-_.~", errors="surrogateescape")
