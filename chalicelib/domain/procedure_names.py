"""What a hospital calls its examinations, in its own words and codes: rows that it adds to the archive's table. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from chalicelib.domain import places, procedures
from chalicelib.domain.errors import BadRequest
from chalicelib.domain.fields import fields
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.procedures import Vocabulary

MAX_ROWS = 1000
"""Rows of one hospital, names and codes together."""
_LONGEST = 100
_MOST_PLACES = 6

Row = tuple[str, tuple[str, ...]]


@dataclass(frozen=True)
class OwnNames:
    """`names`: (phrase, places), a trailing `*` of a word meaning its beginning; `codes`: (`scheme|value`, places)."""

    names: tuple[Row, ...] = ()
    codes: tuple[Row, ...] = ()

    def to_item(self) -> JsonObject:
        """As its fact keeps it, and as it is answered."""
        return {
            "names": [{"phrase": text, "places": list(where)} for text, where in self.names],
            "codes": [{"code": code, "places": list(where)} for code, where in self.codes],
        }


def from_item(item: Mapping[str, Any]) -> OwnNames:
    """What `to_item` made."""
    return OwnNames(
        tuple((str(named["phrase"]), tuple(map(str, named["places"]))) for named in item["names"]),
        tuple((str(coded["code"]), tuple(map(str, coded["places"]))) for coded in item["codes"]),
    )


def parse(body: object) -> OwnNames:
    """The body of `PUT /procedure-names`. Raises BadRequest."""
    said = fields(body, ("names", "codes"))
    names, codes = _rows(said.get("names", []), "names", "phrase"), _rows(said.get("codes", []), "codes", "code")
    if len(names) + len(codes) > MAX_ROWS:
        raise BadRequest(f"At most {MAX_ROWS} names and codes are kept.", "names")
    if wrong := next((code for code, _ in codes if not all(code.partition("|")[::2])), None):
        raise BadRequest(f"A code is scheme|value, such as LOCAL|{wrong[:40].strip('|')}.", "codes")
    try:
        procedures.vocabulary(names)
    except ValueError as error:
        raise BadRequest(f"This is no phrase: {error}.", "names") from error
    return OwnNames(names, codes)


def _rows(value: object, parameter: str, field: str) -> tuple[Row, ...]:
    if not isinstance(value, list) or len(value) > MAX_ROWS:
        raise BadRequest(f"{parameter} must be a list of at most {MAX_ROWS}.", parameter)
    rows: dict[str, tuple[str, ...]] = {}
    for entry in value:
        row = fields(entry, (field, "places"), (field, "places"), of=parameter)
        text, where = row[field], row["places"]
        if not isinstance(text, str) or not text.strip() or len(text) > _LONGEST or not text.isprintable():
            raise BadRequest(f"{field} must be 1 to {_LONGEST} printable characters.", parameter)
        if (
            not isinstance(where, list)
            or len(where) > _MOST_PLACES
            or not all(isinstance(place, str) and place in places.ABOVE for place in where)
        ):
            raise BadRequest(f"places must be at most {_MOST_PLACES} of: {', '.join(places.ABOVE)}.", parameter)
        rows[text.strip()] = tuple(dict.fromkeys(where))
    return tuple(rows.items())


@lru_cache(64)
def vocabulary(own: OwnNames) -> Vocabulary:
    """The rows, ready to be matched."""
    return procedures.vocabulary(own.names, dict(own.codes))
