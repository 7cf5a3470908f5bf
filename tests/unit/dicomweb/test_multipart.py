"""multipart/related bodies, read in place and written piece by piece (RFC 2046 5.1, PS3.18 8.6.1.2)."""

from __future__ import annotations

import tracemalloc

import pytest
from dicomweb_client.api import DICOMwebClient
from hypothesis import assume, given
from hypothesis import strategies as st

from chalicelib.dicomweb import multipart
from chalicelib.dicomweb.multipart import BodyPart, parse, write
from chalicelib.domain.errors import BadRequest


def bodies(body: bytes, boundary: str = "b") -> list[bytes]:
    return [bytes(part.body) for part in parse(body, boundary)]


def parts(body: bytes, boundary: str = "b") -> list[BodyPart]:
    return list(parse(body, boundary))


def test_parts_are_views_of_the_body_with_their_headers() -> None:
    body = b"--b\r\nContent-Type: application/dicom\r\nContent-Location: /x\r\n\r\nDICM\r\n--b\r\n\r\n\r\n--b--\r\n"
    first, second = parts(body)
    assert first.headers == (("content-type", "application/dicom"), ("content-location", "/x"))
    assert first.header("content-location") == "/x"
    assert first.header("content-length") is None
    assert first.body.obj is body
    assert body[first.offset :].startswith(b"DICM")
    assert (bytes(second.body), second.headers) == (b"", ())


@pytest.mark.parametrize(
    "body",
    [
        b"--b\r\nContent-Type: a/b\r\n\r\nX\r\n--b--",
        b"\r\n--b\r\nContent-Type: a/b\r\n\r\nX\r\n--b--\r\n",
        b"\n--b\r\nContent-Type: a/b\r\n\r\nX\r\n--b--\r\n",
        b"This is a preamble with --b inside\r\n--b\r\nContent-Type: a/b\r\n\r\nX\r\n--b--\r\nand an epilogue --b",
        b"--b  \t\r\nContent-Type: a/b  \r\n\r\nX\r\n--b \r\nContent-Type:a/b\r\n\r\nY\r\n--b--  \r\n",
        b"--b\nContent-Type: a/b\n\nX\n--b--\n",
        b"--bc\r\n\r\n--b\r\ncontent-TYPE: a/b\r\n\r\nX\r\n--b--",
        b"--b\r\nContent-Type:\r\n a/b\r\n\r\nX\r\n--b--",
    ],
)
def test_what_real_clients_write_is_read(body: bytes) -> None:
    found = parts(body)
    assert bytes(found[0].body) == b"X"
    assert found[0].header("content-type") == "a/b"


def test_an_empty_body_may_share_its_line_break_with_the_delimiter() -> None:
    assert bodies(b"--b\r\nContent-Type: a/b\r\n\r\n--b\r\n\r\n--b--\r\n") == [b"", b""]


def test_boundaries_inside_a_body_do_not_end_it() -> None:
    inside = b"--b\r\n--bc\r\n --b\r\n-\r\n--b-\r\n--bb--\r\n\n--b\r\nend"
    body = b"--b\r\nContent-Type: a/b\r\n\r\n" + inside[5:] + b"\r\n--b--\r\n"
    assert bodies(body) == [inside[5:]]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no boundary at all",
        b"--b\r\nContent-Type: a/b\r\n\r\nX",
        b"--b\r\nContent-Type: a/b\r\n\r\nX\r\n--b\r\n",
        b"--b\r\nContent-Type: a/b\r\n\r\nX\r\n--c--",
        b"--b\r\nContent-Type: a/b\r\n",
        b"--b\r\nContent-Type a/b\r\n\r\nX\r\n--b--",
        b"--b\r\nContent-Type: a\x00b\r\n\r\nX\r\n--b--",
        b"--b\r\n: a/b\r\n\r\nX\r\n--b--",
        b"--b\r\nA: " + b"x" * 20_000 + b"\r\n\r\nX\r\n--b--",
        b"--b\r\n" + b"A: b\r\n" * 33 + b"\r\nX\r\n--b--",
        b"--b",
        b"--b\r\n",
    ],
)
def test_a_body_that_is_broken_or_cut_off_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parts(body)


