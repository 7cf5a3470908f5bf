"""How a large object is put together from bytes and from parts of other objects, without holding it in memory.

S3 wants every part of a multipart upload but the last to be 5 MiB at least (S3 User Guide, "multipart upload limits"). So
what is small is read and uploaded in parts of 8 MiB, and of what is large only the beginning, as far as a part needs it; the
rest is copied inside S3, however long it is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

MIB = 1024 * 1024
MIN_PART = 5 * MIB
READ_PART = 8 * MIB
MAX_COPY = 4 * 1024 * MIB
MAX_GAP = 64 * 1024
"""Bytes between two ranges of an object that are still read as one."""


@dataclass(frozen=True)
class Extract:
    """`length` bytes of another object of the bucket, from `start` on."""

    key: str
    start: int
    length: int


Piece: TypeAlias = bytes | Extract
"""What an object is made of, in order."""


@dataclass(frozen=True)
class Part:
    """One part of the upload: pieces that are read and sent, or one range that is copied inside S3."""

    pieces: tuple[Piece, ...]
    copied: bool = False

    @property
    def length(self) -> int:
        """Its size in bytes."""
        return sum(size(piece) for piece in self.pieces)


def size(piece: Piece) -> int:
    """Bytes of a piece."""
    return piece.length if isinstance(piece, Extract) else len(piece)


def plan(pieces: Iterable[Piece]) -> list[Part]:
    """The parts that make up `pieces`, in order; at least one."""
    parts: list[Part] = []
    open_: list[Piece] = []
    held = 0
    for piece in pieces:
        while size(piece):
            if isinstance(piece, Extract) and (held == 0 or held >= MIN_PART) and piece.length >= READ_PART:
                if open_:
                    parts.append(Part(tuple(open_)))
                    open_, held = [], 0
                first, piece = _split(piece, min(piece.length, MAX_COPY))
                parts.append(Part((first,), copied=True))
                continue
            room = _room(piece, held)
            first, piece = _split(piece, min(size(piece), room))
            open_.append(first)
            held += size(first)
            if held >= READ_PART:
                parts.append(Part(tuple(open_)))
                open_, held = [], 0
    if open_ or not parts:
        parts.append(Part(tuple(open_)))
    return parts


def _room(piece: Piece, held: int) -> int:
    """How much of a piece goes into the open part: no more than S3 needs, where the rest can be copied."""
    if isinstance(piece, Extract) and held < MIN_PART and piece.length >= MIN_PART - held + READ_PART:
        return MIN_PART - held
    return READ_PART - held


def _split(piece: Piece, at: int) -> tuple[Piece, Piece]:
    if isinstance(piece, Extract):
        return Extract(piece.key, piece.start, at), Extract(piece.key, piece.start + at, piece.length - at)
    return piece[:at], piece[at:]


def bytes_read(parts: Sequence[Part]) -> int:
    """How many bytes go through whoever carries the plan out."""
    return sum(part.length for part in parts if not part.copied)


def gather(pieces: Sequence[Piece], read: Callable[[Sequence[Extract]], Sequence[bytes]]) -> list[bytes]:
    """The bytes of each piece. `read` answers ranges of objects; what lies close together is read as one range."""
    wanted = sorted({one for one in pieces if isinstance(one, Extract)}, key=lambda one: (one.key, one.start, one.length))
    ranges: list[Extract] = []
    for one in wanted:
        last = ranges[-1] if ranges else None
        if last is not None and last.key == one.key and one.start <= last.start + last.length + MAX_GAP:
            end = max(last.start + last.length, one.start + one.length)
            if end - last.start <= READ_PART:
                ranges[-1] = Extract(last.key, last.start, end - last.start)
                continue
        ranges.append(one)
    found = list(zip(ranges, read(ranges), strict=True)) if ranges else []
    return [_cut(one, found) if isinstance(one, Extract) else one for one in pieces]


def _cut(wanted: Extract, found: Sequence[tuple[Extract, bytes]]) -> bytes:
    place = bisect_right(found, (wanted.key, wanted.start), key=lambda one: (one[0].key, one[0].start)) - 1
    there, data = found[place]
    return data[wanted.start - there.start : wanted.start - there.start + wanted.length]
