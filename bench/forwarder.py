"""The forwarder measured: `python -m bench.forwarder [receive] [disk] [memory] [line] [codecs] [--beside CHECKOUT]` (all without a name).

receive  C-STORE of a 500-slice CT, 1 and 4 associations, fsync on; Orthanc (fsync off, its default) and DCMTK's storescp
         (no fsync, no index) in the same run, in turns, where they are installed; DCMTK's storescu sends. The forwarder of
         another checkout too (`git worktree add ../before COMMIT`). Of ours the processor time an instance is told
disk     what one instance costs whoever answers when it is durable: the sync of a new file and of its folder, SHA-256; beside
         what it costs storescp, and so how fast a storescp could be that did both before it answered
memory   resident memory with 100,000 instances waiting, idle and while they leave
line     from the last C-STORE to visible at the other hospital, over a line held to 100 Mbit/s (a proxy), and who needs how
         much processor time for it
codecs   JPEG-LS and HTJ2K on real CT, MR and chest films (HTJ2K needs `pip install imagecodecs`)

Everything happens on the loopback and in a temporary folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from pydicom import dcmread
from pydicom.data import get_testdata_file

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "forwarder"))

from hospital import Hospital, hospital, process, until

from local.processes import free_port

SLICES = 500
ROOT = Path(__file__).parents[1]
OURS, OTHER = "forwarder (fsync)", "the other checkout's (fsync)"
STUDY = "1.2.826.0.1.3680043.10.9"
ROUNDS = 3
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}
NOWHERE = "http://127.0.0.1:9"


def ct(folder: Path) -> list[Path]:
    """500 different slices made from a real head CT (512², 16 bits allocated)."""
    folder.mkdir()
    ds = dcmread(str(get_testdata_file("693_UNCR.dcm")))
    base, rng = ds.pixel_array, np.random.default_rng(1)
    ds.PatientName, ds.PatientID, ds.StudyInstanceUID = "Prova^Paziente", "PROVA-BENCH", STUDY
    ds.SeriesInstanceUID = f"{STUDY}.1"
    files = []
    for number in range(1, SLICES + 1):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{STUDY}.1.{number}"
        ds.InstanceNumber = number
        moved = np.roll(base, number % 97, axis=0)
        noise = rng.integers(-3, 4, base.shape)  # a scanner's noise, so that it compresses like a real slice
        ds.PixelData = np.where(moved > -1000, moved + noise, moved).astype("<i2").tobytes()
        files.append(folder / f"{number:03}.dcm")
        ds.save_as(files[-1])
    return files


def send(port: int, files: list[Path], associations: int, *options: str) -> float:
    """C-STORE all files over so many associations at once; seconds. Raises CalledProcessError if one is refused."""
    began = time.perf_counter()
    command = ["/usr/bin/storescu", *(options or ("-xe",)), "-pdu", "131072", "127.0.0.1", str(port)]
    running = [
        subprocess.Popen([*command, *map(str, files[k::associations])], env=ENVIRONMENT, stderr=subprocess.DEVNULL)
        for k in range(associations)
    ]
    for sender in running:
        if sender.wait():
            raise subprocess.CalledProcessError(sender.returncode, "storescu")
    return time.perf_counter() - began


class Terse(Hospital):
    """One whose configuration has what it needs to receive and no more: another checkout may not know the rest."""

    def write_config(self) -> Path:
        path = self.folder / "forwarder.toml"
        known = ("archive.api", "archive.profile", "spool.folder", "spool.reserve_mb", "dicom.address", "dicom.port", "page.port")
        path.write_text("".join(f"{key} = {json.dumps(self.values[key])}\n" for key in (*known, "send.lossless")))
        return path


spent: dict[str, list[float]] = {}
"""Seconds of processor of each round of a forwarder, by its name."""


@contextmanager
def forwarder(folder: Path, checkout: Path = ROOT, name: str = OURS) -> Iterator[int]:
    place = Terse(folder, hospital(folder, NOWHERE, archive__profile="", send__lossless=False).values)
    with process(place, checkout, AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x") as running:
        before = processor(running.pid)
        yield place.port
        spent.setdefault(name, []).append(processor(running.pid) - before)
        received = place.state()["received"]
        if received != SLICES:
            raise RuntimeError(f"the forwarder has {received} instances")


def processor(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


@contextmanager
def orthanc(folder: Path) -> Iterator[int]:
    folder.mkdir()
    port, http = free_port(), free_port()
    settings = {
        "StorageDirectory": str(folder), "IndexDirectory": str(folder), "DicomPort": port, "HttpPort": http,
        "RemoteAccessAllowed": False, "SyncStorageArea": False, "Plugins": [], "LuaScripts": [],
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    command = [shutil.which("Orthanc") or "", str(folder / "orthanc.json")]
    with spawned(command, port):
        yield port
        with urllib.request.urlopen(f"http://127.0.0.1:{http}/statistics", timeout=10) as answer:
            stored = json.load(answer)["CountInstances"]
        if stored != SLICES:
            raise RuntimeError(f"Orthanc has {stored} instances")


@contextmanager
def storescp(folder: Path) -> Iterator[int]:
    folder.mkdir()
    port = free_port()
    with spawned(["/usr/bin/storescp", "--fork", "-od", str(folder), str(port)], port):
        yield port


@contextmanager
def pynetdicom(folder: Path) -> Iterator[int]:
    """pynetdicom's own storescp, with the greatest PDU that the forwarder offers: what its upper layer does without ours."""
    folder.mkdir()
    port = free_port()
    command = [sys.executable, "-m", "pynetdicom", "storescp", str(port), "-q", "-pdu", "131072", "-od", str(folder)]
    with spawned(command, port):
        yield port


