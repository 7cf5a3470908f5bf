"""Once a minute the archive is told how this forwarder is, so that its operator sees one that fell silent. No patient data."""

from __future__ import annotations

import json
import threading
from typing import Any

from forwarder.archive.client import Archive
from forwarder.errors import ArchiveError, SpoolError
from forwarder.logs import log
from forwarder.operations.snapshot import State

EVERY = 60.0  # seconds
CONTRACT = "1"
_EVERY_ONE_KNOWS = ("version", "contract")
_MOST_TROUBLES = 20
_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}


def run(stop: threading.Event, state: State, archive: Archive) -> None:
    """Say it until `stop`. What the archive does not take, as one of an earlier release, is no trouble of ours."""
    while True:
        try:
            state.archive_sees = say(archive, sign(state.snapshot()))
        except (ArchiveError, SpoolError, ValueError) as error:
            log.debug("no sign of life", error=type(error).__name__)
        if stop.wait(EVERY):
            return


def say(archive: Archive, said: dict[str, Any]) -> dict[str, Any]:
    """Say it; how the archive sees this forwarder. Raises ArchiveError.

    An archive of an earlier contract, which refuses what it does not know, is told what every one knows.
    """
    answer = archive.call("PUT", "/forwarder", _encoded(said), _HEADERS, expected=(200, 400))
    if answer.status == 400:
        answer = archive.call("PUT", "/forwarder", _encoded({name: said[name] for name in _EVERY_ONE_KNOWS}), _HEADERS)
    seen: dict[str, Any] = json.loads(answer.data)
    return seen


def _encoded(said: dict[str, Any]) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode()


def sign(seen: dict[str, Any]) -> dict[str, Any]:
    """What is told of a snapshot."""
    line = seen["line"]
    return {
        "version": seen["version"],
        "contract": CONTRACT,
        "waiting": seen["waiting"],
        "oldest_waiting_seconds": seen["oldest_waiting_seconds"],
        "line_open": line["open"] if line["tried"] else None,
        "disk_free_bytes": seen["disk"]["free_bytes"],
        "clock_offset_seconds": line["skew_seconds"],
        "certificate_days": seen["certificate_days"],
        "troubles": [str(trouble) for trouble in seen["troubles"][:_MOST_TROUBLES]],
    }
