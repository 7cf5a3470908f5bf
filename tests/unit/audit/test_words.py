"""The catalogs: complete, compiled, and chosen as the reader asks."""

from __future__ import annotations

import io
import string
from pathlib import Path

import pytest
from babel.messages import Catalog, extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from chalicelib.api import access_report
from chalicelib.api.words import DOMAIN, LANGUAGES, LOCALE, language_of, words
from chalicelib.domain.audit import Kind, Purpose

CATALOG = LOCALE / "it" / "LC_MESSAGES" / f"{DOMAIN}.po"
SOURCES = Path(access_report.__file__).parent


def _catalog() -> Catalog:
    with CATALOG.open("rb") as file:
        return read_po(file)


def _texts() -> set[str]:
    """Everything that is marked for translation."""
    found = extract.extract_from_dir(SOURCES, [("**.py", "python")], keywords={"_": None, "N_": None})
    return {str(message) for _, _, message, _, _ in found}


def test_the_italian_catalog_has_every_text_and_no_other() -> None:
    catalog = _catalog()
    assert {str(message.id) for message in catalog if message.id} == _texts()
    assert all(message.string for message in catalog if message.id)
    assert not any(message.fuzzy for message in catalog if message.id)


def test_the_compiled_catalog_is_that_of_the_text() -> None:
    compiled = io.BytesIO()
    write_mo(compiled, _catalog())
    assert CATALOG.with_suffix(".mo").read_bytes() == compiled.getvalue()


def test_a_translation_keeps_the_places_for_what_is_filled_in() -> None:
    italian = words("it")
    for text in _texts():
        places = [name for _, name, _, _ in string.Formatter().parse(text) if name]
        assert sorted(name for _, name, _, _ in string.Formatter().parse(italian(text)) if name) == sorted(places), text


def test_every_kind_of_event_and_every_purpose_has_words_in_every_language() -> None:
    assert set(access_report._WHAT) == set(Kind)
    assert set(access_report._WHY) == set(Purpose)
    for text in [*access_report._WHAT.values(), *access_report._WHY.values()]:
        assert words("it")(text) != text


@pytest.mark.parametrize(
    ("asked", "accept_language", "language"),
    [
        (None, None, "it"), ("en", "it", "en"), ("it", "en", "it"), (None, "en-GB,en;q=0.9", "en"), (None, "de,en;q=0.3", "en"),
        (None, "en;q=0.2,it;q=0.8", "it"), (None, "fr", "it"), (None, "*", "it"), (None, "en;q=0", "it"),
        (None, ";;,q=,en;q=x", "it"),
        (None, "EN", "en"), (None, "en;q=0.8;level=1,it;q=0.1", "it"),
    ],
)  # fmt: skip
def test_the_language_is_the_one_asked_for_or_accepted(asked: str | None, accept_language: str | None, language: str) -> None:
    assert language_of(asked, accept_language) == language
    assert language in LANGUAGES