@contextmanager
def spawned(command: list[str], port: int) -> Iterator[None]:
    running = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: any(c.laddr.port == port for c in psutil.net_connections("tcp") if c.status == "LISTEN"))
        time.sleep(0.5)
        yield
    finally:
        running.terminate()
        running.wait()


def receive(scratch: Path, beside: Path | None = None) -> None:
    files = ct(scratch / "ct")
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    peers: dict[str, Callable[[Path], Any]] = {OURS: forwarder}
    if beside:
        peers[OTHER] = partial(forwarder, checkout=beside.resolve(), name=OTHER)
    peers["pynetdicom (no fsync, no index)"] = pynetdicom
    if shutil.which("Orthanc"):
        peers["Orthanc (no fsync)"] = orthanc
    if Path("/usr/bin/storescp").exists():
        peers["storescp (no fsync, no index)"] = storescp
    print(f"C-STORE of a {SLICES}-slice CT, {megabytes:.0f} MB; median (best) of {ROUNDS} rounds in turns")
    for associations in (1, 4):
        took: dict[str, list[float]] = {name: [] for name in peers}
        spent.clear()
        for round_number in range(ROUNDS):
            for name, peer in peers.items():
                folder = scratch / f"{associations}-{round_number}-{name.split()[0]}"
                with peer(folder) as port:
                    took[name].append(send(port, files, associations))
                shutil.rmtree(folder)
        for name, seconds in took.items():
            middle, best = statistics.median(seconds), min(seconds)
            print(
                f"  {associations} association{'s' if associations > 1 else ' '}  {name:<32}"
                f"{SLICES / middle:>5.0f} ({SLICES / best:.0f}) instances/s  {megabytes / middle:>5.0f} MB/s"
                + (f"  {1000 * statistics.median(spent[name]) / SLICES:.2f} ms of processor each" if name in spent else "")
            )
        print(f"  load now {os.getloadavg()[0]:.1f}")


@dataclass(frozen=True)
class Durable:
    """Milliseconds an instance over one association: what storescp takes; what syncing a new file and its folder takes beyond
    writing it; SHA-256."""

    storescp: float
    sync: float
    sha256: float

    @property
    def bound(self) -> float:
        """The part of storescp's speed that it would keep if it did both before it answers."""
        return self.storescp / (self.storescp + self.sync + self.sha256)


