"""The body of a request to store, written into files as it comes: parts of a multipart body, or one instance by itself.

Parts are told as the archive tells them (`chalicelib/dicomweb/multipart.py` and `stow.py`; tests hold both together): strict
about what decides where a part ends, lenient about a preamble, blanks after a delimiter, folded headers, lines that end with LF
alone.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from forwarder.header import Header, head_of, is_dicom
from forwarder.web.identity import RefusedError
from forwarder.web.media_types import DICOM, METADATA, StoreBody, parse_media_type

LARGEST_INSTANCE = 5 * 1024**3
"""Bytes that the archive takes of an instance."""
MOST_INSTANCES = 5000
MOST_PARTS = 10_000
"""As many as the archive takes of a smaller body; those that are no instance count too: each is told of in the answer."""
MOST_HEADERS = 32
LARGEST_HEADERS = 16 * 1024
MOST_BLANKS = 256
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t -~\x80-\xff]*")


@dataclass(slots=True)
class StoredPart:
    """An instance of a request, on the disk: its SHA-256 (hex), size, and what its head says."""

    path: Path
    digest: Any = field(default_factory=hashlib.sha256)
    size: int = 0
    header: Header | None = None
    is_dicom: bool = False

    @property
    def sha256(self) -> str:
        return str(self.digest.hexdigest())


class InstanceFiles(ABC):
    """Takes a body piece by piece. `feed` and `end` raise RefusedError, OSError.

    `parts`: the instances; `foreign`: how many parts are nothing that is stored.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None
        self.parts: list[StoredPart] = []
        self.foreign = 0

    @abstractmethod
    def feed(self, piece: bytes) -> None:
        """What came next."""

    @abstractmethod
    def end(self) -> list[StoredPart]:
        """All of it came: its instances."""

    def close(self) -> None:
        """Nothing more comes."""
        if self._file is not None:
            self._file.close()

    def _begin(self) -> None:
        if len(self.parts) >= MOST_INSTANCES:
            raise RefusedError(413, "body-too-large")
        self.parts.append(StoredPart(self._folder / str(len(self.parts))))
        self._file = self.parts[-1].path.open("wb")

    def _write(self, content: bytes) -> None:
        if self._file is None or not content:
            return
        part = self.parts[-1]
        part.size += len(content)
        if part.size > LARGEST_INSTANCE:
            raise RefusedError(413, "body-too-large")
        self._file.write(content)
        part.digest.update(content)

    def _finish(self) -> None:
        if self._file is None:
            return
        self._file.close()
        self._file = None
        part = self.parts[-1]
        with part.path.open("rb") as file:
            part.header, part.is_dicom = head_of(file), is_dicom(file)


