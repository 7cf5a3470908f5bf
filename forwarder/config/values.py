"""What a key of the configuration may be: each check says in words what is wrong with a value, or None."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import field
from typing import Any
from urllib.parse import urlsplit

Check = Callable[[Any], str | None]
"""What is wrong with a value, in words, or None."""


def between(low: float, high: float) -> Check:
    return lambda value: None if low <= value <= high else f"should be between {low:g} and {high:g}"


def one_of(*allowed: str) -> Check:
    return lambda value: None if value in allowed else "should be one of " + ", ".join(f"“{a}”" for a in allowed)


def entity_title(value: str) -> str | None:
    """PS3.5 6.2: at most 16 characters of the default repertoire, not only blanks, no backslash."""
    good = bool(value.strip()) and len(value) <= 16 and value.isascii() and value.isprintable()
    return None if good and "\\" not in value else "should be an AE title: 1 to 16 printable ASCII characters"


def time_of_day(value: str) -> str | None:
    hours, _, minutes = value.partition(":")
    good = (
        value.isascii()
        and hours.isdigit()
        and minutes.isdigit()
        and int(hours) * 60 + int(minutes) <= 24 * 60
        and int(minutes) < 60
    )
    return None if good else "should be a time like “08:30”"


def web_address(value: str) -> str | None:
    return None if value.startswith(("http://", "https://")) else "should begin with https://"


def proxy_address(value: str) -> str | None:
    good = not value or (value.startswith(("http://", "https://")) and urlsplit(value).hostname)
    return None if good else "should be an address such as http://proxy.example.org:3128"


def optional_web_address(value: str) -> str | None:
    return None if not value else web_address(value)


def folder_path(value: str) -> str | None:
    return None if value.strip() else "should be the path of a folder"


def network_address(value: str) -> str | None:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        return "should be an address or a network, such as “10.1.2.0/24”"
    return None


def hours_of_day(value: str) -> str | None:
    start, dash, end = value.partition("-")
    return None if dash and not time_of_day(start) and not time_of_day(end) else "should be hours like “22:00-06:00”"


def short_text(value: str) -> str | None:
    return None if len(value) <= 40 and value.isprintable() and "\\" not in value else "should be at most 40 printable characters"


def hl7_field(value: str) -> str | None:
    good = re.fullmatch(r"[A-Z][A-Z0-9]{2}-[1-9]\d?(\.[1-9]\d?)?", value)
    return None if good else "should be a field such as “OBR-18” or “IPC-1.1”"


def hl7_segment(value: str) -> str | None:
    return None if re.fullmatch(r"(NTE|Z[A-Z0-9]{2})?", value) else "should be NTE, a segment such as “ZDS”, or empty"


def institutions_by_code(found: dict[str, str]) -> str | None:
    good = all(code.strip() and re.fullmatch(r"([a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?)?", name) for code, name in found.items())
    return None if good else 'should name institutions by their id, as in {"MAUG" = "maugeri"}; an empty id: none of the city'


def web_origin(value: str) -> str | None:
    """An origin (RFC 6454) as browsers name it; not “*”, since a browser brings a person's identity along by itself."""
    parts = urlsplit(value)
    good = parts.scheme in ("http", "https") and parts.hostname and value == f"{parts.scheme}://{parts.netloc}"
    return None if good else "should be an origin such as “https://viewer.hospital.example”"


def optional_web_origin(value: str) -> str | None:
    return None if not value else web_origin(value)


def header_name(value: str) -> str | None:
    return None if re.fullmatch(r"[A-Za-z0-9-]{0,60}", value) else "should be the name of a header, such as “X-Remote-User”"


def mail_address(value: str) -> str | None:
    good = not value or re.fullmatch(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}", value)
    return None if good else "should be a mail address, such as “registry@hospital.example”"


def option(default: Any, text: str, check: Check | None = None, *, required: bool = False) -> Any:
    """One key: its default (or, if required, a value for the example), what it means, what it may be."""
    metadata = {"text": text, "check": check, "required": required}
    if isinstance(default, list | dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)
