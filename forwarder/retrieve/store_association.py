"""An association on which we store (PS3.4 B, PS3.7 9.3.1, PS3.8 9.3): one thread, one socket, PDUs as they are.

pynetdicom keeps two more threads for each association, which look for work every millisecond, and sends each PDU through the
objects and queues of its state machine: that took half of what a PACS bears (docs/performance.md, bench.deliver). Storing needs
little of an upper layer: what is proposed is fixed, one message is under way at a time, and whoever sent it waits for the answer.
Queries and storage commitment, of which there are few, go by pynetdicom.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION

from forwarder.retrieve.outgoing import OutgoingInstance, outgoing

PLAIN = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
ANSWER_SECONDS, ASSOCIATE_SECONDS, RELEASE_SECONDS = 60.0, 10.0, 5.0
LARGEST_PDU, PDU_HEAD, SENT_AT_ONCE = 131_072, 6, 512 * 1024  # bytes
LARGEST_ANSWER = 1024 * 1024
"""Bytes of a PDU that comes to us: the answers to what we ask are short."""
QUICK_ACKNOWLEDGEMENT: int | None = getattr(socket, "TCP_QUICKACK", None)
COMMAND, LAST = 1, 2  # PS3.8 E.2: message control header
ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA_TF, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)  # PS3.8 9.3.1
APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
C_STORE_RSP = 0x8001  # PS3.7 E.1
COMMAND_FIELD, RESPONDED_TO, STATUS = 0x0100, 0x0120, 0x0900  # elements of group 0000

WARNINGS = frozenset({0x0001, 0x0107, 0x0116})
"""Statuses of the class Warning beside Bxxx (PS3.7 C): requested optional attributes, attribute list, attribute value."""
DUPLICATE_SOP_INSTANCE = 0x0111  # PS3.7 C.5.6


def is_warning(status: int) -> bool:
    """Whether it says that the instance was stored, though not wholly as it came (PS3.7 C, PS3.4 Table B.2-1)."""
    return status in WARNINGS or status & 0xF000 == 0xB000


class PacsError(Exception):
    """The PACS cannot be reached, broke off, or does not answer. The text is one word for the status."""


class NothingAcceptedError(PacsError):
    """The PACS speaks to us, and takes nothing of what was offered."""


class Association:
    """An association for C-STORE: `takes` tells which transfer syntax a SOP class may be sent in."""

    def __init__(self, connection: socket.socket, calling: str, called: str, contexts: Sequence[tuple[str, str]]) -> None:
        """Ask for the association over a connection; each context is (SOP class, transfer syntax). Raises PacsError,
        NothingAcceptedError; the connection is then of no more use."""
        self._socket = connection
        self._received = bytearray()
        self._contexts: dict[tuple[str, str], int] = {}
        self._largest = LARGEST_PDU
        self.is_broken = False
        try:
            connection.settimeout(ASSOCIATE_SECONDS)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(_associate_request(calling, called, contexts))
            kind, body = self._pdu()
        except (OSError, ValueError) as error:
            raise PacsError("unreachable") from error
        if kind == ASSOCIATE_RJ:
            raise PacsError("association-rejected")
        if kind != ASSOCIATE_AC:
            raise PacsError("unreachable")
        self._accepted(body, contexts)
        if not self._contexts:
            self.abort()
            raise NothingAcceptedError("nothing-accepted")
        connection.settimeout(ANSWER_SECONDS)

    def takes(self, sop_class: str, transfer_syntax: str) -> str | None:
        """The transfer syntax to send an instance in: its own, or an uncompressed one; None where the PACS takes neither."""
        for syntax in (transfer_syntax, *PLAIN):
            if (sop_class, syntax) in self._contexts:
                return syntax
        return None

    def store(self, file: Path | OutgoingInstance, message_id: int = 1, originator: tuple[str, int] | None = None) -> int:
        """C-STORE; the status (PS3.4 Table B.2-1). Raises PacsError where none came.

        `originator`: AE title and message id of the C-MOVE that it is a part of (PS3.7 9.3.1.1).
        """
        if self.is_broken:
            raise PacsError("broke-off")
        self.is_broken = True  # until it has answered
        try:
            instance = outgoing(file) if isinstance(file, Path) else file
            context = self._contexts.get((instance.sop_class_uid, instance.transfer_syntax_uid))
            if context is None:
                raise ValueError("no presentation context for it")
            try:
                self._send(instance, context, message_id, originator)
            except OSError:  # some say why they take no more before they have all of it, and close
                self._socket.settimeout(RELEASE_SECONDS)
                return self._answer(message_id)
            status = self._answer(message_id)
        except TimeoutError as error:
            raise PacsError("no-answer") from error
        except (ValueError, OSError, struct.error) as error:
            raise PacsError("broke-off") from error
        self.is_broken = False
        return status

    def end(self) -> None:
        """Release it (PS3.8 7.2); abort what is broken."""
        if self.is_broken:
            self.abort()
            return
        with contextlib.suppress(OSError, ValueError):
            self._socket.settimeout(RELEASE_SECONDS)
            self._socket.sendall(_pdu(RELEASE_RQ, bytes(4)))
            while self._pdu()[0] not in (RELEASE_RP, ABORT):
                pass
        self._socket.close()

    def abort(self) -> None:
        """A-ABORT, service user (PS3.8 9.3.8)."""
        with contextlib.suppress(OSError):
            self._socket.settimeout(RELEASE_SECONDS)
            self._socket.sendall(_pdu(ABORT, bytes(4)))
        self._socket.close()

    def _accepted(self, body: bytes, contexts: Sequence[tuple[str, str]]) -> None:
        """What of A-ASSOCIATE-AC counts here: the contexts that were accepted, and how long a PDU may be. PS3.8 9.3.3, D.1."""
        for kind, value in _items(body[68:]):
            if kind == 0x21 and len(value) >= 4 and value[2] == 0 and value[0] % 2 and value[0] // 2 < len(contexts):
                self._contexts[contexts[value[0] // 2]] = value[0]  # one transfer syntax was offered in each
            for inner, content in _items(value) if kind == 0x50 else ():
                if inner == 0x51 and len(content) == 4:
                    self._largest = min(int.from_bytes(content, "big") or LARGEST_PDU, LARGEST_PDU)

    def _send(self, instance: OutgoingInstance, context: int, message_id: int, originator: tuple[str, int] | None) -> None:
        """The request and its data set, as P-DATA-TF PDUs (PS3.7 9.3.1.1, PS3.8 9.3.5, E.2). Raises ValueError, OSError."""
        out = bytearray(_data(context, COMMAND | LAST, _command(instance, message_id, originator)))
        most = max(2, self._largest - PDU_HEAD & ~1)
        left = instance.data_set_size()
        with instance.data_set() as read:
            while left > 0:
                part = read(min(most, left))
                if not part:
                    raise ValueError("the file became shorter")
                left -= len(part)
                out += _data(context, 0 if left else LAST, part)
                if len(out) >= SENT_AT_ONCE or not left:
                    self._socket.sendall(out)
                    out.clear()

    def _answer(self, message_id: int) -> int:
        """The status of the response to a request. Raises ValueError for anything else, OSError."""
        command = b""
        while True:
            kind, body = self._pdu()
            if kind == RELEASE_RQ:
                self._socket.sendall(_pdu(RELEASE_RP, bytes(4)))
            if kind != P_DATA_TF:
                raise ValueError("the association was ended")
            for control, part in _values(body):
                command += part if control & COMMAND else b""
                if len(command) > LARGEST_ANSWER:
                    raise ValueError("too long an answer")
                if control & COMMAND and control & LAST:
                    values = _elements(command)
                    if values.get(COMMAND_FIELD) != C_STORE_RSP or values.get(RESPONDED_TO) != message_id:
                        raise ValueError("an answer to something else")
                    return values[STATUS] if STATUS in values else _none()

    def _pdu(self) -> tuple[int, bytes]:
        """The next PDU: its type, and what follows its length. Raises ValueError, OSError."""
        head = self._take(6)
        kind, length = head[0], int.from_bytes(head[2:], "big")
        if length > LARGEST_ANSWER:
            raise ValueError("too long a PDU")
        return kind, self._take(length)

    def _take(self, count: int) -> bytes:
        while len(self._received) < count:
            self._acknowledge_at_once()
            part = self._socket.recv(65536)
            if not part:
                raise ValueError("the connection was closed")
            self._received += part
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def _acknowledge_at_once(self) -> None:
        """Linux: no delayed acknowledgement. A PACS with Nagle's algorithm on (DCMTK's is, unless told otherwise) that answers in
        two pieces waits 40 ms for it before the second. The option does not last, so it is set with each read.
        """
        if QUICK_ACKNOWLEDGEMENT is not None:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, QUICK_ACKNOWLEDGEMENT, 1)


def connected(host: str, port: int, tls: ssl.SSLContext | None) -> socket.socket:
    """A connection to a node. Raises OSError."""
    connection = socket.create_connection((host, port), ASSOCIATE_SECONDS)
    if tls is None:
        return connection
    try:
        return tls.wrap_socket(connection)
    except BaseException:
        connection.close()
        raise


def _none() -> int:
    raise ValueError("an answer without a status")


def _pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBL", kind, 0, len(body)) + body


def _data(context: int, control: int, data: bytes) -> bytes:
    """A P-DATA-TF PDU with one presentation data value. PS3.8 9.3.5, E.2."""
    return struct.pack(">BBLLBB", P_DATA_TF, 0, len(data) + 6, len(data) + 2, context, control) + data


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def _associate_request(calling: str, called: str, contexts: Sequence[tuple[str, str]]) -> bytes:
    """A-ASSOCIATE-RQ. PS3.8 9.3.2, D.1; PS3.7 D.3.3.2."""
    items = _item(0x10, APPLICATION_CONTEXT)
    for place, (sop_class, syntax) in enumerate(contexts):
        offered = _item(0x30, sop_class.encode()) + _item(0x40, syntax.encode())
        items += _item(0x20, bytes([2 * place + 1, 0, 0, 0]) + offered)
    items += _item(
        0x50,
        _item(0x51, struct.pack(">L", LARGEST_PDU))
        + _item(0x52, str(PYNETDICOM_IMPLEMENTATION_UID).encode())
        + _item(0x55, PYNETDICOM_IMPLEMENTATION_VERSION.encode()[:16]),
    )
    titles = b"".join(title.encode("ascii", "replace")[:16].ljust(16) for title in (called, calling))
    return _pdu(ASSOCIATE_RQ, struct.pack(">HH", 1, 0) + titles + bytes(32) + items)


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, value) of the items of an A-ASSOCIATE PDU; what is cut short ends them."""
    at = 0
    while at + 4 <= len(data):
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield data[at], data[at + 4 : at + 4 + length]
        at += 4 + length


