"""The letter of PS3.18 over HTTP, where a real client or a check would trip."""

from __future__ import annotations

import gzip
import io
import json
import re
from email.parser import BytesParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pydicom
import pytest
import requests
from PIL import Image
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_color_lut
from pydicom.uid import ImplicitVRLittleEndian

from tests.harness import wait_until
from tests.integration.dicomweb.conftest import (
    CDA,
    PATIENT,
    PDF,
    Kept,
    World,
    encapsulated_cda,
    encapsulated_pdf,
    kept,
    made,
    upload,
    written,
)

PROBLEM = "application/problem+json"


MULTIPART = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}


def packed(*contents: bytes) -> bytes:
    return b"".join(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n" for content in contents) + b"--b--\r\n"


def stow(world: World, *contents: bytes) -> requests.Response:
    return world.owner.post("/dicomweb/studies", data=packed(*contents), headers=MULTIPART)


def parts(answer: requests.Response) -> list[tuple[dict[str, str], bytes]]:
    """Header fields and body of each part."""
    assert answer.status_code == 200, answer.text
    (boundary,) = re.findall(r"boundary=(\S+)", answer.headers["Content-Type"])
    found = []
    for part in answer.content.split(b"--" + boundary.encode())[1:-1]:
        head, _, body = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        found.append((dict(BytesParser().parsebytes(head)), body.removesuffix(b"\r\n")))
    return found


@pytest.fixture(scope="module")
def cda(world: World) -> list[Kept]:
    study = "1.2.826.0.1.3680043.8.498.30"
    said = (len(CDA), None, len(CDA) + 1, len(CDA) - 9, 0, len(CDA) + 500)  # most of which are wrong
    contents = [encapsulated_cda(study, length=length) for length in said]
    assert [status["state"] for status in upload(world.owner, contents)] == ["indexed"] * len(said)
    return [kept(content) for content in contents]


@pytest.mark.parametrize("size", [5, 11])
def test_what_the_gateway_refuses_is_a_problem_too(world: World, size: int) -> None:
    answer = stow(world, b"x" * size * 1024**2)
    assert (answer.status_code, answer.headers["Content-Type"]) == (413, PROBLEM)
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.json()["status"] == 413 and "/uploads" in answer.json()["detail"]
    assert answer.json()["request_id"] == answer.headers["x-amzn-RequestId"]


def test_a_request_of_4_4_mb_is_stored(world: World) -> None:
    study = "1.2.826.0.1.3680043.8.498.38"
    dataset = pydicom.dcmread(io.BytesIO(made("MR_small.dcm", study, f"{study}.1")))
    dataset.add_new(0x00420011, "OB", b"")
    dataset.EncapsulatedDocument = bytes((4_400_000 - len(packed(written(dataset)))) // 2 * 2)
    body = packed(written(dataset))
    assert 4_400_000 - 2 < len(body) <= 4_400_000
    answer = world.owner.post("/dicomweb/studies", data=body, headers=MULTIPART)
    assert answer.status_code == 200, answer.text[:300]


def test_a_request_that_is_compressed_is_not_taken(world: World) -> None:
    body = gzip.compress(packed(world["slice1"].content))
    answer = world.owner.post("/dicomweb/studies", data=body, headers={**MULTIPART, "Content-Encoding": "gzip"})
    assert (answer.status_code, answer.headers["Content-Type"]) == (415, PROBLEM)


def test_each_failure_names_its_instance_as_long_as_its_head_says_which(world: World) -> None:
    content = made("MR_small.dcm", "1.2.826.0.1.3680043.8.498.31", "1.2.826.0.1.3680043.8.498.31.1")
    no_study = pydicom.dcmread(io.BytesIO(content))
    del no_study.StudyInstanceUID
    answer = stow(world, content[:-1000], written(no_study), b"no instance")
    assert answer.status_code == 409
    failed = [item["00081155"]["Value"] + item["00081197"]["Value"] for item in answer.json()["00081198"]["Value"]]
    assert failed == [[kept(content).head.SOPInstanceUID, reason] for reason in (0xC001, 0xA902)]
    assert {item["00081150"]["Value"][0] for item in answer.json()["00081198"]["Value"]} == {kept(content).head.SOPClassUID}
    assert [item["00081197"]["Value"] for item in answer.json()["0008119A"]["Value"]] == [[0xC000]]


def test_every_result_of_a_search_says_where_it_belongs(world: World) -> None:
    instance = world["slice1"]
    wanted = {"0020000D": instance.head.StudyInstanceUID, "0020000E": instance.head.SeriesInstanceUID}
    for path in (
        f"{instance.study}/series",
        f"{instance.study}/instances",
        f"{instance.series}/instances",
        "/series",
        "/instances",
    ):
        (found, *_) = world.owner.get(f"/dicomweb{path}?SeriesInstanceUID={instance.head.SeriesInstanceUID}").json()
        assert {tag: found[tag]["Value"][0] for tag in wanted} == wanted, path


def test_a_series_is_found_by_its_station_and_a_study_by_the_patients_age(world: World) -> None:
    study = "1.2.826.0.1.3680043.8.498.32"
    dataset = pydicom.dcmread(io.BytesIO(made("MR_small.dcm", study, f"{study}.1")))
    dataset.StationName, dataset.PatientAge = "RX-PAVIA-2", "073Y"
    assert stow(world, written(dataset)).status_code == 200
    wait_until(lambda: world.owner.get(f"/dicomweb/studies?StudyInstanceUID={study}").json())
    for query in ("studies?PatientAge=073Y", "series?StationName=RX-PAVIA*", "instances?StationName=RX-PAVIA-2&PatientAge=073Y"):
        found = world.owner.get(f"/dicomweb/{query}").json()
        assert [result["0020000D"]["Value"] for result in found] == [[study]], query


def test_a_frame_that_is_not_there_is_not_found(world: World) -> None:
    instance = world["frames"]
    for below in ("", "/rendered", "/thumbnail"):
        answer = world.owner.get(f"/dicomweb{instance.path}/frames/{instance.frames + 1}{below}")
        assert (answer.status_code, answer.headers["Content-Type"]) == (404, PROBLEM)


def test_frames_are_decoded_for_who_does_not_say_a_transfer_syntax(world: World) -> None:
    plain = pydicom.dcmread(io.BytesIO(world["frames"].content)).pixel_array[0].tobytes()
    for accept in ("*/*", None):
        answer = world.owner.get(f"/dicomweb{world['frames'].path}/frames/1", headers={"Accept": accept})  # type: ignore[dict-item]
        ((head, body),) = parts(answer)
        assert (head["Content-Type"], body) == ("application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1", plain)


def test_an_encapsulated_cda_is_xml_as_it_was_before_it_was_padded(world: World, cda: list[Kept]) -> None:
    for document in cda:
        answer = world.owner.get(f"/dicomweb{document.path}/rendered")
        assert answer.headers["Content-Type"] == "text/xml" and answer.content == CDA
        assert ElementTree.fromstring(answer.content).tag == "{urn:hl7-org:v3}ClinicalDocument"
        by_uri = (
            f"/dicomweb/wado?requestType=WADO&studyUID={document.head.StudyInstanceUID}"
            f"&seriesUID={document.head.SeriesInstanceUID}&objectUID={document.head.SOPInstanceUID}"
        )
        assert world.owner.get(by_uri).content == CDA


def test_a_document_as_bulk_data_comes_in_its_own_media_type_or_as_octets(world: World, cda: list[Kept]) -> None:
    for document, media_type, content in ((cda[0], "text/xml", CDA), (world["pdf"], "application/pdf", PDF)):
        address = f"/dicomweb{document.path}/bulkdata/00420011"
        answer = world.owner.get(address, headers={"Accept": media_type})
        assert (answer.headers["Content-Type"], answer.content) == (media_type, content)
        ((head, body),) = parts(world.owner.get(address, headers={"Accept": f'multipart/related; type="{media_type}"'}))
        assert (head["Content-Type"], body) == (media_type, content)
        octets = world.owner.get(address, headers={"Accept": "application/octet-stream"}).content
        assert octets == content + b"\0" * (len(content) % 2)


def test_each_part_of_bulk_data_says_which_attribute_of_the_metadata_it_is(world: World) -> None:
    for name in ("slice1", "j2k", "frames"):
        instance = world[name]
        (metadata,) = world.owner.get(f"/dicomweb{instance.path}/metadata").json()
        uri = metadata["7FE00010"]["BulkDataURI"]
        for address in (uri, f"/dicomweb{instance.path}/bulkdata", f"/dicomweb{instance.path}/pixeldata"):
            assert {head["Content-Location"] for head, _ in parts(world.owner.get(address))} == {uri}, address
        ((head, _),) = parts(world.owner.get(f"/dicomweb{instance.path}/frames/1"))
        assert head["Content-Location"] == f"{world.city.api}/dicomweb{instance.path}/frames/1"
    seen = world.receiver.get(f"/dicomweb{world['slice1'].path}/metadata").json()[0]["7FE00010"]["BulkDataURI"]
    assert seen.endswith("?owner=san-matteo")
    ((head, _),) = parts(world.receiver.get(seen))
    assert head["Content-Location"] == seen


def test_all_bulk_data_of_an_instance_is_what_its_metadata_refers_to(world: World) -> None:
    study = "1.2.826.0.1.3680043.8.498.33"
    dataset = pydicom.dcmread(io.BytesIO(made("MR_small.dcm", study, f"{study}.1")))
    item = Dataset()
    item.add_new(0x7FE00010, "OW", b"\1\2" * 1000)
    dataset.IconImageSequence = [item]
    dataset.add_new(0x00091001, "OB", b"\3\4" * 1000)
    dataset.add_new(0x00090010, "LO", "ACME")
    contents = [written(dataset), encapsulated_pdf(study)]
    assert [status["state"] for status in upload(world.owner, contents)] == ["indexed"] * 2
    instance = kept(contents[0])
    text = world.owner.get(f"/dicomweb{instance.path}/metadata").text
    wanted = set(re.findall(r'"BulkDataURI":"([^"]+)"', text))
    assert len(wanted) == 3
    found = {head["Content-Location"]: body for head, body in parts(world.owner.get(f"/dicomweb{instance.path}/bulkdata"))}
    assert set(found) == wanted
    for uri, body in found.items():
        assert world.owner.get(uri, headers={"Accept": "application/octet-stream"}).content == body
    assert len(parts(world.owner.get(f"/dicomweb{instance.study}/bulkdata"))) == 4
    ((_, pixels),) = parts(world.owner.get(f"/dicomweb{instance.path}/pixeldata"))
    assert pixels == dataset.PixelData


@pytest.mark.parametrize("charset", ["ISO_IR 100", "ISO_IR 192"])
def test_text_as_bulk_data_is_utf_8_like_the_metadata(world: World, charset: str) -> None:
    study, text = f"1.2.826.0.1.3680043.8.498.38.{charset[-3:]}", "è così " * 20_000
    dataset = pydicom.dcmread(io.BytesIO(made("MR_small.dcm", study, f"{study}.1")))
    dataset.SpecificCharacterSet, item = charset, Dataset()
    item.add_new(0x0040A160, "UT", text)
    dataset.ContentSequence = [item]
    (stored,) = stow(world, written(dataset)).json()["00081199"]["Value"]
    (metadata,) = world.owner.get(stored["00081190"]["Value"][0] + "/metadata").json()
    uri = metadata["0040A730"]["Value"][0]["0040A160"]["BulkDataURI"]
    answer = world.owner.get(uri, headers={"Accept": "application/octet-stream"})
    assert answer.content.decode("utf-8").rstrip() == text.rstrip()


def test_not_modified_has_no_other_type_than_what_it_stands_for(world: World) -> None:
    address = f"/dicomweb{world['slice1'].path}/metadata"
    tag = world.owner.get(address).headers["ETag"]
    answer = world.owner.get(address, headers={"If-None-Match": tag})
    assert (answer.status_code, answer.headers.get("Content-Type"), answer.content) == (304, "application/dicom+json", b"")


def test_what_the_report_of_a_store_says_can_be_asked_for_in_the_address(world: World) -> None:
    content = made("MR_small.dcm", "1.2.826.0.1.3680043.8.498.34", "1.2.826.0.1.3680043.8.498.34.1")
    answer = world.owner.post(
        "/dicomweb/studies?accept=application/dicom+xml", data=content, headers={"Content-Type": "application/dicom"}
    )
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/dicom+xml")
    assert json.dumps(PATIENT) not in answer.text


def test_what_was_stored_is_found_at_once(world: World) -> None:
    study = "1.2.826.0.1.3680043.8.498.35"
    for count in (2, 4, 6):
        contents = [made("MR_small.dcm", study, f"{study}.{count}", number) for number in (count, count + 1)]
        answer = stow(world, *contents).json()
        for item in answer["00081199"]["Value"]:
            assert world.owner.get(item["00081190"]["Value"][0]).status_code == 200
        (found,) = world.owner.get(f"/dicomweb/studies?StudyInstanceUID={study}").json()
        assert found["00201208"]["Value"] == [count]
        assert len(world.owner.get(f"/dicomweb/studies/{study}/series/{study}.{count}/metadata").json()) == 2


def test_what_is_said_to_be_indexed_is_found(world: World) -> None:
    for number in range(3):
        study = f"1.2.826.0.1.3680043.8.498.36.{number}"
        upload(world.owner, [made("MR_small.dcm", study, f"{study}.{place % 2}", place) for place in range(40)])
        (found,) = world.owner.get(f"/dicomweb/studies?StudyInstanceUID={study}").json()
        assert (found["00201206"]["Value"], found["00201208"]["Value"]) == ([2], [40])
        assert world.owner.get(f"/studies/{study}/manifest").status_code == 200


@pytest.mark.parametrize("name", ["OT-PAL-8-face.dcm", "gdcm-US-ALOKA-16.dcm", "gdcm-US-ALOKA-16_big.dcm"])
def test_colours_of_a_palette_are_shown_whatever_it_is_written_in(world: World, name: str) -> None:
    """One without file meta, two with segmented palettes, one of them big endian."""
    dataset = pydicom.dcmread(str(get_testdata_file(name, download=False)), force=True)
    dataset.file_meta.setdefault("TransferSyntaxUID", ImplicitVRLittleEndian)
    expected = apply_color_lut(dataset.pixel_array, dataset)
    content = Path(str(get_testdata_file(name, download=False))).read_bytes()
    if name.endswith("_big.dcm"):  # the same image as the other
        content = content.replace(dataset.SOPInstanceUID.encode(), dataset.SOPInstanceUID[:-1].encode() + b"7")
    (item,) = stow(world, content).json()["00081199"]["Value"]
    answer = world.owner.get(item["00081190"]["Value"][0] + "/rendered", headers={"Accept": "image/png"})
    assert answer.status_code == 200, answer.text
    shown = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert np.abs(shown.astype(float) - expected[..., :3] / (257 if expected.dtype == np.uint16 else 1)).max() <= 1


def test_a_video_is_one_stream_as_it_is_stored(world: World) -> None:
    study, stream = "1.2.826.0.1.3680043.8.498.37", b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 20
    dataset = pydicom.dcmread(io.BytesIO(made("SC_rgb_jpeg_dcmtk.dcm", study, f"{study}.1")))
    dataset.file_meta.TransferSyntaxUID, dataset.NumberOfFrames = "1.2.840.10008.1.2.4.102", 100
    dataset.PixelData = encapsulate([stream[:2000], stream[2000:]], has_bot=False)
    (item,) = stow(world, written(dataset)).json()["00081199"]["Value"]
    instance = item["00081190"]["Value"][0]
    (metadata,) = world.owner.get(f"{instance}/metadata").json()
    for address in (metadata["7FE00010"]["BulkDataURI"], f"{instance}/frames/1", f"{instance}/rendered"):
        answer = world.owner.get(address, headers={"Accept": "video/mp4"})
        assert (answer.status_code, answer.headers["Content-Type"].split(";")[0]) == (200, "video/mp4"), answer.text[:200]
        assert answer.content == stream
    for address in (metadata["7FE00010"]["BulkDataURI"], f"{instance}/frames/1", f"{instance}/bulkdata", f"{instance}/pixeldata"):
        star = {"Accept": "multipart/related; type=application/octet-stream; transfer-syntax=*"}
        ((head, body),) = parts(world.owner.get(address, headers=star))
        assert (head["Content-Type"], body) == ("application/octet-stream; transfer-syntax=1.2.840.10008.1.2.4.102", stream)
    assert {world.owner.get(f"{instance}/{below}").status_code for below in ("thumbnail", "frames/2", "frames/1/rendered")} == {
        404
    }


def test_a_thumbnail_is_never_large(world: World) -> None:
    answer = world.owner.get(f"/dicomweb{world['film'].path}/thumbnail?viewport=8192,8192", allow_redirects=False)
    assert answer.status_code == 200 and max(Image.open(io.BytesIO(answer.content)).size) == 1024
