"""Who may see what, from docs/sharing.md, told "never" only where every order of what ran side by side forbids it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

ROUNDING = 1.0
"""Seconds: moments in the contract are whole ones."""


@dataclass(frozen=True)
class KnownStudy:
    """A study as its modality made it."""

    owner: str
    uid: str
    person: int
    date: str


@dataclass(frozen=True)
class KnownTransfer:
    """A transfer as both parties were told: when it may have been live at the most, and since when it may have been accepted."""

    id: str
    sender: str
    receiver: str
    person: int
    opened: float
    day: str
    ends: float
    accepted: float | None


class Knowledge:
    """What the ledger and the parties' lists of transfers say. `numbers`: (institution, number) → person."""

    def __init__(
        self, entries: Iterable[dict[str, Any]], transfers: Iterable[dict[str, Any]], numbers: Mapping[tuple[str, str], int]
    ) -> None:
        self.entries = list(entries)
        self.now = max((entry["at"] for entry in self.entries), default=0.0)
        self.studies = {
            entry["study"]: KnownStudy(entry["owner"], entry["study"], entry["person"], entry["date"])
            for entry in self.of("study")
        }
        self.transfers = [self._transfer(found, numbers) for found in transfers]
        self._showing = {entry["objection"]: entry["at"] for entry in self.of("showing")}

    def of(self, what: str) -> list[dict[str, Any]]:
        return [entry for entry in self.entries if entry["what"] == what]

    def _transfer(self, found: dict[str, Any], numbers: Mapping[tuple[str, str], int]) -> KnownTransfer:
        sender, receiver = found["from"], found["to"]
        person = numbers[sender, found["patient"]["id"]]
        opened = datetime.fromisoformat(found["opened_at"])
        ended = [entry["at"] for entry in self.of("ended") if entry["transfer"] == found["id"]]
        accepting = [
            entry["at"]
            for entry in self.of("accepting")
            if (entry["receiver"], entry["person"]) == (receiver, person) and entry.get("transfer") in (None, found["id"])
        ]
        return KnownTransfer(
            found["id"], sender, receiver, person, opened.timestamp() - ROUNDING,
            opened.astimezone(ZoneInfo("Europe/Rome")).strftime("%Y%m%d"),
            min([datetime.fromisoformat(found["expires_at"]).timestamp() + ROUNDING, *ended]),
            min(accepting, default=None),
        )  # fmt: skip

    def unasked(self) -> list[str]:
        """Transfers that nobody ever asked for: each needs an opening of its own at its sender."""
        missing = []
        asked: dict[tuple[str, str, int], list[float]] = {}
        for entry in self.of("opening"):
            asked.setdefault((entry["sender"], entry["receiver"], entry["person"]), []).append(entry["at"])
        for transfer in sorted(self.transfers, key=lambda known: known.opened):
            moments = asked.get((transfer.sender, transfer.receiver, transfer.person), [])
            earlier = [moment for moment in moments if moment <= transfer.opened + 2 * ROUNDING]
            if not earlier:
                missing.append(transfer.id)
            else:
                moments.remove(max(earlier))
        return missing

    def hidden(self, study: KnownStudy, began: float, ended: float) -> bool:
        """Whether an objection hid it from all others during the whole time."""
        return any(
            entry["owner"] == study.owner
            and entry["person"] == study.person
            and entry["study"] in (None, study.uid)
            and entry["at"] <= began
            and self._showing.get(entry["objection"], float("inf")) > ended
            for entry in self.of("objected")
        )

    def ever_hidden(self, study: KnownStudy) -> bool:
        """Whether an objection may have hidden it at any moment."""
        return any(
            entry["owner"] == study.owner and entry["person"] == study.person and entry["study"] in (None, study.uid)
            for entry in self.of("objected")
        )

    def may_see(self, viewer: str, study: KnownStudy, began: float, ended: float, *, by_transfer_only: bool = False) -> bool:
        """False where no rule can have opened it to `viewer` at any moment from `began` to `ended`."""
        if viewer == study.owner:
            return True
        if self.hidden(study, began, ended):
            return False
        declared = any(
            (entry["by"], entry["person"]) == (viewer, study.person) and entry["at"] <= ended for entry in self.of("emergency")
        )
        if declared and not by_transfer_only:
            return True
        return any(self._opens(transfer, viewer, study, began, ended) for transfer in self.transfers)

    @staticmethod
    def _opens(transfer: KnownTransfer, viewer: str, study: KnownStudy, began: float, ended: float) -> bool:
        if transfer.person != study.person or transfer.opened > ended or transfer.ends < began:
            return False
        if (transfer.sender, transfer.receiver) == (study.owner, viewer):
            return True
        follow_up = (transfer.sender, transfer.receiver) == (viewer, study.owner)
        accepted = transfer.accepted is not None and transfer.accepted <= ended
        return follow_up and accepted and study.date >= transfer.day
