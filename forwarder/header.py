"""What the forwarder needs to know of a DICOM file: a walk over its top-level elements, without recursion or trust.

pydicom reads nested sequences recursively and takes declared lengths at their word, which a hostile file can use. This
walk keeps a flat stack, reads at most `LIMIT` bytes of header, and gives up quietly: the archive is the judge of a file,
the forwarder only wants to know it a little better.
"""

from __future__ import annotations

import mmap
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

EXPLICIT_LE = "1.2.840.10008.1.2.1"
IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

LIMIT = 4 * 1024 * 1024  # bytes of header
FIRST_READ = 64 * 1024
LIMIT_INFLATED = 256 * 1024  # bytes of a deflated data set that are looked at
MAX_DEPTH = 64
MAX_VALUE = 1024  # bytes of a value worth keeping
UNDEFINED = 0xFFFFFFFF
PIXEL_DATA = (0x7FE0, 0x0010)
STUDY_INSTANCE_UID = (0x0020, 0x000D)
FIRST_GROUPS = (b"\2\0", b"\0\2", b"\x08\0", b"\0\x08")  # 0002 and 0008, of either byte order
OTHER_FORMATS = (b"PK\3\4", b"MZ", b"\x7fELF", b"%PDF", b"\xd0\xcf\x11\xe0", b"Rar!", b"7z\xbc\xaf", b"#!")
"""What a preamble may not begin with: programs and archives that would be DICOM too. The archive knows more of them."""
LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
BLANK_VRS = frozenset({b"  ", b"\0\0", b"??"})
"""What some write where a VR should be; two bytes of length follow."""

_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")

Tag = tuple[int, int]
Buffer = bytes | mmap.mmap


def is_uid(text: str) -> bool:
    """Whether `text` is a UID: digits and dots, at most 64 (PS3.5 9.1; leading zeros, which real modalities make, pass)."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


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
    """The top-level elements before Pixel Data and of the file meta (short values as raw bytes), and Pixel Data's place."""

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
        return _uid(self.text(STUDY_INSTANCE_UID))

    @property
    def sop_instance_uid(self) -> str | None:
        """As the data set says, else as the file meta does."""
        return _uid(self.text((0x0008, 0x0018)) or self.text((0x0002, 0x0003)))

    @property
    def media_storage_sop_instance_uid(self) -> str | None:
        """As the file meta says, which for what came by C-STORE is the request's Affected SOP Instance UID."""
        return _uid(self.text((0x0002, 0x0003)))

    @property
    def sop_class_uid(self) -> str | None:
        """As the data set says, else as the file meta does."""
        return _uid(self.text((0x0008, 0x0016)) or self.text((0x0002, 0x0002)))

    @property
    def modality(self) -> str | None:
        return self.text((0x0008, 0x0060))


def _uid(text: str | None) -> str | None:
    if text and len(text) <= 64 and set(text) <= set("0123456789."):
        return text
    return None


def head_of(file: BinaryIO) -> Header | None:
    """The header of an open file, reading no more of it than needed. OSError when it cannot be read."""
    for limit in (FIRST_READ, LIMIT):
        file.seek(0)
        data = file.read(limit)
        header = read_header(data)
        if len(data) < limit or (header is not None and header.pixel_data is not None):
            return header
    return header


def is_dicom(file: BinaryIO) -> bool:
    """Whether an open file is one that the archive could take: with the prefix and an element behind it (PS3.10 7.1), or without
    preamble a data set that says its SOP class and instance. OSError when it cannot be read.
    """
    file.seek(0)
    begin = file.read(140)
    if begin[128:132] == b"DICM":
        return not begin.startswith(OTHER_FORMATS) and begin[132:134] in FIRST_GROUPS
    if begin[:2] not in FIRST_GROUPS:
        return False
    header = head_of(file)
    return header is not None and bool(header.sop_class_uid) and bool(header.sop_instance_uid)


