"""Where each frame lies in an object, so that one ranged read fetches it (PS3.5 8.1, A.4; PS3.3 C.7.6.3).

Native frames follow from the image's dimensions. Encapsulated ones follow from the Extended Offset Table,
from the Basic Offset Table, or, where there is neither, from the heads of the fragments, read one after the
other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from struct import unpack

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from chalicelib.dicom.elements import ITEM, SEQUENCE_END, Encoding, item_head
from chalicelib.dicom.header import Head, PixelData
from chalicelib.dicom.limits import Limits
from chalicelib.dicom.source import Fetch, RangeSource
from chalicelib.dicom.values import values_of
from chalicelib.domain.rejections import Rejected

_LITTLE = Encoding(implicit=False, little_endian=True)
_EXTENDED_OFFSETS, _EXTENDED_LENGTHS = 0x7FE00001, 0x7FE00002
_MOST_FRAMES = 100_000
_MOST_FRAGMENTS = 400_000
_MOST_FETCHES = 4096
_MARKER = b"\xff\xd9"
_MARKER_WITHIN = 10
"""Bytes at a fragment's end that may hold the marker: padding, and garbage of some encoders, follow it."""


class FrameError(Exception):
    """The frames cannot be told apart: dimensions, tables and fragments do not fit. No values in its text."""


@dataclass(frozen=True, slots=True)
class Extent:
    """One frame's place: `length` bytes from `start` on.

    Where `items` is true these are fragment items with their heads; `frame_bytes` takes the heads off.
    `skip` and `bits` are for one bit per pixel, where a frame may begin inside a byte: bits before it, and
    its own.
    """

    start: int
    length: int
    items: bool = False
    skip: int = 0
    bits: int | None = None


def locate_frames(head: Head, fetch: Fetch, limits: Limits | None = None, count: int | None = None) -> list[Extent]:
    """The extent of every frame, the first frame first. Native ones, and those in tables, need no read, or
    one.

    `count`: how many there are, where that is not Number of Frames: a video is one stream of all.

    Raises `FrameError`, for an object without pixels and for a deflated one too, whose extents would not be
    the object's; and what `fetch` raises.
    """
    pixels = head.pixel_data
    if pixels is None:
        raise FrameError("no Pixel Data")
    if head.deflated:
        raise FrameError("deflated")
    count = count or _frame_count(head.dataset)
    if pixels.length is not None:
        return _native(head, pixels, pixels.length, count)
    source = RangeSource(fetch, head.size, replace(limits or Limits(), fetches=min(4 * count + 64, _MOST_FETCHES)))
    try:
        return _encapsulated(head, pixels.offset, count, source, fetch)
    except Rejected as broken:
        raise FrameError(broken.detail) from None


def frame_bytes(extent: Extent, data: bytes) -> bytes:
    """The frame from the bytes of its extent: fragments joined, bits shifted to the first byte's start.

    Raises `FrameError` where the fragments do not fit.
    """
    if extent.bits is not None:
        return _shifted(data, extent.skip, extent.bits)
    if not extent.items:
        return data
    parts, position = [], 0
    while position + 8 <= len(data):
        group, element, length = unpack("<HHL", data[position : position + 8])
        position += 8
        if group << 16 | element != ITEM:
            break
        if position + length > len(data):
            raise FrameError(f"a fragment of {length} bytes in {len(data) - position}")
        parts.append(data[position : position + length])
        position += length
    return b"".join(parts)


def fragments(extent: Extent, fetch: Fetch) -> list[tuple[int, int]]:
    """(offset, length) of the value of each fragment of a frame in the object, from their heads alone.

    Raises `FrameError` where the fragments do not fit, and what `fetch` raises.
    """
    found: list[tuple[int, int]] = []
    position, end = extent.start, extent.start + extent.length
    while position + 8 <= end:
        group, element, length = unpack("<HHL", fetch(position, 8))
        if group << 16 | element != ITEM:
            break
        if position + 8 + length > end or len(found) > _MOST_FETCHES:
            raise FrameError(f"a fragment of {length} bytes in {end - position - 8}")
        found.append((position + 8, length))
        position += 8 + length
    return found


def frame_length(dataset: Dataset) -> tuple[int, int]:
    """Bits of one native frame, and of all its samples of one pixel (PS3.5 8.1.1; YBR_FULL_422: PS3.3
    C.7.6.3.1.2).
    """
    rows, columns = _number(dataset, 0x00280010), _number(dataset, 0x00280011)
    samples = values_of(dataset, 0x00280002, "US") or [1]
    allocated = _number(dataset, 0x00280100)
    photometric = values_of(dataset, 0x00280004, "CS")
    shared = photometric[:1] in (["YBR_FULL_422"], ["YBR_PARTIAL_422"]) and samples[0] == 3
    pixel = allocated * (2 if shared else int(samples[0]))
    return rows * columns * pixel, pixel


