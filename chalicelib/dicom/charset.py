"""Specific Character Set (0008,0005) and text: only what DICOM defines (PS3.3 C.12.1.1.2), as equipment misspells it.

pydicom takes any codec's name that Python knows, among them ones that raise or take quadratic time, so what a file says is looked
up in a table of ours. ISO 2022 (PS3.5 6.1.2.5, Annexes H to K) is followed here too: pydicom's decoder warns through process-wide
state, which threads that read headers side by side must not share, and stops at escapes that were not announced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydicom.charset import python_encoding

UNDECLARED = "iso8859"
"""The codec of text whose character set is not declared, or is the default repertoire, which has no letters above 7F."""
DEFAULT: list[str] = [UNDECLARED]

_CODES: dict[str, str] = {
    **{name: codec for name, codec in python_encoding.items() if name.startswith("ISO")},
    "ISO_IR 203": "iso8859_15", "ISO 2022 IR 203": "iso8859_15", "": UNDECLARED,
    "ISO_IR 192": "utf8", "GB18030": "gb18030", "GBK": "gbk",
    **{f"WINDOWS {number}": f"cp{number}" for number in range(1250, 1259)}, "KOI8R": "koi8_r",
}  # fmt: skip
_STAND_ALONE = frozenset({"ISO_IR 192", "GB18030", "GBK"})
_OTHER_NAMES = {
    "UTF8": "ISO_IR 192", "UNICODE": "ISO_IR 192", "UNICODE11UTF8": "ISO_IR 192", "ISO10646": "ISO_IR 192",
    "ASCII": "ISO_IR 6", "USASCII": "ISO_IR 6", "LATIN1": "ISO_IR 100", "LATIN9": "ISO_IR 203",
    "ISO88591": "ISO_IR 100", "ISO88592": "ISO_IR 101", "ISO88593": "ISO_IR 109", "ISO88594": "ISO_IR 110",
    "ISO88595": "ISO_IR 144", "ISO88596": "ISO_IR 127", "ISO88597": "ISO_IR 126", "ISO88598": "ISO_IR 138",
    "ISO88599": "ISO_IR 148", "ISO885911": "ISO_IR 166", "ISO885915": "ISO_IR 203", "TIS620": "ISO_IR 166",
    "SHIFTJIS": "ISO_IR 13", "SJIS": "ISO_IR 13", "EUCKR": "ISO 2022 IR 149", "KSC5601": "ISO 2022 IR 149",
    "GB2312": "GB18030", "ISO2022GBK": "GBK", "ISO2022GB18030": "GB18030", "ISO202258": "ISO 2022 IR 58",
}  # fmt: skip
"""What senders write in place of a defined term, without blanks and signs, and what they mean."""
_WINDOWS = re.compile(r"(?:WINDOWS|WIN|CP|ANSI)(125[0-8])")
_IR = re.compile(r"(ISO)?(2022)?(IR)?([0-9]{1,3})")
_ONLY_BY_ESCAPE = frozenset({"58", "87", "149", "159"})

_LATIN_1 = frozenset({"latin_1", "latin1", "iso8859_1", "iso8859-1"})
OF_WINDOWS = {code: text for code in range(0x80, 0xA0) if (text := bytes([code]).decode("cp1252", "ignore"))}

_G0 = {
    b"\x1b(B": "ascii", b"\x1b(J": "ascii", b"\x1b(I": "katakana",
    b"\x1b$B": "jisx0208", b"\x1b$@": "jisx0208", b"\x1b$(B": "jisx0208", b"\x1b$(D": "jisx0212",
}  # fmt: skip
_G1 = {
    b"\x1b)I": "shift_jis", b"\x1b-A": "latin_1", b"\x1b-B": "iso8859_2", b"\x1b-C": "iso8859_3", b"\x1b-D": "iso8859_4",
    b"\x1b-F": "iso8859_7", b"\x1b-G": "iso8859_6", b"\x1b-H": "iso8859_8", b"\x1b-L": "iso8859_5", b"\x1b-M": "iso8859_9",
    b"\x1b-T": "tis_620", b"\x1b-b": "iso8859_15", b"\x1b$)C": "euc_kr", b"\x1b$)A": "gb2312",
}  # fmt: skip
"""Escape sequences (PS3.3 Tables C.12-3 and C.12-4), with two that Japanese systems write beside them."""
_DOUBLE = frozenset({"jisx0208", "jisx0212"})
_PARTS = re.compile(rb"\x1b(?:\$[()][A-Z]|\$[@A-Z]|[()\-][A-Za-z])|[\t\n\f\r\\^=]|[^\x1b\t\n\f\r\\^=]+|\x1b")
_CONTROLS = b"\t\n\f\r"
_DELIMITERS = {"PN": _CONTROLS + b"\\^=", "ST": _CONTROLS, "LT": _CONTROLS, "UT": _CONTROLS}
"""What brings the first character set back, by VR; between the values of the others a backslash does."""


def python_encodings(value: bytes) -> list[str]:
    """The codecs for the raw value of Specific Character Set; the default repertoire for what is unknown.

    Common misspellings (`ISO-IR 100`, `ISO2022 IR 87`, `UTF-8`) are understood. A character set that allows no code extensions
    stands alone when it comes first, and is ignored when it comes later.
    """
    names = [_corrected(name.strip(" \0")) for name in value[:1024].decode("ascii", "replace").split("\\")]
    if names[0] in _STAND_ALONE:
        names = names[:1]
    names = names[:1] + [name for name in names[1:] if name not in _STAND_ALONE]
    return [_CODES.get(name, UNDECLARED) for name in names]


def decode(data: bytes, charset: list[str], vr: str = "LO") -> str:
    """Text of this VR in Unicode; what does not decode becomes U+FFFD.

    ISO 2022 escapes are followed, whether announced or not, unless the character set stands alone. The first character set is
    back after a control character, between values, and in names after `^` and `=` (PS3.5 6.1.2.5.3). Where no character set is
    declared that has letters above 7F, text that is UTF-8 is read as such.
    """
    first = charset[0]
    if b"\x1b" in data and first.lower() not in ("utf8", "gb18030", "gbk"):
        return _Iso2022(first, _DELIMITERS.get(vr, _CONTROLS + b"\\")).decode(data)
    return _plain(data, first)


def _plain(data: bytes, codec: str) -> str:
    if data.isascii():
        return data.decode("ascii")
    if codec.lower() == UNDECLARED:
        try:
            return data.decode("utf8")
        except UnicodeDecodeError:
            return _latin_1(data)
    if codec in _LATIN_1:
        return _latin_1(data)
    if codec.lower() == "utf8":
        return _utf8(data)
    if codec.startswith("iso2022"):  # has no letters of its own before the first escape
        codec = "shift_jis"
    return data.decode(codec, "replace")


def _latin_1(data: bytes) -> str:
    """Text of ISO_IR 100; where that has control characters, Windows has quotes, dashes and the euro."""
    return data.decode("latin_1").translate(OF_WINDOWS)


def _utf8(data: bytes) -> str:
    """UTF-8; where not one letter of it is, text of ISO_IR 100, which some send under that name. Its control characters are those
    of Windows here too: the dash of “3–5 mm” must not be invisible."""
    text = data.decode("utf8", "replace")
    cut = text.endswith("\ufffd") and data[-1] >= 0x80
    letters = any(character > "\x7f" and character != "\ufffd" for character in text)
    return _latin_1(data) if "\ufffd" in text and not letters and not cut else text.translate(OF_WINDOWS)


class _Iso2022:
    """What is designated as G0 and G1 while a text is read (PS3.5 6.1.2.4)."""

    def __init__(self, first: str, delimiters: bytes) -> None:
        self._first = first
        self._delimiters = delimiters
        self._g0 = "ascii"
        self._g1 = first

    def decode(self, data: bytes) -> str:
        return "".join(self._part(part) for part in self._parts(data))

    def _parts(self, data: bytes) -> Iterator[bytes]:
        """Escape sequences, delimiters, and what is between them; in a set of two bytes a delimiter may be half of a letter."""
        position = 0
        while position < len(data):
            part = _PARTS.match(data, position)
            assert part is not None
            end = part.end()
            if self._g0 in _DOUBLE and data[position] != 0x1B:
                end = position
                while end + 1 < len(data) and 0x21 <= data[end] <= 0x7E and 0x21 <= data[end + 1] <= 0x7E:
                    end += 2
                if end == position:
                    end = position + 1
                    self._g0 = "ascii"
            yield data[position:end]
            position = end

    def _part(self, part: bytes) -> str:
        if part in _G0:
            self._g0 = _G0[part]
            return ""
        if part in _G1:
            self._g1 = _G1[part]
            return ""
        if self._g0 in _DOUBLE:
            return _double(self._g0, part)
        if len(part) == 1 and part in self._delimiters:
            self._reset()
            return part.decode("ascii")
        if self._g0 == "katakana":
            return bytes(byte | 0x80 if 0x21 <= byte <= 0x5F else byte for byte in part).decode("shift_jis", "replace")
        return _plain(part, self._g1)

    def _reset(self) -> None:
        self._g0, self._g1 = "ascii", self._first


def _double(repertoire: str, pairs: bytes) -> str:
    """Letters of JIS X 0208 or 0212, each of two bytes, which EUC-JP has in its upper half."""
    raised = bytes(byte | 0x80 for byte in pairs)
    if repertoire == "jisx0212":
        raised = b"".join(b"\x8f" + raised[at : at + 2] for at in range(0, len(raised), 2))
    return raised.decode("euc_jp", "replace")


def _corrected(name: str) -> str:
    """The defined term that is meant."""
    if name in _CODES:
        return name
    letters = re.sub(r"[^A-Z0-9]", "", name.upper())
    if letters in _OTHER_NAMES:
        return _OTHER_NAMES[letters]
    if found := _WINDOWS.fullmatch(letters):
        return f"WINDOWS {found[1]}"
    if (found := _IR.fullmatch(letters)) and (found[1] or found[3]):
        extended = found[2] or found[4] in _ONLY_BY_ESCAPE
        return f"ISO 2022 IR {found[4]}" if extended else f"ISO_IR {found[4]}"
    return letters
