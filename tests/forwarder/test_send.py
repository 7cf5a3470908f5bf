"""`python -m forwarder send`: through the command line, against an archive over a real socket."""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeArchive, Reply
from hospital import hospital
from images import ct_slice, write_ct
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import ImplicitVRLittleEndian, JPEGLSLossless

from forwarder import files
from forwarder.__main__ import main
from forwarder.archive.client import Archive
from forwarder.archive.signing import Signer
from forwarder.header import is_dicom
from forwarder.upload import send as sending
from forwarder.upload.send import SendProgress, send

pytestmark = pytest.mark.usefixtures("credentials")


def client(archive: FakeArchive) -> Archive:
    return Archive(archive.url, Signer("san-matteo"))


def command(archive: FakeArchive, *paths: Path) -> int:
    return main(["send", "--profile", "san-matteo", "--api", archive.url, *map(str, paths)])


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read(body: bytes) -> Dataset:
    return dcmread(BytesIO(body))


def test_a_folder_arrives_bit_for_bit_and_the_command_says_so(archive, tmp_path, capsys):
    files = write_ct(tmp_path, 5)
    assert command(archive, tmp_path) == 0
    assert {digest(path): path.read_bytes() for path in files} == archive.objects
    assert "5 indexed" in capsys.readouterr().out


def test_sending_again_sends_no_byte(archive, tmp_path):
    write_ct(tmp_path, 3)
    assert command(archive, tmp_path) == 0
    assert command(archive, tmp_path) == 0
    assert archive.calls["PUT /objects"] == 3


def test_five_hundred_instances_cost_one_question_and_few_polls(archive, tmp_path):
    write_ct(tmp_path, 500)
    archive.indexing_seconds = 1.0
    summary = send([tmp_path], client(archive))
    assert summary.counts == {"indexed": 500}
    assert archive.calls["POST /uploads"] == 1
    assert archive.calls["PUT /objects"] == 500
    assert archive.calls["POST /uploads/status"] <= 5


def test_the_offer_names_the_study_that_the_header_names(archive, tmp_path):
    (path,) = write_ct(tmp_path, 1, study="1.2.3.4")
    send([path], client(archive))
    assert archive.offers[digest(path)]["study_instance_uid"] == "1.2.3.4"


def test_rejected_files_are_named_with_their_reason_while_the_others_arrive(archive, tmp_path, capsys):
    bad, *good = write_ct(tmp_path, 3)
    archive.verdict = lambda sha256, body: ("rejected", "truncated") if sha256 == digest(bad) else ("indexed", None)
    assert command(archive, tmp_path) == 1
    out = capsys.readouterr().out
    assert bad.name in out and "truncated" in out
    assert all(digest(path) in archive.objects for path in good)


def test_what_the_archive_finds_to_be_no_dicom_is_named_so_that_it_can_be_removed_at_once(archive, tmp_path, capsys):
    bad, *good = write_ct(tmp_path, 2)
    archive.verdict = lambda sha256, body: ("rejected", "not-dicom") if sha256 == digest(bad) else ("indexed", None)
    assert command(archive, tmp_path) == 1
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.endswith(f"rejected remove {digest(bad)}")
    arguments = said[said.index("rejected remove") :].split()
    assert main([*arguments, "--api", archive.url, "--profile", "san-matteo"]) == 0
    assert archive.objects.keys() == {digest(path) for path in good}


