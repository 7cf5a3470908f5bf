"""Storing over an association of our own making: against a peer that is made of bytes, as peers behave and misbehave."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from forwarder.retrieve.outgoing import OutgoingInstance
from forwarder.retrieve.store_association import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    P_DATA_TF,
    RELEASE_RP,
    RELEASE_RQ,
    Association,
    NothingAcceptedError,
    PacsError,
)

CT, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"


class Peer:
    """The other end of a connection, PDU by PDU."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.data = b""

    def pdu(self) -> tuple[int, bytes]:
        """The next PDU; (0, b"") at the end of the connection."""
        head = self._take(6)
        return (head[0], self._take(int.from_bytes(head[2:], "big"))) if head else (0, b"")

    def _take(self, count: int) -> bytes:
        while len(self.data) < count:
            part = self.connection.recv(65536)
            if not part:
                return b""
            self.data += part
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def send(self, kind: int, body: bytes) -> None:
        self.connection.sendall(struct.pack(">BBL", kind, 0, len(body)) + body)

    def accept(self, result: int = 0, largest: int = 16384) -> None:
        _, body = self.pdu()
        item = struct.pack(">BBH", 0x21, 0, 8) + bytes([1, 0, result, 0]) + struct.pack(">BBH", 0x40, 0, 0)
        self.send(ASSOCIATE_AC, body[:68] + item + struct.pack(">BBHBBHL", 0x50, 0, 8, 0x51, 0, 4, largest))

    def answer(self, status: int, message_id: int = 1) -> None:
        elements = b"".join(
            struct.pack("<HHLH", 0, number, 2, value) for number, value in ((0x100, 0x8001), (0x120, message_id), (0x900, status))
        )
        command = struct.pack("<HHLL", 0, 0, 4, len(elements)) + elements
        self.send(P_DATA_TF, struct.pack(">LBB", len(command) + 2, 1, 3) + command)

    def data_set(self) -> tuple[bytes, int]:
        """(the data set of the request that comes, the length of the longest PDU)."""
        found, longest = b"", 0
        while True:
            kind, body = self.pdu()
            if kind != P_DATA_TF:
                return found, kind
            longest = max(longest, len(body))
            if not body[5] & 1:
                found += body[6:]
                if body[5] & 2:
                    return found, longest


@contextmanager
def peer(behaves: Callable[[Peer], object]) -> Iterator[Callable[[], Association]]:
    """A function that asks for an association with a peer that behaves so."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                behaves(Peer(connection))

        thread = threading.Thread(target=serve)
        thread.start()
        try:

            def asked() -> Association:
                connection = stack.enter_context(socket.create_connection(listener.getsockname(), 10))
                return Association(connection, "US", "PACS", [(CT, EXPLICIT)])

            yield asked
        finally:
            thread.join(10)


def instance(folder: Path, rest: bytes, head: bytes = b"") -> OutgoingInstance:
    path = folder / "instance"
    path.write_bytes(b"before" + rest)
    return OutgoingInstance(CT, "1.2.3", EXPLICIT, path, 6, b"", head)


def test_a_data_set_arrives_whole_in_pdus_that_the_peer_takes_and_the_association_is_released(tmp_path: Path) -> None:
    came: list[object] = []

    def behaves(other: Peer) -> None:
        other.accept(largest=128)
        for message_id, status in ((7, 0x0000), (8, 0xB007)):
            came.append(other.data_set())
            other.answer(status, message_id)
        came.append(other.pdu()[0])
        other.send(RELEASE_RP, bytes(4))

    with peer(behaves) as asked:
        association = asked()
        assert association.takes(CT, EXPLICIT) == EXPLICIT and association.takes("1.2", EXPLICIT) is None
        sent = instance(tmp_path, bytes(range(256)) * 4, b"h" * 121)  # a head of odd length, across two fragments
        assert association.store(sent, 7) == 0x0000
        assert association.store(sent, 8, ("MOVER", 3)) == 0xB007
        association.end()
    (first, longest), (second, _), last = came  # type: ignore[misc]
    assert first == second == b"h" * 121 + bytes(range(256)) * 4
    assert longest <= 128 and last == RELEASE_RQ


def test_a_pacs_that_answers_in_pieces_and_waits_for_acknowledgement_makes_nobody_wait(tmp_path: Path) -> None:
    """DCMTK's, and what is built on it: of 80 instances all but the first 16 or so took 40 ms each, whatever the line."""

    class InPieces(Peer):
        def send(self, kind: int, body: bytes) -> None:
            self.connection.sendall(struct.pack(">BBL", kind, 0, len(body)))
            self.connection.sendall(body)

    def behaves(other: Peer) -> None:
        slow = InPieces(other.connection)
        slow.accept()
        for message_id in range(1, 81):
            slow.data_set()
            slow.answer(0x0000, message_id)
        slow.pdu()
        slow.send(RELEASE_RP, bytes(4))

    with peer(behaves) as asked:
        association, sent, began = asked(), instance(tmp_path, b"x" * 1000), time.monotonic()
        assert {association.store(sent, message_id) for message_id in range(1, 81)} == {0x0000}
        assert time.monotonic() - began < 1.5
        association.end()


