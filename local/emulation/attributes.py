"""DynamoDB attribute values: moto's form in memory, plain JSON in the state and on the wire."""

from __future__ import annotations

import base64
from typing import Any

from moto.dynamodb.models.dynamo_type import DynamoType, Item
from moto.dynamodb.models.utilities import bytesize


class PlainAttributes(dict[str, Any]):
    """Attributes of an item without moto's quadratic size check: `StoredTable.store` checks once per
    write."""


def plain_value(value: Any) -> dict[str, Any]:
    """An attribute value, moto's or a plain one, as JSON: `{"S": "x"}`, binary in Base64."""
    kind, content = (value.type, value.value) if isinstance(value, DynamoType) else next(iter(value.items()))
    if kind == "M":
        return {kind: {name: plain_value(inner) for name, inner in content.items()}}
    if kind == "L":
        return {kind: [plain_value(inner) for inner in content]}
    if kind == "BS":
        return {kind: [_text(inner) for inner in content]}
    return {kind: _text(content) if kind == "B" else content}


def with_bytes(value: dict[str, Any]) -> dict[str, Any]:
    """The other way round: binary as moto has it in memory."""
    kind, content = next(iter(value.items()))
    if kind == "M":
        return {kind: {name: with_bytes(inner) for name, inner in content.items()}}
    if kind == "L":
        return {kind: [with_bytes(inner) for inner in content]}
    if kind == "BS":
        return {kind: [base64.b64decode(inner) for inner in content]}
    return {kind: base64.b64decode(content) if kind == "B" else content}


def _text(content: bytes | str) -> str:
    return content if isinstance(content, str) else base64.b64encode(content).decode()


def plain_item(item: Item) -> dict[str, Any]:
    return {name: plain_value(value) for name, value in item.attrs.items()}


def item_size(item: Item) -> int:
    """Bytes that count towards the 400 KB of an item: UTF-8 names and values."""
    return sum(bytesize(name) + value.size() for name, value in item.attrs.items())
