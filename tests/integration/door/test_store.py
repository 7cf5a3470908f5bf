"""Storing at the hospital's door: what is too large for one request to the archive is answered as what is small."""

from __future__ import annotations

import gzip
import json
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from forwarder.web.large_store import ARCHIVE_TAKES
from local.processes import free_port
from tests.forwarder.images import ct_slice
from tests.forwarder.orthanc import DICOMWEB_PLUGIN, running_orthanc
from tests.harness import wait_until
from tests.integration.door.doors import MONDINO, Doors, Staff
from tests.integration.door.test_dicomweb import written

KIND = 'multipart/related; type="application/dicom"; boundary=edge'
DICOM, JSON, XML = "application/dicom", "application/dicom+json", "application/dicom+xml"
PART = b"Content-Type: application/dicom"
SMALL, LARGE = 32, 1800
"""Edges of images: of two kilobytes, and of 6.5 MB, which no function of the archive takes."""


def instance(study: str, number: int = 1, edge: int = SMALL) -> bytes:
    return written(ct_slice(number, study=study, edge=edge))


def multipart(*parts: bytes, head: bytes = PART, boundary: str = "edge", blanks: bytes = b"", end: bytes = b"--") -> bytes:
    delimiter = b"--" + boundary.encode()
    pieces = b"".join(delimiter + blanks + b"\r\n" + head + b"\r\n\r\n" + part + b"\r\n" for part in parts)
    return pieces + delimiter + end + b"\r\n"


def without_cr(body: bytes, content: bytes) -> bytes:
    """Lines that end with LF alone; the instance stays as it is."""
    before, _, after = body.partition(content)
    return before.replace(b"\r\n", b"\n") + content + after.replace(b"\r\n", b"\n")


@dataclass(frozen=True)
class Oddity:
    """How a request is written, out of its study and an instance of it."""

    body: Callable[[str, bytes], bytes]
    status: int = 200
    kind: str = KIND
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)


