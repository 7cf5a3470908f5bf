"""HL7 CDA R2 documents: what one says of itself and of the versions it replaces, and its narrative as text.

Read as a stream: what is held is the text, which is never longer than the document. Document type declarations are refused, so
there are no entities and nothing is fetched; stylesheets and processing instructions are ignored; what is read is text, never
markup.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from xml.parsers import expat

from chalicelib.domain.report_versions import WrittenMoment

_HL7 = "urn:hl7-org:v3}"
_MAX_DEPTH = 200
_MAX_REPLACED = 16
_MAX_PATIENTS = 64
_CHUNK = 64 * 1024
_BLOCKS = frozenset({"paragraph", "item", "tr", "br", "list", "table", "caption", "footnote", "thead", "tbody"})
_CELLS = frozenset({"td", "th"})
_TIME = re.compile(r"(\d{8})(\d{2})?(\d{2})?(\d{2})?(?:\.\d+)?([+-]\d{4})?")


class UnreadableDocument(Exception):
    """What was sent is not the document that its media type says."""


@dataclass(frozen=True)
class CdaHeader:
    """What identifies a CDA document and its versions (CDA R2 4.2.1, 4.2.3).

    `id` and `set_id`: root, caret and extension, or empty. `version`: versionNumber, or None. `replaces`: the ids of the parent
    documents that it replaces (RPLC); `appends`: it is an addendum (APND), which replaces nothing. `effective`: effectiveTime as
    it was written. `code`: code and codeSystem. `patients`: the identifiers of its recordTarget, as `id`.
    """

    id: str = ""
    set_id: str = ""
    version: int | None = None
    title: str = ""
    code: tuple[str, str] = ("", "")
    replaces: tuple[str, ...] = ()
    appends: bool = False
    effective: str = ""
    patients: tuple[str, ...] = ()

    def when(self, zone: tzinfo) -> WrittenMoment:
        """effectiveTime as YYYYMMDD and HHMMSS in `zone`, which is also what it is taken to be in where it names no offset.

        The time is empty where only a day is given, both are where it is no time.
        """
        found = _TIME.fullmatch(self.effective)
        if not found:
            return WrittenMoment()
        day, hours, minutes, seconds, offset = found.groups()
        try:
            moment = datetime.strptime(f"{day}{hours or '00'}{minutes or '00'}{seconds or '00'}", "%Y%m%d%H%M%S")
            if hours and offset:
                east = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:]))
                moment = moment.replace(tzinfo=timezone(east if offset[0] == "+" else -east)).astimezone(zone)
        except (ValueError, OverflowError):
            return WrittenMoment()
        return WrittenMoment(f"{moment:%Y%m%d}".rjust(8, "0"), moment.strftime("%H%M%S") if hours else "", moment.fold == 1)


@dataclass(frozen=True)
class Cda:
    """A CDA document: its header, titles and narrative of its sections as lines of text, and (code, title, narrative) of each."""

    header: CdaHeader
    text: str
    sections: tuple[tuple[str, str, str], ...] = ()


def read_cda(content: bytes) -> Cda:
    """A whole document. Raises UnreadableDocument for what is not well-formed, or no ClinicalDocument of HL7 version 3."""
    reader = _Reader(header_only=False)
    reader.read(content)
    return Cda(reader.header(), "\n".join(reader.lines), tuple(reader.sections()))


def read_header(beginning: bytes) -> CdaHeader:
    """The header, from as much of the document as there is: reading ends where the body begins. Raises UnreadableDocument."""
    reader = _Reader(header_only=True)
    reader.read(beginning)
    return reader.header()


def same(identifier: str) -> str:
    """What an identifier (root, caret, extension) is compared by: 32 hex digits. Roots are compared without case."""
    root, _, extension = identifier.strip().partition("^")
    return hashlib.sha256(f"{root.strip().lower()}^{extension.strip()}".encode()).hexdigest()[:32]


class _HeaderEnds(Exception):
    """The body begins."""


class _Reader:
    """One pass over a document: `path` holds the open elements' names, without the namespace of HL7."""

    def __init__(self, header_only: bool) -> None:
        self._header_only = header_only
        self._path: list[str] = []
        self._found: dict[str, str] = {}
        self._version: int | None = None
        self._code = ("", "")
        self._relation = ""
        self._replaces: list[str] = []
        self._appends = False
        self._patients: list[str] = []
        self._title: list[str] | None = None
        self._narrative = 0
        self._words: list[str] = []
        self._begun = False
        """Whether the line has words yet."""
        self.lines: list[str] = []
        self._codes: dict[int, str] = {}
        """The code of the section that is open at each depth."""
        self._titled: set[int] = set()
        """The depths at which the open section has said its title."""
        self._begins: list[tuple[int, int, str, str]] = []
        """Each section with a title or a text: where its title and where its text begins, among the lines; code; title."""

    def sections(self) -> Iterator[tuple[str, str, str]]:
        """(code, title, narrative) of each section that has one of the two, in order."""
        ends = [begins for begins, *_ in self._begins[1:]] + [len(self.lines)]  # one too many where there is no section
        for (_, first, code, title), end in zip(self._begins, ends, strict=False):
            yield code, title, "\n".join(self.lines[first:end])

    def header(self) -> CdaHeader:
        return CdaHeader(
            self._found.get("id", ""),
            self._found.get("setId", ""),
            self._version,
            self._found.get("title", ""),
            self._code,
            tuple(dict.fromkeys(self._replaces)),
            self._appends,
            self._found.get("effectiveTime", ""),
            tuple(dict.fromkeys(self._patients)),
        )

    def read(self, content: bytes) -> None:
        parser = expat.ParserCreate(namespace_separator="}")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = _refuse
        parser.EntityDeclHandler = _refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        try:
            for start in range(0, len(content), _CHUNK):
                parser.Parse(content[start : start + _CHUNK], False)
            parser.Parse(b"", True)
        except _HeaderEnds:
            return
        except (expat.ExpatError, LookupError, ValueError) as error:
            raise UnreadableDocument("The body is not well-formed XML.") from error

    def _start(self, qualified: str, attributes: dict[str, str]) -> None:
        name = qualified.removeprefix(_HL7) if qualified.startswith(_HL7) else f"?{qualified}"
        path = self._path
        if not path and name != "ClinicalDocument":
            raise UnreadableDocument("The body is not a ClinicalDocument of HL7 version 3.")
        if len(path) >= _MAX_DEPTH:
            raise UnreadableDocument("The document is nested too deeply.")
        path.append(name)
        if self._narrative:
            self._inside_narrative(name)
        elif len(path) == 2:
            self._of_document(name, attributes)
        elif path[1:] == ["relatedDocument", "parentDocument", "id"]:
            if self._relation == "RPLC" and len(self._replaces) < _MAX_REPLACED and (parent := _identifier(attributes)):
                self._replaces.append(parent)
        elif path[1:] == ["recordTarget", "patientRole", "id"]:
            if len(self._patients) < _MAX_PATIENTS and (patient := _identifier(attributes)):
                self._patients.append(patient)
        elif name == "section":
            self._codes[len(path)] = ""
        elif path[-2:-1] == ["section"]:
            self._of_section(name, attributes)

    def _of_section(self, name: str, attributes: dict[str, str]) -> None:
        depth = len(self._path) - 1
        if name == "code":
            self._codes[depth] = attributes.get("code", "").strip()[:16]
        elif name == "title":
            self._title = []
        elif name == "text":
            self._narrative = len(self._path)
            if depth not in self._titled:
                self._begins.append((len(self.lines), len(self.lines), self._codes.get(depth, ""), ""))

    def _of_document(self, name: str, attributes: dict[str, str]) -> None:
        if name == "component" and self._header_only:
            raise _HeaderEnds
        if name in ("id", "setId"):
            self._found.setdefault(name, _identifier(attributes))
        elif name == "effectiveTime":
            self._found.setdefault(name, attributes.get("value", "").strip()[:32])
        elif name == "versionNumber":
            number = attributes.get("value", "").strip()
            self._version = int(number) if number.isascii() and number.isdigit() and len(number) < 9 else None
        elif name == "code":
            self._code = (attributes.get("code", "")[:16], attributes.get("codeSystem", "")[:64])
        elif name == "relatedDocument":
            self._relation = attributes.get("typeCode", "")
            self._appends = self._appends or self._relation == "APND"
        elif name == "title":
            self._title = []

    def _inside_narrative(self, name: str) -> None:
        if name in _BLOCKS:
            self._break()
        elif name in _CELLS and self._begun:
            self._words.append(" | ")

    def _end(self, _: str) -> None:
        name = self._path[-1]
        if self._narrative == len(self._path):
            self._break()
            self.lines.append("")
            self._narrative = 0
        elif self._narrative and name in _BLOCKS:
            self._break()
        elif name == "title" and self._title is not None:
            title = " ".join("".join(self._title).split())
            self._title = None
            if len(self._path) == 2:
                self._found.setdefault("title", title)
            elif title:
                depth = len(self._path) - 1
                self._titled.add(depth)
                self._begins.append((len(self.lines), len(self.lines) + 1, self._codes.get(depth, ""), title))
                self.lines.append(title)
        elif name == "section":
            self._titled.discard(len(self._path))
        self._path.pop()

    def _characters(self, text: str) -> None:
        if self._title is None and not self._narrative:
            return
        (self._words if self._title is None else self._title).append(text)
        self._begun = self._begun or (self._title is None and bool(text.strip()))

    def _break(self) -> None:
        if line := " ".join("".join(self._words).split()):
            self.lines.append(line)
        self._words, self._begun = [], False


def _identifier(attributes: dict[str, str]) -> str:
    """An instance identifier (HL7 II) as DICOM writes it: root, caret and extension, where there is one (PS3.3 C.24.2)."""
    root, extension = attributes.get("root", "").strip(), attributes.get("extension", "").strip()
    return f"{root}^{extension}" if extension else root


def _refuse(*_: object) -> None:
    raise UnreadableDocument("A document type declaration is not taken.")
