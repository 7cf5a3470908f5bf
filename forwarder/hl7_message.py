"""HL7 v2 messages as text: delimiters, segments, fields, escape sequences, character sets (HL7 v2.5.1 chapter 2).

What the fields mean is not known here. A message that cannot be used is a `Refusal`, which says what to answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

CHARSETS = {"ASCII": "ascii", "UNICODE UTF-8": "utf-8", "8859/1": "cp1252", "8859/15": "iso-8859-15"}
"""Table 0211 → codec. Who says 8859/1 often sends Windows-1252, whose further characters are control characters in 8859/1."""
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
_NAME = re.compile(r"[A-Z][A-Z0-9]{2}")
_ESCAPED = r"([FSTREHN]|X(?:[0-9A-Fa-f]{2}){1,200}|\.(?i:br|sp|ce|in|ti|fi|nf|sk)\s*[+-]?\d{0,2})"
_LAYOUT = {"br": "\n", "ce": "\n", "sp": "\n", "sk": " "}


class Refusal(Exception):
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
        return re.sub(escape + _ESCAPED + escape, self._escaped, text)

    def _escaped(self, found: re.Match[str]) -> str:
        code, marks = found[1], self.delimiters
        if code[0] == "X":
            try:
                return bytes.fromhex(code[1:]).decode(self.codec)
            except ValueError:
                return found[0]
        if code[0] == ".":
            mark = _LAYOUT.get(code[1:3].lower(), "")
            return mark * min(int(code[3:].strip(" +-") or 1), 20)
        plain = {"F": marks.field, "S": marks.component, "T": marks.subcomponent, "R": marks.repetition, "E": marks.escape}
        return plain.get(code, "")  # the other two, H and N, begin and end highlighting


def read_header(content: bytes) -> Segment:
    """The MSH segment, byte for byte (as Latin-1), whatever the message's character set. Raises Refusal (AR)."""
    text = re.split(r"[\r\n]", content.lstrip(b"\r\n")[:LONGEST_HEADER].decode("latin-1"), maxsplit=1)[0]
    if len(text) == LONGEST_HEADER:
        raise Refusal("AR", 207, f"The MSH segment has {LONGEST_HEADER} characters or more.", "MSH")
    if not text.startswith("MSH") or len(text) < 9 or len(set(text[3:8])) != 5 or text[8] not in (text[3], "#"):
        raise Refusal("AR", 100, "This is not an HL7 version 2 message: it does not begin with MSH and its delimiters.", "MSH")
    if any(mark.isalnum() or not mark.isprintable() or mark.isspace() for mark in text[3:8]):
        raise Refusal("AR", 102, "The delimiters in MSH-1 and MSH-2 cannot be used.", "MSH", 1, 2)
    marks = Delimiters(*text[3:8])
    fields = text.split(marks.field)
    return Segment("MSH", 1, ["MSH", marks.field, *fields[1:]], marks, "latin-1")


def parse(content: bytes, header: Segment, charset: str, most_segments: int) -> list[Segment]:
    """The segments of a message, in order. `charset` (of table 0211) counts where MSH-18 says nothing. Raises Refusal."""
    named = header.value(18) or charset
    codec = CHARSETS.get(named.upper())
    if codec is None:
        known = ", ".join(CHARSETS)
        raise Refusal("AE", 103, f"The character set in MSH-18 is none of {known}.", "MSH", 1, 18)
    try:
        text = content.decode(codec)
    except UnicodeDecodeError:
        raise Refusal("AE", 102, f"The message is not in the character set {named} as MSH-18 says.", "MSH", 1, 18) from None
    lines = [line.strip("\n") for line in text.split("\r")] if "\r" in text else text.split("\n")
    lines = [line for line in lines if line.strip()]
    if len(lines) > most_segments:
        raise Refusal("AE", 207, f"The message has more than {most_segments} segments.")
    found: list[Segment] = []
    counts: dict[str, int] = {}
    for line in lines:
        name, *fields = line.split(header.delimiters.field)
        if not _NAME.fullmatch(name):
            raise Refusal("AE", 100, f"Line {len(found) + 1} does not begin with the name of a segment.")
        counts[name] = counts.get(name, 0) + 1
        shift = [header.delimiters.field] if name == "MSH" else []
        found.append(Segment(name, counts[name], [name, *shift, *fields], header.delimiters, codec))
    if header.value(14) or "ADD" in counts or any(one.name == "DSC" and one.value(1) for one in found):
        raise Refusal("AE", 207, "Messages that are continued in another one are not taken.", "MSH", 1, 14)
    if counts.get("MSH") != 1:
        raise Refusal("AE", 100, "A message has exactly one MSH segment.", "MSH", 2)
    return found
