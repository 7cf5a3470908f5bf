"""Hostile and broken objects: each is refused for its own reason, in bounded time and memory, and nothing
leaks.
"""

from __future__ import annotations

import struct
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from chalicelib.dicom.header import Head, read_head
from chalicelib.dicom.limits import KIB, MIB, Limits
from chalicelib.dicom.summary import summarise
from chalicelib.domain.rejections import REASONS, Rejected
from tests.unit.dicom.building import (
    BIG,
    CT,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    ITEM_END,
    JPEG,
    SEQUENCE_END,
    UNDEFINED,
    Counting,
    element,
    file_meta,
    identity,
    image,
    implicit,
    item,
    part10,
    pixels,
    reader,
)


def read(data: bytes, limits: Limits | None = None) -> Head:
    return read_head(reader(data), len(data), limits or Limits())


def reason(data: bytes, limits: Limits | None = None) -> str | None:
    try:
        read(data, limits)
    except Rejected as rejected:
        assert rejected.reason in REASONS
        return rejected.reason
    return None


@contextmanager
def within(*, seconds: float, mib: float) -> Iterator[None]:
    """The block takes no more than this. The time is generous, as tracing costs several times the work."""
    tracemalloc.start()
    started = time.process_time()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < seconds
    assert peak < mib * MIB


def deep(levels: int, *, defined: bool) -> bytes:
    """A sequence in a sequence in a sequence, `levels` of them."""
    content = b""
    for _ in range(levels):
        if defined:
            content = element(0x0040A730, "SQ", item(content))
        else:
            content = element(0x0040A730, "SQ", b"", UNDEFINED) + item(content, UNDEFINED) + ITEM_END + SEQUENCE_END
    return content


def test_an_ordinary_image_is_read_with_one_range() -> None:
    data = part10(identity() + pixels(600 * KIB))
    fetch = Counting(data)
    head = read_head(fetch, len(data))
    assert fetch.asked == [(0, 64 * KIB)]
    assert head.pixel_data is not None
    assert head.pixel_data.length == 600 * KIB
    assert head.header_length == head.pixel_data.offset - 12


@pytest.mark.parametrize(("levels", "defined"), [(250, False), (300, True), (33, False), (33, True)])
def test_sequences_that_are_too_deep_are_refused(levels: int, defined: bool) -> None:
    assert reason(part10(identity() + deep(levels, defined=defined))) == "too-deep"


@pytest.mark.parametrize("defined", [True, False])
def test_the_deepest_allowed_sequences_are_read_and_can_be_walked(defined: bool) -> None:
    head = read(part10(identity() + deep(32, defined=defined) + pixels()))
    dataset, depth = head.dataset, 0
    while 0x0040A730 in dataset and dataset[0x0040A730].value:
        dataset, depth = dataset[0x0040A730].value[0], depth + 1
    assert depth == 32 if defined else depth >= 31


def test_sequences_hidden_in_unknown_vr_are_no_way_round_the_depth() -> None:
    content = b""
    for _ in range(250):
        content = element(0x0040A730, "UN", b"", UNDEFINED) + item(content, UNDEFINED) + ITEM_END + SEQUENCE_END
    assert reason(part10(identity() + content)) in ("too-deep", "unreadable")
    content = b""
    for _ in range(250):
        content = implicit(0x0040A730, item(content))
    assert reason(part10(identity() + element(0x0040A730, "UN", item(content)))) == "too-deep"


def test_a_deflate_bomb_is_refused_before_it_unfolds() -> None:
    bomb = part10(identity() + element(0x00420011, "OB", bytes(300 * MIB)), DEFLATED)
    assert len(bomb) < 400 * KIB
    with within(seconds=5, mib=8):
        assert reason(bomb) == "deflate-too-large"


def test_a_deflate_bomb_behind_the_pixels_is_refused_too() -> None:
    bomb = part10(identity() + pixels() + element(0xFFFCFFFC, "OB", bytes(200 * MIB)), DEFLATED)
    with within(seconds=5, mib=8):
        assert reason(bomb) == "deflate-too-large"


