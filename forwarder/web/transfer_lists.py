"""The lists of transfers on the staff's page: a part of them at a time, all or those of a number or of another hospital."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from forwarder.web.archive_as import ArchiveAs, ArchiveRefusalError

SHOWN = 50
"""Transfers of one list on the page; a link leads to what is beyond them."""
LISTS: Mapping[str, Mapping[str, str]] = {
    "waiting": {"direction": "incoming", "accepted": "false"},
    "incoming": {"direction": "incoming", "status": "active", "accepted": "true"},
    "outgoing": {"direction": "outgoing", "status": "active"},
    "past": {"status": "expired,revoked"},
}


@dataclass(frozen=True)
class View:
    """What is shown: one list alone (`only`), from a `cursor` on; of a `number`, and with another `hospital`. Empty: all."""

    only: str = ""
    cursor: str = ""
    number: str = ""
    hospital: str = ""

    def fields(self) -> dict[str, str]:
        """As an address says it, sealed."""
        return asdict(self)

    def beyond(self, name: str, cursor: str) -> View:
        """Where a list goes on, narrowed as it is."""
        return replace(self, only=name, cursor=cursor)

    def takes(self, name: str, transfer: Mapping[str, Any]) -> bool:
        """Whether a transfer belongs into a list; an older archive does not narrow."""
        named = (transfer.get(whose) or {} for whose in ("patient", "receiving_patient", "proposed_patient"))
        return (
            (name != "past" or transfer["status"] != "active")
            and self.hospital in ("", transfer["from"], transfer["to"])
            and (not self.number or self.number in {str(number.get("id")) for number in named})
        )


@dataclass(frozen=True)
class Listed:
    """A part of a list, and the cursor with which it goes on; empty where that is all."""

    transfers: list[dict[str, Any]]
    next: str = ""


async def listed(archive: ArchiveAs, view: View) -> dict[str, Listed]:
    """The lists that are shown, by name."""
    names = [name for name in LISTS if view.only in ("", name)]
    parts = await asyncio.gather(*(_part(archive, view, name) for name in names))
    return dict(zip(names, parts, strict=True))


async def _part(archive: ArchiveAs, view: View, name: str) -> Listed:
    asked = {**LISTS[name], "institution": view.hospital, "patient": view.number, "limit": str(SHOWN), "cursor": view.cursor}
    try:
        found = await archive.get("/transfers", **asked)
    except ArchiveRefusalError as error:
        if error.status != 400 or "," not in asked.get("status", ""):
            raise
        found = await archive.get("/transfers", **{**asked, "status": ""})  # an older archive takes one status at a time
    return Listed([each for each in found["transfers"] if view.takes(name, each)], str(found.get("next") or ""))
