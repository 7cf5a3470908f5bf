"""Doors: from API Gateway's event to a call with a known caller, and from what a service answers to HTTP."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from chalice.app import Request, Response

from chalicelib import bootstrap
from chalicelib.api import paths, problems, recording
from chalicelib.config import config
from chalicelib.domain.audit import Context, Entry
from chalicelib.domain.errors import BadRequest, ContenitoreError
from chalicelib.domain.ports import Write
from chalicelib.services.registry import Caller, identify
from chalicelib.telemetry import log_unexpected, logger

MAX_CURSOR = 500
MIN_GZIPPED = 1024
"""Bytes below which gzip does not pay."""


@dataclass(frozen=True)
class Call:
    """One request: what was asked, by whom, when, and at which address the archive was reached; and what is to be recorded."""

    request: Request
    now: datetime
    route: str
    entries: list[Entry] = field(default_factory=list)
    acted: list[Entry] = field(default_factory=list)

    def record(self, *entries: Entry) -> None:
        """Say what this request does, for the audit trail. It is written after the view and before the answer leaves.

        A view whose route is not in `recording.UNRECORDED` must say so at least once, or its answer does not leave.
        """
        self.entries.extend(entries)

    def act(self, writes: Sequence[Write], *entries: Entry) -> list[bool]:
        """Do and record in one transaction: `domain.audit.Act`. Raises TryAgain."""
        held = bootstrap.trail().append(self.context, entries, writes)
        if not held:
            self.acted.extend(entries)
        return held

    @cached_property
    def caller(self) -> Caller:
        """Who signed the request. Raises UnknownInstitution."""
        identity = self.request.context.get("identity", {})
        on_behalf_of = self.request.headers.get("x-on-behalf-of")
        return identify(bootstrap.table(), identity.get("userArn") or "", on_behalf_of, config().operator_role_arn)

    def identify(self) -> Caller:
        """Look the caller up, if that has not been done. Raises UnknownInstitution."""
        return self.caller

    def act_as(self, caller: Caller) -> None:
        """Say for whom an unsigned request acts: a reading session for the person whose link it is."""
        self.__dict__["caller"] = caller

    @property
    def context(self) -> Context:
        """Who asked, when and how, for the audit trail. Raises UnknownInstitution."""
        return recording.context(self.request, self.now, self.route, self.caller)

    @cached_property
    def query(self) -> list[tuple[str, str]]:
        """Names and values of the query, decoded, repeats included."""
        raw = self.request.to_original_event().get("multiValueQueryStringParameters") or {}
        return [(name, value) for name, values in raw.items() for value in values]

    @property
    def query_text(self) -> str:
        """The query as one text, decoded: what was searched for. For the audit trail only, since it may name a patient."""
        return "&".join(f"{name}={value}" for name, value in self.query)

    @cached_property
    def base_url(self) -> str:
        """The address under which the caller reached the archive, with stage or base path, without a trailing slash."""
        if (fixed := config().public_base_url) is not None:
            return fixed.rstrip("/")
        context = self.request.context
        segments, first = str(context.get("path") or "").split("/"), context["resourcePath"].split("/")[1]
        prefix = "/".join(segments[: segments.index(first)]) if first in segments else ""
        scheme = self.request.headers.get("x-forwarded-proto") or "https"
        host = context.get("domainName") or self.request.headers.get("host") or ""
        return f"{scheme}://{host}{prefix}"

    @property
    def accepts_gzip(self) -> bool:
        """Whether the answer may be gzipped (RFC 9110 12.5.3)."""
        codings = [part.replace(" ", "").lower() for part in (self.request.headers.get("accept-encoding") or "").split(",")]
        return any(part == "gzip" or (part.startswith("gzip;q=") and part[7:].strip("0.") != "") for part in codings)

    def parameter(self, name: str) -> str | None:
        """A query parameter that may stand once; an empty one says nothing. Raises BadRequest when it is repeated or too long."""
        values = [value for key, value in self.query if key == name]
        if len(values) > 1:
            raise BadRequest(f"{name} may be given once.", name)
        if values and len(values[0]) > MAX_CURSOR:
            raise BadRequest(f"{name} is too long.", name)
        return values[0] or None if values else None

    def number(self, name: str, default: int, maximum: int) -> int:
        """A query parameter from 1 to `maximum`. Raises BadRequest naming it."""
        text = self.parameter(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= maximum:
            raise BadRequest(f"{name} must be a number from 1 to {maximum}.", name)
        return int(text)

    def json(self) -> Any:
        """The body as JSON. Raises BadRequest."""
        raw = self.request.raw_body or b""
        try:
            body = json.loads(raw)
            if b"\\u" in raw:
                json.dumps(body, ensure_ascii=False).encode()  # half a surrogate pair is no text: nothing could store it
        except (ValueError, RecursionError) as error:
            raise BadRequest("The body is not JSON.", "body") from error
        return body


View = Callable[..., Response]


DOORS: dict[tuple[str, str], View] = {}
"""The views by method and path, of the modules that were imported so far."""


def door(method: str, path: str, *, public: bool = False, head: bool = False) -> Callable[[View], View]:
    """Let `view(call, **path_parameters)` answer a method and path, with `head` HEAD too. `api.routes` registers it.

    Signed requests only, unless `public`: of members and the operator, before anything else is looked at.
    """
    del head  # said here for the reader; `api.routes` lets it in

    def register(view: View) -> View:
        DOORS[method, path] = view if public else _for_known_callers(view)
        return view

    return register


def _for_known_callers(view: View) -> View:
    def guarded(call: Call, **parameters: str) -> Response:
        call.identify()
        return view(call, **parameters)

    return guarded


def respond(request: Request, method: str, path: str, parameters: dict[str, str]) -> Response:
    """The answer of the view for a method and path, recorded and logged; `parameters` as they stand in the path. Never raises."""
    view, route = DOORS[method, path], f"{method} {path}"
    started = time.perf_counter()
    bootstrap.begin_request()
    request_id = str(request.context.get("requestId", ""))
    call = Call(request, datetime.now(UTC), route)
    try:
        response = _recorded(call, view, paths.decoded(parameters))
    except ContenitoreError as error:
        response = problems.to_response(error, request_id)
    except Exception as error:  # the outermost door: logged by kind and place, answered without details
        log_unexpected(error, route=route, request_id=request_id)
        response = problems.unexpected(request_id)
    _gzip(call, response)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    logger().info(
        "request",
        extra={
            "route": route,
            "status": response.status_code,
            "request_id": request_id,
            "institution": _institution(call),
            "milliseconds": round((time.perf_counter() - started) * 1000, 1),
        },
    )
    return response


def _gzip(call: Call, response: Response) -> None:
    """Text that is long goes out gzipped to who takes that; what it depends on is said (RFC 9110 12.5.5)."""
    kind = str(response.headers.get("Content-Type", "")).split(";")[0].strip()
    if "Content-Encoding" in response.headers or not (kind.startswith("text/") or kind.endswith(("json", "xml"))):
        return
    vary = [part for part in str(response.headers.get("Vary", "")).split(", ") if part]
    response.headers["Vary"] = ", ".join(dict.fromkeys([*vary, "Accept-Encoding"]))
    if isinstance(response.body, bytes) and len(response.body) >= MIN_GZIPPED and call.accepts_gzip:
        response.body = gzip.compress(response.body, 5, mtime=0)
        response.headers["Content-Encoding"] = "gzip"


def _recorded(call: Call, view: View, parameters: dict[str, str]) -> Response:
    """The view's answer, once what it did is recorded. A refusal is recorded too. Raises TryAgain when it cannot be."""
    try:
        response = view(call, **parameters)
    except ContenitoreError as error:
        caller = call.__dict__.get("caller")
        context = recording.context(call.request, call.now, call.route, caller)
        refused = recording.refusal(error, parameters, dict(call.query).get("issuer"), caller)
        if refused is not None and (caller is not None or context.session):  # nobody knows whom an unsigned request is for
            bootstrap.trail().append(context, [refused])
        raise
    if call.entries:
        bootstrap.trail().append(call.context, call.entries)
    elif not call.acted and call.route not in recording.UNRECORDED:
        raise RuntimeError(f"{call.route} did not say what to record: see Call.record")
    return response


def _institution(call: Call) -> str | None:
    caller = call.__dict__.get("caller")
    if caller is None:
        return None
    return caller.institution.id if caller.institution else "operator"


def answer(body: object, status: int = 200, content_type: str = "application/json", **headers: str) -> Response:
    """JSON, never cached: what one caller may see is not for another."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    fields = {"Content-Type": content_type, "Cache-Control": "no-store"}
    return Response(text, fields | {name.replace("_", "-").title(): value for name, value in headers.items()}, status)
