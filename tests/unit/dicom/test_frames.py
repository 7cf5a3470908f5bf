"""Each frame is found where the standard says that it is, with as few reads as the object allows."""

from __future__ import annotations

import struct
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.encaps import generate_frames

from chalicelib.dicom.frames import Extent, FrameError, frame_bytes, locate_frames
from chalicelib.dicom.header import read_head
from chalicelib.domain.rejections import Rejected
from tests.unit.dicom.building import (
    DEFLATED,
    EXPLICIT,
    JPEG,
    SEQUENCE_END,
    UNDEFINED,
    Counting,
    element,
    identity,
    item,
    part10,
    reader,
    real_files,
)


def readable_with_pixels() -> list[str]:
    names = []
    for name, path in real_files().items():
        data = path.read_bytes()
        try:
            head = read_head(reader(data), len(data))
        except Rejected:
            continue
        if head.pixel_data is not None and not head.deflated:
            names.append(name)
    return names


def frames_of(data: bytes) -> list[bytes]:
    head = read_head(reader(data), len(data))
    extents = locate_frames(head, reader(data))
    return [frame_bytes(extent, data[extent.start : extent.start + extent.length]) for extent in extents]


def dimensions(rows: int, columns: int, bits: int, frames: int, samples: int = 1, kind: str = "MONOCHROME2") -> bytes:
    return (
        element(0x00280002, "US", struct.pack("<H", samples))
        + element(0x00280004, "CS", kind)
        + element(0x00280008, "IS", str(frames))
        + element(0x00280010, "US", struct.pack("<H", rows))
        + element(0x00280011, "US", struct.pack("<H", columns))
        + element(0x00280100, "US", struct.pack("<H", bits))
    )


def encapsulated(frames: int, pixel_data: bytes, tables: bytes = b"") -> bytes:
    body = identity() + dimensions(8, 8, 8, frames) + tables
    return part10(body + element(0x7FE00010, "OB", b"", UNDEFINED) + pixel_data + SEQUENCE_END, JPEG)


FRAMES = [b"\xff\xd8one\xff\xd9\0", b"\xff\xd8two, longer\xff\xd9\0", b"\xff\xd8three\xff\xd9\0"]


@pytest.mark.parametrize("name", readable_with_pixels())
def test_the_frames_of_real_files_are_those_that_pydicom_finds(name: str) -> None:
    data = real_files()[name].read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = dcmread(real_files()[name], force=True)
    found = frames_of(data)
    if "PixelData" not in whole:  # pydicom loses the pixels of a file without a delimiter at its end
        assert name == "emri_small_jpeg_2k_lossless_too_short.dcm" and len(found) == 10
        return
    count = int(whole.get("NumberOfFrames") or 1)
    assert len(found) == count
    if whole["PixelData"].is_undefined_length:
        assert found == list(generate_frames(whole.PixelData, number_of_frames=count))
    elif whole.BitsAllocated > 1:
        size = whole.Rows * whole.Columns * whole.BitsAllocated // 8
        size = size * 2 if whole.PhotometricInterpretation == "YBR_FULL_422" else size * whole.SamplesPerPixel
        assert found == [whole.PixelData[number * size : (number + 1) * size] for number in range(count)]
        assert size * count <= len(whole.PixelData)


def test_native_frames_are_found_without_reading_anything() -> None:
    data = part10(identity() + dimensions(4, 4, 16, 3) + element(0x7FE00010, "OW", bytes(range(96))))
    head = read_head(reader(data), len(data))
    fetch = Counting(data)
    extents = locate_frames(head, fetch)
    assert fetch.asked == []
    assert [data[extent.start : extent.start + extent.length] for extent in extents] == [
        bytes(range(32)),
        bytes(range(32, 64)),
        bytes(range(64, 96)),
    ]


def test_frames_of_ybr_full_422_have_two_bytes_a_pixel() -> None:
    body = identity() + dimensions(2, 2, 8, 2, samples=3, kind="YBR_FULL_422")
    data = part10(body + element(0x7FE00010, "OB", bytes(range(16))))
    assert frames_of(data) == [bytes(range(8)), bytes(range(8, 16))]


