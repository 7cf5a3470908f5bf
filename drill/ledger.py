"""What clients did and were told, one JSON object a line, written when it happened: all that the checker believes."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

Entry = dict[str, Any]
"""`what` names its kind, `at` is the moment of writing (seconds since the epoch); the rest is the kind's own."""


class Ledger:
    """An open ledger. Any thread may write into it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = threading.Lock()
        self._out = file.open("a", buffering=1, encoding="utf-8")
        self.entries: list[Entry] = []

    def note(self, what: str, **more: Any) -> Entry:
        """Write down what happened."""
        entry: Entry = {"what": what, "at": time.time(), **more}
        with self._lock:
            self._out.write(json.dumps(entry, sort_keys=True) + "\n")
            self.entries.append(entry)
        return entry

    def of(self, what: str) -> list[Entry]:
        """All entries of a kind so far."""
        with self._lock:
            return [entry for entry in self.entries if entry["what"] == what]

    def close(self) -> None:
        self._out.close()


def read(file: Path) -> list[Entry]:
    """The entries of a ledger that was written before."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
