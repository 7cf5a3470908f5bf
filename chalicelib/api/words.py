"""The words that people read, in the languages of the catalogs in `chalicelib/locale` (gettext).

English stands in the code; `locale/it/LC_MESSAGES/contenitore.po` has the Italian. After a change:
`pybabel extract`, `update` and `compile` as docs/audit.md says; a test fails when a catalog is behind.
"""

from __future__ import annotations

import gettext
from collections.abc import Callable
from functools import cache
from pathlib import Path

LOCALE = Path(__file__).parent.parent / "locale"
DOMAIN = "contenitore"
LANGUAGES = ("it", "en")
DEFAULT = "it"
"""What hospitals here speak, where nobody asks for another."""


@cache
def words(language: str) -> Callable[[str], str]:
    """The translation of English texts into one of `LANGUAGES`."""
    if language == "en":
        return lambda text: text
    return gettext.translation(DOMAIN, LOCALE, [language]).gettext


def language_of(asked: str | None, accept_language: str | None) -> str:
    """The language to answer in: the one asked for by name, else the best of Accept-Language (RFC 9110 12.5.4)."""
    if asked in LANGUAGES:
        return str(asked)
    best, quality = DEFAULT, 0.0
    for part in (accept_language or "")[:500].split(","):
        tag, _, parameter = part.strip().partition(";")
        language = tag.split("-")[0].strip().lower()
        weight = _quality(parameter)
        if language in LANGUAGES and weight > quality:
            best, quality = language, weight
    return best


def _quality(parameter: str) -> float:
    name, _, value = parameter.replace(" ", "").partition("=")
    if name.lower() != "q":
        return 1.0
    try:
        return min(1.0, float(value)) if value.replace(".", "").isdigit() else 0.0
    except ValueError:
        return 0.0
