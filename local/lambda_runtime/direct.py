"""The functions' AWS calls, handed to the emulated cloud in the same thread.

Functions and cloud share this process. A call that went out through a socket and came in again would be parsed, signed and
checked exactly as it is here, but would wait twice for another thread, which costs more than all the rest together.
Everyone else comes in by the port.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ConnectionClosedError

from local.faults import Faults
from local.lambda_runtime import meter
from local.web.wsgi import Application

_THROTTLED = {
    True: (
        400,
        "application/x-amz-json-1.0",
        b'{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException","message":"rate"}',
    ),
    False: (503, "application/xml", b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"),
}
"""What is answered to a request too many: of the services that speak JSON, and of S3."""


def sender(cloud: Application, endpoint: str, faults: Faults) -> Callable[..., AWSResponse | None]:
    """A handler for botocore's event `before-send` that answers what is meant for `endpoint`, where `faults` let it."""
    host = urlsplit(endpoint).netloc

    def send(request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:
        address = urlsplit(request.url)
        if address.netloc != host:
            return None
        faults.before_call()
        if faults.happens(faults.chances.throttled):
            status, kind, text = _THROTTLED["X-Amz-Target" in request.headers]
            return AWSResponse(request.url, status, {"content-type": kind}, _Raw([text], None))
        answer: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], _error: Any = None) -> None:
            answer[:] = [int(status.split()[0]), {name.lower(): value for name, value in headers}]

        environ = _environ(request, address.path, address.query, host)
        with meter.outside() as spent:
            body = cloud(environ, start_response)
        if spent is not None:
            spent.add(sent=int(environ.get("CONTENT_LENGTH") or 0), requests=1)
        faults.after_call()
        if faults.happens(faults.chances.answer_lost):
            raise ConnectionClosedError(endpoint_url=request.url)
        return AWSResponse(request.url, answer[0], answer[1], _Raw(body, spent))

    return send


def _environ(request: AWSPreparedRequest, path: str, query: str, host: str) -> dict[str, Any]:
    body = request.body or b""
    body = body.encode() if isinstance(body, str) else body
    stream: Any = io.BytesIO(body) if isinstance(body, bytes | bytearray) else body
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "REQUEST_URI": f"{path}?{query}" if query else path,
        "PATH_INFO": unquote(path, "latin-1"),
        "SCRIPT_NAME": "",
        "QUERY_STRING": query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": host.rpartition(":")[2],
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": host,
        "wsgi.url_scheme": "http",
        "wsgi.input": stream,
        "wsgi.input_terminated": True,
        "wsgi.errors": io.StringIO(),
        "wsgi.version": (1, 0),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.headers.items():
        key = name.upper().replace("-", "_")
        text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = text
    if isinstance(body, bytes | bytearray):
        environ["CONTENT_LENGTH"] = str(len(body))
    return environ


class _Raw:
    """A WSGI answer as what botocore reads a body from: `read` like a file, `stream` in pieces."""

    def __init__(self, body: Iterable[bytes], spent: meter.Spent | None) -> None:
        self._body, self._pieces, self._left = body, self._read(iter(body)), b""
        self._spent = spent

    def _read(self, body: Iterator[bytes]) -> Iterator[bytes]:
        """The pieces of the body, which the emulated cloud reads from its file at its own expense."""
        while True:
            with meter.outside():
                piece = next(body, None)
            if piece is None:
                return
            if self._spent is not None:
                self._spent.add(read=len(piece))
            yield piece

    def read(self, amt: int | None = None, **_: Any) -> bytes:
        if amt is None:
            whole = self._left + b"".join(self._pieces)
            self._left = b""
            self.close()
            return whole
        while len(self._left) < amt and (piece := next(self._pieces, None)) is not None:
            self._left += piece
        piece, self._left = self._left[:amt], self._left[amt:]
        return piece

    def stream(self, amt: int = 65536, **_: Any) -> Iterator[bytes]:
        while piece := self.read(amt):
            yield piece

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            close()
