"""The same forwarder against the real local city instead of the fake archive: the two must agree on the contract."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import requests
from fakes import FakeArchive
from hospital import hospital, store, until
from images import ct_slice, write_ct
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO

from forwarder.archive.client import Archive, Offer
from forwarder.archive.signing import Signer
from forwarder.errors import ArchiveError, Failure
from forwarder.service import running
from forwarder.upload.send import send

STUDY = "1.2.826.0.1.3680043.10.55"


@pytest.fixture
def real(city, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """San Matteo's view of the real city."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", city.endpoints["aws_config_file"])
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", city.endpoints["aws_shared_credentials_file"])
    return Archive(city.api, Signer("san-matteo"))


@pytest.fixture
def fake(archive: FakeArchive, credentials: Path) -> Archive:
    return Archive(archive.url, Signer("san-matteo"))


@pytest.fixture(params=["fake", "real"])
def either(request: pytest.FixtureRequest) -> Archive:
    """The contract's client before each of the two."""
    found: Archive = request.getfixturevalue(request.param)
    return found


class TestTheContract:
    def test_absent_then_put_then_known_and_a_second_put_is_success(self, either: Archive, tmp_path: Path):
        (path,) = write_ct(tmp_path, 1, study=f"{STUDY}.{id(either)}")
        digest, size = hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size
        (standing,) = either.ask([Offer(digest, size)])
        assert standing.state == "absent" and standing.upload is not None
        for _ in range(2):
            with path.open("rb") as file:
                either.put(standing.upload, file, size)
        (standing,) = until(lambda: [s for s in either.status([digest]) if s.state != "stored"])
        assert standing.state == "indexed"
        assert either.ask([Offer(digest, size)])[0].upload is None

    def test_other_bytes_are_refused_as_this_instances_fault(self, either: Archive, tmp_path: Path):
        (path,) = write_ct(tmp_path, 1, study=f"{STUDY}.{id(either)}")
        digest, size = hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size
        (standing,) = either.ask([Offer(digest, size)])
        wrong = tmp_path / "wrong"
        wrong.write_bytes(bytes(size))
        assert standing.upload is not None
        with wrong.open("rb") as file, pytest.raises(ArchiveError) as caught:
            either.put(standing.upload, file, size)
        assert caught.value.failure is Failure.INSTANCE

    def test_a_question_that_cannot_be_parsed_is_an_instances_fault(self, either: Archive):
        with pytest.raises(ArchiveError) as caught:
            either.ask([Offer("0" * 64, 1)] * 501)
        assert caught.value.failure is Failure.INSTANCE

    def test_what_is_no_dicom_is_removed_and_an_image_is_kept(self, either: Archive, tmp_path: Path, request):
        archive: FakeArchive | None = request.getfixturevalue("archive") if "fake" in request.node.name else None
        if archive is not None:
            archive.verdict = lambda sha256, body: ("indexed", None) if b"DICM" in body else ("rejected", "not-dicom")
        (image,) = write_ct(tmp_path, 1, study=f"{STUDY}.{id(either)}")
        junk = tmp_path / "junk"
        junk.write_bytes(b"a zipped folder")
        removed = {}
        for path in (image, junk):
            digest, size = hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size
            (standing,) = either.ask([Offer(digest, size)])
            assert standing.upload is not None
            with path.open("rb") as file:
                either.put(standing.upload, file, size)
            until(lambda digest=digest: [s for s in either.status([digest]) if s.state != "stored"])
            removed[path.name] = [either.remove(digest), either.remove(digest)]
        assert removed == {image.name: [False, False], "junk": [True, True]}
        assert either.remove("0" * 64) is None

    @pytest.mark.parametrize("hours", [-1, 1])
    def test_a_wrong_clock_is_put_right(self, either: Archive, hours: int):
        either.signer.clock.offset = hours * 3600.0
        (standing,) = either.status(["0" * 64])
        assert standing.state == "absent"


def test_by_c_store_compressed_and_read_back_identical(city, real: Archive, tmp_path: Path):
    place = hospital(tmp_path, city.api)
    study = f"{STUDY}.2"
    slices = [ct_slice(n, study=study, edge=128) for n in range(1, 4)]
    with running(place.config()):
        assert store(place, slices) == [0x0000] * 3
        state = until(lambda: place.settled(3))
    assert state["indexed"] == 3
    manifest = city.client("san-matteo").get(f"/studies/{study}/manifest").json()
    originals = {entry["original_sha256"] for entry in manifest["instances"]}
    assert len(originals) == 3
    by_uid = {ds.SOPInstanceUID: ds for ds in slices}
    for entry in manifest["instances"]:
        body = requests.get(entry["url"], timeout=60).content
        got, sent = dcmread(DicomBytesIO(body)), by_uid[entry["sop_instance_uid"]]
        assert np.array_equal(got.pixel_array, np.frombuffer(sent.PixelData, "<u2").reshape(128, 128))
        del got.PixelData
        assert list(got) == [element for element in sent if element.keyword != "PixelData"]


def test_what_was_sent_compressed_is_not_sent_again_as_the_original(city, real: Archive, tmp_path: Path):
    """The same file by the watched folder and by `send` is one instance, no conflict: it is known by its original."""
    inbox = tmp_path / "inbox"
    files = write_ct(inbox, 2, study=f"{STUDY}.3", edge=128)
    place = hospital(
        tmp_path, city.api, watch__folder=str(inbox), watch__settled_seconds=0, watch__every_seconds=0.1,
        watch__after="keep",
    )  # fmt: skip
    with running(place.config()):
        state = until(lambda: place.settled(2))
    assert state["indexed"] == 2 and state["traffic"]["bytes_saved"] > 0
    assert send(files, real).counts == {"indexed": 2}
    assert real.calls.put == 0


def test_sent_from_the_command_line_it_is_compressed_and_read_back_identical(city, real: Archive, tmp_path: Path):
    """The promise: every pixel and every element, and the original's SHA-256 kept with the instance."""
    study = f"{STUDY}.4"
    files = write_ct(tmp_path / "ct", 3, study=study, edge=128)
    assert send(files, real).counts == {"indexed": 3}
    assert real.calls.bytes_put < sum(path.stat().st_size for path in files) / 2
    manifest = city.client("san-matteo").get(f"/studies/{study}/manifest").json()
    by_digest = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in files}
    assert {entry["original_sha256"] for entry in manifest["instances"]} == by_digest.keys()
    for entry in manifest["instances"]:
        got, sent = (
            dcmread(DicomBytesIO(requests.get(entry["url"], timeout=60).content)),
            dcmread(by_digest[entry["original_sha256"]]),
        )
        assert np.array_equal(got.pixel_array, sent.pixel_array)
        del got.PixelData, sent.PixelData
        assert list(got) == list(sent)
    again = Archive(real.api, real.signer)
    assert send(files, again).counts == {"indexed": 3}
    assert send(files, again, lossless=False).counts == {"indexed": 3}
    assert again.calls.put == 0


def test_with_the_switch_what_is_read_is_bit_for_bit_what_was_sent(city, real: Archive, tmp_path: Path):
    study = f"{STUDY}.5"
    files = write_ct(tmp_path / "ct", 2, study=study, edge=128)
    assert send(files, real, lossless=False).counts == {"indexed": 2}
    manifest = city.client("san-matteo").get(f"/studies/{study}/manifest").json()
    got = {requests.get(entry["url"], timeout=60).content for entry in manifest["instances"]}
    assert got == {path.read_bytes() for path in files}
    assert send(files, real).counts == {"indexed": 2}
    assert real.calls.put == 2
