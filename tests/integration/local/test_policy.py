"""Policies and filters are decided as IAM and Lambda decide them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra import templates
from infra.package import ROOT
from local.iam import policy
from local.iam.identities import RoleSession
from local.iam.permissions import Permissions
from local.iam.policy import UnknownOperator, check, decide
from local.lambda_runtime.filters import UnknownFilter, passes


def document(*statements: dict[str, Any]) -> policy.Document:
    return {"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*", **statement} for statement in statements]}


def conditional(**condition: dict[str, Any]) -> policy.Document:
    return document({"Condition": condition})


def test_nothing_is_allowed_unless_a_statement_says_so_and_a_denial_wins() -> None:
    reads = {"Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/instances/*"}
    allowed = document(reads)
    assert decide([allowed], "s3:GetObject", "arn:aws:s3:::b/instances/x/y", {}) == "allow"
    assert decide([allowed], "s3:getobject", "arn:aws:s3:::b/instances/x/y", {}) == "allow"
    assert decide([allowed], "s3:PutObject", "arn:aws:s3:::b/instances/x/y", {}) == "none"
    assert decide([allowed], "s3:GetObject", "arn:aws:s3:::b/other", {}) == "none"
    denied = document({"Effect": "Deny", "Resource": "*/y"})
    assert decide([allowed, denied], "s3:GetObject", "arn:aws:s3:::b/instances/x/y", {}) == "deny"


def test_not_action_and_not_resource_turn_a_statement_round() -> None:
    statement = {"Effect": "Allow", "NotAction": "s3:Delete*", "NotResource": "arn:secret"}
    assert decide([{"Statement": statement}], "s3:GetObject", "arn:x", {}) == "allow"
    assert decide([{"Statement": statement}], "s3:DeleteObject", "arn:x", {}) == "none"
    assert decide([{"Statement": statement}], "s3:GetObject", "arn:secret", {}) == "none"


@pytest.mark.parametrize(
    ("condition", "holds", "holds_when_absent"),
    [
        ({"StringEquals": {"k": "a"}}, True, False),
        ({"StringEquals": {"K": ["b", "a"]}}, True, False),
        ({"StringNotEquals": {"k": "a"}}, False, True),
        ({"StringNotEquals": {"k": "b"}}, True, True),
        ({"StringLike": {"k": "?"}}, True, False),
        ({"StringNotLike": {"k": "a*"}}, False, True),
        ({"ArnNotEquals": {"k": ["x", "a"]}}, False, True),
        ({"StringEqualsIfExists": {"k": "b"}}, False, True),
        ({"ForAllValues:StringLike": {"k": "a*"}}, True, True),
        ({"ForAnyValue:StringEquals": {"k": "a"}}, True, False),
        ({"Null": {"k": "true"}}, False, True),
        ({"Null": {"k": "false"}}, True, False),
        ({"StringEquals": {"k": "a", "other": "x"}}, False, False),
    ],
)
def test_conditions(condition: Any, holds: bool, holds_when_absent: bool) -> None:
    for context, expected in (({"k": "a"}, holds), ({}, holds_when_absent)):
        result = decide([conditional(**condition)], "s3:GetObject", "arn", context)
        assert result == ("allow" if expected else "none"), context


@pytest.mark.parametrize(("value", "expected"), [("299999", "none"), ("300000", "none"), ("300001", "allow")])
def test_numbers_are_compared_as_numbers(value: str, expected: str) -> None:
    old = conditional(NumericGreaterThan={"s3:signatureAge": "300000"})
    assert decide([old], "s3:GetObject", "arn", {"s3:signatureage": value}) == expected


def test_an_operator_that_is_not_known_is_an_error_and_none_of_the_citys_is() -> None:
    with pytest.raises(UnknownOperator):
        check(conditional(DateLessThan={"aws:CurrentTime": "2030-01-01"}))
    for resource in templates.load(templates.CITY)["Resources"].values():
        properties = resource.get("Properties", {})
        if "PolicyDocument" in properties:
            check(properties["PolicyDocument"])


FACTS = [{"dynamodb": {"Keys": {"pk": {"S": [{"prefix": "F#STUDY#"}, {"prefix": "F#PATIENT#"}]}}}}]


@pytest.mark.parametrize(
    ("pk", "expected"), [("F#STUDY#1", True), ("F#PATIENT#1", True), ("F#OBJECT#1", False), ("V#STUDY#1", False)]
)
def test_a_filter_of_prefixes(pk: str, expected: bool) -> None:
    assert passes(FACTS, {"dynamodb": {"Keys": {"pk": {"S": pk}}}}) is expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ({"eventName": ["INSERT", "MODIFY"]}, True),
        ({"eventName": ["REMOVE"]}, False),
        ({"eventName": [{"anything-but": ["REMOVE"]}]}, True),
        ({"dynamodb": {"OldImage": [{"exists": False}]}}, True),
        ({"dynamodb": {"NewImage": {"a": {"S": [{"suffix": "z"}]}}}}, True),
        ({"dynamodb": {"NewImage": {"a": {"S": [{"equals-ignore-case": "XYZ"}]}}}}, True),
        ({"dynamodb": {"NewImage": {"b": {"S": [{"prefix": "x"}]}}}}, False),
        ({}, True),
    ],
)
def test_other_filters(pattern: Any, expected: bool) -> None:
    record = {"eventName": "INSERT", "dynamodb": {"NewImage": {"a": {"S": "xyz"}}}}
    assert passes([pattern], record) is expected


def test_without_filters_everything_passes_and_one_that_is_not_known_is_an_error() -> None:
    assert passes([], {"a": 1})
    with pytest.raises(UnknownFilter):
        passes([{"a": [{"numeric": [">", 1]}]}], {"a": 1})


@pytest.mark.parametrize(
    ("function", "key", "told"),
    [("api", "instances/maugeri/a", True), ("indexer", "instances/maugeri/a", True), ("indexer", "cache/a", False),
     ("pixels", "instances/maugeri/a", False), ("assembly", "cache/a", False)],
)  # fmt: skip
def test_who_may_list_a_prefix_of_the_bucket_is_told_what_is_absent_below_it(function: str, key: str, told: bool) -> None:
    document = json.loads((ROOT / ".chalice" / "policies" / f"{function}.json").read_text(encoding="utf-8"))
    listing = [
        {**statement, "Resource": "arn:aws:s3:::images"}
        for statement in document["Statement"]
        if "s3:ListBucket" in statement["Action"]
    ]
    identity = RoleSession("AK", "secret", "token", "arn:aws:iam::1:role/r", "s", "id", 0)
    rights = Permissions({identity.role_name: [{"Statement": listing}]}, "administrator", {"Statement": []})
    wanted = [("s3:ListBucket", "arn:aws:s3:::images")]
    assert (rights.may(identity, wanted, {"s3:prefix": key}) is None) is told
    assert rights.may(identity, wanted) is not None
