"""DICOM in: what senders of all kinds are answered, and what stands in the spool afterwards."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import time
from io import BytesIO
from pathlib import Path

import psutil
import pytest
from certificates import Authority, client_context
from fakes import FakeArchive
from hospital import Hospital, dcmtk, hospital, process, store, until
from images import ct_slice, write_ct
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)
from pynetdicom import AE, evt
from pynetdicom.dsutils import encode, encode_file_meta
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification
from raw_dicom import COMMITMENT, CT, EXPLICIT, IMPLICIT, RELEASE, Sender, command, context, request, status, store_request, user

from forwarder.dicom import associations, commitment, scp, storage
from forwarder.service import running
from forwarder.spool.journal import open_read_only
from forwarder.spool.spool import Spool
from local.processes import free_port

pytestmark = pytest.mark.usefixtures("credentials")
NOWHERE = "http://127.0.0.1:9"  # an archive that never answers


def spooled(place: Hospital) -> list[Path]:
    return sorted(path for path in (place.spool / "instances").rglob("*") if path.is_file())


def associate(place: Hospital, contexts, **options):
    ae = AE(options.pop("calling", "MODALITY"))
    ae.acse_timeout = ae.connection_timeout = 10
    ae.dimse_timeout = 10
    for abstract, syntaxes in contexts:
        ae.add_requested_context(abstract, syntaxes)
    return ae.associate("127.0.0.1", place.port, **options)


def test_echo_is_answered(tmp_path):
    place = hospital(tmp_path, NOWHERE)
    with running(place.config()):
        assoc = associate(place, [(Verification, None)])
        assert assoc.send_c_echo().Status == 0x0000
        assoc.release()


@pytest.mark.skipif(not dcmtk("echoscu"), reason="DCMTK's echoscu is not installed")
def test_dcmtk_echoes(tmp_path):
    place = hospital(tmp_path, NOWHERE)
    with running(place.config()):
        subprocess.run(["/usr/bin/echoscu", "127.0.0.1", str(place.port)], check=True, timeout=30)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_the_data_set_is_kept_byte_for_byte_in_the_syntax_that_was_agreed(tmp_path, syntax):
    place = hospital(tmp_path, NOWHERE)
    ds = dcmread(get_testdata_file("MR_small.dcm"))
    little = syntax != ExplicitVRBigEndian
    if not little:
        ds = dcmread(get_testdata_file("MR_small_bigendian.dcm"))
    ds.file_meta.TransferSyntaxUID = syntax
    sent = BytesIO()
    ds.save_as(sent, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=little, enforce_file_format=True)
    sent.seek(0)
    ds = dcmread(sent)
    with running(place.config()):
        assoc = associate(place, [(ds.SOPClassUID, syntax)])
        assert assoc.send_c_store(ds).Status == 0x0000
        assoc.release()
        (path,) = spooled(place)
        kept = path.read_bytes()
    assert data_set_of(kept) == data_set_of(sent.getvalue())


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "examples_jpeg2k.dcm", "SC_rgb_jpeg_gdcm.dcm"])
def test_compressed_images_come_as_they_are(tmp_path, name):
    place = hospital(tmp_path, NOWHERE)
    ds = dcmread(get_testdata_file(name))
    with running(place.config()):
        assoc = associate(place, [(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)])
        assert assoc.send_c_store(ds).Status == 0x0000
        assoc.release()
        (path,) = spooled(place)
        kept = dcmread(path)
        assert kept.PixelData == ds.PixelData
        assert kept.file_meta.TransferSyntaxUID == ds.file_meta.TransferSyntaxUID


def test_every_storage_class_and_syntax_is_accepted():
    supported = scp.supported_syntaxes(["1.2.3.4.5"])
    assert {"1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.104.1", "1.2.3.4.5"} <= supported.keys()
    assert len(supported) > 150
    assert all(len(syntaxes) > 30 for uid, syntaxes in supported.items() if ".5.1.4.1.1." in uid)


def test_uncompressed_is_chosen_where_a_sender_offers_lossy_too(tmp_path):
    place = hospital(tmp_path, NOWHERE)
    with running(place.config()):
        offer = ["1.2.840.10008.1.2.4.50", ImplicitVRLittleEndian, JPEG2000Lossless, ExplicitVRLittleEndian]
        assoc = associate(place, [(ct_slice().SOPClassUID, offer)])
        (context,) = assoc.accepted_contexts
        assoc.release()
    assert context.transfer_syntax == [ExplicitVRLittleEndian]


def test_a_private_class_is_stored_once_it_is_configured(archive, tmp_path):
    place = hospital(tmp_path, archive.url, dicom__extra_sop_classes=["1.2.246.352.70.1.70"])
    ds = ct_slice()
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.246.352.70.1.70"
    with running(place.config()):
        assert store(place, [ds]) == [0x0000]


def test_a_retired_class_of_old_equipment_is_stored(tmp_path):
    place = hospital(tmp_path, NOWHERE)
    ds = dcmread(get_testdata_file("color-pl.dcm"))
    assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.6"  # Ultrasound Image, retired in 1993
    with running(place.config()):
        assert store(place, [ds]) == [0x0000]


def test_only_allowed_callers_get_in(tmp_path):
    place = hospital(tmp_path, NOWHERE, dicom__allowed_callers=["PACS"])
    with running(place.config()):
        assert store(place, [ct_slice()], calling="STRANGER") == [None]
        assert store(place, [ct_slice()], calling="PACS") == [0x0000]


def test_another_called_title_is_refused_if_so_configured(tmp_path):
    place = hospital(tmp_path, NOWHERE, dicom__check_called=True)
    with running(place.config()):
        assert store(place, [ct_slice()], called="OTHER") == [None]
        assert store(place, [ct_slice()], called="CONTENITORE") == [0x0000]


def test_a_full_disk_is_a700_and_with_space_it_goes_on_in_the_same_association(tmp_path):
    place = hospital(tmp_path, NOWHERE)
    with running(place.config()) as state:
        spool = state._spool
        assoc = associate(place, [(ct_slice().SOPClassUID, ExplicitVRLittleEndian)])
        spool.reserve_bytes = 1 << 60
        assert assoc.send_c_store(ct_slice(1)).Status == 0xA700
        assert place.state()["disk"]["low"]
        spool.reserve_bytes = 0
        assert assoc.send_c_store(ct_slice(1)).Status == 0x0000
        assoc.release()
        assert place.state()["received"] == 1
        assert place.state()["refused"] == 1


def test_an_association_cut_in_the_middle_leaves_nothing(tmp_path):
    place = hospital(tmp_path, NOWHERE)
    with running(place.config()):
        assoc = associate(place, [(ct_slice().SOPClassUID, ExplicitVRLittleEndian)])
        request = command_set(0x0001, ct_slice(), message_id=1)
        assoc.dul.socket.socket.sendall(p_data(1, 0x03, request) + p_data(1, 0x00, bytes(5000)))
        until(lambda: list((place.spool / "incoming").iterdir()))
        assoc.abort()
        until(lambda: not list((place.spool / "incoming").iterdir()))
        assert place.state()["received"] == 0


def command_set(field: int, ds: Dataset, message_id: int) -> bytes:
    command = b""
    for number, value in (
        (0x0002, scp_even(ds.SOPClassUID)),
        (0x0100, field.to_bytes(2, "little")),
        (0x0110, message_id.to_bytes(2, "little")),
        (0x0700, b"\0\0"),
        (0x0800, b"\0\0"),
        (0x1000, scp_even(ds.SOPInstanceUID)),
    ):
        command += b"\0\0" + number.to_bytes(2, "little") + len(value).to_bytes(4, "little") + value
    return b"\0\0\0\0\4\0\0\0" + len(command).to_bytes(4, "little") + command


def scp_even(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid) % 2)


def p_data(context: int, header: int, data: bytes) -> bytes:
    value = (len(data) + 2).to_bytes(4, "big") + bytes([context, header]) + data
    return b"\x04\0" + len(value).to_bytes(4, "big") + value


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_data_set_in_tiny_fragments_several_to_a_pdu_is_whole(tmp_path, size):
    """PS3.8 allows many presentation data values in one PDU, command and data together."""
    place = hospital(tmp_path, NOWHERE)
    ds = ct_slice(edge=16)
    encoded = BytesIO()
    ds.save_as(encoded, implicit_vr=False, little_endian=True, enforce_file_format=False)
    data = data_set_of(encoded.getvalue())
    with running(place.config()):
        assoc = associate(place, [(ds.SOPClassUID, ExplicitVRLittleEndian)])
        parts = [(0x03, command_set(0x0001, ds, 1))]
        parts += [(0, data[at : at + size]) for at in range(0, len(data), size)]
        parts[-1] = (0x02, parts[-1][1])
        values = b"".join((len(part) + 2).to_bytes(4, "big") + bytes([1, header]) + part for header, part in parts)
        assoc.dul.socket.socket.sendall(b"\x04\0" + len(values).to_bytes(4, "big") + values)
        (path,) = until(lambda: spooled(place))
        until(lambda: place.state()["received"] == 1)
        assert path.read_bytes().endswith(data)
        assoc.abort()


def data_set_of(file: bytes) -> bytes:
    if file[128:132] != b"DICM":
        return file
    return file[132 + 12 + dcmread(BytesIO(file)).file_meta.FileMetaInformationGroupLength :]


@pytest.mark.parametrize(
    "pdu",
    [
        p_data(1, 0x03, b"\0\0\0\1"),  # a command set that is cut short
        p_data(1, 0x03, b"\0\0\0\1\2\0\0\0\1\0"),  # a C-STORE request without anything else
        b"\x04\0\0\0\0\x0a" + b"\xff\xff\xff\xff" + bytes(6),  # a value longer than its PDU
        b"\x04\0\xff\xff\xff\xff",  # a PDU of 4 GB
        b"\x99\0\0\0\0\1\0",  # a PDU type that does not exist
    ],
    ids=["cut", "bare", "overlong", "huge", "unknown"],
)
def test_a_broken_sender_ends_its_own_association_only(tmp_path, pdu):
    place = hospital(tmp_path, NOWHERE)
    with running(place.config()):
        broken = associate(place, [(ct_slice().SOPClassUID, ExplicitVRLittleEndian)])
        broken.dul.socket.socket.sendall(pdu)
        until(lambda: not broken.is_established)
        assert store(place, [ct_slice()]) == [0x0000]


@pytest.mark.parametrize("kind", [0x01, 0x04, 0x05])
def test_a_stranger_who_announces_four_gigabytes_is_cut_off(tmp_path, kind):
    place = hospital(tmp_path, NOWHERE)
    with running(place.config()), socket.create_connection(("127.0.0.1", place.port), 10) as stranger:
        stranger.settimeout(10)
        stranger.sendall(bytes([kind, 0]) + b"\xff\xff\xff\xff" + bytes(1000))
        assert ended(stranger)
        assert store(place, [ct_slice()]) == [0x0000]


def ended(connection: socket.socket) -> bool:
    """Whether the other end closes the connection, perhaps after an A-ABORT."""
    try:
        while connection.recv(1024):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


def has_ended(connection: socket.socket) -> bool:
    """Whether the other end has closed the connection by now."""
    connection.setblocking(False)
    try:
        return connection.recv(1024) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_a_command_that_never_ends_ends_the_association(tmp_path):
    place = hospital(tmp_path, NOWHERE)
    with running(place.config()):
        endless = associate(place, [(ct_slice().SOPClassUID, ExplicitVRLittleEndian)])
        for _ in range(3):
            endless.dul.socket.socket.sendall(p_data(1, 0x01, bytes(30_000)))
        until(lambda: not endless.is_established)
        assert store(place, [ct_slice()]) == [0x0000]


def test_requests_without_their_data_sets_do_not_use_up_the_files(tmp_path):
    place = hospital(tmp_path, NOWHERE)
    with running(place.config()):
        before = len(psutil.Process().open_files())
        careless = associate(place, [(ct_slice().SOPClassUID, ExplicitVRLittleEndian)])
        careless.dul.socket.socket.sendall(p_data(1, 0x03, command_set(0x0001, ct_slice(), 1)) * 50)
        until(lambda: not careless.is_established)
        until(lambda: not list((place.spool / "incoming").iterdir()))
        assert len(psutil.Process().open_files()) <= before
        assert store(place, [ct_slice()]) == [0x0000]


def test_a_commitment_request_of_any_size_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "LARGEST_MESSAGE", 10_000)
    place = hospital(tmp_path, NOWHERE)
    command = command_set(0x0130, ct_slice(), message_id=1)
    with running(place.config()):
        greedy = associate(place, [(StorageCommitmentPushModel, ImplicitVRLittleEndian)])
        greedy.dul.socket.socket.sendall(p_data(1, 0x03, command) + p_data(1, 0x00, bytes(6000)) + p_data(1, 0x00, bytes(6000)))
        until(lambda: not greedy.is_established)
        assert store(place, [ct_slice()]) == [0x0000]


def test_more_connections_than_there_may_be_are_closed_at_once_and_the_others_served(tmp_path, monkeypatch):
    monkeypatch.setattr(associations, "STRANGERS", 2)
    place = hospital(tmp_path, NOWHERE, dicom__max_associations=2)
    with running(place.config()):
        kept = associate(place, [(ct_slice().SOPClassUID, ExplicitVRLittleEndian)])
        crowd = [socket.create_connection(("127.0.0.1", place.port), 10) for _ in range(8)]
        until(lambda: sum(has_ended(one) for one in crowd) >= 5)  # three may stay beside the one, whichever they are
        assert kept.send_c_store(ct_slice(1)).Status == 0x0000
        kept.release()
        for one in crowd:
            one.close()
        until(lambda: store(place, [ct_slice(2)]) == [0x0000])


def test_a_sender_that_falls_silent_in_the_middle_of_an_image_is_given_up(tmp_path):
    place = hospital(tmp_path, NOWHERE, dicom__idle_seconds=5)
    with running(place.config()):
        silent = associate(place, [(ct_slice().SOPClassUID, ExplicitVRLittleEndian)])
        silent.dul.socket.socket.sendall(p_data(1, 0x03, command_set(0x0001, ct_slice(), 1)) + p_data(1, 0x00, bytes(5000)))
        until(lambda: list((place.spool / "incoming").iterdir()))
        until(lambda: not list((place.spool / "incoming").iterdir()), 20)
        assert place.state()["received"] == 0


def test_an_image_that_comes_drop_by_drop_is_whole(tmp_path):
    """Whatever the pieces in which the network brings it."""
    place = hospital(tmp_path, NOWHERE)
    ds = ct_slice(edge=16)
    encoded = BytesIO()
    ds.save_as(encoded, implicit_vr=False, little_endian=True, enforce_file_format=False)
    data = data_set_of(encoded.getvalue())
    stream = p_data(1, 0x03, command_set(0x0001, ds, 1))
    stream += p_data(1, 0x00, data[:200]) + p_data(1, 0x00, data[200:300]) + p_data(1, 0x02, data[300:])
    with running(place.config()):
        assoc = associate(place, [(ds.SOPClassUID, ExplicitVRLittleEndian)])
        raw = assoc.dul.socket.socket
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(stream), 7):
            raw.sendall(stream[at : at + 7])
        until(lambda: place.state()["received"] == 1)
        (path,) = spooled(place)
        assert path.read_bytes().endswith(data)
        assoc.abort()


def test_an_image_in_the_largest_pdus_that_are_borne_is_whole(tmp_path):
    """Larger than what is offered, and than the buffer."""
    place = hospital(tmp_path, NOWHERE)
    ds = ct_slice(edge=1024)
    encoded = BytesIO()
    ds.save_as(encoded, implicit_vr=False, little_endian=True, enforce_file_format=False)
    data = data_set_of(encoded.getvalue())
    with running(place.config()):
        assoc = associate(place, [(ds.SOPClassUID, ExplicitVRLittleEndian)])
        assoc.dul.socket.socket.sendall(p_data(1, 0x03, command_set(0x0001, ds, 1)) + p_data(1, 0x02, data))
        until(lambda: place.state()["received"] == 1)
        (path,) = spooled(place)
        assert path.read_bytes().endswith(data)
        assoc.abort()


def test_who_connects_and_says_nothing_keeps_nobody_out(tmp_path):
    authority = Authority(tmp_path / "tls")
    ours, theirs = authority.issue("forwarder"), authority.issue("pacs")
    port = free_port()
    place = hospital(tmp_path, NOWHERE, **tls_values(authority, ours, port))
    with running(place.config()):
        silent = [socket.create_connection(("127.0.0.1", p)) for p in (port, place.port) for _ in range(5)]
        assert store(place, [ct_slice(1)], port=port, tls=(client_context(authority, theirs), "x")) == [0x0000]
        assert store(place, [ct_slice(2)]) == [0x0000]
        for one in silent:
            one.close()


def tls_values(authority, pair, port):
    return {
        "dicom__tls__port": port,
        "dicom__tls__certificate": str(pair.certificate),
        "dicom__tls__key": str(pair.key),
        "dicom__tls__ca_file": str(authority.pem),
    }


class TestTls:
    @pytest.fixture
    def secure(self, tmp_path: Path):
        authority = Authority(tmp_path / "tls")
        port = free_port()
        place = hospital(tmp_path, NOWHERE, **tls_values(authority, authority.issue("forwarder"), port))
        with running(place.config()):
            yield place, authority, port

    def test_both_ends_show_a_certificate(self, secure):
        place, authority, port = secure
        context = client_context(authority, authority.issue("pacs"))
        assert store(place, [ct_slice()], port=port, tls=(context, "x")) == [0x0000]
        assert place.state()["certificate_days"] == 60

    def test_without_a_certificate_nobody_gets_in(self, secure):
        place, authority, port = secure
        assert store(place, [ct_slice()], port=port, tls=(client_context(authority, None), "x")) == [None]

    def test_a_strangers_certificate_does_not_count(self, secure, tmp_path):
        place, authority, port = secure
        stranger = Authority(tmp_path / "other", "stranger").issue("pacs")
        assert store(place, [ct_slice()], port=port, tls=(client_context(authority, stranger), "x")) == [None]

    def test_a_renewed_certificate_counts_from_the_next_connection_on(self, secure):
        place, authority, port = secure
        old, new = place.values["dicom.tls.certificate"], authority.issue("renewed", days=90)

        def shown() -> bytes | None:
            context = client_context(authority, authority.issue("pacs"))
            with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as tls:
                return tls.getpeercert(binary_form=True)

        first = shown()
        Path(old).write_bytes(b"half of a certif")
        assert shown() == first
        Path(place.values["dicom.tls.key"]).write_bytes(Path(new.key).read_bytes())
        Path(old).write_bytes(Path(new.certificate).read_bytes())
        assert shown() == ssl.PEM_cert_to_DER_cert(Path(new.certificate).read_text())

    def test_nothing_older_than_tls_1_2_is_spoken(self, secure):
        _, authority, port = secure
        context = client_context(authority, authority.issue("pacs"))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("AES128-SHA")  # no forward secrecy
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with socket.create_connection(("127.0.0.1", port)) as plain, pytest.raises(ssl.SSLError):
            context.wrap_socket(plain)

    def test_plain_dicom_on_the_tls_port_is_refused(self, secure):
        place, _, port = secure
        assert store(place, [ct_slice()], port=port) == [None]

    @pytest.mark.skipif(not dcmtk("storescu"), reason="DCMTK's storescu is not installed")
    def test_dcmtk_sends_over_tls(self, secure, tmp_path):
        place, authority, port = secure
        pair = authority.issue("dcmtk")
        (path,) = write_ct(tmp_path / "files", 1)
        command = [
            "/usr/bin/storescu",
            "+tls",
            str(pair.key),
            str(pair.certificate),
            "+cf",
            str(authority.pem),
        ]
        subprocess.run([*command, "127.0.0.1", str(port), str(path)], check=True, timeout=30)
        assert place.state()["received"] == 1


def test_file_meta_is_what_pydicom_would_write():
    head = storage.file_head("1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.2.840.10008.1.2.1")
    meta = dcmread(BytesIO(head)).file_meta
    assert head == bytes(128) + b"DICM" + encode_file_meta(meta)
    assert meta.ImplementationVersionName == "CONTENITORE_1"


def test_memory_does_not_grow_with_the_size_of_an_instance(archive, tmp_path):
    place = hospital(tmp_path, NOWHERE, send__lossless=False)
    with process(place) as forwarder:
        memory = psutil.Process(forwarder.pid).memory_info
        assert store(place, [ct_slice(1)]) == [0x0000]
        before = memory().rss
        big = ct_slice(2)
        big.Rows = big.Columns = 8192
        big.PixelData = bytes(8192 * 8192 * 2)  # 134 MB
        assert store(place, [big]) == [0x0000]
        assert memory().rss - before < 30_000_000


PACS = {"ae_title": "PACS", "host": "127.0.0.1", "port": 9}  # nobody answers there


class TestCommitment:
    """PS3.4 J: the PACS asks, and is told once it is certain."""

    def pacs(self, place: Hospital, reports: list) -> AE:
        ae = AE("PACS")
        ae.acse_timeout = ae.connection_timeout = ae.dimse_timeout = 10
        ae.add_requested_context(ct_slice().SOPClassUID, ExplicitVRLittleEndian)
        ae.add_requested_context(StorageCommitmentPushModel)
        return ae

    def handler(self, reports: list):
        def report(event):
            reports.append((event.event_type, event.event_information))
            return 0x0000, None

        return [(evt.EVT_N_EVENT_REPORT, report)]

    def ask(self, assoc, datasets: list[Dataset], transaction: str = "1.2.3.99") -> int:
        request = Dataset()
        request.TransactionUID = transaction
        request.ReferencedSOPSequence = []
        for ds in datasets:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
            request.ReferencedSOPSequence.append(item)
        status, _ = assoc.send_n_action(request, 1, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1")
        return status.Status

    def test_on_the_association_that_asked(self, archive: FakeArchive, tmp_path):
        place, reports = hospital(tmp_path, archive.url), []
        with running(place.config()):
            ae = self.pacs(place, reports)
            assoc = ae.associate("127.0.0.1", place.port, evt_handlers=self.handler(reports))
            assert assoc.send_c_store(ct_slice(1)).Status == 0x0000
            assert self.ask(assoc, [ct_slice(1)]) == 0x0000
            until(lambda: reports)
            assoc.release()
        event_type, information = reports[0]
        assert event_type == 1
        assert information.TransactionUID == "1.2.3.99"
        assert [item.ReferencedSOPInstanceUID for item in information.ReferencedSOPSequence] == [ct_slice(1).SOPInstanceUID]

    def test_on_a_new_association_after_a_restart(self, archive: FakeArchive, tmp_path):
        reports: list = []
        listener = AE("PACS")
        listener.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        server = listener.start_server(("127.0.0.1", 0), block=False, evt_handlers=self.handler(reports))
        peer = {"ae_title": "PACS", "host": "127.0.0.1", "port": server.server_address[1]}
        place = hospital(tmp_path, archive.url, peers=[peer])
        archive.indexing_seconds = 3600
        try:
            with running(place.config()):
                assoc = self.pacs(place, reports).associate("127.0.0.1", place.port)
                assert assoc.send_c_store(ct_slice(1)).Status == 0x0000
                assert self.ask(assoc, [ct_slice(1)]) == 0x0000
                assoc.release()
                until(lambda: place.state()["at_archive"] == 1)
            assert not reports
            archive.indexing_seconds = 0
            with running(place.config()):
                until(lambda: reports)
        finally:
            server.shutdown()
        assert reports[0][0] == 1

    def test_a_peer_whose_name_cannot_be_resolved_holds_up_no_other(self, archive: FakeArchive, tmp_path, caplog):
        peer = {"ae_title": "PACS", "host": "pacs.invalid", "port": 104}
        place, reports = hospital(tmp_path, archive.url, peers=[peer]), []
        with running(place.config()):
            gone = self.pacs(place, reports).associate("127.0.0.1", place.port)
            assert gone.send_c_store(ct_slice(1)).Status == 0x0000
            until(lambda: place.settled(1))
            assert self.ask(gone, [ct_slice(1)]) == 0x0000
            gone.abort()
            until(lambda: "cannot be reached" in caplog.text)
            ae = self.pacs(place, reports)
            assoc = ae.associate("127.0.0.1", place.port, evt_handlers=self.handler(reports))
            assert self.ask(assoc, [ct_slice(1)], "1.2.3.100") == 0x0000
            until(lambda: any(information.TransactionUID == "1.2.3.100" for _, information in reports))
            assoc.release()

    def test_more_open_requests_and_references_than_can_be_kept_are_refused(self, archive: FakeArchive, tmp_path, monkeypatch):
        assert (commitment.OPEN_AT_MOST, scp.MOST_REFERENCES) == (1000, 100_000)
        monkeypatch.setattr(commitment, "OPEN_AT_MOST", 2)
        monkeypatch.setattr(scp, "MOST_REFERENCES", 3)
        place, reports = hospital(tmp_path, NOWHERE, peers=[PACS]), []
        with running(place.config()):
            assoc = self.pacs(place, reports).associate("127.0.0.1", place.port)
            assert assoc.send_c_store(ct_slice(1)).Status == 0x0000
            asked = [[ct_slice(n) for n in range(count)] for count in (3, 4, 1, 1)]
            statuses = [self.ask(assoc, some, f"1.2.3.{number}") for number, some in enumerate(asked)]
            assoc.release()
        assert statuses == [0x0000, 0x0213, 0x0000, 0x0213]

    def test_what_failed_is_named_with_its_reason(self, archive: FakeArchive, tmp_path):
        place, reports = hospital(tmp_path, archive.url), []
        archive.verdict = lambda sha256, body: (
            ("rejected", "truncated") if b"1.2.826.0.1.3680043.10.1.2.2" in body else ("indexed", None)
        )
        with running(place.config()):
            ae = self.pacs(place, reports)
            assoc = ae.associate("127.0.0.1", place.port, evt_handlers=self.handler(reports))
            for number in (1, 2):
                assert assoc.send_c_store(ct_slice(number)).Status == 0x0000
            until(lambda: place.settled(2))
            wrong_class = ct_slice(1)
            wrong_class.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
            assert self.ask(assoc, [ct_slice(1), ct_slice(2), ct_slice(3), wrong_class]) == 0x0000
            until(lambda: reports)
            assoc.release()
        event_type, information = reports[0]
        assert event_type == 2
        assert [item.FailureReason for item in information.FailedSOPSequence] == [0x0110, 0x0112, 0x0119]

    def test_nothing_is_promised_while_the_archive_has_not_judged(self, archive: FakeArchive, tmp_path):
        place, reports = hospital(tmp_path, archive.url, peers=[PACS]), []
        archive.indexing_seconds = 3600
        with running(place.config()):
            assoc = self.pacs(place, reports).associate("127.0.0.1", place.port, evt_handlers=self.handler(reports))
            assert assoc.send_c_store(ct_slice(1)).Status == 0x0000
            assert self.ask(assoc, [ct_slice(1)]) == 0x0000
            until(lambda: place.state()["at_archive"] == 1)
            assert not reports
            archive.indexing_seconds = 0
            until(lambda: reports)
            assoc.release()

    def listener(self, reports: list):
        """Who is told on an association of its own; its server and its `[[peers]]` entry as GOOD."""
        listener = AE("GOOD")
        listener.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        server = listener.start_server(("127.0.0.1", 0), block=False, evt_handlers=self.handler(reports))
        return server, {"ae_title": "GOOD", "host": "127.0.0.1", "port": server.server_address[1]}

    def asked_and_left(self, place: Hospital, calling: str, transaction: str) -> int:
        with Sender(place.port) as sender:
            sender.ask(request(context(1, COMMITMENT, IMPLICIT), calling=calling.encode()))
            answer = sender.send(commitment_request(1, ct_slice(1), transaction)).message()
            sender.send(RELEASE).pdu()
            return status(answer)

    def test_a_peer_that_says_nothing_delays_no_other(self, archive: FakeArchive, tmp_path):
        reports: list = []
        server, good = self.listener(reports)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            peers = [{"ae_title": "SILENT", "host": "127.0.0.1", "port": silent.getsockname()[1]}, good]
            place = hospital(tmp_path, archive.url, peers=peers)
            with running(place.config()):
                assert store(place, [ct_slice(1)]) == [0x0000]
                until(lambda: place.settled(1))
                assert [self.asked_and_left(place, "SILENT", f"1.2.{n}") for n in range(3)] == [0, 0, 0]
                silent.settimeout(10)
                connection, _ = silent.accept()
                assert self.asked_and_left(place, "GOOD", "1.2.9") == 0
                until(lambda: reports, 5)
                until(lambda: place.state()["commitments"]["open"] == 3)
                assert "forwarder_commitments_open 3.0" in place.get("/metrics").data.decode()
                connection.close()
        server.shutdown()

    def test_a_modality_that_goes_on_storing_keeps_its_association_and_may_answer_late(self, archive, tmp_path, monkeypatch):
        monkeypatch.setattr(commitment, "ANSWER_SECONDS", 0.3)
        place = hospital(tmp_path, archive.url)
        with running(place.config()), Sender(place.port) as sender:
            assert sender.ask(request(context(1, CT, EXPLICIT), context(3, COMMITMENT, IMPLICIT))) == {1: 0, 3: 0}
            assert status(sender.send(store_request(1, ct_slice(1))).message()) == 0
            until(lambda: place.settled(1))
            assert status(sender.send(commitment_request(3, ct_slice(1), "1.2.3")).message()) == 0
            report = sender.message()
            assert report[0x0100] == b"\0\1" and b"1.2.3" in report[-1]
            for number in range(2, 30):
                assert status(sender.send(store_request(1, ct_slice(number), number)).message()) == 0
                if number == 2:
                    until(lambda: attempts(place) >= 2)
            assert place.state()["commitments"]["open"] == 1
            late = command(0x8100, int.from_bytes(report[0x0110], "little"), e0002=COMMITMENT.encode(), e0900=b"\0\0")
            sender.send(p_data(3, 3, late))
            until(lambda: place.state()["commitments"]["open"] == 0)
            assert status(sender.send(store_request(1, ct_slice(40), 40)).message()) == 0

    def test_a_report_in_many_pdus_is_not_interrupted_by_other_answers(self, archive, tmp_path):
        place = hospital(tmp_path, archive.url)
        with running(place.config()), Sender(place.port) as sender:
            sender.ask(request(context(1, CT, EXPLICIT), context(3, COMMITMENT, IMPLICIT), information=user(maximum=128)))
            assert status(sender.send(store_request(1, ct_slice(1))).message()) == 0
            until(lambda: place.settled(1))
            sender.send(commitment_request(3, ct_slice(1), "1.2.3", times=500))
            stores = b"".join(store_request(1, ct_slice(number), number) for number in range(2, 40))
            sender.send(stores)
            kinds = [int.from_bytes(sender.message()[0x0100], "little") for _ in range(40)]
            assert sorted(set(kinds)) == [0x0100, 0x8001, 0x8130]

    def test_who_cannot_be_answered_is_refused_at_once_and_the_page_says_what_is_missing(self, tmp_path, monkeypatch):
        assert commitment.AT_ONCE_SECONDS == 5.0
        monkeypatch.setattr(commitment, "AT_ONCE_SECONDS", 0.3)
        place = hospital(tmp_path, NOWHERE)
        with running(place.config()):
            assert store(place, [ct_slice(1)]) == [0x0000]
            assert self.asked_and_left(place, "STRANGER", "1.2.3") == 0x0110
            (refusal,) = place.state()["refusals"]
            assert (refusal["reason"], refusal["calling"]) == ("no-peer", "STRANGER")
            assert place.state()["commitments"] == {"open": 0, "oldest_seconds": None}

    def test_who_leaves_without_an_address_is_not_called_for_a_week(self, archive, tmp_path):
        place = hospital(tmp_path, archive.url)
        with running(place.config()):
            assert store(place, [ct_slice(1)]) == [0x0000]
            until(lambda: place.settled(1))
            with Sender(place.port) as sender:
                sender.ask(request(context(1, COMMITMENT, IMPLICIT)))
                assert status(sender.send(commitment_request(1, ct_slice(1), "1.2.3")).message()) == 0
                sender.message()  # the report, which it does not answer
                assert place.state()["commitments"]["open"] == 1
            until(lambda: place.state()["commitments"]["open"] == 0)

    @pytest.mark.parametrize(("days", "still_open"), [(6.99, 1), (7.01, 0)])
    def test_who_is_never_reached_is_called_for_a_week(self, tmp_path, days: float, still_open: int):
        place = hospital(tmp_path, NOWHERE, peers=[PACS])
        spool = Spool(place.spool, 0)
        row = ("1.2.3", "PACS", time.time() - days * 86400, json.dumps([[CT, "1.2"]]))
        spool.journal.write(
            lambda connection: connection.execute(
                "INSERT INTO commitments (transaction_uid, caller, requested_at, items) VALUES (?, ?, ?, ?)", row
            )
        )
        config = place.config()
        asked = commitment.Commitments(spool, config.dicom, config.peers)
        asked._report_due()
        until(lambda: not asked._busy)
        with spool.journal.read() as connection:
            assert commitment.summary(connection)["open"] == still_open
        spool.close()

    def test_a_conflict_is_never_committed(self, archive: FakeArchive, tmp_path):
        place, reports = hospital(tmp_path, archive.url, send__lossless=False), []
        first, other = ct_slice(1), ct_slice(1)
        other.PatientComments = "OTHER BYTES"
        archive.verdict = lambda sha256, body: ("conflict", None) if b"OTHER BYTES" in body else ("indexed", None)
        with running(place.config()):
            for count, ds in enumerate((first, other), 1):
                assert store(place, [ds]) == [0x0000]
                until(lambda: place.settled(count))  # noqa: B023
            assoc = self.pacs(place, reports).associate("127.0.0.1", place.port, evt_handlers=self.handler(reports))
            assert self.ask(assoc, [first]) == 0x0000
            until(lambda: reports)
            assoc.release()
        event_type, information = reports[0]
        assert (event_type, information.FailedSOPSequence[0].FailureReason) == (2, 0x0110)


def commitment_request(number: int, ds: Dataset, transaction: str, times: int = 1) -> bytes:
    """An N-ACTION of storage commitment, by hand."""
    information = Dataset()
    information.TransactionUID = transaction
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    information.ReferencedSOPSequence = [item] * times
    asked = command(0x0130, 9, e0003=COMMITMENT.encode(), e0800=b"\0\0", e1001=b"1.2.840.10008.1.20.1.1", e1008=b"\1\0")
    return p_data(number, 3, asked) + p_data(number, 2, encode(information, True, True))


def attempts(place: Hospital) -> int:
    """How often the oldest open request was tried to be answered."""
    with contextlib.closing(open_read_only(place.spool)) as connection:
        return connection.execute("SELECT attempts FROM commitments").fetchone()[0]
