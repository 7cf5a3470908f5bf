"""How a large object is put together from bytes and from parts of other objects, without holding it in memory.

S3 wants every part of a multipart upload but the last to be 5 MiB at least (S3 User Guide, "multipart upload limits"). So
what is small is read and uploaded in parts of 8 MiB, and of what is large only the beginning, as far as a part needs it; the
rest is copied inside S3, however long it is.

What has to be read is shared out in batches of a bounded size, one for each invocation of a function that does nothing else: so
no function's work grows with the size of what is put together.
"""

from __future__ import annotations

import base64
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from chalicelib.domain.json_object import JsonObject

MIB = 1024 * 1024
MIN_PART = 5 * MIB
READ_PART = 8 * MIB
MAX_COPY = 4 * 1024 * MIB
MAX_GAP = 64 * 1024
"""Bytes between two ranges of an object that are still read as one."""
BATCH = 64 * MIB
"""Bytes that one invocation reads."""
MOST_OWN_BYTES = MIB
"""Bytes of a batch that come with it instead of from an object: an invocation's event is 6 MB at most, in base64."""
MOST_PIECES = 10_000
"""Pieces of a batch, for the same reason."""


@dataclass(frozen=True)
class ObjectRange:
    """`length` bytes of another object of the bucket, from `start` on."""

    key: str
    start: int
    length: int


Piece: TypeAlias = bytes | ObjectRange
"""What an object is made of, in order."""


@dataclass(frozen=True)
class UploadPart:
    """One part of the upload: pieces that are read and sent, or one range that is copied inside S3."""

    pieces: tuple[Piece, ...]
    copied: bool = False

    @property
    def length(self) -> int:
        """Its size in bytes."""
        return sum(size(piece) for piece in self.pieces)

    @property
    def own_bytes(self) -> int:
        """Of them, those that are in it rather than in an object."""
        return sum(len(piece) for piece in self.pieces if isinstance(piece, bytes))


Numbered: TypeAlias = tuple[int, UploadPart]
"""A part and its number in the upload, from 1."""


@dataclass(frozen=True)
class Batch:
    """Parts of one multipart upload, to be sent by one invocation."""

    key: str
    upload: str
    parts: tuple[Numbered, ...]


class Assembler(Protocol):
    """What brings bytes from S3 to S3."""

    def upload(self, batch: Batch) -> list[str]:
        """Send the parts of a batch: their ETags. Raises TryAgain."""
        ...

    def checksums(self, ranges: Sequence[ObjectRange]) -> list[int]:
        """The CRC-32 of each range, none longer than `READ_PART`, all together no more than `BATCH`. Raises TryAgain."""
        ...


def size(piece: Piece) -> int:
    """Bytes of a piece."""
    return piece.length if isinstance(piece, ObjectRange) else len(piece)


def plan(pieces: Iterable[Piece]) -> list[UploadPart]:
    """The parts that make up `pieces`, in order; at least one."""
    parts: list[UploadPart] = []
    open_: list[Piece] = []
    held = 0
    for piece in pieces:
        while size(piece):
            if isinstance(piece, ObjectRange) and (held == 0 or held >= MIN_PART) and piece.length >= READ_PART:
                if open_:
                    parts.append(UploadPart(tuple(open_)))
                    open_, held = [], 0
                first, piece = _split(piece, min(piece.length, MAX_COPY))
                parts.append(UploadPart((first,), copied=True))
                continue
            room = _room(piece, held)
            first, piece = _split(piece, min(size(piece), room))
            open_.append(first)
            held += size(first)
            if held >= READ_PART:
                parts.append(UploadPart(tuple(open_)))
                open_, held = [], 0
    if open_ or not parts:
        parts.append(UploadPart(tuple(open_)))
    return parts


def _room(piece: Piece, held: int) -> int:
    """How much of a piece goes into the open part: no more than S3 needs, where the rest can be copied."""
    if isinstance(piece, ObjectRange) and held < MIN_PART and piece.length >= MIN_PART - held + READ_PART:
        return MIN_PART - held
    return READ_PART - held


def _split(piece: Piece, at: int) -> tuple[Piece, Piece]:
    if isinstance(piece, ObjectRange):
        return ObjectRange(piece.key, piece.start, at), ObjectRange(piece.key, piece.start + at, piece.length - at)
    return piece[:at], piece[at:]


