"""Event filtering as Lambda does it for event sources (Lambda Developer Guide, "Control which events Lambda
sends to your function")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Pattern = Mapping[str, Any]


class UnknownFilter(Exception):
    """A filter rule that the local city does not know: an error at start, not a record silently dropped."""


def passes(patterns: Sequence[Pattern], record: Mapping[str, Any]) -> bool:
    """Whether a record passes one of the patterns; without any pattern everything passes."""
    return not patterns or any(_matches(pattern, record) for pattern in patterns)


def _matches(pattern: Pattern, record: Any) -> bool:
    for key, wanted in pattern.items():
        present = isinstance(record, Mapping) and key in record
        value = record[key] if present else None
        if isinstance(wanted, Mapping):
            if not present or not _matches(wanted, value):
                return False
        elif not any(_rule(rule, present, value) for rule in wanted):
            return False
    return True


def _rule(rule: Any, present: bool, value: Any) -> bool:
    if not isinstance(rule, Mapping):
        return present and value == rule
    ((kind, wanted),) = rule.items()
    if kind == "exists":
        return present == bool(wanted)
    if kind == "prefix":
        return isinstance(value, str) and value.startswith(wanted)
    if kind == "suffix":
        return isinstance(value, str) and value.endswith(wanted)
    if kind == "equals-ignore-case":
        return isinstance(value, str) and value.lower() == wanted.lower()
    if kind == "anything-but":
        return present and value not in (wanted if isinstance(wanted, list) else [wanted])
    raise UnknownFilter(kind)