def test_a_deflated_object_within_the_limit_is_read() -> None:
    data = part10(identity() + pixels(10 * MIB), DEFLATED)
    head = read(data)
    assert head.deflated
    assert head.pixel_data is not None
    assert head.pixel_data.length == 10 * MIB


def test_a_deflated_stream_that_ends_early_or_is_none_is_refused() -> None:
    whole = part10(identity() + pixels(), DEFLATED)
    assert reason(whole[:-20]) == "truncated"
    noise = part10(b"", meta=file_meta(DEFLATED)) + b"\xff" * 100
    assert reason(noise) == "unreadable"
    wrapped = part10(b"", meta=file_meta(DEFLATED)) + zlib.compress(identity() + pixels())
    assert reason(wrapped) == "unreadable"


def test_deflated_pixel_data_that_declares_more_than_it_holds_is_truncated() -> None:
    body = identity() + element(0x7FE00010, "OW", bytes(10), 1000)
    assert reason(part10(body, DEFLATED)) == "truncated"


@pytest.mark.parametrize(
    "tail",
    [
        element(0x7FE00010, "OW", bytes(10), 1000),
        element(0x7FE00010, "OW", bytes(10), 0xFFFFFFFE),
        element(0x00324000, "UT", "short", 0x7FFFFFFF),
        element(0x00104000, "LT", "short", 6000),
        element(0x00081111, "SQ", item(b"", 900)),
        element(0x00081111, "SQ", b"", UNDEFINED),
        element(0x00081111, "SQ", b"", UNDEFINED) + item(b"", UNDEFINED),
        element(0x00081111, "SQ", b"", UNDEFINED) + item(element(0x00080050, "SH", "1"), UNDEFINED),
        element(0x7FE00010, "OB", b"", UNDEFINED),
        element(0x7FE00010, "OB", b"", UNDEFINED) + item(b"") + item(b"\xff\xd8", 4000),
        element(0x7FE00010, "OB", b"", UNDEFINED) + item(b"") + item(b"\xff\xd8"),
        b"\x10\x00\x10",
        b"\xe0\x7f\x10\x00OW\0\0\x08",
    ],
)
def test_what_reaches_beyond_the_end_of_the_object_is_truncated(tail: bytes) -> None:
    assert reason(part10(identity() + tail)) == "truncated"


@pytest.mark.parametrize("cut", range(1, 12))
def test_an_object_cut_inside_its_last_element_is_truncated(cut: int) -> None:
    assert reason(image()[:-cut]) == "truncated"


def test_no_cut_of_an_image_is_taken_for_the_whole() -> None:
    sequence = element(0x00081111, "SQ", item(element(0x00081155, "UI", "1.2")))
    data = part10(identity() + sequence + pixels())
    accepted = [cut for cut in range(len(data)) if reason(data[:cut]) is None]
    # cut exactly between elements, what is left is a whole data set: nothing in it says that pixels are missing
    assert accepted == [len(part10(identity())), len(data) - len(pixels())]


def test_a_length_that_passes_its_sequence_but_not_the_object_is_unreadable() -> None:
    body = identity() + element(0x00081111, "SQ", item(element(0x00081155, "UI", "1.2", 40))) + pixels()
    assert reason(part10(body)) == "unreadable"


@pytest.mark.parametrize(
    "again",
    [
        element(0x0020000D, "UI", "9.9"),
        element(0x0020000E, "UI", "9.9"),
        element(0x00080018, "UI", "1.2.3.4.6"),
        element(0x00080018, "UI", "1.2.3.4.5") + element(0x00080018, "UI", "1.2.3.4.6") * 2,
        element(0x00100020, "LO", "OTHER"),
        element(0x00100010, "PN", "A") + element(0x00100010, "PN", "B"),
        element(0x0020000D, "UN", b"9.9 "),
        element(0x00100020, "LO", "X" * 70),
    ],
)
def test_an_identifying_attribute_that_stands_twice_is_ambiguous(again: bytes) -> None:
    assert reason(part10(identity() + again + pixels())) == "ambiguous-identifier"
    assert reason(part10(identity() + pixels() + again)) == "ambiguous-identifier"


