"""A forwarder that kills itself (SIGKILL) right after the N-th time that a step was done.

python dying.py CONFIG STEP N
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from forwarder.config import load
from forwarder.service import running


def main() -> None:
    path, deadly, times = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    lock, left = threading.Lock(), [times]

    def step(name: str) -> None:
        if name == deadly:
            with lock:
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with running(load(path), stop, step):
        stop.wait()


if __name__ == "__main__":
    main()
