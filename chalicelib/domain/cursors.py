"""Cursors of pages: where a listing goes on, as a text that its reader hands back."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

from chalicelib.domain.errors import BadRequest
from chalicelib.domain.rfc3339 import parse_moment

_PLACE = re.compile(r"[^#]{1,40}#.{1,100}")


def encode(position: str) -> str:
    """The cursor for a position, of characters that mean nothing in a URL (RFC 3986 2.3)."""
    return urlsafe_b64encode(position.encode()).decode().rstrip("=")


def decode(cursor: str, form: re.Pattern[str]) -> str:
    """The position that a cursor stands for, which must have this form. Raises BadRequest."""
    try:
        position = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except ValueError:
        position = ""
    if not form.fullmatch(position):
        raise refusal()
    return position


def place(cursor: str, of: re.Pattern[str]) -> tuple[str, str]:
    """The position `<moment>#<id>` that a cursor stands for, and the id in it, which must have this form. Raises BadRequest."""
    position = decode(cursor, _PLACE)
    at, _, identifier = position.partition("#")
    if not of.fullmatch(identifier):
        raise refusal()
    parse_moment(at, "cursor")
    return position, identifier


def refusal(parameter: str = "cursor") -> BadRequest:
    """What is said to a cursor that none of the archive's is."""
    return BadRequest("This cursor is not one that the archive gave.", parameter)
