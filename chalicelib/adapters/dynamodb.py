"""The table in DynamoDB. Fulfils `domain.ports.Table`.

An item's content is one JSON string (`data`), not a native map: it is read and written as a whole, and a list of 500
costs a fraction of the time. Only what a key, an index, a condition or TTL needs is an attribute of its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.domain.errors import TryAgain
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.ports import Delete, Item, Key, Page, Put, PutNew, PutVersion, Write

MAX_TRANSACTION = 100
MAX_BATCH_GET = 100
_BUSY = frozenset(
    {
        "ProvisionedThroughputExceededException", "RequestLimitExceeded", "ThrottlingException", "InternalServerError",
        "ServiceUnavailable", "TransactionInProgressException", "TransactionConflictException",
    }
)  # fmt: skip
_ABSENT = "attribute_not_exists(pk)"
_SAME_VERSION = "version = :expected"


class DynamoTable:
    """`client` is a boto3 DynamoDB client, `name` the table's."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name

    def created_at(self) -> datetime:
        """See `ports.Table.created_at`."""
        created: datetime = self._call("describe_table", TableName=self._name)["Table"]["CreationDateTime"]
        return created.astimezone(UTC)

    def get(self, pk: str, sk: str) -> Item | None:
        """See `ports.Table.get`."""
        answer = self._call("get_item", TableName=self._name, Key=_key(pk, sk), ConsistentRead=True)
        return _decode(answer["Item"]) if "Item" in answer else None

    def batch_get(self, keys: Iterable[Key]) -> dict[Key, Item]:
        """See `ports.Table.batch_get`. One request for each hundred keys."""
        found: dict[Key, Item] = {}
        remaining = iter(dict.fromkeys(keys))
        while chunk := [_key(*key) for key in islice(remaining, MAX_BATCH_GET)]:
            attempt = 0
            while chunk:
                asked = {self._name: {"Keys": chunk, "ConsistentRead": True}}
                answer = self._call("batch_get_item", RequestItems=asked)
                for raw in answer["Responses"].get(self._name, []):
                    item = _decode(raw)
                    found[item.key] = item
                chunk = answer.get("UnprocessedKeys", {}).get(self._name, {}).get("Keys", [])
                if chunk:
                    attempt = self._pause(attempt)
        return found

    def query(
        self,
        pk: str,
        prefix: str = "",
        *,
        index: str | None = None,
        between: Key | None = None,
        start: dict[str, str] | None = None,
        limit: int | None = None,
        descending: bool = False,
    ) -> Page:
        """See `ports.Table.query`. One request."""
        hash_name, range_name = (f"{index}pk", f"{index}sk") if index else ("pk", "sk")
        values: JsonObject = {":pk": {"S": pk}}
        condition = "#pk = :pk"
        names = {"#pk": hash_name}
        if between is not None:
            condition += " AND #sk BETWEEN :from AND :to"
            values |= {":from": {"S": between[0]}, ":to": {"S": between[1]}}
            names["#sk"] = range_name
        elif prefix:
            condition += " AND begins_with(#sk, :prefix)"
            values[":prefix"] = {"S": prefix}
            names["#sk"] = range_name
        request: JsonObject = {
            "TableName": self._name,
            "KeyConditionExpression": condition,
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
            "ScanIndexForward": not descending,
        }
        if index:
            request["IndexName"] = index
        else:
            request["ConsistentRead"] = True
        if start:
            request["ExclusiveStartKey"] = {name: {"S": value} for name, value in start.items()}
        if limit is not None:
            request["Limit"] = limit
        answer = self._call("query", **request)
        last = answer.get("LastEvaluatedKey")
        return Page(
            [_decode(raw) for raw in answer["Items"]],
            {name: value["S"] for name, value in last.items()} if last else None,
        )

    def query_all(
        self,
        pk: str,
        prefix: str = "",
        *,
        index: str | None = None,
        between: Key | None = None,
        descending: bool = False,
        page: int | None = None,
    ) -> Iterator[Item]:
        """See `ports.Table.query_all`. One request for each page that is reached."""
        start: dict[str, str] | None = None
        while True:
            answer = self.query(pk, prefix, index=index, between=between, start=start, limit=page, descending=descending)
            yield from answer.items
            start = answer.next
            if start is None:
                return

    def put(self, write: Write) -> bool:
        """See `ports.Table.put`."""
        if isinstance(write, Delete):
            self._call("delete_item", TableName=self._name, Key=_key(write.pk, write.sk))
            return True
        request = {"TableName": self._name, "Item": _encode(write.item), **_condition(write)}
        try:
            self._call("put_item", **request)
        except ClientError as error:
            if _code(error) == "ConditionalCheckFailedException":
                return False
            raise
        return True

    def transact(self, writes: Sequence[Write]) -> list[bool]:
        """See `ports.Table.transact`. Collisions with other transactions are tried again a few times."""
        if not 1 <= len(writes) <= MAX_TRANSACTION:
            raise ValueError(f"a transaction has 1 to {MAX_TRANSACTION} writes")
        request = [self._transact_item(write) for write in writes]
        attempt = 0
        while True:
            try:
                self._call("transact_write_items", TransactItems=request)
            except ClientError as error:
                if _code(error) != "TransactionCanceledException":
                    raise
                reasons = [str(reason.get("Code", "None")) for reason in error.response.get("CancellationReasons", [])]
                if "ConditionalCheckFailed" in reasons:
                    return [reason != "ConditionalCheckFailed" for reason in reasons]
                if not set(reasons) & {
                    "TransactionConflict",
                    "ThrottlingError",
                    "ProvisionedThroughputExceeded",
                }:
                    raise
                attempt = self._pause(attempt)
                continue
            return []

    def _transact_item(self, write: Write) -> JsonObject:
        if isinstance(write, Delete):
            return {"Delete": {"TableName": self._name, "Key": _key(write.pk, write.sk)}}
        return {"Put": {"TableName": self._name, "Item": _encode(write.item), **_condition(write)}}

    def _pause(self, attempt: int) -> int:
        if attempt >= 6:
            raise TryAgain
        time.sleep(0.02 * 2**attempt)
        return attempt + 1

    def _call(self, operation: str, **request: Any) -> Any:
        try:
            return getattr(self._client, operation)(**request)
        except ClientError as error:
            if _code(error) in _BUSY:
                raise TryAgain from error
            raise
        except BotoCoreError as error:
            raise TryAgain from error


