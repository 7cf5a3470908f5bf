"""The heads of data elements and items: tag, VR, length (PS3.5 7.1, 7.5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

from pydicom.dataset import Dataset

from chalicelib.dicom.source import Source
from chalicelib.dicom.vr import KNOWN_VR, LONG_VR, public_vr
from chalicelib.domain import tags
from chalicelib.domain.rejections import Rejected

UNDEFINED = 0xFFFFFFFF
PADDING = b"\0 \r\n\x1a"
"""What files end with beside their elements: zeros, blanks, line ends, the end of a text file."""
_BLANK_VR = frozenset({b"  ", b"\0\0", b"??"})
_PLAUSIBLE = 1 << 28
_FIRST_GROUPS = {b"\x02\0": True, b"\x08\0": True, b"\0\x02": False, b"\0\x08": False}
"""The groups with which data sets begin, in either order of bytes; there are none that are the one in the other's order."""
ITEM, ITEM_END, SEQUENCE_END = tags.Item.number, tags.ItemDelimitationItem.number, tags.SequenceDelimitationItem.number
SEQUENCE_END_BYTES = {True: b"\xfe\xff\xdd\xe0\0\0\0\0", False: b"\xff\xfe\xe0\xdd\0\0\0\0"}

Path = tuple[int, ...]
"""Where an element is: tag, item number, tag, item number, …, tag. Items count from 0."""


class LeftOut(NamedTuple):
    """A value that stayed in the object: its element's path and VR, its value's offset and length in bytes.

    Of an encapsulated value the length includes items and delimiter.
    """

    path: Path
    vr: str
    offset: int
    length: int


STREAMED = tags.numbers(tags.PerFrameFunctionalGroupsSequence)
"""Per-frame Functional Groups Sequence: of a segmentation, tens of thousands of items (PS3.3 C.7.6.16)."""


@dataclass(frozen=True, slots=True)
class Streaming:
    """Items of sequences that are too long to be held, handed on one by one and forgotten: those that are `wanted` by the
    sequence's tag and their number, from 0.
    """

    wanted: Callable[[int, int], bool]
    each: Callable[[int, int, Dataset, list[LeftOut]], None]


class Element(NamedTuple):
    """A data element's head. `vr` is None in implicit VR, `length` None where undefined, `value` the
    value's offset.
    """

    tag: int
    vr: str | None
    length: int | None
    value: int
    implicit: bool


class Encoding(NamedTuple):
    """How a data set is encoded."""

    implicit: bool
    little_endian: bool


_TAG_LENGTH = {True: Struct("<HHL").unpack_from, False: Struct(">HHL").unpack_from}
_SHORT = {True: Struct("<H").unpack_from, False: Struct(">H").unpack_from}
_LONG = {True: Struct("<L").unpack_from, False: Struct(">L").unpack_from}


def element_head(source: Source, position: int, encoding: Encoding) -> Element | None:
    """The element at `position`, None at the end. Up to seven bytes of padding count as the end, and so do line ends.

    In explicit VR, two bytes that are no letters mean that this element is implicit, as some writers make it, or that its VR
    was left blank: whichever length another element follows. Letters that are no VR have a 32-bit length when their reserved
    bytes are zero and it fits, as all later VRs do, else 16.
    """
    data = source.read(position, 12)
    if len(data) < 8:
        if data.strip(PADDING):
            raise Rejected("truncated", f"{len(data)} bytes of an element at {position}")
        return None
    little_endian = encoding.little_endian
    group, element, length = _TAG_LENGTH[little_endian](data)
    tag = group << 16 | element
    code = data[4:6]
    if encoding.implicit or group == 0xFFFE:
        return Element(tag, None, None if length == UNDEFINED else length, position + 8, True)
    if not (code.isalpha() and code.isupper()):
        if code.upper() not in LONG_VR or data[6:8] != b"\0\0":
            return _without_vr(source, position, encoding, tag, length, KNOWN_VR.get(code.upper()))
        code = code.upper()
    vr = KNOWN_VR.get(code, "UN")
    short = _SHORT[little_endian](data, 6)[0]
    reserved = code not in KNOWN_VR and short == 0 and len(data) == 12
    if code in LONG_VR or (reserved and not is_head(source.read(position, 16)[8:], tag, encoding)):
        if len(data) < 12:
            raise Rejected("truncated", f"{len(data)} bytes of an element at {position}")
        length = _LONG[little_endian](data, 8)[0]
        if code in LONG_VR or source.size is None or position + 12 + length <= source.size:
            return Element(tag, vr, None if length == UNDEFINED else length, position + 12, False)
    return Element(tag, vr, short, position + 8, False)


def _without_vr(source: Source, position: int, encoding: Encoding, tag: int, length: int, vr: str | None) -> Element:
    """An element of an explicit data set whose VR is no capitals: blanks, NULs, `??`, small letters (`vr`), or missing."""
    (short,) = _SHORT[encoding.little_endian](source.read(position + 6, 2))
    blank = Element(tag, vr, short, position + 8, False)
    implicit = Element(tag, None, None if length == UNDEFINED else length, position + 8, True)
    follows = source.read(position, 8 + short + 8)[8 + short :]
    if length != UNDEFINED and (not follows or is_head(follows, tag, encoding)):
        return blank
    fits = length == UNDEFINED or source.size is None or position + 8 + length <= source.size
    return implicit if fits else blank


def is_head(data: bytes, before: int, encoding: Encoding) -> bool:
    """Whether these eight bytes look like the head of an element that comes after the tag `before`, or of a delimiter."""
    if len(data) < 8:
        return not data.strip(PADDING)
    group, element, length = _TAG_LENGTH[encoding.little_endian](data)
    tag = group << 16 | element
    if group == 0xFFFE:
        return element in (0xE000, 0xE00D, 0xE0DD)
    if encoding.implicit:
        return tag > before and (length == UNDEFINED or length < _PLAUSIBLE) and (bool(group % 2) or public_vr(tag) != "UN")
    return data[4:6] in KNOWN_VR or (tag > before and data[4:6] in _BLANK_VR)


def item_head(source: Source, position: int, encoding: Encoding) -> tuple[int, int | None]:
    """Tag and length of the item or delimiter at `position`; the length is None where undefined."""
    data = source.read(position, 8)
    if len(data) < 8:
        raise Rejected("truncated", f"the object ends inside a sequence at {position}")
    group, element, length = _TAG_LENGTH[encoding.little_endian](data)
    return group << 16 | element, None if length == UNDEFINED else length


def shown_encoding(source: Source, position: int, declared: Encoding) -> Encoding:
    """The encoding that the data set at `position` shows by its first element, since writers err in it.

    What is declared counts where nothing can be seen.
    """
    data = source.read(position, 6)
    if len(data) < 6 or data[:2] in (b"\xfe\xff", b"\xff\xfe"):
        return declared
    implicit = not (data[4:6].isalpha() and data[4:6].isupper())
    little_endian = _FIRST_GROUPS.get(data[:2], declared.little_endian)
    return Encoding(implicit, little_endian)


def name(tag: int) -> str:
    """A tag as the standard writes it, for error texts."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
