"""The page speaks both languages, completely."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from chalicelib.domain import report_sections

SITE = Path(__file__).parents[2] / "viewer" / "site"
CATALOGS = {path.stem: json.loads(path.read_text()) for path in (SITE / "page" / "text").glob("*.json")}
NOTICES = (
    "noLink",
    "unknown",
    "elsewhere",
    "gone",
    "revoked",
    "ended",
    "offline",
    "broken",
    "refused",
    "secondEmpty",
    "secondElsewhere",
)


def _places(text: Any) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", json.dumps(text)))


def test_italian_and_english_have_the_same_texts_with_the_same_places() -> None:
    assert set(CATALOGS) == {"it", "en"}
    assert set(CATALOGS["it"]) == set(CATALOGS["en"])
    for key, text in CATALOGS["it"].items():
        assert _places(text) == _places(CATALOGS["en"][key]), key
        assert isinstance(text, dict) == isinstance(CATALOGS["en"][key], dict), key


def test_plurals_have_the_forms_that_both_languages_need() -> None:
    for catalog in CATALOGS.values():
        for text in catalog.values():
            if isinstance(text, dict):
                assert set(text) == {"one", "other"}


def test_every_text_that_the_page_uses_exists_and_every_one_is_used() -> None:
    source = "".join(path.read_text() for path in (SITE / "page").glob("*.js"))
    known = set(CATALOGS["en"])
    assert not set(re.findall(r"\bt\(\s*'(\w+)'", source)) - known
    quoted = set(re.findall(r"'(\w+)'", source)) | {f"{notice}Title" for notice in NOTICES} | {"sexF", "sexM"}
    assert not known - quoted - {f"section_{kind}" for kind in report_sections.KINDS}


def test_no_text_is_written_into_the_page_as_markup() -> None:
    for path in (SITE / "page").glob("*.js"):
        markup = re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", path.read_text())
        assert markup is None, path.name


def test_the_page_has_no_inline_script_style_or_foreign_address() -> None:
    html = (SITE / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)", html)
    assert not re.search(r"<style|style=|\son\w+=", html)
    for path in (SITE / "page").rglob("*"):
        if path.is_file():
            assert not re.search(r"https?://(?!www\.w3\.org)", path.read_text()), path.name


def test_every_module_that_the_page_starts_with_is_announced_in_its_html() -> None:
    needed: set[str] = set()
    waiting = ["main.js"]
    while waiting:
        source = (SITE / "page" / waiting.pop()).read_text()
        found = set(re.findall(r"from '\./([\w-]+\.js)'", source)) - needed
        needed |= found
        waiting += found
    html = (SITE / "index.html").read_text()
    loaded = set(re.findall(r'<script type="module"[^>]* src="/page/([^"]+)"', html))
    assert loaded == {"main.js", "early.js"}
    assert set(re.findall(r'rel="modulepreload" href="/page/([^"]+)"', html)) == needed - loaded
