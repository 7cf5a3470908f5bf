"""Into the PACS, measured: `python -m bench.deliver [--slices N] [--many N]`.

From the acceptance of a transfer to the last image of a prior (500 slices of 512², as the archive has them) in the hospital's PACS, over
the loopback and over a line held to 100 Mbit/s (a proxy); in the same run what the same PACS takes of the same files from DCMTK's
storescu, how fast curl downloads them by the same addresses over the same line, which is all that the archive of this machine gives,
and how fast both together, at the same time, bring them from the archive into the PACS.
Then the memory of the forwarder while a study of many small slices is delivered (`--slices 0` for that alone), beside an archive of
nothing else. The PACS is Orthanc where it is installed, else DCMTK's storescp, which answers no C-FIND.

Everything happens on the loopback and in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

from bench import forwarder as bench_forwarder
from bench.forwarder import ct, processor, resident, spawned
from bench.one_study import one_study
from forwarder.compression.jpegls import compress
from forwarder.files import sha256_of
from local.processes import free_port
from tests.harness import RunningCity, running_city

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "forwarder"))

from hospital import Hospital, hospital, process, until
from line_proxy import bad_line

MBIT_100 = 100e6 / 8
PATIENT = "PROVA-BENCH"
INTO_PACS = ("-xt", "-aec", "PACS")
Count = Callable[[], int]


@dataclass(frozen=True, slots=True)
class Delivered:
    """Seconds from the acceptance to the first image and to the last; the forwarder's memory (MB) when it began, at most, and
    with its children at most; seconds of processor that it took."""

    first: float
    last: float
    idle: float
    own: float
    together: float
    processor: float


@contextmanager
def pacs(folder: Path) -> Iterator[tuple[int, Count]]:
    """(port, how many instances it has) of an empty PACS."""
    folder.mkdir(parents=True)
    port, http = free_port(), free_port()
    if not shutil.which("Orthanc"):
        with spawned(["/usr/bin/storescp", "--fork", "-od", str(folder), str(port)], port):
            yield port, lambda: sum(1 for _ in folder.iterdir())
        return
    settings = {
        "StorageDirectory": str(folder), "IndexDirectory": str(folder), "DicomPort": port, "HttpPort": http, "DicomAet": "PACS",
        "RemoteAccessAllowed": False, "SyncStorageArea": False, "Plugins": [], "LuaScripts": [], "DicomAlwaysAllowFind": True,
        "DicomModalities": {"forwarder": ["CONTENITORE", "127.0.0.1", 104]},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))

    def count() -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{http}/statistics", timeout=60) as answer:
            return int(json.load(answer)["CountInstances"])

    with spawned([shutil.which("Orthanc") or "", str(folder / "orthanc.json")], port):
        yield port, count


def compressed(files: list[Path], folder: Path) -> list[Path]:
    """The files as the forwarder sends them to the archive, and so as it has them."""
    folder.mkdir()
    made = []
    for path in files:
        target = folder / path.name
        made.append(target if compress(path, target, sha256_of(path)) else path)
    return made


def storescu(files: list[Path], scratch: Path, associations: int) -> float:
    """What the PACS takes of the files directly: seconds."""
    with pacs(scratch) as (port, count):
        began = time.perf_counter()
        bench_forwarder.send(port, files, associations, *INTO_PACS)
        until(lambda: count() >= len(files), 300, 0.1)
        return time.perf_counter() - began


def curl(city: RunningCity, study: str, scratch: Path, proxy: str = "") -> float:
    """Seconds in which curl downloads every instance of a study, eight at once."""
    listed = manifest(city, study)
    scratch.mkdir()
    began = time.perf_counter()
    download(listed, scratch, proxy)
    return time.perf_counter() - began


def manifest(city: RunningCity, study: str) -> list[dict[str, str]]:
    listed: list[dict[str, str]] = city.client("san-matteo").get(f"/studies/{study}/manifest?limit=500").json()["instances"]
    return listed


def download(listed: list[dict[str, str]], folder: Path, proxy: str = "") -> None:
    """With curl, eight at once."""
    names = [f'url = "{entry["url"]}"\noutput = "{folder / entry["sha256"]}"' for entry in listed]
    command = ["curl", "-sSf", "--no-progress-meter", "-Z", "--parallel-max", "8", "-K", "-", *(["-x", proxy] if proxy else [])]
    subprocess.run(command, check=True, input="\n".join(names), text=True)


def by_hand(city: RunningCity, study: str, scratch: Path, proxy: str = "") -> float:
    """Seconds in which the study comes from the archive into the PACS by curl and storescu alone, which work at the same time on
    parts of fifty: what this machine gives, with nothing checked, coerced or noted."""
    listed = manifest(city, study)
    with pacs(scratch) as (port, count), ThreadPoolExecutor(1) as sender:
        began = time.perf_counter()
        sent = []
        for start in range(0, len(listed), 50):
            folder = scratch.with_name(f"{scratch.name}-{start}")
            folder.mkdir()
            download(listed[start : start + 50], folder, proxy)
            sent.append(sender.submit(bench_forwarder.send, port, sorted(folder.iterdir()), 1, *INTO_PACS))
        for part in sent:
            part.result()
        until(lambda: count() >= len(listed), 300, 0.1)
        return time.perf_counter() - began


def into_the_archive(city: RunningCity, folder: Path) -> None:
    """San Matteo's study, by its forwarder's `send`."""
    command = [sys.executable, "-m", "forwarder", "send", str(folder), "--api", city.api, "--profile", "san-matteo"]
    subprocess.run(command, check=True, env={**os.environ, **aws(city)}, stdout=subprocess.DEVNULL)


def aws(city: RunningCity) -> dict[str, str]:
    return {
        "AWS_CONFIG_FILE": city.endpoints["aws_config_file"],
        "AWS_SHARED_CREDENTIALS_FILE": city.endpoints["aws_shared_credentials_file"],
    }


@contextmanager
def receiving(city: RunningCity, folder: Path, port: int, proxy: str = "") -> Iterator[tuple[Hospital, int]]:
    """Maugeri's forwarder, which brings into the PACS at this port; (its addresses, its process)."""
    place = hospital(
        folder, city.api, archive__profile="maugeri", archive__proxy=proxy, pacs__host="127.0.0.1", pacs__port=port,
        deliver__enabled=True, deliver__max_age_days=36500, dicom__ae_title="CONTENITORE", identity__header="X-Remote-User",
        identity__trusted=["127.0.0.1"], identity__roles_header="X-Remote-Roles",
    )  # fmt: skip
    with process(place, **aws(city)) as running:
        yield place, running.pid


