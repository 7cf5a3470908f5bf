"""The audit's chains, walked again from docs/audit.md: every record with its own hash, its number, and the hash before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

GENESIS = "0" * 64


@dataclass
class Trail:
    """What the table has of the audit: the requests that it names, and what is broken."""

    requests: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    records: int = 0


def read_trail(dynamodb: Any, table: str) -> Trail:
    """Walk all chains of the table (a DynamoDB client of somebody who may read everything)."""
    chains: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    arguments: dict[str, Any] = {
        "TableName": table, "FilterExpression": "begins_with(pk, :audit)", "ExpressionAttributeValues": {":audit": {"S": "F#AUDIT#"}},
    }  # fmt: skip
    while True:
        page = dynamodb.scan(**arguments)
        for item in page["Items"]:
            chains.setdefault(item["pk"]["S"], []).append((item["sk"]["S"], json.loads(item["data"]["S"])))
        if "LastEvaluatedKey" not in page:
            break
        arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]
    trail = Trail()
    for name, items in chains.items():
        _walk(name, items, trail)
    return trail


def _walk(name: str, items: Iterable[tuple[str, dict[str, Any]]], trail: Trail) -> None:
    head: dict[str, Any] | None = None
    records: list[dict[str, Any]] = []
    for sort_key, data in sorted(items):
        if sort_key == "HEAD":
            head = data
        else:
            records.append(data)
    before = GENESIS
    for number, record in enumerate(records, 1):
        content = {key: value for key, value in record.items() if key != "hash"}
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        if record["seq"] != number:
            trail.faults.append(f"{name}: record {number} is missing")
            return
        if hashlib.sha256(text.encode()).hexdigest() != record["hash"] or record["prev"] != before:
            trail.faults.append(f"{name}: record {number} does not fit its chain")
            return
        before = record["hash"]
        trail.records += 1
        if "request" in record:
            trail.requests.add(str(record["request"]))
        elif "same" in record:
            whole = next(first for first in records if first["seq"] == record["same"])
            trail.requests.add(str(whole["request"]))
    if head is None or (head["seq"], head["hash"]) != (len(records), before):
        trail.faults.append(f"{name}: its head names another record than its last")
