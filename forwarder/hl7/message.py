"""HL7 v2 messages as text: delimiters, segments, fields, escape sequences, character sets (HL7 v2.5.1 chapter 2).

What the fields mean is not known here. A message that cannot be used is a `RefusedMessage`, which says what to answer.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

CHARSETS = {"ASCII": "ascii", "UNICODE UTF-8": "utf-8", "8859/1": "cp1252", "8859/15": "iso-8859-15"}
"""Table 0211 → codec. Who says 8859/1 often sends Windows-1252, whose further characters are control characters in 8859/1."""
_WRITTEN = {
    "ascii": ("ASCII", "USASCII", "ISOIR6", "ISO646", "ANSIX3.4"),
    "utf-8": ("UTF8", "UNICODEUTF8", "UNICODE", "ISOIR192", "ISO10646", "CSUTF8"),
    "cp1252": ("WINDOWS1252", "WIN1252", "CP1252", "1252", "ANSI", "LATIN1", "ISOIR100", "L1"),
    "iso-8859-2": ("LATIN2", "ISOIR101", "L2"),
    "iso-8859-15": ("LATIN9", "ISOIR203", "L9"),
}
"""How senders write it, in capitals and without blanks, dashes, slashes and underscores. Any ISO 8859 is known by its number."""
CONDITIONS = {
    100: "Segment sequence error",
    101: "Required field missing",
    102: "Data type error",
    103: "Table value not found",
    200: "Unsupported message type",
    201: "Unsupported event code",
    202: "Unsupported processing id",
    203: "Unsupported version id",
    207: "Application internal error",
}
"""Table 0357, as far as it is used."""
LONGEST_HEADER = 5000  # characters
_BEFORE = b"\r\n\t\0 "
_AROUND = "\r\n\t\0 \ufeff"  # what may stand around a segment
_TEXT_FIELD = 5  # OBX-5
_NAME = re.compile(r"[A-Z][A-Z0-9]{2}")
_ESCAPED = r"([FSTREHN]|\.(?i:br|sp|ce|in|ti|fi|nf|sk) *[+-]?[0-9]{0,2})"
_HEX = r"X(?:[0-9A-Fa-f]{2}){1,200}"
_LAYOUT = {"br": "\n", "ce": "\n", "sp": "\n", "sk": " "}


class RefusedMessage(Exception):
    """What cannot be used: `code` AE (its content) or AR (its kind), a condition of table 0357, and where.

    The text names the place and never repeats what stands there.
    """

    def __init__(self, code: str, condition: int, text: str, segment: str = "", number: int = 1, field: int = 0) -> None:
        super().__init__(text)
        self.code, self.condition, self.segment, self.number, self.field = code, condition, segment, number, field


@dataclass(frozen=True, slots=True)
class Delimiters:
    """MSH-1 and MSH-2 (2.5.4)."""

    field: str
    component: str
    repetition: str
    escape: str
    subcomponent: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment: its name, which of that name it is (from 1), its fields as they came; `fields[n]` is field n."""

    name: str
    number: int
    fields: Sequence[str]
    delimiters: Delimiters
    codec: str

    def raw(self, field: int) -> str:
        """A field as it came; "" if it is not there. HL7's null (two quotes) is nothing too."""
        value = self.fields[field] if field < len(self.fields) else ""
        return "" if value == '""' else value

    def repetitions(self, field: int) -> list[str]:
        """The repetitions of a field, as they came."""
        return self.raw(field).split(self.delimiters.repetition)

    def value(self, field: int, component: int = 1) -> str:
        """A component of a field's first repetition (all its subcomponents), unescaped and without blanks around it."""
        return self.component(self.repetitions(field)[0], component)

    def component(self, repetition: str, component: int) -> str:
        parts = repetition.split(self.delimiters.component)
        value = self.unescape(parts[component - 1]).strip() if component <= len(parts) else ""
        return "" if value == '""' else value

    def unescape(self, text: str) -> str:
        """Escape sequences resolved (2.7). What is unknown stays as it is: text is never lost."""
        if self.delimiters.escape not in text:
            return text
        escape = re.escape(self.delimiters.escape)
        return re.sub(f"{escape}{_ESCAPED}{escape}|(?:{escape}{_HEX}{escape})+", self._escaped, text)

    def _escaped(self, found: re.Match[str]) -> str:
        code, marks = found[1], self.delimiters
        if code is None:  # bytes, perhaps each by itself; those of one who goes on as in 8859/1 are no letters of UTF-8
            data = bytes.fromhex("".join(re.findall("X([0-9A-Fa-f]+)", found[0])))
            for codec in (self.codec, "cp1252"):
                with contextlib.suppress(ValueError):
                    return data.decode(codec)
            return found[0]
        if code[0] == ".":
            mark = _LAYOUT.get(code[1:3].lower(), "")
            return mark * min(int(code[3:].strip(" +-") or 1), 20)
        plain = {"F": marks.field, "S": marks.component, "T": marks.subcomponent, "R": marks.repetition, "E": marks.escape}
        return plain.get(code, "")  # the other two, H and N, begin and end highlighting


def begin(content: bytes) -> bytes:
    """A message without what some senders put before MSH: a byte order mark, line ends, blanks."""
    content = content.lstrip(_BEFORE)
    return content[len(codecs.BOM_UTF8) :].lstrip(_BEFORE) if content.startswith(codecs.BOM_UTF8) else content


