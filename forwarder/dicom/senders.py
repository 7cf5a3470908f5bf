"""Who has sent, and when last: what tells an administrator that a modality has fallen silent."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Any

from forwarder.spool.instances import last_by_sender
from forwarder.spool.journal import Journal

KEPT = 200  # senders


class Senders:
    """The last time of each sender, by AE title. Any thread may tell it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def heard(self, calling: str, peer: str = "", at: float | None = None) -> None:
        """An instance came; `at` in seconds since the epoch, where it was not just now."""
        moment = time.time() if at is None else at
        with self._lock:
            if moment >= self._last.get(calling, (0.0, ""))[0]:
                self._last[calling] = (moment, peer)
                self._last.move_to_end(calling)
            while len(self._last) > KEPT:
                self._last.popitem(last=False)

    def recall(self, journal: Journal) -> None:
        """What the journal remembers of the time before the start. It looks at all of it: once is enough. Raises SpoolError."""
        with journal.read() as connection:
            found = last_by_sender(connection)
        for calling, last_at in found:
            self.heard(calling, at=last_at)

    def listed(self) -> list[dict[str, Any]]:
        """Each, the latest first: for the page."""
        with self._lock:
            entries = sorted(self._last.items(), key=lambda entry: -entry[1][0])
        return [{"calling": calling, "peer": peer, "last_at": round(at)} for calling, (at, peer) in entries]