def bytes_read(parts: Sequence[UploadPart]) -> int:
    """How many bytes go through whoever carries the plan out."""
    return sum(part.length for part in parts if not part.copied)


def batches(parts: Sequence[UploadPart]) -> tuple[list[Numbered], list[list[Numbered]]]:
    """The parts that whoever has the plan sends itself, since no byte of theirs has to be read or most come with it; and those
    that are read, shared out in batches."""
    own: list[Numbered] = []
    shared: list[list[Numbered]] = []
    left = UploadPart(())
    for number, part in enumerate(parts, 1):
        if part.copied or part.own_bytes > MOST_OWN_BYTES or len(part.pieces) > MOST_PIECES:
            own.append((number, part))
            continue
        together = UploadPart((*left.pieces, *part.pieces))
        if not shared or together.length > BATCH or together.own_bytes > MOST_OWN_BYTES or len(together.pieces) > MOST_PIECES:
            shared.append([])
            together = part
        shared[-1].append((number, part))
        left = together
    return own, shared


def ranges(every: Iterable[ObjectRange]) -> list[list[ObjectRange]]:
    """Ranges in pieces that are read at once, shared out in batches; in order."""
    shared: list[list[ObjectRange]] = [[]]
    left = BATCH
    for wanted in every:
        for start in range(0, wanted.length, READ_PART):
            length = min(READ_PART, wanted.length - start)
            if length > left or len(shared[-1]) == MOST_PIECES:
                shared.append([])
                left = BATCH
            shared[-1].append(ObjectRange(wanted.key, wanted.start + start, length))
            left -= length
    return shared if shared[-1] else []


def upload_event(batch: Batch) -> JsonObject:
    """A batch as JSON, for the function that assembles."""
    parts = [[number, part.copied, [_to_json(piece) for piece in part.pieces]] for number, part in batch.parts]
    return {"key": batch.key, "upload": batch.upload, "parts": parts}


def checksums_event(wanted: Sequence[ObjectRange]) -> JsonObject:
    """Ranges whose checksums are wanted, as JSON."""
    return {"checksums": [_to_json(extract) for extract in wanted]}


def assemble(event: Mapping[str, Any], assembler: Assembler) -> list[str] | list[int]:
    """Do what `upload_event` or `checksums_event` says."""
    if "checksums" in event:
        return assembler.checksums([ObjectRange(*extract) for extract in event["checksums"]])
    parts = tuple((number, UploadPart(tuple(map(_from_json, pieces)), copied)) for number, copied, pieces in event["parts"])
    return assembler.upload(Batch(event["key"], event["upload"], parts))


def _to_json(piece: Piece) -> str | list[Any]:
    return [piece.key, piece.start, piece.length] if isinstance(piece, ObjectRange) else base64.b64encode(piece).decode()


def _from_json(piece: str | list[Any]) -> Piece:
    return base64.b64decode(piece) if isinstance(piece, str) else ObjectRange(*piece)


def gather(pieces: Sequence[Piece], read: Callable[[Sequence[ObjectRange]], Sequence[bytes]]) -> list[bytes]:
    """The bytes of each piece. `read` answers ranges of objects; what lies close together is read as one range."""
    wanted = sorted(
        {piece for piece in pieces if isinstance(piece, ObjectRange)},
        key=lambda extent: (extent.key, extent.start, extent.length),
    )
    joined: list[ObjectRange] = []
    for extract in wanted:
        last = joined[-1] if joined else None
        if last is not None and last.key == extract.key and extract.start <= last.start + last.length + MAX_GAP:
            end = max(last.start + last.length, extract.start + extract.length)
            if end - last.start <= READ_PART:
                joined[-1] = ObjectRange(last.key, last.start, end - last.start)
                continue
        joined.append(extract)
    found = list(zip(joined, read(joined), strict=True)) if joined else []
    return [_cut(piece, found) if isinstance(piece, ObjectRange) else piece for piece in pieces]


def _cut(wanted: ObjectRange, found: Sequence[tuple[ObjectRange, bytes]]) -> bytes:
    place = bisect_right(found, (wanted.key, wanted.start), key=lambda read: (read[0].key, read[0].start)) - 1
    there, data = found[place]
    return data[wanted.start - there.start : wanted.start - there.start + wanted.length]
