"""A forwarder's sign of life: what it says of itself once a minute, and how old the last one may be. No patient data. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from chalicelib.domain.errors import BadRequest
from chalicelib.domain.fields import fields
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.rfc3339 import kept_moment

EVERY = timedelta(seconds=60)
SILENT_AFTER = timedelta(minutes=10)
"""A forwarder that sent signs, and has sent none for so long, is silent."""
CONTRACT = "1"
"""The version of the contract that this archive keeps: a forwarder of another one is shown as such."""
_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,40}")
_TROUBLE = re.compile(r"[a-z0-9-]{1,40}")
_MOST_TROUBLES = 20
_MOST = 1e15
_NUMBERS = ("waiting", "oldest_waiting_seconds", "disk_free_bytes", "clock_offset_seconds", "certificate_days")
_FIELDS = ("version", "contract", "line_open", "troubles", *_NUMBERS)


@dataclass(frozen=True)
class Sign:
    """`waiting`: instances that the archive does not have for certain; `line_open`: whether the last try reached the archive.
    `clock_offset_seconds`: how far its clock is from the archive's; `certificate_days`: until the first of its certificates
    ends. None for what it does not know. `troubles`: slugs, the gravest first."""

    at: str
    version: str
    contract: str = CONTRACT
    waiting: float | None = None
    oldest_waiting_seconds: float | None = None
    line_open: bool | None = None
    disk_free_bytes: float | None = None
    clock_offset_seconds: float | None = None
    certificate_days: float | None = None
    troubles: tuple[str, ...] = ()

    def to_item(self) -> JsonObject:
        """As its fact keeps it, and as it is answered."""
        return asdict(self) | {"troubles": list(self.troubles)}

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Sign:
        """What `to_item` made."""
        return cls(**{**item, "troubles": tuple(item["troubles"])})

    def is_silent(self, now: datetime) -> bool:
        """Whether it is so old that somebody is to look."""
        return now - kept_moment(self.at) > SILENT_AFTER


def parse(body: object, at: str) -> Sign:
    """The body of `PUT /forwarder`. Raises BadRequest."""
    said = fields(body, _FIELDS, ("version",))
    for name in ("version", "contract"):
        if name in said and (not isinstance(said[name], str) or not _VERSION.fullmatch(said[name])):
            raise BadRequest(f"{name} must be 1 to 40 of digits, letters, point, plus and hyphen.", name)
    for name in _NUMBERS:
        value = said.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not _is_sane(value)):
            raise BadRequest(f"{name} must be a number or null.", name)
    if not isinstance(said.get("line_open"), bool | None):
        raise BadRequest("line_open must be true, false or null.", "line_open")
    troubles = said.get("troubles", [])
    if not isinstance(troubles, list) or len(troubles) > _MOST_TROUBLES or not all(map(_is_trouble, troubles)):
        raise BadRequest(f"troubles must be at most {_MOST_TROUBLES} slugs.", "troubles")
    return Sign(**{**said, "at": at, "troubles": tuple(troubles)})


def _is_trouble(value: object) -> bool:
    return isinstance(value, str) and _TROUBLE.fullmatch(value) is not None


def _is_sane(value: float) -> bool:
    return abs(value) <= _MOST  # which no NaN is
