"""Events that are lost on purpose, which S3 seldom does: the file `DIR/lose-events` holds how many of the next ones are."""

from __future__ import annotations

import threading
from pathlib import Path

_lock = threading.Lock()


def is_lost(state: Path) -> bool:
    """Whether the next event is lost; the file counts down, and is gone with the last one."""
    file = state / "lose-events"
    with _lock:
        try:
            left = int(file.read_text(encoding="ascii"))
        except FileNotFoundError:
            return False
        if left > 1:
            file.write_text(str(left - 1), encoding="ascii")
        else:
            file.unlink()
        return left > 0
