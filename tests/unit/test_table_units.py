"""The emulated table's units, as DynamoDB's price list counts them."""

from __future__ import annotations

from local.emulation.units import Units, item_size, of_request


def _item(size: int, **more: str) -> dict[str, dict[str, str]]:
    """An item of this size in bytes."""
    fixed = {"pk": {"S": "p"}, "sk": {"S": "s"}, **{name: {"S": value} for name, value in more.items()}}
    return {**fixed, "d": {"S": "x" * (size - item_size(fixed) - 1)}}


def test_a_kilobyte_is_a_unit_twice_in_a_transaction_and_once_more_for_each_index() -> None:
    assert of_request("PutItem", {"Item": _item(1024)}, 0).written == 1
    assert of_request("PutItem", {"Item": _item(1025)}, 0).written == 2
    assert of_request("TransactWriteItems", {"TransactItems": [{"Put": {"Item": _item(1025)}}] * 3}, 0).written == 12
    assert of_request("PutItem", {"Item": _item(1500, gsi1pk="a", gsi1sk="b", gsi4pk="c", gsi4sk="d")}, 0).written == 6


def test_four_kilobytes_are_read_by_a_unit_or_by_half_of_one() -> None:
    assert of_request("Query", {"ConsistentRead": True}, 4097) == Units(read=2)
    assert of_request("Query", {"IndexName": "gsi1"}, 4096) == Units(read=0.5)
    assert of_request("BatchGetItem", {"RequestItems": {"t": {"Keys": [{}] * 7}}}, 100).read == 7


def test_what_is_new_is_kept_and_what_takes_anothers_place_is_not_counted_again() -> None:
    new = {"Item": _item(400, gsi1pk="a", gsi1sk="b"), "ConditionExpression": "attribute_not_exists(pk)"}
    assert of_request("PutItem", new, 0).stored == 2 * 500
    assert of_request("PutItem", {"Item": _item(400), "ConditionExpression": "version = :expected"}, 0).stored == 0
