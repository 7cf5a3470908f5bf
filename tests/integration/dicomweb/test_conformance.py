"""docs/conformance.md, as far as it is of DICOMweb: what it names is answered as it says, and nothing is missing in it."""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
import requests

from chalicelib.dicomweb import capabilities
from chalicelib.dicomweb.search_attributes import ATTRIBUTES, RETURNED_ONLY
from chalicelib.dicomweb.stow_response import FAILURE_REASONS
from tests.harness import ROOT
from tests.integration.dicomweb.conftest import World

DOCUMENT = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8").split("\n## 9 ")[0]  # what follows is no DICOMweb


@dataclass(frozen=True)
class Row:
    """One row of a route table."""

    methods: tuple[str, ...]
    path: str
    media: tuple[str, ...]
    statuses: frozenset[int]
    parameters: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.methods[0]} {self.path}"


def _rows() -> list[Row]:
    found = []
    for line in DOCUMENT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith(("| GET", "| POST", "| OPTIONS")) and len(cells) == 5:
            methods = tuple(cells[0].strip("| ").split(", "))
            quoted = [tuple(re.findall(r"`([^`]*)`", cell)) for cell in cells]
            found.append(Row(methods, (quoted[1] or ("",))[0], quoted[2], frozenset(map(int, cells[3].split())), quoted[4]))
    return found


ROWS = _rows()
IDS = [row.name for row in ROWS]
JSON_BODY = {"Content-Type": "application/dicom+json"}


def _routes() -> set[tuple[str, str]]:
    for name in ("TABLE_NAME", "BUCKET_NAME", "OPERATOR_ROLE_ARN"):
        os.environ.setdefault(name, "none")
    app: Any = importlib.import_module("app").app
    paths = ((path.removeprefix("/dicomweb"), methods) for path, methods in app.routes.items() if path.startswith("/dicomweb"))
    return {(method, path) for path, methods in paths for method in methods}


def test_every_route_is_documented_and_every_documented_route_exists() -> None:
    assert {(method, row.path) for row in ROWS for method in row.methods} == _routes()


def test_the_capabilities_describe_the_same_routes() -> None:
    documented = {(method, row.path) for row in ROWS for method in row.methods if method in ("GET", "POST")}
    assert set(capabilities.routes()) == documented


def test_every_key_is_documented_as_it_is_matched() -> None:
    table = {
        (cells[2], cells[1], cells[5] == "yes")
        for line in DOCUMENT.splitlines()
        if re.fullmatch(r"[0-9A-F]{8}", (cells := [c.strip() for c in line.split("|")] + [""] * 6)[2])
    }
    assert table == {(tag, row.keyword, tag not in RETURNED_ONLY) for tag, row in ATTRIBUTES.items()}


def test_every_failure_reason_is_documented() -> None:
    ranges = [(int(a, 16), int(b or a, 16)) for a, b in re.findall(r"^\| ([0-9A-F]{4})(?:–([0-9A-F]{4}))? \|", DOCUMENT, re.M)]
    for slug, reason in FAILURE_REASONS.items():
        assert any(low <= reason.code <= high for low, high in ranges), slug


def _path(row: Row, world: World, name: str) -> str:
    head = world[name].head
    values = {
        "study": head.StudyInstanceUID,
        "series": head.SeriesInstanceUID,
        "instance": head.SOPInstanceUID,
        "frames": "1",
        "bulkdata": "7FE00010",
        "transaction": "1.2.3.4.5",
    }
    return "/dicomweb" + row.path.format(**values)


def _wado(world: World, name: str, **more: str) -> str:
    head = world[name].head
    uids = f"studyUID={head.StudyInstanceUID}&seriesUID={head.SeriesInstanceUID}&objectUID={head.SOPInstanceUID}"
    return f"/dicomweb/wado?requestType=WADO&{uids}" + "".join(f"&{key}={quote(value)}" for key, value in more.items())


def _address(row: Row, world: World, name: str = "slice1") -> str:
    return _wado(world, name) if row.path == "/wado" else _path(row, world, name)