def test_an_identifying_attribute_that_says_the_same_twice_is_clear() -> None:
    again = element(0x00080018, "UI", "1.2.3.4.5") + element(0x00080016, "UI", CT)
    assert reason(part10(identity() + again + pixels())) is None


def test_an_identifier_behind_pixels_out_of_the_first_range_is_seen() -> None:
    data = part10(identity() + pixels(300 * KIB) + element(0x0020000D, "UI", "9.9"))
    assert reason(data) == "ambiguous-identifier"


def test_padding_and_garbage_behind_the_pixels_are_no_reason() -> None:
    assert reason(part10(identity() + pixels() + element(0xFFFCFFFC, "OB", bytes(126)))) is None
    assert reason(part10(identity() + pixels() + b"\xa5" * 300)) is None
    assert reason(part10(identity() + pixels() + b"\0" * 5)) is None


@pytest.mark.parametrize("field", ["study", "sop", "sop_class", "patient"])
def test_an_identifying_attribute_with_two_values_is_ambiguous(field: str) -> None:
    assert reason(image(**{field: "1.2\\1.3"})) == "ambiguous-identifier"


def test_an_uid_inside_a_sequence_is_not_the_instances_own() -> None:
    inner = item(element(0x0020000D, "UI", "8.8") + element(0x00100020, "LO", "OTHER"))
    assert reason(part10(identity() + element(0x00081110, "SQ", inner) + pixels())) is None


@pytest.mark.parametrize(
    "uid",
    [
        "../../etc/x",
        "1.2/3",
        "1.2 3",
        "1..2",
        "..",
        ".1",
        "1.",
        "1.2\n3",
        "1.2;rm",
        "1" * 65,
        "1.٣",
        "-1.2",
        "1.2\0.3",
    ],
)
def test_what_is_no_uid_is_refused(uid: str) -> None:
    assert reason(image(study=uid)) == "invalid-uid"


@pytest.mark.parametrize("uid", ["1.02.003", "0.0", "1" * 64, "2.25.329800735698586629295641978511506172918"])
def test_uids_that_real_modalities_make_pass(uid: str) -> None:
    assert summarise(read(image(study=uid))).study_instance_uid == uid


@pytest.mark.parametrize("field", ["study", "sop", "sop_class"])
def test_an_empty_uid_is_missing(field: str) -> None:
    assert reason(image(**{field: ""})) == "missing-uid"


def test_file_meta_that_names_another_instance_or_class_is_a_mismatch() -> None:
    assert reason(part10(identity() + pixels(), meta=file_meta(sop="1.9"))) == "meta-mismatch"
    assert reason(part10(identity() + pixels(), meta=file_meta(sop_class="1.9"))) == "meta-mismatch"


def test_a_media_storage_directory_is_no_instance() -> None:
    assert reason(part10(b"", meta=file_meta(sop_class="1.2.840.10008.1.3.10"))) == "dicomdir"


@pytest.mark.parametrize(
    "preamble",
    [
        b"MZ\x90\0",
        b"\x7fELF\x02\x01\x01",
        b"\xcf\xfa\xed\xfe",
        b"\xca\xfe\xba\xbe",
        b"#!/bin/sh\n",
        b"PK\x03\x04",
        b"%PDF-1.7",
        b"\0\0\0%PDF-1.7",
        b"<!DOCTYPE html>",
        b"  <HTML>",
        b"<script>alert(1)</script>",
        b"\0asm\1\0\0\0",
    ],
)
def test_a_preamble_that_is_a_program_or_a_document_is_refused(preamble: bytes) -> None:
    assert reason(part10(identity() + pixels(), preamble=preamble)) == "executable-preamble"


@pytest.mark.parametrize("preamble", [b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"II+\0", b" " * 128, b"ACME MR"])
def test_a_preamble_of_tiff_or_plain_text_passes(preamble: bytes) -> None:
    assert reason(part10(identity() + pixels(), preamble=preamble)) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"DICM",
        bytes(132),
        bytes(1000),
        b"%PDF-1.4\n" * 50,
        b"\x08\0",
        b"\x08\0\x05\0CS",
        b"\x89PNG\r\n\x1a\n" * 40,
    ],
)
def test_what_is_no_dicom_is_not_dicom(data: bytes) -> None:
    assert reason(data) == "not-dicom"


