"""What a compressed frame says of itself in its first bytes: size, samples, precision, sign, colour (PS3.5 8.2, A.4).

JPEG and JPEG-LS: ISO/IEC 10918-1 B.2, 14495-1 C.2; the application's segments: JFIF, and Adobe's transform. JPEG 2000:
ISO/IEC 15444-1 A.5. Nothing is decoded here, and nothing believed: who decodes compares it with what the data set says.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import error as struct_error
from struct import unpack_from

HEAD = 4096
"""Bytes of a frame that hold what is read here, of all but streams with large comments or profiles."""

_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_LOSSLESS_FRAMES = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
_CODESTREAM = b"\xff\x4f\xff\x51"


@dataclass(frozen=True, slots=True)
class Codestream:
    """`family`: jpeg, jpeg-ls or jpeg-2000. `rgb`: True or False where the stream itself says whether its samples are RGB,
    None where it does not. `transformed`: JPEG 2000's own colour transform, which its decoder takes back.
    """

    family: str
    columns: int
    rows: int
    samples: int
    precision: int
    signed: bool = False
    lossless: bool = False
    rgb: bool | None = None
    transformed: bool = False


def starts(data: bytes) -> bool:
    """Whether a JPEG, JPEG-LS or JPEG 2000 stream begins here."""
    return data[:3] == b"\xff\xd8\xff" or data[:4] == _CODESTREAM or data[:12] == _JP2


def family_of(data: bytes) -> str:
    """The family of the stream that begins here: jpeg (or jpeg-ls), jpeg-2000, or empty."""
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    return "jpeg-2000" if data[:4] == _CODESTREAM or data[:12] == _JP2 else ""


def read(data: bytes) -> Codestream | None:
    """What the stream says; None for what is no stream of these families, or whose head is not whole."""
    try:
        if data[:2] == b"\xff\xd8":
            return _jpeg(data)
        at = data.find(_CODESTREAM, 0, HEAD) if data[:12] == _JP2 else 0
        return _jpeg_2000(data, at) if at >= 0 and data[at : at + 4] == _CODESTREAM else None
    except (struct_error, IndexError):
        return None


def _jpeg(data: bytes) -> Codestream | None:
    at, jfif, adobe = 2, False, None
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF or marker in _STANDALONE:  # fill bytes
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = unpack_from(">H", data, at + 2)
        content = data[at + 4 : at + 2 + length]
        if marker == 0xE0 and content[:5] == b"JFIF\0":
            jfif = True
        elif marker == 0xEE and content[:5] == b"Adobe" and len(content) >= 12:
            adobe = content[11]
        elif marker in _FRAMES or marker == 0xF7:
            return _frame(marker, content, jfif, adobe)
        elif marker in (0xDA, 0xD9):
            return None
        at += 2 + length
    return None


def _frame(marker: int, content: bytes, jfif: bool, adobe: int | None) -> Codestream:
    precision, rows, columns, samples = unpack_from(">BHHB", content)
    if marker == 0xF7:
        return Codestream("jpeg-ls", columns, rows, samples, precision, lossless=True)
    lossless = marker in _LOSSLESS_FRAMES
    names = content[6 : 6 + 3 * samples : 3]
    factors = set(content[7 : 7 + 3 * samples : 3])
    rgb: bool | None = None
    if samples == 3:
        if adobe is not None:
            rgb = adobe == 0
        elif not lossless and (jfif or len(factors) > 1):
            rgb = False
        elif names == b"RGB":
            rgb = True
    return Codestream("jpeg", columns, rows, samples, precision, lossless=lossless, rgb=rgb)


def _jpeg_2000(data: bytes, at: int) -> Codestream:
    right, bottom, left, top = unpack_from(">4L", data, at + 8)
    (samples,) = unpack_from(">H", data, at + 40)
    depth = data[at + 42]
    transformed = False
    segment = at + 4 + int.from_bytes(data[at + 4 : at + 6], "big")
    while segment + 4 <= len(data) and data[segment] == 0xFF and data[segment + 1] not in (0x90, 0x93):
        if data[segment + 1] == 0x52:  # COD
            transformed = data[segment + 8] == 1
        segment += 2 + int.from_bytes(data[segment + 2 : segment + 4], "big")
    return Codestream(
        "jpeg-2000",
        right - left,
        bottom - top,
        samples,
        (depth & 0x7F) + 1,
        signed=bool(depth & 0x80),
        transformed=transformed and samples >= 3,
    )
