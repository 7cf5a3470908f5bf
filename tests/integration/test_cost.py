"""What it costs: AWS requests for a CT of 500 slices, counted at the emulated cloud's door."""

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from tests.harness import RunningCity, running_city, wait_until

SLICES = 500


def _ct() -> dict[str, bytes]:
    image = dcmread(get_testdata_file("CT_small.dcm"))
    image.StudyInstanceUID, image.SeriesInstanceUID, image.PatientID = generate_uid(), generate_uid(), "COST-1"
    files = {}
    for number in range(SLICES):
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.InstanceNumber = number + 1
        written = io.BytesIO()
        image.save_as(written)
        files[hashlib.sha256(written.getvalue()).hexdigest()] = written.getvalue()
    return files


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory):
    with running_city(tmp_path_factory.mktemp("cost")) as running:
        yield running


def test_a_ct_of_500_slices_costs_what_is_promised(city: RunningCity):
    files = _ct()
    hospital = city.client("san-matteo")
    before = city.aws_requests()
    offers = [{"sha256": sha, "size": len(body)} for sha, body in files.items()]
    uploads = hospital.post("/uploads", json={"instances": offers}).json()["instances"]

    def put(entry: dict) -> int:
        upload = entry["upload"]
        return requests.put(upload["url"], data=files[entry["sha256"]], headers=upload["headers"], timeout=60).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(put, uploads)) == {200}

    study = dcmread(io.BytesIO(next(iter(files.values()))), stop_before_pixels=True).StudyInstanceUID

    def all_there() -> bool:
        found = hospital.get(f"/dicomweb/studies?StudyInstanceUID={study}").json()
        return bool(found) and found[0]["00201208"]["Value"] == [SLICES]

    wait_until(all_there, 120)
    states = hospital.post("/uploads/status", json={"sha256": list(files)}).json()["instances"]
    assert {one["state"] for one in states} == {"indexed"}
    spent = {name: count - before.get(name, 0) for name, count in city.aws_requests().items()}
    flat = {name.lower(): count for name, count in spent.items()}

    def of(*words: str) -> int:
        return sum(count for name, count in flat.items() if all(word in name for word in words))

    assert of("s3", "putobject") <= SLICES + 40, spent  # the slices, and the metadata of each batch
    assert of("s3", "getobject") <= SLICES + 60, spent  # one head each, and the metadata that is put together
    assert of("scan") == 0, spent
    assert of("dynamodb", "transactwrite") + of("dynamodb", "putitem") <= 120, spent  # 16 to 20 for the facts; the rest, views