LONG = "0" * 36 + "-" + "1" * 36
ODDITIES: dict[str, Oddity] = {
    "plain": Oddity(lambda _, content: multipart(content)),
    "an instance by itself": Oddity(lambda _, content: content, kind=DICOM),
    "an instance by itself, of the study": Oddity(lambda _, content: content, kind="Application/DICOM; x=y", path="/{study}"),
    "by itself, of another study": Oddity(lambda _, content: content, 409, kind=DICOM, path="/1.2.3"),
    "of another study": Oddity(lambda _, content: multipart(content), 409, path="/1.2.3"),
    "of no study": Oddity(lambda _, content: multipart(content), 400, path="/none"),
    "XML is asked for": Oddity(lambda _, content: multipart(content), headers={"Accept": XML}),
    "XML by the address": Oddity(lambda _, content: multipart(content), path="?accept=application/dicom%2Bxml"),
    "XML rather": Oddity(lambda _, content: multipart(content), headers={"Accept": f"{JSON};q=0.1, {XML}"}),
    "ordinary JSON": Oddity(lambda _, content: multipart(content), headers={"Accept": "application/json"}),
    "XML of what fails": Oddity(lambda _, content: multipart(content, b"none"), 202, headers={"Accept": XML}),
    "HTML is asked for": Oddity(lambda _, content: multipart(content), 406, headers={"Accept": "text/html"}),
    "capital letters": Oddity(
        lambda _, content: multipart(content), kind='Multipart/Related; Type="Application/DICOM"; Boundary=edge'
    ),
    "no type": Oddity(lambda _, content: multipart(content), kind="multipart/related; boundary=edge"),
    "octets as type": Oddity(
        lambda _, content: multipart(content), kind='multipart/related; type="application/octet-stream"; boundary=edge'
    ),
    "a charset": Oddity(lambda _, content: multipart(content), kind=f"{KIND}; charset=UTF-8"),
    "a type in single quotes": Oddity(lambda _, content: multipart(content), 415, kind=KIND.replace('"', "'")),
    "another type": Oddity(lambda _, content: multipart(content), 415, kind="multipart/related; type=text/plain; boundary=edge"),
    "another kind": Oddity(lambda _, content: content, 415, kind="application/octet-stream"),
    "no boundary": Oddity(lambda _, content: multipart(content), 400, kind="multipart/related; type=application/dicom"),
    "another boundary": Oddity(lambda _, content: multipart(content), 400, kind=f"{KIND}x"),
    "a boundary of 73": Oddity(
        lambda _, content: multipart(content, boundary=LONG), kind=f"multipart/related; type=application/dicom; boundary={LONG}"
    ),
    "a boundary of 201": Oddity(
        lambda _, content: multipart(content, boundary="x" * 201), 400, kind=KIND.replace("edge", "x" * 201)
    ),
    "an odd boundary": Oddity(
        lambda _, content: multipart(content, boundary="x'()+_,-./:=?y"), kind=KIND.replace("edge", "\"x'()+_,-./:=?y\"")
    ),
    "LF alone": Oddity(lambda _, content: without_cr(multipart(content), content)),
    "a preamble": Oddity(lambda _, content: b"preamble\r\n" + multipart(content)),
    "blanks after delimiters": Oddity(lambda _, content: multipart(content, blanks=b" \t")),
    "a blank before the colon": Oddity(lambda _, content: multipart(content, head=b"content-type :application/dicom")),
    "a part without type": Oddity(lambda _, content: multipart(content, head=b"X-A: 1")),
    "a part of another type": Oddity(lambda _, content: multipart(content, head=b"Content-Type: application/octet-stream"), 415),
    "base64": Oddity(lambda _, content: multipart(content, head=PART + b"\r\nContent-Transfer-Encoding: base64"), 400),
    "no header field": Oddity(lambda _, content: multipart(content, head=b"nothing"), 400),
    "cut off": Oddity(lambda _, content: multipart(content, end=b""), 400),
    "an instance cut off": Oddity(lambda _, content: multipart(content[:-100]), 409),
    "none beside it": Oddity(lambda _, content: multipart(content, b"none", b""), 202),
    "none beside it, of the study": Oddity(lambda _, content: multipart(content, b"none"), 202, path="/{study}"),
    "twice the same": Oddity(lambda _, content: multipart(content, content)),
    "two of one study": Oddity(lambda study, content: multipart(content, instance(study, 2))),
    "of two studies": Oddity(lambda study, content: multipart(content, instance(f"{study}.9"))),
    "compressed": Oddity(lambda _, content: multipart(content), 415, headers={"Content-Encoding": "gzip"}),
    "by itself, compressed": Oddity(
        lambda _, content: gzip.compress(content, 0), 415, kind=DICOM, headers={"Content-Encoding": "gzip"}
    ),
    "compressed by nothing": Oddity(lambda _, content: multipart(content), headers={"Content-Encoding": "Identity"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def radiologist(doors: Doors) -> Staff:
    return doors.staff(MONDINO, "m.rossi", "radiology")


def answered(radiologist: Staff, oddity: Oddity, edge: int) -> tuple[int, str, object]:
    """Status, media type and content; of a refusal what has no words."""
    study = f"1.2.{uuid.uuid4().int % 10**12}"
    body = oddity.body(study, instance(study, edge=edge))
    assert (len(body) > ARCHIVE_TAKES) == (edge == LARGE)
    address = "/dicomweb/studies" + oddity.path.format(study=study)
    answer = radiologist.post(address, data=body, headers={"Content-Type": oddity.kind} | oddity.headers, timeout=120)
    kind, text = answer.headers["Content-Type"], answer.text.replace(study, "STUDY")
    if kind == "application/problem+json":
        return answer.status_code, kind, set(json.loads(text)) - {"parameter"}
    return answer.status_code, kind, text


@pytest.mark.parametrize("name", ODDITIES)
def test_large_is_answered_as_small(radiologist: Staff, name: str) -> None:
    oddity = ODDITIES[name]
    small, large = (answered(radiologist, oddity, edge) for edge in (SMALL, LARGE))
    assert large == small
    assert small[0] == oddity.status


@pytest.mark.skipif(not shutil.which("Orthanc") or not DICOMWEB_PLUGIN.exists(), reason="not installed: orthanc-dicomweb")
@pytest.mark.parametrize("chunked", [False, True])
def test_orthanc_stores_by_its_dicomweb_plug_in(doors: Doors, radiologist: Staff, tmp_path: Path, chunked: bool) -> None:
    study = f"1.2.{uuid.uuid4().int % 10**12}"
    door = {
        "Url": doors.endpoints(MONDINO)["dicomweb"] + "/",
        "HttpHeaders": {"X-Remote-User": "orthanc", "X-Remote-Roles": "radiology"},
        "ChunkedTransfers": chunked,
    }
    dicomweb = {"Enable": True, "Root": "/dicom-web/", "Servers": {"door": door}}
    with running_orthanc(tmp_path / "orthanc", free_port(), Plugins=[str(DICOMWEB_PLUGIN)], DicomWeb=dicomweb) as orthanc:
        for number, edge in ((1, SMALL), (2, LARGE)):
            there = orthanc.ask("/instances", instance(study, number, edge))
            sent = orthanc.ask("/dicom-web/servers/door/stow", {"Resources": [there["ID"]], "Synchronous": True})
            assert int(sent["InstancesCount"]) == 1
    found = f"/dicomweb/studies/{study}/instances"
    wait_until(lambda: (answer := radiologist.get(found)).status_code == 200 and len(answer.json()) == 2)