class TestWhatStaysInTheHospital:
    """Only what is DICOM is sent, and only what lies in the folder; the rest is said, with its reason."""

    def sent(self, archive, *paths: Path) -> dict[str, tuple[str, str | None]]:
        found = {outcome.path.name: (outcome.state, outcome.reason) for outcome in send(paths, client(archive)).outcomes}
        good = {digest(path) for folder in paths for path in (folder.rglob("*.dcm") if folder.is_dir() else [folder])}
        assert archive.objects.keys() | archive.offers.keys() <= good
        return found

    def test_what_is_no_dicom_is_not_even_offered(self, archive, tmp_path, capsys):
        (image,) = write_ct(tmp_path, 1)
        others = {
            "note.txt": b"not an image", "backup.zip": b"PK\3\4" + bytes(200), "key.pem": b"-----BEGIN PRIVATE KEY-----\n",
            "letter.doc": b"\xd0\xcf\x11\xe0" + bytes(600), "two.bin": b"\2\0", "zeros.bin": bytes(300),
            "eight.bin": b"\x08\0" * 300,
            "polyglot": b"PK\3\4" + bytes(124) + b"DICM\2\0\0\0UL\4\0" + bytes(40),
            "prefix": bytes(128) + b"DICM" + b"secret" * 9,
            "empty": b"",
        }  # fmt: skip
        for name, content in others.items():
            (tmp_path / name).write_bytes(content)
        expected = dict.fromkeys(others, ("not-sent", "not-dicom")) | {"empty": ("not-sent", "empty-file")}
        assert self.sent(archive, tmp_path) == expected | {image.name: ("indexed", None)}
        assert command(archive, tmp_path) == 1
        out = " ".join(capsys.readouterr().out.split())
        assert "not-sent" in out and "backup.zip: not-dicom (not a DICOM instance)" in out

    @pytest.mark.parametrize("name", ["nopreamble-LE", "implicit", "big-endian"])
    def test_a_data_set_without_preamble_is_dicom(self, archive, tmp_path, name):
        ds = ct_slice(1)
        little, implicit = name != "big-endian", name == "implicit"
        if not little:
            ds = dcmread(get_testdata_file("MR_small_bigendian.dcm"))
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ds.file_meta.TransferSyntaxUID
        del ds.file_meta
        ds.save_as(tmp_path / "bare.dcm", implicit_vr=implicit, little_endian=little, enforce_file_format=False)
        assert self.sent(archive, tmp_path) == {"bare.dcm": ("indexed", None)}

    @pytest.mark.filterwarnings("ignore")
    def test_every_file_that_pydicom_brings_and_has_a_sop_class_is_dicom(self, tmp_path):
        missed, looked_at = [], 0
        for path in Path(get_testdata_file("MR_small.dcm")).parent.glob("*.dcm"):
            try:
                ds = dcmread(path, force=True)
            except (ValueError, NotImplementedError, EOFError, AttributeError, TypeError):  # broken on purpose
                continue
            with path.open("rb") as file:
                if ds.get("SOPClassUID") and ds.get("SOPInstanceUID"):
                    looked_at += 1
                    missed += [] if is_dicom(file) else [path.name]
        assert missed == []
        assert looked_at > 50, "most of what pydicom brings is no broken file"

    def test_links_out_of_the_folder_are_not_followed_and_those_within_are(self, archive, tmp_path):
        folder, outside = tmp_path / "folder", tmp_path / "outside"
        (image,) = write_ct(folder / "a", 1)
        (secret,) = write_ct(outside, 1)
        (folder / "up").symlink_to("../outside/" + secret.name)
        (folder / "abs").symlink_to(secret)
        (folder / "dir").symlink_to(outside)
        (folder / "within.dcm").symlink_to("a/" + image.name)
        (folder / "loop").symlink_to("loop")
        found = self.sent(archive, folder)
        assert {found[name] for name in ("up", "abs", "dir")} == {("not-sent", "link-out-of-folder")}
        assert found[image.name] == found["within.dcm"] == ("indexed", None)
        assert digest(secret) not in archive.objects

    def test_a_folder_that_is_named_by_a_link_is_that_folder(self, archive, tmp_path):
        write_ct(tmp_path / "folder", 1)
        (tmp_path / "link").symlink_to("folder")
        assert send([tmp_path / "link"], client(archive)).counts == {"indexed": 1}

    def test_pipes_devices_and_proc_are_not_opened(self, archive, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "socket"))
        (tmp_path / "null").symlink_to("/dev/null")
        found = self.sent(archive, tmp_path)
        assert found == {
            "pipe": ("not-sent", "special-file"), "socket": ("not-sent", "special-file"),
            "null": ("not-sent", "link-out-of-folder"),
        }  # fmt: skip
        for named, reason in {"/dev/zero": "special-file", "/proc/self/environ": "empty-file"}.items():
            summary = send([Path(named), tmp_path / "pipe"], client(archive))
            assert [outcome.reason for outcome in summary.outcomes] == [reason, "special-file"]
        assert not archive.calls

    def test_a_file_that_becomes_a_link_after_it_was_found_leads_nowhere(self, tmp_path):
        folder, outside = tmp_path / "folder", tmp_path / "outside"
        (image,) = write_ct(folder / "a", 1)
        (secret,) = write_ct(outside, 1, study="1.2.3")
        (source,) = files.walk([folder])
        image.unlink()
        image.symlink_to(secret)
        with pytest.raises(files.NotSentError):
            files.know(source)
        image.unlink()
        image.parent.rmdir()
        (folder / "a").symlink_to(outside)
        with pytest.raises(files.NotSentError):
            files.know(source)

    def test_a_file_that_was_replaced_after_it_was_hashed_is_not_sent(self, archive, tmp_path):
        (image,) = write_ct(tmp_path / "folder", 1)
        (other,) = write_ct(tmp_path / "other", 1, study="1.2.3")

        def replace(method: str, where: str, body: bytes) -> None:
            if where == "/uploads":
                image.unlink()
                other.rename(image)
                archive.before = lambda *_: None

        archive.before = replace
        assert send([image], client(archive), lossless=False).counts == {"failed": 1}
        assert archive.calls["PUT /objects"] == 0