def durable(scratch: Path, files: list[Path], rounds: int = ROUNDS) -> Durable:
    """In turns, medians. What is added to storescp's time is what these calls take in C too: they are the system's."""
    data = [path.read_bytes() for path in files]
    taken: dict[str, list[float]] = {"storescp": [], "written": [], "synced": [], "sha256": []}
    for number in range(rounds):
        folder = scratch / f"durable-{number}"
        with storescp(folder) as port:
            taken["storescp"].append(send(port, files, 1))
        shutil.rmtree(folder)
        taken["written"].append(timed(lambda: write_new(data, scratch / "written", sync=False)))
        taken["synced"].append(timed(lambda: write_new(data, scratch / "synced", sync=True)))
        taken["sha256"].append(timed(lambda: [hashlib.sha256(content).digest() for content in data]))
    each = {name: 1000 * statistics.median(seconds) / len(files) for name, seconds in taken.items()}
    return Durable(each["storescp"], each["synced"] - each["written"], each["sha256"])


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def write_new(data: list[bytes], folder: Path, *, sync: bool) -> None:
    """Each into a new file, renamed into place; with `sync`, file and folder are synced at once, as the spool does it."""
    folder.mkdir()
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    with ThreadPoolExecutor(1) as pool:
        for number, content in enumerate(data):
            path = folder / f"{number}.new"
            file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            os.write(file, content)
            path.rename(folder / str(number))
            if sync:
                of_folder = pool.submit(os.fsync, place)
                os.fsync(file)
                of_folder.result()
            os.close(file)
    os.close(place)
    shutil.rmtree(folder)


def disk(scratch: Path) -> None:
    found = durable(scratch, ct(scratch / "ct"))
    print(
        f"  one association, each of {SLICES}: storescp {found.storescp:.2f} ms; the sync of a new file and its folder"
        f" {found.sync:.2f} ms; SHA-256 {found.sha256:.2f} ms\n"
        f"  a storescp that did both before it answers: {found.bound:.2f} × storescp ({1000 * found.bound / found.storescp:.0f}/s)"
    )


def resident(pid: int) -> tuple[float, float]:
    """(the forwarder's own, with its compressing process) resident memory in MB."""
    top = psutil.Process(pid)
    own = top.memory_info().rss
    return own / 1e6, (own + sum(child.memory_info().rss for child in top.children(recursive=True))) / 1e6


def memory(scratch: Path) -> None:
    from fakes import running_archive

    count = 100_000
    with running_archive() as archive:
        archive.keep_bytes = False
        place = hospital(scratch / "memory", NOWHERE, archive__profile="")
        fill(place, count)
        keys = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI"}
        began = time.perf_counter()
        with process(place, **keys) as running:
            print(f"{count} instances waiting: up after {time.perf_counter() - began:.1f} s")
            time.sleep(10)
            print("  no line:         {:.0f} MB, with compressing process {:.0f} MB".format(*resident(running.pid)))
        place.values["archive.api"] = archive.url
        with process(place, **keys) as running:
            most = [0.0, 0.0]
            ends = time.monotonic() + 60
            while time.monotonic() < ends and place.state()["waiting"]:
                most = [max(pair) for pair in zip(most, resident(running.pid), strict=True)]
                time.sleep(0.5)
            gone = count - place.state()["waiting"]
            print("  while {} leave: {:.0f} MB at most, with compressing process {:.0f} MB".format(gone, *most))


def fill(place: Hospital, count: int) -> None:
    """A spool with so many small instances, written at once instead of one by one."""
    from images import ct_slice, write

    from forwarder.spool.spool import Spool

    spool = Spool(place.spool)
    template = write(ct_slice(1, edge=64), place.folder / "template.dcm").read_bytes()
    rows = []
    for number in range(count):
        data = template[:-8] + number.to_bytes(8, "little")
        digest = hashlib.sha256(data).hexdigest()
        spool.path(digest).write_bytes(data)
        rows.append((digest, len(data), float(number), time.time()))
    spool.journal.write(
        lambda connection: connection.executemany(
            "INSERT INTO instances (digest, size, state, rank, received_at) VALUES (?, ?, 'waiting', ?, ?)",
            rows,
        )
    )
    spool.close()