def delivered(
    city: RunningCity, transfer: str, number: str, scratch: Path, count_wanted: int, bytes_per_second: float | None = None
) -> Delivered:
    """From the acceptance to the last image in the PACS."""
    with ExitStack() as stack:
        port, count = stack.enter_context(pacs(scratch / "pacs"))
        proxy = ""
        if bytes_per_second:
            line = stack.enter_context(bad_line())
            line.bytes_per_second, proxy = bytes_per_second, line.url
        place, pid = stack.enter_context(receiving(city, scratch, port, proxy))
        own, most, over = [0.0], [0.0], threading.Event()

        def watch() -> None:
            while not over.wait(0.5):
                try:
                    alone, together = resident(pid)
                except psutil.NoSuchProcess:
                    continue
                own[0], most[0] = max(own[0], alone), max(most[0], together)

        watcher = threading.Thread(target=watch)
        watcher.start()
        client = city.client("maugeri")
        try:
            until(lambda: place.state()["line"]["open"], 60)
            idle, spent = resident(pid)[0], processor(pid)
            accept(place, transfer, number)
            began = time.perf_counter()
            until(count, 900, 0.1)
            first = time.perf_counter() - began
            until(lambda: count() >= count_wanted, 3600, 0.1)
            last = time.perf_counter() - began
            spent = processor(pid) - spent
        finally:
            over.set()
            watcher.join()
        state = place.state()["deliver"]
        if state["announced"] != state["delivered"] + state["there"] + state["aside"] + state["waiting"]:
            raise RuntimeError(str(state))
        client.delete(f"/transfers/{transfer}/receiving-patient").raise_for_status()
    return Delivered(first, last, idle, own[0], most[0], spent)


def accept(place: Hospital, transfer: str, number: str) -> None:
    """As the registry office does it, on the page of the hospital's own door."""
    who = {"X-Remote-User": "anna", "X-Remote-Roles": "registry"}
    token = re.search(r'name="token" value="([0-9a-f]+)"', requests.get(f"{place.page}/transfers", headers=who, timeout=60).text)
    if token is None:
        raise RuntimeError("the page has no form")
    form = {"token": token[1], "act": "accept", "transfer": transfer, "number": number, "sure": "yes"}
    requests.post(f"{place.page}/transfers", headers=who, data=form, timeout=60, allow_redirects=False).raise_for_status()


