"""A DICOM sender made of bytes: it can say what no library would, and reads what it is answered. PS3.8 9.3, PS3.7 E.1."""

from __future__ import annotations

import socket
import struct
import time
from io import BytesIO
from typing import Any

from pydicom import Dataset

APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
ECHO, CT, COMMITMENT = "1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.20.1"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
RELEASE, ABORT = b"\5\0\0\0\0\4\0\0\0\0", b"\7\0\0\0\0\4\0\0\0\0"


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def context(number: int, abstract: bytes | str, *syntaxes: bytes | str) -> bytes:
    names = [name.encode() if isinstance(name, str) else name for name in (abstract, *syntaxes)]
    return item(0x20, bytes([number, 0, 0, 0]) + item(0x30, names[0]) + b"".join(item(0x40, name) for name in names[1:]))


def user(*items: bytes, maximum: int | None = 16384) -> bytes:
    length = b"" if maximum is None else item(0x51, struct.pack(">L", maximum))
    return item(0x50, length + b"".join(items))


def request(
    *contexts: bytes, called: bytes = b"CONTENITORE", calling: bytes = b"CT1", padding: bytes = b" ", version: int = 1,
    application: bytes = APPLICATION_CONTEXT, information: bytes | None = None, tail: bytes = b"",
) -> bytes:  # fmt: skip
    titles = called.ljust(16, padding)[:16] + calling.ljust(16, padding)[:16] + bytes(32)
    items = item(0x10, application) + b"".join(contexts) + (user() if information is None else information) + tail
    body = struct.pack(">HH", version, 0) + titles + items
    return struct.pack(">BBL", 1, 0, len(body)) + body


def command(field: int, message_id: int = 1, **more: bytes) -> bytes:
    """A command set; `more` as `e0002=b"…"`."""
    elements = {0x0100: struct.pack("<H", field), 0x0800: b"\1\1"}
    elements[0x0120 if field & 0x8000 else 0x0110] = struct.pack("<H", message_id)
    elements |= {int(name[1:], 16): value + b"\0" * (len(value) % 2) for name, value in more.items()}
    body = b"".join(struct.pack("<HHL", 0, number, len(value)) + value for number, value in sorted(elements.items()))
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def p_data(number: int, control: int, data: bytes) -> bytes:
    return struct.pack(">BBLLBB", 4, 0, len(data) + 6, len(data) + 2, number, control) + data


def store_command(ds: Dataset, message_id: int = 1, field: int = 1) -> bytes:
    """The command set of a C-STORE request, or of another that a data set follows."""
    uids = {"e0002": ds.SOPClassUID.encode(), "e1000": ds.SOPInstanceUID.encode()}
    return command(field, message_id, e0700=b"\0\0", e0800=b"\0\0", **uids)


def store_request(number: int, ds: Dataset, message_id: int = 1) -> bytes:
    """A C-STORE of `ds` in explicit VR little endian."""
    head = store_command(ds, message_id)
    encoded = BytesIO()
    ds.save_as(encoded, implicit_vr=False, little_endian=True, enforce_file_format=False)
    file = encoded.getvalue()
    begin = 0
    if file[128:132] == b"DICM":
        begin = 132 + 12 + struct.unpack_from("<L", file, 140)[0]
    return p_data(number, 3, head) + p_data(number, 2, file[begin:])


class Sender:
    """A connection."""

    def __init__(self, port: int, seconds: float = 30.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Sender:
        self.socket.sendall(data)
        return self

    def _take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            some = self.socket.recv(count - len(data))
            if not some:
                raise EOFError
            data += some
        return data

    def pdu(self) -> tuple[int, bytes]:
        """(type, content) of the next PDU. EOFError where the connection ends instead."""
        head = self._take(6)
        return head[0], self._take(int.from_bytes(head[2:], "big"))

    def ask(self, data: bytes) -> dict[int, int]:
        """Ask for an association: the result of each context, by number."""
        kind, body = self.send(data).pdu()
        assert kind == 2, (kind, body)
        found, at = {}, 68
        while at < len(body):
            kind, length = body[at], int.from_bytes(body[at + 2 : at + 4], "big")
            if kind == 0x21:
                assert body[at + 4] not in found
                found[body[at + 4]] = body[at + 6]
            at += 4 + length
        return found

    def message(self) -> dict[int, bytes]:
        """The next message's command elements by number; `-1` is its data set, `-2` how many PDUs it came in."""
        parts, data, pdus = b"", b"", 0
        while True:
            kind, body = self.pdu()
            assert kind == 4, (kind, body)
            pdus += 1
            while body:
                (size,) = struct.unpack_from(">L", body)
                control, value, body = body[5], body[6 : 4 + size], body[4 + size :]
                if control & 1:
                    parts += value
                else:
                    data += value
                if control & 2:
                    elements = _elements(parts)
                    if not control & 1 or elements[0x0800] == b"\1\1":
                        return elements | {-1: data, -2: pdus}  # type: ignore[dict-item]

    def echo(self, number: int = 1) -> int:
        self.send(p_data(number, 3, command(0x30, e0002=ECHO.encode())))
        return status(self.message())

    def ends(self, seconds: float) -> bool:
        """Whether the other end closes the connection in time, whatever it says before."""
        deadline = time.monotonic() + seconds
        try:
            while (left := deadline - time.monotonic()) > 0:
                self.socket.settimeout(left)
                if not self.socket.recv(4096):
                    return True
        except ConnectionError:
            return True
        except TimeoutError:
            pass
        return False


def _elements(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        number, length = struct.unpack_from("<xxHL", data, at)
        found[number] = data[at + 8 : at + 8 + length]
        at += 8 + length
    return found


def status(message: dict[int, Any]) -> int:
    return int.from_bytes(message[0x0900], "little")
