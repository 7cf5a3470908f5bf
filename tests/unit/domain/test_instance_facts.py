"""What is recorded of an instance comes back as it was, also as earlier releases recorded it."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.image_geometry import ImageGeometry, ReadingPlace
from chalicelib.domain.instance_facts import InstanceFact, KeyImages
from chalicelib.domain.pixel_facts import PixelFacts
from chalicelib.domain.report_versions import DeclaredDocument

FULL = InstanceFact(
    sha256="0f" * 32, size=1000, at="2026-03-02T09:30:00.000Z", sop_class_uid="1.2", transfer_syntax_uid="1.2.840.10008.1.2.1",
    kept={"00080060": ["CS", "CT"]}, reader=3, patient=PatientIdentifier("2.16", "P"), number_of_frames=4, rows=512, columns=256,
    header_length=300, pixel_offset=308, pixel_length=692, frame_length=173, deflated=True,
    pixels=PixelFacts(frames=4, encapsulated=True), dropped=("00081030",), unread=("00080020",),
    place=ReadingPlace(1.5, "101500"),
    geometry=ImageGeometry(
        (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (0.0, 0.0, -1.5), ("L", "P"), (0.5, 0.25), True, 1.25, "B30", (40.0, 400.0), True, 33.3,
        "CC", "0a1b2c3d", 1.25, 90.0,
    ),
    document=DeclaredDocument(
        ("1.9",), True, "n", ("m",), "final", "i", "s", ("j",), "20260302", "093000", "c", 0, "Polmonite basale.",
    ),
    key_images=KeyImages("KO", "Of Interest", "nodulo", {"1.2": (3, 5), "1.3": ()}),
    part="metadata/parts/a/b.json.gz", original_sha256="f0" * 32, corrected=2, batch="0123",
)  # fmt: skip
STORED: dict[str, Any] = {
    "sha256": "0f" * 32, "size": 1000, "at": "2026-03-02T09:30:00.000Z", "class": "1.2", "syntax": "1.2.840.10008.1.2.1",
    "attributes": {"00080060": ["CS", "CT"]}, "reader": 3, "patient": {"issuer": "2.16", "id": "P"}, "number_of_frames": 4,
    "rows": 512, "columns": 256, "header_length": 300, "pixel_offset": 308, "pixel_length": 692, "frame_length": 173,
    "deflated": True, "pixels": {"version": 2, "frames": 4, "encapsulated": True}, "dropped": ["00081030"],
    "unread": ["00080020"], "place": [1.5, "101500"],
    "geometry": {
        "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "position": [0.0, 0.0, -1.5], "toward": ["L", "P"], "spacing": [0.5, 0.25],
        "at_detector": True, "thickness": 1.25, "kernel": "B30", "window": [40.0, 400.0], "inverse": True, "frame_time": 33.3,
        "view": "CC", "frame": "0a1b2c3d", "aspect": 1.25, "echo_time": 90.0,
    },
    "document": {
        "replaces": ["1.9"], "preliminary": True, "named": "n", "replaces_named": ["m"], "status": "final", "id": "i", "set": "s",
        "replaces_ids": ["j"], "date": "20260302", "time": "093000", "content": "c", "version": 0,
        "conclusion": "Polmonite basale.",
    },
    "key_images": {"kind": "KO", "title": "Of Interest", "description": "nodulo", "images": [["1.2", 3, 5], ["1.3"]]},
    "part": "metadata/parts/a/b.json.gz", "original_sha256": "f0" * 32, "corrected": 2, "batch": "0123",
}  # fmt: skip
"""As the release before these types wrote it."""


def test_every_field_comes_back() -> None:
    kept = json.loads(json.dumps(FULL.to_item()))
    assert InstanceFact.from_item(kept) == FULL
    assert not [field.name for field in fields(FULL) if getattr(FULL, field.name) == getattr(InstanceFact(), field.name)]


def test_what_an_earlier_release_stored_is_what_is_stored_now() -> None:
    assert InstanceFact.from_item(STORED) == FULL
    assert json.loads(json.dumps(FULL.to_item())) == STORED


def test_what_a_later_release_may_add_is_passed_over() -> None:
    later = {name: STORED[name] | {"later": 1} for name in ("geometry", "document", "key_images")}
    assert InstanceFact.from_item(STORED | later) == FULL


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
