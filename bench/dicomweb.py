"""DICOMweb: what each call costs, at 100, 1,000, … studies; beside Orthanc with its DICOMweb plugin where that is installed.

    python bench/dicomweb.py --studies 100 1000 [--slices 500] [--json FILE]

Milliseconds are a client's on the loopback interface, median of `--calls` after warming up. For our side they are mostly the
emulated cloud's, which is not the product; what is the product's is the work: AWS requests and bytes for each call, and CPU time
of the city's process (function and emulator together, so an upper bound of the function's). Orthanc: plugin as Debian ships it,
`HttpCompressionEnabled`, `TcpNoDelay` and `KeepAlive` true, no authentication. Our side verifies SigV4 and records each access.
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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pydicom
import requests
from pydicom.data import get_testdata_file

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.harness import RunningCity, free_ports, running_city, wait_until

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
ROOT = "1.2.826.0.1.3680043.8.498"
Get = Callable[[str, dict[str, str]], requests.Response]


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
    one = studies // 2
    day = f"{2010 + one // 336 % 15:04d}{1 + one // 28 % 12:02d}{1 + one % 28:02d}"
    return {
        "PatientID": f"/studies?PatientID=P{one:06d}",
        "StudyInstanceUID": f"/studies?StudyInstanceUID={ROOT}.1.{one}",
        "AccessionNumber": f"/studies?AccessionNumber=A{one:06d}",
        "name prefix": f"/studies?PatientName=ROSSI{one:06d}*",
        "one day": f"/studies?StudyDate={day}",
        "ModalitiesInStudy": "/studies?ModalitiesInStudy=CT",
    }


def measure(get: Get, path: str, headers: dict[str, str], calls: int) -> dict[str, float]:
    """Median and slowest milliseconds, bytes of the answer."""
    taken = []
    for number in range(calls + 3):
        started = time.perf_counter()
        answer = get(path, headers)
        answer.raise_for_status()
        if number >= 3:
            taken.append((time.perf_counter() - started) * 1000)
    return {"ms": round(statistics.median(taken), 1), "slowest": round(max(taken), 1), "bytes": len(answer.content)}


def calls(studies: int) -> dict[str, tuple[str, dict[str, str]]]:
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


def ours(studies: int, slices: int, count: int) -> dict[str, Any]:
    """Our side: a fresh local city."""
    with tempfile.TemporaryDirectory() as folder, running_city(Path(folder)) as city:
        client = city.client("san-matteo")
        _upload(client, list(instances(studies, slices)))
        wait_until(lambda: client.get(f"/dicomweb/studies/{ROOT}.2/series").ok, 600)
        last = f"/dicomweb/studies?PatientID=P{studies - 2:06d}"
        wait_until(lambda: len(client.get(last).json()) == 1, 600)
        time.sleep(12)  # a series is quiet after ten seconds

        def get(path: str, headers: dict[str, str]) -> requests.Response:
            return client.get(f"/dicomweb{path}", headers=headers)

        results: dict[str, Any] = {}
        for name, (path, headers) in calls(studies).items():
            get(path, headers)
            with _work(city, count + 3) as work:
                results[name] = measure(get, path, headers, count)
            results[name] |= work
        results["whole study, 8 connections"] = whole_study(get, slices)
        return results


@contextlib.contextmanager
def _work(city: RunningCity, count: int) -> Iterator[dict[str, Any]]:
    """What the calls inside cost: AWS requests for each, and CPU milliseconds."""
    process = psutil.Process(city.process.pid)
    before, cpu = Counter(city.aws_requests()), sum(process.cpu_times()[:2])
    found: dict[str, Any] = {}
    yield found
    spent = Counter(city.aws_requests()) - before
    found["cpu ms"] = round((sum(process.cpu_times()[:2]) - cpu) * 1000 / count, 1)
    found["aws"] = {name: round(value / count, 2) for name, value in sorted(spent.items())}


def _upload(client: Any, contents: list[bytes]) -> None:
    for start in range(0, len(contents), 500):
        chunk = contents[start : start + 500]
        offers = [{"sha256": hashlib.sha256(one).hexdigest(), "size": len(one)} for one in chunk]
        answers = client.post("/uploads", json={"instances": offers}).json()["instances"]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(_put, chunk, answers))
        hashes = [offer["sha256"] for offer in offers]

        def settled(hashes: list[str] = hashes) -> bool:
            found = client.post("/uploads/status", json={"sha256": hashes}).json()["instances"]
            return all(one["state"] == "indexed" for one in found)

        wait_until(settled, 600)


def _put(content: bytes, answer: dict[str, Any]) -> None:
    requests.put(answer["upload"]["url"], data=content, headers=answer["upload"]["headers"], timeout=60).raise_for_status()


def orthanc(studies: int, slices: int, count: int) -> dict[str, Any] | None:
    """The peer; None where it is not installed."""
    program = shutil.which("Orthanc")
    if program is None or not PLUGIN.exists():
        return None
    with tempfile.TemporaryDirectory() as folder:
        port = free_ports()
        settings = {
            "StorageDirectory": f"{folder}/db", "IndexDirectory": f"{folder}/db", "HttpPort": port, "DicomServerEnabled": False,
            "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "HttpCompressionEnabled": True, "TcpNoDelay": True,
            "KeepAlive": True, "Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True, "StudiesMetadata": "Full"},
        }  # fmt: skip
        (Path(folder) / "orthanc.json").write_text(json.dumps(settings))
        process = subprocess.Popen([program, f"{folder}/orthanc.json"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            base, session = f"http://127.0.0.1:{port}", requests.Session()
            wait_until(lambda: _answers(f"{base}/system"), 30)
            for content in instances(studies, slices):
                session.post(f"{base}/instances", data=content, timeout=60).raise_for_status()

            def get(path: str, headers: dict[str, str]) -> requests.Response:
                return session.get(f"{base}/dicom-web{path}", headers=headers, timeout=60)

            results: dict[str, Any] = {
                name: measure(get, path, headers, count) for name, (path, headers) in calls(studies).items()
            }
            results["whole study, 8 connections"] = whole_study(get, slices)
            return results
        finally:
            process.terminate()
            process.wait(20)


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=1).ok
    except requests.RequestException:
        return False


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--slices", type=int, default=500)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    everything: dict[str, Any] = {}
    for studies in options.studies:
        mine = ours(studies, options.slices, options.calls)
        peer = orthanc(studies, options.slices, options.calls)
        everything[str(studies)] = {"contenitore": mine, "orthanc": peer}
        print(f"\n{studies} studies, one of {options.slices} slices")
        for name, found in mine.items():
            other = f"{peer[name]['ms']:9.1f}" if peer else "        —"
            aws = ", ".join(f"{count:g} {call}" for call, count in found.get("aws", {}).items())
            line = f"  {name:28} {found['ms']:9.1f} ms  orthanc {other} ms  {found['bytes']:>11,} B"
            print(f"{line}  cpu {found.get('cpu ms', 0):6.1f} ms  {aws}")
    if options.json:
        options.json.write_text(json.dumps(everything, indent=2) + "\n")


if __name__ == "__main__":
    main()
