"""Structured logs: one JSON object a line on standard error. No patient data: what is logged is listed at each call.

What others would write there (warnings, tracebacks, what the interpreter says of an error it cannot raise) becomes such a line
too, with kind and place, and without its words, which may quote what a sender sent.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
import warnings
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
        }
        if record.name == "forwarder":
            entry["message"] = record.getMessage()
            entry |= getattr(record, "fields", {})
        else:  # a library's words may quote what a sender sent: say where they were said, not what
            entry["message"] = f"{record.name}.{record.funcName}, line {record.lineno}"
        if record.exc_info and record.exc_info[0]:
            entry["error"] = record.exc_info[0].__name__  # not its text: libraries quote what they were given
        return json.dumps(entry, ensure_ascii=False, default=str)


class _Log:
    """`log.info("what happened", key=value, …)`."""

    def __init__(self) -> None:
        self._logger = logging.getLogger("forwarder")

    def debug(self, message: str, **fields: object) -> None:
        self._logger.debug(message, extra={"fields": fields})

    def info(self, message: str, **fields: object) -> None:
        self._logger.info(message, extra={"fields": fields})

    def warning(self, message: str, **fields: object) -> None:
        self._logger.warning(message, extra={"fields": fields})

    def error(self, message: str, **fields: object) -> None:
        self._logger.error(message, extra={"fields": fields})


log = _Log()


def set_up(level: str) -> None:
    """Send all logs of this process to standard error. Libraries only speak up from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("forwarder").setLevel(level.upper())
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    logging.getLogger("pynetdicom").setLevel(logging.ERROR)
    warnings.showwarning = _show_warning  # type: ignore[assignment]  # parameters that are not used are named so
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraisable


def place_of(trace: TracebackType | None) -> list[str]:
    """Where an error came from: file and line, innermost last."""
    return [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(trace)[-3:]]


UNFORESEEN = "unforeseen"
"""Why a study, an act or an order waits where an error came that nobody foresaw."""


def log_unforeseen(message: str, error: BaseException, **fields: object) -> None:
    """An error that nobody foresaw: its kind and its place, never its text, which may name a patient."""
    log.error(message, error=type(error).__name__, where=place_of(error.__traceback__)[-1:], **fields)


def _show_warning(
    _: Warning | str, category: type[Warning], filename: str, lineno: int, _file: object = None, _line: object = None
) -> None:
    log.debug("a library warns", kind=category.__name__, where=[f"{Path(filename).name}:{lineno}"])


def _uncaught(kind: type[BaseException], _: BaseException, trace: TracebackType | None) -> None:
    log.error("ended unexpectedly", error=kind.__name__, where=place_of(trace))


def _unraisable(what: sys.UnraisableHookArgs) -> None:
    log.error("an error that nobody could catch", error=what.exc_type.__name__, where=place_of(what.exc_traceback))
