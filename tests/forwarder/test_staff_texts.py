"""The staff pages' catalog: complete, compiled, and nothing left untranslated."""

from __future__ import annotations

import io
from pathlib import Path

from babel.messages import Catalog, extract
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from forwarder.hl7.adt.engine import ANNOUNCED, REASONS
from forwarder.web import pages

SOURCES = Path(pages.__file__).parent
CATALOG = SOURCES / "locale" / "it" / "LC_MESSAGES" / f"{pages.DOMAIN}.po"


def _catalog() -> Catalog:
    with CATALOG.open("rb") as file:
        return read_po(file)


def _texts() -> set[str]:
    with (SOURCES / "babel.cfg").open() as file:
        methods, options = parse_mapping_cfg(file)
    found = extract.extract_from_dir(SOURCES, methods, options, keywords={"_": None, "N_": None})
    return {str(message) for _, _, message, _, _ in found}


def test_the_italian_catalog_has_every_text_and_no_other() -> None:
    catalog = _catalog()
    assert {str(message.id) for message in catalog if message.id} == _texts()
    assert len(_texts()) > 50
    assert not any(message.fuzzy or not message.string for message in catalog if message.id)


def test_the_compiled_catalog_is_that_of_the_text() -> None:
    compiled = io.BytesIO()
    write_mo(compiled, _catalog())
    assert CATALOG.with_suffix(".mo").read_bytes() == compiled.getvalue()


def test_a_reason_that_registration_wrote_is_read_in_one_language() -> None:
    for reason in (*REASONS.values(), ANNOUNCED):
        shown = {language: pages.in_language(reason, language) for language in ("it", "en")}
        assert shown["it"] != shown["en"] and "(ADT^A" in shown["it"] and not any(" / " in text for text in shown.values())
    assert pages.in_language("TC / RM", "en") == "TC / RM"
