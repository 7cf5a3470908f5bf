"""An instance in Explicit VR Little Endian, and single frames as plain pixels (PS3.5 A.2, PS3.18 8.7.3)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from chalicelib.dicom.header import GE_PRIVATE_BIG, Head, read_head
from chalicelib.dicom.pixels import NATIVE
from chalicelib.dicom.source import Fetch
from chalicelib.dicom.values import values_of
from chalicelib.domain import tags
from pixels import decode, explicit
from pixels.decode import BIG_ENDIAN
from pixels.errors import Undecodable
from pixels.instance import OpenInstance

_PLANAR, _PHOTOMETRIC, _FRAMES, _ALLOCATED = (
    tags.PlanarConfiguration.number,
    tags.PhotometricInterpretation.number,
    tags.NumberOfFrames.number,
    tags.BitsAllocated.number,
)
_OFFSET_TABLES = (tags.ExtendedOffsetTable.number, tags.ExtendedOffsetTableLengths.number)
_WORDS = {"OW": 2, "OF": 4, "OD": 8}


def to_explicit_little_endian(path: Path, target: Path) -> None:
    """Write the instance anew, its pixels decoded, under the same SOP Instance UID. Raises Undecodable, and what reading raises.

    Compressed pixels that cannot be decoded rightly make no instance; what was never compressed goes as it is.
    """
    with path.open("rb") as file, target.open("w+b") as out:
        fetch, size = ranges(file), path.stat().st_size
        head = read_head(fetch, size)
        if head.pixel_data is None:
            explicit.write(out, head, fetch, {}, None)
            return
        opened = OpenInstance(fetch, size)
        facts = opened.described.facts
        if facts.frames_fault and head.transfer_syntax_uid not in NATIVE:
            raise Undecodable(facts.frames_fault)
        if facts.encapsulated:
            explicit.write(out, head, fetch, *_decompressed(opened))
        else:
            explicit.write(out, head, fetch, {}, _native(opened))


def ranges(file: BinaryIO) -> Fetch:
    """Reads an open file as a stored object is read."""

    def fetch(start: int, length: int) -> bytes:
        file.seek(start)
        return file.read(length)

    return fetch


def frame(opened: OpenInstance, index: int) -> bytes:
    """One frame (from 0) in little endian: native samples in their own order, compressed ones together. Raises Undecodable."""
    described, layout = opened.described, opened.described.layout
    if not described.facts.encapsulated:
        decode.check_size(layout)
        source = opened.frame(index)
        width = layout.allocated // 8
        swapped = opened.head.transfer_syntax_uid in BIG_ENDIAN and width > 1
        return _turned(source, width) if swapped else source
    return _little(_decoded(opened, index)[0])


def _decoded(opened: OpenInstance, index: int) -> tuple[Any, str]:
    """Cells, and what they are; YBR of YBR_FULL_422 is of every pixel."""
    cells, photometric = decode.cells(opened, index)
    if opened.described.layout.allocated == 1:
        return np.packbits(cells.ravel(), bitorder="little"), photometric
    return cells, photometric


def _decompressed(opened: OpenInstance) -> tuple[explicit.Replaced, tuple[str, Iterator[bytes]]]:
    """What is said otherwise of decoded pixels, and these, a frame at a time."""
    layout = opened.described.layout
    count = opened.located(range(opened.described.facts.frames))
    decode.check_size(layout, count)
    first, photometric = _decoded(opened, 0)

    def frames() -> Iterator[bytes]:
        yield _little(first)
        for index in range(1, count):
            yield _little(_decoded(opened, index)[0])

    replaced: dict[int, tuple[str, bytes] | None] = dict.fromkeys(_OFFSET_TABLES)
    if layout.samples > 1:
        replaced |= {_PLANAR: ("US", b"\0\0"), _PHOTOMETRIC: ("CS", photometric.encode())}
    if count != opened.described.declared_frames:
        replaced[_FRAMES] = ("IS", str(count).encode())
    return replaced, ("OW" if layout.allocated > 8 else "OB", frames())


def _native(opened: OpenInstance) -> tuple[str, Iterator[bytes]]:
    """Pixels that were never compressed, in little endian."""
    head = opened.head
    pixels = head.pixel_data
    assert pixels is not None
    vr = _pixel_vr(head)
    width = 1
    if head.transfer_syntax_uid in BIG_ENDIAN:
        allocated = values_of(head.dataset, _ALLOCATED, "US") or [8]
        width = 1 if head.transfer_syntax_uid == GE_PRIVATE_BIG and allocated[0] == 8 else _WORDS.get(vr, 1)
        if allocated[0] in (32, 64) and vr == "OW":
            width = allocated[0] // 8
    length = pixels.length or 0
    return vr, (explicit.turned(piece, width) for piece in explicit.pieces_of(opened.inner, pixels.offset, length))


def _pixel_vr(head: Head) -> str:
    """OB or OW as it was written; OW of what is neither, as all of Implicit VR (PS3.5 A.1, A.2)."""
    pixels = head.pixel_data
    assert pixels is not None
    if pixels.tag != tags.PixelData.number:
        return "OF" if pixels.tag == tags.FloatPixelData.number else "OD"
    return pixels.vr if pixels.vr in ("OB", "OW") else "OW"


def _turned(source: bytes, width: int) -> bytes:
    return np.frombuffer(source, f">u{width}").astype(f"<u{width}").tobytes()


def _little(values: Any) -> bytes:
    return bytes(np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False).tobytes())
