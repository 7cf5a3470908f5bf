"""`python -m bench.cost`: the AWS requests that a CT of 500 slices costs, counted at the emulated cloud's door.

The slices are real ones with identifiers of their own, sent as any hospital would: two `/uploads` (the second one finds them
there), a PUT each, and questions after their state.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from tests.harness import RunningCity, running_city, wait_until

SLICES = 500


def ct(slices: int = SLICES) -> dict[str, bytes]:
    """Files by SHA-256: one study, one series."""
    image = dcmread(get_testdata_file("CT_small.dcm"))
    image.StudyInstanceUID, image.SeriesInstanceUID, image.PatientID = generate_uid(), generate_uid(), "COST-1"
    files = {}
    for number in range(slices):
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.InstanceNumber = number + 1
        written = io.BytesIO()
        image.save_as(written)
        files[hashlib.sha256(written.getvalue()).hexdigest()] = written.getvalue()
    return files


def spend(city: RunningCity, files: dict[str, bytes]) -> dict[str, int]:
    """Send the files, wait until all can be found, and answer the AWS requests by `service:Operation`."""
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
        return bool(found) and found[0]["00201208"]["Value"] == [len(files)]

    wait_until(all_there, 120)
    states = hospital.post("/uploads/status", json={"sha256": list(files)}).json()["instances"]
    assert {state["state"] for state in states} == {"indexed"}
    again = hospital.post("/uploads", json={"instances": offers}).json()["instances"]
    assert {answer["state"] for answer in again} == {"indexed"}
    return {name: spent for name, count in city.aws_requests().items() if (spent := count - before.get(name, 0))}


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as state, running_city(Path(state)) as city:
        for name, count in sorted(spend(city, ct()).items()):
            print(f"{count:>6}  {name}")


if __name__ == "__main__":
    main()
