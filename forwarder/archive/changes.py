"""The archive's change feed (`GET /changes`), as whoever follows it reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from forwarder.archive.client import Archive
from forwarder.errors import ArchiveError, Failure

NOW = "now"
"""Where the feed is followed from: what comes from now on."""
SHORTEST_PAUSE = 1.0  # seconds


class Pace:
    """How long to wait before the feed is asked again: a second after something came, then longer and longer.

    Waiting is done here: in the archive it is paid for by the second, and costs as much in one as three questions (docs/cost.md).
    """

    def __init__(self, archive: Archive) -> None:
        self._longest = archive.feed_seconds
        self._next = SHORTEST_PAUSE

    def after(self, came: bool) -> float:
        """Seconds to wait, once a question was answered; `came`: whether with something new."""
        wait = min(self._longest, SHORTEST_PAUSE if came else self._next)
        self._next = min(self._longest, 2 * wait)
        return wait


def changes(archive: Archive, since: str) -> tuple[list[dict[str, Any]], str]:
    """(entries since a cursor, the next cursor). Raises ArchiveError."""
    answer = ask(archive, f"/changes?since={quote(since, safe='')}&limit=1000&wait=0")
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


def ask_all(archive: Archive, path: str, name: str) -> Iterator[Any]:
    """What all pages of a list hold under a name; `path` has a query already. Raises ArchiveError."""
    cursor = ""
    while True:
        page = ask(archive, path + (f"&cursor={quote(cursor, safe='')}" if cursor else ""))
        if not isinstance(page, dict) or not isinstance(page.get(name), list):
            raise ArchiveError("The archive's answer is not what the contract says.", Failure.PROTOCOL)
        yield from page[name]
        cursor = str(page.get("next") or "")
        if not cursor:
            return
