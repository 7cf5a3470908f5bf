"""RTF as plain text (Rich Text Format 1.9.1): no sign is guessed, and what would say something else as plain text is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

BEGIN = "{\\rtf"
_TOKEN = re.compile(
    r"\\([a-zA-Z]{1,32})(-?[0-9]{1,10})? ?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z])|([{}])|[\r\n]+|([^\\{}\r\n]+)|\\", re.DOTALL
)
_SKIPPED = frozenset({"fonttbl", "colortbl", "stylesheet", "info", "fldinst"})
"""Groups that are not shown; and those that begin with an asterisk."""
_UNSURE = frozenset({"strike", "striked", "deleted", "v"})
"""What is struck out, deleted or hidden would stand as valid."""
_PICTURES = frozenset({"pict", "object", "shp", "do"})
_SIGNS = {
    "par": "\n", "line": "\n", "row": "\n", "page": "\n", "sect": "\n", "cell": " | ", "nestcell": " | ", "nestrow": "\n",
    "tab": " ", "lquote": "‘", "rquote": "’", "ldblquote": "“", "rdblquote": "”", "bullet": "•", "endash": "–", "emdash": "—",
}  # fmt: skip
_ESCAPED = {"~": " ", "-": "", "_": "-", "\r": "\n", "\n": "\n", "\\": "\\", "{": "{", "}": "}"}
_CODECS = {"161": "cp1253", "162": "cp1254", "186": "cp1257", "204": "cp1251", "238": "cp1250"}
"""By what a font says of its characters; 0 and 1 are the document's own, 2 are symbols."""
_FALLBACKS = frozenset("01234")
_SYMBOLS = re.compile("symbol|dings", re.IGNORECASE)
PICTURES = "[Immagini non trasmesse]"


class UnreadableRtf(Exception):
    """What it says cannot be told for certain."""


@dataclass(frozen=True, slots=True)
class _State:
    """What a group may change, and its end restores."""

    skipped: bool = False
    fonts: bool = False  # within the table of fonts
    font: str = ""
    raised: bool = False
    fallback: int = 1  # characters that stand in for one of Unicode


@dataclass(slots=True)
class _Reader:
    state: _State = field(default_factory=_State)
    groups: list[_State] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    codec: str = "cp1252"
    charsets: dict[str, str] = field(default_factory=dict)  # by font
    raises: bool = False  # whether the next sign is the first of raised ones
    left: int = 0  # characters to leave out behind one of Unicode
    pictures: bool = False

    def group(self, brace: str) -> None:
        self.left = 0
        if brace == "{":
            self.groups.append(self.state)
        elif self.groups:
            self.state = self.groups.pop()
        else:
            raise UnreadableRtf

    def word(self, name: str, number: str) -> None:
        if (name in _UNSURE and number != "0" and not self.state.skipped) or name in ("bin", "mac", "pc", "pca"):
            raise UnreadableRtf
        self.pictures = self.pictures or name in _PICTURES
        if name in _SKIPPED or name in _PICTURES:
            self.state = replace(self.state, skipped=True, fonts=name == "fonttbl")
        elif name in ("f", "deff"):
            self.state = replace(self.state, font=number)
        elif name == "fcharset" and self.state.fonts:
            self.charsets.setdefault(self.state.font, number)
        elif name == "ansicpg":
            self.codec = f"cp{number}"
        elif name in ("super", "up"):
            raised = number != "0"
            self.raises, self.state = raised and not self.state.raised, replace(self.state, raised=raised)
        elif name in ("nosupersub", "plain"):
            self.state = replace(self.state, raised=False)
        elif name == "uc":
            if number not in _FALLBACKS:
                raise UnreadableRtf
            self.state = replace(self.state, fallback=int(number))
        elif name == "u":
            self.write(chr(int(number or 0) % 0x10000))
            self.left = self.state.fallback
        elif name in _SIGNS:
            self.left = 0
            self.write(_SIGNS[name])

    def byte(self, digits: str) -> None:
        """A character by its number in the character set of the font, or of the document."""
        if self.left:
            self.left -= 1
        elif not self.state.skipped:
            self.write(bytes.fromhex(digits).decode(_CODECS.get(self.charsets.get(self.state.font, ""), self.codec)))

    def text(self, text: str) -> None:
        left = min(self.left, len(text))
        self.left -= left
        self.write(text[left:])

    def write(self, text: str) -> None:
        if self.state.fonts and _SYMBOLS.search(text):
            self.charsets[self.state.font] = "2"
        if self.state.skipped or not text:
            return
        if any("\ue000" <= sign <= "\uf8ff" for sign in text) or (text.strip() and self.charsets.get(self.state.font) == "2"):
            raise UnreadableRtf
        if self.state.raised and self.raises and text.strip():
            text, self.raises = f"^{text.lstrip()}", False
        self.written.append(text)


def groups(piece: str) -> int:
    """How many groups a piece opens more than it closes."""
    bare = re.sub(r"\\[\\{}]", "", piece)
    return bare.count("{") - bare.count("}")


def read(rtf: str) -> str:
    """The text of a whole document, with a word for pictures at its end. Raises UnreadableRtf."""
    reader = _Reader()
    try:
        for token in _TOKEN.finditer(rtf.rstrip("\0\r\n ")):
            word, number, digits, sign, brace, text = token.groups()
            if brace:
                reader.group(brace)
            elif word:
                reader.word(word, number or "")
            elif digits:
                reader.byte(digits)
            elif sign == "*":
                reader.state = replace(reader.state, skipped=True)
            elif sign or text:
                reader.text(_ESCAPED[sign] if sign else text)
        whole = "".join(reader.written).encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except (KeyError, LookupError, UnicodeError, ValueError) as error:
        raise UnreadableRtf from error
    if reader.groups or not rtf.startswith(BEGIN):
        raise UnreadableRtf
    lines = [line.rstrip(" |\t") for line in whole.splitlines()]
    text = "\n".join(lines).strip("\n")
    return f"{text}\n\n{PICTURES}" if text and reader.pictures else text
