"""Processes beside the city: ports that stay theirs from one start to the next, and the ends of those that outlived a city."""

from __future__ import annotations

import json
import os
import random
import socket
import threading
from pathlib import Path

import psutil

STOP_SECONDS = 5.0
_LOWEST_PORT = 10_000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def remembered_ports(file: Path, count: int) -> list[int]:
    """So many free ports, the same at each start."""
    known: list[int] = json.loads(file.read_text()) if file.exists() else []
    known = [*known, *(free_port() for _ in range(count - len(known)))]
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


class _Ports:
    """Where a process looks for ports: on from where it looked last, since what it has found before may not be taken yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at = 0

    def following(self, count: int) -> range:
        """So many in a row, none of which was given before all others were."""
        lowest, highest = _range()
        with self._lock:
            if not lowest <= self._at <= highest - count:
                self._at = lowest if self._at else random.SystemRandom().randrange(lowest, highest - count)
            found = range(self._at, self._at + count)
            self._at += count
        return found


_ports = _Ports()


def free_port(count: int = 1) -> int:
    """A free port of this machine, the first of `count` in a row: below those that the system gives to outgoing connections, of
    which one could have it when what listens there is started again. `LOCAL_PORTS` (`12000-14000`) narrows them, where several
    processes look for ports at once.
    """
    while True:
        found = _ports.following(count)
        try:
            for port in found:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return found.start


def _range() -> tuple[int, int]:
    lowest, _, highest = os.environ.get("LOCAL_PORTS", "").partition("-")
    return (int(lowest), int(highest)) if highest else (_LOWEST_PORT, _first_ephemeral())


def _first_ephemeral() -> int:
    try:
        return max(_LOWEST_PORT + 1000, int(_EPHEMERAL.read_text().split()[0]))
    except (OSError, ValueError):  # no Linux
        return 32_768