def read_header(data: Buffer, last: Tag = PIXEL_DATA) -> Header | None:
    """Walk over the head of a DICOM file, up to the element `last`; None where nothing useful can be learnt.

    `data` is the file or its beginning. Never raises for what it contains. PS3.10 7, PS3.5 7.
    """
    at = 132 if data[128:132] == b"DICM" else 0
    syntax = None
    meta: dict[Tag, bytes] = {}
    try:
        for element in walk(data, at, implicit=False, order="<"):
            if element.tag[0] != 0x0002:
                break
            at = element.value_at + element.length
            meta[element.tag] = bytes(data[element.value_at : min(at, element.value_at + 65)])
            if element.tag == (0x0002, 0x0010):
                syntax = meta[element.tag][:64].rstrip(b"\0 ").decode("ascii", "replace")
    except (struct.error, ValueError):
        pass  # an implicit data set behind the (always explicit) file meta: `at` is where it begins
    if syntax is None:
        syntax = _guess_syntax(bytes(data[at : at + 6]))
    if syntax == DEFLATED:
        inside = _data_set(_inflated(data, at), 0, EXPLICIT_LE, last, meta)
        return Header(syntax, at, inside.values, None)
    return _data_set(data, at, syntax, last, meta)


def _inflated(data: Buffer, at: int) -> bytes:
    """The beginning of a deflated data set (PS3.5 A.5), as far as it can be had."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        return inflater.decompress(data[at : at + LIMIT_INFLATED], LIMIT_INFLATED)
    except zlib.error:
        return b""


def _guess_syntax(head: bytes) -> str:
    if not (head[4:6].isalpha() and head[4:6].isupper()):
        return IMPLICIT_LE
    return EXPLICIT_LE if head[1:2] == b"\0" else EXPLICIT_BE


def _data_set(data: Buffer, at: int, syntax: str, last: Tag, meta: dict[Tag, bytes]) -> Header:
    values = dict(meta)
    pixel_data = None
    order = ">" if syntax == EXPLICIT_BE else "<"
    try:
        for element in walk(data, at, implicit=syntax == IMPLICIT_LE, order=order):
            if element.tag == PIXEL_DATA:
                pixel_data = element
            if element.tag == PIXEL_DATA or element.tag > last:
                break
            if 0 < element.length <= MAX_VALUE and element.vr != b"SQ":
                values[element.tag] = bytes(data[element.value_at : element.value_at + element.length])
    except (struct.error, ValueError):
        pass  # a broken header: what was read so far is still the best effort
    return Header(syntax, at, values, pixel_data)


def walk(data: Buffer, at: int, *, implicit: bool, order: str, limit: int = LIMIT) -> Iterator[Element]:
    """The top-level elements from `at` on, without recursion.

    Ends at the end of the data; ValueError for what is beyond the limits, struct.error for what is cut short.
    """
    # One entry for each open sequence or item of undefined length: is its content implicit VR?
    stack: list[bool] = []
    begin, size = at, len(data)
    tag_and_length, explicit = struct.Struct(order + "HHL"), struct.Struct(order + "HH2sH")
    long_length = struct.Struct(order + "L")
    while at + 8 <= size:
        if at - begin > limit or len(stack) > MAX_DEPTH:
            raise ValueError("the header is too large or too deep")
        now_implicit = stack[-1] if stack else implicit
        group, number, length = tag_and_length.unpack_from(data, at)
        vr, value_at = b"", at + 8
        if not now_implicit and group != 0xFFFE:
            _, _, vr, length = explicit.unpack_from(data, at)
            if vr.upper() in LONG_VRS:
                (length,) = long_length.unpack_from(data, at + 8)
                value_at = at + 12
            elif not vr.isalpha() and not (vr in BLANK_VRS and _is_head(data, value_at + length, (group, number), order)):
                raise ValueError("no VR where one should be")
        if group == 0xFFFE and number in (0xE00D, 0xE0DD):  # a delimiter
            if not stack:
                return
            stack.pop()
            at = value_at
            continue
        if not stack:
            yield Element((group, number), vr, at, value_at, length)
        if length == UNDEFINED:
            # PS3.5 6.2.2 note: UN of undefined length is implicit VR
            stack.append(now_implicit or vr == b"UN")
            at = value_at
        else:
            at = value_at + length


def _is_head(data: Buffer, at: int, before: Tag, order: str) -> bool:
    """Whether the data ends here, or a delimiter or an explicit element follows that comes after the tag `before`."""
    head = bytes(data[at : at + 8])
    if len(head) < 8:
        return at == len(data)
    tag = struct.unpack(order + "HH", head[:4])
    return tag[0] == 0xFFFE or (tag > before and head[4:6].isalpha() and head[4:6].isupper())
