"""The configuration's commented example, and its keys with their meaning: made from the table that checks them."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from forwarder.config import Config, dotted
from forwarder.errors import ConfigError


def example(values: Mapping[str, object] | None = None) -> str:
    """A complete, commented configuration. `values` replaces defaults by dotted key, as in {"archive.api": …}.

    Raises ConfigError for a dotted key that does not exist.
    """
    wanted = dict(values or {})
    lines = ["# The forwarder's configuration. What is commented out shows the default.", ""]
    _example_section(Config(), "", wanted, lines)
    if wanted:
        raise ConfigError(f"The key “{next(iter(wanted))}” is unknown.")
    return "\n".join(lines).rstrip() + "\n"


def _example_section(section: Any, where: str, wanted: dict[str, object], lines: list[str]) -> None:
    nested: list[tuple[str, Any]] = []
    hints = get_type_hints(type(section))
    for key in dataclasses.fields(section):
        name, value = dotted(where, key.name), getattr(section, key.name)
        inner = get_args(hints[key.name])
        if dataclasses.is_dataclass(value) or (inner and dataclasses.is_dataclass(inner[0])):
            nested.append((name, value if dataclasses.is_dataclass(value) else inner[0]))
            continue
        given = name in wanted
        shown = _toml(wanted.pop(name, value))
        lines.append(f"# {key.metadata['text']}")
        lines.append(f"{'' if given or key.metadata['required'] else '# '}{key.name} = {shown}")
    if where:
        lines.append("")
    for name, value in nested:
        text = (type(value) if not isinstance(value, type) else value).__doc__ or ""
        if isinstance(value, type):
            _example_list(value, name, text, wanted.pop(name, []), lines)
            continue
        lines += [f"# {text.strip()}", f"[{name}]"]
        _example_section(value, name, wanted, lines)


def _example_list(kind: type, name: str, text: str, entries: Any, lines: list[str]) -> None:
    lines.append(f"# {text.strip()}")
    for entry in entries:
        lines.append(f"[[{name}]]")
        lines += [f"{inner} = {_toml(value)}" for inner, value in entry.items()]
        lines.append("")
    if not entries:
        lines.append(f"# [[{name}]]")
        lines += [
            f"# {key.name} = {_toml(getattr(kind(), key.name))}  # {key.metadata['text']}" for key in dataclasses.fields(kind)
        ]
        lines.append("")


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(entry) for entry in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(str(name))} = {_toml(entry)}" for name, entry in value.items()) + "}"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return str(value)


def keys() -> dict[str, str]:
    """Every dotted key with its meaning; lists of sections as `name[].key`. The docs are tested against it."""
    found: dict[str, str] = {}

    def collect(kind: Any, where: str) -> None:
        hints = get_type_hints(kind)
        for key in dataclasses.fields(kind):
            name, hint = dotted(where, key.name), hints[key.name]
            if isinstance(hint, types.GenericAlias) and dataclasses.is_dataclass(get_args(hint)[0]):
                collect(get_args(hint)[0], f"{name}[]")
            elif dataclasses.is_dataclass(hint):
                collect(hint, name)
            else:
                found[name] = key.metadata["text"]

    collect(Config, "")
    return found
