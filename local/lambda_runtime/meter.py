"""What each function does: invocations, CPU time, requests to AWS and their bytes, counted in the functions' own threads.

Functions, emulated cloud and gateway share one process, so the time of the process says little about a function. Here the
time inside the emulated cloud is taken off, and that of threads which a function starts for itself is added: these inherit its
context, as they would share its process in Lambda.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Spent:
    """`cpu` in seconds, bytes of requests to AWS and of their answers."""

    name: str
    invocations: int = 0
    cpu: float = 0.0
    requests: int = 0
    bytes_sent: int = 0
    bytes_read: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, cpu: float = 0.0, sent: int = 0, read: int = 0, invocations: int = 0, requests: int = 0) -> None:
        """Add to what was spent."""
        with self.lock:
            self.cpu += cpu
            self.bytes_sent += sent
            self.bytes_read += read
            self.invocations += invocations
            self.requests += requests


_spent: dict[str, Spent] = {}
_current: contextvars.ContextVar[Spent | None] = contextvars.ContextVar("spent", default=None)


def running_function() -> str:
    """The name of the function that runs in this thread, or "" outside of any."""
    current = _current.get()
    return current.name if current is not None else ""


@contextlib.contextmanager
def running(name: str) -> Iterator[None]:
    """Within it a function runs."""
    spent = _spent.setdefault(name, Spent(name))
    spent.add(invocations=1)
    token = _current.set(spent)
    began = time.thread_time()
    try:
        yield
    finally:
        spent.add(cpu=time.thread_time() - began)
        _current.reset(token)


@contextlib.contextmanager
def outside() -> Iterator[Spent | None]:
    """Within it the emulated cloud works for the function, in the same thread, at its own expense."""
    spent = _current.get()
    began = time.thread_time()
    try:
        yield spent
    finally:
        if spent is not None:
            spent.add(cpu=began - time.thread_time())


def totals() -> dict[str, dict[str, float]]:
    """For each function, since the start."""
    return {
        name: {
            "invocations": spent.invocations,
            "cpu_ms": round(spent.cpu * 1000, 3),
            "requests": spent.requests,
            "bytes_sent": spent.bytes_sent,
            "bytes_read": spent.bytes_read,
        }
        for name, spent in sorted(_spent.items())
    }


class _Inheriting(threading.Thread):
    """A thread that goes on in the context of the one that starts it (as every thread will from Python 3.14 on), and whose
    time is its function's."""

    def start(self) -> None:
        context, run = contextvars.copy_context(), self.run
        self.run = lambda: context.run(_metered, run)  # type: ignore[method-assign]
        super().start()


def _metered(run: Any) -> None:
    spent = _current.get()
    if spent is None:
        run()
        return
    began = time.thread_time()
    try:
        run()
    finally:
        spent.add(cpu=time.thread_time() - began)


def let_threads_inherit() -> None:
    """From now on each new thread of this process inherits its starter's context."""
    threading.Thread = _Inheriting  # type: ignore[misc]
