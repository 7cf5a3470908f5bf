"""Cursors of pages: where a listing goes on, as a text that its reader hands back."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

from chalicelib.domain.errors import BadRequest
from chalicelib.domain.rfc3339 import parse_moment


def encode(position: str) -> str:
    """The cursor for a position."""
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


def place(cursor: str, of: re.Pattern[str]) -> str:
    """The id in a cursor that stands for itself, `<moment>#<id>`, the id of this form. Raises BadRequest."""
    at, _, identifier = cursor.partition("#")
    if not of.fullmatch(identifier):
        raise refusal()
    parse_moment(at, "cursor")
    return identifier


def refusal(parameter: str = "cursor") -> BadRequest:
    """What is said to a cursor that none of the archive's is."""
    return BadRequest("This cursor is not one that the archive gave.", parameter)
