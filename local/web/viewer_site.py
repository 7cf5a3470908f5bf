"""The viewer's site as the local city serves it: our page, stock OHIF where it was built, and what S3 and CloudFront
would add: content types, compression, the security headers of `viewer/headers.json`, and long caching."""

from __future__ import annotations

import email.utils
import functools
import gzip
import hashlib
import json
import mimetypes
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from infra import page
from local.web.wsgi import HttpRequest, StartResponse, read_request, respond

_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}
_HASHED = re.compile(r"(^|\.)[0-9a-f]{16}\.[a-z0-9]+$")
_OHIF_ADDRESSES = ("/viewer",)
_LOOKED_AT_FOR = 1.0
_UNCHANGING = "public, max-age=31536000, immutable"


@functools.lru_cache(maxsize=200)
def _packed(content: bytes) -> bytes:
    """As CloudFront compresses it, which does so once."""
    return gzip.compress(content, 5, mtime=0)


class ViewerSite:
    """WSGI application: `viewer/site`, then `viewer/dist/ohif`; `/viewer` and below are OHIF's single page.

    `/config.json` says where the API is (`api`, with its base path; `api_origin` without) and whether OHIF is there.
    """

    def __init__(self, viewer: Path, api_origin: str, api: str, s3: str) -> None:
        self._site = (viewer / "site").resolve()
        self._ohif = (viewer / "dist" / "ohif").resolve()
        self._api = api
        text = (viewer / "headers.json").read_text().replace("{api}", api_origin).replace("{s3}", s3)
        self._headers: dict[str, dict[str, str]] = json.loads(text)
        about = self._ohif / "ohif.json"
        self._known = ("", -_LOOKED_AT_FOR)
        self._decoder = str(json.loads(about.read_text())["decoder"]) if about.is_file() else ""

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        request = read_request(environ)
        if request.method not in ("GET", "HEAD"):
            return respond(start_response, 405, [("Allow", "GET, HEAD")])
        if request.path == "/config.json":
            content = json.dumps({"api": self._api, "ohif": (self._ohif / "index.html").is_file()}).encode()
            fields = [("Content-Type", "application/json"), ("Cache-Control", "no-cache"), *self._headers["all"].items()]
            return respond(start_response, 200, fields, b"" if request.method == "HEAD" else content)
        named = re.fullmatch(r"/page/([0-9a-f]{16})/(.+)", request.path)
        file = self._find(f"/page/{named[2]}" if named else request.path)
        if file is None or (named and named[1] != self._version()):
            return respond(start_response, 404, [("Content-Type", "text/plain; charset=utf-8")], b"Not found\n")
        if file.is_relative_to(self._site) or file.name == "index.html":
            return self._send_ours(request, file, start_response, unchanging=named is not None)
        return self._send(request, file, environ, start_response)

    def _version(self) -> str:
        """What the page's folder is called now; somebody may be changing its files."""
        known, at = self._known
        if time.monotonic() - at > _LOOKED_AT_FOR:
            known = page.version(self._site)
            self._known = (known, time.monotonic())
        return known

    def _send_ours(self, request: HttpRequest, file: Path, start_response: StartResponse, *, unchanging: bool) -> Iterable[bytes]:
        """A file of the page, or one that names these: as `infra.page` publishes them, and compressed as CloudFront does."""
        content = file.read_bytes()
        if not unchanging and file.name in ("index.html", "app-config.js"):
            content = page.addressed(content, self._version())
        gzipped = "gzip" in request.headers.get("accept-encoding", "")
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}{"-gzip" if gzipped else ""}"'
        headers = [
            ("Content-Type", _TYPES[file.suffix]),
            ("ETag", tag),
            ("Cache-Control", _UNCHANGING if unchanging else "no-cache"),
            ("Vary", "Accept-Encoding"),
            *self._headers["all"].items(),
            *self._headers[self._policy(file)].items(),
        ]
        if tag in request.headers.get("if-none-match", ""):
            return respond(start_response, 304, headers)
        if gzipped:
            headers.append(("Content-Encoding", "gzip"))
            content = _packed(content)
        return respond(start_response, 200, headers, b"" if request.method == "HEAD" else content)

    def _send(self, request: HttpRequest, file: Path, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        packed = file.with_name(file.name + ".gz")
        gzipped = packed.is_file() and "gzip" in request.headers.get("accept-encoding", "")
        sent = packed if gzipped else file
        status = sent.stat()
        tag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        headers = [
            ("Content-Type", _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"),
            ("ETag", tag),
            ("Last-Modified", email.utils.formatdate(status.st_mtime, usegmt=True)),
            ("Cache-Control", _UNCHANGING if _HASHED.search(file.name) else "no-cache"),
            ("Vary", "Accept-Encoding"),
            *self._headers["all"].items(),
            *self._headers[self._policy(file)].items(),
        ]
        if tag in request.headers.get("if-none-match", ""):
            return respond(start_response, 304, headers)
        if gzipped:
            headers.append(("Content-Encoding", "gzip"))
        headers.append(("Content-Length", str(status.st_size)))
        start_response("200 OK", headers)
        if request.method == "HEAD":
            return []
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](sent.open("rb"), 1 << 16)
        return wrapped

    def _policy(self, file: Path) -> str:
        if file.is_relative_to(self._site) and file.name != "app-config.js":
            return "page"
        return "decoder" if file.name == self._decoder else "ohif"

    def _find(self, path: str) -> Path | None:
        if "\0" in path:
            return None
        if path in ("/", "/index.html"):
            return self._site / "index.html"
        if path in _OHIF_ADDRESSES or path.startswith("/viewer/"):
            path = "/index.html"
            roots = [self._ohif]
        else:
            roots = [self._site, self._ohif]
        for root in roots:
            wanted = (root / path.lstrip("/")).resolve()
            if wanted.is_relative_to(root) and wanted.is_file():
                return wanted
        return None
