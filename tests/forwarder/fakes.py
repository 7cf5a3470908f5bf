"""A small, honest archive over a real socket: it keeps the contract and nothing more, and it can be told to fail.

Signatures are verified with botocore, presigned PUTs are bound to digest, size, headers and time, and what a test wants
to go wrong goes wrong here, where the forwarder cannot tell it from the real thing.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

ACCESS_KEY, SECRET_KEY = "AKIDEXAMPLE", "wJalrXUtnFEMI"


@dataclass
class Reply:
    """An answer that a fault gives instead of the real one; `cut` breaks the connection (RST)."""

    status: int = 503
    body: str = "{}"
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


ABSENT = Reply(404, '{"type": "urn:contenitore:problem:not-found"}')

Fault = Callable[[str, str, bytes], Reply | None]
"""(method, path, body) → the answer instead of the real one, or None to let it pass."""


def _free() -> threading.Event:
    line = threading.Event()
    line.set()
    return line


@dataclass
class FakeArchive:
    """The state of the archive and the knobs of its faults."""

    url: str = ""
    verdict: Callable[[str, bytes], tuple[str, str | None]] = lambda sha256, body: ("indexed", None)
    issuer_name: str | None = None
    indexing_seconds: float = 0.0
    url_seconds: float = 300.0
    clock_ahead: float = 0.0
    before: Fault = lambda method, path, body: None
    after: Fault = lambda method, path, body: None  # the work is done, but this is what the sender hears
    bytes_per_second: float | None = None
    line: threading.Event = field(default_factory=_free)
    """Cleared, what is uploaded stands on the line until it is set."""
    on_the_line: int = 0
    objects: dict[str, bytes] = field(default_factory=dict)
    stored_at: dict[str, float] = field(default_factory=dict)
    offers: dict[str, dict[str, Any]] = field(default_factory=dict)
    sent_as: dict[str, str] = field(default_factory=dict)  # originals by digest: what they were compressed to
    tokens: dict[str, tuple[str, int, float]] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    calls: Counter[str] = field(default_factory=Counter)
    order: list[str] = field(default_factory=list)  # digests in the order in which they were stored
    in_flight: int = 0
    most_in_flight: int = 0
    keep_bytes: bool = True
    lock: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> float:
        return time.time() + self.clock_ahead

    def state(self, sha256: str) -> dict[str, Any]:
        body = self.objects.get(sha256)
        if body is None:
            sent_as = self.sent_as.get(sha256)
            if sent_as in self.objects and self.state(sent_as)["state"] == "indexed":
                return {"sha256": sha256, "state": "indexed"}
            return {"sha256": sha256, "state": "absent"}
        if time.time() - self.stored_at[sha256] < self.indexing_seconds:
            return {"sha256": sha256, "state": "stored"}
        state, reason = self.verdict(sha256, body)
        named = {"issuer_name": self.issuer_name} if self.issuer_name else {}
        return {"sha256": sha256, "state": state, **named} | ({"reason": reason} if reason else {})

    def ask(self, instances: list[dict[str, Any]]) -> list[dict[str, Any]]:
        answers = []
        for entry in instances:
            sha256, size = entry["sha256"], entry["size"]
            self.offers[sha256] = entry
            standing = self.state(sha256)
            if standing["state"] == "absent" and entry.get("original_sha256"):
                standing = self.state(entry["original_sha256"]) | {"sha256": sha256}  # it may be here as it was made
            if standing["state"] == "absent":
                self.sent_as[entry.get("original_sha256", sha256)] = sha256
                token = secrets.token_hex(8)
                self.tokens[token] = (sha256, size, self.now() + self.url_seconds)
                expires = datetime.fromtimestamp(self.now() + self.url_seconds, UTC).isoformat()
                standing["upload"] = {
                    "method": "PUT",
                    "url": f"{self.url}/objects/{token}",
                    "headers": {"x-amz-checksum-sha256": sha256, "If-None-Match": "*"},
                    "expires_at": expires,
                }
            answers.append(standing)
        return answers

    def signed(self, method: str, path: str, headers: Any, body: bytes) -> Reply | None:
        """What API Gateway does with a signature: None if it is right."""
        authorization = headers.get("Authorization", "")
        if not authorization.startswith("AWS4-HMAC-SHA256 "):
            return Reply(403, '{"message": "Missing Authentication Token"}')
        stamp = headers.get("X-Amz-Date", "")
        when = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        if abs(self.now() - when) > 300:
            late = "Signature expired" if when < self.now() else "Signature not yet current"
            return Reply(403, json.dumps({"message": f"{late}: {stamp}"}))
        names = authorization.split("SignedHeaders=")[1].split(",")[0].split(";")
        request = AWSRequest(method, self.url + path, data=body, headers={n: headers[n] for n in names})
        request.context["timestamp"] = stamp
        auth = SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "execute-api", "eu-south-1")
        expected = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
        if not authorization.endswith(f"Signature={expected}"):
            return Reply(403, '{"message": "The request signature we calculated does not match"}')
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    archive: FakeArchive

    def log_message(self, *arguments: Any) -> None:
        pass

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(self.archive.now(), usegmt=True)

    def _answer(self, reply: Reply) -> None:
        if reply.cut:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        payload = reply.body.encode()
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def _body(self) -> bytes:
        left, blocks = int(self.headers.get("Content-Length", 0)), []
        while left:
            block = self.rfile.read(min(left, 65536))
            if not block:
                break
            left -= len(block)
            blocks.append(block)
            if self.archive.bytes_per_second:
                time.sleep(len(block) / self.archive.bytes_per_second)
        return b"".join(blocks)

    def _wait_for_the_line(self) -> None:
        with self.archive.lock:
            self.archive.on_the_line += 1
        self.archive.line.wait(60)
        with self.archive.lock:
            self.archive.on_the_line -= 1

    def _handle(self, real: Callable[[str, bytes], Reply]) -> None:
        archive, method, path = self.archive, self.command, self.path
        with archive.lock:
            archive.in_flight += 1
            archive.most_in_flight = max(archive.most_in_flight, archive.in_flight)
        try:
            if path.startswith("/objects/"):
                self._wait_for_the_line()
            body = self._body()
            with archive.lock:
                archive.calls[f"{method} {path.split('/objects/')[0] or '/objects'}"] += 1
                reply = archive.before(method, path, body)
                if reply is None:
                    reply = real(path, body)
                    reply = archive.after(method, path, body) or reply
        finally:
            with archive.lock:
                archive.in_flight -= 1
        self._answer(reply)

    def do_GET(self) -> None:
        def real(path: str, body: bytes) -> Reply:
            if path.startswith("/objects"):  # no address is signed for GET
                return Reply(403, "<Error><Code>SignatureDoesNotMatch</Code></Error>")
            return Reply(200, '{"status": "ok"}') if path == "/health" else ABSENT

        self._handle(real)

    def do_POST(self) -> None:
        def real(path: str, body: bytes) -> Reply:
            refused = self.archive.signed("POST", path, self.headers, body)
            if refused is not None:
                return refused
            asked = json.loads(body)
            if path == "/uploads":
                entries = asked["instances"]
                answer = self.archive.ask(entries)
            else:
                entries = asked["sha256"]
                answer = [self.archive.state(sha256) for sha256 in entries]
            if not 1 <= len(entries) <= 500:
                return Reply(400, '{"detail": "1 to 500 instances"}')
            return Reply(200, json.dumps({"instances": answer}))

        self._handle(real)

    def do_DELETE(self) -> None:
        def real(path: str, body: bytes) -> Reply:
            archive, sha256 = self.archive, path.removeprefix("/uploads/")
            refused = archive.signed("DELETE", path, self.headers, body)
            if refused is not None:
                return refused
            if sha256 not in archive.objects:
                return Reply(204, "") if sha256 in archive.removed else ABSENT
            if (archive.state(sha256)["state"], archive.state(sha256).get("reason")) != ("rejected", "not-dicom"):
                return Reply(409)
            del archive.objects[sha256]
            archive.removed.add(sha256)
            return Reply(204, "")

        self._handle(real)

    def do_PUT(self) -> None:
        def real(path: str, body: bytes) -> Reply:
            archive = self.archive
            sha256, size, expires = archive.tokens[path.rsplit("/", 1)[1]]
            if self.headers.get("Authorization"):
                return Reply(400, "<Error><Code>InvalidArgument</Code></Error>")
            if self.headers["x-amz-checksum-sha256"] != sha256 or self.headers["If-None-Match"] != "*":
                return Reply(403, "<Error><Code>SignatureDoesNotMatch</Code></Error>")
            if archive.now() > expires:
                text = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
                return Reply(403, text)
            if sha256 in archive.objects:
                return Reply(412, "<Error><Code>PreconditionFailed</Code></Error>")
            if len(body) != size or hashlib.sha256(body).hexdigest() != sha256:
                return Reply(400, "<Error><Code>BadDigest</Code><Message>wrong bytes</Message></Error>")
            archive.objects[sha256] = body if archive.keep_bytes else b""
            archive.stored_at[sha256] = time.time()
            archive.order.append(sha256)
            return Reply(200, "")

        self._handle(real)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a sender that goes away in the middle is what many tests are about


@contextmanager
def running_archive() -> Iterator[FakeArchive]:
    """A FakeArchive that listens on a free port of the loopback."""
    archive = FakeArchive()
    handler = type("Handler", (_Handler,), {"archive": archive, "disable_nagle_algorithm": True})
    server = _Server(("127.0.0.1", 0), handler)
    archive.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield archive
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
