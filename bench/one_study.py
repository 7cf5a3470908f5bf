"""An archive of one study of many small slices, and of nothing else: what memory deliveries take is looked at beside it, in seconds."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydicom import dcmread
from pydicom.data import get_testdata_file

STUDY, SERIES = "1.2.826.0.1.3680043.10.9.7", "1.2.826.0.1.3680043.10.9.7.1"
TRANSFER = "a" * 32
FIRST = 1_000_000  # numbers of seven digits, so that each instance has as many bytes as the others
PAGE = 500


@dataclass
class OneStudy:
    """`count` instances; accepted once `accepted` is set."""

    count: int
    url: str = ""
    accepted: threading.Event = field(default_factory=threading.Event)
    template: bytes = b""
    calls: Counter[str] = field(default_factory=Counter)
    """By path, of an instance by `/objects`."""

    def instance(self, number: int) -> bytes:
        """The bytes of an instance."""
        return self.template.replace(str(FIRST).encode(), str(FIRST + number).encode())

    def answer(self, path: str, query: dict[str, list[str]]) -> Any:
        """What the contract has for a path; None where there is nothing."""
        own, theirs = {"id": "MG-1", "issuer": "2.999.2"}, {"id": "SM-1", "issuer": "2.999.1"}
        moment = "2026-03-01T10:00:00+00:00"
        transfer = {
            "id": TRANSFER, "from": "san-matteo", "to": "maugeri", "patient": theirs, "receiving_patient": own, "status": "active",
            "opened_at": moment, "accepted_at": moment,
        }  # fmt: skip
        if path == "/institutions":
            members = [
                {"id": "maugeri", "name": "Maugeri", "patient_id_issuer": "2.999.2"},
                {"id": "san-matteo", "name": "San Matteo"},
            ]
            return {"institutions": members}
        if path == "/changes":
            new = self.accepted.is_set() and query.get("since") != ["2"]
            return {
                "changes": [{"kind": "transfer-accepted", "transfer_id": TRANSFER}] if new else [],
                "next": "2" if self.accepted.is_set() else "1",
            }
        if path == f"/transfers/{TRANSFER}":
            return transfer
        if path == "/patients/MG-1/timeline":
            study = {
                "study_instance_uid": STUDY, "owner": "san-matteo", "study_date": "20260301", "modalities": ["CT"],
                "instances": self.count, "opened_by": [TRANSFER],
            }  # fmt: skip
            who = {"name": "PROVA^MOLTE", "birth_date": "19510314", "sex": "F", "identifiers": [own, theirs]}
            return {"patient": who, "studies": [study], "transfers": [transfer]}
        if path == f"/studies/{STUDY}/manifest":
            return self._page(int(query.get("cursor", ["0"])[0]))
        return None

    def _page(self, begin: int) -> dict[str, Any]:
        end = min(self.count, begin + PAGE)
        listed = []
        for number in range(begin, end):
            content = self.instance(number)
            listed.append(
                {
                    "sop_instance_uid": f"{SERIES}.{FIRST + number}", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
                    "series_instance_uid": SERIES, "transfer_syntax_uid": "1.2.840.10008.1.2.1", "size": len(content),
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "url": f"{self.url}/objects/{number}?X-Amz-Signature={'0' * 400}",  # as long as one that is signed
                }
            )  # fmt: skip
        return {"instances": listed} | ({"next": str(end)} if end < self.count else {})


@contextmanager
def one_study(count: int, edge: int = 16) -> Iterator[OneStudy]:
    """It, listening; its slices have `edge` rows and columns."""
    image = dcmread(str(get_testdata_file("CT_small.dcm")))
    image.PatientName, image.PatientID, image.StudyInstanceUID, image.SeriesInstanceUID = "Prova^Molte", "SM-1", STUDY, SERIES
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"{SERIES}.{FIRST}"
    image.Rows = image.Columns = edge
    image.PixelData = bytes(2 * edge * edge)
    content = io.BytesIO()
    image.save_as(content)
    archive = OneStudy(count, template=content.getvalue())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            archive.calls["/objects" if parts.path.startswith("/objects/") else parts.path] += 1
            if parts.path.startswith("/objects/"):
                self._send(200, archive.instance(int(parts.path.rpartition("/")[2])))
                return
            found = archive.answer(parts.path, parse_qs(parts.query))
            absent = {"type": "urn:contenitore:problem:not-found"}
            self._send(404 if found is None else 200, json.dumps(absent if found is None else found).encode())

        def do_PUT(self) -> None:
            archive.calls[urlsplit(self.path).path] += 1
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._send(200, b"{}")

        do_POST = do_PUT

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"disable_nagle_algorithm": True}))
    archive.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield archive
    finally:
        server.shutdown()
        server.server_close()
