"""`python -m bench.growth [--instances 250 500 1000 …] [--batch 250]`: what an instance costs in a study that grows.

One study is sent in batches, each waited for before the next as a scanner would send it, into a city of its own for each size. Told
are, of each function, bytes read and written, processor time and invocations **per instance**, and their ratios to those of a
study of 500: work that grows with what arrives stays at about 1, work that grows with what is there does not. Another study goes
before, so that no cold start counts. On a busy machine instances come in smaller batches, and each invocation has its price:
ratios are to be read beside those of the invocations. Then the study is listed, shared, read and withdrawn, and the longest call
of each is told.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import requests
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from tests.harness import Client, RunningCity, running_city, wait_until

SIZES = (250, 500, 1000, 2000, 4000, 10000)
"""A study of 30,000 takes half an hour: `--instances 30000`."""
BASE = 500
FUNCTIONS = ("index_instances", "project_facts", "api_handler")
FIGURES = ("bytes_read", "bytes_sent", "cpu_ms", "invocations")


@dataclass
class Grown:
    """What a study of so many instances cost: by function and figure, and the longest of each kind of call, in seconds."""

    instances: int
    spent: dict[str, dict[str, float]] = field(default_factory=dict)
    calls: dict[str, float] = field(default_factory=dict)


def slices(count: int, study: str, series: str, patient: str = "GROWTH-1") -> Iterator[bytes]:
    """Small slices of one series, each with its place and number."""
    path = get_testdata_file("CT_small.dcm")
    image = dcmread(str(path))
    image.remove_private_tags()
    image.Rows = image.Columns = 16
    image.PixelData = bytes(512)
    image.StudyInstanceUID, image.SeriesInstanceUID, image.PatientID = study, series, patient
    for number in range(count):
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.InstanceNumber, image.ImagePositionPatient = number + 1, [0.0, 0.0, 0.5 * number]
        written = io.BytesIO()
        image.save_as(written)
        yield written.getvalue()


def send(client: Client, study: str, batch: list[bytes]) -> None:
    """Announce, upload, and wait until all of the batch is indexed."""
    by_sha = {hashlib.sha256(body).hexdigest(): body for body in batch}
    hashes = list(by_sha)
    for start in range(0, len(hashes), 500):
        part = hashes[start : start + 500]
        offers = [{"sha256": sha, "size": len(by_sha[sha]), "study_instance_uid": study} for sha in part]
        answer = client.post("/uploads", json={"instances": offers})
        assert answer.status_code == 200, answer.text

        def put(entry: dict) -> int:
            upload = entry["upload"]
            for _ in range(3):
                try:
                    body = by_sha[entry["sha256"]]
                    return requests.put(upload["url"], data=body, headers=upload["headers"], timeout=60).status_code
                except requests.ConnectionError:  # tried again, as every sender does: 412 where it had come through
                    continue
            return 0

        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(put, answer.json()["instances"])) <= {200, 412}
        wait_until(lambda part=part: _indexed(client, part), 300)


def _indexed(client: Client, hashes: list[str]) -> bool:
    time.sleep(0.2)
    states = client.post("/uploads/status", json={"sha256": hashes}).json()["instances"]
    return all(state["state"] == "indexed" for state in states)


def _counted(client: Client, found: str) -> int:
    """Of how many instances the study is, by what a search tells."""
    return sum(int(study["00201208"]["Value"][0]) for study in client.get(found).json())


def warm(client: Client, batch: int) -> None:
    """Another study first: starting a function's process costs what a hundred instances do, and only once."""
    study = generate_uid()
    send(client, study, list(slices(batch, study, generate_uid(), "GROWTH-0")))
    found = f"/dicomweb/studies?StudyInstanceUID={study}"
    wait_until(lambda: _counted(client, found) == batch, 120)


def totals(city: RunningCity) -> dict[str, dict[str, float]]:
    """The figures of each function since the start."""
    found = city.functions()
    return {name: {figure: found.get(name, {}).get(figure, 0.0) for figure in FIGURES} for name in FUNCTIONS}


def grow(state: Path, count: int, batch: int) -> Grown:
    """Send a study of `count` instances, then do with it what people do."""
    grown = Grown(count)
    study, series = generate_uid(), generate_uid()
    with running_city(state) as city:
        client, other = city.client("san-matteo"), city.client("maugeri")
        warm(client, batch)
        before = totals(city)
        waiting: list[bytes] = []
        for body in slices(count, study, series):
            waiting.append(body)
            if len(waiting) == batch:
                send(client, study, waiting)
                waiting = []
        if waiting:
            send(client, study, waiting)
        found = f"/dicomweb/studies?StudyInstanceUID={study}"
        wait_until(lambda: _counted(client, found) == count, 120)
        after = totals(city)
        grown.spent = {
            name: {figure: (after[name][figure] - before[name][figure]) / count for figure in FIGURES} for name in FUNCTIONS
        }

        def timed(name: str, call: object) -> None:
            began = time.perf_counter()
            call()  # type: ignore[operator]
            grown.calls[name] = max(grown.calls.get(name, 0.0), time.perf_counter() - began)

        timed("find", lambda: client.get(found).raise_for_status())
        pages = range(0, count, 1000)
        for offset in pages:
            path = f"/dicomweb/studies/{study}/instances?limit=1000&offset={offset}"
            timed("list", lambda path=path: client.get(path).raise_for_status())
        timed("metadata", lambda: client.get(f"/dicomweb/studies/{study}/series/{series}/metadata").raise_for_status())
        timed("manifest", lambda: client.get(f"/studies/{study}/manifest").raise_for_status())
        terms = {"patient": {"id": "GROWTH-1"}, "to": "maugeri", "reason": "bench"}
        opened: dict = {}
        timed("open", lambda: opened.update(client.post("/transfers", json=terms).json()))
        wait_until(lambda: other.get(found).json(), 120)
        timed("end", lambda: client.delete(f"/transfers/{opened['id']}").raise_for_status())
        timed("withdraw", lambda: client.post(f"/studies/{study}/withdrawals", json={"reason": "bench"}).raise_for_status())
        wait_until(lambda: not client.get(found).json(), 120)
    return grown


def table(results: list[Grown]) -> str:
    """The figures per instance with their ratios to those of the base size, as Markdown."""
    base = next((result for result in results if result.instances == BASE), results[0])
    lines = ["| function | figure per instance | " + " | ".join(f"{result.instances:,}" for result in results) + " |"]
    lines.append("|---|---|" + "---|" * len(results))
    for name in FUNCTIONS:
        for figure in FIGURES:
            cells = []
            for result in results:
                value, reference = result.spent[name][figure], base.spent[name][figure]
                cells.append(f"{value:,.3f} ({value / reference:.2f})" if reference else f"{value:,.1f}")
            lines.append(f"| {name} | {figure} | " + " | ".join(cells) + " |")
    calls = sorted({name for result in results for name in result.calls})
    lines += [
        "",
        "| longest call, s | " + " | ".join(f"{result.instances:,}" for result in results) + " |",
        "|---|" + "---|" * len(results),
    ]
    lines += [f"| {name} | " + " | ".join(f"{result.calls.get(name, 0):.2f}" for result in results) + " |" for name in calls]
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--batch", type=int, default=250)
    arguments = parser.parse_args()
    results = []
    for count in arguments.instances:
        with tempfile.TemporaryDirectory() as state:
            results.append(grow(Path(state), count, arguments.batch))
        print(f"{count:>7,} instances", flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
