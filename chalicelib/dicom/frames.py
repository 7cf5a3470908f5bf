"""Where each frame lies in an object, so that one ranged read fetches it (PS3.5 8.1, A.4; PS3.3 C.7.6.3).

Native frames follow from what `dicom.pixels` says of them. Encapsulated ones follow from the Extended Offset Table,
from the Basic Offset Table, or, where there is neither or it is wrong, from the heads of the fragments, read one after the
other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from struct import unpack

from pydicom.dataelem import RawDataElement

from chalicelib.dicom import codestream
from chalicelib.dicom.elements import ITEM, SEQUENCE_END, Encoding, item_head
from chalicelib.dicom.header import END_OF_STREAM, END_WITHIN, Head, PixelData
from chalicelib.dicom.limits import Limits
from chalicelib.dicom.pixels import FAMILIES, PixelDescription, declared_frames, describe
from chalicelib.dicom.source import Fetch, RangeSource, Source
from chalicelib.domain import tags
from chalicelib.domain.rejections import Rejected

_LITTLE = Encoding(implicit=False, little_endian=True)
_EXTENDED_OFFSETS, _EXTENDED_LENGTHS = tags.ExtendedOffsetTable.number, tags.ExtendedOffsetTableLengths.number
_MOST_FRAMES = 100_000
_MOST_FRAGMENTS = 400_000
_MOST_FETCHES = 4096
_MOST_OF_A_FRAME = 4096
"""Fragments of one frame to which a table leads."""
_SOME_PROVED, MOST_PROVED = 64, 256
"""Entries of a table that are looked at, at most: where no frame is wanted, and of those that are."""
_LOOKED_THROUGH = 4 * 1024 * 1024
"""Bytes of an object whose fragments are counted when it is indexed, if its tables do not list its frames."""
_ITEM_WORDS = int.from_bytes(b"\xfe\xff\x00\xe0", "little")
_HEADS = 1024
"""Bytes of a read that looks at the head of a fragment."""


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


def locate_frames(
    head: Head, fetch: Fetch, limits: Limits | None = None, count: int | None = None, wanted: Sequence[int] | None = None
) -> list[Extent]:
    """The extent of every frame, the first frame first: of those that are there, where Number of Frames says
    otherwise. Native ones need no read; those in tables one for each that is looked at.

    `count`: how many there are, where that is not Number of Frames: a video is one stream of all. `wanted`:
    the frames (from 0) for which a table must prove right; some of all where it is None. A table that does
    not lead to fragments is not believed.

    Raises `FrameError`, for an object without pixels and for a deflated one too, whose extents would not be
    the object's; and what `fetch` raises.
    """
    if head.deflated:
        raise FrameError("deflated")
    return extents_in(head, fetch, limits, count, wanted)


def extents_in(
    head: Head, fetch: Fetch, limits: Limits | None = None, count: int | None = None, wanted: Sequence[int] | None = None
) -> list[Extent]:
    """`locate_frames`, of a deflated object in its inflated data set, which `fetch` then reads."""
    pixels, described = head.pixel_data, describe(head)
    if pixels is None or described is None:
        raise FrameError("no Pixel Data")
    if described.facts.frames_fault:
        raise FrameError(described.facts.frames_fault)
    if pixels.length is not None:
        return _native(pixels.offset, described.frame_bits, described.facts.frames)
    count = count or described.declared_frames
    if count > _MOST_FRAMES:
        raise FrameError(f"{count} frames")
    bounds = replace(limits or Limits(), fetches=min(4 * count + 64, _MOST_FETCHES))
    size = _end(head)
    try:
        return _encapsulated(head, pixels.offset, count, size, RangeSource(fetch, size, bounds), fetch, wanted)
    except Rejected as broken:
        raise FrameError(broken.detail) from None


def examine(head: Head, fetch: Fetch) -> PixelDescription | None:
    """What the pixels of an instance are, its first compressed stream and, where that is cheap, its fragments looked at.

    Reads what came with the head, or one range more. Raises what `fetch` raises.
    """
    pixels = head.pixel_data
    if pixels is None or pixels.length is not None or head.deflated or head.transfer_syntax_uid not in FAMILIES:
        return describe(head)
    stream, listed = _first_stream(head, pixels, fetch)
    if declared_frames(head.dataset) == listed or head.size > _LOOKED_THROUGH:
        return describe(head, stream)
    try:
        located: int | str = len(locate_frames(head, fetch))
    except FrameError as error:
        located = f"its frames cannot be told apart: {error}"
    return describe(head, stream, located)


def _first_stream(head: Head, pixels: PixelData, fetch: Fetch) -> tuple[bytes | None, int]:
    """(the beginning of the first fragment, how many frames the Basic Offset Table lists; one where it lists none of one)."""

    def read(start: int, length: int) -> bytes:
        held = pixels.begins[start - pixels.offset : start - pixels.offset + length]
        end = min(start + length, head.size)
        return held if start + len(held) >= end else fetch(start, end - start)

    item = read(pixels.offset, 8)
    if len(item) < 8 or int.from_bytes(item[:4], "little") != _ITEM_WORDS:
        return None, 0
    table = int.from_bytes(item[4:], "little")
    if _begins(read(pixels.offset + 8, min(table, 12))):
        return read(pixels.offset + 8, min(table, codestream.HEAD)), 0
    data = read(pixels.offset + 8 + table, 8 + codestream.HEAD)
    length = int.from_bytes(data[4:8], "little")
    listed = table // 4 if table else int(pixels.offset + 8 + table + 8 + length >= head.size - 8)
    return data[8 : 8 + length], listed


def only_frame(data: bytes) -> bytes:
    """The frame of encapsulated pixels with one frame, from the Basic Offset Table on (PS3.5 A.4). Raises `FrameError`."""
    source = RangeSource(lambda start, length: data[start : start + length], len(data), replace(Limits(), fetches=_MOST_FETCHES))
    try:
        length = _table_length(source, 0)
        (extent,) = _walk(source, 8 + length if length is not None else 0, 1)[:1]
    except Rejected as broken:
        raise FrameError(broken.detail) from None
    return frame_bytes(extent, data[extent.start : extent.start + extent.length])


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
    if not parts:
        raise FrameError("no fragment where a frame should be")
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
    if not found:
        raise FrameError("no fragment where a frame should be")
    return found


def _native(offset: int, bits: int, count: int) -> list[Extent]:
    if bits % 8 == 0:
        size = bits // 8
        return [Extent(offset + number * size, size) for number in range(count)]
    extents = []
    for first in range(0, bits * count, bits):
        start, end = first // 8, (first + bits + 7) // 8
        extents.append(Extent(offset + start, end - start, skip=first % 8, bits=bits))
    return extents


def _end(head: Head) -> int:
    """Where the object ends; of a deflated one nobody knows where its inflated data set does, but for a limit."""
    return Limits().inflated if head.deflated else head.size


def _encapsulated(
    head: Head, offset: int, count: int, size: int, source: RangeSource, fetch: Fetch, wanted: Sequence[int] | None
) -> list[Extent]:
    length = _table_length(source, offset)
    first = offset + 8 + length if length is not None else offset
    table = _extended(head, first, count, size, fetch)
    if table is None and length == 4 * count and count > 1:
        offsets = unpack(f"<{count}L", source.read(offset + 8, length))
        if _ascending(offsets, size - first):
            ends = [*offsets[1:], size - first]
            table = [Extent(first + start, end - start, True) for start, end in zip(offsets, ends, strict=True)]
    if table is not None and _leads(table, fetch, size, wanted):
        return table
    return _walk(source, first, count)


def _table_length(source: RangeSource, offset: int) -> int | None:
    """Length of the Basic Offset Table; None where the first frame stands in its place, since the writer left it out."""
    tag, length = item_head(source, offset, _LITTLE)
    if tag != ITEM or length is None:
        raise FrameError("no Basic Offset Table")
    return None if _begins(source.read(offset + 8, min(length, 12))) else length


def _extended(head: Head, first: int, count: int, size: int, fetch: Fetch) -> list[Extent] | None:
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
    if not _ascending(offsets, size - first):
        return None
    extents = [Extent(first + start, 8 + length + length % 2, True) for start, length in zip(offsets, lengths, strict=True)]
    return extents if all(extent.start + extent.length <= size for extent in extents) else None


def _leads(table: Sequence[Extent], fetch: Fetch, size: int, wanted: Sequence[int] | None) -> bool:
    """Whether a table leads to fragments that end where the next frame begins, at the frames that are wanted, or at some."""
    if wanted is None:
        wanted = [*range(0, len(table), len(table) // _SOME_PROVED + 1), len(table) - 1]
    ordered = sorted({number for number in wanted if number < len(table)})[:MOST_PROVED]
    source = RangeSource(fetch, size, replace(Limits(), first_range=_HEADS, fetches=_MOST_FETCHES))
    try:
        return all(_leads_to(source, table[number], last=number == len(table) - 1) for number in ordered)
    except Rejected:
        return False


def _leads_to(source: RangeSource, extent: Extent, *, last: bool) -> bool:
    position, end = extent.start, extent.start + extent.length
    for _ in range(_MOST_OF_A_FRAME):
        tag, length = item_head(source, position, _LITTLE)
        if tag == SEQUENCE_END and last:
            return position > extent.start
        if tag != ITEM or length is None:
            return False
        position += 8 + length
        if position >= end:
            return position == end
    return False


def _walk(source: RangeSource, position: int, count: int) -> list[Extent]:
    """No table: a frame begins with the fragment in which a stream begins, or each fragment is one, or a frame
    ends with the fragment that has its marker, or all are one.
    """
    fragments: list[Extent] = []
    by_start: list[int] = []
    by_marker: list[Extent] = []
    start = first = position
    for at, length in walk_fragments(source, position):
        end = at + 8 + length
        fragments.append(Extent(at, 8 + length, True))
        if _begins(source.read(at + 8, min(length, 12))):
            by_start.append(at)
        if END_OF_STREAM in source.read(max(at + 8, end - END_WITHIN), min(length, END_WITHIN)):
            by_marker.append(Extent(start, end - start, True))
            start = end
        if len(fragments) > _MOST_FRAGMENTS:
            raise FrameError(f"more than {_MOST_FRAGMENTS} fragments")
    if not fragments:
        raise FrameError("no fragment")
    last = fragments[-1].start + fragments[-1].length
    begun = [Extent(start, end - start, True) for start, end in pairwise([*by_start, last])] if by_start[:1] == [first] else []
    if count == 1:
        return begun[:1] or [Extent(first, last - first, True)]
    for found in (begun, fragments, by_marker):
        if len(found) == count:
            return found
    if begun:  # Number of Frames is wrong: those that are there
        return begun
    raise FrameError(f"{count} frames in {len(fragments)} fragments without an offset table")


def walk_fragments(source: Source, position: int) -> Iterator[tuple[int, int]]:
    """(where its item begins, length of its value) of each fragment, until a delimiter of whatever length, zeros, or
    the object's end. An odd length may stand for an even one. Raises `FrameError`, and Rejected as `source` does.
    """
    odd = False
    while source.size is None or position + 8 <= source.size:
        tag, length = item_head(source, position, _LITTLE)
        if odd and tag not in (ITEM, SEQUENCE_END):
            position += 1
            odd = False
            continue
        if tag == SEQUENCE_END or (tag, length) == (0, 0):
            return
        if tag != ITEM or length is None:
            raise FrameError(f"no fragment at {position}")
        if source.size is not None and position + 8 + length > source.size:
            raise FrameError(f"a fragment of {length} bytes in {source.size - position - 8}")
        yield position, length
        position += 8 + length
        odd = length % 2 == 1


def _begins(data: bytes) -> bool:
    """Whether a compressed stream begins here: one of the JPEGs, or an RLE header (PS3.5 G.5)."""
    segments = int.from_bytes(data[:4], "little")
    return codestream.starts(data) or (1 <= segments <= 15 and data[4:8] == b"\x40\0\0\0")


def _ascending(offsets: Sequence[int], end: int) -> bool:
    pairs = zip(offsets, [*offsets[1:], end], strict=True)
    return offsets[0] == 0 and all(start + 8 <= following for start, following in pairs)


def _shifted(data: bytes, skip: int, bits: int) -> bytes:
    """Pixels of one bit, the first in the lowest bit of the first byte (PS3.5 8.1.1, D.)."""
    whole = (int.from_bytes(data, "little") >> skip) & ((1 << bits) - 1)
    return whole.to_bytes((bits + 7) // 8, "little")
