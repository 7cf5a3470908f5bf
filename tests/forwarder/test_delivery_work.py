"""What bringing a prior into the PACS takes: one request for each instance, and memory for what is read ahead."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psutil
import pytest
from hospital import dcmtk, hospital, needs, process, until

from bench.one_study import STUDY, one_study
from local.processes import free_port

COUNT, EDGE = 300, 512
MEMORY = 30_000_000
"""Bytes more than it takes when idle, of 157 million that are brought: what is read ahead of the PACS."""


@pytest.mark.skipif(not dcmtk("storescp"), reason=needs("storescp"))
def test_each_instance_of_a_prior_is_asked_for_once_and_none_is_held(tmp_path: Path) -> None:
    port = free_port()
    with one_study(COUNT, EDGE) as archive, subprocess.Popen([str(dcmtk("storescp")), "--ignore", str(port)]) as pacs:
        place = hospital(
            tmp_path, archive.url, archive__profile="", archive__feed_seconds=1, pacs__host="127.0.0.1", pacs__port=port,
            deliver__enabled=True, deliver__max_age_days=36500,
        )  # fmt: skip
        try:
            with process(place, AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x") as forwarder:
                memory = psutil.Process(forwarder.pid).memory_info
                until(lambda: place.state()["line"]["open"])
                idle, most, started = memory().rss, 0, _processor(forwarder.pid)

                def delivered() -> bool:
                    nonlocal most
                    most = max(most, memory().rss)
                    return bool(place.state()["deliver"]["delivered"] == COUNT)

                before = archive.calls.copy()
                archive.accepted.set()
                until(delivered, 120, 0.1)
                took = archive.calls - before
                spent = _processor(forwarder.pid) - started
        finally:
            pacs.terminate()
    del took["/changes"]  # its line, asked every second
    assert took.pop("/objects") == COUNT
    assert took.pop("/forwarder", 0) <= 2
    assert took.pop(f"/studies/{STUDY}/manifest") <= 2
    assert sum(took.values()) <= 5, took
    assert most - idle < MEMORY
    assert spent < COUNT * 0.012, "seconds of processor; it takes a quarter of it"


def _processor(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
