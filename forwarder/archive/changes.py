"""The archive's change feed (`GET /changes`), as whoever follows it reads it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from forwarder.archive.client import Archive
from forwarder.errors import ArchiveError, Failure

NOW = "now"
"""Where the feed is followed from: what comes from now on."""


def changes(archive: Archive, since: str, wait: int) -> tuple[list[dict[str, Any]], str]:
    """(entries since a cursor, the next cursor), waiting up to `wait` seconds for the first. Raises ArchiveError."""
    answer = ask(archive, f"/changes?since={quote(since, safe='')}&limit=1000&wait={wait}")
    try:
        found, cursor = answer["changes"], str(answer["next"])
        if not all(isinstance(change, dict) for change in found):
            raise TypeError
    except (KeyError, TypeError) as error:
        raise ArchiveError("The archive's feed is not what the contract says.", Failure.PROTOCOL) from error
    return found, cursor


def ask(archive: Archive, path: str, accept: str = "application/json") -> Any:
    """The JSON that a GET is answered with. Raises ArchiveError."""
    try:
        return json.loads(archive.call("GET", path, b"", {"Accept": accept}).data)
    except ValueError as error:
        raise ArchiveError("The archive's answer is not JSON.", Failure.PROTOCOL) from error
