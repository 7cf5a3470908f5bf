"""Who writes where: the main thread to the terminal, everything else (the functions) to a log file.

A Lambda function logs to standard output. Here its handlers run in threads of this process, so that standard
output is split by thread, once, before anything is imported that remembers `sys.stdout`.
"""

from __future__ import annotations

import contextlib
import io
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

_sink: TextIO | None = None


class _ByThread(io.TextIOBase):
    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal

    def _target(self) -> TextIO | None:
        return self._terminal if threading.current_thread() is threading.main_thread() else _sink

    def write(self, text: str) -> int:
        target = self._target()
        return len(text) if target is None else target.write(text)

    def flush(self) -> None:
        target = self._target()
        if target is not None:
            target.flush()

    def isatty(self) -> bool:
        return self._terminal.isatty()

    def fileno(self) -> int:
        return self._terminal.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._terminal.encoding


def send_functions_to(file: TextIO) -> None:
    """Where other threads than the main one write from now on."""
    global _sink
    _sink = file


@contextlib.contextmanager
def split_output() -> Iterator[None]:
    terminal, errors = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _ByThread(terminal), _ByThread(errors)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = terminal, errors
