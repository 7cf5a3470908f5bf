"""What the pixels of an instance are: what is read, and what is refused with its reason."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit

from chalicelib.dicom.frames import examine
from chalicelib.dicom.header import read_head
from chalicelib.dicom.pixels import PixelDescription
from chalicelib.domain import pixel_facts
from tests.unit.dicom.building import SEQUENCE_END, UNDEFINED, element, identity, item, part10, reader

PRIVATE = "1.2.826.0.1.3680043.2.494.1.1"


def image(pixels: bytes, syntax: str = ExplicitVRLittleEndian, **said: Any) -> PixelDescription:
    values: dict[str, Any] = {
        "samples": 1, "kind": "MONOCHROME2", "frames": None, "planar": None, "rows": 4, "columns": 4,
        "allocated": 8, "stored": 8, "high_bit": 7, "sign": 0, **said,
    }  # fmt: skip

    def us(tag: int, value: int | None) -> bytes:
        return b"" if value is None else element(tag, "US", struct.pack("<H", value))

    body = identity() + us(0x00280002, values["samples"]) + element(0x00280004, "CS", values["kind"])
    body += us(0x00280006, values["planar"])
    body += element(0x00280008, "IS", str(values["frames"])) if values["frames"] is not None else b""
    body += us(0x00280010, values["rows"]) + us(0x00280011, values["columns"]) + us(0x00280100, values["allocated"])
    body += us(0x00280101, values["stored"]) + us(0x00280102, values["high_bit"]) + us(0x00280103, values["sign"])
    data = part10(body + pixels, syntax)
    found = examine(read_head(reader(data), len(data)), reader(data))
    assert found is not None
    return found


def native(count: int) -> bytes:
    return element(0x7FE00010, "OW", bytes(count))


def fragments(*values: bytes, table: bytes = b"") -> bytes:
    return element(0x7FE00010, "OB", b"", UNDEFINED) + item(table) + b"".join(map(item, values)) + SEQUENCE_END


def jpeg(rows: int = 4, columns: int = 4, samples: int = 1, precision: int = 8) -> bytes:
    components = b"".join(bytes([number + 1, 0x11, 0]) for number in range(samples))
    frame = struct.pack(">HBHHB", 8 + 3 * samples, precision, rows, columns, samples) + components
    return b"\xff\xd8\xff\xc0" + frame + b"\xff\xd9"


@pytest.mark.parametrize(
    ("said", "count", "frames"),
    [
        ({"frames": 3}, 48, 3),
        ({"frames": "3.0"}, 48, 3),
        ({"frames": 4}, 48, 3),
        ({"frames": 0}, 16, 1),
        ({"frames": "x"}, 16, 1),
        ({}, 48, 1),
        ({"frames": 2, "samples": 3, "kind": "YBR_FULL_422", "planar": 0}, 64, 2),
        ({"frames": 2, "samples": 3, "kind": "YBR_FULL_422", "planar": 0}, 96, 2),
        ({"frames": 3, "allocated": 1, "stored": 1, "high_bit": 0, "rows": 3, "columns": 3}, 4, 3),
    ],
)
def test_the_frames_that_are_there_are_counted(said: dict[str, Any], count: int, frames: int) -> None:
    found = image(native(count), **said)
    assert (found.facts.frames, found.facts.frames_fault) == (frames, "")


def test_the_length_says_whether_colour_is_shared() -> None:
    said: dict[str, Any] = {"samples": 3, "kind": "YBR_FULL_422", "planar": 0}
    shared, full = image(native(32), **said), image(native(48), **said)
    assert (shared.shared, shared.frame_bits, shared.layout.photometric) == (True, 256, "YBR_FULL_422")
    assert (full.shared, full.frame_bits, full.layout.photometric) == (False, 384, "YBR_FULL")
    assert "neither two nor three" in image(native(90), **said).facts.frames_fault


@pytest.mark.parametrize(
    ("pixels", "syntax", "said", "reason"),
    [
        (native(14), ExplicitVRLittleEndian, {}, "one frame needs 16"),
        (native(16), ExplicitVRLittleEndian, {"rows": None}, "does not say how many rows"),
        (native(16), JPEGBaseline8Bit, {}, "not in fragments"),
        (native(16), PRIVATE, {}, "not known here"),
        (fragments(jpeg()), PRIVATE, {}, "not known here"),
        (fragments(jpeg()), ExplicitVRLittleEndian, {}, "in fragments"),
        (fragments(jpeg()), JPEG2000Lossless, {}, "compressed otherwise"),
        (native(8), ExplicitVRLittleEndian,
         {"frames": 4, "allocated": 1, "stored": 1, "high_bit": 0, "rows": 3, "columns": 3}, "a byte each"),
    ],
)  # fmt: skip
def test_what_holds_no_frames_says_why(pixels: bytes, syntax: str, said: dict[str, Any], reason: str) -> None:
    found = image(pixels, syntax, **said)
    assert reason in found.facts.frames_fault and reason in found.facts.picture_fault


@pytest.mark.parametrize(
    ("pixels", "syntax", "said", "reason"),
    [
        (native(16), ExplicitVRLittleEndian, {"kind": "RGB"}, "cannot be RGB"),
        (native(64), ExplicitVRLittleEndian, {"kind": "ARGB", "samples": 4, "planar": 0}, "cannot be ARGB"),
        (native(16), ExplicitVRLittleEndian, {"stored": 9}, "cannot be stored"),
        (native(16), ExplicitVRLittleEndian, {"stored": None}, "cannot be stored"),
        (native(16), ExplicitVRLittleEndian, {"high_bit": 3}, "high bit"),
        (native(16), ExplicitVRLittleEndian, {"sign": None}, "have a sign"),
        (native(24), ExplicitVRLittleEndian, {"allocated": 12, "stored": 12, "high_bit": 11}, "12 bits allocated"),
        (native(48), ExplicitVRLittleEndian, {"kind": "RGB", "samples": 3, "planar": 2}, "planar configuration 2"),
        (fragments(jpeg(rows=8)), JPEGBaseline8Bit, {}, "8 rows"),
        (fragments(jpeg(samples=3)), JPEGBaseline8Bit, {}, "3 samples"),
        (fragments(jpeg(precision=12)), JPEGBaseline8Bit, {}, "12 bits"),
        (fragments(b"\xff\x0a" + bytes(20)), "1.2.840.10008.1.2.4.110", {}, "cannot be decoded here"),
    ],
)
def test_what_cannot_be_drawn_says_why_and_its_frames_are_had_as_they_are(
    pixels: bytes, syntax: str, said: dict[str, Any], reason: str
) -> None:
    found = image(pixels, syntax, **said)
    assert found.facts.frames_fault == ""
    assert reason in found.facts.picture_fault


@pytest.mark.parametrize("said", [2, 3, 4])
def test_frames_in_fragments_are_counted_where_their_number_is_wrong(said: int) -> None:
    found = image(fragments(jpeg(), jpeg(), jpeg()), JPEGBaseline8Bit, frames=said)
    assert found.facts.frames == 3


@pytest.mark.parametrize("facts", [pixel_facts.PixelFacts(), pixel_facts.PixelFacts(7, True, False, "a", "a", True)])
def test_facts_come_back_as_they_were(facts: pixel_facts.PixelFacts) -> None:
    assert pixel_facts.from_item(facts.to_item()) == facts
    assert pixel_facts.from_item(None) is None
    assert pixel_facts.from_item({"version": 0}) is None
