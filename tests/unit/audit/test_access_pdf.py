"""The report on paper: every access is on it, readable, page by page."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from chalicelib.api.access_pdf import HEIGHT, MARGIN, WIDTH, encodable, render, width_of, wrap

HEADINGS = ["Quando", "Chi", "Che cosa", "Perché"]


def _read(rows: list[tuple[str, ...]], closing: tuple[str, ...] = ("Fine.",)) -> PdfReader:
    content = render("Chi ha consultato i Suoi esami", ["Introduzione."], HEADINGS, rows, list(closing), "it")
    return PdfReader(io.BytesIO(content), strict=True)


def _row(number: int) -> tuple[str, ...]:
    return ("01/03/2026 10:00", f"rossi{number}, Policlinico San Matteo", f"Ha aperto immagini: TC TORACE {number}", "Cura")


def test_every_access_and_every_letter_is_on_it() -> None:
    (page,) = _read([("01/03/2026 10:00", "Però (è) \\ così", "«città» – perché…", "Àèìòù €")]).pages
    text = page.extract_text()
    for part in (
        "Chi ha consultato i Suoi esami",
        "Introduzione.",
        *HEADINGS,
        "Però (è) \\ così",
        "«città» – perché…",
        "Àèìòù €",
        "Fine.",
    ):
        assert part in text


def test_many_accesses_take_many_pages_each_with_its_headings_and_number() -> None:
    reader = _read([_row(number) for number in range(300)])
    texts = [page.extract_text() for page in reader.pages]
    assert len(texts) > 5
    assert all("Quando" in text and f"{number} / {len(texts)}" in text for number, text in enumerate(texts, 1))
    whole = "\n".join(texts).replace("\n", " ")
    assert all(f"rossi{number}," in whole for number in range(300))


def test_it_says_its_title_and_language() -> None:
    reader = _read([_row(1)])
    assert reader.metadata is not None
    assert reader.metadata.title == "Chi ha consultato i Suoi esami"
    assert reader.trailer["/Root"]["/Lang"] == "it"


def test_two_thousand_accesses_fit_an_answer() -> None:
    content = render("t", [], HEADINGS, [_row(number) for number in range(2000)], [], "it")
    assert len(content) * 4 / 3 < 5_000_000


@pytest.mark.parametrize(
    ("text", "shown"), [("Čapek", "Capek"), ("Łódź", "?ódz"), ("日本", "??"), ("a\u200bb\tc", "a?b c"), ("Ž–€", "Ž–€")]
)
def test_letters_that_the_font_lacks_are_shown_by_the_nearest(text: str, shown: str) -> None:
    assert encodable(text) == shown


@given(st.text(max_size=300), st.floats(30, 400))
def test_no_line_is_wider_than_its_column(text: str, width: float) -> None:
    lines = list(wrap(text, width))
    assert all(width_of(line) <= width or len(line) == 1 for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.text(max_size=200)] * 4), max_size=6), st.text(max_size=500))
def test_whatever_is_written_the_document_is_sound(rows: list[tuple[str, ...]], closing: str) -> None:
    reader = _read(rows, (closing,))
    for page in reader.pages:
        assert page.mediabox.width == WIDTH
        assert page.mediabox.height == HEIGHT
        page.extract_text()
    assert MARGIN > 0
