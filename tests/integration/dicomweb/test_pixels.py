"""No picture is wrong: what cannot be drawn or decoded rightly is 406 with its reason, through the doors that viewers use."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from tests.integration.dicomweb.conftest import World, upload
from tests.unit.dicom.building import element
from tests.unit.pixels.generated import Spec, cells, dataset, packed, written

_numbers = iter(range(1, 1000))
SMALL = Spec(allocated=8, stored=8, high_bit=7, rows=16, columns=16)


def stored(world: World, made: pydicom.Dataset, syntax: str = ExplicitVRLittleEndian) -> str:
    """The address of an instance that was sent, under UIDs of its own."""
    study = f"1.2.826.0.1.3680043.8.498.60.{next(_numbers)}"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.SOPInstanceUID = study, f"{study}.1", f"{study}.1.1"
    made.PatientID = "SM-0001"
    (state,) = upload(world.owner, [written(made, syntax)])
    assert state["state"] == "indexed", state
    return f"/dicomweb/studies/{study}/series/{study}.1/instances/{study}.1.1"


def image(spec: Spec, **tags: Any) -> pydicom.Dataset:
    made = dataset(spec)
    made.add_new(0x7FE00010, "OW" if spec.allocated > 8 else "OB", packed(spec))
    for keyword, value in tags.items():
        setattr(made, keyword, value)
    return made


def jpeg(grey: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(grey).save(out, "JPEG", quality=95)
    return out.getvalue()


def compressed(frames: list[bytes], spec: Spec = SMALL) -> pydicom.Dataset:
    made = image(spec)
    made.PixelData = encapsulate(frames)
    made["PixelData"].is_undefined_length = True
    return made


PICTURES = ("/rendered", "/frames/1/rendered", "/thumbnail", "/frames/1/thumbnail")


@pytest.mark.parametrize(
    ("made", "syntax", "reason"),
    [
        (image(SMALL, BitsStored=9), ExplicitVRLittleEndian, "cannot be stored"),
        (image(SMALL, PhotometricInterpretation="HSV"), ExplicitVRLittleEndian, "cannot be HSV"),
        (compressed([jpeg(np.zeros((8, 16), np.uint8))]), JPEGBaseline8Bit, "16 columns and 8 rows"),
    ],
)
def test_what_would_be_another_picture_is_refused_with_its_reason(
    world: World, made: pydicom.Dataset, syntax: str, reason: str
) -> None:
    path = stored(world, made, syntax)
    for picture in PICTURES:
        answer = world.owner.get(path + picture)
        assert answer.status_code == 406, (picture, answer.status_code)
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert reason in answer.json()["detail"], answer.json()


@pytest.mark.parametrize("syntax", ["1.2.826.0.1.3680043.2.494.1.1", ExplicitVRLittleEndian])
def test_compressed_bytes_never_come_as_pixels(world: World, syntax: str) -> None:
    data = written(compressed([jpeg(np.zeros((16, 16), np.uint8))]), JPEGBaseline8Bit)
    made = pydicom.dcmread(io.BytesIO(data))
    path = stored(world, made, JPEGBaseline8Bit)  # the right one, to compare with
    assert world.owner.get(path + "/frames/1", headers={"Accept": "image/jpeg"}).status_code == 200
    study = f"1.2.826.0.1.3680043.8.498.61.{len(syntax)}"
    made.StudyInstanceUID, made.SeriesInstanceUID = study, f"{study}.1"
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = f"{study}.1.1"
    raw = written(made, JPEGBaseline8Bit)
    raw = raw.replace(element(0x00020010, "UI", JPEGBaseline8Bit), element(0x00020010, "UI", syntax))
    (state,) = upload(world.owner, [raw])
    assert state["state"] == "indexed", state
    path = f"/dicomweb/studies/{study}/series/{study}.1/instances/{study}.1.1"
    for at, accept in (("/frames/1", "application/octet-stream"), ("/bulkdata/7FE00010", None), ("/rendered", "image/png")):
        answer = world.owner.get(path + at, headers={"Accept": accept} if accept else {})
        assert answer.status_code == 406, (at, answer.status_code)
    whole = world.owner.get(path, headers={"Accept": "application/dicom; transfer-syntax=*"})
    assert whole.status_code == 200 and whole.content == raw


def test_metadata_says_what_the_pixels_are_and_not_what_the_file_says_of_them(world: World) -> None:
    frames = Spec(allocated=8, stored=8, high_bit=7, rows=16, columns=16, frames=3)
    path = stored(world, image(frames, NumberOfFrames=5))
    (metadata,) = world.owner.get(path + "/metadata").json()
    assert metadata["00280008"]["Value"] == [3]
    assert (
        world.owner.get(path + "/frames/3", headers={"Accept": "application/octet-stream"}).content == cells(frames)[2].tobytes()
    )
    assert world.owner.get(path + "/frames/4").status_code == 404
    full = Spec(allocated=8, stored=8, high_bit=7, rows=16, columns=16, photometric="YBR_FULL")
    path = stored(world, image(full, PhotometricInterpretation="YBR_FULL_422"))
    (metadata,) = world.owner.get(path + "/metadata").json()
    assert metadata["00280004"]["Value"] == ["YBR_FULL"]


def test_a_multi_frame_picture_comes_as_what_there_is(world: World) -> None:
    many = Spec(allocated=8, stored=8, high_bit=7, rows=4, columns=4, frames=201)
    path = stored(world, image(many))
    assert world.owner.get(path + "/rendered").headers["Content-Type"] == "image/jpeg"
    assert world.owner.get(path + "/rendered", headers={"Accept": "image/gif"}).status_code == 406


def test_a_study_is_stood_for_by_an_image_that_can_be_drawn(world: World) -> None:
    study = "1.2.826.0.1.3680043.8.498.62"
    contents = []
    for number in (1, 2, 3):
        made = image(SMALL, **({} if number == 1 else {"BitsStored": 9}))
        made.StudyInstanceUID, made.SeriesInstanceUID, made.SOPInstanceUID = study, f"{study}.1", f"{study}.1.{number}"
        made.PatientID, made.InstanceNumber = "SM-0001", number
        contents.append(written(made, ExplicitVRLittleEndian))
    upload(world.owner, contents)
    assert world.owner.get(f"/dicomweb/studies/{study}/thumbnail").status_code == 200


def test_the_transfer_syntax_that_is_named_is_the_one_that_comes(world: World) -> None:
    """Of several instances too, and of bulk data below any address; of lossy pixels the stored ones only to who names none."""
    study, lossy, plain = f"1.2.826.0.1.3680043.8.498.61.{next(_numbers)}", str(JPEGBaseline8Bit), str(ExplicitVRLittleEndian)
    files = []
    pictures = [(image(SMALL), plain), (compressed([jpeg(np.zeros((16, 16), np.uint8))]), lossy)]
    for number, (made, syntax) in enumerate(pictures, 1):
        made.StudyInstanceUID, made.SeriesInstanceUID, made.SOPInstanceUID = study, f"{study}.1", f"{study}.1.{number}"
        made.PatientID = "SM-0001"
        files.append(written(made, syntax))
    assert [state["state"] for state in upload(world.owner, files)] == ["indexed", "indexed"]

    def syntaxes(path: str, asked: str) -> set[bytes]:
        answer = world.owner.get(path, headers={"Accept": f"multipart/related; {asked}"})
        assert answer.status_code == 200, answer.text
        return set(re.findall(rb"transfer-syntax=([0-9.]+)", answer.content))

    of_study = f"/dicomweb/studies/{study}"
    assert syntaxes(of_study, f'type="application/dicom"; transfer-syntax={plain}') == {plain.encode()}
    assert syntaxes(of_study, 'type="application/dicom"') == {plain.encode(), lossy.encode()}
    octets = 'type="application/octet-stream"'
    lossy_one = f"{of_study}/series/{study}.1/instances/{study}.1.2"
    for path in (lossy_one, f"{lossy_one}/bulkdata", f"{lossy_one}/pixeldata", f"{lossy_one}/frames/1"):
        assert syntaxes(path, f"{octets}; transfer-syntax={plain}") == {plain.encode()}, path
        assert syntaxes(path, f"{octets}; transfer-syntax=*") == {lossy.encode()}, path
        refused = world.owner.get(
            path, headers={"Accept": f"multipart/related; {octets}; transfer-syntax=1.2.840.10008.1.2.4.90"}
        )
        assert refused.status_code == 406, path
    for path in (of_study, f"{of_study}/pixeldata"):
        assert syntaxes(path, f"{octets}; transfer-syntax={plain}") == {plain.encode()}, path
