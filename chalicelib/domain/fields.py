"""JSON objects in the bodies of requests: the one way in which they are read."""

from __future__ import annotations

from collections.abc import Iterable

from chalicelib.domain.errors import BadRequest
from chalicelib.domain.json_object import JsonObject


def fields(value: object, known: Iterable[str] = (), required: Iterable[str] = (), *, of: str = "body") -> JsonObject:
    """The fields of a JSON object. `of`: what the object is, `body` or the name of a field.

    Raises BadRequest for what is no object, for a field that is not `known`, where that says any, and without one that is
    `required`.
    """
    whole = of == "body"
    if not isinstance(value, dict):
        raise BadRequest(f"{'The body' if whole else of} must be a JSON object.", of)
    names = tuple(known)
    for name in value if names else ():
        if name not in names:
            raise BadRequest(f"Unknown field; known are {', '.join(sorted(names))}.", str(name)[:40] if whole else of)
    for name in required:
        if name not in value:
            raise BadRequest(f"{name} is missing.", name if whole else of)
    return value
