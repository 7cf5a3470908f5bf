"""The way out under every kind of failure, with the conservation check throughout."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeArchive, Reply
from hospital import Hospital, conserved, hospital, store, until
from images import ct_slice, write
from pydicom import dcmread
from pydicom.uid import JPEGLSLossless

from forwarder.archive import client as contract
from forwarder.service import running
from forwarder.spool.clock import straighten
from forwarder.spool.spool import Spool
from forwarder.upload import outbox

pytestmark = pytest.mark.usefixtures("credentials")


def number_of(body: bytes) -> int:
    return int(dcmread(BytesIO(body)).InstanceNumber)


def plain(folder: Path, archive: FakeArchive, **values) -> Hospital:
    return hospital(folder, archive.url, send__lossless=False, **values)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(503, "<Error><Code>SlowDown</Code></Error>"),
        Reply(503, headers={"Retry-After": "0"}),
        Reply(500),
        Reply(429, headers={"Retry-After": "0"}),
        Reply(409, "<Error><Code>ConditionalRequestConflict</Code></Error>"),
        Reply(403, '{"message": "Signature expired: now is later"}'),
        Reply(403, '{"message": "The security token included in the request is expired"}'),
        Reply(cut=True),
    ],
    ids=["slow-down", "unavailable", "server", "throttled", "busy", "skew", "credentials", "cut"],
)
def test_a_failure_that_passes_is_waited_out(archive: FakeArchive, tmp_path, reply):
    place = plain(tmp_path, archive)
    left = {"PUT": 3, "POST": 3}
    lock = threading.Lock()

    def fail_some(method: str, path: str, body: bytes) -> Reply | None:
        with lock:
            left[method] -= 1
            return reply if left[method] >= 0 else None

    archive.before = fail_some
    with running(place.config()):
        assert store(place, [ct_slice(n) for n in range(1, 9)]) == [0x0000] * 8
        state = until(lambda: place.settled(8))
    assert state["indexed"] == 8
    assert len(archive.order) == 8


def test_answers_lost_after_the_commit_end_in_one_object_each(archive: FakeArchive, tmp_path):
    chance = random.Random(7)
    archive.after = lambda method, path, body: Reply(cut=True) if chance.random() < 0.3 else None
    place = plain(tmp_path, archive)
    with running(place.config()):
        assert store(place, [ct_slice(n) for n in range(1, 31)]) == [0x0000] * 30
        until(lambda: place.settled(30))
    assert len(archive.order) == len(set(archive.order)) == 30


def test_one_poison_instance_never_holds_up_the_rest(archive: FakeArchive, tmp_path):
    place = plain(tmp_path, archive)
    archive.before = lambda method, path, body: (
        Reply(400, "<Error><Code>BadDigest</Code></Error>") if method == "PUT" and number_of(body) == 1 else None
    )
    with running(place.config()):
        store(place, [ct_slice(1)])
        store(place, [ct_slice(n) for n in range(100, 120)])
        until(lambda: place.state()["indexed"] == 20)
        state = until(lambda: place.state() if place.state()["troubled"] else None)
        conserved(state)
        assert (state["waiting"], state["line"]["open"]) == (1, True)
        archive.before = lambda *_: None


def test_one_instance_that_spoils_the_question_is_found_by_halving(archive: FakeArchive, tmp_path):
    place = plain(tmp_path, archive, send__linger_seconds=0.5)
    archive.before = lambda method, path, body: (
        Reply(400, '{"detail": "cannot be parsed"}') if path == "/uploads" and b"9.9.9.9" in body else None
    )
    with running(place.config()):
        store(place, [ct_slice(1, study="9.9.9.9"), *(ct_slice(n) for n in range(2, 20))])
        until(lambda: place.state()["indexed"] == 18)
        assert place.state()["waiting"] == 1
        archive.before = lambda *_: None


def test_rejected_instances_stay_aside_and_the_others_leave(archive: FakeArchive, tmp_path):
    place = plain(tmp_path, archive)
    archive.verdict = lambda sha256, body: ("rejected", "meta-mismatch") if number_of(body) == 2 else ("indexed", None)
    with running(place.config()):
        store(place, [ct_slice(n) for n in (1, 2, 3)])
        state = until(lambda: place.settled(3))
    assert (state["indexed"], state["rejected"], state["aside"]) == (2, 1, {"meta-mismatch": 1})
    assert len([path for path in (place.spool / "instances").rglob("*") if path.is_file()]) == 1


def test_an_echo_counts_as_indexed_and_a_conflict_as_rejected(archive: FakeArchive, tmp_path):
    place = plain(tmp_path, archive)
    archive.verdict = lambda sha256, body: (("echo" if number_of(body) == 2 else "conflict", None))
    with running(place.config()):
        store(place, [ct_slice(n) for n in (1, 2)])
        state = until(lambda: place.settled(2))
    assert (state["indexed"], state["echo"], state["rejected"], state["conflict"]) == (1, 1, 1, 1)


def test_what_conflicts_compressed_is_sent_as_it_was_received(archive: FakeArchive, tmp_path):
    """The archive compares only what has one transfer syntax; what is there may have come by the door, uncompressed."""
    place = hospital(tmp_path, archive.url)
    image = ct_slice(1, edge=128)

    def is_packed(body: bytes) -> bool:
        return dcmread(BytesIO(body)).file_meta.TransferSyntaxUID == JPEGLSLossless

    archive.verdict = lambda sha256, body: ("conflict", "conflicting-patient") if is_packed(body) else ("indexed", None)
    with running(place.config()):
        store(place, [image])
        state = until(lambda: place.settled(1))
    assert (state["indexed"], state["conflict"], state["aside"], state["troubles"]) == (1, 0, {}, [])
    packed, as_received = archive.objects.values()
    assert is_packed(packed) and dcmread(BytesIO(as_received)).PixelData == image.PixelData
    assert not [path for path in place.spool.rglob("*") if path.is_file() and path.parent.parent.name in ("packed", "instances")]


def test_a_conflict_in_which_the_patient_differs_is_a_trouble_of_its_own_sent_either_way(archive: FakeArchive, tmp_path):
    place = hospital(tmp_path, archive.url)
    archive.verdict = lambda sha256, body: ("conflict", "conflicting-patient")
    with running(place.config()):
        store(place, [ct_slice(1, edge=128)])
        state = until(lambda: place.settled(1))
        assert (state["conflict"], state["aside"]) == (1, {"conflicting-patient": 1})
        assert "patient-not-corrected" in place.state()["troubles"]
    assert len(archive.objects) == 2


def test_what_the_archive_has_lost_again_is_sent_again(archive: FakeArchive, tmp_path):
    place = plain(tmp_path, archive)
    archive.indexing_seconds = 3600
    with running(place.config()):
        store(place, [ct_slice(1)])
        until(lambda: place.state()["at_archive"] == 1)
        archive.objects.clear()
        archive.indexing_seconds = 0
        until(lambda: place.settled(1))
    assert len(archive.order) == 2


def test_a_restart_sends_nothing_twice(archive: FakeArchive, tmp_path):
    place = plain(tmp_path, archive)
    archive.indexing_seconds = 3600
    with running(place.config()):
        store(place, [ct_slice(n) for n in range(1, 6)])
        until(lambda: place.state()["at_archive"] == 5)
    archive.indexing_seconds = 0
    with running(place.config()):
        until(lambda: place.settled(5))
    assert archive.calls["PUT /objects"] == 5


@pytest.mark.parametrize("ahead", [1200, -1200])
def test_a_clock_twenty_minutes_off_stops_nothing_and_is_shown(archive: FakeArchive, tmp_path, ahead):
    archive.clock_ahead = ahead
    place = plain(tmp_path, archive)
    with running(place.config()):
        store(place, [ct_slice(1)])
        state = until(lambda: place.settled(1))
    assert abs(state["line"]["skew_seconds"] - ahead) < 5


def test_addresses_that_expired_while_the_line_was_slow_are_asked_for_again(archive: FakeArchive, tmp_path):
    place = plain(tmp_path, archive)
    archive.url_seconds = -1
    with running(place.config()):
        store(place, [ct_slice(1)])
        until(lambda: archive.calls["POST /uploads"] >= 2)
        archive.url_seconds = 300
        until(lambda: place.settled(1))


def test_the_newest_urgent_study_goes_first(archive: FakeArchive, tmp_path):
    place = plain(tmp_path, archive, send__parallel=1, send__urgent=[{"modality": ["CR"]}])
    hold = threading.Event()
    archive.before = lambda method, path, body: None if hold.is_set() else Reply(503)
    studies = {}

    def keep(study: str, modality: str) -> None:
        datasets = [ct_slice(n, study=study, modality=modality) for n in (1, 2)]
        assert store(place, datasets) == [0x0000] * 2
        studies.update({ds.SOPInstanceUID: study for ds in datasets})

    with running(place.config()):
        for study, modality in (("1.1", "CT"), ("1.2", "CR"), ("1.3", "CT"), ("1.4", "CR")):
            keep(study, modality)
        hold.set()
        until(lambda: place.settled(8))
    order = [studies[dcmread(BytesIO(archive.objects[sha256])).SOPInstanceUID] for sha256 in archive.order]
    assert order == ["1.4", "1.4", "1.2", "1.2", "1.1", "1.1", "1.3", "1.3"]


def test_what_a_wrong_clock_put_off_for_a_year_is_due_once_the_clock_is_right(archive: FakeArchive, tmp_path):
    place = plain(tmp_path, archive)
    spool = Spool(place.spool)
    with write(ct_slice(1), tmp_path / "x.dcm").open("rb") as file:
        digest = spool.admit_file(file)
    spool.journal.write(
        lambda connection: connection.execute(
            "UPDATE instances SET not_before = ? WHERE digest = ?", (time.time() + 365 * 86400, digest)
        )
    )
    spool.close()
    with running(place.config()):
        until(lambda: place.settled(1))


def test_what_is_stored_and_not_judged_yet_stays_on_the_disk(archive: FakeArchive, tmp_path):
    place, asked = plain(tmp_path, archive), []
    archive.indexing_seconds = 60.0
    archive.after = lambda method, path, body: asked.append(path) if path.endswith("/status") else None
    with running(place.config()):
        assert store(place, [ct_slice(1)]) == [0x0000]
        until(lambda: len(asked) > 1)  # the archive said "stored" once, and that was heard
        (file,) = (path for path in place.spool.rglob("*") if path.is_file() and len(path.name) == 64)
        assert place.state()["at_archive"] == 1
        archive.indexing_seconds = 0.0
        until(lambda: place.settled(1))
        assert not file.exists()


@pytest.mark.parametrize("back", [0.0, 1200.0], ids=["at the start", "while it runs"])
def test_what_a_clock_twenty_minutes_ahead_put_off_is_due_when_it_would_have_been(archive: FakeArchive, tmp_path, back: float):
    place = plain(tmp_path, archive)
    spool = Spool(place.spool)
    with write(ct_slice(1), tmp_path / "x.dcm").open("rb") as file:
        digest = spool.admit_file(file)
    ahead = time.time() + 1200
    spool.journal.write(
        lambda connection: connection.execute(
            "UPDATE instances SET state = 'stored', received_at = ?, stored_at = ?, not_before = ? WHERE digest = ?",
            (time.time() if back else ahead, time.time() if back else ahead, ahead + 4, digest),
        )
    )
    straighten(spool.journal, back)
    with spool.journal.read() as connection:
        (due,) = connection.execute("SELECT not_before FROM instances").fetchone()
    assert time.time() < due <= time.time() + 5
    spool.close()


def test_an_endless_answer_does_not_fill_the_memory(archive: FakeArchive, tmp_path, monkeypatch):
    """A proxy's page of any size instead of the archive's words."""
    monkeypatch.setattr(contract, "LARGEST_ANSWER", 10_000)
    place = plain(tmp_path, archive)
    archive.before = lambda *_: Reply(200, "x" * 50_000)
    with running(place.config()):
        store(place, [ct_slice(1)])
        until(lambda: place.state()["troubles"] == ["protocol"])
        archive.before = lambda *_: None
        until(lambda: place.settled(1))


def test_what_is_urgent_goes_first_even_when_all_that_may_be_under_way_is(archive: FakeArchive, tmp_path, monkeypatch):
    monkeypatch.setattr(outbox, "IN_FLIGHT", 4)
    monkeypatch.setattr(outbox, "UPLOADING", 1)
    place = plain(tmp_path, archive, send__parallel=1, send__urgent=[{"modality": ["CR"]}])
    archive.line.clear()
    with running(place.config()):
        assert store(place, [ct_slice(n) for n in range(1, 7)]) == [0x0000] * 6
        until(lambda: archive.on_the_line)
        asked = archive.calls["POST /uploads"]  # no more is asked about while one is on the line
        assert store(place, [ct_slice(99, modality="CR")]) == [0x0000]
        until(lambda: archive.calls["POST /uploads"] > asked)
        archive.line.set()
        until(lambda: place.settled(7))
    order = [number_of(archive.objects[sha256]) for sha256 in archive.order]
    assert order.index(99) <= 2  # besides what was on the line then


def test_after_12_refusals_of_the_store_an_instance_is_put_aside_and_no_sooner(archive: FakeArchive, tmp_path, monkeypatch):
    monkeypatch.setattr(outbox, "pause", lambda *_: 0.0)
    place, refused = plain(tmp_path, archive), []

    def refuse(method: str, path: str, body: bytes) -> Reply | None:
        if method != "PUT" or not path.startswith("/objects/"):
            return None
        refused.append(path)
        return Reply(400, "<Error><Code>BadDigest</Code></Error>")

    archive.before = refuse
    with running(place.config()):
        store(place, [ct_slice(1)])
        assert until(lambda: place.settled(1))["aside"] == {"refused-by-the-store": 1}
    assert len(refused) == 12


def test_one_question_is_of_500_instances_at_the_most(archive: FakeArchive, tmp_path, monkeypatch):
    assert contract.BATCH == outbox.BATCH == 500
    monkeypatch.setattr(outbox, "BATCH", 5)
    place, asked = plain(tmp_path, archive, send__linger_seconds=0.1), []

    def note(method: str, path: str, body: bytes) -> Reply | None:
        if path == "/uploads":
            asked.append(len(json.loads(body)["instances"]))
        return None

    spool = Spool(place.spool)
    for number in range(11):
        with write(ct_slice(number + 1, edge=8), tmp_path / "x.dcm").open("rb") as file:
            spool.admit_file(file)
    spool.close()
    archive.before = note
    with running(place.config()):
        until(lambda: place.settled(11))
    assert max(asked) == 5


def test_a_whole_study_costs_few_questions(archive: FakeArchive, tmp_path):
    place = plain(tmp_path, archive, send__linger_seconds=0.5)
    archive.indexing_seconds = 0.5
    with running(place.config()):
        began = time.monotonic()
        assert store(place, [ct_slice(n) for n in range(1, 201)]) == [0x0000] * 200
        receiving = time.monotonic() - began
        until(lambda: place.settled(200))
    assert archive.calls["POST /uploads"] <= receiving / 0.5 + 3
    assert archive.calls["POST /uploads/status"] <= receiving / 0.5 + 6


class TestLossless:
    def test_what_arrives_is_compressed_and_identical_in_every_pixel_and_element(self, archive: FakeArchive, tmp_path):
        place = hospital(tmp_path, archive.url)
        sent = ct_slice(1, edge=128)
        with running(place.config()):
            assert store(place, [sent]) == [0x0000]
            state = until(lambda: place.settled(1))
        ((sha256, body),) = archive.objects.items()
        arrived = dcmread(BytesIO(body))
        assert arrived.file_meta.TransferSyntaxUID == JPEGLSLossless
        assert np.array_equal(arrived.pixel_array, sent_pixels(sent))
        del arrived.PixelData, sent.PixelData
        assert arrived == sent
        assert state["traffic"]["bytes_saved"] > 0
        assert len(archive.offers[sha256]["original_sha256"]) == 64

    def test_the_originals_digest_is_that_of_the_bytes_as_received(self, archive: FakeArchive, tmp_path):
        place = hospital(tmp_path, archive.url)
        archive.verdict = lambda sha256, body: ("rejected", "x")  # so that the original stays in the spool
        with running(place.config()):
            store(place, [ct_slice(1, edge=128)])
            until(lambda: place.settled(1))
        (original,) = [path for path in (place.spool / "instances").rglob("*") if path.is_file()]
        digest = hashlib.sha256(original.read_bytes()).hexdigest()
        assert original.name == digest
        assert [offer.get("original_sha256") for offer in archive.offers.values()] == [digest]

    def test_a_compressed_file_that_is_damaged_is_made_again(self, archive: FakeArchive, tmp_path):
        place = hospital(tmp_path, archive.url)
        hold = threading.Event()
        archive.before = lambda method, path, body: None if hold.is_set() else Reply(503)
        with running(place.config()):
            store(place, [ct_slice(1, edge=128)])
            (packed,) = until(lambda: [p for p in (place.spool / "packed").rglob("*") if p.is_file()])
            until(lambda: place.state()["line"]["error"])
            data = bytearray(packed.read_bytes())
            data[-100] ^= 1
            packed.write_bytes(data)
            hold.set()
            state = until(lambda: place.settled(1))
        assert state["indexed"] == 1

    def test_an_original_that_is_damaged_is_never_sent_and_told(self, archive: FakeArchive, tmp_path):
        place = plain(tmp_path, archive)
        hold = threading.Event()
        archive.before = lambda method, path, body: None if hold.is_set() else Reply(503)
        with running(place.config()):
            store(place, [ct_slice(1)])
            (path,) = [p for p in (place.spool / "instances").rglob("*") if p.is_file()]
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(data)
            hold.set()
            state = until(lambda: place.settled(1))
        assert state["aside"] == {"damaged-in-spool": 1}
        assert not archive.objects

    def test_an_original_that_rots_before_it_is_compressed_is_not_made_sound_by_it(self, archive: FakeArchive, tmp_path):
        place = hospital(tmp_path, archive.url)
        spool = Spool(place.spool)
        with write(ct_slice(1, edge=128), tmp_path / "x.dcm").open("rb") as file:
            digest = spool.admit_file(file)
        spool.close()
        data = bytearray(spool.path(digest).read_bytes())
        data[-1000] ^= 1
        spool.path(digest).write_bytes(data)
        with running(place.config()):
            state = until(lambda: place.settled(1))
        assert state["aside"] == {"damaged-in-spool": 1}
        assert not archive.objects


def sent_pixels(ds):
    return np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns)
