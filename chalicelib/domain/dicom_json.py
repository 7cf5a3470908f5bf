"""The DICOM JSON Model (PS3.18 F.2) as the rules read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Attributes = dict[str, Any]
"""Tag as eight hex digits → {"vr", "Value"}."""


def first_value(attributes: Mapping[str, Any], tag: str) -> str:
    """The first value of an attribute as text, or empty."""
    values = attributes.get(tag, {}).get("Value") or [""]
    first = values[0]
    return str(first) if isinstance(first, str | int | float) else ""


def texts(attributes: Mapping[str, Any], tag: str) -> list[str]:
    """All values of an attribute that are text; some equipment writes two modalities into one series."""
    return [value for value in attributes.get(tag, {}).get("Value") or [] if isinstance(value, str) and value]
