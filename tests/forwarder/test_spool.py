"""The spool: durable before it says yes, nothing twice, honest about a failing disk."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from images import ct_slice, write

from forwarder.alerts import Reason
from forwarder.errors import SpoolError
from forwarder.operations import admin
from forwarder.spool.instances import About, InstanceState, InstanceTable
from forwarder.spool.journal import Journal
from forwarder.spool.spool import Recovery, Spool, SpoolFullError


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool")
    yield spool
    spool.close()


def admit(spool: Spool, data: bytes, about: About | None = None) -> str:
    arrival = spool.arrival()
    arrival.write(data)
    return spool.admit(arrival, about or About())


def conserved(spool: Spool) -> dict[str, int]:
    now = spool.tally()
    states = ("waiting", "stored", "indexed", "echo", "rejected", "conflict", "discarded")
    assert now["received"] == sum(now[state] for state in states), now
    return now


def test_what_was_admitted_is_on_the_disk_under_the_name_of_its_content(spool: Spool):
    digest = admit(spool, b"some bytes")
    assert digest == hashlib.sha256(b"some bytes").hexdigest()
    assert spool.path(digest).read_bytes() == b"some bytes"
    assert conserved(spool)["waiting"] == 1


def test_the_steps_come_in_the_order_that_makes_it_durable(tmp_path: Path):
    seen: list[str] = []
    spool = Spool(tmp_path, 0, seen.append)
    admit(spool, b"x")
    spool.close()
    assert seen == ["written", "renamed", "synced", "journaled"]


def test_the_same_bytes_twice_are_one_instance(spool: Spool):
    assert admit(spool, b"same") == admit(spool, b"same")
    assert conserved(spool)["received"] == 1


def test_two_instances_with_one_sop_instance_uid_are_both_kept(spool: Spool):
    about = About(sop_instance="1.2.3")
    first, second = admit(spool, b"one", about), admit(spool, b"two", about)
    assert first != second
    assert conserved(spool)["waiting"] == 2


def test_bytes_that_came_again_after_they_were_indexed_are_not_kept(spool: Spool):
    digest = admit(spool, b"again")
    InstanceTable(spool.journal).settle(digest, InstanceState.INDEXED, None)
    spool.drop_files(digest)
    admit(spool, b"again")
    assert not spool.path(digest).exists()
    assert conserved(spool)["indexed"] == 1


def test_what_was_discarded_and_comes_again_waits_again(spool: Spool):
    digest = admit(spool, b"once more")
    InstanceTable(spool.journal).settle(digest, InstanceState.REJECTED, "truncated")
    InstanceTable(spool.journal).settle(digest, InstanceState.DISCARDED, "truncated")
    spool.drop_files(digest)
    admit(spool, b"once more")
    assert spool.path(digest).exists()
    now = conserved(spool)
    assert (now["received"], now["waiting"], now["discarded"]) == (1, 1, 0)


def test_forgetting_old_history_leaves_the_counts_and_what_waits(spool: Spool):
    for number in range(5):
        digest = admit(spool, b"%d" % number)
        if number:
            InstanceTable(spool.journal).settle(digest, InstanceState.INDEXED, None)
    assert spool.forget(before=9e9) == 4
    now = conserved(spool)
    assert (now["received"], now["indexed"], now["waiting"]) == (5, 4, 1)


def test_many_threads_lose_nothing(spool: Spool):
    def work(name: int) -> None:
        for number in range(40):
            admit(spool, b"%d %d" % (name, number % 30))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert conserved(spool)["received"] == 8 * 30
    assert sum(1 for path in (spool.folder / "instances").rglob("*") if path.is_file()) == 240


class TestRecovery:
    def test_what_was_never_acknowledged_goes_and_what_waits_stays(self, tmp_path: Path):
        spool = Spool(tmp_path)
        waiting = admit(spool, b"waiting")
        done = admit(spool, b"done")
        InstanceTable(spool.journal).settle(done, InstanceState.INDEXED, None)  # died before the file was removed
        spool.close()
        (tmp_path / "incoming" / "half").write_bytes(b"half")
        torn = hashlib.sha256(b"all of it").hexdigest()
        (tmp_path / "instances" / torn[:2] / torn).write_bytes(b"all o")  # the power failed before it was synced

        spool = Spool(tmp_path)
        assert spool.recover() == Recovery(removed=3)
        assert [path.name for path in tmp_path.rglob("*") if path.is_file() and len(path.name) == 64] == [waiting]
        spool.close()

    def test_a_whole_file_whose_row_a_power_failure_took_is_taken_on_again(self, tmp_path: Path):
        spool = Spool(tmp_path / "spool")
        for name in ("journal.sqlite3", "journal.sqlite3-wal"):  # what the disk has of the journal at this moment
            shutil.copy(spool.folder / name, tmp_path / name)
        with write(ct_slice(7), tmp_path / "x.dcm").open("rb") as file:
            digest = spool.admit_file(file, "CT1")
        again = admit(spool, b"came twice")
        spool.close()
        for name in ("journal.sqlite3", "journal.sqlite3-wal"):
            shutil.copy(tmp_path / name, spool.folder / name)

        spool = Spool(tmp_path / "spool")
        assert conserved(spool)["received"] == 0
        assert spool.recover() == Recovery(adopted=2)
        assert conserved(spool)["waiting"] == 2
        assert admit(spool, b"came twice") == again
        assert conserved(spool)["received"] == 2
        with spool.journal.read() as connection:
            row = connection.execute("SELECT * FROM instances WHERE digest = ?", (digest,)).fetchone()
        assert (row["sop_instance"], row["modality"]) == (ct_slice(7).SOPInstanceUID, "CT")
        assert row["size"] == (tmp_path / "x.dcm").stat().st_size
        assert spool.recover() == Recovery()
        spool.close()

    def test_a_journal_that_cannot_be_written_keeps_nothing_from_starting_and_loses_nothing(self, tmp_path: Path, monkeypatch):
        spool = Spool(tmp_path)
        digest = hashlib.sha256(b"acknowledged").hexdigest()
        spool.path(digest).write_bytes(b"acknowledged")

        def full(work):
            raise SpoolFullError("The journal cannot be written: database or disk is full.")

        with monkeypatch.context() as patch:
            patch.setattr(spool.journal, "note", full)
            assert spool.recover() == Recovery(postponed=1)
        assert spool.adopt_postponed() == Recovery(adopted=1)
        assert spool.path(digest).exists() and conserved(spool)["waiting"] == 1
        spool.close()

    def test_a_file_that_vanished_is_told_and_counted(self, tmp_path: Path):
        spool = Spool(tmp_path)
        digest = admit(spool, b"gone")
        spool.path(digest).unlink()
        assert spool.recover() == Recovery(missing=1)
        assert conserved(spool)["rejected"] == 1
        admit(spool, b"gone")  # sent again, it is whole again
        assert conserved(spool)["waiting"] == 1
        spool.close()


def test_what_was_damaged_and_comes_again_is_whole_again_and_waits(spool: Spool):
    digest = admit(spool, b"sound")
    spool.path(digest).write_bytes(b"rotten")
    InstanceTable(spool.journal).settle(digest, InstanceState.REJECTED, Reason.DAMAGED_IN_SPOOL)
    admit(spool, b"sound")
    assert spool.path(digest).read_bytes() == b"sound"
    assert conserved(spool)["waiting"] == 1


def test_a_mistake_of_one_keeps_nobody_else_waiting(spool: Spool):
    """Whoever writes the group for all hears of his own mistakes only, and leaves nobody without an answer."""
    heard: list[str] = []

    def mistake(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO watched VALUES (?, 1, 1)", ("\udce8",))  # no text that SQLite takes

    def work(number: int) -> None:
        try:
            spool.journal.write(mistake) if number % 3 == 0 else admit(spool, b"%d" % number)
        except UnicodeEncodeError:
            heard.append("mistake")

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert len(heard) == 10 and conserved(spool)["waiting"] == 20


def test_what_waits_again_is_not_discarded_by_a_decision_that_came_too_late(spool: Spool, monkeypatch):
    digest = admit(spool, b"wanted")
    InstanceTable(spool.journal).settle(digest, InstanceState.REJECTED, Reason.DAMAGED_IN_SPOOL)
    listed = admin.rejected(spool.folder)
    admit(spool, b"wanted")  # the PACS has sent it again while the administrator was thinking
    monkeypatch.setattr(admin, "rejected", lambda folder: listed)
    assert admin.discard(spool.folder, [digest]) == 0
    assert spool.path(digest).read_bytes() == b"wanted"
    assert conserved(spool)["waiting"] == 1


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_what_waits_for_the_disk_before_it_counts(tmp_path: Path):
    """The calls to the system in their order: yes after the syncs of file and folder, dropped after that of the journal."""
    script = tmp_path / "life.py"
    script.write_text(
        "import os, sys\n"
        "from pathlib import Path\n"
        "from forwarder.archive.client import InstanceStatus\n"
        "from forwarder.spool.instances import About, InstanceTable\n"
        "from forwarder.spool.spool import Spool\n"
        "spool = Spool(Path(sys.argv[1]))\n"
        "os.write(1, b'RECEIVING')\n"
        "arrival = spool.arrival()\n"
        "arrival.write(b'an instance')\n"
        "digest = spool.admit(arrival, About())\n"
        "os.write(1, b'YES')\n"
        "for digest in InstanceTable(spool.journal).judged([(digest, InstanceStatus(digest, 'indexed'))]):\n"
        "    spool.drop_files(digest)\n"
        "os.write(1, b'DROPPED')\n"
    )
    trace = tmp_path / "trace"
    subprocess.run(
        ["strace", "-f", "-y", "-s", "64", "-e", "trace=fsync,fdatasync,unlink,write", "-o", str(trace),
         sys.executable, str(script), str(tmp_path / "spool")],
        check=True, cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONPATH": "."}, stdout=subprocess.DEVNULL, timeout=240,
    )  # fmt: skip
    text = trace.read_text()
    receiving, dropping = re.split("RECEIVING|YES|DROPPED", text)[1:3]
    digest = hashlib.sha256(b"an instance").hexdigest()
    sync = r"f(?:data)?sync\(\d+<[^>]*/"
    for path in (f"instances/{digest[:2]}/{digest}", f"instances/{digest[:2]}"):
        assert re.search(rf"{sync}{path}>", receiving)
    assert re.search(rf"{sync}journal\.sqlite3-wal>.*unlink\([^)]*{digest}", dropping, re.S)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


class TestFullDisk:
    def test_below_the_reserve_nothing_is_admitted_and_with_space_it_is_again(self, small_disk: Path):
        spool = Spool(small_disk, reserve_bytes=1_000_000)
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(spool.free_bytes() - 900_000))
        with pytest.raises(SpoolFullError):
            admit(spool, b"too late")
        ballast.unlink()
        admit(spool, b"too late")
        assert conserved(spool)["received"] == 1
        spool.close()

    def test_one_instance_alone_does_not_use_up_the_reserve(self, small_disk: Path, monkeypatch):
        monkeypatch.setattr("forwarder.spool.spool.LOOK_EVERY", 100_000)
        spool = Spool(small_disk, reserve_bytes=1_000_000)
        arrival = spool.arrival()
        for _ in range(60):
            arrival.write(bytes(65536))
        assert isinstance(arrival.failure, SpoolFullError)
        assert not list((small_disk / "incoming").iterdir())
        with pytest.raises(SpoolFullError):
            spool.admit(arrival, About())
        spool.close()

    def test_filled_to_the_brim_it_never_says_yes_and_leaves_nothing_behind(self, small_disk: Path):
        spool = Spool(small_disk)
        admitted = []
        with pytest.raises(SpoolError):
            for number in range(100):
                admitted.append(admit(spool, os.urandom(200_000) + b"%d" % number))
        assert 0 < len(admitted) < 100
        assert not list((small_disk / "incoming").iterdir())
        spool.close()
        spool = Spool(small_disk)
        spool.recover()
        for digest in admitted:
            assert hashlib.sha256(spool.path(digest).read_bytes()).hexdigest() == digest
        assert conserved(spool)["waiting"] == len(admitted)
        spool.close()

    def test_the_journal_recovers_without_a_restart(self, small_disk: Path):
        spool = Spool(small_disk)
        digest = admit(spool, b"first")
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="space"):
            while True:
                file.write(bytes(4096))
        with pytest.raises(SpoolError):
            for number in range(1000):
                InstanceTable(spool.journal).settle(digest, InstanceState.WAITING, "x" * 3000 + str(number))
        ballast.unlink()
        InstanceTable(spool.journal).settle(digest, InstanceState.INDEXED, None)
        assert conserved(spool)["indexed"] == 1
        spool.close()

    def test_a_disk_that_became_read_only_is_never_a_success(self, small_disk: Path):
        spool = Spool(small_disk)
        admit(spool, b"before")
        for folder in ("incoming", "instances"):
            over = small_disk / folder
            subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(over)], check=True)
            with pytest.raises(SpoolError):
                admit(spool, b"after")
            subprocess.run(["umount", str(over)], check=True)
        admit(spool, b"after")
        assert conserved(spool)["waiting"] == 2
        spool.close()


def test_a_journal_that_has_all_it_needs_is_opened_without_a_write(tmp_path: Path) -> None:
    """A full disk keeps nobody from starting, and from sending what waits."""
    file = tmp_path / "journal.db"
    for _ in range(2):
        Journal(file).close()
    before = file.read_bytes()
    opened = Journal(file)
    written = {path.name: path.stat().st_size for path in tmp_path.iterdir() if path != file}
    opened.close()
    assert file.read_bytes() == before
    assert not written.get("journal.db-wal")