def transferred(city: RunningCity, patient: str) -> str:
    answer = city.client("san-matteo").post("/transfers", json={"patient": {"id": patient}, "to": "maugeri", "reason": "bench"})
    answer.raise_for_status()
    return str(answer.json()["id"])


def prior(city: RunningCity, scratch: Path, slices: int) -> None:
    bench_forwarder.SLICES = slices
    files = compressed(ct(scratch / "ct"), scratch / "ct-jls")
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    into_the_archive(city, scratch / "ct")
    transfer = transferred(city, PATIENT)
    name = "Orthanc" if shutil.which("Orthanc") else "storescp"
    print(f"a prior of {slices} slices, {megabytes:.0f} MB as the archive has it, into {name}", flush=True)
    direct = {}
    for associations in (1, 4):
        direct[associations] = storescu(files, scratch / f"storescu-{associations}", associations)
        print(
            f"  storescu, {associations} association(s)     {direct[associations]:6.1f} s {slices / direct[associations]:6.0f}/s",
            flush=True,
        )
    best = min(direct.values())
    for label, speed in (("loopback", None), ("100 Mbit/s", MBIT_100)):
        place = scratch / label.replace("/", "-")
        with bad_line() as line:
            line.bytes_per_second = speed
            bare = curl(city, bench_forwarder.STUDY, scratch / f"curl-{speed}", line.url if speed else "")
            plain = by_hand(city, bench_forwarder.STUDY, scratch / f"by-hand-{speed}", line.url if speed else "")
        limit = max(best, bare, megabytes * 1e6 / speed if speed else 0.0)
        took = delivered(city, transfer, "MG-BENCH", place, slices, speed)
        flowing = (slices - 1) / (took.last - took.first)
        print(
            f"  {label}: curl {bare:.1f} s {slices / bare:.0f}/s; curl and storescu {plain:.1f} s {slices / plain:.0f}/s; from acceptance first {took.first:.2f} s, last {took.last:.1f} s"
            f" ({flowing:.0f}/s between), {best / took.last:.0%} of storescu, {plain / took.last:.0%} of curl and storescu ({flowing * plain / slices:.0%} while it flows), {limit / took.last:.0%} of the slowest of PACS, archive"
            f" and line ({flowing * limit / slices:.0%} while it flows); {1000 * took.processor / slices:.1f} ms of processor each;"
            f" memory {took.own:.0f} MB ({took.together:.0f} MB with all its processes)",
            flush=True,
        )
    print(f"  load now {os.getloadavg()[0]:.1f}", flush=True)


def many(scratch: Path, count: int) -> None:
    """Beside an archive of that study alone, into DCMTK's storescp, which keeps nothing."""
    port = free_port()
    with ExitStack() as stack:
        archive = stack.enter_context(one_study(count))
        stack.enter_context(spawned(["/usr/bin/storescp", "--ignore", str(port)], port))
        place = hospital(
            scratch / "many", archive.url, archive__profile="", pacs__host="127.0.0.1", pacs__port=port, deliver__enabled=True,
            deliver__max_age_days=36500, archive__feed_seconds=1,
        )  # fmt: skip
        running = stack.enter_context(process(place, AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x"))
        until(lambda: place.state()["line"]["open"], 60)
        seen = [(resident(running.pid)[0], 0)]
        archive.accepted.set()
        began = time.perf_counter()
        while (done := place.state()["deliver"]["delivered"]) < count:
            seen.append((resident(running.pid)[0], done))
            time.sleep(0.5)
        took = time.perf_counter() - began
        place.state()
    half = max(memory for memory, done in seen if done <= count / 2)
    print(
        f"a study of {count} slices of 16²: {took:.0f} s; the forwarder's memory {seen[0][0]:.0f} MB before, {half:.0f} MB at most in"
        f" the first half, {max(memory for memory, _ in seen):.0f} MB in all",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.deliver", description=__doc__)
    parser.add_argument("--slices", type=int, default=500, help="of the prior")
    parser.add_argument("--many", type=int, default=10_000, help="of the study whose memory is looked at; 0: none")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if arguments.slices:
            with running_city(Path(name) / "city") as city:
                prior(city, Path(name), arguments.slices)
        if arguments.many:
            many(Path(name), arguments.many)
    return 0


if __name__ == "__main__":
    sys.exit(main())
