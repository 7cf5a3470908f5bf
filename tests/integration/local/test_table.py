"""The emulated table does what DynamoDB does, where the emulator under it does not."""

from __future__ import annotations

import concurrent.futures
import itertools
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import RunningCity, wait_until


@pytest.fixture(scope="session")
def dynamodb(standin_city: RunningCity) -> Any:
    return standin_city.aws("dynamodb")


@pytest.fixture(scope="session")
def table(standin_city: RunningCity) -> str:
    return standin_city.outputs()["TableName"]


@pytest.fixture
def pk(request: pytest.FixtureRequest) -> str:
    return f"T#{request.node.name}"


def item(pk: str, sk: str, **more: str) -> dict[str, Any]:
    return {"pk": {"S": pk}, "sk": {"S": sk}, **{name: {"S": value} for name, value in more.items()}}


def query(dynamodb: Any, table: str, pk: str, condition: str = "pk = :pk", **more: Any) -> dict[str, Any]:
    values = {":pk": {"S": pk}, **more.pop("values", {})}
    answer: dict[str, Any] = dynamodb.query(
        TableName=table, KeyConditionExpression=condition, ExpressionAttributeValues=values, **more
    )
    return answer


def sks(answer: dict[str, Any]) -> list[str]:
    return [found["sk"]["S"] for found in answer["Items"]]


def error(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as refused:
        call(**arguments)
    return str(refused.value.response["Error"]["Code"])


# Items -----------------------------------------------------------------------------------------------


def test_every_kind_of_value_is_kept(dynamodb: Any, table: str, pk: str) -> None:
    whole = {
        **item(pk, "."),
        "text": {"S": "Müller \U0001f3e5"},
        "empty": {"S": ""},
        "number": {"N": "1.50"},
        "bytes": {"B": b"\x00\xff"},
        "yes": {"BOOL": True},
        "nothing": {"NULL": True},
        "list": {"L": [{"B": b"\x01"}, {"M": {"a": {"N": "1"}}}]},
        "texts": {"SS": ["a", "b"]},
        "numbers": {"NS": ["1", "2"]},
        "some bytes": {"BS": [b"1", b"2"]},
    }
    dynamodb.put_item(TableName=table, Item=whole)
    assert dynamodb.get_item(TableName=table, Key=item(pk, "."), ConsistentRead=True)["Item"] == whole
    assert query(dynamodb, table, pk)["Items"] == [whole]
    (batch,) = dynamodb.batch_get_item(RequestItems={table: {"Keys": [item(pk, ".")]}})["Responses"][table]
    assert batch == whole


@settings(max_examples=20, deadline=None)
@given(names=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), unique=True, max_size=8))
def test_keys_are_sorted_as_utf_8(dynamodb: Any, table: str, names: list[str]) -> None:
    pk = "T#sorted#" + str(hash(tuple(names)))
    for name in names:
        dynamodb.put_item(TableName=table, Item=item(pk, name))
    expected = sorted(names, key=lambda name: name.encode())
    assert sks(query(dynamodb, table, pk)) == expected
    assert sks(query(dynamodb, table, pk, ScanIndexForward=False)) == expected[::-1]


def test_a_condition_that_does_not_hold_changes_nothing(dynamodb: Any, table: str, pk: str) -> None:
    new = {"ConditionExpression": "attribute_not_exists(pk)"}
    dynamodb.put_item(TableName=table, Item=item(pk, ".", a="1"), **new)
    failed = error(dynamodb.put_item, TableName=table, Item=item(pk, ".", a="2"), **new)
    assert failed == "ConditionalCheckFailedException"
    assert dynamodb.get_item(TableName=table, Key=item(pk, "."))["Item"]["a"] == {"S": "1"}


def test_of_many_conditional_writes_at_once_one_succeeds(standin_city: RunningCity, table: str, pk: str) -> None:
    clients = [standin_city.aws("dynamodb") for _ in range(6)]

    def put(client: Any) -> bool:
        try:
            client.put_item(TableName=table, Item=item(pk, "."), ConditionExpression="attribute_not_exists(pk)")
        except ClientError:
            return False
        return True

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(put, clients)) == [False] * 5 + [True]