def test_conflict_is_code_1_and_echo_is_code_0(archive, tmp_path):
    first, second = write_ct(tmp_path, 2)
    archive.verdict = lambda sha256, body: ("conflict" if sha256 == digest(first) else "echo", None)
    assert command(archive, first) == 1
    assert command(archive, second) == 0


def test_a_state_that_is_not_known_ends_the_waiting_and_is_told(archive, tmp_path, capsys):
    write_ct(tmp_path, 1)
    archive.verdict = lambda sha256, body: ("quarantined", None)
    assert command(archive, tmp_path) == 1
    assert "1 quarantined" in capsys.readouterr().out
    archive.verdict = lambda sha256, body: ("superseded", None)
    assert command(archive, tmp_path) == 0


def test_an_archive_that_lacks_an_instance_and_names_no_address_is_not_asked_for_ever(archive, tmp_path, capsys):
    write_ct(tmp_path, 1)
    archive.ask = lambda instances: [{"sha256": status["sha256"], "state": "absent"} for status in instances]
    assert command(archive, tmp_path) == 2
    assert "names no address" in capsys.readouterr().err


def test_a_conflict_is_told_in_words(archive, tmp_path, capsys):
    (path,) = write_ct(tmp_path, 1)
    archive.verdict = lambda sha256, body: ("conflict", None)
    assert command(archive, path) == 1
    assert "another instance with the same SOP Instance UID" in " ".join(capsys.readouterr().out.split())


def test_two_files_with_the_same_content_are_one_upload_and_two_results(archive, tmp_path):
    (path,) = write_ct(tmp_path, 1)
    (tmp_path / "copy.dcm").write_bytes(path.read_bytes())
    summary = send([tmp_path], client(archive))
    assert archive.calls["PUT /objects"] == 1
    assert summary.counts == {"indexed": 2}


def test_hidden_files_and_dicomdir_of_a_folder_stay_at_home(archive, tmp_path):
    write_ct(tmp_path, 1)
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "DICOMDIR").write_bytes(b"x")
    assert send([tmp_path], client(archive)).counts == {"indexed": 1}


def test_an_empty_file_is_not_sent(archive, tmp_path):
    (tmp_path / "empty.dcm").touch()
    summary = send([tmp_path], client(archive))
    assert [(o.state, o.reason) for o in summary.outcomes] == [("not-sent", "empty-file")]
    assert not archive.calls


def test_an_answer_lost_after_the_commit_ends_in_one_object(archive, tmp_path):
    """The PUT was carried out, the sender hears a broken line, sends again and hears 412."""
    write_ct(tmp_path, 3)
    cut = iter([True, True])
    archive.after = lambda method, path, body: Reply(cut=True) if method == "PUT" and next(cut, False) else None
    assert send([tmp_path], client(archive)).counts == {"indexed": 3}
    assert len(archive.order) == 3


@pytest.mark.parametrize(
    "reply",
    [
        Reply(503, "<Error><Code>SlowDown</Code></Error>"),
        Reply(500),
        Reply(429, headers={"Retry-After": "0"}),
        Reply(409, "<Error><Code>ConditionalRequestConflict</Code></Error>"),
        Reply(cut=True),
    ],
    ids=lambda reply: "cut" if reply.cut else str(reply.status),
)
def test_a_passing_failure_of_the_line_is_overcome(archive, tmp_path, reply):
    write_ct(tmp_path, 4)
    seen: set[str] = set()

    def first_time(method: str, path: str, body: bytes) -> Reply | None:
        kind = f"{method} {path.split('/')[1]}"
        if kind in seen or (reply.status == 409 and method != "PUT"):
            return None
        seen.add(kind)
        return reply

    archive.before = first_time
    assert send([tmp_path], client(archive)).counts == {"indexed": 4}


