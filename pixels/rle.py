"""RLE Lossless (PS3.5 annex G): each byte of each sample is a segment of its own, most significant first."""

from __future__ import annotations

from struct import unpack_from
from typing import Any

import numpy as np

from chalicelib.dicom.pixels import Layout
from pixels.errors import Undecodable


def decode(source: bytes, layout: Layout) -> Any:
    """Unsigned samples of rows, columns and, in colour, samples of a pixel. Raises Undecodable."""
    width = layout.allocated // 8
    planes, count = layout.samples * width, layout.rows * layout.columns
    if len(source) < 64 or width not in (1, 2, 4, 8):
        raise Undecodable("its RLE frame has no header")
    segments, *offsets = unpack_from("<16L", source)
    if segments != planes:
        raise Undecodable(f"its RLE frame has {segments} segments, where {planes} should be")
    ends = [*offsets[1:segments], len(source)]
    cells = np.zeros((layout.samples, count), np.dtype(f"<u{width}"))
    for plane, (start, end) in enumerate(zip(offsets[:segments], ends, strict=True)):
        if not 64 <= start < end <= len(source):
            raise Undecodable("the segments of its RLE frame are not where its header says")
        data = np.frombuffer(_unpacked(source, start, end, count), np.uint8).astype(cells.dtype)
        cells[plane // width] |= data << np.array(8 * (width - 1 - plane % width), cells.dtype)
    if layout.samples == 1:
        return cells.reshape(layout.rows, layout.columns)
    return cells.reshape(layout.samples, layout.rows, layout.columns).transpose(1, 2, 0)


def _unpacked(source: bytes, position: int, end: int, count: int) -> bytes:
    """One segment (G.3.2); what follows its `count` bytes is padding. Raises Undecodable."""
    out = bytearray()
    while len(out) < count and position < end:
        control = source[position]
        if control < 128:
            out += source[position + 1 : min(position + 2 + control, end)]
            position += 2 + control
        elif control > 128:
            out += source[position + 1 : position + 2] * (257 - control)
            position += 2
        else:
            position += 1
    if len(out) < count:
        raise Undecodable("a segment of its RLE frame ends too early")
    return bytes(out[:count])
