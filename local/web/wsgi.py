"""The little that every WSGI application in the local city needs: a request's parts as they were sent, and
answers."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import IO, Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

FIELDS = "city.header_fields"
"""Where a server leaves the header fields of a request as they were sent, names and values, repeated ones too."""

REASONS = {
    200: "OK",
    204: "No Content",
    206: "Partial Content",
    304: "Not Modified",
    307: "Temporary Redirect",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    411: "Length Required",
    412: "Precondition Failed",
    413: "Request Entity Too Large",
    416: "Requested Range Not Satisfiable",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


@dataclass(frozen=True)
class HttpRequest:
    """A request as it arrived: path and query still percent-encoded; `headers` by lower-case name, repeated ones joined, and
    `fields` as they were sent."""

    method: str
    raw_path: str
    query: str
    headers: dict[str, str]
    body: IO[bytes]
    length: int
    environ: Environ = field(repr=False)

    @property
    def path(self) -> str:
        return unquote(self.raw_path)

    @property
    def fields(self) -> list[tuple[str, str]]:
        return self.environ.get(FIELDS) or list(self.headers.items())

    @property
    def address(self) -> str:
        """Where the request came from."""
        return str(self.environ.get("REMOTE_ADDR") or "127.0.0.1")


def read_request(environ: Environ) -> HttpRequest:
    target = environ.get("REQUEST_URI") or environ["PATH_INFO"]
    if "://" in target.split("?", 1)[0]:
        target = "/" + target.split("://", 1)[1].partition("/")[2]
    raw_path, _, query = target.partition("?")
    headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            headers[name.replace("_", "-").lower()] = environ[name]
    length = int(environ.get("CONTENT_LENGTH") or 0)
    return HttpRequest(environ["REQUEST_METHOD"], raw_path or "/", query, headers, environ["wsgi.input"], length, environ)


def respond(start_response: StartResponse, status: int, headers: Iterable[tuple[str, str]], body: bytes = b"") -> list[bytes]:
    """Answer with a body in memory; Content-Length is added."""
    sent = [(name, value) for name, value in headers if name.lower() != "content-length"]
    if status not in (204, 304):
        sent.append(("Content-Length", str(len(body))))
    start_response(f"{status} {REASONS.get(status, 'Unknown')}", sent)
    return [body]


def json_body(content: Any) -> bytes:
    return json.dumps(content).encode()


def request_id() -> str:
    """Unique enough for a log, without a system call for each request."""
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def xml_error(code: str, message: str, **more: str) -> bytes:
    """An S3 error document."""
    parts = {"Code": code, "Message": message, **more, "RequestId": request_id()[:16].upper()}
    inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in parts.items())
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inner}</Error>'.encode()
