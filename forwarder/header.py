"""What the forwarder needs to know of a DICOM file: a walk over its top-level elements, without recursion or trust.

pydicom reads nested sequences recursively and takes declared lengths at their word, which a hostile file can use. This
walk keeps a flat stack, reads at most `LIMIT` bytes of header, and gives up quietly: the archive is the judge of a file,
the forwarder only wants to know it a little better.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

EXPLICIT_LE = "1.2.840.10008.1.2.1"
IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

LIMIT = 4 * 1024 * 1024  # bytes of header
MAX_DEPTH = 64
MAX_VALUE = 1024  # bytes of a value worth keeping
UNDEFINED = 0xFFFFFFFF
PIXEL_DATA = (0x7FE0, 0x0010)
LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)

Tag = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Element:
    """A top-level element: where it starts, where its value starts (offsets in bytes), and its declared length."""

    tag: Tag
    vr: bytes
    start: int
    value_at: int
    length: int


@dataclass(frozen=True, slots=True)
class Header:
    """The top-level elements before Pixel Data (short values as raw bytes), and Pixel Data's place."""

    transfer_syntax_uid: str
    data_set_at: int
    values: dict[Tag, bytes]
    pixel_data: Element | None

    def text(self, tag: Tag) -> str | None:
        """A value as text without padding, or None if absent or empty."""
        raw = self.values.get(tag, b"").rstrip(b"\0 ").strip()
        return raw.decode("ascii", "replace") or None

    def number(self, tag: Tag) -> int | None:
        """A US value of a little endian file, or None."""
        raw = self.values.get(tag, b"")
        return int.from_bytes(raw, "little") if len(raw) == 2 else None

    @property
    def study_instance_uid(self) -> str | None:
        return _uid(self.text((0x0020, 0x000D)))

    @property
    def sop_instance_uid(self) -> str | None:
        return _uid(self.text((0x0008, 0x0018)))

    @property
    def sop_class_uid(self) -> str | None:
        return _uid(self.text((0x0008, 0x0016)))

    @property
    def modality(self) -> str | None:
        return self.text((0x0008, 0x0060))


def _uid(text: str | None) -> str | None:
    if text and len(text) <= 64 and set(text) <= set("0123456789."):
        return text
    return None


def looks_like_dicom(head: bytes) -> bool:
    """Whether the first 132 bytes or more look like DICOM: a Part 10 prefix, or a data set that starts at once."""
    return (
        head[128:132] == b"DICM" or head[:2] in (b"\x02\x00", b"\x08\x00") or head[:4] == b"\x00\x08\x00\x05"
    )


def read_header(file: BinaryIO) -> Header | None:
    """Walk over the head of a DICOM file; None where nothing useful can be learnt. PS3.10 7, PS3.5 7.

    Never raises for what a file contains; OSError when it cannot be read.
    """
    file.seek(0)
    start = 132 if file.read(132)[128:132] == b"DICM" else 0
    file.seek(start)
    syntax = None
    at = start
    try:
        for element in _walk(file, start, implicit=False, order="<"):
            if element.tag[0] != 0x0002:
                break
            at = element.value_at + element.length
            if element.tag == (0x0002, 0x0010):
                file.seek(element.value_at)
                syntax = file.read(min(element.length, 64)).rstrip(b"\0 ").decode("ascii", "replace")
            file.seek(at)
    except (struct.error, ValueError):
        pass  # an implicit data set behind the (always explicit) file meta: `at` is where it begins
    if syntax is None:
        file.seek(at)
        syntax = _guess_syntax(file.read(6))
    if syntax == DEFLATED:
        return Header(syntax, at, {}, None)
    return _data_set(file, at, syntax)


def _guess_syntax(head: bytes) -> str:
    if not (head[4:6].isalpha() and head[4:6].isupper()):
        return IMPLICIT_LE
    return EXPLICIT_LE if head[1:2] == b"\0" else EXPLICIT_BE


def _data_set(file: BinaryIO, at: int, syntax: str) -> Header:
    values: dict[Tag, bytes] = {}
    pixel_data = None
    file.seek(at)
    order = ">" if syntax == EXPLICIT_BE else "<"
    try:
        for element in _walk(file, at, implicit=syntax == IMPLICIT_LE, order=order):
            if element.tag == PIXEL_DATA:
                pixel_data = element
                break
            if 0 < element.length <= MAX_VALUE and element.vr != b"SQ":
                file.seek(element.value_at)
                values[element.tag] = file.read(element.length)
                file.seek(element.value_at + element.length)
    except (struct.error, ValueError):
        pass  # a broken header: what was read so far is still the best effort
    return Header(syntax, at, values, pixel_data)


def _walk(file: BinaryIO, at: int, *, implicit: bool, order: str) -> Iterator[Element]:
    """The top-level elements from `at` on. The caller leaves the file where it finds it, or at the element's end.

    Stops at the end of the file; ValueError for what is beyond the limits, struct.error for what is cut short.
    """
    stack: list[
        bool
    ] = []  # one entry for each open sequence or item of undefined length: is its content implicit VR
    begin = at
    while True:
        if at - begin > LIMIT or len(stack) > MAX_DEPTH:
            raise ValueError("the header is too large or too deep")
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return
        now_implicit = stack[-1] if stack else implicit
        group, number = struct.unpack(order + "HH", head[:4])
        vr, length, value_at = _vr_and_length(file, head, group, now_implicit, order, at)
        if group == 0xFFFE and number in (0xE00D, 0xE0DD):  # a delimiter
            if not stack:
                return
            stack.pop()
            at = value_at
            continue
        if length == UNDEFINED:
            if not stack:
                yield Element((group, number), vr, at, value_at, UNDEFINED)
            stack.append(
                now_implicit or vr == b"UN"
            )  # PS3.5 6.2.2 note: UN of undefined length is implicit VR
            at = value_at
            continue
        if not stack:
            yield Element((group, number), vr, at, value_at, length)
        at = value_at + length


def _vr_and_length(
    file: BinaryIO, head: bytes, group: int, implicit: bool, order: str, at: int
) -> tuple[bytes, int, int]:
    if implicit or group == 0xFFFE:
        return b"", struct.unpack(order + "L", head[4:8])[0], at + 8
    vr = head[4:6]
    if vr in LONG_VRS:
        return vr, struct.unpack(order + "L", file.read(4))[0], at + 12
    if not vr.isalpha():
        raise ValueError("no VR where one should be")
    return vr, struct.unpack(order + "H", head[6:8])[0], at + 8
