"""The city as a process: started, killed, started again with the same ports and the same state."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
HOOKS = Path(__file__).parent / "hooks"
START_SECONDS = 300.0
_first = random.SystemRandom().randrange(10_000, 11_990)  # two drills at once do not begin with the same
_ports = itertools.cycle([*range(_first, 11_990), *range(10_000, _first)])


class DrillError(Exception):
    """The drill could not be held."""


class RunningCity:
    """`python -m local up` with forwarders, in `state`."""

    def __init__(self, state: Path) -> None:
        self.state, self.port = state, free_port(3)
        self.process: subprocess.Popen[bytes] | None = None
        self.endpoints: dict[str, Any] = {}

    def start(self) -> None:
        """Returns when it answers. Raises DrillError."""
        ready = self.state / "endpoints.json"
        ready.unlink(missing_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HOOKS), environment.get("PYTHONPATH", "")]))
        with (self.state / "drill" / "city.out").open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "local", "up", "--state", str(self.state), "--ports", str(self.port), "--no-demo"],
                cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise DrillError(f"the city did not come up; see {self.state}/drill/city.out and {self.state}/logs")
            time.sleep(0.05)
        self.endpoints.update(json.loads(ready.read_text(encoding="utf-8")))

    def forwarder(self, institution: str) -> dict[str, Any]:
        """Its entry as it stands now: the pid changes."""
        try:
            now = json.loads((self.state / "endpoints.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            now = self.endpoints
        found: dict[str, Any] = now["forwarders"][institution]
        return found

    def kill(self) -> None:
        """As when the machine under it dies."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def kill_forwarder(self, institution: str) -> None:
        try:
            os.kill(int(self.forwarder(institution)["pid"]), signal.SIGKILL)
        except (ProcessLookupError, TypeError):
            return

    def stop(self) -> None:
        """End it, and what it started."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def free_port(count: int = 1) -> int:
    """A free port, the first of `count` in a row; none that this machine gives to outgoing connections, or the tests look among,
    and none that this process was given before, which may not be taken yet.
    """
    while True:
        ports = [next(_ports) for _ in range(count)]
        if ports[-1] - ports[0] != count - 1:
            continue
        try:
            for port in ports:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return ports[0]


def retry(config: str) -> None:
    """An administrator bids a forwarder try again what waits."""
    command = [sys.executable, "-m", "forwarder", "retry", "--config", config]
    subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False)
