"""DynamoDB tables that live in the state's SQLite file instead of in the emulator's memory.

moto's own table sorts every item of the table for each Query, copies the whole table for each transaction,
and is lost when the process ends. Here its expression parser, validation and wire format stay, and its store
is replaced: a key lookup or a range of one partition is one indexed SELECT, a transaction is a savepoint, and
a change and its stream record are one commit. Only string keys are supported, which is what the archive's
table has.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from moto.dynamodb.exceptions import ItemSizeTooLarge, MockValidationException
from moto.dynamodb.models.dynamo_type import DynamoType, Item
from moto.dynamodb.models.table import Table

from local.emulation.attributes import StoredItem, item_size, plain_item, with_bytes
from local.state import State

MAX_ITEM_BYTES = 400 * 1024
MAX_PAGE_BYTES = 1024 * 1024
CREATED = "created:"
"""What the settings that say when a table was made begin with."""

_RANGE_SQL = {
    "=": "{c} = ?",
    "EQ": "{c} = ?",
    "<": "{c} < ?",
    "LT": "{c} < ?",
    "<=": "{c} <= ?",
    "LE": "{c} <= ?",
    ">": "{c} > ?",
    "GT": "{c} > ?",
    ">=": "{c} >= ?",
    "GE": "{c} >= ?",
    "BETWEEN": "{c} BETWEEN ? AND ?",
    "BEGINS_WITH": "{c} >= ?1 AND substr({c}, 1, length(?1)) = ?1",
}


class StoredTable(Table):  # type: ignore[misc]
    """moto's Table with its items in SQLite. `state` is set once by `local.emulation.moto_patches.install`."""

    state: State

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.hash_key_type != "S" or self.range_key_type != "S":
            raise MockValidationException("The local city keeps tables with two string keys only")
        self.items = _Nowhere()
        self.sql_name = f'"items:{self.name}"'
        self._prepare_storage()
        self.created_at = self._created_at()

    def _prepare_storage(self) -> None:
        columns = "".join(f', "{index.name}.pk" TEXT, "{index.name}.sk" TEXT' for index in self.global_indexes)
        with self.state.transaction() as database:
            database.execute(
                f"CREATE TABLE IF NOT EXISTS {self.sql_name} "
                f"(pk TEXT NOT NULL, sk TEXT NOT NULL, body TEXT NOT NULL{columns}, PRIMARY KEY (pk, sk)) WITHOUT ROWID"
            )
            present = {row[1] for row in database.execute(f"PRAGMA table_info({self.sql_name})")}
            for index in self.global_indexes:
                if f"{index.name}.pk" not in present:
                    self._add_index(index)
                database.execute(
                    f'CREATE INDEX IF NOT EXISTS "{self.name}:{index.name}" ON {self.sql_name} '
                    f'("{index.name}.pk", "{index.name}.sk", pk, sk) WHERE "{index.name}.pk" IS NOT NULL'
                )

    def _created_at(self) -> datetime:
        """When this table was first made (UTC, naive as moto has it), which starting the city again does not change."""
        name = f"{CREATED}{self.name}"
        known = self.state.setting(name) or self.created_at.isoformat()
        self.state.set_setting(name, known)
        return datetime.fromisoformat(known)

    def _add_index(self, index: Any) -> None:
        """A template that gained an index since the state was written: fill it, as AWS does."""
        database = self.state.database
        for column in ("pk", "sk"):
            database.execute(f'ALTER TABLE {self.sql_name} ADD COLUMN "{index.name}.{column}" TEXT')
        hash_name, range_name = _key_names(index)
        database.execute(
            f'UPDATE {self.sql_name} SET "{index.name}.pk" = body ->> ?, "{index.name}.sk" = body ->> ? '  # noqa: S608
            "WHERE body ->> ? IS NOT NULL AND (? IS NULL OR body ->> ? IS NOT NULL)",
            (
                _path(hash_name),
                _path(range_name or hash_name),
                _path(hash_name),
                range_name,
                _path(range_name or hash_name),
            ),
        )

    # What moto calls ---------------------------------------------------------------------------------

    def set_stream_specification(self, streams: dict[str, Any] | None) -> None:
        super().set_stream_specification(streams)
        self.stream_shard = _Shard(self)

    def get_item(
        self,
        hash_key: DynamoType,
        range_key: DynamoType | None = None,
        projection_expression: list[list[str]] | None = None,
    ) -> Item | None:
        if not range_key:
            raise MockValidationException("The provided key element does not match the schema")
        row = self.state.database.execute(
            f"SELECT body FROM {self.sql_name} WHERE pk = ? AND sk = ?",  # noqa: S608
            (hash_key.value, range_key.value),
        ).fetchone()
        if row is None:
            return None
        item = self._item(row[0])
        return item.project(projection_expression) if projection_expression else item

    def delete_item(self, hash_key: DynamoType, range_key: DynamoType | None) -> Item | None:
        item = self.get_item(hash_key, range_key)
        if item is not None:
            self.stream_shard.add(item, None)
        return item

    def query(
        self,
        hash_key: DynamoType | None,
        range_comparison: str | None,
        range_objs: list[DynamoType],
        limit: int,
        exclusive_start_key: dict[str, Any],
        scan_index_forward: bool,
        projection_expressions: list[list[str]] | None,
        index_name: str | None = None,
        consistent_read: bool = False,
        filter_expression: Any = None,
        hash_key_conditions: list[tuple[str, DynamoType]] | None = None,
        range_key_conditions: list[tuple[str, str, list[DynamoType]]] | None = None,
        **filter_kwargs: Any,
    ) -> tuple[list[Item], int, dict[str, Any] | None]:
        if filter_kwargs:
            raise MockValidationException("The local city knows key and filter expressions only")
        prefix = ""
        if index_name:
            if consistent_read:
                raise MockValidationException("Consistent reads are not supported on global secondary indexes")
            prefix = f"{self.get_index(index_name, error_if_not=True).name}."
            hash_key = hash_key_conditions[0][1] if hash_key_conditions else hash_key
            if range_key_conditions:
                _, range_comparison, range_objs = range_key_conditions[-1]
        if hash_key is None:
            raise MockValidationException("Query condition missed key schema element")
        rows = self._select(
            prefix,
            hash_key.value,
            range_comparison,
            [o.value for o in range_objs],
            exclusive_start_key,
            scan_index_forward,
        )
        items, scanned, last = self._page(rows, limit, index_name)
        if filter_expression is not None:
            items = [item for item in items if filter_expression.expr(item)]
        if index_name:
            index = self.get_index(index_name)
            items = [index.project(item) for item in items]
        if projection_expressions:
            items = [item.project(projection_expressions) for item in items]
        return items, scanned, last

    def _select(
        self,
        prefix: str,
        hash_value: str,
        comparison: str | None,
        range_values: list[str],
        start: dict[str, Any] | None,
        forward: bool,
    ) -> Iterator[str]:
        """The bodies of one partition of the table (prefix "") or of an index, in key order."""
        hash_column, range_column = f'"{prefix}pk"', f'"{prefix}sk"'
        where = [f"{hash_column} = ?"]
        values: list[str] = [hash_value]
        order = f"{range_column}, pk, sk" if prefix else "sk"
        if comparison:
            condition = _RANGE_SQL[comparison.upper()].format(c=range_column).replace("?1", "?")
            where.append(f"({condition})")
            values += range_values * (condition.count("?") // len(range_values))
        if start:
            compare = ">" if forward else "<"
            names = [self.range_key_attr]
            if prefix:
                _, index_range = _key_names(self.get_index(prefix[:-1]))
                names = [name for name in (index_range, self.hash_key_attr, self.range_key_attr) if name]
                order_columns = ([range_column] if index_range else []) + ["pk", "sk"]
            else:
                order_columns = ["sk"]
            where.append(f"({', '.join(order_columns)}) {compare} ({', '.join('?' for _ in names)})")
            values += [start[name]["S"] for name in names]
        if not forward:
            order = ", ".join(f"{column} DESC" for column in order.split(", "))
        cursor = self.state.database.execute(
            f"SELECT body FROM {self.sql_name} WHERE {' AND '.join(where)} ORDER BY {order}",  # noqa: S608
            values,
        )
        for (body,) in cursor:
            yield body

    def _page(
        self, bodies: Iterator[str], limit: int | None, index_name: str | None
    ) -> tuple[list[Item], int, dict[str, Any] | None]:
        """Items up to `limit` or 1 MB. As in AWS a page that ends at its limit names a last key, even at the
        end."""
        items: list[Item] = []
        size = 0
        for body in bodies:
            item = self._item(body)
            size += item.size()
            if items and size > MAX_PAGE_BYTES:
                return items, len(items), self._get_last_evaluated_key(items[-1], index_name)
            items.append(item)
            if limit and len(items) == limit:
                return items, len(items), self._get_last_evaluated_key(item, index_name)
        return items, len(items), None

    def all_items(self) -> list[Item]:
        rows = self.state.database.execute(f"SELECT body FROM {self.sql_name} ORDER BY pk, sk")  # noqa: S608
        return [self._item(row[0]) for row in rows.fetchall()]

    def has_idx_items(self, index_name: str) -> list[Item]:
        names = {key["AttributeName"] for key in self.get_index(index_name).schema}
        return [item for item in self.all_items() if names <= set(item.attrs)]

    def __len__(self) -> int:
        row = self.state.database.execute(f"SELECT count(*) FROM {self.sql_name}").fetchone()  # noqa: S608
        return int(row[0])

    def __deepcopy__(self, memo: dict[int, Any]) -> StoredTable:
        """moto copies a table so that it can undo a transaction; here the savepoint around it does that."""
        return self

    # The store ---------------------------------------------------------------------------------------

    def _item(self, body: str) -> Item:
        attributes = json.loads(body)
        binary = '"B"' in body or '"BS"' in body
        if binary:
            attributes = {name: with_bytes(value) for name, value in attributes.items()}
        return StoredItem(self.hash_key_attr, self.range_key_attr, attributes, plain=not binary)

    def store(self, old: Item | None, new: Item | None) -> None:
        """Write one change and its stream record. Called by moto through the table's stream shard."""
        with self.state.transaction() as database:
            if new is None:
                assert old is not None
                database.execute(
                    f"DELETE FROM {self.sql_name} WHERE pk = ? AND sk = ?",  # noqa: S608
                    (old.hash_key.value, old.range_key.value),
                )
            else:
                if item_size(new) > MAX_ITEM_BYTES:
                    raise ItemSizeTooLarge()
                columns, values = ["pk", "sk", "body"], [new.hash_key.value, new.range_key.value]
                values.append(json.dumps(plain_item(new), ensure_ascii=False))
                for index in self.global_indexes:
                    keys = self._index_keys(index, new)
                    if keys:
                        columns += [f'"{index.name}.pk"', f'"{index.name}.sk"']
                        values += keys
                database.execute(
                    f"INSERT OR REPLACE INTO {self.sql_name} ({', '.join(columns)}) "  # noqa: S608
                    f"VALUES ({', '.join('?' for _ in columns)})",
                    values,
                )
            if self.stream_specification and self.stream_specification.get("StreamEnabled"):
                self._append_record(old, new)

    def _index_keys(self, index: Any, item: Item) -> list[str]:
        """The item's keys in a global index, or none if it is not in it; a wrong type is an error, as in
        AWS."""
        found: list[str] = []
        hash_name, range_name = _key_names(index)
        for name in (hash_name, range_name or hash_name):
            value = item.attrs.get(name)
            if value is None:
                return []
            if value.type != "S":
                raise MockValidationException(
                    f"One or more parameter values were invalid: Type mismatch for Index Key {name} "
                    f"Expected: S Actual: {value.type} IndexName: {index.name}"
                )
            if not value.value:
                raise MockValidationException(
                    "One or more parameter values are not valid. A value specified for a secondary index key is not "
                    f"supported. The AttributeValue for a key attribute cannot contain an empty string value. "
                    f"IndexName: {index.name}, IndexKey: {name}"
                )
            found.append(value.value)
        return found

    def _append_record(self, old: Item | None, new: Item | None) -> None:
        before = plain_item(old) if old is not None else None
        after = plain_item(new) if new is not None else None
        if before == after:
            return  # a write that changes nothing makes no stream record
        keyed = new if new is not None else old
        assert keyed is not None
        change: dict[str, Any] = {
            "ApproximateCreationDateTime": int(time.time()),
            "Keys": {
                self.hash_key_attr: {"S": keyed.hash_key.value},
                self.range_key_attr: {"S": keyed.range_key.value},
            },
            "StreamViewType": self.stream_specification["StreamViewType"],
        }
        if before is not None and "OLD" in change["StreamViewType"]:
            change["OldImage"] = before
        if after is not None and "NEW" in change["StreamViewType"]:
            change["NewImage"] = after
        change["SizeBytes"] = sum(item_size(item) for item in (old, new) if item is not None)
        record = {
            "eventID": uuid.uuid4().hex,
            "eventName": "INSERT" if old is None else "REMOVE" if new is None else "MODIFY",
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": self.region_name,
            "dynamodb": change,
            "eventSourceARN": f"{self.table_arn}/stream/{self.latest_stream_label}",
        }
        self.state.append_to_stream(self.name, (keyed.hash_key.value, keyed.range_key.value), record)


class _Shard:
    """Stands where moto appends to a table's stream: every put, update, delete, batch and transaction comes
    by here."""

    id = "shardId-00000000000000000000-00000001"

    def __init__(self, table: StoredTable) -> None:
        self.table = table

    def add(self, old: Item | None, new: Item | None) -> None:
        self.table.store(old, new)


class _Nowhere:
    """What `table.items[pk][sk] = item` of moto writes to; the item was or will be stored by the shard."""

    def __getitem__(self, key: Any) -> _Nowhere:
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


def _key_names(index: Any) -> tuple[str, str | None]:
    hash_name, range_name = "", None
    for key in index.schema:
        if key["KeyType"] == "HASH":
            hash_name = key["AttributeName"]
        else:
            range_name = key["AttributeName"]
    return hash_name, range_name


def _path(attribute: str) -> str:
    return f'$."{attribute}".S'
