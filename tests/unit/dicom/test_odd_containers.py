"""Data sets as equipment writes them: other VRs, odd lengths, delimiters missing or odd, padding, file meta that is wrong."""

from __future__ import annotations

import struct

import pytest

from chalicelib.dicom.header import Head, read_head
from chalicelib.dicom.identity import single_uid
from chalicelib.dicom.values import text_of
from chalicelib.domain import tags
from tests.unit.dicom.building import (
    BIG,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    element,
    file_meta,
    identity,
    implicit,
    item,
    part10,
    pixels,
    reader,
)

PRIVATE = "1.2.826.0.1.3680043.2.494.1.1"
CODE = element(0x00080100, "SH", "T-D1100")
NAME = element(0x00100010, "PN", "Rossi")


def read(data: bytes) -> Head:
    return read_head(reader(data), len(data))


def whole(body: bytes, syntax: str = EXPLICIT, after: bytes = pixels(256)) -> Head:
    """The head of an instance that has `body` among its elements, the patient's name and pixels behind it."""
    head = read(part10(identity() + body + NAME + after, syntax))
    assert text_of(head.dataset, 0x00100010, "PN") == "Rossi"
    assert text_of(head.dataset, 0x00100020, "LO") == "P1"
    return head


@pytest.mark.parametrize("vr", [b"RE", b"  ", b"\0\0", b"??", b"sh", b"Sh", b"--", b"\xff\xff"])
@pytest.mark.parametrize("large", [False, True], ids=["a small file", "one in which the other length would fit"])
@pytest.mark.parametrize("value", [b"ABCD", b"", b"A" * 300])
def test_a_vr_that_is_none_keeps_nothing_from_being_read(vr: bytes, large: bool, value: bytes) -> None:
    odd = struct.pack("<HH", 0x0009, 0x1010) + vr + struct.pack("<H", len(value)) + value
    head = whole(odd, after=pixels(90_000_000 if large else 256))
    assert bytes(head.dataset.get_item(0x00091010).value or b"") == value


def test_a_standard_attribute_without_a_vr_is_read_by_the_dictionary() -> None:
    body = struct.pack("<HH2sH", 0x0008, 0x1030, b"  ", 6) + b"TORACE"
    assert text_of(whole(body).dataset, 0x00081030, "LO") == "TORACE"
    lower = struct.pack("<HH2sH", 0x0008, 0x1030, b"lo", 6) + b"TORACE"
    assert text_of(whole(lower).dataset, 0x00081030, "LO") == "TORACE"


def test_an_element_that_is_implicit_among_explicit_ones_is_read() -> None:
    assert text_of(whole(implicit(0x00081030, "TORACE")).dataset, 0x00081030, "LO") == "TORACE"
    assert whole(implicit(0x00091010, b"\1\2" * 5000)).dataset.get_item(0x00091010).value == b"\1\2" * 5000


def bare(*more: tuple[int, str]) -> bytes:
    """The elements of an instance in Implicit VR."""
    pairs = [(0x00080016, "1.2.840.10008.5.1.4.1.1.2"), (0x00080018, "1.2.3.4.5"), (0x0020000E, "1.2.3.4"), *more]
    return b"".join(implicit(tag, text) for tag, text in sorted(pairs))


@pytest.mark.parametrize("padded", [False, True], ids=["as its length says", "and a byte more"])
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_a_value_of_odd_length(syntax: str, padded: bool) -> None:
    value = b"TOR" + b" " * padded
    if syntax == IMPLICIT:
        before, after = bare((0x0020000D, "1.2.3")).split(b"\x20\x00\x0d\x00")
        odd = struct.pack("<HHL", 0x0010, 0x2154, 3) + value
        dataset = read(part10(before + odd + b"\x20\x00\x0d\x00" + after, syntax)).dataset
        assert text_of(dataset, 0x00102154, "SH") == "TOR"
    else:
        dataset = whole(element(0x00081030, "LO", value[:3], 3)[:-1] + value[3:]).dataset
        assert text_of(dataset, 0x00081030, "LO") == "TOR"


@pytest.mark.parametrize(
    "content",
    [
        item(CODE, UNDEFINED) + ITEM_END + SEQUENCE_END,
        item(CODE, UNDEFINED) + struct.pack("<HHL", 0xFFFE, 0xE00D, UNDEFINED) + SEQUENCE_END,
        item(CODE, UNDEFINED) + ITEM_END + struct.pack("<HHL", 0xFFFE, 0xE0DD, UNDEFINED),
        item(CODE, UNDEFINED) + SEQUENCE_END,
        item(CODE, UNDEFINED) + ITEM_END,
        item(CODE),
        item(CODE) + ITEM_END + SEQUENCE_END,
    ],
    ids=["right", "item's of undefined length", "sequence's of undefined length", "item's missing", "sequence's missing",
         "both missing, of a defined length", "one too many"],
)  # fmt: skip
@pytest.mark.parametrize("items", [1, 3])
def test_delimiters_that_are_odd_or_missing(content: bytes, items: int) -> None:
    first = content[: content.index(CODE) + len(CODE)]
    head = whole(element(0x00081032, "SQ", b"", UNDEFINED) + first * (items - 1) + content)
    found = head.dataset.get_item(0x00081032).value
    assert [text_of(nested, 0x00080100, "SH") for nested in found] == ["T-D1100"] * items


