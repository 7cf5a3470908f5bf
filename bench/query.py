"""Query and retrieve at the forwarder's DICOM port, measured: `python -m bench.query [--slices N]`.

In one run, on a local city of its own: a C-FIND by patient beside the archive's own search (QIDO-RS, signed, on a connection that
stays open), in turns; and a C-GET of a CT by DCMTK's getscu beside the direct download of the same instances by presigned URL onto
the same disk, one after another on one connection, in turns. What a hospital has between the two, its line, is the loopback here.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import requests
from pydicom import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import PatientRootQueryRetrieveInformationModelFind as FIND

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "forwarder"))

from hospital import hospital, process, until

from bench import forwarder as bench_forwarder
from local.processes import free_port
from tests.harness import Client, RunningCity, running_city

QUERIES, ROUNDS = 30, 3
NUMBER = "MG-BENCH"
GETSCU = "/usr/bin/getscu"


def prepare(city: RunningCity, files: list[Path]) -> None:
    """The slices are San Matteo's, and their patient was transferred to Maugeri."""
    environment = os.environ | {
        "AWS_CONFIG_FILE": city.endpoints["aws_config_file"],
        "AWS_SHARED_CREDENTIALS_FILE": city.endpoints["aws_shared_credentials_file"],
    }
    command = [sys.executable, "-m", "forwarder", "send", *map(str, files), "--no-lossless", "--profile", "san-matteo"]
    subprocess.run([*command, "--api", city.api], check=True, env=environment, stdout=subprocess.DEVNULL)
    body = {"patient": {"id": "PROVA-BENCH"}, "to": "maugeri", "reason": "bench"}
    transfer = city.client("san-matteo").post("/transfers", json=body).json()["id"]
    maugeri = city.client("maugeri")
    assert maugeri.put(f"/transfers/{transfer}/receiving-patient", json={"id": NUMBER}).status_code == 200
    until(lambda: [result for result in _search(maugeri) if result["00201208"]["Value"][0] == len(files)], 120)


def _search(client: Client) -> list[dict]:
    found: list[dict] = client.get(f"/dicomweb/studies?PatientID={NUMBER}&includefield=StudyDescription").json()
    return found


def find(port: int) -> Callable[[], None]:
    """A C-FIND by patient on an association that stays open."""
    ae = AE("FINDSCU")
    ae.add_requested_context(FIND)
    association = ae.associate("127.0.0.1", port, ae_title="CONTENITORE")
    assert association.is_established
    query = Dataset()
    query.QueryRetrieveLevel, query.PatientID = "STUDY", NUMBER
    query.StudyInstanceUID = query.StudyDate = query.StudyDescription = query.NumberOfStudyRelatedInstances = ""

    def ask() -> None:
        assert [status.Status for status, _ in association.send_c_find(query, FIND)] == [0xFF00, 0x0000]

    return ask


def seconds(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def download(client: Client, folder: Path) -> int:
    """Every instance by its presigned URL, one after another; how many bytes."""
    path: str | None = f"/studies/{bench_forwarder.STUDY}/manifest?limit=500"
    size = 0
    with requests.Session() as store:
        while path:
            page = client.get(path).json()
            for instance in page["instances"]:
                body = store.get(instance["url"], timeout=60).content
                (folder / instance["sop_instance_uid"]).write_bytes(body)
                size += len(body)
            path = f"/studies/{bench_forwarder.STUDY}/manifest?limit=500&cursor={page['next']}" if page.get("next") else None
    return size


def get(port: int, folder: Path) -> None:
    """The same by DCMTK's getscu."""
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={bench_forwarder.STUDY}"]
    command = [GETSCU, "-S", "-aet", "GETSCU", "-aec", "CONTENITORE", "-od", str(folder), "-pdu", "131072", *keys]
    subprocess.run([*command, "127.0.0.1", str(port)], check=True, env=bench_forwarder.ENVIRONMENT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=bench_forwarder.SLICES)
    slices = parser.parse_args().slices
    with tempfile.TemporaryDirectory(prefix="bench") as scratch, running_city(Path(scratch) / "city") as city:
        files = bench_forwarder.ct(Path(scratch) / "ct")[:slices]
        prepare(city, files)
        peers = [{"ae_title": title, "host": "127.0.0.1", "port": free_port()} for title in ("FINDSCU", "GETSCU")]
        place = hospital(Path(scratch) / "maugeri", city.api, archive__profile="maugeri", peers=peers)
        environment = {
            "AWS_CONFIG_FILE": city.endpoints["aws_config_file"],
            "AWS_SHARED_CREDENTIALS_FILE": city.endpoints["aws_shared_credentials_file"],
        }
        with process(place, **environment) as forwarder:
            print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {slices} slices")
            client, ask = city.client("maugeri"), find(place.port)
            times: dict[str, list[float]] = {"QIDO-RS": [], "C-FIND": []}
            for _ in range(QUERIES):
                times["QIDO-RS"].append(seconds(lambda: _search(client)))
                times["C-FIND"].append(seconds(ask))
            medians = {name: statistics.median(found) for name, found in times.items()}
            print({name: f"{median * 1000:.0f} ms" for name, median in medians.items()}, "of", QUERIES)
            print(f"C-FIND takes {medians['C-FIND'] / medians['QIDO-RS']:.2f} × the archive's own search")
            rates: dict[str, list[float]] = {"download": [], "C-GET": []}
            for number in range(ROUNDS):
                folders = {name: Path(scratch) / f"{name}-{number}" for name in rates}
                for folder in folders.values():
                    folder.mkdir()
                size = sum(path.stat().st_size for path in files)
                rates["download"].append(size / seconds(lambda folders=folders: download(client, folders["download"])) / 1e6)
                rates["C-GET"].append(size / seconds(lambda folders=folders: get(place.port, folders["C-GET"])) / 1e6)
                counts = {name: len(list(folder.iterdir())) for name, folder in folders.items()}
                assert counts == {"download": slices, "C-GET": slices}, counts
            print({name: [f"{rate:.0f} MB/s" for rate in found] for name, found in rates.items()})
            best = statistics.median(rates["C-GET"]) / statistics.median(rates["download"])
            print(f"C-GET brings {best:.0%} of the direct download (median of {ROUNDS})")
            print(f"the forwarder's memory: {psutil.Process(forwarder.pid).memory_info().rss / 1e6:.0f} MB")
            print(json.dumps({"c_find_ratio": medians["C-FIND"] / medians["QIDO-RS"], "c_get_ratio": best}))


if __name__ == "__main__":
    main()