@given(rows=st.integers(1, 9), columns=st.integers(1, 9), frames=st.integers(1, 6), data=st.data())
def test_frames_of_one_bit_are_cut_between_bits(rows: int, columns: int, frames: int, data: st.DataObject) -> None:
    size = rows * columns
    planes = [data.draw(st.integers(0, (1 << size) - 1)) for _ in range(frames)]
    packed = sum(plane << (number * size) for number, plane in enumerate(planes))
    pixel_data = packed.to_bytes((size * frames + 7) // 8, "little")
    whole = part10(identity() + dimensions(rows, columns, 1, frames) + element(0x7FE00010, "OB", pixel_data))
    assert frames_of(whole) == [plane.to_bytes((size + 7) // 8, "little") for plane in planes]


def test_a_basic_offset_table_is_followed() -> None:
    table = struct.pack("<3L", 0, 8 + len(FRAMES[0]), 16 + len(FRAMES[0]) + len(FRAMES[1]))
    data = encapsulated(3, item(table) + b"".join(map(item, FRAMES)))
    assert frames_of(data) == FRAMES


def test_fragments_of_a_frame_are_joined() -> None:
    halves = [item(frame[:4]) + item(frame[4:]) for frame in FRAMES]
    table = struct.pack("<3L", 0, len(halves[0]), len(halves[0] + halves[1]))
    assert frames_of(encapsulated(3, item(table) + b"".join(halves))) == FRAMES
    assert frames_of(encapsulated(1, item(b"") + halves[0])) == FRAMES[:1]


def test_without_a_table_a_fragment_is_a_frame_or_ends_one_by_its_marker() -> None:
    assert frames_of(encapsulated(3, item(b"") + b"".join(map(item, FRAMES)))) == FRAMES
    halves = b"".join(item(frame[:4]) + item(frame[4:]) for frame in FRAMES)
    assert frames_of(encapsulated(3, item(b"") + halves)) == FRAMES


def test_an_extended_offset_table_is_followed() -> None:
    offsets = struct.pack("<3Q", 0, 8 + len(FRAMES[0]), 16 + len(FRAMES[0]) + len(FRAMES[1]))
    lengths = struct.pack("<3Q", *map(len, FRAMES))
    tables = element(0x7FE00001, "OV", offsets) + element(0x7FE00002, "OV", lengths)
    assert frames_of(encapsulated(3, item(b"") + b"".join(map(item, FRAMES)), tables)) == FRAMES


@pytest.mark.parametrize(
    "table",
    [(5, 20, 40), (0, 40, 20), (0, 20, 0xFFFFFFF0), (0, 0, 0)],
)
def test_a_table_that_cannot_be_right_is_not_believed(table: tuple[int, int, int]) -> None:
    data = encapsulated(3, item(struct.pack("<3L", *table)) + b"".join(map(item, FRAMES)))
    assert frames_of(data) == FRAMES


def test_frames_far_apart_cost_one_read_each_and_no_pixels() -> None:
    frames = [bytes([number]) * 200_000 for number in range(5)]
    data = encapsulated(5, item(b"") + b"".join(map(item, frames)))
    head = read_head(reader(data), len(data))
    fetch = Counting(data)
    assert len(locate_frames(head, fetch)) == 5
    assert len(fetch.asked) <= 6
    assert sum(length for _, length in fetch.asked) <= 6 * 64 * 1024


@pytest.mark.parametrize(
    "data",
    [
        part10(identity()),
        part10(identity() + dimensions(8, 8, 16, 4) + element(0x7FE00010, "OW", bytes(96))),
        part10(identity() + dimensions(0, 4, 16, 1) + element(0x7FE00010, "OW", bytes(96))),
        part10(identity() + element(0x7FE00010, "OW", bytes(96)), EXPLICIT),
        part10(identity() + dimensions(4, 4, 16, 1) + element(0x7FE00010, "OW", bytes(32)), DEFLATED),
        encapsulated(10**6, item(b"") + item(b"\0\0") * 3),
        encapsulated(4, item(b"") + item(b"\0\0") * 3),
    ],
)
def test_frames_that_cannot_be_told_apart_are_an_error(data: bytes) -> None:
    head = read_head(reader(data), len(data))
    with pytest.raises(FrameError):
        locate_frames(head, reader(data))


def test_a_fragment_that_is_longer_than_what_was_read_is_an_error() -> None:
    with pytest.raises(FrameError):
        frame_bytes(Extent(0, 12, True), item(b"1234", 400))
