"""Forwarder and archive are brought up in either order: one of an earlier contract is told what it knows."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from forwarder.archive.client import Archive
from forwarder.archive.signing import Signer
from forwarder.errors import ArchiveError
from forwarder.operations import sign_of_life

pytestmark = pytest.mark.usefixtures("credentials")
SAID = {"version": "2.0.0", "contract": "2", "waiting": 3, "what_nobody_knew": True}


class EarlierArchive(HTTPServer):
    """Takes signs with the fields that it knows; none at all where it knows no such route."""

    def __init__(self, known: frozenset[str]) -> None:
        self.known, self.heard = known, list[dict[str, object]]()
        super().__init__(("127.0.0.1", 0), EarlierHandler)


class EarlierHandler(BaseHTTPRequestHandler):
    server: EarlierArchive

    def do_PUT(self) -> None:
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = 404 if not self.server.known else 400 if set(said) - self.server.known else 200
        if status == 200:
            self.server.heard.append(said)
        body = json.dumps({"contract": "1", "type": "urn:contenitore:problem:bad-request"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def earlier(request: pytest.FixtureRequest) -> Iterator[EarlierArchive]:
    server = EarlierArchive(request.param)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def archive_at(server: EarlierArchive) -> Archive:
    return Archive(f"http://127.0.0.1:{server.server_port}", Signer("san-matteo"))


@pytest.mark.parametrize("earlier", [frozenset({"version", "contract", "waiting"})], indirect=True)
def test_an_archive_that_knows_less_hears_what_it_knows_and_says_its_contract(earlier: EarlierArchive) -> None:
    assert sign_of_life.say(archive_at(earlier), SAID)["contract"] == "1"
    assert earlier.heard == [{"version": "2.0.0", "contract": "2"}]


@pytest.mark.parametrize("earlier", [frozenset()], indirect=True)
def test_an_archive_that_knows_no_signs_is_no_trouble(earlier: EarlierArchive) -> None:
    with pytest.raises(ArchiveError):  # which the loop notes, and goes on
        sign_of_life.say(archive_at(earlier), SAID)
    assert earlier.heard == []


def test_what_is_said_is_what_the_archive_of_this_release_knows() -> None:
    from chalicelib.domain import forwarder_signs

    line = {"open": True, "tried": True, "skew_seconds": 0.1}
    seen = {"version": "1", "waiting": 0, "oldest_waiting_seconds": None, "line": line,
            "disk": {"free_bytes": 1}, "certificate_days": None, "troubles": []}  # fmt: skip
    sign = forwarder_signs.parse(sign_of_life.sign(seen), "2026-11-30T00:00:00.000Z")
    assert (sign.contract, sign.version) == (forwarder_signs.CONTRACT, "1")
    for older in ({"version": "0.0.9"}, {"version": "0.0.9", "contract": "0"}):
        assert forwarder_signs.parse(older, "2026-11-30T00:00:00.000Z").version == "0.0.9"
