"""DICOMweb: what each call costs, at 100, 1,000, … studies; beside Orthanc with its DICOMweb plugin where that is installed.

    python bench/dicomweb.py --studies 100 1000 10000 [--slices 500] [--bodies 64 128 256] [--json FILE]

A city (and an Orthanc) for each number of studies, all up at the same time and asked in turns, so that what else the machine does
falls on all alike. Milliseconds are a client's on the loopback interface, median of `--calls` after warming up. For our side they
are mostly the emulated cloud's, which is not the product; what is the product's is the work: AWS requests, bytes to and from AWS, and
CPU time in the function. Orthanc: plugin as Debian ships it, `HttpCompressionEnabled`, `TcpNoDelay` and `KeepAlive` true, no
authentication. Our side verifies SigV4 and records each access. `--bodies` retrieves series of so many slices of 512 KiB as one body.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pydicom
import requests
from botocore.awsrequest import AWSResponse
from pydicom.data import get_testdata_file

sys.path.insert(0, str(Path(__file__).parent.parent))
from chalicelib.adapters.dynamodb import DynamoTable
from chalicelib.domain.ports import Item, PutNew
from local.processes import free_port
from tests.harness import RunningCity, running_city, wait_until

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
ROOT = "1.2.826.0.1.3680043.8.498"
Get = Callable[[str, dict[str, str]], requests.Response]
Ask = tuple[str, dict[str, str]]
"""Path and headers."""


def instances(studies: int, slices: int) -> Iterator[bytes]:
    """One small image a study, and one study of `slices` CT slices."""
    small = pydicom.dcmread(str(get_testdata_file("MR_small.dcm")))
    for number in range(studies - 1):
        yield _made(small, f"{ROOT}.1.{number}", f"{ROOT}.1.{number}.1", 1, number)
    ct = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    for number in range(1, slices + 1):
        yield _made(ct, f"{ROOT}.2", f"{ROOT}.2.1", number, studies)


def _made(image: Any, study: str, series: str, number: int, patient: int) -> bytes:
    image.StudyInstanceUID, image.SeriesInstanceUID = study, series
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"{series}.{number}"
    image.PatientID, image.PatientName = f"P{patient:06d}", f"ROSSI{patient:06d}^ANNA"
    image.AccessionNumber, image.InstanceNumber = f"A{patient:06d}", number
    image.StudyDate = f"{2010 + patient // 336 % 15:04d}{1 + patient // 28 % 12:02d}{1 + patient % 28:02d}"
    out = io.BytesIO()
    image.save_as(out)
    return out.getvalue()


def searches(studies: int) -> dict[str, str]:
    """The searches, by what selects."""
    middle = studies // 2
    day = f"{2010 + middle // 336 % 15:04d}{1 + middle // 28 % 12:02d}{1 + middle % 28:02d}"
    return {
        "PatientID": f"/studies?PatientID=P{middle:06d}",
        "StudyInstanceUID": f"/studies?StudyInstanceUID={ROOT}.1.{middle}",
        "AccessionNumber": f"/studies?AccessionNumber=A{middle:06d}",
        "name prefix": f"/studies?PatientName=ROSSI{middle:06d}*",
        "one day": f"/studies?StudyDate={day}",
        "ModalitiesInStudy": "/studies?ModalitiesInStudy=CT",
    }


@dataclass
class Side:
    """One server that is measured: how to ask it, and for ours what it did so far."""

    get: Get
    work: Callable[[], Counter[str]] = Counter


def measure(sides: Sequence[Side], path_of: Sequence[Ask], calls: int) -> list[dict[str, Any]]:
    """For each side: median milliseconds, bytes of the answer, and the work of each call. Asked in turns."""
    taken: list[list[float]] = [[] for _ in sides]
    spent: list[Counter[str]] = [Counter() for _ in sides]
    sizes = [0 for _ in sides]
    for number in range(calls + 3):
        for at, (side, (path, headers)) in enumerate(zip(sides, path_of, strict=True)):
            before = side.work()
            started = time.perf_counter()
            answer = side.get(path, headers)
            took = time.perf_counter() - started
            answer.raise_for_status()
            sizes[at] = len(answer.content)
            if number >= 3:
                taken[at].append(took * 1000)
                after = side.work()
                after.subtract(before)
                spent[at] += after
    return [
        {"ms": round(statistics.median(times), 1), "bytes": size, "work": {key: round(n / calls, 2) for key, n in done.items()}}
        for times, size, done in zip(taken, sizes, spent, strict=True)
    ]


def calls(studies: int) -> dict[str, Ask]:
    """Every call that is measured: path and headers."""
    star = {"Accept": "multipart/related; type=application/octet-stream; transfer-syntax=*"}
    series = f"/studies/{ROOT}.2/series/{ROOT}.2.1"
    found = {f"search {name}": (path, {"Accept": "application/dicom+json"}) for name, path in searches(studies).items()}
    found["metadata of the series"] = (f"{series}/metadata", {"Accept": "application/dicom+json"})
    found["first frame"] = (f"{series}/instances/{ROOT}.2.1.1/frames/1", star)
    return found


def whole_study(get: Get, slices: int) -> dict[str, float]:
    """Every instance of the large study through 8 connections."""
    accept = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    paths = [f"/studies/{ROOT}.2/series/{ROOT}.2.1/instances/{ROOT}.2.1.{number}" for number in range(1, slices + 1)]
    started = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        size = sum(len(answer.content) for answer in pool.map(lambda path: get(path, accept), paths))
    seconds = time.perf_counter() - started
    return {"ms": round(seconds * 1000, 1), "instances/s": round(slices / seconds, 1), "bytes": size}


@contextlib.contextmanager
def ours(contents: list[bytes], quiet: Callable[[Any], bool]) -> Iterator[Side]:
    """Our side: a fresh local city with these instances."""
    with tempfile.TemporaryDirectory() as folder, running_city(Path(folder)) as city:
        client = city.client("san-matteo")
        _upload(client, contents)
        wait_until(lambda: quiet(client), 600)

        def get(path: str, headers: dict[str, str]) -> requests.Response:
            return client.get(f"/dicomweb{path}", headers=headers)

        yield Side(get, lambda: _work(city))


def _work(city: RunningCity) -> Counter[str]:
    """What was done so far: AWS requests by name; of the functions CPU in ms and bytes; invocations of the others."""
    spent: Counter[str] = Counter({name.split(":")[1]: count for name, count in city.aws_requests().items()})
    for name, done in city.functions().items():
        if name in ("api_handler", "assemble_bodies"):
            which = "" if name == "api_handler" else "assembly "
            spent[f"{which}cpu ms"] = done["cpu_ms"]  # type: ignore[assignment]
            spent[f"{which}KB"] = (done["bytes_sent"] + done["bytes_read"]) / 1000  # type: ignore[assignment]
    return spent


def requests_alone(calls: int = 300) -> float:
    """Milliseconds of processor that botocore takes for the four requests of a search (GetItem, Query, BatchGetItem,
    TransactWriteItems) when they are answered at once: below it no search can come."""
    answer = json.dumps({"Items": [], "Responses": {}}).encode()

    def sent(request: Any, **_: Any) -> AWSResponse:
        found = AWSResponse(request.url, 200, {"content-type": "application/x-amz-json-1.0"}, None)
        found._content = answer
        return found

    client = boto3.client("dynamodb", "eu-south-1", aws_access_key_id="x", aws_secret_access_key="x", aws_session_token="x" * 400)
    client.meta.events.register("before-send.dynamodb", sent)
    table = DynamoTable(client, "t")
    record = PutNew(Item("p", "s", {"text": "x" * 400}))

    def four() -> None:
        table.get("p", "s")
        table.query("p", index="gsi1")
        table.batch_get([("p", str(number)) for number in range(6)])
        table.transact([record, record, record])

    four()
    began = time.process_time()
    for _ in range(calls):
        four()
    return 1000 * (time.process_time() - began) / calls


def _upload(client: Any, contents: list[bytes]) -> None:
    for start in range(0, len(contents), 500):
        chunk = contents[start : start + 500]
        offers = [{"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)} for content in chunk]
        answers = client.post("/uploads", json={"instances": offers}).json()["instances"]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(_put, chunk, answers))
        hashes = [offer["sha256"] for offer in offers]

        def settled(hashes: list[str] = hashes) -> bool:
            time.sleep(0.3)
            found = client.post("/uploads/status", json={"sha256": hashes}).json()["instances"]
            return all(answer["state"] == "indexed" for answer in found)

        wait_until(settled, 600)


def _put(content: bytes, answer: dict[str, Any]) -> None:
    requests.put(answer["upload"]["url"], data=content, headers=answer["upload"]["headers"], timeout=60).raise_for_status()


@contextlib.contextmanager
def orthanc(contents: list[bytes]) -> Iterator[Side]:
    """The peer, with the same instances."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port(3)
        settings = {
            "StorageDirectory": f"{folder}/db", "IndexDirectory": f"{folder}/db", "HttpPort": port, "DicomServerEnabled": False,
            "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "HttpCompressionEnabled": True, "TcpNoDelay": True,
            "KeepAlive": True, "Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True, "StudiesMetadata": "Full"},
        }  # fmt: skip
        (Path(folder) / "orthanc.json").write_text(json.dumps(settings))
        process = subprocess.Popen(["Orthanc", f"{folder}/orthanc.json"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            base, session = f"http://127.0.0.1:{port}", requests.Session()
            wait_until(lambda: _answers(f"{base}/system"), 30)
            for content in contents:
                session.post(f"{base}/instances", data=content, timeout=60).raise_for_status()
            yield Side(lambda path, headers: session.get(f"{base}/dicom-web{path}", headers=headers, timeout=60))
        finally:
            process.terminate()
            process.wait(20)


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=1).ok
    except requests.RequestException:
        return False


def _all_there(studies: int) -> Callable[[Any], bool]:
    def quiet(client: Any) -> bool:
        last = client.get(f"/dicomweb/studies?PatientID=P{studies - 2:06d}").json()
        series = client.get(f"/dicomweb/studies/{ROOT}.2/series")
        if len(last) == 1 and series.ok:
            time.sleep(12)  # a series is quiet after ten seconds
            return True
        return False

    return quiet


def compare(numbers: Sequence[int], slices: int, count: int) -> dict[str, Any]:
    """Every call at every number of studies, on every side."""
    with contextlib.ExitStack() as stack:
        sides: dict[str, Side] = {}
        for studies in numbers:
            made = list(instances(studies, slices))
            sides[f"contenitore {studies}"] = stack.enter_context(ours(made, _all_there(studies)))
            if shutil.which("Orthanc") and PLUGIN.exists():
                sides[f"orthanc {studies}"] = stack.enter_context(orthanc(made))
            print(f"{studies} studies are there", flush=True)
        results: dict[str, Any] = {}
        for name in calls(numbers[0]):
            asked = [calls(int(side.split()[1]))[name] for side in sides]
            results[name] = dict(zip(sides, measure(list(sides.values()), asked, count), strict=True))
            _show(name, results[name])
        results["whole study, 8 connections"] = {name: whole_study(side.get, slices) for name, side in sides.items()}
        _show("whole study, 8 connections", results["whole study, 8 connections"])
        return results


def bodies(numbers: Sequence[int]) -> dict[str, Any]:
    """A series of so many slices of 512 KiB retrieved as one body, for the first time: what each function does for it."""
    ct = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    ct.Rows = ct.Columns = 512
    results: dict[str, Any] = {}
    for slices in numbers:
        made = []
        for number in range(1, slices + 1):
            ct.PixelData = number.to_bytes(4, "big") * (512 * 512 // 2)
            made.append(_made(ct, f"{ROOT}.3", f"{ROOT}.3.1", number, 1))
        with ours(made, lambda client: client.get(f"/dicomweb/studies/{ROOT}.3/series").ok) as side:
            for name, accept in (
                ("multipart", 'multipart/related; type="application/dicom"; transfer-syntax=*'),
                ("zip", "application/zip"),
            ):
                before = side.work()
                started = time.perf_counter()
                answer = side.get(f"/studies/{ROOT}.3", {"Accept": accept})
                answer.raise_for_status()
                found = {"ms": round((time.perf_counter() - started) * 1000), "bytes": len(answer.content)}
                after = side.work()
                after.subtract(before)
                results[f"{slices} slices as {name}"] = found | {"work": {key: round(n, 1) for key, n in after.items() if n > 0}}
                _show(f"{slices} slices as {name}", {"contenitore": results[f"{slices} slices as {name}"]})
    return results


def _show(name: str, found: dict[str, Any]) -> None:
    print(f"\n{name}")
    for side, measured in found.items():
        work = ", ".join(f"{value:g} {key}" for key, value in sorted(measured.get("work", {}).items()))
        print(f"  {side:20} {measured['ms']:9.1f} ms {measured['bytes']:>12,} B  {work}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, nargs="*", default=[100, 1000, 10000])
    parser.add_argument("--slices", type=int, default=500)
    parser.add_argument("--bodies", type=int, nargs="*", default=[64, 128, 256])
    parser.add_argument("--calls", type=int, default=30)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    everything = (compare(options.studies, options.slices, options.calls) if options.studies else {}) | bodies(options.bodies)
    if options.json:
        options.json.write_text(json.dumps(everything, indent=2) + "\n")


if __name__ == "__main__":
    main()
