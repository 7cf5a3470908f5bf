"""Lookup tables: of modality, VOI and palettes (PS3.3 C.11.1, C.11.2, C.7.6.3.1.5, C.7.9.2).

Descriptors and data are read as they are meant, since writers err in both: entries of eight bits in one byte or in one word
each, bits that do not fit the entries, a first value whose sign follows that of the pixels and not of its VR.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chalicelib.domain import tags
from pixels.errors import Unrenderable
from pixels.instance import Node, Words

_MOST_ENTRIES = 1 << 16


@dataclass(frozen=True)
class LookupTable:
    """`entries` from the value `first` on; each uses `bits`."""

    first: int
    entries: Any
    bits: int

    def look_up(self, values: Any) -> Any:
        """The entry of each value; those before and behind the table get its first and last one."""
        return self.entries[np.clip(values.astype(np.int64) - self.first, 0, len(self.entries) - 1)]


def read(node: Node, descriptor_tag: int, data_tag: int, *, signed: bool) -> LookupTable | None:
    """A table of a data set or item; None where there is none. `signed`: whether its input may be negative.

    Raises Unrenderable for one that cannot be read.
    """
    descriptor, data = node.words(descriptor_tag), node.words(data_tag)
    if descriptor is None or data is None:
        return None
    count, first, bits = _descriptor(descriptor, signed=signed)
    entries = _entries(data, count, bits)
    return LookupTable(first, entries, used_bits(entries, bits))


def palette(node: Node, *, signed: bool) -> tuple[list[LookupTable], int]:
    """(the tables of red, green and blue; the bits of their entries). Raises Unrenderable."""
    tables = []
    declared = 8
    for colour in range(3):  # the tags of green and blue follow that of red (PS3.6)
        descriptor = node.words(tags.RedPaletteColorLookupTableDescriptor.number + colour)
        data, segmented = (
            node.words(tags.RedPaletteColorLookupTableData.number + colour),
            node.words(tags.SegmentedRedPaletteColorLookupTableData.number + colour),
        )
        if descriptor is None or (data is None and segmented is None):
            raise Unrenderable("its palette is not there")
        count, first, declared = _descriptor(descriptor, signed=signed)
        if data is not None:
            entries = _entries(data, count, declared)
        else:
            assert segmented is not None
            entries = _segments(_entries(segmented, None, declared), count)
        tables.append(LookupTable(first, entries, declared))
    entries = np.concatenate([table.entries for table in tables])
    return tables, used_bits(entries, declared)


def used_bits(entries: Any, declared: int) -> int:
    """The bits of the entries: as declared, unless the entries have more, or fill one byte of two."""
    most = int(entries.max()).bit_length()
    if not 1 <= declared <= 16 or most > declared:
        return 16 if most > 8 and not 8 < declared <= 16 else max(8, most)
    return 8 if declared == 16 and most <= 8 else declared


def _descriptor(value: Words, *, signed: bool) -> tuple[int, int, int]:
    data, little, _ = value
    if len(data) < 6:
        raise Unrenderable("the descriptor of a lookup table is too short")
    count, first, bits = (int(number) for number in np.frombuffer(data[:6], "<u2" if little else ">u2"))
    return count or _MOST_ENTRIES, first - 0x10000 if signed and first >= 0x8000 else first, bits


def _entries(value: Words, count: int | None, bits: int) -> Any:
    """The entries: one a word, or, where there are only as many bytes as entries, one a byte."""
    data, little, octets = value
    if count is None:
        return np.frombuffer(data[: len(data) // 2 * 2] if bits > 8 else data, ("<u2" if little else ">u2") if bits > 8 else "u1")
    if len(data) >= 2 * count:
        return np.frombuffer(data[: 2 * count], "<u2" if little else ">u2")
    if len(data) >= count and len(data) <= count + 1:
        if not little and not octets:  # bytes in big endian words
            words = bytearray(data[: len(data) // 2 * 2])
            words[0::2], words[1::2] = words[1::2], words[0::2]
            data = bytes(words) + data[len(words) :]
        return np.frombuffer(data[:count], "u1").astype(np.uint16)
    raise Unrenderable(f"a lookup table of {count} entries has {len(data)} bytes")


def _segments(codes: Any, count: int) -> Any:
    """A segmented palette, laid out (C.7.9.2)."""
    out: list[Any] = []
    made = _segment_list(codes, 0, None, out, 0, count)
    if made < count:
        raise Unrenderable("a segmented palette ends too early")
    return np.concatenate(out)[:count].astype(np.uint16)


def _segment_list(codes: Any, position: int, segments: int | None, out: list[Any], made: int, count: int) -> int:
    while position + 2 < len(codes) and made < count and (segments is None or segments > 0):
        kind, length = int(codes[position]), int(codes[position + 1])
        if kind == 0:
            part = codes[position + 2 : position + 2 + length]
            position += 2 + length
        elif kind == 1:
            if not out or length == 0:
                raise Unrenderable("a segmented palette begins with a line from nowhere")
            begin, end = int(out[-1][-1]), int(codes[position + 2])
            part = np.rint(np.linspace(begin, end, length + 1)[1:]).astype(np.uint16)
            position += 3
        elif kind == 2 and segments is None and position + 2 + (2 if codes.dtype.itemsize == 2 else 4) <= len(codes):
            words = 2 if codes.dtype.itemsize == 2 else 4
            at = sum(int(code) << (8 * codes.dtype.itemsize * place) for place, code in enumerate(codes[position + 2 :][:words]))
            made = _segment_list(codes, at // codes.dtype.itemsize, length, out, made, count)
            position += 2 + words
            continue
        else:
            raise Unrenderable(f"a segmented palette has no segment of kind {kind}")
        if len(part) == 0:
            raise Unrenderable("a segmented palette has an empty segment")
        out.append(part)
        made += len(part)
        segments = None if segments is None else segments - 1
    return made
