"""What requests to DynamoDB take in units of its price list (Developer Guide, "Read and write operations")."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

WRITE_UNIT, READ_UNIT = 1024, 4096
ITEM_OVERHEAD = 100
"""Bytes that an item is billed for beside its own."""
_INDEX_KEY = re.compile(r"gsi\dpk")


@dataclass(frozen=True)
class Units:
    """`written` and `read` in request units, with those of indexes; `stored`: bytes of new items and their copies in indexes."""

    written: float = 0.0
    read: float = 0.0
    stored: int = 0


def of_request(operation: str, parameters: dict[str, Any], answered: int) -> Units:
    """What one request took; `answered` is its answer's length (bytes), in which an item is longer than it is billed."""
    if operation in ("PutItem", "DeleteItem"):
        return _summed([(1, parameters)])
    if operation == "TransactWriteItems":
        return _summed([(2, next(iter(write.values()))) for write in parameters.get("TransactItems", [])])
    if operation == "BatchGetItem":
        keys = sum(len(asked.get("Keys", [])) for asked in parameters.get("RequestItems", {}).values())
        return Units(read=float(max(keys, math.ceil(answered / READ_UNIT))))
    if operation in ("GetItem", "Query"):
        whole = float(max(1, math.ceil(answered / READ_UNIT)))
        return Units(read=whole if parameters.get("ConsistentRead") else whole / 2)
    return Units()


def _summed(writes: list[tuple[int, dict[str, Any]]]) -> Units:
    written, stored = 0.0, 0
    for times, write in writes:
        item = write.get("Item")
        if item is None:  # a deletion, of an item that is not told
            written += times
            continue
        size = item_size(item)
        copies = sum(1 for _ in _indexes(item))
        written += math.ceil(size / WRITE_UNIT) * (times + copies)  # an index is written to outside of the transaction
        condition = str(write.get("ConditionExpression", ""))
        if "attribute_not_exists" in condition or (times > 1 and not condition):  # else it takes the place of another
            stored += (size + ITEM_OVERHEAD) * (1 + copies)
    return Units(written=written, stored=stored)


def _indexes(item: dict[str, Any]) -> Iterator[str]:
    return (name for name in item if _INDEX_KEY.fullmatch(name))


def item_size(item: dict[str, Any]) -> int:
    """Bytes of an item as it is billed: names and values, strings and numbers only."""
    return sum(len(name.encode()) + sum(len(str(value).encode()) for value in typed.values()) for name, typed in item.items())