def line(scratch: Path) -> dict[str, float]:
    """From the last C-STORE to visible, over 100 Mbit/s: seconds, and megabytes that crossed the line."""
    from line_proxy import bad_line

    from tests.harness import running_city

    files = ct(scratch / "line-ct")
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    with ExitStack() as stack:
        city = stack.enter_context(running_city(scratch / "city"))
        slow = stack.enter_context(bad_line())
        slow.bytes_per_second = 100e6 / 8
        sender = city.client("san-matteo")
        sender.put("/patients/PROVA-BENCH", json={"event": "bench"}).raise_for_status()
        answer = sender.post("/transfers", json={"patient": {"id": "PROVA-BENCH"}, "to": "maugeri", "reason": "bench"})
        answer.raise_for_status()
        place = hospital(scratch / "line", city.api, archive__proxy=slow.url)
        files_of_aws = {
            "AWS_CONFIG_FILE": city.endpoints["aws_config_file"],
            "AWS_SHARED_CREDENTIALS_FILE": city.endpoints["aws_shared_credentials_file"],
        }
        with process(place, **files_of_aws) as running:
            before = line_work(running.pid, city.process.pid)
            began = time.perf_counter()
            took = send(place.port, files, 1)
            sent_at = time.perf_counter()
            maugeri = city.client("maugeri")
            path = f"/dicomweb/studies?StudyInstanceUID={STUDY}&includefield=00201208"
            until(lambda: seen(maugeri.get(path).json()) == SLICES, 300)
            visible = time.perf_counter()
            work = {name: spent - before[name] for name, spent in line_work(running.pid, city.process.pid).items()}
    print(f"a {SLICES}-slice CT of {megabytes:.0f} MB over 100 Mbit/s; its bytes alone would take {megabytes / 12.5:.1f} s")
    print(f"  C-STORE took {took:.1f} s; {slow.bytes_up / 1e6:.0f} MB crossed the line")
    print(f"  visible at the other hospital {visible - sent_at:.1f} s after the last, {visible - began:.1f} s after the first")
    print("  processor: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in work.items()))
    there = line_alone(scratch, files)
    print(f"  into an archive that costs this machine next to nothing: the last byte is there {there:.1f} s after the last")
    return {
        "there_after_last": there,
        "visible_after_last": visible - sent_at,
        "visible_after_first": visible - began,
        "megabytes_sent": slow.bytes_up / 1e6,
        "processor": sum(work.values()),
    }


def line_alone(scratch: Path, files: list[Path]) -> float:
    """The same, into an archive that only takes bytes and says that they are indexed: what forwarder and line need."""
    from fakes import running_archive
    from line_proxy import bad_line

    with running_archive() as archive, bad_line() as slow:
        archive.keep_bytes, slow.bytes_per_second = False, 100e6 / 8
        place = hospital(scratch / "alone", archive.url, archive__profile="", archive__proxy=slow.url)
        with process(place, AWS_ACCESS_KEY_ID="AKIDEXAMPLE", AWS_SECRET_ACCESS_KEY="wJalrXUtnFEMI"):
            send(place.port, files, 1)
            sent_at = time.perf_counter()
            until(lambda: len(archive.objects) == SLICES, 300)
            return time.perf_counter() - sent_at


def line_work(forwarder: int, city: int) -> dict[str, float]:
    """Seconds of processor until now, by who spent them."""
    return {
        "receiving and sending": processor(forwarder),
        "compressing": sum(processor(child.pid) for child in psutil.Process(forwarder).children(recursive=True)),
        "the emulated archive with its functions": processor(city)
        + sum(processor(child.pid) for child in psutil.Process(city).children(recursive=True)),
        "sender and line": processor(os.getpid()) + sum(psutil.Process().cpu_times()[2:4]),
    }


def seen(found: list[dict[str, Any]]) -> int:
    """Instances that a QIDO-RS answer counts."""
    return int(found[0]["00201208"]["Value"][0]) if found else 0


def codecs(_: Path) -> None:
    from forwarder.compression.jpegls import decode, encode, layout
    from forwarder.header import head_of

    try:
        from imagecodecs import htj2k_decode, htj2k_encode
    except ImportError:
        htj2k_encode = htj2k_decode = None
    names = {
        "CT head 512²": "693_UNCR.dcm", "CT 128²": "CT_small.dcm", "CT enhanced": "eCT_Supplemental.dcm",
        "MR": "MR2_UNCR.dcm", "MR 64²": "MR_small.dcm", "chest film": "RG1_UNCR.dcm", "film": "RG3_UNCR.dcm",
    }  # fmt: skip
    print(f"{'':14}{'JPEG-LS':^34}{'HTJ2K':^34}   (ratio, MB/s to encode and decode)")
    totals = np.zeros((2, 3))
    for label, name in names.items():
        path = Path(str(get_testdata_file(name)))
        with path.open("rb") as file:
            header = head_of(file)
        pixels = header and layout(header)
        if not pixels:
            continue
        data = path.read_bytes()[pixels.value_at :][: pixels.frame_bytes * pixels.frames]
        frames = [data[k * pixels.frame_bytes :][: pixels.frame_bytes] for k in range(pixels.frames)]
        shape, kind = (pixels.rows, pixels.columns), "<i2" if pixels.signed else "<u2"
        cells = [measured(frames, lambda frame: encode(frame, pixels), decode)]  # used at once
        if htj2k_encode:
            as_array = [np.frombuffer(frame, kind).reshape(shape) for frame in frames]
            cells.append(measured(as_array, htj2k_encode, htj2k_decode))
        for number, (size, there, back) in enumerate(cells):
            totals[number] += size, there, back
        shown = [
            f"{len(data) / size:>10.2f}{len(data) / there / 1e6:>9.0f}{len(data) / back / 1e6:>9.0f}"
            for size, there, back in cells
        ]
        print(f"{label:14}{'      '.join(shown)}")
    for mbit in (20, 100, 1000):
        times = [max(there + back, size * 8 / mbit / 1e6) for size, there, back in totals[: len(cells)]]
        print(
            f"all of them at {mbit:>4} Mbit/s, one core: "
            + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in zip(("JPEG-LS", "HTJ2K"), times, strict=False))
        )
    print(
        "bytes in all: "
        + ", ".join(f"{name} {int(size)}" for name, size in zip(("JPEG-LS", "HTJ2K"), totals[: len(cells), 0], strict=True))
    )


