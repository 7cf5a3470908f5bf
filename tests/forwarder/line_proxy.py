"""A bad line, as an HTTP proxy between forwarder and cloud: slow, cut in the middle, answers lost, other answers."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass
class BadLine:
    """What is wrong with the line. Predicates are asked for each request: (method, path) → does it happen?"""

    url: str = ""
    bytes_per_second: float | None = None  # for bodies in both directions together
    cut_after: Callable[[str, str], int | None] = lambda method, path: None  # bytes of the body
    cut_answer: Callable[[str, str], int | None] = lambda method, path: None  # bytes of the answer's body
    lose_answer: Callable[[str, str], bool] = lambda method, path: False
    alter: Callable[[str, str, bytes], bytes] = lambda method, path, body: body  # what arrives of an answer's body
    instead: Callable[[str, str], tuple[int, bytes] | None] = lambda method, path: None
    bytes_up: int = 0
    requests: int = 0
    cuts: int = 0
    lost: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _free_at: float = 0.0

    def take(self, count: int) -> None:
        """Wait as long as `count` bytes take."""
        with self._lock:
            self.bytes_up += count
            if not self.bytes_per_second:
                return
            now = time.monotonic()
            self._free_at = max(self._free_at, now - 0.02) + count / self.bytes_per_second
            wait = self._free_at - now
        if wait > 0:
            time.sleep(wait)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    line: BadLine
    upstream: dict[str, http.client.HTTPConnection]

    def setup(self) -> None:
        super().setup()
        self.upstream = {}

    def finish(self) -> None:
        for connection in self.upstream.values():
            connection.close()
        super().finish()

    def log_message(self, *arguments: Any) -> None:
        pass

    def _relay(self) -> None:
        line, target = self.line, urlsplit(self.path)
        path = target.path + (f"?{target.query}" if target.query else "")
        with line._lock:
            line.requests += 1
        other = line.instead(self.command, path)
        if other is not None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._answer(other[0], [("Date", self.date_time_string())], other[1])
            return
        connection = self.upstream.get(target.netloc) or http.client.HTTPConnection(target.netloc, timeout=60)
        self.upstream[target.netloc] = connection
        connection.putrequest(self.command, path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() != "proxy-connection":
                connection.putheader(name, value)
        connection.endheaders()
        left = int(self.headers.get("Content-Length", 0))
        cut = line.cut_after(self.command, path)
        while left:
            block = self.rfile.read1(min(left, 65536))
            if not block:
                return
            if cut is not None:
                block, cut = block[:cut], cut - len(block)
            connection.send(block)
            line.take(len(block))
            left -= len(block)
            if cut is not None and cut <= 0:
                line.cuts += 1
                self._break(connection)
                return
        answer = connection.getresponse()
        body = answer.read()
        if line.lose_answer(self.command, path):
            line.lost += 1
            self._break(connection)
            return
        body = line.alter(self.command, path, body)
        line.take(len(body))
        until = line.cut_answer(self.command, path)
        if until is not None and until < len(body):
            line.cuts += 1
            self._answer(answer.status, answer.getheaders(), body, until)
            self._break(connection)
            return
        self._answer(answer.status, answer.getheaders(), body)

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, until: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:until])

    def _break(self, connection: http.client.HTTPConnection) -> None:
        self.close_connection = True
        for side in (self.connection, connection.sock):
            side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            side.close()

    do_GET = do_POST = do_PUT = _relay


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # broken lines are what it is for


@contextmanager
def bad_line() -> Iterator[BadLine]:
    """A proxy that listens on a free port; give its `url` as `archive.proxy`."""
    line = BadLine()
    handler = type("Handler", (_Handler,), {"line": line, "disable_nagle_algorithm": True})
    server = _Server(("127.0.0.1", 0), handler)
    line.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield line
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
