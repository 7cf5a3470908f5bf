"""One frame, decoded: its cells as they are stored, and what its samples are (PS3.5 8)."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from chalicelib.dicom.header import EXPLICIT_BIG, GE_PRIVATE_BIG
from chalicelib.dicom.pixels import Layout
from pixels import decoders, rle
from pixels.errors import Undecodable
from pixels.instance import OpenInstance

MOST_DECODED = 1024 * 1024 * 1024
"""Bytes of pixels that are decoded at once."""
BIG_ENDIAN = frozenset({EXPLICIT_BIG, GE_PRIVATE_BIG})


def cells(opened: OpenInstance, index: int) -> tuple[Any, str]:
    """(the cells of frame `index`, from 0: rows, columns and, in colour, samples; what they are, a photometric interpretation).

    A cell has the bits that are allocated, those that are not stored included. Raises Undecodable.
    """
    described, layout = opened.described, opened.described.layout
    if described.facts.picture_fault:
        raise Undecodable(described.facts.picture_fault)
    check_size(layout)
    source = opened.frame(index)
    family = described.family
    if family == "deflated":
        source, family = _inflated(source, described.frame_bits), "native"
    if family == "native":
        found, photometric = native(
            source, layout, shared=described.shared, big_endian=opened.head.transfer_syntax_uid in BIG_ENDIAN
        )
        return found, "YBR_FULL" if photometric == "YBR_FULL_422" else photometric
    if family == "rle":
        found = rle.decode(source, layout)
        return found.view(found.dtype.str.replace("u", "i")) if layout.signed else found, decoders.without_transform(layout)
    return decoders.decode(source, layout, family)


def check_size(layout: Layout, frames: int = 1) -> None:
    """Raises Undecodable for more than is decoded at once."""
    if frames * layout.rows * layout.columns * layout.samples * (layout.allocated + 7) // 8 > MOST_DECODED:
        raise Undecodable("its pixels are too many to be decoded at once")


def native(source: bytes, layout: Layout, *, shared: bool, big_endian: bool) -> tuple[Any, str]:
    """The cells of one native frame (PS3.5 8.1.1, 8.2; PS3.3 C.7.6.3.1)."""
    rows, columns, samples = layout.rows, layout.columns, layout.samples
    count = rows * columns * (2 if shared else samples)
    if layout.allocated == 1:
        bits = np.unpackbits(np.frombuffer(source, np.uint8), bitorder="little")
        return _whole(bits, count).reshape(rows, columns), layout.photometric
    kind = "f" if layout.real else "i" if layout.signed else "u"
    order = ">" if big_endian else "<"
    found = _whole(
        np.frombuffer(source[: count * layout.allocated // 8], np.dtype(f"{order}{kind}{layout.allocated // 8}")), count
    )
    found = found.astype(found.dtype.newbyteorder("<"), copy=False)
    if samples == 1:
        return found.reshape(rows, columns), layout.photometric
    if shared:  # luminance of two pixels, then the colour that they share
        pairs = found.reshape(rows, columns // 2, 4)
        full = np.empty((rows, columns // 2, 2, 3), found.dtype)
        full[..., 0] = pairs[..., :2]
        full[..., 1:] = pairs[..., None, 2:]
        partial = layout.photometric == "YBR_PARTIAL_422"
        return full.reshape(rows, columns, 3), "YBR_PARTIAL" if partial else "YBR_FULL"
    if layout.planar:
        return np.ascontiguousarray(found.reshape(samples, rows, columns).transpose(1, 2, 0)), layout.photometric
    return found.reshape(rows, columns, samples), layout.photometric


def _whole(found: Any, count: int) -> Any:
    if found.size < count:
        raise Undecodable("its pixels end too early")
    return found[:count]


def _inflated(source: bytes, bits: int) -> bytes:
    """A frame of Deflated Image Frame Compression (PS3.5 8.2.16, A.4.13), and not a byte more than it should have."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(source, (bits + 7) // 8)
    except zlib.error as error:
        raise Undecodable("its deflated frame is broken") from error
