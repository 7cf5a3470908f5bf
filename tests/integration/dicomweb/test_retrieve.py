"""Retrieving as PS3.18 10.4 has it: what is sent, in which form, to whom."""

from __future__ import annotations

import email
import email.policy
import gzip
import io
import json
import zipfile
from typing import Any

import numpy as np
import pydicom
import pytest
import requests

from tests.harness import wait_until
from tests.integration.dicomweb.conftest import PDF, Kept, World, kept, made, upload

AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
EXPLICIT = "1.2.840.10008.1.2.1"


def parts(answer: requests.Response) -> list[Any]:
    """The parts of a multipart answer, read by Python's own parser."""
    head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + answer.content, policy=email.policy.HTTP)
    return list(message.iter_parts())  # type: ignore[attr-defined]


def bodies(answer: requests.Response) -> list[bytes]:
    boundary = answer.headers["Content-Type"].split("boundary=")[1].encode()
    found = answer.content.split(b"--" + boundary)[1:-1]
    return [part.split(b"\r\n\r\n", 1)[1][:-2] for part in found]


@pytest.mark.parametrize("name", ["slice1", "j2k", "implicit", "frames", "colour", "lossy", "report", "pdf", "film"])
def test_an_instance_comes_back_bit_for_bit(world: World, name: str) -> None:
    instance = world[name]
    for accept in (AS_STORED, "*/*"):
        assert bodies(world.owner.get(f"/dicomweb{instance.path}", headers={"Accept": accept})) == [instance.content]
    single = world.owner.get(f"/dicomweb{instance.path}", headers={"Accept": "application/dicom; transfer-syntax=*"})
    assert single.content == instance.content
    assert single.headers["Content-Type"].startswith("application/dicom")


def test_a_study_and_a_series_come_as_one_part_for_each_instance(world: World) -> None:
    sent = sorted(slice_.content for slice_ in world.slices)
    for path in (world["slice1"].study, world["slice1"].series):
        assert sorted(bodies(world.owner.get(f"/dicomweb{path}", headers={"Accept": AS_STORED}))) == sent


def test_a_part_says_its_transfer_syntax(world: World) -> None:
    (part,) = parts(world.owner.get(f"/dicomweb{world['j2k'].path}", headers={"Accept": AS_STORED}))
    assert part.get_content_type() == "application/dicom"
    assert part.get_param("transfer-syntax") == "1.2.840.10008.1.2.4.90"


def test_what_does_not_fit_is_redirected_to_s3_with_the_same_media_type(world: World) -> None:
    answer = world.owner.get(f"/dicomweb{world['film'].study}", headers={"Accept": AS_STORED}, allow_redirects=False)
    assert answer.status_code == 307
    assert answer.headers["Cache-Control"] == "no-store"
    there = requests.get(answer.headers["Location"], headers={"Origin": "null"}, timeout=60)
    assert there.headers["Content-Type"] == answer.headers["Content-Type"]
    assert there.headers["Access-Control-Allow-Origin"] == "*"
    assert bodies(there) == [world["film"].content]


def test_head_answers_what_get_would_without_the_body(world: World) -> None:
    for name in ("slice1", "film"):
        answer = world.owner.head(f"/dicomweb{world[name].path}", allow_redirects=True)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["Content-Type"].startswith("multipart/related")


@pytest.mark.parametrize("name", ["j2k", "implicit", "frames"])
def test_who_asks_for_application_dicom_gets_explicit_vr_little_endian(world: World, name: str) -> None:
    answer = world.owner.get(f"/dicomweb{world[name].path}", headers={"Accept": "application/dicom"})
    found = pydicom.dcmread(io.BytesIO(answer.content))
    assert found.file_meta.TransferSyntaxUID == EXPLICIT
    assert found.SOPInstanceUID == world[name].head.SOPInstanceUID
    assert np.array_equal(found.pixel_array, pydicom.dcmread(io.BytesIO(world[name].content)).pixel_array)


def test_lossy_pixels_are_decoded_only_for_who_asks_for_it(world: World) -> None:
    path = f"/dicomweb{world['lossy'].path}"
    assert world.owner.get(path, headers={"Accept": "application/dicom"}).content == world["lossy"].content
    decoded = world.owner.get(path, headers={"Accept": f"application/dicom; transfer-syntax={EXPLICIT}"})
    assert pydicom.dcmread(io.BytesIO(decoded.content)).file_meta.TransferSyntaxUID == EXPLICIT


def test_decoding_is_done_once(world: World) -> None:
    path = f"/dicomweb{world['frames'].path}/frames/3/rendered"
    first = world.owner.get(path)

    def invocations() -> int:
        return sum(count for name, count in world.city.aws_requests().items() if name.startswith("lambda:"))

    before = invocations()
    assert world.owner.get(path).content == first.content
    assert invocations() == before


