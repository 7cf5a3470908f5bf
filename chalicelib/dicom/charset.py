"""Specific Character Set (0008,0005) to Python codecs: only those that DICOM defines (PS3.3 C.12.1.1.2).

pydicom takes any codec's name that Python knows, among them ones that raise or take quadratic time, so what
a file says is looked up in DICOM's own table first.
"""

from __future__ import annotations

import re

from pydicom.charset import CODES_TO_ENCODINGS, STAND_ALONE_ENCODINGS, handled_encodings, python_encoding

DEFAULT: list[str] = ["iso8859"]
_ISO_IR = re.compile(r"ISO.?IR.?(\d+)")
_ISO_2022 = re.compile(r"ISO.?2022.?IR.?(\d+)")
_ESCAPE = b"\x1b"
_PARTS = re.compile(rb"^[^\x1b]+|\x1b[^\x1b]*")
_RESETS = re.compile(rb"[\t\n\f\r]")
_CODES = python_encoding | {"ISO_IR 203": "iso8859_15", "ISO 2022 IR 203": "iso8859_15"}


def python_encodings(value: bytes) -> list[str]:
    """The codecs for the raw value of Specific Character Set; the default repertoire for what is unknown.

    Common misspellings (`ISO-IR 100`, `ISO2022 IR 87`) are understood. A character set that allows no code
    extensions stands alone when it comes first, and is ignored when it comes later.
    """
    names = [_corrected(name.strip(" \0")) for name in value[:1024].decode("ascii", "replace").split("\\")]
    if names[0] in STAND_ALONE_ENCODINGS:
        names = names[:1]
    names = names[:1] + [name for name in names[1:] if name not in STAND_ALONE_ENCODINGS]
    return [_CODES.get(name, DEFAULT[0]) for name in names]


def decode(data: bytes, charset: list[str]) -> str:
    """Text in Unicode; what does not decode becomes U+FFFD.

    ISO 2022 escapes to one of `charset` are followed, up to the next escape or control character, which
    brings the first character set back (PS3.5 6.1.2.5). pydicom's `decode_bytes` does so too, but warns
    through process-wide state, which threads that read headers side by side must not share.
    """
    if _ESCAPE not in data:
        return data.decode(charset[0], "replace")
    return "".join(_decode_part(part, charset) for part in _PARTS.findall(data))


def _decode_part(part: bytes, charset: list[str]) -> str:
    length = 4 if part[:3] in (b"\x1b$(", b"\x1b$)") else 3
    codec = CODES_TO_ENCODINGS.get(part[:length])
    if codec is None or (codec not in charset and codec != DEFAULT[0]):
        return part.decode(charset[0], "replace")
    if codec in handled_encodings:
        return part.decode(codec, "replace")  # Python's codec wants the escape itself
    part = part[length:]
    reset = _RESETS.search(part)
    end = reset.start() if reset else len(part)
    return part[:end].decode(codec, "replace") + part[end:].decode(charset[0], "replace")


def _corrected(name: str) -> str:
    if name in _CODES:
        return name
    if found := _ISO_2022.fullmatch(name):
        return f"ISO 2022 IR {found[1]}"
    if found := _ISO_IR.fullmatch(name):
        return f"ISO_IR {found[1]}"
    return name
