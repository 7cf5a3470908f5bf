"""HTTP servers of the local city: waitress, one loop and one pool of threads for each port.

A body over the port's limit is counted and thrown away, never kept, so that the client can read its answer; a
client that asks first (`Expect: 100-continue`) is answered before it sends anything.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import TcpWSGIServer, create_server
from waitress.task import ErrorTask, ThreadedTaskDispatcher, WSGITask
from waitress.utilities import RequestEntityTooLarge

from local.web.wsgi import FIELDS, Application, Environ, StartResponse, request_id

TooLarge = Callable[[str], tuple[list[tuple[str, str]], bytes]]
MAX_DISCARDED_BYTES = 256 * 1024**2
"""More than this is not even read: the connection is closed."""


class PortTaken(Exception):
    """A port cannot be listened on; the text tells the user why."""


class Server:
    """A server that listens at once, on `port`, and answers, by `app`, after `start`.

    `max_body` is the most bytes that a body may have; `too_large` makes the header fields and the body that answer more (413),
    for a request id.
    """

    app: Application

    def __init__(self, port: int, threads: int, max_body: int, too_large: TooLarge | None = None, name: str = "http") -> None:
        self._map: dict[int, Any] = {}
        self._dispatcher = ThreadedTaskDispatcher()
        self._dispatcher.set_thread_count(threads)
        self._name = name
        try:
            self._server: TcpWSGIServer = create_server(
                self.answer,
                map=self._map,
                _dispatcher=self._dispatcher,
                listen=f"127.0.0.1:{port}",
                threads=threads,
                ident=name,
                max_request_body_size=max_body + 1,
                inbuf_overflow=1 << 20,
                outbuf_overflow=1 << 20,
                channel_timeout=130,
                cleanup_interval=30,
                connection_limit=1000,
                asyncore_use_poll=True,
                channel_request_lookahead=1,
                clear_untrusted_proxy_headers=True,
            )
        except OSError as error:
            raise PortTaken(f"Port {port} on 127.0.0.1 cannot be used: {error.strerror}.") from error
        self._server.channel_class = _channel(too_large)
        self.port: int = self._server.effective_port
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def answer(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """What `app` answers, which may be set after the port was taken."""
        return self.app(environ, start_response)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        self._server.run()

    def stop(self) -> None:
        """Listen no more. Requests that run may finish; see `busy`."""
        self._server.accepting = False
        self._server.socket.close()

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        channels = list(self._server.active_channels.values())
        return any(channel.requests or channel.total_outbufs_len for channel in channels)


def _channel(too_large: TooLarge | None) -> type[HTTPChannel]:
    class Task(ErrorTask):  # type: ignore[misc]
        def execute(self) -> None:
            if isinstance(self.request.error, RequestEntityTooLarge) and too_large is not None:
                id_ = request_id()
                headers, body = too_large(id_)
                self.status = "413 Request Entity Too Large"
                more = [("Content-Length", str(len(body))), ("x-amzn-RequestId", id_), ("Connection", "close")]
                self.response_headers += [*headers, *more]
                self.set_close_on_finish()
                self.content_length = len(body)
                self.write(body)
                return
            super().execute()

    class Channel(HTTPChannel):  # type: ignore[misc]
        parser_class = _Parser
        task_class = _Task
        error_task_class = Task

    return Channel


class _Task(WSGITask):  # type: ignore[misc]
    """waitress capitalises header names; S3 answers the names of metadata in lower case, and SDKs hand them on."""

    def build_response_header(self) -> bytes:
        header: bytes = super().build_response_header()
        return re.sub(rb"^X-Amz-Meta-[^:]+", lambda found: found[0].lower(), header, flags=re.MULTILINE)

    def get_environment(self) -> Environ:
        environ: Environ = super().get_environment()
        environ[FIELDS] = self.request.fields
        return environ


_LAST_CHUNK = b"\r\n0\r\n\r\n"


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """Reads on after a body was found too large, so that the client gets to read the answer."""

    _discarding = 0
    _seen = 0
    _tail = b""
    fields: tuple[tuple[str, str], ...] = ()

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        lines = header_plus.decode("latin-1").split("\r\n")[1:]
        pairs = (line.partition(":") for line in lines if ":" in line and not line[0].isspace())
        self.fields = tuple((name.strip(), value.strip()) for name, _, value in pairs)

    def received(self, data: bytes) -> int:
        if self._discarding:
            self._seen += len(data)
            self.completed = self._ends(data)
            return len(data)
        consumed: int = super().received(data)
        if self.body_rcv is None:
            self.expect_continue = False  # or waitress waits for a body that has no bytes
        too_large = self.completed and isinstance(self.error, RequestEntityTooLarge)
        if too_large and not self.expect_continue:
            self._discarding = MAX_DISCARDED_BYTES
            if not self.chunked:
                self._discarding = min(self.content_length, MAX_DISCARDED_BYTES)
            self._seen = len(data) - consumed
            self.completed = self._ends(data)
            return len(data)
        return consumed

    def _ends(self, data: bytes) -> bool:
        """Whether that was all. The last chunk may come in pieces, as TCP likes it."""
        self._tail = (self._tail + data)[-len(_LAST_CHUNK) :]
        return self._seen >= self._discarding or (self.chunked and self._tail == _LAST_CHUNK)


def ports_are_free(ports: list[int]) -> None:
    """Raises PortTaken, naming the first port that something else listens on."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise PortTaken(
                    f"Port {port} on 127.0.0.1 is in use ({error.strerror}): stop what uses it, or choose others with --ports."
                ) from error