def _commitment(sop: str) -> str:
    reference = {"00081150": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]}, "00081155": {"vr": "UI", "Value": [sop]}}
    return json.dumps({"00081199": {"vr": "SQ", "Value": [reference]}})


def _multipart(*bodies: bytes) -> tuple[bytes, dict[str, str]]:
    inner = b"".join(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + body + b"\r\n" for body in bodies)
    return inner + b"--b--\r\n", {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}


def _send(row: Row, world: World, **how: Any) -> requests.Response:
    """The request that goes well."""
    headers = dict(how.pop("headers", {}))
    address = how.pop("address", None) or _address(row, world)
    if row.methods[0] == "POST":
        if "commitment" in row.path:
            body, own = _commitment(str(world["slice1"].head.SOPInstanceUID)).encode(), JSON_BODY
        else:
            body, own = _multipart(world["slice1"].content)
        return world.owner.post(address, data=body, headers={**own, **headers}, allow_redirects=False)
    if "commitment" in row.path:
        _send(next(other for other in ROWS if other.name == f"POST {row.path}"), world)  # what is asked for then
    return world.owner.request(row.methods[0], address, headers=headers, allow_redirects=False)


def _fits(row: Row, media: str) -> str:
    """An instance that has this representation."""
    return {"application/pdf": "pdf", "text/xml": "cda", "text/html": "report", "text/plain": "report"}.get(media, "slice1")


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_each_media_type_is_sent_to_who_asks_for_it(row: Row, world: World) -> None:
    for media in row.media:
        name = _fits(row, media)
        address = _wado(world, name, contentType=media) if row.path == "/wado" else _path(row, world, name)
        answer = _send(row, world, address=address, headers={"Accept": media})
        assert answer.status_code in (200, 307), (media, answer.status_code, answer.text[:200])
        assert answer.headers["Content-Type"].split(";")[0] == media.split(";")[0], media
        if "type=" in media:
            assert media.split("type=")[1].strip('"') in answer.headers["Content-Type"]


Probe = Callable[[Row, World], requests.Response]


def _too_large(row: Row, world: World) -> requests.Response:
    if row.methods[0] == "POST":
        body, headers = _multipart(bytes(6_000_000))
        return world.owner.post(_address(row, world), data=body, headers=headers)
    pytest.skip("1.5 GB are not made here: tests/unit/dicomweb/test_bodies.py")


def _post(row: Row, world: World, body: bytes, headers: dict[str, str]) -> requests.Response:
    return world.owner.post(_address(row, world), data=body, headers=headers)


def _bad_request(row: Row, world: World) -> requests.Response:
    if row.methods[0] == "POST":
        return _post(row, world, b"{", JSON_BODY)
    if row.path == "/wado":
        return world.owner.get("/dicomweb/wado?requestType=WADO")
    if "{" not in row.path:
        return world.owner.get(f"/dicomweb{row.path}?limit=-1")
    return world.owner.get(re.sub(r"/[0-9.]{20,}", "/not-a-uid", _path(row, world, "slice1")).replace("/1.2.3.4.5", "/not-a-uid"))


def _not_found(row: Row, world: World) -> requests.Response:
    address = _address(row, world).replace(str(world["slice1"].head.StudyInstanceUID), "1.2.3", 1)
    return world.owner.get(address.replace("/1.2.3.4.5", "/1.2.3.4.5.6.7"))


def _conflict(row: Row, world: World) -> requests.Response:
    if "commitment" in row.path:
        _send(row, world)
        return _post(row, world, _commitment("1.2.3").encode(), JSON_BODY)
    return _post(row, world, *_multipart(b"no DICOM"))


def _no_content(row: Row, world: World) -> requests.Response:
    accept = 'multipart/related; type="application/dicom+xml"'
    return world.owner.get(f"{_address(row, world)}?PatientID=nobody", headers={"Accept": accept})


def _not_modified(row: Row, world: World) -> requests.Response:
    accept = {"Accept": "image/jpeg"} if row.path == "/wado" else {}  # the instance itself is always in the bucket
    tag = _send(row, world, headers=accept).headers["ETag"]
    return _send(row, world, headers=accept | {"If-None-Match": tag})


