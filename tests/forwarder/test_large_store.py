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
from hypothesis import given, settings
from hypothesis import strategies as st
from images import ct_slice
from starlette.requests import Request

from chalicelib.dicomweb.stow_response import FAILURE_REASONS
from forwarder.web import large_store
from forwarder.web.identity import RefusedError
from forwarder.web.large_store import MultipartFiles
from tests.harness import on_its_own

CONTENTS = st.lists(
    st.one_of(st.binary(max_size=60), st.sampled_from([b"\r\n--edg", b"--edge", b"\r\n", b"\r\n-", b""])), max_size=4
)


def body(contents: list[bytes], headers: str = "Content-Type: application/dicom\r\n") -> bytes:
    parts = b"".join(f"--edge\r\n{headers}\r\n".encode() + content + b"\r\n" for content in contents)
    return b"preamble\r\n" + parts + b"--edge--\r\nepilogue"


def taken(pieces: Iterator[bytes]) -> list[tuple[bytes, str, str]]:
    """(content, SHA-256, media type) of each part."""
    with tempfile.TemporaryDirectory() as name:
        files = MultipartFiles(b"edge", Path(name))
        try:
            for piece in pieces:
                files.feed(piece)
            return [(part.path.read_bytes(), part.sha256, part.media_type) for part in files.end()]
        finally:
            files.close()


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
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    found = taken(whole[start:end] for start, end in pairwise(places))
    kind = "application/dicom" if headers else ""
    assert found == [(content, hashlib.sha256(content).hexdigest(), kind) for content in contents]


@pytest.mark.parametrize(
    "wrong",
    [b"", b"nothing of it", b"--edge\r\n\r\ncut short", b"--edge\r\n" + b"X: y\r\n" * 2000, b"--edge\r\n\r\nwhole\r\n--edge"],
    ids=["empty", "no delimiter", "no end", "headers without end", "half a delimiter"],
)
def test_what_is_no_whole_body_is_refused(wrong: bytes) -> None:
    with pytest.raises(RefusedError):
        taken(iter([wrong]))


def test_more_parts_than_are_taken_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert large_store.MOST_INSTANCES == 5000
    monkeypatch.setattr(large_store, "MOST_INSTANCES", 3)
    assert len(taken(iter([body([b"x"] * 3)]))) == 3
    with pytest.raises(RefusedError):
        taken(iter([body([b"x"] * 4)]))


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


def sent(content: bytes, length: int) -> Request:
    """A request to store, as the server hands it on."""
    kind = b'multipart/related; type="application/dicom"; boundary=edge'
    headers = [(b"content-type", kind), (b"content-length", str(length).encode())]
    scope = {"type": "http", "method": "POST", "path": "/dicomweb/studies", "query_string": b"", "headers": headers}

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": content, "more_body": False}

    return Request(scope, receive)


def test_what_is_larger_than_4_mb_is_taken_apart_here_up_to_8_gib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (large_store.LARGEST, large_store.VERDICT_SECONDS) == (8 * 1024**3, 120.0)
    store = large_store.LargeStore(NoArchive(), tmp_path / "stow", 0)  # type: ignore[arg-type]
    assert [store.takes(sent(b"", size)) for size in (4_000_000, 4_000_001)] == [False, True]
    content = body([b"no DICOM"], "Content-Type: text/plain\r\n")
    for most, refused in ((len(content), False), (len(content) - 1, True)):
        monkeypatch.setattr(large_store, "LARGEST", most)
        try:
            answer = on_its_own(lambda: asyncio.run(store.answer(sent(content, len(content)), "person", "http://door")))
            assert (answer.status_code, refused) == (409, False)
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
    answer = on_its_own(lambda: asyncio.run(store.answer(sent(whole, len(whole)), "person", "http://door")))
    found = json.loads(bytes(answer.body))
    assert answer.status_code == status
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
    answer = on_its_own(lambda: asyncio.run(store.answer(request, "person", "http://door")))
    assert set(json.loads(bytes(answer.body))) == {"00081190", "0008119A"}


def test_the_reasons_are_those_of_the_archive() -> None:
    assert {slug: code for slug, code in large_store.REASONS.items() if FAILURE_REASONS[slug].code != code} == {}
    of_other_ways = {"missing-bulkdata", "unsupported-transfer-syntax", "out-of-resources", "processing-failure"}
    assert set(FAILURE_REASONS) - set(large_store.REASONS) == of_other_ways