def test_the_prefix_alone_is_not_an_instance() -> None:
    assert reason(bytes(128) + b"DICM") == "missing-uid"


def test_endless_elements_end_at_the_limit() -> None:
    sequence = element(0x00081111, "SQ", b"", UNDEFINED)
    empty_items = struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 300_000
    same = struct.pack("<HH2sH", 0x0011, 0x0010, b"LO", 0) * 500_000
    for content in (sequence + empty_items, same):
        data = part10(identity() + content)
        assert reason(data) == "too-large-header"
        with within(seconds=10, mib=40):
            assert reason(data, Limits(elements=100_000)) == "too-large-header"


def test_large_headers_read_side_by_side_do_not_add_up() -> None:
    data = part10(identity() + element(0x00081111, "SQ", b"", UNDEFINED) + item(b"") * 10_000)
    limits = Limits(elements=20_000, alone=1_000)
    with ThreadPoolExecutor(8) as pool:
        with within(seconds=10, mib=6):
            assert reason(data, limits) == "too-large-header"
        with within(seconds=30, mib=12):
            assert set(pool.map(lambda _: reason(data, limits), range(16))) == {"too-large-header"}


def test_a_head_may_have_what_the_conformance_statement_says_and_an_item_counts_four() -> None:
    limits = Limits()
    assert (limits.header, limits.elements, limits.item_weight, limits.depth) == (16 * MIB, 400_000, 4, 32)
    assert (limits.kept_items, limits.passed) == (1000, 4_000_000)

    def least(content: bytes) -> int:
        """The smallest number of elements with which it is read; with one less it is not."""
        data = part10(identity() + content + pixels())
        return next(number for number in range(100) if reason(data, Limits(elements=number)) is None)

    sequence, another = element(0x00081111, "SQ", item(b"") * 5), element(0x00110010, "LO", "")
    alone = least(b"")
    assert (least(another * 3) - alone, least(sequence) - alone) == (3, 1 + 4 * 5)


def test_a_header_of_16_mib_is_read_and_a_larger_one_is_not() -> None:
    values = element(0x00110100, "UT", b"x" * (60 * KIB)) * 10
    data = part10(identity() + values + pixels())
    enough = next(count for count in range(600, 700) if reason(data, Limits(header=count * KIB)) is None)
    assert reason(data, Limits(header=(enough - 1) * KIB)) == "too-large-header"
    below, above = (part10(identity() + element(0x00110100, "UT", b"x" * (60 * KIB)) * count + pixels()) for count in (270, 275))
    assert (reason(below), reason(above)) == (None, "too-large-header")


def test_a_header_of_large_values_ends_at_the_limit() -> None:
    below = b"".join(element(0x00110100 + number, "UT", b"x" * (60 * KIB)) for number in range(300))
    above = b"".join(element(0x00110100 + number, "UT", b"x" * (70 * KIB)) for number in range(1000))
    for values in (below, above):
        data = part10(identity() + values)
        with within(seconds=5, mib=40):
            assert reason(data) == "too-large-header"


def test_a_large_value_is_stepped_over_and_what_follows_is_read() -> None:
    document = element(0x00420011, "OB", bytes(3 * MIB)) + element(0x00420012, "LO", "application/pdf")
    data = part10(identity() + document)
    fetch = Counting(data)
    head = read_head(fetch, len(data))
    assert head.dataset.MIMETypeOfEncapsulatedDocument == "application/pdf"
    assert [(left.path, left.vr, left.length) for left in head.left_out] == [((0x00420011,), "OB", 3 * MIB)]
    assert data[head.left_out[0].offset :][: 3 * MIB] == bytes(3 * MIB)
    assert sum(length for _, length in fetch.asked) < 70 * KIB


