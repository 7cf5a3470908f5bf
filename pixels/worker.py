"""The function as a process of its own, as the local city runs it: a job a line on standard input, an answer a line on output.

Its memory, its files and its processes are bounded by the kernel; its time by whoever started it. A process that a hostile
image brings down takes nothing with it.
"""

from __future__ import annotations

import json
import resource
import sys

MOST_MEMORY = 4 * 1024**3
MOST_FILE = 3 * 1024**3


def main() -> None:
    """Serve until standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_FILE, MOST_FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from pixels.handler import handler

    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(handler(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
