"""IAM policy documents, decided as IAM decides: an explicit Deny wins, else an Allow is needed.

Only what this project's policies use is known; an operator that is not known is an error at start, not a
silent pass. (IAM User Guide, "Policy evaluation logic" and "IAM JSON policy elements: Condition operators".)
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Document = Mapping[str, Any]
Context = Mapping[str, str]
"""Condition keys, in lower case, with their values; a key that is not there is absent from the request."""


class UnknownOperator(Exception):
    """A policy uses a condition operator that the local city does not know."""


def decide(documents: Iterable[Document], action: str, resource: str, context: Context) -> str:
    """`"deny"` (explicitly), `"allow"`, or `"none"` (nothing matches, which IAM treats as a denial)."""
    result = "none"
    for document in documents:
        for statement in _list(document["Statement"]):
            if _matches(statement, action, resource, context):
                if statement["Effect"] == "Deny":
                    return "deny"
                result = "allow"
    return result


def check(document: Document) -> None:
    """Raises UnknownOperator for a document that `decide` could not decide."""
    for statement in _list(document["Statement"]):
        for name in statement.get("Condition", {}):
            _operator(name)


def _matches(statement: Mapping[str, Any], action: str, resource: str, context: Context) -> bool:
    actions = _list(statement.get("Action", statement.get("NotAction", [])))
    if any(_like(pattern.lower(), action.lower()) for pattern in actions) == ("NotAction" in statement):
        return False
    resources = _list(statement.get("Resource", statement.get("NotResource", "*")))
    if any(_like(str(pattern), resource) for pattern in resources) == ("NotResource" in statement):
        return False
    return all(
        _holds(operator, key, _list(wanted), context)
        for operator, keys in statement.get("Condition", {}).items()
        for key, wanted in keys.items()
    )


def _holds(operator: str, key: str, wanted: list[Any], context: Context) -> bool:
    actual = context.get(key.lower())
    if operator == "Null":
        return (actual is None) == (str(wanted[0]).lower() == "true")
    compare, negative, if_exists = _operator(operator)
    if actual is None:
        return negative or if_exists
    found = any(compare(actual, str(value)) for value in wanted)
    return found != negative


@functools.cache
def _operator(name: str) -> tuple[Callable[[str, str], bool], bool, bool]:
    """The comparison, whether it is negated, whether an absent key passes."""
    single = name.removeprefix("ForAnyValue:").removeprefix("ForAllValues:")  # no key here has several values
    base = single.removesuffix("IfExists")
    if_exists = base != single or name.startswith("ForAllValues:")
    positive = base.replace("NotEquals", "Equals").replace("NotLike", "Like")
    comparison = _COMPARISONS.get(positive)
    if comparison is None and base != "Null":
        raise UnknownOperator(name)
    return comparison or operator.eq, positive != base, if_exists


def _like(pattern: str, value: str) -> bool:
    return _pattern(pattern).fullmatch(value) is not None


@functools.lru_cache(maxsize=4096)
def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


_COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda actual, wanted: actual == wanted,
    "StringEqualsIgnoreCase": lambda actual, wanted: actual.lower() == wanted.lower(),
    "StringLike": lambda actual, wanted: _like(wanted, actual),
    "ArnEquals": lambda actual, wanted: _like(wanted, actual),
    "ArnLike": lambda actual, wanted: _like(wanted, actual),
    "Bool": lambda actual, wanted: actual.lower() == wanted.lower(),
    "NumericEquals": lambda actual, wanted: float(actual) == float(wanted),
    "NumericLessThan": lambda actual, wanted: float(actual) < float(wanted),
    "NumericLessThanEquals": lambda actual, wanted: float(actual) <= float(wanted),
    "NumericGreaterThan": lambda actual, wanted: float(actual) > float(wanted),
    "NumericGreaterThanEquals": lambda actual, wanted: float(actual) >= float(wanted),
}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
