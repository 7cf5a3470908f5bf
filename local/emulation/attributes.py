"""DynamoDB attribute values: moto's form in memory, plain JSON in the state and on the wire."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

from moto.dynamodb.models.dynamo_type import DynamoType, Item
from moto.dynamodb.models.utilities import bytesize


class Plain(dict[str, Any]):
    """Attributes by name as they are stored and sent: no binary among them, nothing left to convert."""


class PlainAttributes(dict[str, Any]):
    """Attributes of an item without moto's quadratic size check: `StoredTable.store` checks once per write. `plain` is the
    same as it was read, until an attribute is changed."""

    plain: Plain | None = None

    def __setitem__(self, name: str, value: Any) -> None:
        self.plain = None
        super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        self.plain = None
        super().__delitem__(name)

    def pop(self, *arguments: Any) -> Any:
        self.plain = None
        return super().pop(*arguments)


class StoredItem(Item):  # type: ignore[misc]
    """An item as it was read: its size is counted once, on what was read."""

    def __init__(self, hash_key: str, range_key: str, attributes: dict[str, Any], plain: bool) -> None:
        self.hash_key, self.range_key = moto_value(attributes[hash_key]), moto_value(attributes[range_key])
        self.attrs = PlainAttributes((name, moto_value(value)) for name, value in attributes.items())
        if plain:
            self.attrs.plain = Plain(attributes)

    def size(self) -> int:
        plain = getattr(self.attrs, "plain", None)
        if plain is None:
            return int(super().size())
        return sum(bytesize(name) + _plain_size(value) for name, value in plain.items())


def moto_value(value: dict[str, Any]) -> DynamoType:
    """One attribute value of plain JSON as moto has it; most are strings, for which its own way takes four times as long."""
    ((kind, content),) = value.items()
    if kind in ("M", "L"):
        return DynamoType(value)
    made = DynamoType.__new__(DynamoType)
    made.type, made.value = kind, content
    return made


def _plain_size(value: dict[str, Any]) -> int:
    """What `DynamoType.size` counts, of a plain value without binary."""
    ((kind, content),) = value.items()
    if kind == "M":
        return sum(bytesize(name) + _plain_size(inner) for name, inner in content.items())
    if kind == "L":
        return sum(_plain_size(inner) for inner in content)
    if kind in ("SS", "NS"):
        return sum(bytesize(inner) for inner in content)
    return 1 if isinstance(content, bool) else bytesize(content)


def plain_answer(value: Any) -> Any:
    """An answer of moto's with its items and attribute values as plain JSON."""
    kind = type(value)
    if kind is PlainAttributes and value.plain is not None:
        return value.plain
    if kind is DynamoType:
        return plain_value(value)
    if isinstance(value, datetime):
        return value
    if hasattr(value, "to_json"):
        return plain_answer(value.to_json())
    if isinstance(value, dict):
        return {name: plain_answer(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [plain_answer(inner) for inner in value]
    return value


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