def test_a_peer_that_says_that_it_is_full_before_it_has_all_of_it_is_heard(tmp_path: Path) -> None:
    def behaves(other: Peer) -> None:
        other.accept()
        other.pdu()
        other.answer(0xA700)
        other.connection.shutdown(socket.SHUT_RDWR)

    with peer(behaves) as asked:
        association = asked()
        assert association.store(instance(tmp_path, bytes(40_000_000))) == 0xA700
        assert association.is_broken
        with pytest.raises(PacsError, match="broke-off"):
            association.store(instance(tmp_path, b"more"))


def test_a_file_that_becomes_shorter_ends_the_association_and_leaves_nobody_waiting(tmp_path: Path) -> None:
    ended: list[int] = []

    def behaves(other: Peer) -> None:
        other.accept()
        ended.append(other.data_set()[1])

    class Shrinking(OutgoingInstance):
        def data_set_size(self) -> int:
            return super().data_set_size() + 1_000_000

    with peer(behaves) as asked:
        association = asked()
        whole = instance(tmp_path, b"x" * 5000)
        with pytest.raises(PacsError, match="broke-off"):
            association.store(Shrinking(CT, "1.2.3", EXPLICIT, whole.source, 6))
        association.end()
    assert ended == [ABORT]


@pytest.mark.parametrize(
    ("behaves", "error", "word"),
    [
        (lambda other: (other.pdu(), other.send(ASSOCIATE_RJ, bytes([0, 1, 1, 7]))), PacsError, "association-rejected"),
        (lambda other: (other.accept(result=3), other.pdu()), NothingAcceptedError, "nothing-accepted"),
        (lambda other: (other.pdu(), other.connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")), PacsError, "unreachable"),
        (lambda other: other.pdu(), PacsError, "unreachable"),
    ],
    ids=["rejected", "nothing accepted", "no DICOM", "closed"],
)
def test_an_association_that_does_not_come_about_says_why(
    behaves: Callable[[Peer], object], error: type[PacsError], word: str
) -> None:
    with peer(behaves) as asked, pytest.raises(error, match=word):
        asked()


@pytest.mark.parametrize(
    "answers",
    [
        lambda other: other.answer(0x0000, 99),
        lambda other: other.send(ABORT, bytes(4)),
        lambda other: other.send(RELEASE_RQ, bytes(4)),
        lambda other: other.send(P_DATA_TF, struct.pack(">LBB", 900, 1, 3) + b"short"),
        lambda other: other.connection.sendall(struct.pack(">BBL", P_DATA_TF, 0, 2**31)),
        lambda other: None,
    ],
    ids=["to another request", "abort", "release", "cut short", "too long", "nothing"],
)
def test_whatever_is_no_answer_to_what_was_sent_is_no_success(tmp_path: Path, answers: Callable[[Peer], object]) -> None:
    def behaves(other: Peer) -> None:
        other.accept()
        other.data_set()
        answers(other)

    with peer(behaves) as asked:
        association = asked()
        with pytest.raises(PacsError):
            association.store(instance(tmp_path, b"x" * 100))
        assert association.is_broken
        association.end()
