"""The DICOM JSON Model (PS3.18 F.2) as the rules read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

Element: TypeAlias = dict[str, Any]
"""One attribute (PS3.18 F.2.2): `vr`, and `Value`, `BulkDataURI` or `InlineBinary`."""
Attributes: TypeAlias = dict[str, Any]
"""A data set (PS3.18 F.2): tag as eight hex digits → `Element`."""


def first_value(attributes: Mapping[str, Any], tag: str) -> str:
    """The first value of an attribute as text, or empty."""
    values = attributes.get(tag, {}).get("Value") or [""]
    first = values[0]
    return str(first) if isinstance(first, str | int | float) else ""


def texts(attributes: Mapping[str, Any], tag: str) -> list[str]:
    """All values of an attribute that are text; some equipment writes two modalities into one series."""
    return [value for value in attributes.get(tag, {}).get("Value") or [] if isinstance(value, str) and value]