def test_native_frames_are_the_pixels_of_the_file(world: World) -> None:
    instance = world["slice1"]
    pixels = pydicom.dcmread(io.BytesIO(instance.content)).PixelData
    plain = world.owner.get(f"/dicomweb{instance.path}/frames/1", headers={"Accept": "application/octet-stream"})
    assert plain.content == pixels
    assert bodies(world.owner.get(f"/dicomweb{instance.path}/frames/1")) == [pixels]


def test_compressed_frames_come_as_stored_or_decoded(world: World) -> None:
    instance = world["frames"]
    stored = bodies(
        world.owner.get(f"/dicomweb{instance.path}/frames/2,4", headers={"Accept": 'multipart/related; type="image/jp2"'})
    )
    assert len(stored) == 2 and all(frame[:4] in (b"\xff\x4f\xff\x51", b"\0\0\0\x0c") for frame in stored)
    decoded = bodies(
        world.owner.get(
            f"/dicomweb{instance.path}/frames/2,4", headers={"Accept": 'multipart/related; type="application/octet-stream"'}
        )
    )
    pixels = pydicom.dcmread(io.BytesIO(instance.content)).pixel_array
    assert decoded == [pixels[1].astype("<u2").tobytes(), pixels[3].astype("<u2").tobytes()]


def test_metadata_refers_to_large_values_that_can_be_fetched(world: World) -> None:
    instance = world["slice1"]
    (found,) = world.owner.get(f"/dicomweb{instance.path}/metadata").json()
    uri = found["7FE00010"]["BulkDataURI"]
    value = world.owner.get(uri.removeprefix(world.city.api), headers={"Accept": "application/octet-stream"})
    assert value.content == pydicom.dcmread(io.BytesIO(instance.content)).PixelData
    assert pydicom.Dataset.from_json(json.dumps({k: v for k, v in found.items() if "BulkDataURI" not in v})).Rows == 128


def test_metadata_of_a_series_is_that_of_its_instances(world: World) -> None:
    series = world.owner.get(f"/dicomweb{world['slice1'].series}/metadata").json()
    assert {result["00080018"]["Value"][0] for result in series} == {slice_.head.SOPInstanceUID for slice_ in world.slices}
    for slice_ in world.slices:
        assert world.owner.get(f"/dicomweb{slice_.path}/metadata").json()[0] in series
    assert list(series[0]) == sorted(series[0])


def test_metadata_is_cached_by_entity_tag_and_never_across_callers(world: World) -> None:
    path = f"/dicomweb{world['slice1'].series}/metadata"
    first = world.owner.get(path)
    again = world.owner.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = world.receiver.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert other.status_code == 200
    assert "private" in other.headers["Cache-Control"] and "Authorization" in other.headers["Vary"]


def test_another_hospital_sees_its_own_patient_number_and_the_original_beside_it(world: World) -> None:
    for path in (world["slice1"].series, world["slice1"].path, world["slice1"].study):
        dataset = world.receiver.get(f"/dicomweb{path}/metadata").json()[0]
        assert dataset["00100020"]["Value"] == ["MG-77"]
        (item,) = dataset["04000561"]["Value"]
        assert item["04000550"]["Value"][0]["00100020"]["Value"] == ["SM-0001"]
        assert set(item) == {"04000550", "04000562", "04000563", "04000564", "04000565"}, "all of PS3.3 Table C.12-1"
        assert dataset["7FE00010"]["BulkDataURI"].endswith("?owner=san-matteo")
        assert list(dataset) == sorted(dataset)
    (found,) = world.receiver.get(f"/dicomweb/studies?StudyInstanceUID={world['slice1'].head.StudyInstanceUID}").json()
    assert found["04000561"]["Value"] == [item]
    uri = dataset["7FE00010"]["BulkDataURI"].removeprefix(world.city.api)
    assert world.receiver.get(uri, headers={"Accept": "application/octet-stream"}).status_code == 200
    assert bodies(world.receiver.get(f"/dicomweb{world['slice1'].path}")) == [world["slice1"].content]


def test_a_series_that_grows_shows_what_came(world: World) -> None:
    study = "1.2.826.0.1.3680043.8.498.8"
    first, second = (kept(made("MR_small.dcm", study, f"{study}.1", number)) for number in (1, 2))
    path = f"/dicomweb{first.series}/metadata"
    upload(world.owner, [first.content])
    before = wait_until(lambda: (answer := world.owner.get(path)).ok and answer)
    upload(world.owner, [second.content])
    wait_until(lambda: len(world.owner.get(path).json()) == 2)
    wait_until(lambda: world.owner.get(path, headers={"If-None-Match": before.headers["ETag"]}).status_code == 200)


def test_metadata_of_a_quiet_series_costs_one_get_however_many_instances_it_has(world: World) -> None:
    path = f"/dicomweb{world['slice1'].series}/metadata"
    client = world.city.aws("s3")
    bucket = world.city.outputs()["BucketName"]

    def compacted() -> bool:
        world.owner.get(path)
        listed = client.list_objects_v2(Bucket=bucket, Prefix="metadata/series/san-matteo/").get("Contents", [])
        return any(b"498.1.1/instances" in gzip.decompress(_read(client, bucket, entry["Key"])) for entry in listed)

    wait_until(compacted)
    before = world.city.aws_requests().get("s3:GetObject", 0)
    assert len(world.owner.get(path).json()) == 3
    assert world.city.aws_requests()["s3:GetObject"] - before == 1


