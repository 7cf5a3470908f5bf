"""Whose fault it is that there is no picture: the image's, which stays, or that of S3, its key or the disk, which passes."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pixels import handler as door
from tests.unit.pixels.generated import Spec, file_of

JOB = {"op": "transcode", "source": "instances/maugeri/aa", "target": "cache/rendered/bb"}
BUSY, DONE = {"state": "busy"}, "done"
Answer = tuple[int, str, bytes]


def refusal(status: int, code: str) -> Answer:
    return status, code, f"<Error><Code>{code}</Code><Message>x</Message></Error>".encode()


class S3(BaseHTTPRequestHandler):
    """Answers what the test says for a method."""

    answers: ClassVar[dict[str, Answer]] = {}

    def do_GET(self) -> None:
        self._answer("GET")

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        status, code, content = self.answers[method]
        if code == "cut":  # the line goes before all has come
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes 0-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), S3)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "eu-south-1", "BUCKET_NAME": "b",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}", "AWS_CONFIG_FILE": os.devnull,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    door._s3.cache_clear()

    def says(get: Answer, put: Answer = (200, "", b"")) -> None:
        S3.answers = {"GET": get, "PUT": put}

    yield says
    door._s3.cache_clear()
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def image() -> bytes:
    return file_of(Spec())


def test_an_image_that_is_whole_is_done_and_one_that_is_broken_is_refused(store: Callable[..., None], image: bytes) -> None:
    store((200, "", image))
    assert door.handler(JOB)["state"] == DONE
    store((200, "", b"no image"))
    assert door.handler(JOB)["state"] == "refused"
    frame = JOB | {"op": "frame", "frame": 1}
    for status, code in ((404, "NoSuchKey"), (416, "InvalidRange")):
        store(refusal(status, code))
        assert door.handler(frame) == {"state": "refused", "reason": "undecodable"}


@pytest.mark.parametrize(
    "got",
    [
        refusal(503, "SlowDown"), refusal(500, "InternalError"), refusal(400, "KMS.ThrottlingException"),
        refusal(403, "AccessDenied"), (200, "cut", bytes(4096)),
    ],
    ids=["throttled", "a fault", "the key is busy", "the key is refused", "cut off"],
)  # fmt: skip
def test_a_store_that_gives_nothing_is_not_the_images_fault(store: Callable[..., None], got: Answer) -> None:
    store(got)
    assert door.handler(JOB) == BUSY


def test_nor_is_one_that_takes_nothing(store: Callable[..., None], image: bytes) -> None:
    for put in (refusal(503, "SlowDown"), refusal(403, "AccessDenied"), refusal(404, "NoSuchBucket")):
        store((200, "", image), put)
        assert door.handler(JOB) == BUSY


def test_nor_is_one_that_cannot_be_reached(store: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert door.handler(JOB) == BUSY


@pytest.mark.parametrize("full", ["source", "target"])
def test_nor_is_a_full_disk(
    store: Callable[..., None], image: bytes, full: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def folder(*_: object, **__: object) -> str:
        (tmp_path / "pixels-1").mkdir()
        (tmp_path / "pixels-1" / full).symlink_to("/dev/full")
        return str(tmp_path / "pixels-1")

    monkeypatch.setattr(tempfile, "mkdtemp", folder)
    store((200, "", image))
    assert door.handler(JOB | ({} if full == "source" else {"op": "report", "media_type": "text/plain"})) == BUSY


def test_an_image_that_fills_the_disk_by_itself_is_told_as_too_large(
    store: Callable[..., None], image: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def folder(*_: object, **__: object) -> str:
        (tmp_path / "pixels-1").mkdir()
        (tmp_path / "pixels-1" / "target").symlink_to("/dev/full")
        return str(tmp_path / "pixels-1")

    monkeypatch.setattr(tempfile, "mkdtemp", folder)
    small = shutil.disk_usage(tmp_path)._replace(total=len(image))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: small)
    store((200, "", image))
    refused = {"state": "refused", "reason": "it is too large to be written anew"}
    assert door.handler(JOB | {"op": "report", "media_type": "text/plain"}) == refused