def _key(pk: str, sk: str) -> dict[str, dict[str, str]]:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def _condition(write: PutNew | PutVersion | Put) -> JsonObject:
    if isinstance(write, PutNew) or (isinstance(write, PutVersion) and write.expected == 0):
        return {"ConditionExpression": _ABSENT}
    if isinstance(write, PutVersion):
        return {
            "ConditionExpression": _SAME_VERSION,
            "ExpressionAttributeValues": {":expected": {"N": str(write.expected)}},
        }
    return {}


def _encode(item: Item) -> JsonObject:
    raw: JsonObject = {
        "pk": {"S": item.pk},
        "sk": {"S": item.sk},
        "data": {"S": json.dumps(item.data, ensure_ascii=False, separators=(",", ":"), sort_keys=True)},
    }
    for index, (hash_value, range_value) in item.indexes.items():
        raw[f"{index}pk"] = {"S": hash_value}
        raw[f"{index}sk"] = {"S": range_value}
    if item.version is not None:
        raw["version"] = {"N": str(item.version)}
    if item.expires is not None:
        raw["expires"] = {"N": str(item.expires)}
    return raw


def _decode(raw: JsonObject) -> Item:
    indexes = {
        name[:-2]: (value["S"], raw[f"{name[:-2]}sk"]["S"])
        for name, value in raw.items()
        if name.startswith("gsi") and name.endswith("pk")
    }
    return Item(
        raw["pk"]["S"],
        raw["sk"]["S"],
        json.loads(raw["data"]["S"]),
        indexes,
        int(raw["version"]["N"]) if "version" in raw else None,
        int(raw["expires"]["N"]) if "expires" in raw else None,
    )


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
