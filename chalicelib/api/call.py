"""One request: from API Gateway's event to what was asked, by whom, and what is to be recorded of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from chalice.app import Request

from chalicelib.api import recording
from chalicelib.bootstrap import Archive
from chalicelib.domain.audit import Entry, RequestContext
from chalicelib.domain.errors import BadRequest
from chalicelib.domain.ports import Write
from chalicelib.services.registry import Caller, identify

MAX_PARAMETER = 500
"""Characters of a query parameter."""


@dataclass(frozen=True)
class Call:
    """One request: what was asked, by whom, when, and at which address the archive was reached; and what is to be recorded."""

    archive: Archive
    request: Request
    now: datetime
    route: str
    entries: list[Entry] = field(default_factory=list)
    acted: list[Entry] = field(default_factory=list)

    def record(self, *entries: Entry) -> None:
        """Say what this request does, for the audit trail. It is written after the handler and before the answer leaves.

        A handler whose route is not in `recording.UNRECORDED` must say so at least once, or its answer does not leave.
        """
        self.entries.extend(entries)

    def act(self, writes: Sequence[Write], *entries: Entry) -> list[bool]:
        """Do and record in one transaction: `domain.audit.Act`. Raises TryAgain."""
        held = self.archive.trail.append(self.context, entries, writes)
        if not held:
            self.acted.extend(entries)
        return held

    @cached_property
    def caller(self) -> Caller:
        """Who signed the request. Raises UnknownInstitution."""
        identity = self.request.context.get("identity", {})
        on_behalf_of = self.request.headers.get("x-on-behalf-of")
        return identify(self.archive.table, identity.get("userArn") or "", on_behalf_of, self.archive.config.operator_role_arn)

    def identify(self) -> Caller:
        """Look the caller up, if that has not been done. Raises UnknownInstitution."""
        return self.caller

    def act_as(self, caller: Caller) -> None:
        """Say for whom an unsigned request acts: a reading session for the person whose link it is."""
        self.__dict__["caller"] = caller

    @property
    def context(self) -> RequestContext:
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
        if (fixed := self.archive.config.public_base_url) is not None:
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
        if values and len(values[0]) > MAX_PARAMETER:
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

    def json(self, *, optional: bool = False) -> Any:
        """The body as JSON; with `optional`, none at all is `{}`. Raises BadRequest."""
        raw = self.request.raw_body or b""
        if optional and not raw:
            return {}
        try:
            text = raw.decode("utf-8-sig")  # and no other encoding (RFC 8259 8.1)
            body = json.loads(text)
            if "\\u" in text:
                json.dumps(body, ensure_ascii=False).encode()  # half a surrogate pair is no text: nothing could store it
        except (ValueError, RecursionError) as error:
            raise BadRequest("The body is not JSON.", "body") from error
        return body
