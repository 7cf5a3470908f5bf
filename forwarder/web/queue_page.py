"""The forwarder's page on the hospital's network: status for people, JSON for programs, metrics for Prometheus.

It only shows; nothing can be changed through it. It holds no patient data.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, Protocol

from forwarder.alerts import LANGUAGES, texts
from forwarder.errors import ForwarderError
from forwarder.operations import metrics

COUNTS = ("received", "waiting", "indexed", "rejected")
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    **{f"/{language}.json": (f"{language}.json", "application/json") for language in LANGUAGES},
}
PATHS = (*FILES, "/status.json", "/metrics", "/health")


_TO_THE_STAFF = b'<a href="/waiting" data-text="staff">Staff pages</a> '


class HasSnapshot(Protocol):
    """Where the page gets what it shows."""

    def snapshot(self) -> dict[str, Any]: ...


def respond(state: HasSnapshot, path: str, *, staff: bool = False) -> tuple[int, str, bytes]:
    """(status, media type, body) of one of `PATHS`; with the way to the staff's pages where there are any."""
    as_json = "application/json"
    if path in FILES:
        name, media_type = FILES[path]
        body = (resources.files("forwarder") / "web" / name).read_bytes()
        if path == "/":
            body = _with_counts(body if staff else body.replace(_TO_THE_STAFF, b""), state)
        return 200, media_type, body
    try:
        now = state.snapshot()
    except ForwarderError as error:
        return 503, as_json, json.dumps({"status": str(error)}).encode()
    if path == "/status.json":
        return 200, as_json, json.dumps(now).encode()
    if path == "/metrics":
        media_type, body = metrics.exposition(now)
        return 200, media_type, body
    return 200, as_json, b'{"status": "ok"}'


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
