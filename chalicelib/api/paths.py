"""The parts of a path, decoded: API Gateway hands them on percent-encoded, and Chalice decodes nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from chalicelib.domain.errors import BadRequest

_ENCODED = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")


def decoded(parameters: Mapping[str, str]) -> dict[str, str]:
    """Each parameter percent-decoded once (RFC 3986 2.1), so that `%2F` is a slash within it and `%252F` is `%2F`.

    Raises BadRequest naming the one that has a `%` without two hexadecimal digits, or that is not UTF-8.
    """
    return {name: _text(name, part) for name, part in parameters.items()}


def _text(name: str, part: str) -> str:
    if not _ENCODED.fullmatch(part):
        raise BadRequest(f"{name} is not percent-encoded: % and two hexadecimal digits.", name)
    try:
        return unquote_to_bytes(part).decode()
    except UnicodeError as error:
        raise BadRequest(f"{name} is not percent-encoded UTF-8.", name) from error