def read_header(content: bytes) -> Segment:
    """The MSH segment, byte for byte (as Latin-1), whatever the message's character set. Raises RefusedMessage (AR).

    MSH-2 may have a truncation character (2.7), and lack what is seldom used: escape and subcomponent separator.
    """
    text = re.split(r"[\r\n]", begin(content)[:LONGEST_HEADER].decode("latin-1"), maxsplit=1)[0]
    if len(text) == LONGEST_HEADER:
        raise RefusedMessage("AR", 207, f"The MSH segment has {LONGEST_HEADER} characters or more.", "MSH")
    bar = text[3:4]
    marks = text[4:].split(bar, 1)[0].strip().removesuffix("amp;") if bar else ""  # some write & as XML does
    if not text.startswith("MSH") or not 2 <= len(marks) <= 5 or bar not in text[4:]:
        raise RefusedMessage(
            "AR", 100, "This is not an HL7 version 2 message: it does not begin with MSH and its delimiters.", "MSH"
        )
    used = bar + marks[:4] + "^~\\&"[len(marks) :]
    if len(set(used)) != 5 or any(mark.isalnum() or not mark.isprintable() or mark.isspace() for mark in used):
        raise RefusedMessage("AR", 102, "The delimiters in MSH-1 and MSH-2 cannot be used.", "MSH", 1, 2)
    fields = text.split(bar)
    return Segment("MSH", 1, ["MSH", bar, *fields[1:]], Delimiters(*used), "latin-1")


def codec_of(named: str) -> str | None:
    """The codec for a character set as a sender writes it; None for what is not known."""
    if named.upper() in CHARSETS:
        return CHARSETS[named.upper()]
    plain = re.sub(r"[\s/_-]", "", named.upper())
    for codec, written in _WRITTEN.items():
        if plain in written:
            return codec
    if number := re.fullmatch(r"(?:ISO)?8859([1-9]|1[0-6])", plain):
        return {"1": "cp1252", "12": None}.get(number[1], f"iso-8859-{number[1]}")
    return None


def decode(content: bytes, header: Segment, charset: str) -> tuple[str, str]:
    """(the text of a message, its codec). `charset` (of table 0211) counts where MSH-18 says nothing. Raises RefusedMessage.

    MSH-18 may repeat (2.15.9.18): what is not in the first character set is read in one of the others. What is UTF-8 beyond
    ASCII is that, whatever is said: in other sets its letters are none that anybody writes.
    """
    content = content.lstrip(_BEFORE)
    marked = "UNICODE UTF-8" if content.startswith(codecs.BOM_UTF8) else ""
    named = [name for repetition in header.repetitions(18) if (name := header.component(repetition, 1))] or [marked or charset]
    known = [codec for name in named if (codec := codec_of(name))]
    if not known:
        raise RefusedMessage("AE", 103, f"The character set in MSH-18 is none of {', '.join(CHARSETS)}.", "MSH", 1, 18)
    content = begin(content)
    for codec in known if content.isascii() else ["utf-8", *known]:
        with contextlib.suppress(UnicodeDecodeError):
            return content.decode(codec), codec
    raise RefusedMessage("AE", 102, f"The message is not in the character set {named[0][:32]} as MSH-18 says.", "MSH", 1, 18)


def parse(content: bytes, header: Segment, charset: str, most_segments: int) -> list[Segment]:
    """The segments of a message, in order. `charset` (of table 0211) counts where MSH-18 says nothing. Raises RefusedMessage."""
    text, codec = decode(content, header, charset)
    lines = _lines(text, header.delimiters.field)
    if len(lines) > most_segments:
        raise RefusedMessage("AE", 207, f"The message has more than {most_segments} segments.")
    found: list[Segment] = []
    counts: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        name, *fields = line.split(header.delimiters.field)
        if not _NAME.fullmatch(name):
            raise RefusedMessage("AE", 100, f"Line {number} does not begin with the name of a segment.")
        counts[name] = counts.get(name, 0) + 1
        shift = [header.delimiters.field] if name == "MSH" else []
        found.append(Segment(name, counts[name], [name, *shift, *fields], header.delimiters, codec))
    if header.value(14) or "ADD" in counts or any(segment.name == "DSC" and segment.value(1) for segment in found):
        raise RefusedMessage("AE", 207, "Messages that are continued in another one are not taken.", "MSH", 1, 14)
    if counts.get("MSH") != 1:
        raise RefusedMessage("AE", 100, "A message has exactly one MSH segment.", "MSH", 2)
    return found


def _lines(text: str, bar: str) -> list[str]:
    """The lines that are segments, however they end; what follows an OBX that is cut in its OBX-5 belongs to that value.

    A line break in a text should be escaped, or another segment. One that is not is plain to see: the line before stops within
    OBX-5, and this one does not begin with the name of a segment and a separator.
    """
    begins = re.compile(rf"[A-Z][A-Z0-9]{{2}}(?:{re.escape(bar)}|$)")
    found: list[list[str]] = []  # each segment in the lines that it came in
    bars = blank = 0  # separators of the last one; empty lines since, which in the middle of a text are part of it
    for line in re.split(r"\r\n?" if "\r" in text else r"\n", text):
        for piece in re.split(rf"\n(?=[A-Z][A-Z0-9]{{2}}{re.escape(bar)})", line.strip("\n")):
            bare = piece.strip(_AROUND)
            if not bare:
                blank += 1
                continue
            part = piece.lstrip(_AROUND) if begins.match(bare) else piece
            open_text = bool(found) and found[-1][0].startswith(f"OBX{bar}") and bars == _TEXT_FIELD
            if open_text and not begins.match(part):
                found[-1] += [*[""] * blank, part]
            else:
                found.append([part])
                bars = 0
            bars += part.count(bar)
            blank = 0
    return ["\n".join(parts) for parts in found]
