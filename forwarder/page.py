"""The forwarder's page on the hospital's network: status for people, JSON for programs, metrics for Prometheus.

It only shows; nothing can be changed through it. It holds no patient data.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any, Protocol

import waitress

from forwarder import metrics
from forwarder.config import PageConfig
from forwarder.errors import ConfigError, ForwarderError

StartResponse = Callable[[str, list[tuple[str, str]]], object]
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:"
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}


class HasSnapshot(Protocol):
    """Where the page gets what it shows."""

    def snapshot(self) -> dict[str, Any]: ...


def application(state: HasSnapshot) -> Callable[[dict[str, Any], StartResponse], Iterable[bytes]]:
    """The WSGI application: `/`, `/status.json`, `/metrics`, `/health`."""

    def answer(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        status, media_type, body = _respond(state, environ["REQUEST_METHOD"], environ.get("PATH_INFO", "/"))
        headers = [
            ("Content-Type", media_type),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", POLICY),
            ("X-Content-Type-Options", "nosniff"),
        ]
        start_response(status, headers)
        return [body if environ["REQUEST_METHOD"] != "HEAD" else b""]

    return answer


def _respond(state: HasSnapshot, method: str, path: str) -> tuple[str, str, bytes]:
    plain, as_json = "text/plain; charset=utf-8", "application/json"
    if method not in ("GET", "HEAD"):
        return "405 Method Not Allowed", plain, b"Nothing can be changed here.\n"
    if path in FILES:
        name, media_type = FILES[path]
        return "200 OK", media_type, (resources.files("forwarder") / "web" / name).read_bytes()
    try:
        if path == "/status.json":
            return "200 OK", as_json, json.dumps(state.snapshot()).encode()
        if path == "/metrics":
            media_type, body = metrics.exposition(state.snapshot())
            return "200 OK", media_type, body
        if path == "/health":
            state.snapshot()
            return "200 OK", as_json, b'{"status": "ok"}'
    except ForwarderError as error:
        return "503 Service Unavailable", as_json, json.dumps({"status": str(error)}).encode()
    return "404 Not Found", plain, b"There is no such page.\n"


@contextmanager
def serving(config: PageConfig, state: HasSnapshot) -> Iterator[None]:
    """Serve the page while the block runs. Raises ConfigError if the port is taken."""
    try:
        server = waitress.create_server(
            application(state),
            host=config.address,
            port=config.port,
            threads=2,
            ident="contenitore-forwarder",
        )
    except OSError as error:
        raise ConfigError(
            f"Cannot show the page on {config.address}:{config.port}: {error.strerror}."
        ) from error
    thread = threading.Thread(target=server.run, name="page", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.close()
        thread.join(5)
