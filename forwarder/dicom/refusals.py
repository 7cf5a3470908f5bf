"""What was refused at the DICOM door: who, what, why, how often. Kept in memory for the page, counted for the metrics, logged.

Names of senders, SOP classes and syntaxes; nothing of a patient. The same refusal again is one entry: a PACS that offers a
class which is not taken does so with every association.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Any

from pydicom.uid import UID_dictionary

from forwarder.alerts import Refusal
from forwarder.logs import log

KEPT = 100  # entries; the one that was not seen for the longest time goes first
AGAIN = 3600.0  # seconds after which an entry is logged again
SYNTAXES = 10  # of one refused context


@dataclass(frozen=True, slots=True)
class Refused:
    """One thing that was refused: by address and AE titles as far as they are known."""

    reason: Refusal
    peer: str
    calling: str = ""
    called: str = ""
    sop_class: str = ""
    transfer_syntaxes: tuple[str, ...] = ()
    detail: str = ""

    def fields(self) -> dict[str, Any]:
        """What is known of it, by name."""
        found: dict[str, Any] = {"reason": str(self.reason), "peer": self.peer, "calling": self.calling, "called": self.called}
        if self.sop_class:
            found |= {"sop_class": self.sop_class, "name": name_of(self.sop_class)}
        if self.transfer_syntaxes:
            found["transfer_syntaxes"] = list(self.transfer_syntaxes[:SYNTAXES])
        if self.detail:
            found["detail"] = self.detail
        return {name: value for name, value in found.items() if value}


@dataclass(slots=True)
class _Seen:
    count: int = 0
    last_at: float = 0.0
    logged_at: float = -AGAIN


class Refusals:
    """The memory of what was refused. Any thread may tell it."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()  # by what was refused
        self._lock = threading.Lock()
        self._seen: OrderedDict[Refused, _Seen] = OrderedDict()

    def note(self, what: str, refused: Refused) -> None:
        """Remember that an “association”, a “context” or an “instance” was refused; the first of its kind is logged, and then
        one each hour."""
        with self._lock:
            self.totals[what] += 1
            seen = self._seen.setdefault(refused, _Seen())
            self._seen.move_to_end(refused)
            while len(self._seen) > KEPT:
                self._seen.popitem(last=False)
            seen.count += 1
            seen.last_at = time.time()
            tell = time.monotonic() - seen.logged_at >= AGAIN
            if tell:
                seen.logged_at = time.monotonic()
        say = log.warning if tell else log.debug
        say(f"{what} refused", **refused.fields(), count=seen.count)

    def listed(self) -> list[dict[str, Any]]:
        """The entries, the newest first: for the page."""
        with self._lock:
            entries = [(refused, seen.count, seen.last_at) for refused, seen in reversed(self._seen.items())]
        return [refused.fields() | {"count": count, "last_at": round(last_at)} for refused, count, last_at in entries]


def name_of(uid: str) -> str:
    """The name of a SOP class or transfer syntax of the standard; "" for a private one."""
    return str(UID_dictionary[uid][0]) if uid in UID_dictionary else ""
