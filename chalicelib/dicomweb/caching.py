"""Entity tags, and headers that keep one caller's answer from another (RFC 9110 8.8 and 13.1, RFC 9111, PS3.18 8.4)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from chalicelib.dicomweb.media_types import split_outside_quotes

# `private`: no shared cache keeps it. `no-cache`: the caller's own asks again before using it, since a revocation
# must hold from the next request on; a 304 makes that cheap.
PRIVATE: Mapping[str, str] = {
    "Cache-Control": "private, no-cache",
    "Vary": "Authorization, X-On-Behalf-Of, Accept, Accept-Encoding, Origin",
}
# For redirects to presigned addresses and for what names no entity tag: kept nowhere.
NO_STORE: Mapping[str, str] = {"Cache-Control": "no-store"}

_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_MAX_HEADER = 8192


def entity_tag(*parts: str | int) -> str:
    """A weak entity tag of what an answer is made of: versions, the representation, the number that is shown.

    Weak, since the same content may leave compressed or not.
    """
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode("utf-8", "surrogatepass")).hexdigest()
    return f'W/"{digest[:32]}"'


def not_modified(if_none_match: str | None, tag: str) -> bool:
    """Whether the caller already has it (If-None-Match, RFC 9110 13.1.2; weak comparison)."""
    if not if_none_match or len(if_none_match) > _MAX_HEADER:
        return False
    if if_none_match.strip() == "*":
        return True
    wanted = _TAG.fullmatch(tag)
    found = (_TAG.fullmatch(part.strip()) for part in split_outside_quotes(if_none_match, ","))
    return wanted is not None and any(tag is not None and tag[1] == wanted[1] for tag in found)


def cached(tag: str) -> dict[str, str]:
    """The headers of an answer, or of a 304, that carries this entity tag."""
    return {**PRIVATE, "ETag": tag}