def test_items_without_end_in_a_sequence_that_has_one() -> None:
    inner = element(0x00081032, "SQ", b"", UNDEFINED) + item(CODE, UNDEFINED)
    head = whole(element(0x00089215, "SQ", item(inner, UNDEFINED)) + element(0x00091010, "SH", "B"))
    (outer,) = head.dataset.get_item(0x00089215).value
    assert text_of(outer.get_item(0x00081032).value[0], 0x00080100, "SH") == "T-D1100"


def test_a_delimiter_behind_a_sequence_of_defined_length_inside_an_open_item_ends_nothing() -> None:
    inner = element(0x00081032, "SQ", item(CODE)) + SEQUENCE_END + element(0x00081048, "LO", "Torace")
    head = whole(element(0x00089215, "SQ", b"", UNDEFINED) + item(inner, UNDEFINED) + ITEM_END + SEQUENCE_END)
    (outer,) = head.dataset.get_item(0x00089215).value
    assert text_of(outer, 0x00081048, "LO") == "Torace"


@pytest.mark.parametrize("syntax", [EXPLICIT, DEFLATED])
@pytest.mark.parametrize("padding", [b"\r\n", b"\n", bytes(6), bytes(8), bytes(70_000), b"\r\n" * 40, b" " * 512, b"\x1a"])
def test_padding_behind_the_last_element_is_no_element(padding: bytes, syntax: str) -> None:
    head = read(part10(identity() + padding, syntax))
    assert max(head.dataset.keys()) == 0x0020000E
    assert whole(b"", syntax, pixels(256) + padding).pixel_data is not None


@pytest.mark.parametrize("length", [10, 13, 26, 32])
def test_a_uid_whose_head_looks_like_padding_is_a_uid(length: int) -> None:
    study = "1." + "2" * (length - 2)
    dataset = read(part10(bare((0x0020000D, study)), IMPLICIT)).dataset
    assert text_of(dataset, 0x0020000D, "UI") == study


@pytest.mark.parametrize("declared", [EXPLICIT, IMPLICIT, BIG, DEFLATED, PRIVATE])
@pytest.mark.parametrize("actual", [EXPLICIT, IMPLICIT, BIG])
@pytest.mark.parametrize("form", ["whole", "no file meta", "no preamble", "no syntax", "group length wrong"])
def test_file_meta_that_contradicts_the_data_set_is_not_believed(declared: str, actual: str, form: str) -> None:
    pairs = ((0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.2"), (0x00080018, "UI", "1.2.3.4.5"), (0x00100020, "LO", "P1"),
             (0x0020000D, "UI", "1.2.3"), (0x0020000E, "UI", "1.2.3.4"), (0x7FE00010, "OW", b"\1\2" * 32))  # fmt: skip
    order = ">" if actual == BIG else "<"
    body = b"".join(implicit(tag, text) if actual == IMPLICIT else element(tag, vr, text, order=order) for tag, vr, text in pairs)
    meta = file_meta(declared)
    if form == "no syntax":
        meta = meta[: meta.index(b"\x02\x00\x10\x00")]
    elif form == "group length wrong":
        meta = meta[:8] + struct.pack("<L", 7) + meta[12:]
    data = {"no file meta": body, "no preamble": meta + body}.get(form, bytes(128) + b"DICM" + meta + body)
    head = read(data)
    assert text_of(head.dataset, 0x00100020, "LO") == "P1"
    assert head.pixel_data is not None
    assert head.pixel_data.length == 64
    if declared != PRIVATE or form in ("no file meta", "no syntax"):
        assert (head.transfer_syntax_uid, head.deflated) == (actual, False)
    else:
        assert head.transfer_syntax_uid == PRIVATE


@pytest.mark.parametrize("end", [b"\n", b" \r\n", b"\0\0", b"\t"])
def test_what_stands_behind_a_uid_is_no_part_of_it(end: bytes) -> None:
    study = b"1.2.3" + end
    body = identity().replace(element(0x0020000D, "UI", "1.2.3"), element(0x0020000D, "UI", study + b"\0" * (len(study) % 2)))
    syntax = EXPLICIT.encode() + end
    head = read(part10(body + NAME + pixels(256)).replace(element(0x00020010, "UI", EXPLICIT), element(0x00020010, "UI", syntax)))
    assert head.transfer_syntax_uid == EXPLICIT
    assert text_of(head.dataset, 0x0020000D, "UI") == single_uid(head.dataset, tags.StudyInstanceUID) == "1.2.3"