def _redirect(row: Row, world: World) -> requests.Response:
    if row.path.endswith("/metadata"):
        pytest.skip("metadata of 4.4 MB is not made here: tests/unit/dicomweb/test_bodies.py")
    if "rendered" in row.path:
        large = f"{_address(row, world, 'film')}?viewport=6000,6000"
        return _send(row, world, address=large, headers={"Accept": "image/png"})
    return _send(row, world, address=_address(row, world, "film"), headers={"Accept": _default(row)})


def _default(row: Row) -> str:
    return "application/dicom" if row.path == "/wado" else row.media[0]


PROBES: dict[int, Probe] = {
    200: lambda row, world: _send(row, world, headers={"Accept": row.media[0]} if row.path == "/wado" else {}),
    202: lambda row, world: _post(row, world, *_multipart(world["slice1"].content, b"no DICOM")),
    204: _no_content,
    304: _not_modified,
    307: _redirect,
    400: _bad_request,
    404: _not_found,
    406: lambda row, world: _send(row, world, headers={"Accept": "chemical/x-pdb"}),
    409: _conflict,
    413: _too_large,
    415: lambda row, world: _post(row, world, b"x", {"Content-Type": "chemical/x-pdb"}),
}
CASES = [(row, status) for row in ROWS for status in sorted(row.statuses)]


@pytest.mark.parametrize(("row", "status"), CASES, ids=[f"{row.name} {status}" for row, status in CASES])
def test_each_status_is_answered_when_it_says_so(row: Row, status: int, world: World) -> None:
    if status == 200 and row.path == "/wado":
        assert world.owner.get(_wado(world, "slice1"), headers={"Accept": "image/jpeg"}).status_code == 200
        return
    answer = PROBES[status](row, world)
    assert answer.status_code == status, answer.text[:300]
    if status >= 400 and (status != 409 or "commitment" in row.path):
        assert answer.headers["Content-Type"] == "application/problem+json"


VALUES = {
    "accept": None,
    "charset": "utf-8",
    "owner": "san-matteo",
    "annotation": "patient,technique",
    "imageAnnotation": "patient",
    "quality": "80",
    "imageQuality": "80",
    "viewport": "40,40",
    "window": "40,400,linear",
    "iccprofile": "no",
    "includefield": "all",
    "limit": "5",
    "offset": "0",
    "fuzzymatching": "true",
    "emptyvaluematching": "true",
    "multiplevaluematching": "true",
    "transferSyntax": "*",
    "frameNumber": "1",
    "rows": "40",
    "columns": "40",
    "region": "0,0,0.5,0.5",
    "windowCenter": "40",
    "windowWidth": "400",
    "contentType": "image/jpeg",
}


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_each_parameter_is_taken(row: Row, world: World) -> None:
    for name in row.parameters:
        if name in ("requestType", "studyUID", "seriesUID", "objectUID"):
            continue  # no request goes well without them
        pairs = {name: VALUES[name] or row.media[0]}
        if name in ("windowCenter", "windowWidth"):
            pairs = {"windowCenter": "40", "windowWidth": "400"}
        if name == "transferSyntax":
            pairs["contentType"] = "application/dicom"
        address = _address(row, world)
        query = "&".join(f"{key}={quote(value)}" for key, value in pairs.items())
        answer = _send(row, world, address=f"{address}{'&' if '?' in address else '?'}{query}")
        assert answer.status_code in (200, 307), (name, answer.status_code, answer.text[:200])


def test_every_key_can_be_searched_by_keyword_and_by_tag(world: World) -> None:
    for tag, row in ATTRIBUTES.items():
        if tag in RETURNED_ONLY or row.vr == "SQ":
            continue
        value = {"DA": "20200101-", "TM": "0000-", "UI": "1.2.3", "IS": "1", "US": "1", "AS": "018Y"}.get(row.vr, "X")
        path = {"study": "studies", "series": "series", "instance": "instances"}[row.level]
        for name in (tag, row.keyword):
            answer = world.owner.get(f"/dicomweb/{path}?{name}={value}")
            assert answer.status_code == 200, (name, answer.text)