def test_many_updates_at_once_all_count(standin_city: RunningCity, table: str, pk: str) -> None:
    def add(_: int) -> None:
        standin_city.aws("dynamodb").update_item(
            TableName=table,
            Key=item(pk, "."),
            UpdateExpression="ADD n :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(20)))
    found = standin_city.aws("dynamodb").get_item(TableName=table, Key=item(pk, "."))["Item"]
    assert found["n"] == {"N": "20"}


def test_an_update_that_fails_creates_no_item(dynamodb: Any, table: str, pk: str) -> None:
    failed = error(
        dynamodb.update_item,
        TableName=table,
        Key=item(pk, "."),
        UpdateExpression="SET a = b + :one",
        ExpressionAttributeValues={":one": {"N": "1"}},
    )
    assert failed == "ValidationException"
    assert "Item" not in dynamodb.get_item(TableName=table, Key=item(pk, "."))


# Queries ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "values", "expected"),
    [
        ("sk = :a", {":a": "b"}, ["b"]),
        ("sk < :a", {":a": "b"}, ["a"]),
        ("sk <= :a", {":a": "b"}, ["a", "b"]),
        ("sk > :a", {":a": "b"}, ["b#1", "b#2", "c"]),
        ("sk >= :a", {":a": "b#2"}, ["b#2", "c"]),
        ("begins_with(sk, :a)", {":a": "b"}, ["b", "b#1", "b#2"]),
        ("begins_with(sk, :a)", {":a": "b#"}, ["b#1", "b#2"]),
        ("sk BETWEEN :a AND :z", {":a": "b", ":z": "b#1"}, ["b", "b#1"]),
    ],
)
def test_a_range_of_keys_is_found(
    dynamodb: Any, table: str, pk: str, condition: str, values: dict[str, str], expected: list[str]
) -> None:
    for sk in ("c", "b#2", "a", "b", "b#1"):
        dynamodb.put_item(TableName=table, Item=item(pk, sk))
    given_values = {name: {"S": value} for name, value in values.items()}
    found = query(dynamodb, table, pk, f"pk = :pk AND {condition}", values=given_values)
    assert sks(found) == expected
    assert found["Count"] == found["ScannedCount"] == len(expected)


@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize("index", [None, "gsi1"])
def test_pages_give_everything_once_and_a_full_last_page_names_a_key(
    dynamodb: Any, table: str, pk: str, forward: bool, index: str | None
) -> None:
    for number in range(6):
        extra = {"gsi1pk": pk, "gsi1sk": f"{number // 2}"}
        dynamodb.put_item(TableName=table, Item=item(pk, f"{number}", **extra))
    more: dict[str, Any] = {"Limit": 3, "ScanIndexForward": forward}
    condition = "pk = :pk"
    if index:
        more["IndexName"], condition = index, "gsi1pk = :pk"
    pages: list[list[str]] = []
    while True:
        page = query(dynamodb, table, pk, condition, **more)
        pages.append(sks(page))
        if "LastEvaluatedKey" not in page:
            break
        more["ExclusiveStartKey"] = page["LastEvaluatedKey"]
    expected = [str(number) for number in range(6)]
    assert [sk for page in pages for sk in page] == (expected if forward else expected[::-1])
    assert [len(page) for page in pages] == [3, 3, 0], "as in AWS a page that ends at its limit may be the last"


def test_an_index_holds_only_items_with_both_of_its_keys_and_follows_their_changes(dynamodb: Any, table: str, pk: str) -> None:
    dynamodb.put_item(TableName=table, Item=item(pk, "half", gsi1pk=pk))
    dynamodb.put_item(TableName=table, Item=item(pk, "whole", gsi1pk=pk, gsi1sk="1"))

    def found() -> list[str]:
        return sks(query(dynamodb, table, pk, "gsi1pk = :pk", IndexName="gsi1"))

    assert found() == ["whole"]
    dynamodb.put_item(TableName=table, Item=item(pk, "whole", gsi1pk=pk + "other", gsi1sk="1"))
    assert found() == []


def test_wrong_index_keys_and_consistent_reads_of_an_index_are_refused(dynamodb: Any, table: str, pk: str) -> None:
    wrong = {**item(pk, "."), "gsi1pk": {"N": "1"}, "gsi1sk": {"S": "x"}}
    assert error(dynamodb.put_item, TableName=table, Item=wrong) == "ValidationException"
    assert error(dynamodb.put_item, TableName=table, Item=item(pk, ".", gsi1pk="", gsi1sk="x")) == "ValidationException"
    assert (
        error(query, dynamodb=dynamodb, table=table, pk=pk, condition="gsi1pk = :pk", IndexName="gsi1", ConsistentRead=True)
        == "ValidationException"
    )


def test_a_page_ends_at_one_megabyte(dynamodb: Any, table: str, pk: str) -> None:
    for number in range(4):
        dynamodb.put_item(TableName=table, Item=item(pk, str(number), text="x" * 300_000))
    page = query(dynamodb, table, pk)
    assert len(page["Items"]) == 3
    assert page["LastEvaluatedKey"]["sk"] == {"S": "2"}


def test_filters_and_projections_come_after_the_key(dynamodb: Any, table: str, pk: str) -> None:
    for number in range(4):
        dynamodb.put_item(TableName=table, Item=item(pk, str(number), odd=str(number % 2), text="t"))
    found = query(dynamodb, table, pk, FilterExpression="odd = :odd", ProjectionExpression="sk", values={":odd": {"S": "1"}})
    assert found["Items"] == [{"sk": {"S": "1"}}, {"sk": {"S": "3"}}]
    assert (found["Count"], found["ScannedCount"]) == (2, 4)


# Transactions and limits -----------------------------------------------------------------------------


