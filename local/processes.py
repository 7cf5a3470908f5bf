"""Processes beside the city: ports that stay theirs from one start to the next, and the ends of those that outlived a city."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import psutil

STOP_SECONDS = 5.0


def remembered_ports(file: Path, count: int) -> list[int]:
    """So many free ports, the same at each start."""
    known: list[int] = json.loads(file.read_text()) if file.exists() else []
    known = [*known, *(_free_port() for _ in range(count - len(known)))]
    file.write_text(json.dumps(known))
    return known[:count]


def end_orphan(pid: Path, argument: Path) -> None:
    """End a process that outlived a city that was killed, as it has the files and the ports of the next one: the one that this
    file names, if the argument stands in its command line."""
    try:
        process = psutil.Process(int(pid.read_text()))
        if str(argument) in process.cmdline():
            process.terminate()
            process.wait(STOP_SECONDS)
    except (OSError, ValueError, psutil.NoSuchProcess, psutil.ZombieProcess):
        return
    except psutil.TimeoutExpired:
        process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
