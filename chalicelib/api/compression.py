"""Content coding of answers (RFC 9110 8.4, 12.5.3)."""

from __future__ import annotations

import zlib

from chalice.app import Response

from chalicelib.api.call import Call

MIN_GZIPPED = 1024
"""Bytes below which gzip does not pay."""
_SMALL = 16 * 1024
"""Bytes up to which a small state compresses as well: that of the usual size, 256 KiB, costs more to set up than to use."""
_GZIP, _LEVEL = 16, 5


def compress(call: Call, response: Response) -> None:
    """Text that is long goes out gzipped to who takes that; what it depends on is said (RFC 9110 12.5.5)."""
    kind = str(response.headers.get("Content-Type", "")).split(";")[0].strip()
    if "Content-Encoding" in response.headers or not (kind.startswith("text/") or kind.endswith(("json", "xml"))):
        return
    vary = [part for part in str(response.headers.get("Vary", "")).split(", ") if part]
    response.headers["Vary"] = ", ".join(dict.fromkeys([*vary, "Accept-Encoding"]))
    if isinstance(response.body, bytes) and len(response.body) >= MIN_GZIPPED and call.accepts_gzip:
        response.body = gzipped(response.body)
        response.headers["Content-Encoding"] = "gzip"


def gzipped(body: bytes) -> bytes:
    """The same for the same (no time of day is in it). RFC 1952."""
    window, memory = (14, 5) if len(body) <= _SMALL else (15, 8)
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP + window, memory)
    return packer.compress(body) + packer.flush()
