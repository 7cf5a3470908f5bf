"""A RIS for the tests: it builds messages, and sends them over MLLP."""

from __future__ import annotations

import base64
import itertools
import socket
from dataclasses import dataclass
from typing import Any

_numbers = itertools.count(1)


def header(control_id: str = "", kind: str = "ORU^R01", version: str = "2.5", charset: str = "UNICODE UTF-8", **more: str) -> str:
    """MSH; `more`: fields by number, as in `field_15="AL"`."""
    control_id = control_id or f"M{next(_numbers)}"
    fields = ["MSH", "^~\\&", "RIS", "SAN-MATTEO", "CONTENITORE", "CITY", "20260301100000", "", kind, control_id, "P", version]
    fields += [""] * 5 + [charset]
    for name, value in more.items():
        fields[int(name.removeprefix("field_")) - 1] = value
    return "|".join(fields)


def oru(
    text: str = "",
    *,
    patient: str = "SM-1",
    study: str = "",
    accession: str = "",
    order: str = "F-1",
    state: str = "F",
    documents: tuple[bytes, ...] = (),
    obx_state: str = "F",
    status_at: str = "",
    exam_at: str = "",
    **of_header: str,
) -> bytes:
    """A report: its lines as OBX of type TX, its documents as OBX of type ED."""
    lines = [
        header(**of_header),
        f"PID|1||{patient}^^^SM^MR||FERRARI^LUCIA",
        f"ORC|RE|P-1|{order}",
        f"OBR|1|P-1|{order}|36643-5^RX TORACE PA^LN|||{exam_at}{'|' * 10}|{accession}||||{status_at}|||{state}",
    ]
    if study:
        lines.append(f"OBX|1|ST|113014^DICOM Study^DCM||{study}||||||F")
    lines += [f"OBX|{n}|TX|18748-4^Referto^LN||{line}||||||{obx_state}" for n, line in enumerate(text.split("\n"), 2) if text]
    lines += [
        f"OBX|{n}|ED|18748-4^Referto^LN||^Application^PDF^Base64^{base64.b64encode(document).decode()}||||||{obx_state}"
        for n, document in enumerate(documents, 900)
    ]
    return ("\r".join(lines) + "\r").encode()


def pdf(text: str = "Referto") -> bytes:
    return b"%PDF-1.4\n% " + text.encode() + b"\n%%EOF\n"


@dataclass(frozen=True)
class Answer:
    """An acknowledgement."""

    text: str

    def field(self, segment: str, number: int) -> str:
        for line in self.text.split("\r"):
            fields = line.split("|")
            if fields[0] == segment:
                at = number - 1 if segment == "MSH" else number
                return fields[at] if at < len(fields) else ""
        return ""

    @property
    def code(self) -> str:
        return self.field("MSA", 1)


class Ris:
    """A connection to a forwarder."""

    def __init__(self, port: int, tls: Any = None) -> None:
        raw = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket = tls.wrap_socket(raw) if tls else raw
        self._rest = b""

    def __enter__(self) -> Ris:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def post(self, message: bytes) -> None:
        self.socket.sendall(b"\x0b" + message + b"\x1c\r")

    def answer(self) -> Answer | None:
        """The next answer; None when the connection ended instead."""
        while b"\x1c\r" not in self._rest:
            try:
                data = self.socket.recv(65536)
            except ConnectionError:
                return None
            if not data:
                return None
            self._rest += data
        block, _, self._rest = self._rest.partition(b"\x1c\r")
        assert block[:1] == b"\x0b"
        return Answer(block[1:].decode(errors="replace"))

    def send(self, message: bytes) -> Answer:
        self.post(message)
        answer = self.answer()
        assert answer is not None
        return answer


def send(port: int, *messages: bytes) -> list[str]:
    """The acknowledgement code of each message, over one connection."""
    with Ris(port) as ris:
        return [ris.send(message).code for message in messages]
