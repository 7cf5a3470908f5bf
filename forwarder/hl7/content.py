"""What the OBX segments of a report hold, and the NTE behind them: text, PDF and CDA; and what of it cannot be used (HL7 v2.5.1
7.4.2, 2.A.24).

What is not escaped as it should be is read where it can mean one thing only; where not, the sender is told: nothing is lost.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from forwarder.hl7 import rtf
from forwarder.hl7.message import RefusedMessage, Segment

LARGEST = 4_400_000  # bytes of one document, as the archive takes it
TEXT, PDF, CDA = "text/plain; charset=utf-8", "application/pdf", "application/hl7-cda+xml"
GONE = frozenset({"D", "X", "W"})
TEXTS, FILES, POINTERS = frozenset({"TX", "FT", "ST"}), frozenset({"ED"}), frozenset({"RP"})
CODED = frozenset({"CE", "CWE", "CNE", "CF"})
SHORT = frozenset({"NM", "SN", "IS", "ID", "DT", "TM", "TS", "DTM"})
"""Coded, measured and dated values: short texts beside a text, and nothing without one. So is what is short of any other type."""
_LONGEST_VALUE = 200
"""Characters of a value of a type that is not known here."""
STATES = frozenset("ABCDFINOPRSUVWX")
"""Table 0085, OBX-11."""
_VALUE, _STATE = 5, 11  # OBX-5 and OBX-11
_MOST_SHIFTED = 200  # separators in one text that were not escaped
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_SIGNS = {code: text for code in range(0x80, 0xA0) if (text := bytes([code]).decode("cp1252", "ignore"))} | dict.fromkeys(
    b"\v\f", "\n"
)
"""What Windows has where ISO 8859 and Unicode have control characters, as the dash of “3–5 mm”; breaks of line and page."""
_BREAK = re.compile(r"(?<![\s(])~|~(?!\d)|~(?=\d+[.)]\s)")
"""The repetition separator, but for a tilde that says “about” and is not escaped: “nodulo di ~3 cm”."""
_BASE64 = re.compile(r"[A-Za-z0-9+/_\s-]+=*\s*")
_PDF_IN_BASE64 = "JVBERi0"  # “%PDF-”
_DATA_URL = re.compile(r"data:[^,]{0,100};base64,", re.IGNORECASE)
_ENCODINGS = frozenset({"BASE64", "HEX", "A"})  # table 0299
_STUDY_CODES = frozenset({"113014", "110180", "DICOMSTUDY", "STUDYINSTANCEUID", "0020000D"})
"""In OBX-3, without blanks and signs: the codes in DCM, their meanings, or the attribute."""
_KNOWN = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"{\\rtf": "RTF", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"PK\3\4": "ZIP",
          b"GIF8": "GIF", b"BM": "BMP", b"\xd0\xcf\x11\xe0": "DOC"}  # fmt: skip
"""How files begin that nobody here can put beside the images."""


@dataclass(slots=True)
class Content:
    """The documents of one report, the states of its OBX, and what of it is not taken and why.

    `texts`: (name, text) of each; `narrated`: whether one of them is more than a coded, measured or dated value; `noted`: or a
    note on the whole, which is no report by itself.
    """

    texts: list[tuple[str, str]] = field(default_factory=list)
    narrated: bool = False
    noted: bool = False
    files: list[tuple[str, bytes]] = field(default_factory=list)
    states: set[str] = field(default_factory=set)
    left_out: list[tuple[str, RefusedMessage]] = field(default_factory=list)
    rtfs: list[tuple[Segment, str]] = field(default_factory=list)  # files; where there is a text, they are most often the same
    open_rtf: list[str] = field(default_factory=list)  # the beginning of one in a text, which goes on in the next OBX
    open_groups: int = 0

    def narrate(self, name: str, text: str) -> None:
        """Take in a text under the name of its section."""
        self.texts.append((name, text))
        self.narrated = self.narrated or bool(text.strip())

    def documents(self, heading: str) -> list[tuple[str, bytes]]:
        """(media type, bytes) of each; a text begins with `heading`, and ends with the names of what is left out.
        Beside a PDF or CDA that has no text, it is nothing but these.

        Raises RefusedMessage where nothing can be used, and something is there that cannot.
        """
        text = _CONTROLS.sub("", _joined(self.texts).translate(_SIGNS)).strip("\n")
        if not text.strip() or not (self.narrated or (self.noted and self.files)):
            if not self.files and self.left_out:
                raise self.left_out[0][1]
            if not self.left_out:
                return list(self.files)
            text = ""
        notes = "".join(f"\n[Allegato non trasmesso: {name}]" for name, _ in self.left_out)
        whole = heading + (f"{text}\n{notes}" if text and notes else text or notes.strip())
        return [(TEXT, whole.encode()), *self.files]


def read(segments: Sequence[Segment]) -> Content:
    """What the OBX of a report hold. Raises RefusedMessage for a text of which it cannot be told where it ends."""
    found = Content()
    begun, obx = False, None  # whether the head of the report was passed; the OBX that an NTE is of
    for segment in segments:
        begun = begun or segment.name in ("OBR", "TXA")
        if segment.name == "NTE" and begun:
            _take_note(found, segment, obx)
        if segment.name != "OBX" or names_study(segment):
            continue
        obx = segment
        kind = obx.value(2).upper() or "TX"
        if kind in CODED | SHORT and obx.value(_STATE).upper() not in GONE:
            found.texts += [
                (obx.value(3, 2), line) for value in obx.repetitions(_VALUE) if (line := _short_line(obx, kind, value))
            ]
        if kind not in TEXTS | FILES | POINTERS:
            if kind not in CODED | SHORT and obx.value(_STATE).upper() not in GONE:
                _take_unknown(found, obx, kind)
            continue
        value, state = _text_value(obx) if kind in TEXTS else (obx.raw(_VALUE), obx.value(_STATE).upper())
        if kind in TEXTS and value.lstrip().startswith(_PDF_IN_BASE64) and _BASE64.fullmatch(value):
            kind = "ED"
        if kind not in POINTERS:
            found.states.add(state)
        if state in GONE:
            continue
        if kind in TEXTS and (found.open_rtf or _begins_rtf(obx, value)):
            _take_rtf_line(found, obx, value)
        elif kind in TEXTS:
            found.narrate(obx.value(3, 2), obx.unescape(_lines(obx, value)))
        elif kind in POINTERS:
            refusal = RefusedMessage(
                "AE", 102, "A reference (RP) is not followed: the document itself is needed.", "OBX", obx.number, 5
            )
            found.left_out.append((_name(obx, "riferimento esterno"), refusal))
        else:
            for repetition in value.split(obx.delimiters.repetition):
                _take_file(found, obx, repetition)
    if found.open_rtf and obx is not None:
        _take_rtf(found, obx, "".join(found.open_rtf))
    narrated = found.narrated
    for of, document in found.rtfs:
        _take_rtf(found, of, "" if narrated else document)
    return found


def _take_rtf_line(found: Content, obx: Segment, value: str) -> None:
    """RTF in a text, perhaps in several: it goes on until its groups are closed. Few senders escape what of it means something in
    HL7."""
    mark = obx.delimiters.escape
    if f"{mark}E{mark}" in value:
        value = obx.unescape(value.replace(obx.delimiters.repetition, "\n"))
    found.open_rtf += [value if found.open_rtf else value.lstrip(), "\n"]
    found.open_groups += rtf.groups(value)
    if found.open_groups <= 0:
        whole, found.open_rtf, found.open_groups = "".join(found.open_rtf), [], 0
        _take_rtf(found, obx, whole)


def _begins_rtf(obx: Segment, value: str) -> bool:
    return value.lstrip().startswith("{") and obx.unescape(value).lstrip().startswith(rtf.BEGIN)


def _take_rtf(found: Content, obx: Segment, document: str) -> None:
    """The text of a document in RTF, or its name among what is left out."""
    try:
        found.narrate(obx.value(3, 2), rtf.read(document))
    except rtf.UnreadableRtf:
        said = "OBX-5 holds RTF whose text cannot be told for certain, or that stands beside a text."
        found.left_out.append((_name(obx, "RTF"), RefusedMessage("AE", 102, said, "OBX", obx.number, _VALUE)))


def _take_note(found: Content, nte: Segment, obx: Segment | None) -> None:
    """An NTE: text in its place, under the name of its OBX (None: it is of the whole); nothing where that was taken back."""
    text = nte.unescape(_lines(nte, nte.raw(3)))
    if obx is None:
        found.texts.append(("", text))
        found.noted = found.noted or bool(text.strip())
    elif obx.value(_STATE).upper() not in GONE:
        found.narrate(obx.value(3, 2), text)


def _take_unknown(found: Content, obx: Segment, kind: str) -> None:
    """A value of a type that is not known here: its parts as they were written, where they are a short text."""
    for value in obx.repetitions(_VALUE):
        parts = (obx.component(value, place) for place in range(1, value.count(obx.delimiters.component) + 2))
        line = " ".join(filter(None, parts))
        if len(line) > _LONGEST_VALUE:
            said = "OBX-5 has a type that is not known here, and is no short text."
            found.left_out.append((_name(obx, kind[:8]), RefusedMessage("AE", 102, said, "OBX", obx.number, _VALUE)))
        elif line:
            found.texts.append((obx.value(3, 2), line))


def names_study(obx: Segment) -> bool:
    """Whether this OBX says which study the report is of (IHE RAD-28)."""
    return bool({re.sub(r"[\W_]", "", obx.value(3, component)).upper() for component in (1, 2, 4, 5)} & _STUDY_CODES)


def _short_line(obx: Segment, kind: str, value: str) -> str:
    """A value in words: of a coded one its text (CWE.2, .5; .9, the original), else its code; a number (NM, SN) with its unit."""
    if kind in CODED:
        return next((text for place in (2, 5, 9, 1, 4) if (text := obx.component(value, place))), "")
    if kind not in ("NM", "SN"):
        return obx.component(value, 1)
    number = "".join(obx.component(value, place) for place in range(1, 5)) if kind == "SN" else obx.component(value, 1)
    return f"{number} {obx.value(6) or obx.value(6, 2)}".strip() if number else ""


def _text_value(obx: Segment) -> tuple[str, str]:
    """(OBX-5 of a text, OBX-11), also where the text holds field separators that were not escaped.

    Then the status stands further behind, after OBX-6 to OBX-10, which are empty in a text. RefusedMessage where that is not so.
    """
    state, fields = obx.value(_STATE), obx.fields
    between = [value for value in fields[_VALUE + 1 : _STATE] if value.strip()]
    flagged = between == [obx.raw(8)] and len(obx.raw(8)) <= 2 and not state  # abnormal flags, of a sender without OBX-11
    if (state and state in STATES) or not between or flagged:
        return obx.raw(_VALUE), state.upper()
    shifted = list(_shifted(obx))
    if len(shifted) != 1:
        text = "OBX-5 holds a field separator that is not escaped: where the text ends cannot be told."
        raise RefusedMessage("AE", 102, text, "OBX", obx.number, 5)
    return obx.delimiters.field.join(fields[_VALUE : shifted[0] - _STATE + _VALUE + 1]), fields[shifted[0]].strip()


def _lines(obx: Segment, value: str) -> str:
    """OBX-5 of a text with each repetition on a line of its own."""
    mark = obx.delimiters.repetition
    return _BREAK.sub("\n", value) if mark == "~" else value.replace(mark, "\n")


def _shifted(obx: Segment) -> Iterator[int]:
    """Where OBX-11 may stand of a text with separators in it: behind five empty fields."""
    fields = obx.fields
    for at in range(_STATE + 1, min(len(fields), _STATE + _MOST_SHIFTED)):
        if fields[at].strip() in STATES and fields[at].strip() and not any(value.strip() for value in fields[at - 5 : at]):
            yield at


def _joined(texts: Sequence[tuple[str, str]]) -> str:
    """Lines, with the names of sections above them where there are several sections."""
    lines: list[str] = []
    several = len({name for name, _ in texts}) > 1
    for position, (name, text) in enumerate(texts):
        if several and name and (position == 0 or texts[position - 1][0] != name):
            lines += [*([""] if lines else []), name]
        lines.append(text.replace("\r\n", "\n").replace("\r", "\n"))
    return "\n".join(lines)


def _take_file(found: Content, obx: Segment, repetition: str) -> None:
    """A document in an ED, or in which form it is left out. What it is, its bytes say; an empty one is nothing."""
    parts = [part.strip() for part in repetition.split(obx.delimiters.component)]
    at = next((n for n in (3, *range(len(parts))) if n < len(parts) - 1 and parts[n].upper() in _ENCODINGS), None)
    encoding = "" if at is None else parts[at].upper()
    data = (parts[-1] if at is None else parts[at + 1]) if repetition else ""
    if not data or (at is None and len(parts) < 5 and not _BASE64.fullmatch(data)):
        return
    kinds = {part.upper() for part in (parts[:-1] if at is None else parts[:at])}
    try:
        content = _decoded(obx, encoding, data)
    except RefusedMessage as refusal:
        found.left_out.append((_name(obx, "illeggibile"), refusal))
        return
    if len(content) > LARGEST:
        large = RefusedMessage("AE", 207, f"A document has more than {LARGEST} bytes.", "OBX", obx.number, _VALUE)
        found.left_out.append((_name(obx, "troppo grande"), large))
    elif content.startswith(b"%PDF-") and b"%%EOF" in content[-2048:]:
        found.files.append((PDF, content))
    elif b"ClinicalDocument" in content[:8192] and b"urn:hl7-org:v3" in content[:8192]:
        found.files.append((CDA, content))
    elif content.startswith(rtf.BEGIN.encode()):
        found.rtfs.append((obx, content.decode("cp1252", "replace")))
    elif (text := _plain(obx, content)) and (kinds & {"TEXT", "TX", "PLAIN", "TXT"}) and not kinds & {"RTF", "HTML", "XML"}:
        found.narrate(obx.value(3, 2), text)
    else:
        kind = next((name for begin, name in _KNOWN.items() if content.startswith(begin)), "")
        said = f"The document in OBX-5 (ED) is neither a whole PDF nor a CDA{f', but {kind}' if kind else ''}."
        found.left_out.append((_name(obx, kind or "formato non ammesso"), RefusedMessage("AE", 102, said, "OBX", obx.number, 5)))


def _decoded(obx: Segment, encoding: str, data: str) -> bytes:
    """The bytes of a document, by its encoding (table 0299); without one it is taken for Base64. Raises RefusedMessage."""
    if encoding == "A":
        return obx.unescape(data).encode()
    plain = _DATA_URL.sub("", re.sub(r"\s", "", obx.unescape(data)), count=1)
    if not encoding and not _BASE64.fullmatch(plain):
        raise RefusedMessage("AE", 102, "A document in OBX-5 (ED) has to be in Base64.", "OBX", obx.number, 5)
    try:
        if encoding == "HEX":
            return bytes.fromhex(plain)
        plain = plain.rstrip("=").replace("-", "+").replace("_", "/")
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise RefusedMessage("AE", 102, "The Base64 in OBX-5 (ED) is damaged.", "OBX", obx.number, 5) from None


def _plain(obx: Segment, content: bytes) -> str:
    """A text file; "" for what is none."""
    if content.startswith(tuple(_KNOWN)) or b"\0" in content:
        return ""
    for codec in ("utf-8-sig", obx.codec, "cp1252"):
        try:
            return content.decode(codec)
        except UnicodeDecodeError:
            continue
    return ""


def _name(obx: Segment, kind: str) -> str:
    """What an attachment is called in the text beside which it is missing."""
    name = " ".join("".join(letter if letter.isprintable() else " " for letter in obx.value(3, 2) or obx.value(3)).split())[:64]
    return f"{name} ({kind})" if name else kind