def test_a_store_that_answers_too_little_is_a_fault_and_no_verdict() -> None:
    data = image()
    with pytest.raises(OSError):
        read_head(reader(data[:100]), len(data))


def test_control_characters_and_scripts_pass_and_stay_text() -> None:
    body = element(0x00100010, "PN", "<script>alert(1)</script>^X") + element(0x00080050, "SH", "${jndi:ldap}")
    data = part10(identity(patient="A\r\nX: 1") + body + pixels())
    summary = summarise(read(data))
    assert summary.patient.id == "A\r\nX: 1"
    assert summary.attributes["00100010"]["Value"] == [{"Alphabetic": "<script>alert(1)</script>^X"}]


def test_a_patient_id_that_is_longer_than_dicom_allows_is_refused_rather_than_cut() -> None:
    assert reason(image(patient="P" * 65)) == "invalid-patient-id"
    assert reason(image(patient="P" * 64)) is None
    for length, refused in ((64, None), (65, "invalid-patient-id")):
        issuer = element(0x00100021, "LO", "I" * length)
        assert reason(part10(identity() + issuer + pixels())) == refused


def test_a_rejection_says_nothing_of_the_patient() -> None:
    secret = "BIANCHI"
    for body in (
        identity(patient=f"{secret}\\{secret}"),
        identity(study=f"../{secret}"),
        identity() + element(0x00100020, "LO", secret),
        identity() + element(0x00104000, "LT", secret, 9000),
    ):
        with pytest.raises(Rejected) as caught:
            read(part10(body + pixels()))
        assert secret not in str(caught.value)


def test_the_same_instance_is_read_in_every_encoding() -> None:
    explicit = read(image())
    little = implicit(0x00080016, CT) + implicit(0x00080018, "1.2.3.4.5") + implicit(0x00100020, "P1 ")
    little += implicit(0x0020000D, "1.2.3") + implicit(0x0020000E, "1.2.3.4") + implicit(0x7FE00010, b"\1\2" * 32)
    big = b"".join(
        element(tag, vr, value, order=">")
        for tag, vr, value in [
            (0x00080016, "UI", CT),
            (0x00080018, "UI", "1.2.3.4.5"),
            (0x00100020, "LO", "P1"),
            (0x0020000D, "UI", "1.2.3"),
            (0x0020000E, "UI", "1.2.3.4"),
        ]
    ) + element(0x7FE00010, "OW", b"\2\1" * 32, order=">")
    deflated = part10(identity() + pixels(), DEFLATED)
    for data in (part10(little, IMPLICIT), part10(big, BIG), deflated):
        head = read(data)
        assert summarise(head).patient.id == "P1"
        assert summarise(head).attributes == summarise(explicit).attributes
        assert head.pixel_data is not None
        assert head.pixel_data.length == 64


def test_a_data_set_that_is_not_in_the_declared_encoding_is_read_as_it_is() -> None:
    assert reason(part10(identity() + pixels(), IMPLICIT)) is None


def test_fragments_out_of_the_first_range_cost_no_further_range() -> None:
    fragments = item(b"") + item(bytes(200 * KIB)) + SEQUENCE_END
    data = part10(identity() + element(0x7FE00010, "OB", b"", UNDEFINED) + fragments, JPEG)
    fetch = Counting(data)
    head = read_head(fetch, len(data))
    assert len(fetch.asked) == 1
    assert head.pixel_data is not None
    assert head.pixel_data.length is None


def test_many_fragments_without_an_end_are_truncated_and_with_one_are_read() -> None:
    frames = item(b"") + item(bytes(90 * KIB)) * 3
    start = part10(identity() + element(0x7FE00010, "OB", b"", UNDEFINED), JPEG)
    assert reason(start + frames) == "truncated"
    assert reason((start + frames + SEQUENCE_END)[: -100 * KIB]) == "truncated"
    assert reason(start + frames + SEQUENCE_END) is None
    assert reason(start + frames + SEQUENCE_END + element(0xFFFCFFFC, "OB", bytes(500))) is None


def test_the_explicit_syntax_is_the_one_declared() -> None:
    assert read(image()).transfer_syntax_uid == EXPLICIT