def measured(frames: list[Any], encode: Callable[[Any], bytes], decode: Callable[[bytes], Any]) -> tuple[int, float, float]:
    """(bytes, seconds to encode, seconds to decode), the best of three; raises if a frame does not come back."""
    best = [1e9, 1e9]
    for _ in range(3):
        began = time.perf_counter()
        codes = [encode(frame) for frame in frames]
        middle = time.perf_counter()
        back = [decode(code) for code in codes]
        best = [min(best[0], middle - began), min(best[1], time.perf_counter() - middle)]
    for frame, again in zip(frames, back, strict=True):
        if not np.array_equal(np.asarray(frame), np.asarray(again)):
            raise RuntimeError("a codec is not lossless")
    return sum(map(len, codes)), best[0], best[1]


def main() -> None:
    parts = {"receive": receive, "disk": disk, "memory": memory, "line": line, "codecs": codecs}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*parts, []], metavar="PART")
    parser.add_argument("--beside", type=Path, help="another checkout, whose forwarder receives in the same run")
    arguments = parser.parse_args()
    chosen = arguments.parts or list(parts)
    parts["receive"] = partial(receive, beside=arguments.beside)
    warnings.simplefilter("ignore")
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}")
    for name in chosen:
        print(f"load {os.getloadavg()[0]:.1f}")
        with tempfile.TemporaryDirectory() as scratch:
            print(f"\n{name}")
            parts[name](Path(scratch))


if __name__ == "__main__":
    main()
