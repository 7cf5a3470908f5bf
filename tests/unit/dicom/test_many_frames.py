"""Functional groups of thousands of frames: walked as everything is, held by nobody, and the same in metadata and pictures."""

from __future__ import annotations

import json
import struct
import tracemalloc
from dataclasses import replace

import pytest

from chalicelib.dicom import served
from chalicelib.dicom.header import DEFAULT_LIMITS, read_head
from chalicelib.dicom.limits import Limits
from chalicelib.dicom.metadata import bulk_name, charset_at, find_value, full_metadata
from chalicelib.dicom.streaming import one_item
from chalicelib.domain.rejections import Rejected
from pixels.instance import OpenInstance
from tests.unit.dicom.building import ITEM_END, SEQUENCE_END, UNDEFINED, element, identity, item, part10, reader, real_files

GROUPS = 0x52009230
FEW = replace(DEFAULT_LIMITS, kept_items=3)


def sequence(tag: int, *items: bytes, undefined: bool = False) -> bytes:
    if not undefined:
        return element(tag, "SQ", b"".join(items))
    return element(tag, "SQ", b"", UNDEFINED) + b"".join(items) + SEQUENCE_END


def frame(number: int, *, undefined: bool = False, more: bytes = b"") -> bytes:
    position = sequence(0x00209113, item(element(0x00200032, "DS", f"{number}\\0\\0")), undefined=undefined)
    window = item(element(0x00281050, "DS", str(number)) + element(0x00281051, "DS", "100"))
    content = position + sequence(0x00289132, window, undefined=undefined) + more
    return item(content + ITEM_END, UNDEFINED) if undefined else item(content)


def segmentation(frames: int, *, undefined: bool = False, more: bytes = b"") -> bytes:
    image = element(0x00280002, "US", b"\1\0") + element(0x00280004, "CS", "MONOCHROME2")
    image += element(0x00280008, "IS", str(frames)) + element(0x00280010, "US", b"\4\0") + element(0x00280011, "US", b"\4\0")
    image += b"".join(element(tag, "US", struct.pack("<H", number)) for tag, number in enumerate((8, 8, 7, 0), 0x00280100))
    groups = sequence(GROUPS, *(frame(number, undefined=undefined, more=more) for number in range(frames)), undefined=undefined)
    return part10(identity() + image + groups + element(0x7FE00010, "OB", bytes(16 * frames)))


def metadata(data: bytes, limits: Limits) -> object:
    found = full_metadata(read_head(reader(data), len(data), limits), bulk_name)
    return {tag: json.loads(value) if isinstance(value, str) else value for tag, value in found.items()}


@pytest.mark.parametrize("undefined", [False, True])
def test_a_long_sequence_reads_as_a_short_one(undefined: bool) -> None:
    data = segmentation(8, undefined=undefined, more=element(0x00189999, "OB", bytes(70_000)))
    head = read_head(reader(data), len(data), FEW)
    assert head.streamed == {GROUPS: 8} and GROUPS not in head.dataset and head.left_out == ()
    assert metadata(data, FEW) == metadata(data, DEFAULT_LIMITS)
    for path in ((GROUPS, 5, 0x00189999), (GROUPS, 7, 0x00209113, 0, 0x00200032)):
        whole = read_head(reader(data), len(data))
        assert find_value(head, path) == find_value(whole, path) is not None
        assert charset_at(head, path) == charset_at(whole, path)
    assert find_value(head, (GROUPS, 8, 0x00189999)) is None and one_item(head, GROUPS, 8) is None


@pytest.mark.parametrize("name", ["emri_small.dcm", "test_files/liver.dcm", "eCT_Supplemental.dcm"])
def test_a_real_multi_frame_object_reads_the_same_either_way(name: str) -> None:
    path = real_files().get(name)
    if path is None:
        pytest.skip("not among pydicom's files of this version")
    data = path.read_bytes()
    assert metadata(data, replace(DEFAULT_LIMITS, kept_items=1)) == metadata(data, DEFAULT_LIMITS)


def test_what_is_kept_of_it_is_json() -> None:
    data = segmentation(1200)
    line = served.serve(served.keep(read_head(reader(data), len(data)), "1", "2"), "http://a", "", None)
    assert len(json.loads(line)["52009230"]["Value"]) == 1200


def test_a_frame_has_the_window_of_its_own_group() -> None:
    data = segmentation(1200)
    opened = OpenInstance(reader(data), len(data))
    (group,) = opened.groups(1111)
    window = group.item(0x00289132)
    assert window is not None and window.numbers(0x00281050) == [1111.0]


def test_tens_of_thousands_of_frames_are_read_in_little_memory() -> None:
    data = segmentation(20_000)
    tracemalloc.start()
    try:
        head = read_head(reader(data), len(data))
        assert tracemalloc.get_traced_memory()[1] < 40 * 1024 * 1024
    finally:
        tracemalloc.stop()
    assert head.streamed == {GROUPS: 20_000}


@pytest.mark.parametrize(("frames", "streamed"), [(1000, {}), (1001, {GROUPS: 1001})])
def test_1000_items_are_held_and_of_more_none(frames: int, streamed: dict[int, int]) -> None:
    data = segmentation(frames)
    assert read_head(reader(data), len(data)).streamed == streamed


def test_there_is_a_limit() -> None:
    data = segmentation(2000)
    with pytest.raises(Rejected, match="more than 5000 elements"):
        read_head(reader(data), len(data), replace(DEFAULT_LIMITS, passed=5000))