def test_a_transaction_happens_whole_or_not_at_all(dynamodb: Any, table: str, pk: str) -> None:
    dynamodb.put_item(TableName=table, Item=item(pk, "old", a="1"))
    dynamodb.put_item(TableName=table, Item=item(pk, "gone"))

    def write(must_exist: str) -> None:
        dynamodb.transact_write_items(
            TransactItems=[
                {"Put": {"TableName": table, "Item": item(pk, "new")}},
                {
                    "Update": {
                        "TableName": table,
                        "Key": item(pk, "old"),
                        "UpdateExpression": "SET a = :a",
                        "ExpressionAttributeValues": {":a": {"S": "2"}},
                    }
                },
                {"Delete": {"TableName": table, "Key": item(pk, "gone")}},
                {
                    "ConditionCheck": {
                        "TableName": table,
                        "Key": item(pk, must_exist),
                        "ConditionExpression": "attribute_exists(pk)",
                    }
                },
            ]
        )

    with pytest.raises(ClientError) as refused:
        write("absent")
    reasons = [reason["Code"] for reason in refused.value.response["CancellationReasons"]]
    assert reasons == ["None", "None", "None", "ConditionalCheckFailed"]
    assert query(dynamodb, table, pk)["Items"] == [item(pk, "gone"), item(pk, "old", a="1")]
    dynamodb.put_item(TableName=table, Item=item(pk, "there"))
    write("there")
    assert query(dynamodb, table, pk)["Items"] == [item(pk, "new"), item(pk, "old", a="2"), item(pk, "there")]


def test_a_transaction_costs_the_same_in_a_large_table(dynamodb: Any, table: str, pk: str) -> None:
    """What it touches counts, not what lies beside it."""

    def cost(number: int) -> float:
        started = time.perf_counter()
        dynamodb.transact_write_items(
            TransactItems=[{"Put": {"TableName": table, "Item": item(pk + "t", f"{number}-{n}")}} for n in range(3)]
        )
        return time.perf_counter() - started

    small = min(cost(number) for number in range(10))
    for start in range(0, 2000, 25):
        requests = [{"PutRequest": {"Item": item(pk, str(number))}} for number in range(start, start + 25)]
        dynamodb.batch_write_item(RequestItems={table: requests})
    numbers = itertools.count(10)
    wait_until(lambda: cost(next(numbers)) < small * 3 + 0.005)  # whatever else the machine, and the table's stream, do meanwhile


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        (
            "batch_write_item",
            lambda table, pk: {"RequestItems": {table: [{"PutRequest": {"Item": item(pk, str(n))}} for n in range(26)]}},
        ),
        (
            "batch_get_item",
            lambda table, pk: {"RequestItems": {table: {"Keys": [item(pk, str(n)) for n in range(101)]}}},
        ),
        (
            "transact_write_items",
            lambda table, pk: {"TransactItems": [{"Put": {"TableName": table, "Item": item(pk, str(n))}} for n in range(101)]},
        ),
        ("put_item", lambda table, pk: {"TableName": table, "Item": item(pk, ".", text="x" * 410_000)}),
        ("put_item", lambda table, pk: {"TableName": table, "Item": item(pk, "x" * 1025)}),
        ("put_item", lambda table, pk: {"TableName": table, "Item": item(pk, "")}),
    ],
)
def test_what_is_over_dynamodbs_limits_is_refused(dynamodb: Any, table: str, pk: str, operation: str, arguments: Any) -> None:
    assert error(getattr(dynamodb, operation), **arguments(table, pk)) == "ValidationException"
    assert query(dynamodb, table, pk)["Items"] == []


# The stream ------------------------------------------------------------------------------------------


def test_changes_reach_the_function_behind_the_stream(dynamodb: Any, table: str) -> None:
    """The stand-in copies what passes the template's filter to V#…; an update that creates an item is one insert."""
    dynamodb.put_item(TableName=table, Item=item("F#STUDY#stream", "put"))
    dynamodb.update_item(
        TableName=table,
        Key=item("F#PATIENT#stream", "update"),
        UpdateExpression="SET a = :a",
        ExpressionAttributeValues={":a": {"S": "1"}},
    )
    dynamodb.put_item(TableName=table, Item=item("F#OTHER#stream", "filtered"))
    wait_until(lambda: query(dynamodb, table, "V#F#PATIENT#stream")["Items"])
    (view,) = query(dynamodb, table, "V#F#PATIENT#stream")["Items"]
    assert view["event"] == {"S": "INSERT"}
    assert query(dynamodb, table, "V#F#STUDY#stream")["Items"]
    assert not query(dynamodb, table, "V#F#OTHER#stream")["Items"]


def test_the_table_is_as_the_template_says(dynamodb: Any, table: str) -> None:
    assert dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]["AttributeName"] == "expires"
    backups = dynamodb.describe_continuous_backups(TableName=table)["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
    described = dynamodb.describe_table(TableName=table)["Table"]
    assert described["StreamSpecification"]["StreamViewType"] == "NEW_AND_OLD_IMAGES"
    assert [index["IndexName"] for index in described["GlobalSecondaryIndexes"]] == ["gsi1", "gsi2", "gsi3", "gsi4"]