def _native(head: Head, pixels: PixelData, length: int, count: int) -> list[Extent]:
    bits, _ = frame_length(head.dataset)
    if bits == 0:
        raise FrameError("an image without pixels")
    if (bits * count + 7) // 8 > length:
        raise FrameError(f"{count} frames of {bits} bits in {length} bytes")
    if bits % 8 == 0:
        size = bits // 8
        return [Extent(pixels.offset + number * size, size) for number in range(count)]
    extents = []
    for first in range(0, bits * count, bits):
        start, end = first // 8, (first + bits + 7) // 8
        extents.append(Extent(pixels.offset + start, end - start, skip=first % 8, bits=bits))
    return extents


def _encapsulated(head: Head, offset: int, count: int, source: RangeSource, fetch: Fetch) -> list[Extent]:
    tag, length = item_head(source, offset, _LITTLE)
    if tag != ITEM or length is None:
        raise FrameError("no Basic Offset Table")
    first = offset + 8 + length
    table = _extended(head, first, count, fetch)
    if table is not None:
        return table
    if length == 4 * count and count > 1:
        offsets = unpack(f"<{count}L", source.read(offset + 8, length))
        if _ascending(offsets, head.size - first):
            ends = [*offsets[1:], head.size - first]
            return [Extent(first + start, end - start, True) for start, end in zip(offsets, ends, strict=True)]
    return _walk(source, first, count)


def _extended(head: Head, first: int, count: int, fetch: Fetch) -> list[Extent] | None:
    """Extended Offset Table: one fragment for each frame, offsets to its item, lengths of its value
    (C.7.6.3.1.8).
    """
    tables = []
    for tag in (_EXTENDED_OFFSETS, _EXTENDED_LENGTHS):
        element = head.dataset.get_item(tag)
        if isinstance(element, RawDataElement) and element.value:
            data = element.value
        else:
            left = next((left for left in head.left_out if left.path == (tag,)), None)
            if left is None or left.length != 8 * count:
                return None
            data = fetch(left.offset, left.length)
        if len(data) != 8 * count:
            return None
        tables.append(unpack(f"<{count}Q", data))
    offsets, lengths = tables
    if not _ascending(offsets, head.size - first):
        return None
    extents = [Extent(first + start, 8 + length + length % 2, True) for start, length in zip(offsets, lengths, strict=True)]
    return extents if all(extent.start + extent.length <= head.size for extent in extents) else None


def _walk(source: RangeSource, position: int, count: int) -> list[Extent]:
    """No table: all fragments are one frame, or each is one, or a frame ends with the fragment that has its
    marker.

    The marker is JPEG's End of Image and JPEG 2000's End of Codestream, which are the same two bytes.
    """
    frames: list[Extent] = []
    by_marker: list[Extent] = []
    start = first = position
    while True:
        tag, length = item_head(source, position, _LITTLE)
        if tag == SEQUENCE_END:
            break
        if tag != ITEM or length is None:
            raise FrameError(f"no fragment at {position}")
        end = position + 8 + length
        frames.append(Extent(position, end - position, True))
        if _MARKER in source.read(max(position + 8, end - _MARKER_WITHIN), min(length, _MARKER_WITHIN)):
            by_marker.append(Extent(start, end - start, True))
            start = end
        position = end
        if len(frames) > _MOST_FRAGMENTS:
            raise FrameError(f"more than {_MOST_FRAGMENTS} fragments")
    if count == 1 and frames:
        return [Extent(first, position - first, True)]
    for found in (frames, by_marker):
        if len(found) == count:
            return found
    raise FrameError(f"{count} frames in {len(frames)} fragments without an offset table")


def _ascending(offsets: Sequence[int], end: int) -> bool:
    pairs = zip(offsets, [*offsets[1:], end], strict=True)
    return offsets[0] == 0 and all(start + 8 <= following for start, following in pairs)


def _frame_count(dataset: Dataset) -> int:
    values = values_of(dataset, 0x00280008, "IS")
    count = values[0] if values and isinstance(values[0], int) else 1
    if count > _MOST_FRAMES:
        raise FrameError(f"{count} frames")
    return max(1, count)


def _number(dataset: Dataset, tag: int) -> int:
    values = values_of(dataset, tag, "US")
    if not values or not isinstance(values[0], int):
        raise FrameError(f"no {tag:08X}")
    return values[0]


def _shifted(data: bytes, skip: int, bits: int) -> bytes:
    """Pixels of one bit, the first in the lowest bit of the first byte (PS3.5 8.1.1, D.)."""
    whole = (int.from_bytes(data, "little") >> skip) & ((1 << bits) - 1)
    return whole.to_bytes((bits + 7) // 8, "little")
