"""`kill -9` at every step: everything acknowledged arrives, once, and the counts agree."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes import FakeArchive, Reply
from hospital import Hospital, conserved, hospital, process, store, until
from images import ct_slice
from pydicom import Dataset, dcmread

pytestmark = pytest.mark.usefixtures("credentials")
STEPS = ["written", "renamed", "synced", "journaled", "packed", "asked", "put", "judged", "dropped"]


@contextmanager
def doomed(place: Hospital, step: str, times: int):
    """A forwarder that dies at the given step; yields when it is up."""
    script = Path(__file__).parent / "dying.py"
    command = [sys.executable, str(script), str(place.write_config()), step, str(times)]
    with (place.folder / "log").open("ab") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until(lambda: running.poll() is not None or place.is_up())
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        running.wait()


def arrived(archive: FakeArchive) -> list[str]:
    """The SOP Instance UIDs that the archive has, one for each object."""
    from io import BytesIO

    return sorted(str(dcmread(BytesIO(body)).SOPInstanceUID) for body in archive.objects.values())


@pytest.mark.parametrize("step", STEPS)
def test_death_right_after_each_step_loses_and_doubles_nothing(archive: FakeArchive, tmp_path: Path, step: str):
    place = hospital(tmp_path, archive.url)
    slices = [ct_slice(number, edge=96) for number in range(1, 7)]
    acknowledged: list[Dataset] = []
    with doomed(place, step, times=1 if step in ("asked", "judged") else 3) as forwarder:
        acknowledged += [ds for ds, status in zip(slices, store(place, slices), strict=True) if status == 0x0000]
        assert until(lambda: forwarder.poll() is not None) and forwarder.returncode == -signal.SIGKILL
    with process(place):
        again = [ds for ds in slices if ds not in acknowledged]  # a PACS sends again what was not acknowledged
        assert store(place, again) == [0x0000] * len(again)
        state = until(lambda: place.settled(len(slices)))
    assert state["received"] == state["indexed"] == len(slices)
    assert arrived(archive) == sorted(ds.SOPInstanceUID for ds in slices)
    assert len(archive.order) == len(slices)
    assert not [path for path in place.spool.rglob("*") if path.is_file() and len(path.name) == 64]


@pytest.mark.slow
def test_killed_at_random_moments_while_several_modalities_send_and_the_line_fails(archive: FakeArchive, tmp_path: Path):
    seed = int.from_bytes(os.urandom(4), "big")
    chance = random.Random(seed)
    place = hospital(tmp_path, archive.url)
    archive.indexing_seconds = 0.2
    archive.after = lambda method, path, body: Reply(cut=True) if chance.random() < 0.05 else None
    acknowledged: set[str] = set()
    lock, stop = threading.Lock(), threading.Event()

    def modality(name: int) -> None:
        waiting = [ct_slice(n, study=f"1.2.826.0.1.3680043.10.7.{name}", edge=64) for n in range(1, 61)]
        while waiting and not stop.is_set():
            some = waiting[:10]
            for ds, status in zip(some, store(place, some, calling=f"CT{name}"), strict=True):
                if status == 0x0000:
                    waiting.remove(ds)
                    with lock:
                        acknowledged.add(ds.SOPInstanceUID)
            if some == waiting[:10]:
                time.sleep(0.1)  # a modality pauses before it tries a node again that is down

    senders = [threading.Thread(target=modality, args=(name,)) for name in range(3)]
    for sender in senders:
        sender.start()
    try:
        for _ in range(12):
            with process(place) as forwarder:
                deadline = time.monotonic() + chance.uniform(0.1, 0.8)
                while time.monotonic() < deadline:
                    conserved(place.state())
                forwarder.kill()
                forwarder.wait()
        with process(place):
            until(lambda: not any(sender.is_alive() for sender in senders))
            state = until(lambda: place.settled(180))
    finally:
        stop.set()
        for sender in senders:
            sender.join()
    assert len(acknowledged) == 180, seed
    assert arrived(archive) == sorted(acknowledged), seed
    assert state["received"] == state["indexed"] == 180, seed


def test_the_archive_holds_the_bytes_that_were_acknowledged(archive: FakeArchive, tmp_path: Path):
    place = hospital(tmp_path, archive.url, send__lossless=False)
    with process(place):
        assert store(place, [ct_slice(1)]) == [0x0000]
        until(lambda: place.settled(1))
    (body,) = archive.objects.values()
    assert hashlib.sha256(body).hexdigest() in archive.objects
    assert body[132:].endswith(ct_slice(1).PixelData)
