"""Clients of others, by their own defaults: dicomweb-client, the viewer's exact requests, DCMTK's tools on what came."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pydicom
import pytest
import requests
from dicomweb_client import DICOMwebClient

from tests.harness import SignedBy
from tests.integration.dicomweb.conftest import PATIENT, World, made


class Session(requests.Session):
    """A signed session that leaves what belongs to the signature behind when it is redirected to S3."""

    def rebuild_auth(self, prepared_request: Any, response: Any) -> None:
        super().rebuild_auth(prepared_request, response)
        for name in [name for name in prepared_request.headers if name.lower().startswith("x-amz-")]:
            del prepared_request.headers[name]


class _ByAddress(SignedBy):
    """dicomweb-client sets a Host without the port, which no server on another than 80 or 443 would know itself by."""

    def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        prepared.headers.pop("Host", None)
        return super().__call__(prepared)


@pytest.fixture
def client(world: World) -> DICOMwebClient:
    session = Session()
    session.trust_env = False
    session.auth = _ByAddress(world.city.credentials("san-matteo"), world.city.endpoints["region"])  # type: ignore[assignment]
    return DICOMwebClient(f"{world.city.api}/dicomweb", session=session)


def uids(world: World, name: str) -> tuple[str, str, str]:
    head = world[name].head
    return str(head.StudyInstanceUID), str(head.SeriesInstanceUID), str(head.SOPInstanceUID)


def test_it_searches(client: DICOMwebClient, world: World) -> None:
    study, series, _ = uids(world, "slice1")
    assert {result["0020000D"]["Value"][0] for result in client.search_for_studies(search_filters={"PatientID": PATIENT})} >= {
        study
    }
    assert len(client.search_for_studies(limit=1, get_remaining=True)) >= 3
    assert [result["0020000E"]["Value"][0] for result in client.search_for_series(study)] == [series]
    assert len(client.search_for_instances(study, series)) == 3
    assert len(client.search_for_instances(study)) == 3
    assert client.search_for_instances(search_filters={"SOPInstanceUID": uids(world, "slice2")[2]})
    assert client.search_for_series(search_filters={"Modality": "CT"}, fields=["SeriesDescription"])


def test_it_retrieves_instances(client: DICOMwebClient, world: World) -> None:
    study, series, sop = uids(world, "slice1")
    assert {dataset.SOPInstanceUID for dataset in client.retrieve_study(study)} == {
        slice_.head.SOPInstanceUID for slice_ in world.slices
    }
    assert (
        len(list(client.iter_study(study)))
        == len(client.retrieve_series(study, series))
        == len(list(client.iter_series(study, series)))
    )
    assert client.retrieve_instance(study, series, sop) == pydicom.dcmread(io.BytesIO(world["slice1"].content))
    assert client.retrieve_instance(*uids(world, "film")).Rows == 1955


def test_it_retrieves_metadata_and_bulk_data(client: DICOMwebClient, world: World) -> None:
    study, series, sop = uids(world, "slice1")
    assert len(client.retrieve_study_metadata(study)) == len(client.retrieve_series_metadata(study, series)) == 3
    uri = client.retrieve_instance_metadata(study, series, sop)["7FE00010"]["BulkDataURI"]
    assert client.retrieve_bulkdata(uri) == [pydicom.dcmread(io.BytesIO(world["slice1"].content)).PixelData]
    assert list(client.iter_bulkdata(uri)) == client.retrieve_bulkdata(uri)


def test_it_retrieves_frames(client: DICOMwebClient, world: World) -> None:
    of = uids(world, "frames")
    pixels = pydicom.dcmread(io.BytesIO(world["frames"].content)).pixel_array
    assert client.retrieve_instance_frames(*of, frame_numbers=[1, 3]) == [pixels[0].tobytes(), pixels[2].tobytes()]
    assert len(list(client.iter_instance_frames(*of, frame_numbers=[2]))) == 1
    compressed = client.retrieve_instance_frames(*of, frame_numbers=[1], media_types=(("image/jp2", "1.2.840.10008.1.2.4.90"),))
    assert len(compressed) == 1 and len(compressed[0]) < len(pixels[0].tobytes())


def test_it_retrieves_pictures(client: DICOMwebClient, world: World) -> None:
    study, series, sop = uids(world, "slice1")
    assert client.retrieve_instance_rendered(study, series, sop)[:2] == b"\xff\xd8"
    assert client.retrieve_instance_rendered(study, series, sop, media_types=("image/png",))[:4] == b"\x89PNG"
    assert client.retrieve_series_rendered(study, series, media_types=("image/jpeg",))[:2] == b"\xff\xd8"
    assert client.retrieve_instance_frames_rendered(study, series, sop, [1], media_types=("image/jpeg",))[:2] == b"\xff\xd8"
    assert client.retrieve_instance_rendered(*uids(world, "pdf"), media_types=("application/pdf",))[:4] == b"%PDF"


def test_it_stores(client: DICOMwebClient) -> None:
    study = "1.2.826.0.1.3680043.8.498.20"
    dataset = pydicom.dcmread(io.BytesIO(made("MR_small.dcm", study, f"{study}.1")))
    answer = client.store_instances([dataset])
    assert [reference.ReferencedSOPInstanceUID for reference in answer.ReferencedSOPSequence] == [dataset.SOPInstanceUID]
    assert client.store_instances([dataset], study_instance_uid=study).ReferencedSOPSequence


def test_the_viewer_gets_what_it_asks_for_to_open_a_study(world: World) -> None:
    study, series, sop = uids(world, "slice1")
    base = "/dicomweb/studies?limit=101&offset=0&fuzzymatching=false&includefield=00081030,00080060,00080090,00100030"
    (found,) = world.owner.get(f"{base}&StudyInstanceUID={study}").json()
    assert found["00080061"]["Value"] == ["CT"]
    assert found["00201208"]["Value"] == [3] and found["00201206"]["Value"] == [1]
    assert len(world.owner.get(f"{base}&StudyInstanceUID={study}%5C{uids(world, 'j2k')[0]}").json()) == 2
    fields = "00080021,00080031,0008103E,00200011"
    (row,) = world.owner.get(f"/dicomweb/studies/{study}/series?includefield={fields}").json()
    metadata = world.owner.get(f"/dicomweb/studies/{study}/series/{row['0020000E']['Value'][0]}/metadata").json()
    assert len(metadata) == 3
    frames = world.owner.get(
        f"/dicomweb/studies/{study}/series/{series}/instances/{sop}/frames/1",
        headers={"Accept": "multipart/related; type=application/octet-stream; transfer-syntax=*"},
    )
    assert frames.status_code == 200
    wado = world.owner.get(
        f"/dicomweb/wado?requestType=WADO&studyUID={study}&seriesUID={series}&objectUID={sop}"
        "&contentType=application/dicom&transferSyntax=*",
        allow_redirects=False,
    )
    assert wado.status_code == 307
    assert requests.get(wado.headers["Location"], timeout=60).content == world["slice1"].content
    priors = world.receiver.get("/dicomweb/studies?00100020=MG-77").json()
    assert {result["00100020"]["Value"][0] for result in priors} == {"MG-77"}


@pytest.mark.skipif(shutil.which("dcmdump") is None, reason="DCMTK is not installed")
@pytest.mark.parametrize("name", ["slice1", "j2k", "implicit", "frames", "colour", "lossy", "film"])
def test_dcmtk_reads_and_draws_what_was_retrieved(world: World, name: str, folder: Path) -> None:
    drawer = shutil.which("dcm2img") or shutil.which("dcmj2pnm")
    assert drawer is not None
    file = folder / f"{name}.dcm"
    accept = "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"
    file.write_bytes(world.owner.get(f"/dicomweb{world[name].path}", headers={"Accept": accept}).content)
    subprocess.run(["dcmdump", "+E", str(file)], check=True, capture_output=True, timeout=60)
    subprocess.run([drawer, "--write-bmp", str(file), str(folder / f"{name}.bmp")], check=True, capture_output=True, timeout=60)


@pytest.mark.skipif(shutil.which("dcmftest") is None, reason="DCMTK is not installed")
def test_dcmtk_takes_the_dicomdir_of_a_zip(world: World, tmp_path: Path) -> None:
    import zipfile

    answer = world.owner.get(f"/dicomweb{world['j2k'].study}", headers={"Accept": "application/zip"})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        archive.extractall(tmp_path)
    done = subprocess.run(["dcmdump", "+E", str(tmp_path / "DICOMDIR")], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.count("Directory Record") >= 9
