"""Hostile clients at every door of a running city: `python -m tests.fuzz.doors [--runs N] [--seed N] [DOOR …]`.

Each door gets N connections of damaged bytes, several at a time (again: it goes on where the last call with this seed ended,
`build/fuzz/`), clients that are slow beyond reason, and clients that never stop. Meanwhile, and afterwards, an ordinary client is
answered, no answer is a 5xx, no process has ended, and none has grown beyond MEMORY.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from tests.fuzz import mutation
from tests.fuzz.__main__ import BUILD
from tests.fuzz.targets import CORPUS, Target
from tests.harness import RunningCity, running_city

PATIENCE = 20.0
"""Seconds for an ordinary client, on a machine that others use too."""
HANG, CUT_WITHIN = 10.0, 90.0
AT_ONCE, CHUNK = 8, 1000
"""Connections of damaged bytes at the same time, and after how many progress is kept."""
DOORS = ("api", "s3", "viewer", "page", "dicom", "hl7")
MEMORY = 1024**3
"""Bytes of a process beyond which something piles up."""


@dataclass(frozen=True)
class Door:
    """Where it is, how an ordinary client is answered there (it raises if it is not), what is sent to begin with."""

    name: str
    address: tuple[str, int]
    ordinary: Callable[[], object]
    seeds: tuple[bytes, ...]
    endless: bytes
    """What a client says that never stops: the beginning, and then this again and again."""
    http: bool = True


def doors_of(city: RunningCity, institution: str = "san-matteo") -> list[Door]:
    """The doors of the archive and of one hospital's forwarder."""
    forwarder: Any = json.loads((city.state / "endpoints.json").read_text())["forwarders"][institution]
    dicom, hl7 = _address(forwarder["dicom"]), _address(forwarder["hl7"])

    def echo() -> None:
        ae = AE("FUZZ")
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = PATIENCE
        ae.add_requested_context(Verification)
        association = ae.associate(*dicom, ae_title=forwarder["aet"])
        assert association.is_established, "no association"
        try:
            assert association.send_c_echo().Status == 0x0000
        finally:
            association.release()
            association.dul.socket and association.dul.socket.close()

    def message() -> None:
        with socket.create_connection(hl7, timeout=PATIENCE) as line:
            line.sendall(b"\x0bMSH|^~\\&|FUZZ|X|C||20260301||ORU^R01|1|T|2.5||||||UNICODE UTF-8\r\x1c\r")
            assert b"MSA|" in line.recv(65536)

    def page(url: str) -> Callable[[], None]:
        def get() -> None:
            assert requests.get(url, timeout=PATIENCE).status_code < 500

        return get

    form = b"patient=1&to=maugeri&reason=x&csrf=y"
    host = b" HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    staff = b"X-Remote-User: fuzz\r\nX-Remote-Roles: registry,radiology,privacy,admin\r\n"
    http = (
        b"GET /transfers" + host + staff + b"\r\n",
        b"POST /transfers" + host + staff + b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n" % len(form) + form,
        b"GET /dicomweb/studies?PatientID=1&includefield=all" + host + staff + b"Accept: application/dicom+json\r\n\r\n",
        b"GET /IHEInvokeImageDisplay?requestType=PATIENT&patientID=1%5E%5E%5ESM" + host + staff + b"\r\n",
        b"GET /open?patient=1" + host + staff + b"\r\n",
        b"POST /dicomweb/studies" + host + staff + b"Content-Type: multipart/related; type=\"application/dicom\"; boundary=x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n--x\r\n\r\n0\r\n\r\n",
    )  # fmt: skip
    archive = (
        b"GET /health" + host + b"\r\n",
        b"POST /uploads" + host + b'Content-Length: 17\r\n\r\n{"instances": []}',
        b"GET /view/session" + host + b"Authorization: Bearer x\r\n\r\n",
        b"PUT /bucket/instances/a/b?X-Amz-Signature=0" + host + b"Content-Length: 3\r\n\r\nabc",
    )
    return [
        Door("api", _address(city.api), page(f"{city.api}/health"), archive, b"X-Filler: " + b"x" * 4000 + b"\r\n"),
        Door("s3", _address(city.s3), page(f"{city.s3}/_city/requests"), archive, b"X-Filler: " + b"x" * 4000 + b"\r\n"),
        Door("viewer", _address(city.endpoints["viewer"]), page(city.endpoints["viewer"]), archive, b"X-Filler: " + b"x" * 4000 + b"\r\n"),
        Door("page", _address(forwarder["page"]), page(f"{forwarder['page']}/health"), http, b"X-Filler: " + b"x" * 4000 + b"\r\n"),
        Door("dicom", dicom, echo, (_associate(forwarder["aet"]), b"\x04\x00\x00\x00\x00\x04\x00\x00\x00\x00", b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00"), b"\x00" * 4096, http=False),
        Door("hl7", hl7, message, tuple(b"\x0b" + file.read_bytes() + b"\x1c\r" for file in sorted((CORPUS / "hl7").glob("*"))), b"OBX|1|TX|||x||||||F\r" * 200, http=False),
    ]  # fmt: skip


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.removeprefix("http://").partition("/")[0].partition(":")
    return host, int(port)


def _associate(called: str) -> bytes:
    """An A-ASSOCIATE-RQ for verification (PS3.8 9.3.2)."""

    def item(kind: int, content: bytes) -> bytes:
        return bytes([kind, 0]) + len(content).to_bytes(2, "big") + content

    context = item(0x20, b"\x01\x00\x00\x00" + item(0x30, b"1.2.840.10008.1.1") + item(0x40, b"1.2.840.10008.1.2"))
    user = item(0x50, item(0x51, (16384).to_bytes(4, "big")) + item(0x52, b"1.2.3.4"))
    content = b"\x00\x01\x00\x00" + called.ljust(16).encode() + b"FUZZ".ljust(16) + bytes(32)
    content += item(0x10, b"1.2.840.10008.3.1.1.1") + context + user
    return b"\x01\x00" + len(content).to_bytes(4, "big") + content


@dataclass
class Damaged:
    """What came of connections of damaged bytes: how many, the longest answer in seconds, what was wrong."""

    count: int
    longest: float
    wrong: list[str]


def damaged(door: Door, seed: int, runs: int, first: int = 0) -> Damaged:
    """So many connections of damaged bytes, from input number `first` on."""
    target = Target(
        door.name, lambda data: None, (b"\r\n", b"\x00", b"Content-Length: 99999999999\r\n", b"%00", b"\xff" * 4), 20_000
    )

    def answered(number: int) -> tuple[float, list[str]]:
        data = mutation.mutated(random.Random(f"{seed}/{door.name}/{number}"), door.seeds, target)
        began, wrong = time.monotonic(), []
        answer = said(door.address, data)
        took = time.monotonic() - began
        if door.http and answer.startswith(b"HTTP/1.1 5") and not answer.startswith((b"HTTP/1.1 501", b"HTTP/1.1 505")):
            wrong.append(f"{door.name}: input {number} of seed {seed} was answered {answer[:40]!r}")
        if took > HANG:
            wrong.append(f"{door.name}: input {number} of seed {seed} took {took:.0f} s")
        return took, wrong

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(answered, range(first, first + runs)))
    return Damaged(runs, max((took for took, _ in answers), default=0.0), [text for _, wrong in answers for text in wrong])


def said(address: tuple[str, int], data: bytes) -> bytes:
    """The beginning of what is answered to somebody who sends this and says no more."""
    with suppress(OSError), socket.create_connection(address, timeout=HANG) as line:
        line.sendall(data)
        line.shutdown(socket.SHUT_WR)
        return line.recv(4096)
    return b""


@contextmanager
def slow_clients(door: Door, count: int) -> Iterator[None]:
    """So many clients who begin, and go on by a byte now and then, never to the end."""
    with ExitStack() as stack:
        lines = []
        for number in range(count):
            line = stack.enter_context(socket.create_connection(door.address, timeout=60))
            seed = door.seeds[number % len(door.seeds)]
            line.sendall(seed[: max(1, len(seed) // 2)])
            lines.append(line)
        for line in lines:
            with suppress(OSError):
                line.sendall(b"x")
        yield


def endless(door: Door) -> float:
    """A client that never stops: the seconds until it is cut off, CUT_WITHIN at the most."""
    began = time.monotonic()
    with suppress(OSError), socket.create_connection(door.address, timeout=3) as line:
        line.sendall(door.seeds[0][:40] if door.http else door.seeds[0][:10])
        while time.monotonic() - began < CUT_WITHIN:
            line.send(door.endless)
    return time.monotonic() - began


def hostile(
    city: RunningCity, seed: int, runs: int, slow: int = 40, *, never_stop: bool = True, doors: Sequence[str] = ()
) -> list[str]:
    """Everything, at every door, or at those of these names; what was wrong. What is let talk for its time (an association, a
    message) takes a minute each; without `never_stop` it is left out."""
    wrong: list[str] = []
    for door in doors_of(city):
        if doors and door.name not in doors:
            continue
        wrong += damaged(door, seed, runs).wrong
        with slow_clients(door, slow):
            wrong += _answered(door, f"while {slow} clients are slow")
        if (door.http or never_stop) and endless(door) >= CUT_WITHIN:
            wrong.append(f"{door.name}: a client that never stops was not cut off within {CUT_WITHIN:.0f} s")
        wrong += _answered(door, "after all that")
    return wrong + swollen(city)


def swollen(city: RunningCity) -> list[str]:
    """The processes of the city that have grown beyond MEMORY."""
    return [f"a process has {grown / 2**20:.0f} MB" for grown in memory(city) if grown > MEMORY]


def memory(city: RunningCity) -> list[int]:
    """Resident bytes of each process of the city: the cloud's own, which has the archive's functions, and the forwarders'."""
    found, cloud = [], psutil.Process(city.process.pid)
    for process in (cloud, *cloud.children(recursive=True)):
        with suppress(psutil.Error):
            found.append(process.memory_info().rss)
    return found


def going_on(city: RunningCity, seed: int, runs: int, doors: Sequence[str]) -> list[str]:
    """Connections of damaged bytes where the last call ended; what was wrong. Progress is told and kept."""
    wrong: list[str] = []
    BUILD.mkdir(parents=True, exist_ok=True)
    for door in doors_of(city):
        if doors and door.name not in doors:
            continue
        file = BUILD / f"door-{door.name}-{seed}.json"
        done = json.loads(file.read_text())["done"] if file.exists() else 0
        began, longest, end = time.monotonic(), 0.0, done + runs
        while done < end:
            found = damaged(door, seed, min(CHUNK, end - done), done)
            done, longest = done + found.count, max(longest, found.longest)
            wrong += found.wrong
            file.write_text(json.dumps({"done": done}))
        wrong += swollen(city)
        print(
            f"{door.name:8} {runs:7} connections, {done:8} in all, {runs / (time.monotonic() - began):5.0f}/s, longest answer"
            f" {longest:.1f} s, the largest process {max(memory(city)) / 2**20:.0f} MB",
            flush=True,
        )
    return wrong


def _answered(door: Door, when: str) -> list[str]:
    """Whether an ordinary client is answered in time, be it that it has to try again."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            door.ordinary()
            return []
        except (AssertionError, OSError, requests.RequestException) as error:
            if time.monotonic() > deadline:
                return [f"{door.name}: an ordinary client was not answered {when}: {error!r}"]
            time.sleep(0.2)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.doors", description="Hostile clients at every door.")
    parser.add_argument("--runs", type=int, default=2000, help="connections of damaged bytes at each door (default 2000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("doors", nargs="*", metavar="DOOR", help=f"of {', '.join(DOORS)}; without any: all")
    chosen = parser.parse_args(arguments)
    if unknown := sorted(set(chosen.doors) - set(DOORS)):
        parser.error(f"no such door: {', '.join(unknown)}")
    print(f"seed {chosen.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder, running_city(Path(folder), forwarders=True) as city:
        wrong = going_on(city, chosen.seed, chosen.runs, chosen.doors)
        wrong += hostile(city, chosen.seed, 0, doors=chosen.doors)
        ended = city.process.poll() is not None
    for text in wrong:
        print(f"FOUND {text}")
    print(f"{len(wrong)} found" + (", and the city has ended" if ended else ""))
    return 1 if wrong or ended else 0


if __name__ == "__main__":
    sys.exit(main())
