"""Senders that break off, send nonsense, too much, too slowly or nothing: they harm themselves only."""

from __future__ import annotations

import contextlib
import socket
from io import BytesIO
from pathlib import Path

import pytest
from certificates import Authority, client_context
from hospital import hospital, store, until
from images import ct_slice
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom.sop_class import StorageCommitmentPushModel
from raw_dicom import (
    p_data,
    store_command,
)
from senders import NOWHERE, associate, data_set_of, spooled, tls_values

from forwarder.dicom import associations, storage
from forwarder.service import running
from local.processes import free_port

pytestmark = pytest.mark.usefixtures("credentials")


def test_an_association_cut_in_the_middle_leaves_nothing(tmp_path):
    place = hospital(tmp_path, NOWHERE)
    with running(place.config()):
        assoc = associate(place, [(ct_slice().SOPClassUID, ExplicitVRLittleEndian)])
        request = store_command(ct_slice())
        assoc.dul.socket.socket.sendall(p_data(1, 0x03, request) + p_data(1, 0x00, bytes(5000)))
        until(lambda: list((place.spool / "incoming").iterdir()))
        assoc.abort()
        until(lambda: not list((place.spool / "incoming").iterdir()))
        assert place.state()["received"] == 0


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
        parts = [(0x03, store_command(ds))]
        parts += [(0, data[at : at + size]) for at in range(0, len(data), size)]
        parts[-1] = (0x02, parts[-1][1])
        values = b"".join((len(part) + 2).to_bytes(4, "big") + bytes([1, header]) + part for header, part in parts)
        assoc.dul.socket.socket.sendall(b"\x04\0" + len(values).to_bytes(4, "big") + values)
        (path,) = until(lambda: spooled(place))
        until(lambda: place.state()["received"] == 1)
        assert path.read_bytes().endswith(data)
        assoc.abort()


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
        careless = associate(place, [(ct_slice().SOPClassUID, ExplicitVRLittleEndian)])
        careless.dul.socket.socket.sendall(p_data(1, 0x03, store_command(ct_slice())) * 50)
        until(lambda: not careless.is_established)
        until(lambda: not list((place.spool / "incoming").iterdir()))
        until(lambda: not open_in(place.spool / "incoming"))
        assert store(place, [ct_slice()]) == [0x0000]


def open_in(folder):
    """The files of a folder that this process has open, those that are removed from it among them."""
    found = []
    for opened in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(opened.readlink()))
    return [file for file in found if file.startswith(f"{folder}/")]


def test_a_commitment_request_of_any_size_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "LARGEST_MESSAGE", 10_000)
    place = hospital(tmp_path, NOWHERE)
    asked = store_command(ct_slice(), field=0x0130)
    with running(place.config()):
        greedy = associate(place, [(StorageCommitmentPushModel, ImplicitVRLittleEndian)])
        greedy.dul.socket.socket.sendall(p_data(1, 0x03, asked) + p_data(1, 0x00, bytes(6000)) + p_data(1, 0x00, bytes(6000)))
        until(lambda: not greedy.is_established)
        assert store(place, [ct_slice()]) == [0x0000]


def test_more_connections_than_there_may_be_are_closed_at_once_and_the_others_served(tmp_path, monkeypatch):
    monkeypatch.setattr(associations, "STRANGERS", 2)
    place = hospital(tmp_path, NOWHERE, dicom__max_associations=2)
    with running(place.config()):
        kept = associate(place, [(ct_slice().SOPClassUID, ExplicitVRLittleEndian)])
        crowd = [socket.create_connection(("127.0.0.1", place.port), 10) for _ in range(8)]
        until(
            lambda: sum(has_ended(connection) for connection in crowd) >= 5
        )  # three may stay beside the one, whichever they are
        assert kept.send_c_store(ct_slice(1)).Status == 0x0000
        kept.release()
        for connection in crowd:
            connection.close()
        until(lambda: store(place, [ct_slice(2)]) == [0x0000])


def test_a_sender_that_falls_silent_in_the_middle_of_an_image_is_given_up(tmp_path):
    place = hospital(tmp_path, NOWHERE, dicom__idle_seconds=5)
    with running(place.config()):
        silent = associate(place, [(ct_slice().SOPClassUID, ExplicitVRLittleEndian)])
        silent.dul.socket.socket.sendall(p_data(1, 0x03, store_command(ct_slice())) + p_data(1, 0x00, bytes(5000)))
        until(lambda: list((place.spool / "incoming").iterdir()))
        until(lambda: not list((place.spool / "incoming").iterdir()))
        assert place.state()["received"] == 0


def test_an_image_that_comes_drop_by_drop_is_whole(tmp_path):
    """Whatever the pieces in which the network brings it."""
    place = hospital(tmp_path, NOWHERE)
    ds = ct_slice(edge=16)
    encoded = BytesIO()
    ds.save_as(encoded, implicit_vr=False, little_endian=True, enforce_file_format=False)
    data = data_set_of(encoded.getvalue())
    stream = p_data(1, 0x03, store_command(ds))
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
        assoc.dul.socket.socket.sendall(p_data(1, 0x03, store_command(ds)) + p_data(1, 0x02, data))
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
        for connection in silent:
            connection.close()
