"""Content coding of answers (RFC 9110 8.4, 12.5.3)."""

from __future__ import annotations

import gzip

from chalice.app import Response

from chalicelib.api.call import Call

MIN_GZIPPED = 1024
"""Bytes below which gzip does not pay."""


def compress(call: Call, response: Response) -> None:
    """Text that is long goes out gzipped to who takes that; what it depends on is said (RFC 9110 12.5.5)."""
    kind = str(response.headers.get("Content-Type", "")).split(";")[0].strip()
    if "Content-Encoding" in response.headers or not (kind.startswith("text/") or kind.endswith(("json", "xml"))):
        return
    vary = [part for part in str(response.headers.get("Vary", "")).split(", ") if part]
    response.headers["Vary"] = ", ".join(dict.fromkeys([*vary, "Accept-Encoding"]))
    if isinstance(response.body, bytes) and len(response.body) >= MIN_GZIPPED and call.accepts_gzip:
        response.body = gzip.compress(response.body, 5, mtime=0)
        response.headers["Content-Encoding"] = "gzip"
