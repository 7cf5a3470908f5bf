"""Static files of `viewer/`: the web page and the viewer, with content types, revalidation and a single-page
fallback."""

from __future__ import annotations

import email.utils
import mimetypes
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from local.web import StartResponse, read_request, respond

_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
    ".map": "application/json",
    ".woff2": "font/woff2",
    ".webmanifest": "application/manifest+json",
}


class Pages:
    """WSGI application: files below `root`. An address that is no file falls back to the nearest index.html
    above it, unless it looks like a file (has a suffix), which is 404."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        request = read_request(environ)
        if request.method not in ("GET", "HEAD"):
            return respond(start_response, 405, [("Allow", "GET, HEAD")])
        file = self._find(request.path)
        if file is None:
            return respond(start_response, 404, [("Content-Type", "text/plain; charset=utf-8")], b"Not found\n")
        status = file.stat()
        tag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        headers = [
            ("Content-Type", _content_type(file)),
            ("ETag", tag),
            ("Last-Modified", email.utils.formatdate(status.st_mtime, usegmt=True)),
            ("Cache-Control", "no-cache"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        if tag in request.headers.get("if-none-match", ""):
            return respond(start_response, 304, headers)
        headers.append(("Content-Length", str(status.st_size)))
        start_response("200 OK", headers)
        if request.method == "HEAD":
            return []
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file.open("rb"), 1 << 16)
        return wrapped

    def _find(self, path: str) -> Path | None:
        if "\0" in path:
            return None
        wanted = (self._root / path.lstrip("/")).resolve()
        if not wanted.is_relative_to(self._root):
            return None
        if wanted.is_file():
            return wanted
        if wanted.is_dir() and (wanted / "index.html").is_file():
            return wanted / "index.html"
        if wanted.suffix:
            return None
        for folder in wanted.parents:
            if not folder.is_relative_to(self._root):
                return None
            if (folder / "index.html").is_file():
                return folder / "index.html"
        return None


def _content_type(file: Path) -> str:
    return _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
