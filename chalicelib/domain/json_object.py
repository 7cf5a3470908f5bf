"""JSON at the edges: what a client sends and is answered, what AWS hands over, what the table keeps of an item."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object that is about to be written, or was just read. Nothing travels further as one: what is read becomes a type
(`from_item`, `fields.fields`), and what is answered is made of types (`to_item`, `to_json`)."""


def known_fields(item: Mapping[str, Any], names: Collection[str]) -> JsonObject:
    """What an item says of these fields, lists as tuples: what a later release wrote beside them is passed over."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in item.items() if name in names}


def said_fields(of: object, names: Collection[str]) -> JsonObject:
    """These attributes of an object as an item keeps them, tuples as lists: only those that say something; 0 does."""
    said = ((name, getattr(of, name)) for name in names)
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in said
        if value or (value == 0 and value is not False)
    }
