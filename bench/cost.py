"""`python -m bench.cost`: the AWS requests that a CT of 500 slices costs, counted at the emulated cloud's door, and what one of
each takes of the table's units (infra/counted.json).

The slices are real ones with identifiers of their own, sent as any hospital would: two `/uploads` (the second one finds them
there), a PUT each, and questions after their state.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import time
from collections.abc import Callable
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


def spend(city: RunningCity, files: dict[str, bytes], pause: float = 0.0) -> dict[str, int]:
    """Send the files, wait until all can be found, and answer the AWS requests by `service:Operation`. Each of eight senders
    waits `pause` seconds after a file, as a line makes it wait."""
    hospital = city.client("san-matteo")
    before = city.aws_requests()
    offers = [{"sha256": sha, "size": len(body)} for sha, body in files.items()]
    uploads = hospital.post("/uploads", json={"instances": offers}).json()["instances"]

    def put(entry: dict) -> int:
        upload = entry["upload"]
        answer = requests.put(upload["url"], data=files[entry["sha256"]], headers=upload["headers"], timeout=60)
        time.sleep(pause)
        return answer.status_code

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


def units_of(city: RunningCity, count: float, act: Callable[[], object]) -> dict[str, float]:
    """What each of `count` takes of the table and the bucket, once all that follows from it has been done."""

    def now() -> dict[str, float]:
        asked = city.aws_requests()
        return city.units() | {"puts": asked.get("s3:PutObject", 0), "gets": asked.get("s3:GetObject", 0)}

    def quiet() -> bool:
        before = now()
        time.sleep(1.5)
        return now() == before

    wait_until(quiet, 60)
    before = now()
    act()
    wait_until(quiet, 60)
    return {name: round((after - before[name]) / count, 2) for name, after in now().items()}


def each(city: RunningCity) -> dict[str, dict[str, float]]:
    """The same of an instance, a study of two films, and what people and machines ask."""
    hospital, times = city.client("san-matteo"), range(20)
    found = {
        "slice": units_of(city, SLICES, lambda: spend(city, ct())),
        "film_study": units_of(city, 1, lambda: spend(city, ct(2))),
    }
    (study, *_) = sorted(hospital.get("/dicomweb/studies").json(), key=lambda result: -result["00201208"]["Value"][0])
    uid = study["0020000D"]["Value"][0]

    def read() -> None:
        for path in (f"/studies/{uid}/priors", f"/dicomweb/studies/{uid}/metadata", f"/studies/{uid}/manifest"):
            assert hospital.get(path).status_code == 200

    sign, patient = {"version": "1"}, {"id": "COST-1"}
    return found | {
        "reading": units_of(city, len(times), lambda: [read() for _ in times]),
        "question": units_of(city, len(times), lambda: [hospital.get("/dicomweb/studies?PatientID=COST-1") for _ in times]),
        "poll": units_of(city, len(times), lambda: [hospital.get("/changes?since=now") for _ in times]),
        "sign": units_of(city, len(times), lambda: [hospital.put("/forwarder", json=sign) for _ in times]),
        "transfer": units_of(
            city, 1, lambda: hospital.post("/transfers", json={"patient": patient, "to": "maugeri", "reason": "-"})
        ),
    }


def main() -> None:
    """Print the tables."""
    with tempfile.TemporaryDirectory() as state, running_city(Path(state)) as city:
        for name, count in sorted(spend(city, ct()).items()):
            print(f"{count:>6}  {name}")
        for name, took in each(city).items():
            print(f"{name:>12}  {took}")


if __name__ == "__main__":
    main()
