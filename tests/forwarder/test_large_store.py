"""A body of many instances is taken apart as it comes, whatever pieces it comes in, and whatever is wrong with it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import tempfile
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from images import ct_slice
from starlette.requests import Request

from chalicelib.api.problems import PROBLEMS
from chalicelib.api.responses import answer
from chalicelib.dicomweb import stow_response
from chalicelib.dicomweb.media_types import negotiate, parse_media_type
from chalicelib.dicomweb.native_xml import to_xml
from chalicelib.dicomweb.representations import STORE_RESPONSE
from chalicelib.dicomweb.stow import MAX_PARTS, parse_store_request
from chalicelib.dicomweb.stow_response import FAILURE_REASONS, FailedInstance, StoredInstance
from chalicelib.domain.errors import BadRequest, NotAcceptable, UnsupportedMediaType
from chalicelib.services.ingest.uploads import MAX_SIZE
from forwarder.web import large_store
from forwarder.web import store_answer as large_answer
from forwarder.web import store_body as large_body
from forwarder.web.identity import RefusedError
from forwarder.web.media_types import DICOM, JSON, XML, negotiated, store_body
from forwarder.web.store_answer import StoreOutcome
from forwarder.web.store_body import MultipartFiles
from tests.harness import on_its_own

CONTENTS = st.lists(
    st.one_of(st.binary(max_size=60), st.sampled_from([b"\r\n--edg", b"--edge", b"\r\n", b"\r\n-", b""])), max_size=4
)


def body(contents: list[bytes], headers: str = "Content-Type: application/dicom\r\n") -> bytes:
    parts = b"".join(f"--edge\r\n{headers}\r\n".encode() + content + b"\r\n" for content in contents)
    return b"preamble\r\n" + parts + b"--edge--\r\nepilogue"


def taken(pieces: Iterator[bytes], part_type: str = DICOM) -> tuple[list[tuple[bytes, str]], int]:
    """(content, SHA-256) of each instance; how many parts are none."""
    with tempfile.TemporaryDirectory() as name:
        files = MultipartFiles(b"edge", Path(name), part_type)
        try:
            for piece in pieces:
                files.feed(piece)
            return [(part.path.read_bytes(), part.sha256) for part in files.end()], files.foreign
        finally:
            files.close()


def cut(whole: bytes, cuts: list[int]) -> Iterator[bytes]:
    places = sorted({0, len(whole), *(place for place in cuts if place < len(whole))})
    return (whole[start:end] for start, end in pairwise(places))


@settings(max_examples=150)
@given(
    CONTENTS.filter(bool),
    st.lists(st.integers(0, 400), max_size=12),
    st.sampled_from(["Content-Type: application/dicom\r\n", ""]),
)
def test_parts_are_those_that_were_sent_whatever_pieces_they_come_in(
    contents: list[bytes], cuts: list[int], headers: str
) -> None:
    contents = [content for content in contents if b"\r\n--edge" not in b"\r\n" + content + b"\r\n"] or [b"x"]
    whole = body(contents, headers)
    found = taken(cut(whole, cuts))
    assert found == ([(content, hashlib.sha256(content).hexdigest()) for content in contents], 0)


BREAKS = st.sampled_from(["\r\n"] * 3 + ["\n"] * 3 + ["", "\r"])
DELIMITERS = st.sampled_from(
    ["--edge"] * 6 + ["--edge ", "--edge\t\t", "--edge" + " " * 256, "--edge" + " " * 257, "--edg", "--edgex", "-"]
)
FIELDS = st.sampled_from([
    "Content-Type: application/dicom", "content-type :Application/DICOM; a=b", "Content-Type: text/plain", "Content-Type: none",
    "Content-Type:\r\n application/dicom", "Content-Type:\n\ttext/plain", "Content-Location: /x", "Content-Location:", "X: y",
    "X: \0", "Content-Transfer-Encoding: base64", "Content-Transfer-Encoding: Binary", "no field", " folded",
    "\r\n".join(["X: y"] * 33), "X: " + "y" * 17_000, "",
])  # fmt: skip
PART = st.builds(
    lambda delimiter, line, fields, *rest: "".join([delimiter, line, *fields, *rest]).encode("latin-1"),
    DELIMITERS, BREAKS, st.lists(st.builds("{}{}".format, FIELDS, BREAKS), max_size=2), BREAKS,
    st.sampled_from(["", "x", "DICM\r", "\n--edge", "--edge", "\r\n-", "x\n--ed"]), BREAKS,
)  # fmt: skip
PIECES = st.builds(
    lambda before, parts, end: [before, *parts, end],
    st.sampled_from([b"", b"", b"preamble\r\n", b"--edge", b"\n", b"x--edge\r\n"]),
    st.lists(PART, min_size=1, max_size=3),
    st.sampled_from([b"--edge--"] * 4 + [b"--edge--\r\nepilogue", b"--edge-", b"--edge --", b""]),
)


@settings(max_examples=1500)
@given(PIECES, st.lists(st.integers(0, 200), max_size=12), st.sampled_from([None, "application/dicom", "image/jpeg"]))
@example([b"--edge\n", b"X: y\r\n", b"\n", b"x", b"\r\n", b"--edge--"], [20], None)
@example([b"--edge", b"\t" * 255, b" ", b"\r\n", b"\r\n", b"--edge--"], [262, 263, 264], None)
def test_a_body_is_what_it_is_to_the_archive(pieces: list[bytes], cuts: list[int], part_type: str | None) -> None:
    """Large as small: the same instances, as many other parts, or as much a refusal."""
    whole = b"".join(pieces)
    kind = "multipart/related; boundary=edge" + (f"; type={part_type}" if part_type else "")
    try:
        request = parse_store_request(kind, whole)
        expected: object = [bytes(part.body) for part in request.instances], request.foreign
    except (BadRequest, UnsupportedMediaType) as error:
        expected = PROBLEMS[type(error)].status
    try:
        instances, foreign = taken(cut(whole, cuts), store_body(kind).part_type)
        found: object = [content for content, _ in instances], foreign
    except RefusedError as error:
        found = error.status
    assert found == expected


VALUES = st.sampled_from([
    "application/dicom", '"application/dicom"', "Application/DICOM", "image/jpeg", "text/plain", "application/octet-stream",
    "'x'", "edge", '"ed;ge"', '"e\\\\dge"', '"ed ge"', '"edge "', "é", "x" * 200, "x" * 201, "",
])  # fmt: skip
KINDS = ["multipart/related", "Multipart/Related", "multipart/mixed", "application/dicom", "application/", "text/plain", "x", ""]
CONTENT_TYPES = st.builds(
    lambda kind, parameters: "".join([kind, *(f"{sign}{name}{value}" for sign, name, value in parameters)]),
    st.sampled_from(KINDS),
    st.lists(
        st.tuples(
            st.sampled_from([";", "; ", " ;"]), st.sampled_from(["type=", "Type =", "boundary=", "BOUNDARY= ", "x="]), VALUES
        )
    ),
)


@settings(max_examples=1000)
@given(CONTENT_TYPES)
def test_a_content_type_means_what_it_means_to_the_archive(content_type: str) -> None:
    try:
        found: object = store_body(content_type).boundary
    except RefusedError as error:
        found = error.status
    media_type = parse_media_type(content_type)
    named = media_type.parameter("boundary") if media_type and media_type.name == "multipart/related" else None
    boundary = None if named is None else named.encode("latin-1")
    whole = b"x" if boundary is None else b"--%b\r\nContent-Type: application/dicom\r\n\r\nx\r\n--%b--" % (boundary, boundary)
    try:
        parse_store_request(content_type, whole)
        expected: object = boundary
    except (BadRequest, UnsupportedMediaType) as error:
        expected = PROBLEMS[type(error)].status
    assert found == expected


RANGES = st.sampled_from([
    "application/dicom+json", "application/dicom+xml", "Application/JSON", "application/*", "*/*", "*/json", "text/html",
    "image/png", 'multipart/related; type="application/dicom+xml"', "multipart/*", "x", "",
])  # fmt: skip
ACCEPTED = st.lists(st.builds("{}{}".format, RANGES, st.sampled_from(["", ";q=0", "; q=0.5", ";Q=1", ";q=2"])), max_size=4)


@settings(max_examples=1000)
@given(st.none() | ACCEPTED.map(", ".join), st.none() | ACCEPTED.map(",".join))
@example(",".join(["x/y"] * 65), None)
@example(None, "application/dicom xml")
def test_the_answer_is_of_the_media_type_that_the_archive_would_answer_with(accept: str | None, parameter: str | None) -> None:
    try:
        found: object = negotiated(accept, parameter or None)
    except RefusedError as error:
        found = error.status
    try:
        expected: object = negotiate(STORE_RESPONSE, accept, parameter or None).offer.media_type
    except (BadRequest, NotAcceptable) as error:
        expected = PROBLEMS[type(error)].status
    assert found == expected


UIDS = st.sampled_from(["1.2.840.10008.5.1.4.1.1.2", "1.2.3", ""])
STORED_OR_NOT = st.lists(st.tuples(UIDS, UIDS, st.none() | st.sampled_from([*large_answer.REASONS, "processing-failure"]), UIDS))


@given(STORED_OR_NOT)
def test_the_answer_says_what_the_archive_says(outcomes: list[tuple[str, str, str | None, str]]) -> None:
    ours = [
        StoreOutcome(sop_class, sop, reason, f"a&b/{study}", f"a&b/{study}/{sop}") for sop_class, sop, reason, study in outcomes
    ]
    theirs = [
        StoredInstance(sop_class, sop, f"a&b/{study}/{sop}", f"a&b/{study}")
        if reason is None
        else FailedInstance(reason, sop_class, sop)
        for sop_class, sop, reason, study in outcomes
        if sop or reason is not None
    ]
    ours = [outcome for outcome in ours if outcome.sop_instance_uid or outcome.reason is not None]
    model = stow_response.response(theirs)
    as_json, as_xml = large_answer.store_answer(ours, JSON), large_answer.store_answer(ours, XML)
    assert as_json.body == answer(model, 200, JSON).body
    assert as_xml.body == to_xml(model)
    assert {as_json.status_code, as_xml.status_code} == {stow_response.status(theirs)}
    assert as_xml.headers["content-type"] == XML


@pytest.mark.parametrize(
    "wrong",
    [b"", b"nothing of it", b"--edge\r\n\r\ncut short", b"--edge\r\n" + b"X: y\r\n" * 2000, b"--edge\r\n\r\nwhole\r\n--edge"],
    ids=["empty", "no delimiter", "no end", "headers without end", "half a delimiter"],
)
def test_what_is_no_whole_body_is_refused(wrong: bytes) -> None:
    with pytest.raises(RefusedError):
        taken(iter([wrong]))


def test_more_parts_than_are_taken_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert large_body.MOST_INSTANCES == 5000
    monkeypatch.setattr(large_body, "MOST_INSTANCES", 3)
    assert len(taken(iter([body([b"x"] * 3)]))[0]) == 3
    with pytest.raises(RefusedError):
        taken(iter([body([b"x"] * 4)]))


@pytest.mark.parametrize("header", [b"Content-Type: text/plain", b"Content-Type: image/jpeg\r\nContent-Location: x"])
def test_parts_that_are_no_instance_are_counted_too(monkeypatch: pytest.MonkeyPatch, header: bytes) -> None:
    """Each of them would be told of in the answer: a body of millions of empty parts would fill the memory."""
    assert large_body.MOST_PARTS == MAX_PARTS
    monkeypatch.setattr(large_body, "MOST_PARTS", 3)

    def sent(others: int) -> bytes:
        parts = [b"Content-Type: application/dicom\r\n\r\nx", *[header + b"\r\n\r\n"] * others]
        return b"".join(b"--edge\r\n" + part + b"\r\n" for part in parts) + b"--edge--"

    assert len(taken(iter([sent(2)]))[0]) == 1
    with pytest.raises(RefusedError) as refused:
        taken(iter([sent(3)]))
    assert refused.value.status == 413


def test_an_instance_larger_than_the_archive_takes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert large_body.LARGEST_INSTANCE == MAX_SIZE
    monkeypatch.setattr(large_body, "LARGEST_INSTANCE", 3)
    assert len(taken(iter([body([b"xxx", b"xxx"])]))[0]) == 2
    with pytest.raises(RefusedError):
        taken(iter([body([b"xxxx"])]))


def test_nothing_is_held_in_memory_before_between_and_after_the_parts() -> None:
    block = b"x" * 1_000_000

    def pieces() -> Iterator[bytes]:
        for _ in range(20):
            yield block  # before the first delimiter
        yield b"\r\n--edge\r\n\r\n"
        for _ in range(20):
            yield block
        yield b"\r\n--edge--"
        for _ in range(20):
            yield block

    tracemalloc.start()
    try:
        assert size_of_the_only_part(pieces()) == 20_000_000
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def size_of_the_only_part(pieces: Iterator[bytes]) -> int:
    with tempfile.TemporaryDirectory() as name:
        files = MultipartFiles(b"edge", Path(name))
        for piece in pieces:
            files.feed(piece)
        (part,) = files.end()
        return part.size


class NoArchive:
    """None: what is no instance comes to no archive."""


MULTIPART = 'multipart/related; type="application/dicom"; boundary=edge'


def sent(content: bytes, length: int, kind: str = MULTIPART) -> Request:
    """A request to store, as the server hands it on."""
    headers = [(b"content-type", kind.encode()), (b"content-length", str(length).encode())]
    scope = {"type": "http", "method": "POST", "path": "/dicomweb/studies", "query_string": b"", "headers": headers}

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": content, "more_body": False}

    return Request(scope, receive)


def test_what_is_larger_than_4_mb_is_taken_apart_here_up_to_8_gib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (large_store.LARGEST, large_store.VERDICT_SECONDS) == (8 * 1024**3, 120.0)
    store = large_store.LargeStore(NoArchive(), tmp_path / "stow", 0)  # type: ignore[arg-type]
    for kind, taken_here in ((MULTIPART, True), (DICOM, True), (MULTIPART.replace("dicom", "dicom+xml"), False), (JSON, False)):
        assert [store.takes(sent(b"", size, kind)) for size in (4_000_000, 4_000_001)] == [False, taken_here]
    content = body([b""])
    for most, refused in ((len(content), False), (len(content) - 1, True)):
        monkeypatch.setattr(large_store, "LARGEST", most)
        try:
            answered = on_its_own(lambda: asyncio.run(store.answer(sent(content, len(content)), "person", "http://door")))
            assert (answered.status_code, refused) == (409, False)
        except RefusedError as error:
            assert (error.status, refused) == (413, True)


GARBAGE = b"garbage" * 3


class Indexing:
    """An archive that takes whatever comes but garbage."""

    def call(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> SimpleNamespace:
        named = [of if isinstance(of, str) else of["sha256"] for of in next(iter(json.loads(body).values()))]
        rejected = {"state": "rejected", "reason": "not-dicom"}
        garbage = hashlib.sha256(GARBAGE).hexdigest()
        judged = [{"sha256": sha256} | (rejected if sha256 == garbage else {"state": "indexed"}) for sha256 in named]
        return SimpleNamespace(data=json.dumps({"instances": judged}))


def instance(study: str, **without: None) -> bytes:
    data = ct_slice(1, study=study)
    for keyword in without:
        delattr(data, keyword)
        data.file_meta.pop(f"MediaStorage{keyword}", None)
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=False)
    return file.getvalue()


@pytest.mark.parametrize(
    ("contents", "status", "retrieve", "tags"),
    [
        ([instance("1.2.3")], 200, ["http://door/studies/1.2.3"], {"00081199"}),
        ([instance("1.2.3"), instance("1.2.4")], 200, None, {"00081199"}),
        ([instance("1.2.3"), GARBAGE], 202, ["http://door/studies/1.2.3"], {"00081199", "0008119A"}),
        ([GARBAGE], 409, None, {"0008119A"}),
    ],
)
def test_the_answer_is_that_of_the_archive_to_what_is_smaller(
    tmp_path: Path, contents: list[bytes], status: int, retrieve: list[str] | None, tags: set[str]
) -> None:
    store = large_store.LargeStore(Indexing(), tmp_path / "stow", 0)  # type: ignore[arg-type]
    whole = body(contents)
    answered = on_its_own(lambda: asyncio.run(store.answer(sent(whole, len(whole)), "person", "http://door")))
    found = json.loads(bytes(answered.body))
    assert answered.status_code == status
    assert found.pop("00081190") == ({"vr": "UR", "Value": retrieve} if retrieve else {"vr": "UR"})
    assert set(found) == tags
    if "0008119A" in tags:
        assert found["0008119A"]["Value"] == [{"00081197": {"vr": "US", "Value": [0xC000]}}]


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID"])
def test_what_has_not_both_uids_is_no_failed_instance(tmp_path: Path, keyword: str) -> None:
    store = large_store.LargeStore(NoArchive(), tmp_path / "stow", 0)  # type: ignore[arg-type]
    whole = body([instance("1.2.3", **{keyword: None})])
    request = sent(whole, len(whole))
    request.scope["path"] = "/dicomweb/studies/1.2.9"
    answered = on_its_own(lambda: asyncio.run(store.answer(request, "person", "http://door")))
    assert set(json.loads(bytes(answered.body))) == {"00081190", "0008119A"}


def test_the_reasons_are_those_of_the_archive() -> None:
    assert {slug: code for slug, code in large_answer.REASONS.items() if FAILURE_REASONS[slug].code != code} == {}
    of_other_ways = {"missing-bulkdata", "unsupported-transfer-syntax", "out-of-resources", "processing-failure"}
    assert set(FAILURE_REASONS) - set(large_answer.REASONS) == of_other_ways