def _values(body: bytes) -> Iterator[tuple[int, bytes]]:
    """(message control header, fragment) of each presentation data value. Raises ValueError for what is cut short."""
    at = 0
    while at < len(body):
        length = int.from_bytes(body[at : at + 4], "big")
        if length < 2 or at + 4 + length > len(body):
            raise ValueError("a fragment is cut short")
        yield body[at + 5], body[at + 6 : at + 4 + length]
        at += 4 + length


def _command(instance: OutgoingInstance, message_id: int, originator: tuple[str, int] | None) -> bytes:
    """C-STORE-RQ (PS3.7 9.3.1.1), Implicit VR Little Endian."""
    elements: list[tuple[int, bytes]] = [
        (0x0002, _uid(instance.sop_class_uid)), (COMMAND_FIELD, b"\x01\x00"), (0x0110, struct.pack("<H", message_id)),
        (0x0700, b"\x00\x00"), (0x0800, b"\x01\x00"), (0x1000, _uid(instance.sop_instance_uid)),
    ]  # fmt: skip
    if originator is not None:
        title = originator[0].encode()
        elements += [(0x1030, title + b" " * (len(title) % 2)), (0x1031, struct.pack("<H", originator[1]))]
    command = b"".join(struct.pack("<HHL", 0, number, len(value)) + value for number, value in elements)
    return struct.pack("<HHLL", 0, 0, 4, len(command)) + command


def _elements(command: bytes) -> dict[int, int]:
    """The elements of two bytes (US) of a command set. Raises struct.error for what is cut short."""
    found: dict[int, int] = {}
    at = 0
    while at < len(command):
        group, number, length = struct.unpack_from("<HHL", command, at)
        value: Any = command[at + 8 : at + 8 + length]
        if group == 0 and length == 2:
            (found[number],) = struct.unpack("<H", value)
        at += 8 + length
    return found


def _uid(value: str) -> bytes:
    return value.encode() + b"\0" * (len(value) % 2)
