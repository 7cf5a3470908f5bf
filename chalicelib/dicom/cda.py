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

from chalicelib.dicom.charset import OF_WINDOWS
from chalicelib.domain.report_versions import WrittenMoment

_HL7 = "urn:hl7-org:v3}"
_MAX_DEPTH = 200
_MAX_REPLACED = 16
_MAX_PATIENTS = 64
_CHUNK = 64 * 1024
_BLOCKS = frozenset({"paragraph", "item", "tr", "br", "list", "table", "caption", "footnote", "thead", "tbody"})
_CELLS = frozenset({"td", "th"})
_MOST_IN_A_CELL = 4
"""Lines of a table's cell; a longer one is part of a layout."""
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
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
        self._row: list[list[str]] | None = None
        """The lines of each cell of the table's row that is open; of a table in a cell, the rows are lines."""
        self._row_depth = 0
        self._deleted: set[int] = set()
        """The depths of what is open and marked as deleted (4.3.5.1)."""
        self._plain = False
        """Whether the text is none of XML (4.3.1): its lines are its own."""
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
            content = without_padding(content)
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
            self._inside_narrative(name, attributes)
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
        elif path[-2:] == ["nonXMLBody", "text"]:
            self._of_other_body(attributes)

    def _of_other_body(self, attributes: dict[str, str]) -> None:
        """A body that is no XML: its text, or that it is a document that is not shown."""
        self._begins.append((len(self.lines), len(self.lines), "", ""))
        kind = attributes.get("mediaType", "").strip() or "text/plain"
        self._plain = kind == "text/plain" and attributes.get("representation", "TXT") == "TXT"
        if self._plain:
            self._narrative = len(self._path)
        else:
            self.lines.append(f"[Documento allegato non mostrato: {kind[:64]}]")

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

    def _inside_narrative(self, name: str, attributes: dict[str, str]) -> None:
        if name == "tr" and self._row is None:
            self._break()
            self._row, self._row_depth = [], len(self._path)
        elif name in _CELLS and self._row is not None and len(self._path) == self._row_depth + 1:
            self._row.append([])
        elif name in _BLOCKS | _CELLS:
            self._break()
        elif name == "sup":
            self._words.append("^")  # 10³ is not 103
        elif name == "content" and attributes.get("revised") == "delete":
            self._deleted.add(len(self._path))
            self._words.append("[eliminato: ")
        elif name == "renderMultiMedia":
            self._words.append(" [immagine non mostrata] ")

    def _end(self, _: str) -> None:
        name, depth = self._path[-1], len(self._path)
        if self._narrative == depth:
            self._break()
            self.lines.append("")
            self._narrative, self._plain = 0, False
        elif self._row is not None and depth == self._row_depth:
            self._end_row(self._row)
        elif self._narrative and name in _BLOCKS | _CELLS:
            self._break()
        elif depth in self._deleted:
            self._deleted.remove(depth)
            self._words.append("] ")
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
        (self._words if self._title is None else self._title).append(text.translate(OF_WINDOWS))

    def _break(self) -> None:
        text, self._words = "".join(self._words), []
        if self._plain:
            self.lines += text.strip("\n").splitlines()
        elif line := " ".join(text.split()):
            (self._row[-1] if self._row else self.lines).append(line)

    def _end_row(self, row: list[list[str]]) -> None:
        """A row of several cells is one line, so that it is seen which column is empty; what only looks like a table keeps its
        lines."""
        self._break()
        self._row = None
        if len(row) > 1 and all(len(cell) <= _MOST_IN_A_CELL for cell in row):
            line = " ".join(" | ".join(" ".join(cell) for cell in row).split())
            self.lines += [line] if line.strip("| ") else []
        else:
            self.lines += [line for cell in row for line in cell]


def without_padding(content: bytes) -> bytes:
    """A document without the NUL that made its length even (PS3.3 C.24.2.2)."""
    return content[: len(content) // 2 * 2] if content.startswith(_UTF_16) else content.rstrip(b"\0")


def _identifier(attributes: dict[str, str]) -> str:
    """An instance identifier (HL7 II) as DICOM writes it: root, caret and extension, where there is one (PS3.3 C.24.2)."""
    root, extension = attributes.get("root", "").strip(), attributes.get("extension", "").strip()
    return f"{root}^{extension}" if extension else root


def _refuse(*_: object) -> None:
    raise UnreadableDocument("A document type declaration is not taken.")
