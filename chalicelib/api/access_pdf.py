"""The report of accesses as a PDF: one table on A4, laid out here, written by pydyf.

Helvetica is one of the fonts that every reader has, so that nothing is embedded; its widths are Adobe's (in thousandths of
the size). It has the letters of Western European languages; another letter is shown by the one below its accents.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pydyf

WIDTH, HEIGHT, MARGIN = 595.0, 842.0, 50.0
"""A4 in points."""
_SIZE, _LEADING, _PADDING = 9.0, 11.5, 4.0
_COLUMNS = (76.0, 125.0, 160.0, 134.0)
_WIDTHS = {
    191: "'", 222: "ijl‘’", 260: "|", 278: " !,./:;I[\\]ftìíîïÌÍÎÏ·", 333: "()-`r{}“”•¨¯´¸", 355: '"', 389: "*", 400: "°",
    469: "^", 500: "ckJsvxyzçýÿšž", 556: "#$0123456789?_LabdeghnopquEfü–àáâãäåèéêëñòóôõöøùúû€£§ß«»", 584: "+<=>~±×÷¬",
    611: "FTZŽ", 667: "&ABEKPSVXYÀÁÂÃÄÅÈÉÊËŠÝŸ", 722: "CDHNRUwÇÐÑÙÚÛÜ", 778: "GOQÒÓÔÕÖØ", 833: "Mm", 889: "%æ", 944: "W",
    1000: "—…™Æ", 1015: "@",
}  # fmt: skip
_WIDTH_OF = {letter: width for width, letters in _WIDTHS.items() for letter in letters} | {"f": 278, "E": 667}
_BOLD = 1.08
"""Helvetica-Bold is wider by less than this."""


@dataclass
class _Page:
    """A page under way: its drawing, and how far down it is filled."""

    stream: pydyf.Stream = field(default_factory=lambda: pydyf.Stream(compress=True))
    y: float = HEIGHT - MARGIN

    def text(self, x: float, text: str, size: float = _SIZE, bold: bool = False) -> None:
        self.stream.begin_text()
        self.stream.set_font_size("B" if bold else "R", size)
        self.stream.set_text_matrix(1, 0, 0, 1, x, self.y)
        self.stream.show_text_string(encodable(text).encode("cp1252"))
        self.stream.end_text()

    def rule(self, y: float, width: float = 0.4) -> None:
        self.stream.set_line_width(width)
        self.stream.move_to(MARGIN, y)
        self.stream.line_to(WIDTH - MARGIN, y)
        self.stream.stroke()


def render(
    title: str,
    introduction: Sequence[str],
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    closing: Sequence[str],
    language: str,
) -> bytes:
    """The report as PDF 1.7: a title, paragraphs, a table of four columns whose headings each page repeats, paragraphs."""
    pages = [_Page()]
    _paragraph(pages, title, 16.0, bold=True)
    for paragraph in introduction:
        _paragraph(pages, paragraph)
    _head(pages[-1], headings)
    for row in rows:
        _row(pages, row, headings)
    pages[-1].y -= _LEADING
    for paragraph in closing:
        _paragraph(pages, paragraph)
    return _written(pages, title, language)


def wrap(text: str, width: float, size: float = _SIZE, bold: bool = False) -> Iterator[str]:
    """`text` in lines of at most `width` points; a word that is longer than a line is broken."""
    line = ""
    for word in text.split():
        while width_of(word, size, bold) > width:
            fitting = next(n for n in range(len(word), 0, -1) if n == 1 or width_of(word[:n], size, bold) <= width)
            if line:
                yield line
            yield word[:fitting]
            line, word = "", word[fitting:]
        if line and width_of(f"{line} {word}", size, bold) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}".strip()
    if line:
        yield line


def width_of(text: str, size: float = _SIZE, bold: bool = False) -> float:
    """The width of a text in points, or a little more."""
    return sum(_WIDTH_OF.get(letter, 611) for letter in encodable(text)) * size / 1000 * (_BOLD if bold else 1)


def encodable(text: str) -> str:
    """`text` in the letters that the font has; `?` for what has none."""
    letters: list[str] = []
    for letter in text:
        for candidate in (letter, unicodedata.normalize("NFKD", letter)[0], "?"):
            try:
                candidate.encode("cp1252")
            except UnicodeEncodeError:
                continue
            letters.append(candidate if candidate.isprintable() else " ")
            break
    return "".join(letters)


def _paragraph(pages: list[_Page], text: str, size: float = _SIZE, bold: bool = False) -> None:
    leading = size * _LEADING / _SIZE
    for line in wrap(text, WIDTH - 2 * MARGIN, size, bold):
        _room(pages, leading)
        pages[-1].y -= leading
        pages[-1].text(MARGIN, line, size, bold)
    pages[-1].y -= leading / 2


def _head(page: _Page, headings: Sequence[str]) -> None:
    page.y -= _LEADING
    for x, heading in zip(_lefts(), headings, strict=True):
        page.text(x, heading, bold=True)
    page.y -= _PADDING
    page.rule(page.y, 1.0)


def _row(pages: list[_Page], row: Sequence[str], headings: Sequence[str]) -> None:
    cells = [list(wrap(cell, width - _PADDING * 2)) for cell, width in zip(row, _COLUMNS, strict=True)]
    height = max(len(lines) for lines in cells) * _LEADING + _PADDING
    if _room(pages, height):
        _head(pages[-1], headings)
    page = pages[-1]
    top = page.y
    for x, lines in zip(_lefts(), cells, strict=True):
        page.y = top
        for line in lines:
            page.y -= _LEADING
            page.text(x, line)
    page.y = top - height
    page.rule(page.y)


def _room(pages: list[_Page], height: float) -> bool:
    """Whether a new page was begun, since the last one has no room for `height`."""
    if pages[-1].y - height >= MARGIN + _LEADING:
        return False
    pages.append(_Page())
    return True


def _lefts() -> Iterator[float]:
    x = MARGIN
    for width in _COLUMNS:
        yield x
        x += width


def _written(pages: list[_Page], title: str, language: str) -> bytes:
    document = pydyf.PDF()
    document.info["Title"] = pydyf.String(title)
    document.info["Producer"] = pydyf.String("Contenitore")
    document.catalog["Lang"] = pydyf.String(language)
    fonts = pydyf.Dictionary()
    for name, base in (("R", "Helvetica"), ("B", "Helvetica-Bold")):
        font = pydyf.Dictionary({"Type": "/Font", "Subtype": "/Type1", "BaseFont": f"/{base}", "Encoding": "/WinAnsiEncoding"})
        document.add_object(font)
        fonts[name] = font.reference
    for number, page in enumerate(pages, 1):
        page.y = MARGIN - _LEADING
        page.text(WIDTH - MARGIN - 40, f"{number} / {len(pages)}", 8.0)
        document.add_object(page.stream)
        document.add_page(
            pydyf.Dictionary(
                {
                    "Type": "/Page",
                    "Parent": document.pages.reference,
                    "MediaBox": pydyf.Array([0, 0, WIDTH, HEIGHT]),
                    "Contents": page.stream.reference,
                    "Resources": pydyf.Dictionary({"Font": fonts}),
                }
            )
        )
    out = io.BytesIO()
    document.write(out)
    return out.getvalue()
