"""Section 9 of docs/conformance.md against the code: SOP classes, keys and statuses; and the keys against the archive's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import UID_dictionary

from chalicelib.dicomweb import search_attributes
from forwarder.dicom.queries import MODELS, SOP_CLASS_NOT_SUPPORTED
from forwarder.query import keys
from forwarder.retrieve import query_retrieve

TEXT = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8").split("## 9 ")[1]


def rows(first_cell: str) -> list[list[str]]:
    """The rows of the table whose head begins with this cell."""
    table = TEXT.split(f"| {first_cell} |")[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]


def test_every_sop_class_is_in_the_statement() -> None:
    assert {uid for _, uid, _ in rows("SOP class")} == set(MODELS)
    names = {uid: UID_dictionary[uid][0].replace(" - ", " – ") for uid in MODELS}
    assert {uid: name for name, uid, _ in rows("SOP class")} == names


def test_every_key_is_in_the_statement_with_its_level() -> None:
    known = {**keys.ATTRIBUTES, **keys.RETURNED_ONLY}
    del known["SpecificCharacterSet"], known["QueryRetrieveLevel"]
    stated = {keyword: level for keyword, _, level, _, _ in rows("key")}
    assert stated == known
    for keyword, tag, _, kind, how in rows("key"):
        assert f"{tag_for_keyword(keyword):08X}" == tag
        assert (kind == "unique") == (keyword in keys.UNIQUE_KEYS)
        assert (how == "returned") == (keyword in keys.RETURNED_ONLY)


def test_every_key_that_is_matched_is_one_of_the_archives() -> None:
    """What the archive learns to search, the forwarder has to offer, and nothing else."""
    levels = {"study": ("PATIENT", "STUDY"), "series": ("SERIES",), "instance": ("IMAGE",)}
    matched = {
        row.keyword: row for row in search_attributes.ATTRIBUTES.values() if row.tag not in search_attributes.RETURNED_ONLY
    }
    assert set(matched) == set(keys.ATTRIBUTES)
    for keyword, row in matched.items():
        assert keys.ATTRIBUTES[keyword] in levels[row.level], keyword


@pytest.mark.parametrize("keyword", sorted(keys.ATTRIBUTES))
def test_each_key_is_understood_at_its_level(keyword: str) -> None:
    level = keys.ATTRIBUTES[keyword]
    asked = Dataset()
    for above in keys.UNIQUE_KEYS[: keys.LEVELS.index(level)]:
        setattr(asked, above, "1.2.3")
    asked.QueryRetrieveLevel = level
    setattr(asked, keyword, [] if keyword.endswith("Sequence") else None)
    found = keys.understood("PATIENT", _as_received(asked))
    assert [key.path for key in found.keys] == [(tag_for_keyword(keyword),)]
    assert not found.ignored


def _as_received(asked: Dataset) -> Dataset:
    from io import BytesIO

    from pynetdicom.dsutils import decode, encode

    return decode(BytesIO(encode(asked, True, True) or b""), True, True)


def test_every_status_is_in_the_statement() -> None:
    statuses = {value for name, value in vars(query_retrieve).items() if name.isupper() and isinstance(value, int)}
    statuses.add(SOP_CLASS_NOT_SUPPORTED)
    stated = {int(row[0], 16) for table in ("C-FIND status", "C-MOVE and C-GET status") for row in rows(table)}
    assert stated == statuses
    assert all(re.fullmatch(r"[0-9A-F]{4}", row[0]) for row in rows("C-FIND status"))
