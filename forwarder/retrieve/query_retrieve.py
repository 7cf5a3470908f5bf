"""A query or a retrieval (PS3.4 C), between the DICOM door, which speaks it, and whoever answers it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydicom.dataset import Dataset

SUCCESS, PENDING, PENDING_WITHOUT_SOME_KEYS, CANCELLED = 0x0000, 0xFF00, 0xFF01, 0xFE00
SOME_FAILED = 0xB000
OUT_OF_RESOURCES, CANNOT_COUNT, CANNOT_STORE = 0xA700, 0xA701, 0xA702
UNKNOWN_DESTINATION, NOT_THIS_SOP_CLASS = 0xA801, 0xA900
NOT_UNDERSTOOD, ARCHIVE_AWAY = 0xC001, 0xC002


class QueryRefusedError(Exception):
    """A query or a retrieval that is not answered, or no further: its status (PS3.4 C.4.1.1.4, C.4.2.1.5, C.4.3.1.4), and why
    in a few words of ASCII without anything of the request (Error Comment, at most 64 characters)."""

    def __init__(self, status: int, comment: str) -> None:
        super().__init__(comment)
        self.status = status
        self.comment = comment[:64]


@dataclass(frozen=True, slots=True)
class Request:
    """A C-FIND, C-GET or C-MOVE request: `root` is PATIENT or STUDY, `caller` and `destination` AE titles; values of the
    identifier's elements are as they came, not decoded yet."""

    root: str
    identifier: Dataset
    caller: str
    message_id: int
    destination: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """One answer to a C-FIND: PENDING, or PENDING_WITHOUT_SOME_KEYS."""

    status: int
    identifier: Dataset


@dataclass(frozen=True, slots=True)
class SubOperations:
    """How a retrieval stands, in sub-operations; `failed_instances` are SOP Instance UIDs."""

    remaining: int
    completed: int = 0
    failed: int = 0
    warning: int = 0
    failed_instances: tuple[str, ...] = ()

    @property
    def status(self) -> int:
        """PENDING while some remain, then the final one (PS3.4 C.4.2.1.5)."""
        if self.remaining:
            return PENDING
        if self.failed and not self.completed and not self.warning:
            return CANNOT_STORE
        return SOME_FAILED if self.failed or self.warning else SUCCESS


class Channel(Protocol):
    """Where instances are stored: an association for C-STORE. `store` raises PacsError (`forwarder.retrieve.store_scu`)."""

    def takes(self, sop_class: str, transfer_syntax: str) -> str | None:
        """The transfer syntax to send an instance in: its own, or an uncompressed one; None where neither is taken."""
        ...

    def store(self, path: Path, message_id: int, originator: tuple[str, int] | None = None) -> int:
        """C-STORE of a file; the status (PS3.4 Table B.2-1)."""
        ...
