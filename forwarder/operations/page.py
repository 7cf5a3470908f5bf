"""The forwarder's page on the hospital's network: status for people, JSON for programs, metrics for Prometheus.

It only shows; nothing can be changed through it. It holds no patient data.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any, Protocol

from forwarder.alerts import LANGUAGES, texts
from forwarder.config import PageConfig
from forwarder.errors import ConfigError, ForwarderError
from forwarder.logs import log
from forwarder.operations import metrics

AT_ONCE = 32  # connections
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:"
COUNTS = ("received", "waiting", "indexed", "rejected")
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    **{f"/{language}.json": (f"{language}.json", "application/json") for language in LANGUAGES},
}


class HasSnapshot(Protocol):
    """Where the page gets what it shows."""

    def snapshot(self) -> dict[str, Any]: ...


class _Handler(BaseHTTPRequestHandler):
    """`/`, `/status.json`, `/metrics`, `/health`."""

    timeout = 10  # seconds for a client that says nothing
    server: _PageServer

    def do_GET(self) -> None:
        status, media_type, body = respond(self.server.state, self.path.partition("?")[0])
        self.send_response(status)
        for name, value in (
            ("Content-Type", media_type),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", POLICY),
            ("X-Content-Type-Options", "nosniff"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def version_string(self) -> str:
        return "contenitore-forwarder"

    def log_message(self, format: str, *args: object) -> None:
        pass


class _PageServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, config: PageConfig, state: HasSnapshot) -> None:
        self.state = state
        self._free = threading.BoundedSemaphore(AT_ONCE)
        super().__init__((config.address, config.port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, unless there are too many already."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, *_: object) -> None:
        log.warning("a page could not be shown", error=str(sys.exc_info()[1].__class__.__name__))


def respond(state: HasSnapshot, path: str) -> tuple[int, str, bytes]:
    """(status, media type, body) of one of the pages."""
    as_json = "application/json"
    if path in FILES:
        name, media_type = FILES[path]
        body = (resources.files("forwarder") / "web" / name).read_bytes()
        return 200, media_type, _with_counts(body, state) if path == "/" else body
    try:
        if path == "/status.json":
            return 200, as_json, json.dumps(state.snapshot()).encode()
        if path == "/metrics":
            media_type, body = metrics.exposition(state.snapshot())
            return 200, media_type, body
        if path == "/health":
            state.snapshot()
            return 200, as_json, b'{"status": "ok"}'
    except ForwarderError as error:
        return 503, as_json, json.dumps({"status": str(error)}).encode()
    return 404, "text/plain; charset=utf-8", b"There is no such page.\n"


def _with_counts(page: bytes, state: HasSnapshot) -> bytes:
    """The page with the counts of now in it, in English, for who has no scripts; with them it follows by itself."""
    try:
        now = state.snapshot()
    except ForwarderError:
        return page  # the script says what is wrong
    words = texts("en")
    counts = "".join(f"<div><dt>{words[name]}</dt><dd>{int(now[name])}</dd></div>" for name in COUNTS)
    filled = page.replace(b'<dl id="counts"></dl>', f'<dl id="counts">{counts}</dl>'.encode())
    return filled.replace(b'<p id="sum"></p>', f'<p id="sum">{words["sum"]}</p>'.encode())


@contextmanager
def serving(config: PageConfig, state: HasSnapshot) -> Iterator[None]:
    """Serve the page while the block runs. Raises ConfigError if the port is taken."""
    try:
        server = _PageServer(config, state)
    except OSError as error:
        text = f"Cannot show the page on {config.address}:{config.port}: {error.strerror}."
        raise ConfigError(text) from error
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="page", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