class SingleFile(InstanceFiles):
    """A body that is one instance, without multipart."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._begin()

    def feed(self, piece: bytes) -> None:
        """What came next."""
        self._write(piece)

    def end(self) -> list[StoredPart]:
        """All of it came. 400 for nothing."""
        if not self.parts[0].size:
            raise RefusedError(400, "empty-body")
        self._finish()
        return self.parts


class MultipartFiles(InstanceFiles):
    """A multipart body (RFC 2046 5.1). `part_type`: of parts that do not say theirs."""

    def __init__(self, boundary: bytes, folder: Path, part_type: str = DICOM) -> None:
        super().__init__(folder)
        self._part_type = part_type
        self._dashes = b"--" + boundary
        self._line_break = b"\n"  # before a delimiter: how the first one's line ends decides
        self._buffer = bytearray(b"\n")  # so that the first delimiter is like the others
        self._shared = 0  # bytes at the buffer's beginning that are of the headers, and may begin a delimiter
        self._in_headers = self._begun = self._ended = False
        self._others = 0  # parts that are bulk data

    def feed(self, piece: bytes) -> None:
        """What came next; what comes after the end (RFC 2046's epilogue) is let go of."""
        if self._ended:
            return
        self._buffer += piece
        while not self._ended and (self._headers() if self._in_headers else self._content()):
            pass

    def end(self) -> list[StoredPart]:
        """All of it came. 400 for what was cut off or has no parts, 415 where none of them is an instance."""
        if not self._ended:
            raise RefusedError(400, "bad-multipart")
        if not self.parts:
            raise RefusedError(*((415, "unsupported-media-type") if self.foreign or self._others else (400, "bad-multipart")))
        return self.parts

    def _content(self) -> bool:
        """Take content up to the next delimiter; whether there may be more to take."""
        delimiter = self._line_break + self._dashes
        at = self._buffer.find(delimiter)
        while at >= 0:
            after = at + len(delimiter)
            line_end = _line_end(self._buffer, after)
            if line_end is None:  # more has to come to tell
                break
            if line_end >= 0:
                if not self._begun and self._buffer[line_end - 2 : line_end] == b"\r\n":
                    self._line_break = b"\r\n"
                self._ended, self._in_headers, self._begun = line_end == after, True, True
                self._release(at)
                self._finish()
                del self._buffer[: line_end - at]
                return True
            at = self._buffer.find(delimiter, at + 1)
        self._release(at if at >= 0 else max(0, len(self._buffer) - len(delimiter) + 1))
        return False

    def _release(self, size: int) -> None:
        """The buffer's first bytes belong to no delimiter."""
        self._write(bytes(self._buffer[self._shared : size]))
        self._shared = max(0, self._shared - size)
        del self._buffer[:size]

    def _headers(self) -> bool:
        """Take a part's header fields; whether all of them were there."""
        head = bytes(self._buffer[:LARGEST_HEADERS])
        fields: list[tuple[bytes, bytes]] = []
        at = 0
        while (end := head.find(b"\n", at)) >= 0:
            line = head[at:end].removesuffix(b"\r")
            if not line:
                self._in_headers = False
                self._shared = len(self._line_break) if head[: end + 1].endswith(self._line_break) else 0
                del self._buffer[: end + 1 - self._shared]
                self._begin_part(fields)
                return True
            _add_field(fields, line)
            at = end + 1
        if len(head) == LARGEST_HEADERS:
            raise RefusedError(400, "bad-multipart")
        return False

    def _begin_part(self, fields: list[tuple[bytes, bytes]]) -> None:
        """An instance is kept; metadata are the archive's to read, and bulk data belong to metadata."""
        first = dict(reversed(fields))
        if first.get(b"content-transfer-encoding", b"").lower() not in (b"", b"binary", b"8bit", b"7bit"):
            raise RefusedError(400, "bad-multipart")
        declared = parse_media_type(first.get(b"content-type", b"").decode("latin-1"))
        name = declared.name if declared else self._part_type
        if len(self.parts) + self._others + self.foreign >= MOST_PARTS:
            raise RefusedError(413, "body-too-large")
        if name == DICOM:
            self._begin()
        elif name in METADATA:
            raise RefusedError(413, "body-too-large")
        elif b"content-location" in first:
            self._others += 1
        else:
            self.foreign += 1


def _line_end(buffer: bytearray, at: int) -> int | None:
    """Where the line of a delimiter ends, whose boundary ends at `at`: `at` itself where it is the closing one, -1 where it is no
    delimiter; None where more has to come to tell.
    """
    if buffer[at : at + 2] == b"--":
        return at
    blanks = bytes(buffer[at : at + MOST_BLANKS])
    after = at + len(blanks) - len(blanks.lstrip(b" \t"))
    rest = bytes(buffer[after : after + 2])
    if rest == b"\r\n":
        return after + 2
    if rest.startswith(b"\n"):
        return after + 1
    return None if rest in (b"", b"\r") or (rest == b"-" and after == at) else -1


def _add_field(fields: list[tuple[bytes, bytes]], line: bytes) -> None:
    """A line of a part's headers, the name in lower case; a folded one goes on with the field before. Raises RefusedError."""
    name, colon, value = line.partition(b":")
    folded = line[:1] in (b" ", b"\t") and bool(fields)
    if folded:
        value = line
    elif not colon or not _NAME.fullmatch(name.strip()) or len(fields) >= MOST_HEADERS:
        raise RefusedError(400, "bad-multipart")
    value = value.strip()
    if not _VALUE.fullmatch(value):
        raise RefusedError(400, "bad-multipart")
    if folded:
        name, before = fields.pop()
        value = b"%b %b" % (before, value)
    fields.append((name.strip().lower(), value.strip()))


def instance_files(body: StoreBody, folder: Path) -> InstanceFiles:
    """What takes a request's body apart."""
    return SingleFile(folder) if body.boundary is None else MultipartFiles(body.boundary, folder, body.part_type)