def test_an_expired_address_is_asked_for_again(archive, tmp_path):
    write_ct(tmp_path, 1)
    archive.url_seconds = -1

    def renew(method: str, path: str, body: bytes) -> None:
        if method == "PUT":
            archive.url_seconds = 300

    archive.before = renew
    assert send([tmp_path], client(archive)).counts == {"indexed": 1}
    assert archive.calls["POST /uploads"] == 2


@pytest.mark.parametrize("ahead", [1200, -1200])
def test_a_clock_twenty_minutes_off_is_corrected_from_the_answer(archive, tmp_path, ahead):
    write_ct(tmp_path, 1)
    archive.clock_ahead = ahead
    assert send([tmp_path], client(archive)).counts == {"indexed": 1}


def test_renewed_credentials_in_the_file_are_picked_up(archive, tmp_path, credentials):
    write_ct(tmp_path, 1)
    good = (credentials / "credentials").read_text()
    (credentials / "credentials").write_text(good.replace("AKIDEXAMPLE", "OLD"))
    signer = Signer("san-matteo")
    (credentials / "credentials").write_text(good)

    def expired(method: str, path: str, body: bytes) -> Reply | None:
        first = archive.calls["POST /uploads"] == 1
        return Reply(403, '{"message": "The security token included in the request is expired"}') if first else None

    archive.before = expired
    assert send([tmp_path], Archive(archive.url, signer)).counts == {"indexed": 1}


def test_one_poison_instance_fails_alone(archive, tmp_path):
    files = write_ct(tmp_path, 5)
    poison = digest(files[2])
    archive.before = lambda method, path, body: (
        Reply(400, "<Error><Code>BadDigest</Code></Error>")
        if method == "PUT" and hashlib.sha256(body).hexdigest() == poison
        else None
    )
    summary = send([tmp_path], client(archive))
    assert summary.counts == {"indexed": 4, "failed": 1}
    assert summary.exit_code == 2


def test_progress_ends_with_everything_done(archive, tmp_path):
    write_ct(tmp_path, 3)
    seen: list[SendProgress] = []
    send([tmp_path], client(archive), seen.append)
    last = seen[-1]
    assert (last.files, last.hashed, last.sent, last.settled) == (3, 3, 3, 3)
    assert last.bytes_sent == last.bytes_total > 0