def test_an_empty_multipart_has_no_parts() -> None:
    assert parts(b"--b--") == []
    assert parts(b"x--b\r\n\r\nX\r\n--b--") == []


@pytest.mark.parametrize("length", [70, 73, 200])  # 73: two UUIDs and a hyphen, as Orthanc writes it
def test_a_reader_takes_boundaries_longer_than_a_writer_may_make_them(length: int) -> None:
    boundary = "x" * length
    assert bodies(b"--%b\r\n\r\nX\r\n--%b--" % (boundary.encode(), boundary.encode()), boundary) == [b"X"]


@pytest.mark.parametrize("boundary", ["", "x" * 201, "é", "b ", " b", "a\r\nb", "a\x00"])
def test_a_boundary_that_is_none_is_refused(boundary: str) -> None:
    with pytest.raises(BadRequest):
        parts(b"--b--", boundary)


def test_more_parts_than_allowed_are_refused() -> None:
    body = b"".join(write([((), b"x")] * 4, "b"))
    assert len(list(parse(body, "b", max_parts=4))) == 4
    with pytest.raises(BadRequest):
        list(parse(body, "b", max_parts=3))


def test_reading_a_large_body_copies_nothing() -> None:
    body = b"".join(write([((), bytes(4_000_000)), ((), bytes(4_000_000))], "b"))
    tracemalloc.start()
    sizes = [len(part.body) for part in parse(body, "b")]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sizes == [4_000_000, 4_000_000]
    assert peak < 100_000


def test_many_false_delimiters_are_passed_in_linear_time() -> None:
    noise = b"\r\n--bx" * 200_000
    assert bodies(b"".join(write([((), noise)], "b"))) == [noise]


HEADERS = st.lists(
    st.tuples(
        st.from_regex(r"[A-Za-z][A-Za-z-]{0,10}", fullmatch=True),
        st.from_regex(r"[!-~]([ -~]{0,20}[!-~])?", fullmatch=True),
    ),
    max_size=4,
)
BOUNDARIES = st.from_regex(r"[0-9A-Za-z'()+_,./:=?-]{1,70}", fullmatch=True)
BODIES = st.one_of(st.binary(max_size=60), st.text(alphabet="\r\n-b \t", max_size=40).map(lambda text: text.encode()))


@given(st.lists(st.tuples(HEADERS, BODIES), min_size=1, max_size=4), st.one_of(st.just("b"), BOUNDARIES))
def test_what_is_written_is_read_back_byte_for_byte(
    given_parts: list[tuple[list[tuple[str, str]], bytes]], boundary: str
) -> None:
    marker = b"--" + boundary.encode()
    assume(not any(b"\n" + marker in body or body.startswith(marker) for _, body in given_parts))
    written = b"".join(write(given_parts, boundary))
    assert len(written) == multipart.length([(headers, len(body)) for headers, body in given_parts], boundary)
    found = parts(written, boundary)
    assert [bytes(part.body) for part in found] == [body for _, body in given_parts]
    assert [part.headers for part in found] == [
        tuple((name.lower(), value) for name, value in headers) for headers, _ in given_parts
    ]


@given(st.lists(BODIES, min_size=1, max_size=3))
def test_a_body_given_in_pieces_is_the_same(chunks: list[bytes]) -> None:
    whole, pieces = write([((), b"".join(chunks))], "b"), write([((), iter(chunks))], "b")
    assert b"".join(whole) == b"".join(pieces)


@given(st.text(alphabet="\r\n-b: aA\0", max_size=80).map(lambda text: text.encode()))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    try:
        for part in parse(b"--b\r\n" + body, "b"):
            assert 0 <= part.offset <= len(body) + 5
    except BadRequest:
        return


def test_dicomweb_client_reads_what_is_written(client: DICOMwebClient, wire: object) -> None:
    boundary = "of-the-test"
    frames = [b"\r\n\r\n--x\r\n", b"", bytes(range(256))]
    headers = [("Content-Type", "application/octet-stream")]
    body = b"".join(write([(headers, frame) for frame in frames], boundary))
    content_type = f'multipart/related; type="application/octet-stream"; boundary={boundary}'
    wire.answers += [(200, content_type, body)]  # type: ignore[attr-defined]
    assert list(client.retrieve_bulkdata("http://archive.invalid/dicomweb/bulk")) == frames
