"""Media types as real clients write them, and what they get (PS3.18 8.7)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from dicomweb_client.api import DICOMwebClient
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.dicomweb import representations as offers
from chalicelib.dicomweb.media_types import (
    MediaRange,
    Representation,
    describe,
    negotiate,
    parse_accept,
    parse_media_type,
    part_type,
)
from chalicelib.domain.errors import BadRequest, NotAcceptable

ELE = "1.2.840.10008.1.2.1"
JLS = "1.2.840.10008.1.2.4.80"
JPEG = "1.2.840.10008.1.2.4.50"
MP4 = "1.2.840.10008.1.2.4.102"


def chosen(offered: tuple[Representation, ...], accept: str | None, parameter: str | None = None) -> tuple[str, str | None]:
    selected = negotiate(offered, accept, parameter)
    return describe(selected.offer), selected.transfer_syntax


@pytest.mark.parametrize(
    "written",
    [
        'multipart/related; type="application/dicom"; transfer-syntax=*',
        "multipart/related;type=application/dicom;transfer-syntax=*",
        'Multipart/Related ; Type="application/DICOM" ; transfer-syntax="*"',
        'multipart/related; type="application/dicom; transfer-syntax=*"',
        'multipart/related;type="application/dicom";transfer-syntax=*;boundary=**',
        'multipart/related; transfer-syntax=*; type="application\\/dicom"; q=1.0',
    ],
)
def test_one_media_range_may_be_written_in_many_ways(written: str) -> None:
    assert parse_accept(written) == (MediaRange("application/dicom", True, "*", 1.0),)


def test_a_list_with_qualities_and_quoted_commas_is_split_right() -> None:
    found = parse_accept('text/html;level=1, image/png;q=0.5 ,multipart/related; type="a/b,c"; q=0.25, */*;q=0')
    assert [(r.name, r.quality) for r in found] == [("text/html", 1.0), ("image/png", 0.5), ("*/*", 0.0)]


@pytest.mark.parametrize("nonsense", ["html", "*/png", "a b/c", ";", "", "multipart/related; type=html", "é/x"])
def test_a_range_that_cannot_be_read_is_ignored(nonsense: str) -> None:
    assert parse_accept(f"{nonsense}, image/png") == (MediaRange("image/png", False, None, 1.0),)


@pytest.mark.parametrize("q", ["2", "-1", "abc", "0.1234", ""])
def test_an_invalid_quality_is_ignored_and_the_range_is_not(q: str) -> None:
    assert parse_accept(f"image/png;q={q}")[0].quality == 1.0


def test_a_header_beyond_reason_is_refused() -> None:
    with pytest.raises(BadRequest):
        parse_accept(",".join(["a/b"] * 65))
    with pytest.raises(BadRequest):
        parse_accept("a/b;c=" + "x" * 9000)


@pytest.mark.parametrize("accept", [None, "", "*/*", "text/html,application/xml;q=0.9,*/*;q=0.8"])
def test_who_takes_anything_gets_the_default_and_instances_as_they_are_stored(accept: str | None) -> None:
    assert chosen(offers.SEARCH, accept) == ("application/dicom+json", None)
    assert chosen(offers.instance(JLS), accept) == ('multipart/related; type="application/dicom"', JLS)
    assert chosen(offers.frames(JLS, single=True), accept) == (
        'multipart/related; type="application/octet-stream"',
        "1.2.840.10008.1.2.1",
    )
    assert chosen(offers.THUMBNAIL, accept) == ("image/jpeg", None)


def test_a_plus_sign_that_was_not_percent_encoded_is_one() -> None:
    assert negotiate(offers.STORE_RESPONSE, None, "application/dicom xml").offer.media_type == "application/dicom+xml"
    found = negotiate(offers.SEARCH, None, 'multipart/related; type="application/dicom xml"')
    assert found.offer.multipart and found.offer.media_type == "application/dicom+xml"


def test_a_parameter_that_nothing_fits_needs_a_header_that_does() -> None:
    with pytest.raises(NotAcceptable):
        negotiate(offers.THUMBNAIL, None, "application/pdf")
    assert negotiate(offers.THUMBNAIL, "*/*", "application/pdf").offer.media_type == "image/jpeg"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/dicom+json", "application/dicom+json"),
        ("application/dicom+json, application/json", "application/dicom+json"),
        ("application/json", "application/json"),
        ("application/json;q=0.5, application/dicom+json;q=0.1", "application/json"),
        ('multipart/related; type="application/dicom+xml"', 'multipart/related; type="application/dicom+xml"'),
        ("multipart/related; type=application/dicom+xml", 'multipart/related; type="application/dicom+xml"'),
        ('multipart/related; type="application/dicom+xml", */*;q=0.1', 'multipart/related; type="application/dicom+xml"'),
        ("application/*", "application/dicom+json"),
        ("application/dicom+json;q=0, */*", 'multipart/related; type="application/dicom+xml"'),
        ("application/dicom+json; charset=utf-8", "application/dicom+json"),
    ],
)
def test_searches_answer_in_json_or_xml(accept: str, expected: str) -> None:
    assert chosen(offers.SEARCH, accept)[0] == expected


@pytest.mark.parametrize("accept", ["image/png", "application/dicom", "*/*;q=0", "text/*", "multipart/related; type=image/jpeg"])
def test_what_is_not_offered_is_not_acceptable(accept: str) -> None:
    with pytest.raises(NotAcceptable) as caught:
        negotiate(offers.SEARCH, accept)
    assert "application/dicom+json" in caught.value.detail


@pytest.mark.parametrize(
    ("accept", "expected", "syntax"),
    [
        ('multipart/related; type="application/dicom"', 'multipart/related; type="application/dicom"', ELE),
        ('multipart/related;type="application/dicom";transfer-syntax=*', 'multipart/related; type="application/dicom"', JLS),
        (f"application/dicom; transfer-syntax={JLS}", "application/dicom", JLS),
        (f"application/dicom; transfer-syntax={ELE}", "application/dicom", ELE),
        ("application/dicom", "application/dicom", ELE),
        ("application/dicom; transfer-syntax=*", "application/dicom", JLS),
        (
            f'multipart/related; type="application/dicom";transfer-syntax={JPEG}, '
            f'multipart/related; type="application/dicom";transfer-syntax={JLS};q=0.5',
            'multipart/related; type="application/dicom"',
            JLS,
        ),
        ('multipart/related; type="application/octet-stream"', 'multipart/related; type="application/octet-stream"', None),
        ("application/zip", "application/zip", None),
    ],
)
def test_an_instance_is_had_in_its_stored_syntax_or_uncompressed(accept: str, expected: str, syntax: str | None) -> None:
    assert chosen(offers.instance(JLS), accept) == (expected, syntax)


def test_a_transfer_syntax_that_is_not_there_is_not_acceptable() -> None:
    with pytest.raises(NotAcceptable):
        negotiate(offers.instance(JLS), f"application/dicom; transfer-syntax={JPEG}")
    with pytest.raises(NotAcceptable):
        negotiate(offers.instance(ELE), "application/dicom; transfer-syntax=1.2.840.10008.1.2")


def test_lossy_pixels_are_not_decoded_for_who_names_no_syntax_and_video_never() -> None:
    assert chosen(offers.instance(JPEG), "application/dicom")[1] == JPEG
    assert chosen(offers.instance(JPEG), f"application/dicom; transfer-syntax={ELE}")[1] == ELE
    with pytest.raises(NotAcceptable):
        negotiate(offers.instance(MP4), f"application/dicom; transfer-syntax={ELE}")


def test_forbidden_syntaxes_are_served_as_explicit_little_endian() -> None:
    for stored in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.2"):
        assert chosen(offers.instance(stored), "application/dicom; transfer-syntax=*")[1] == ELE


def test_a_study_of_several_syntaxes_is_taken_as_stored_with_a_star() -> None:
    selected = negotiate(offers.instances(frozenset({JLS, JPEG})), "multipart/related;type=application/dicom;transfer-syntax=*")
    assert selected.any_syntax
    assert negotiate(offers.instances(frozenset({JLS, JPEG})), "*/*").any_syntax
    assert not negotiate(offers.instances(frozenset({JLS, JPEG})), "application/*, multipart/related").any_syntax
    with pytest.raises(NotAcceptable):
        negotiate(offers.instances(frozenset({JLS})), "application/dicom")


@pytest.mark.parametrize(
    ("accept", "expected", "syntax"),
    [
        ('multipart/related; type="application/octet-stream"; transfer-syntax=*', "application/octet-stream", JLS),
        ("multipart/related; type=application/octet-stream", "application/octet-stream", ELE),
        ('multipart/related; type="image/jls"', "image/jls", JLS),
        ('multipart/related; type="image/x-jls"; transfer-syntax=1.2.840.10008.1.2.4.80', "image/jls", JLS),
        ('multipart/related; type="image/*"', "image/jls", JLS),
        ('multipart/related; type="image/"', "image/jls", JLS),
        ('multipart/related; type="*/*"', "application/octet-stream", ELE),
        ("multipart/related", "application/octet-stream", ELE),
        ('multipart/related; type="image/jpeg", multipart/related; type="image/jls";q=0.1', "image/jls", JLS),
    ],
)
def test_frames_are_stored_images_or_uncompressed_octets(accept: str, expected: str, syntax: str) -> None:
    assert chosen(offers.frames(JLS, single=False), accept) == (f'multipart/related; type="{expected}"', syntax)


def test_a_single_frame_may_be_had_without_multipart() -> None:
    assert chosen(offers.frames(JLS, single=True), "image/jls") == ("image/jls", JLS)
    assert chosen(offers.frames(ELE, single=True), "application/octet-stream") == ("application/octet-stream", ELE)
    with pytest.raises(NotAcceptable):
        negotiate(offers.frames(JLS, single=False), "image/jls")
    with pytest.raises(NotAcceptable):
        negotiate(offers.frames(ELE, single=True), "image/jpeg")


def test_names_of_media_types_ignore_case_where_the_registered_one_has_capitals() -> None:
    hevc = offers.frames("1.2.840.10008.1.2.4.107", single=True)
    assert chosen(hevc, "VIDEO/h265") == ("video/H265", "1.2.840.10008.1.2.4.107")


def test_the_more_specific_range_decides_the_quality() -> None:
    offered = (Representation("text/html"), Representation("text/plain"), Representation("application/pdf"))
    accept = "text/*;q=0.5, text/html;q=0.4, */*;q=0.3"
    assert chosen(offered, accept)[0] == "text/plain"
    assert chosen((Representation("text/html"), Representation("application/pdf")), accept)[0] == "text/html"


def test_the_accept_parameter_wins_over_the_header_and_falls_back_to_it() -> None:
    png = (Representation("image/jpeg"), Representation("image/png"), Representation("image/gif"))
    assert chosen(png, "*/*", "image/png")[0] == "image/png"
    assert chosen(png, "image/gif", "image/bmp")[0] == "image/gif"
    assert chosen(png, "*/*", "image/bmp")[0] == "image/jpeg"
    assert chosen(png, "image/gif", "image/*")[0] == "image/gif"
    with pytest.raises(BadRequest):
        negotiate(png, "*/*", "application/dicom, image/png")


def test_the_type_of_a_part_names_its_syntax() -> None:
    many = negotiate(offers.instance(JLS), 'multipart/related;type="application/dicom";transfer-syntax=*')
    assert part_type(many) == f"application/dicom; transfer-syntax={JLS}"


@pytest.mark.parametrize(
    ("call", "offered", "expected", "syntax"),
    [
        (lambda c: c.search_for_studies(), offers.SEARCH, "application/dicom+json", None),
        (lambda c: c.retrieve_study_metadata("1.2"), offers.METADATA, "application/dicom+json", None),
        (
            lambda c: c.retrieve_study("1.2"),
            offers.instances(frozenset({JLS})),
            'multipart/related; type="application/dicom"',
            ELE,
        ),
        (
            lambda c: c.retrieve_series("1.2", "1.3", media_types=(("application/dicom", "*"),)),
            offers.instances(frozenset({JLS})),
            'multipart/related; type="application/dicom"',
            JLS,
        ),
        (
            lambda c: c.retrieve_instance("1.2", "1.3", "1.4", media_types=(("application/dicom", JLS),)),
            offers.instance(JLS),
            'multipart/related; type="application/dicom"',
            JLS,
        ),
        (
            lambda c: c.retrieve_instance_frames("1.2", "1.3", "1.4", [1]),
            offers.frames(JLS, single=True),
            'multipart/related; type="application/octet-stream"',
            ELE,
        ),
        (
            lambda c: c.retrieve_instance_frames("1.2", "1.3", "1.4", [1], media_types=("image/jls",)),
            offers.frames(JLS, single=True),
            'multipart/related; type="image/jls"',
            JLS,
        ),
        (
            lambda c: c.retrieve_instance_frames(
                "1.2", "1.3", "1.4", [1], media_types=(("image/jls", JLS), ("image/jpeg", JPEG))
            ),
            offers.frames(JPEG, single=True),
            'multipart/related; type="image/jpeg"',
            JPEG,
        ),
        (
            lambda c: c.retrieve_bulkdata("http://archive.invalid/dicomweb/bulk"),
            offers.bulkdata(single=True),
            'multipart/related; type="application/octet-stream"',
            ELE,
        ),
        (lambda c: c.retrieve_instance_rendered("1.2", "1.3", "1.4"), offers.RENDERED["single-frame"], "image/jpeg", None),
        (
            lambda c: c.retrieve_instance_rendered("1.2", "1.3", "1.4", media_types=("image/png",)),
            offers.RENDERED["single-frame"],
            "image/png",
            None,
        ),
    ],
)
def test_what_dicomweb_client_sends_gets_what_it_expects(
    call: Callable[[DICOMwebClient], object],
    offered: tuple[Representation, ...],
    expected: str,
    syntax: str | None,
    sent_accept: Callable[[Callable[[DICOMwebClient], object]], str],
) -> None:
    assert chosen(offered, sent_accept(call)) == (expected, syntax)


OHIF_METADATA = "application/dicom+json"
OHIF_FRAMES = "multipart/related; type=application/octet-stream; transfer-syntax=*"
WEASIS = 'multipart/related;type="application/dicom";transfer-syntax=*'
DCM4CHE_WADORS = "multipart/related;type=application/dicom"


def test_what_ohif_weasis_and_dcm4che_send() -> None:
    assert chosen(offers.METADATA, OHIF_METADATA) == ("application/dicom+json", None)
    assert chosen(offers.frames(JLS, single=True), OHIF_FRAMES) == ('multipart/related; type="application/octet-stream"', JLS)
    assert chosen(offers.frames(ELE, single=True), OHIF_FRAMES) == ('multipart/related; type="application/octet-stream"', ELE)
    assert chosen(offers.instance(JLS), WEASIS) == ('multipart/related; type="application/dicom"', JLS)
    assert chosen(offers.instance(ELE), DCM4CHE_WADORS) == ('multipart/related; type="application/dicom"', ELE)


@given(st.text(alphabet='ab/*;=," q.01\\-é', max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    parse_media_type(text)
    for found in parse_accept(text):
        assert 0 <= found.quality <= 1
        assert found.name.count("/") == 1
    try:
        negotiate(offers.SEARCH, text)
    except NotAcceptable:
        return