class TestLossless:
    """What is uncompressed is compressed on the way, unless that is switched off."""

    def test_every_pixel_and_element_arrives_in_fewer_bytes_and_the_original_is_named(self, archive, tmp_path, capsys):
        files = write_ct(tmp_path, 3, edge=128)
        assert command(archive, tmp_path) == 0
        assert {offer["original_sha256"] for offer in archive.offers.values()} == {digest(path) for path in files}
        arrived = {str(ds.SOPInstanceUID): ds for ds in map(read, archive.objects.values())}
        for path in files:
            sent, got = dcmread(path), arrived[str(dcmread(path).SOPInstanceUID)]
            assert got.file_meta.TransferSyntaxUID == JPEGLSLossless
            assert np.array_equal(sent.pixel_array, got.pixel_array)
            del sent.PixelData, got.PixelData
            assert list(sent) == list(got)
        assert sum(map(len, archive.objects.values())) < sum(path.stat().st_size for path in files) / 2
        assert "saved by compressing" in capsys.readouterr().out

    def test_again_no_byte_is_sent_and_nothing_compressed(self, archive, tmp_path):
        write_ct(tmp_path, 2, edge=128)
        assert command(archive, tmp_path) == command(archive, tmp_path) == 0
        assert archive.calls["PUT /objects"] == 2
        assert archive.calls["POST /uploads"] == 1

    def test_what_the_archive_has_as_it_was_made_is_not_sent_compressed(self, archive, tmp_path):
        files = write_ct(tmp_path, 2, edge=128)
        assert send([tmp_path], client(archive), lossless=False).counts == {"indexed": 2}
        assert send([tmp_path], client(archive)).counts == {"indexed": 2}
        assert archive.objects.keys() == {digest(path) for path in files}

    def test_the_switch_sends_the_very_bytes(self, archive, tmp_path):
        files = write_ct(tmp_path, 2, edge=128)
        arguments = ["send", "--no-lossless", "--profile", "san-matteo", "--api", archive.url, str(tmp_path)]
        assert main(arguments) == 0
        assert {digest(path): path.read_bytes() for path in files} == archive.objects

    def test_the_configuration_switches_it_off_and_the_command_line_on_again(self, archive, tmp_path):
        place = hospital(tmp_path / "place", archive.url, send__lossless=False)
        first, second = write_ct(tmp_path / "ct", 2, edge=128)
        assert main(["send", "--config", str(place.write_config()), str(first)]) == 0
        assert archive.objects.keys() == {digest(first)}
        assert main(["send", "--config", str(place.write_config()), "--lossless", str(second)]) == 0
        assert digest(second) not in archive.objects and len(archive.objects) == 2

    def test_while_one_batch_is_sent_the_next_is_compressed_and_all_arrive(self, archive, tmp_path, monkeypatch):
        files = write_ct(tmp_path, 7, edge=128)
        monkeypatch.setattr(sending, "BATCH_BYTES", 2 * files[0].stat().st_size)
        assert send([tmp_path], client(archive)).counts == {"indexed": 7}
        assert archive.calls["POST /uploads"] == 4

    def test_nothing_is_left_of_the_compressed_forms(self, archive, tmp_path, monkeypatch):
        folder = tmp_path / "temporary"
        folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        write_ct(tmp_path / "ct", 2, edge=128)
        seen: list[int] = []
        archive.before = lambda *_: seen.append(len(list(folder.rglob("*"))))
        assert send([tmp_path / "ct"], client(archive)).counts == {"indexed": 2}
        assert max(seen) == 3  # the folder of this run and two files
        assert not list(folder.iterdir())

    def test_without_a_place_to_compress_in_the_way_out_is_named(self, archive, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
        write_ct(tmp_path, 1, edge=128)
        assert command(archive, tmp_path) == 2
        assert "--no-lossless" in capsys.readouterr().err

    def test_a_file_that_changes_under_the_senders_hand_is_never_sent_as_what_it_was(self, archive, tmp_path):
        (path,) = write_ct(tmp_path, 1, edge=128)

        def change(method: str, where: str, body: bytes) -> None:
            if where == "/uploads/status" and not archive.objects:  # it was hashed, and is compressed next
                data = bytearray(path.read_bytes())
                data[-1000] ^= 1
                path.write_bytes(data)
                archive.before = lambda *_: None

        archive.before = change
        summary = send([path], client(archive))
        assert summary.counts == {"failed": 1} and summary.packing_failures == 1
        assert not archive.objects


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_named_and_the_others_arrive(archive, tmp_path):
    files = write_ct(tmp_path, 2)
    files[0].chmod(0)
    summary = send([tmp_path], client(archive))
    assert summary.counts == {"indexed": 1, "unreadable": 1}


class TestWhatTheUserReads:
    def says(self, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str) -> None:
        assert main(["send", *arguments]) == 2
        captured = capsys.readouterr()
        assert text in captured.err and "Traceback" not in captured.err

    def test_no_such_file(self, capsys, archive, tmp_path):
        paths = ["--profile", "san-matteo", "--api", archive.url, str(tmp_path / "nowhere")]
        self.says(capsys, paths, "There is no file or folder")

    def test_no_such_profile(self, capsys, archive, tmp_path):
        self.says(capsys, ["--profile", "x", "--api", archive.url, str(tmp_path)], "profile (x)")

    def test_no_credentials_at_all(self, capsys, archive, tmp_path):
        write_ct(tmp_path, 1)
        self.says(capsys, ["--api", archive.url, str(tmp_path)], "No AWS credentials were found")

    def test_no_address(self, capsys, tmp_path):
        self.says(capsys, [str(tmp_path)], "--api")

    def test_nobody_answers(self, capsys, tmp_path):
        write_ct(tmp_path, 1)
        arguments = ["--profile", "san-matteo", "--api", "http://127.0.0.1:9", str(tmp_path)]
        self.says(capsys, arguments, "connection was refused")

    def test_an_unknown_institution(self, capsys, archive, tmp_path):
        write_ct(tmp_path, 1)
        archive.before = lambda *_: Reply(403, '{"type": "…:unknown-institution", "detail": "No such role."}')
        self.says(capsys, ["--profile", "san-matteo", "--api", archive.url, str(tmp_path)], "No such role.")
