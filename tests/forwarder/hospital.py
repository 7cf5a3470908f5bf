"""A hospital for the tests: a forwarder on free ports, in this process or in one of its own, and senders."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import urllib3
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from forwarder import config
from forwarder.config import example as config_example
from local.processes import free_port

T = TypeVar("T")
DCMTK = {name: f"/usr/bin/{name}" for name in ("storescu", "echoscu", "dcmsend", "storescp")}


def dcmtk(name: str) -> str | None:
    """The path of a DCMTK program, or None (pynetdicom puts namesakes of its own on PATH)."""
    return DCMTK[name] if Path(DCMTK[name]).exists() else None


def until(condition: Callable[[], T], seconds: float = 60.0, every: float = 0.02) -> T:
    """Wait until `condition` is true and return what it gave; fails after `seconds`. It is asked `every` so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {condition}")
        time.sleep(every)


@dataclass
class Hospital:
    """A configuration on free ports, and ways to look at the forwarder that runs with it."""

    folder: Path
    values: dict[str, Any]

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    @property
    def port(self) -> int:
        return int(self.values["dicom.port"])

    @property
    def page(self) -> str:
        return f"http://127.0.0.1:{self.values['page.port']}"

    def text(self) -> str:
        return config_example.example(self.values)

    def config(self) -> config.Config:
        return config.parse(self.text())

    def write_config(self) -> Path:
        path = self.folder / "forwarder.toml"
        path.write_text(self.text())
        return path

    def get(self, path: str) -> urllib3.BaseHTTPResponse:
        with urllib3.PoolManager(retries=False, timeout=60) as http:
            return http.request("GET", self.page + path)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/status.json").data)
        return found

    def is_up(self) -> bool:
        try:
            return self.get("/health").status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def settled(self, count: int) -> dict[str, Any] | None:
        """The state, once `count` were received and nothing waits."""
        now = self.state()
        conserved(now)
        return now if now["received"] >= count and not now["waiting"] else None


def conserved(state: dict[str, Any]) -> None:
    """Received = indexed + rejected + waiting."""
    assert state["received"] == state["indexed"] + state["rejected"] + state["waiting"], state


def hospital(folder: Path, api: str, **values: Any) -> Hospital:
    """A hospital whose configuration differs from the defaults by `values` (dots as double underscores)."""
    folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "archive.api": api,
        "archive.feed_seconds": 1,
        "archive.profile": "san-matteo",
        "spool.folder": str(folder / "spool"),
        "spool.reserve_mb": 1,
        "dicom.address": "127.0.0.1",
        "dicom.port": free_port(),
        "page.port": free_port(),
        "send.linger_seconds": 0.05,
    }
    return Hospital(folder, settings | {name.replace("__", "."): value for name, value in values.items()})


@contextmanager
def process(place: Hospital, checkout: Path = Path(__file__).parents[2], **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """The forwarder as a process of its own, up; ended at the end whatever happened."""
    command = [sys.executable, "-m", "forwarder", "run", "--config", str(place.write_config())]
    with (place.folder / "log").open("ab") as log:
        running = subprocess.Popen(command, stderr=log, stdout=log, env={**os.environ, **environment}, cwd=checkout)
    try:
        until(lambda: running.poll() is not None or place.is_up())
        yield running
    finally:
        if running.poll() is None:
            running.terminate()
            try:
                running.wait(60)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


def store(
    place: Hospital,
    datasets: list[Dataset],
    *,
    calling: str = "MODALITY",
    called: str = "CONTENITORE",
    port: int | None = None,
    tls: Any = None,
) -> list[int | None]:
    """C-STORE over one association; the status of each, None where none came."""
    ae = AE(calling)
    ae.acse_timeout = ae.connection_timeout = 20
    ae.dimse_timeout = 5  # pynetdicom waits so long even when the peer has died
    for uid in {ds.SOPClassUID for ds in datasets} | {CTImageStorage}:
        ae.add_requested_context(uid, ExplicitVRLittleEndian)
    ae.add_requested_context(Verification)
    assoc = ae.associate("127.0.0.1", port or place.port, ae_title=called, tls_args=tls)
    if not assoc.is_established:
        return [None] * len(datasets)
    let_go = _hold_reactor(assoc)
    statuses: list[int | None] = []
    try:
        for dataset in datasets:
            statuses.append(_status(assoc, dataset))
            if statuses[-1] is None:  # the peer has died, which pynetdicom would wait out again for each of the others
                break
        return statuses + [None] * (len(datasets) - len(statuses))
    finally:
        let_go()
        assoc.release()


def _hold_reactor(assoc: Any) -> Callable[[], None]:
    """Keep pynetdicom's reactor of a sender from taking an answer that came faster than it expects.

    `send_c_store` pauses the reactor, but believes it paused in the moment in which it is just starting again.
    """
    checkpoint = assoc._reactor_checkpoint
    checkpoint.clear()
    until(lambda: checkpoint._cond._waiters or not assoc.is_established)
    checkpoint.set = lambda: None

    def let_go() -> None:
        del checkpoint.set
        checkpoint.set()

    return let_go


def _status(assoc: Any, ds: Dataset) -> int | None:
    if not assoc.is_established:
        return None
    answer = assoc.send_c_store(ds)
    return int(answer.Status) if "Status" in answer else None


def needs(program: str) -> str:
    """The reason to skip a test that needs a program."""
    return f"{program} is not installed (Debian: dcmtk)" if not shutil.which(DCMTK[program]) else ""