def _read(client: Any, bucket: str, key: str) -> bytes:
    with client.get_object(Bucket=bucket, Key=key)["Body"] as body:
        return bytes(body.read())


def test_text_goes_out_gzipped_to_who_takes_it(world: World) -> None:
    path = f"/dicomweb{world['slice1'].series}/metadata"
    packed = world.owner.get(path, headers={"Accept-Encoding": "gzip"})
    plain = world.owner.get(path, headers={"Accept-Encoding": "identity"})
    assert packed.headers["Content-Encoding"] == "gzip" and "Content-Encoding" not in plain.headers
    assert packed.json() == plain.json()


@pytest.mark.parametrize("below", ["", "/metadata", "/rendered", "/thumbnail", "/frames/1", "/bulkdata/7FE00010", "/pixeldata"])
def test_what_is_not_shared_looks_like_what_does_not_exist(world: World, below: str) -> None:
    def answer(instance: Kept, study: str) -> tuple[int, dict[str, Any]]:
        path = instance.path.replace(str(instance.head.StudyInstanceUID), study, 1)
        found = world.stranger.get(f"/dicomweb{path}{below}")
        return found.status_code, {k: v for k, v in found.json().items() if k != "request_id"}

    instance = world["slice1"]
    assert (
        answer(instance, str(instance.head.StudyInstanceUID)) == answer(instance, "1.2.3.4.5.6.7")
        and answer(instance, "9.9")[0] == 404
    )


def test_a_study_as_zip_is_a_file_set(world: World, tmp_path: Any) -> None:
    answer = world.owner.get(f"/dicomweb{world['j2k'].study}", headers={"Accept": "application/zip"})
    assert answer.headers["Content-Type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path)
        contents = {archive.read(name) for name in archive.namelist() if name != "DICOMDIR"}
    mixed = [instance for instance in world.instances.values() if instance.study == world["j2k"].study]
    assert contents == {instance.content for instance in mixed}
    records = pydicom.dcmread(tmp_path / "DICOMDIR").DirectoryRecordSequence
    named = {
        record.ReferencedSOPInstanceUIDInFile: tmp_path.joinpath(*record.ReferencedFileID)
        for record in records
        if "ReferencedFileID" in record
    }
    assert set(named) == {instance.head.SOPInstanceUID for instance in mixed}
    assert all(kept(path.read_bytes()).head.SOPInstanceUID == uid for uid, path in named.items())


def test_documents_are_rendered_as_what_they_are(world: World) -> None:
    pdf = world.owner.get(f"/dicomweb{world['pdf'].path}/rendered", headers={"Accept": "application/pdf"})
    assert pdf.headers["Content-Type"] == "application/pdf" and pdf.content.rstrip(b"\0") == PDF
    html = world.owner.get(f"/dicomweb{world['report'].path}/rendered", headers={"Accept": "text/html"})
    assert html.headers["Content-Type"].startswith("text/html") and "<script" not in html.text
    assert "Report Text" in world.owner.get(f"/dicomweb{world['report'].path}/rendered", headers={"Accept": "text/plain"}).text


def test_pictures_have_the_size_and_window_that_are_asked_for(world: World) -> None:
    from PIL import Image

    path = f"/dicomweb{world['slice1'].path}/rendered"
    whole = Image.open(io.BytesIO(world.owner.get(path, headers={"Accept": "image/png"}).content))
    assert (whole.format, whole.size) == ("PNG", (128, 128))
    small = Image.open(io.BytesIO(world.owner.get(f"{path}?viewport=64,64").content))
    assert (small.format, small.size) == ("JPEG", (64, 64))
    dark = Image.open(io.BytesIO(world.owner.get(f"{path}?window=30000,10,linear", headers={"Accept": "image/png"}).content))
    assert dark.getextrema() == (0, 0)


def test_pixels_that_cannot_be_decoded_are_a_406_and_harm_nothing_else(world: World) -> None:
    broken = made("693_J2KR.dcm", "1.2.826.0.1.3680043.8.498.9", "1.2.826.0.1.3680043.8.498.9.1")
    place = broken.index(b"\xff\x4f\xff\x51")
    hostile = kept(broken[: place + 4] + b"\xff" * 60 + broken[place + 64 :])
    upload(world.owner, [hostile.content])
    wait_until(lambda: world.owner.get(f"/dicomweb{hostile.series}/instances").ok)
    assert world.owner.get(f"/dicomweb{hostile.path}/rendered").status_code == 406
    assert world.owner.get(f"/dicomweb{hostile.path}", headers={"Accept": "application/dicom"}).status_code == 406
    assert bodies(world.owner.get(f"/dicomweb{hostile.path}")) == [hostile.content]
    assert world.owner.get(f"/dicomweb{world['slice1'].path}/rendered?viewport=50,50").status_code == 200
