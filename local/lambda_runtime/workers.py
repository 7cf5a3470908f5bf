"""The function that decodes pixels, as processes of their own: what hostile pixel data brings down is one of them.

A process serves one job at a time, and lives on for the next, as in Lambda. One that takes too long is killed; one that died
or was killed is replaced when the next job comes. Its credentials are those of the function's own role, and it reaches the
bucket by the port, as any other process would.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from local.iam.identities import RoleSession
from local.lambda_runtime.functions import Function

_log = logging.getLogger("city.workers")


class Crashed(Exception):
    """The function ended without an answer, or was ended because it took too long."""


def in_this_process(function: Function, most: int) -> Callable[[dict[str, Any]], Any]:
    """A function that the API invokes and that needs no process of its own; at most `most` at once."""
    room = threading.BoundedSemaphore(most)

    def invoke(event: dict[str, Any]) -> Any:
        with room:
            try:
                return function.invoke(event)
            except Exception as error:  # whatever it is, Lambda makes a function error of it
                _log.exception("%s failed", function.name)
                raise Crashed(type(error).__name__) from error

    return invoke


class Workers:
    """At most `most` processes. `environment` is what each gets beside its credentials; `timeout` in seconds."""

    def __init__(self, root: Path, identity: RoleSession, environment: Mapping[str, str], timeout: float, most: int = 2) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TABLE_", "OPERATOR_"))}
        self._environment = {
            **kept,
            **environment,
            "AWS_ACCESS_KEY_ID": identity.access_key,
            "AWS_SECRET_ACCESS_KEY": identity.secret,
            "AWS_SESSION_TOKEN": identity.token,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self._root, self._timeout = root, timeout
        self._free: queue.LifoQueue[subprocess.Popen[str] | None] = queue.LifoQueue()
        for _ in range(most):
            self._free.put(None)
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()

    def invoke(self, event: Mapping[str, Any]) -> Any:
        """The function's answer to an event. Raises Crashed."""
        process = self._free.get()
        try:
            if process is None or process.poll() is not None:
                process = self._start()
            return self._ask(process, json.dumps(event))
        except (Crashed, OSError, ValueError) as error:
            _log.warning("a worker was ended: %s", type(error).__name__)
            self._end(process)
            process = None
            raise Crashed from error
        finally:
            self._free.put(process)

    def stop(self) -> None:
        """End every process."""
        with self._lock:
            running = list(self._running)
        for process in running:
            self._end(process)

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "pixels.worker"],
            cwd=self._root,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        with self._lock:
            self._running.add(process)
        self._line(process, time.monotonic() + 30)
        return process

    def _ask(self, process: subprocess.Popen[str], job: str) -> Any:
        if process.stdin is None:
            raise Crashed
        process.stdin.write(job + "\n")
        process.stdin.flush()
        return json.loads(self._line(process, time.monotonic() + self._timeout))

    @staticmethod
    def _line(process: subprocess.Popen[str], deadline: float) -> str:
        if process.stdout is None or not select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise Crashed
        line = process.stdout.readline()
        if not line:
            raise Crashed
        return line

    def _end(self, process: subprocess.Popen[str] | None) -> None:
        if process is None:
            return
        process.kill()
        process.wait(5)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    _log.debug("a pipe was broken")
        with self._lock:
            self._running.discard(process)
