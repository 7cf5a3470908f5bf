"""`run`: from a C-STORE to the archive's verdict, with real associations."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from fakes import FakeArchive
from hospital import dcmtk, hospital, process, store, until
from images import ct_slice, write_ct
from pydicom import dcmread

from forwarder import background
from forwarder.dicom.commitment import Commitments
from forwarder.hl7.feed import Feed
from forwarder.hl7.outbox import ReportOutbox
from forwarder.operations.snapshot import State
from forwarder.operations.work_items import WorkList
from forwarder.service import running

pytestmark = pytest.mark.usefixtures("credentials")


def test_an_instance_goes_from_c_store_to_indexed_and_leaves_the_spool(archive: FakeArchive, tmp_path: Path):
    place = hospital(tmp_path, archive.url)
    with running(place.config()):
        assert store(place, [ct_slice(1)]) == [0x0000]
        state = until(lambda: place.settled(1))
    assert (state["received"], state["indexed"], state["rejected"]) == (1, 1, 0)
    assert not [path for path in (place.spool / "instances").rglob("*") if path.is_file()]


def test_a_process_receives_and_sends_and_ends_on_sigterm(archive: FakeArchive, tmp_path: Path):
    place = hospital(tmp_path, archive.url)
    with process(place) as forwarder:
        assert store(place, [ct_slice(n) for n in range(1, 21)]) == [0x0000] * 20
        until(lambda: place.settled(20))
        forwarder.terminate()
        assert forwarder.wait(60) == 0
    assert len(archive.objects) == 20


def test_compressing_processes_end_with_a_forwarder_that_is_killed(tmp_path: Path):
    place = hospital(tmp_path, "http://127.0.0.1:9")
    with process(place) as forwarder:
        assert store(place, [ct_slice(1, edge=128)]) == [0x0000]
        children = until(lambda: psutil.Process(forwarder.pid).children(recursive=True))
        until(lambda: [path for path in (place.spool / "packed").rglob("*") if path.is_file()])
        forwarder.kill()
        forwarder.wait()
    until(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children))


def test_a_thread_that_ends_unexpectedly_ends_the_forwarder_and_says_where(tmp_path: Path):
    """Whoever watches over it starts it again: better than to look alive and to send nothing."""
    place = hospital(tmp_path, "http://127.0.0.1:9")
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from forwarder.upload import outbox\n"
        "from forwarder.__main__ import main\n"
        "outbox.Outbox._ask_for_verdicts = lambda self: {}['x']\n"
        "sys.exit(main(['run', '--config', sys.argv[1]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(place.write_config())],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert '"thread": "verdicts"' in done.stderr and '"error": "KeyError"' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "part",
    [(Feed, "_step"), (ReportOutbox, "step"), (Commitments, "_report_due"), (WorkList, "look"), (State, "tick")],
    ids=lambda part: part[0].__name__,
)
def test_a_part_that_stumbles_begins_anew_and_the_doors_stay_open(
    archive: FakeArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: tuple[type, str]
):
    """To end the whole for it would close the DICOM door at each start, if the error comes again."""
    owner, method = part
    does, calls = getattr(owner, method), []
    monkeypatch.setattr(background, "PAUSE_SECONDS", 0.05)

    def stumbles(*given: Any, **named: Any) -> Any:
        calls.append(1)
        return {}["x"] if len(calls) <= 3 else does(*given, **named)

    monkeypatch.setattr(owner, method, stumbles)
    place = hospital(tmp_path, archive.url)
    with running(place.config()):
        until(lambda: len(calls) > 3)
        assert place.state()["troubles"] == ["part-stumbles"]
        assert store(place, [ct_slice(1)]) == [0x0000]
        until(lambda: place.settled(1))
        monkeypatch.setattr(background, "TOLD_SECONDS", 0.0)
        assert place.state()["troubles"] == []


@pytest.mark.skipif(not dcmtk("storescu"), reason="DCMTK's storescu is not installed")
@pytest.mark.parametrize("program", ["storescu", "dcmsend"])
def test_dcmtk_sends(archive: FakeArchive, tmp_path: Path, program: str):
    place = hospital(tmp_path, archive.url)
    files = write_ct(tmp_path / "files", 10)
    with running(place.config()):
        subprocess.run(
            [f"/usr/bin/{program}", "127.0.0.1", str(place.port), *map(str, files)],
            check=True,
            env={"TCP_NODELAY": "1"},
            timeout=60,
        )
        until(lambda: place.settled(10))
    for path in files:
        sent = dcmread(path)
        assert any(dcmread_bytes(body).SOPInstanceUID == sent.SOPInstanceUID for body in archive.objects.values())


def dcmread_bytes(body: bytes):
    from io import BytesIO

    return dcmread(BytesIO(body))
