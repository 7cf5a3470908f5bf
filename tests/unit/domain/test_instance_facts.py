"""What is recorded of an instance comes back as it was, also as earlier releases recorded it."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.instance_facts import InstanceFact
from chalicelib.domain.pixel_facts import PixelFacts

FULL = InstanceFact(
    "0f" * 32, 1000, "2026-03-02T09:30:00.000Z", "1.2", "1.2.840.10008.1.2.1", {"00080060": ["CS", "CT"]}, 3,
    PatientIdentifier("2.16", "P"), 4, 512, 256, 300, 308, 692, 173, True, PixelFacts(frames=4, encapsulated=True), ("00081030",),
    ("00080020",), (1.5, "101500"), {"kernel": "B30"}, {"id": "x"}, {"images": ["1"]},
    "metadata/parts/a/b.json.gz", "f0" * 32, 2, "0123",
)  # fmt: skip


def test_every_field_comes_back() -> None:
    kept = json.loads(json.dumps(FULL.to_item()))
    assert InstanceFact.from_item(kept) == FULL
    assert not [one.name for one in fields(FULL) if getattr(FULL, one.name) == getattr(InstanceFact(), one.name)]


def test_what_is_the_default_takes_no_room() -> None:
    short = replace(InstanceFact(), sha256="0f" * 32, size=1, at="x", sop_class_uid="1.2", transfer_syntax_uid="1.2.3")
    assert set(short.to_item()) == {"sha256", "size", "at", "class", "syntax", "attributes", "reader"}


@pytest.mark.parametrize(
    "item",
    [
        {"sha256": "a", "size": 5, "at": "t", "class": "1.2", "syntax": "1.3", "attributes": {}},
        {"sha256": "a", "size": 5, "at": "t", "class": "1.2", "syntax": "1.3", "attributes": {}, "pixels": {"version": 1}},
    ],
)
def test_facts_of_earlier_releases_stay_readable(item: dict[str, Any]) -> None:
    fact = InstanceFact.from_item(item)
    assert (fact.sha256, fact.size, fact.sop_class_uid, fact.reader, fact.number_of_frames) == ("a", 5, "1.2", 1, 1)
    assert fact.pixels is None
    assert fact.patient is None
