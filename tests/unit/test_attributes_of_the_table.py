"""An item that the emulated table read counts and shows what the emulator's own would."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto.dynamodb.models.dynamo_type import DynamoType, Item
from moto.dynamodb.models.utilities import dynamo_to_dict

from local.emulation.attributes import StoredItem, plain_answer

_TEXT = st.text(max_size=5)
_NUMBERS = st.integers().map(str) | st.decimals(allow_nan=False, allow_infinity=False, places=2).map(str)
_SIMPLE = st.one_of(
    _TEXT.map(lambda text: {"S": text}),
    _NUMBERS.map(lambda number: {"N": number}),
    st.booleans().map(lambda truth: {"BOOL": truth}),
    st.just({"NULL": True}),
    st.lists(_TEXT, min_size=1, max_size=3, unique=True).map(lambda texts: {"SS": texts}),
    st.lists(_NUMBERS, min_size=1, max_size=3, unique=True).map(lambda numbers: {"NS": numbers}),
)
_VALUE = st.recursive(
    _SIMPLE,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda values: {"L": values})
        | st.dictionaries(_TEXT, inner, max_size=3).map(lambda values: {"M": values})
    ),
    max_leaves=6,
)
_ATTRIBUTES = st.dictionaries(st.text(min_size=1, max_size=5), _VALUE, max_size=5)


@given(_ATTRIBUTES)
def test_what_was_read_has_the_emulator_s_size_and_values(more: dict[str, Any]) -> None:
    attributes = {**more, "pk": {"S": "P#1"}, "sk": {"S": "à"}}
    theirs = Item(DynamoType(attributes["pk"]), DynamoType(attributes["sk"]), attributes)
    ours = StoredItem("pk", "sk", attributes, plain=True)
    assert ours.size() == theirs.size()
    assert ours == theirs
    assert plain_answer({"Items": [ours.attrs]}) == dynamo_to_dict({"Items": [theirs.attrs]}) == {"Items": [attributes]}


@pytest.mark.parametrize("change", ["set", "delete", "pop"])
@given(more=_ATTRIBUTES)
def test_what_was_changed_since_is_shown_changed(change: str, more: dict[str, Any]) -> None:
    attributes = {**more, "pk": {"S": "P#1"}, "sk": {"S": "."}, "gone": {"S": "x"}}
    read = StoredItem("pk", "sk", attributes, plain=True)
    for item in (read, copy.deepcopy(read)):
        expected = dict(attributes)
        if change == "set":
            item.attrs["new"] = DynamoType({"N": "1"})
            expected["new"] = {"N": "1"}
        elif change == "delete":
            del item.attrs["gone"]
            del expected["gone"]
        else:
            item.attrs.pop("gone")
            expected.pop("gone")
        assert plain_answer(item.attrs) == expected
        assert item.size() == Item(item.hash_key, item.range_key, expected).size()
