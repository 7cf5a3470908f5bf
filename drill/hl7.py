"""Messages of a registration and of a RIS, over MLLP."""

from __future__ import annotations

import socket
from datetime import datetime
from zoneinfo import ZoneInfo

from drill.world import CODICE_FISCALE, Person


def _now() -> str:
    return datetime.now(ZoneInfo("Europe/Rome")).strftime("%Y%m%d%H%M%S")


def adt(event: str, control: str, person: Person, institution: str, visit: str, **fields: str) -> list[str]:
    """ADT^A01, A03 …; `fields` of PV1 by number, as in `f37="maugeri"`."""
    said = {"f2": "I", "f19": visit} | fields
    last = max(int(name[1:]) for name in said)
    visit_segment = "|".join(["PV1", *(said.get(f"f{number}", "") for number in range(1, last + 1))])
    return [_header(f"ADT^{event}^ADT_{event}", control, institution), f"EVN||{_now()}", _pid(person, institution), visit_segment]


def oru(control: str, person: Person, institution: str, study: str, order: str, text: str, state: str) -> list[str]:
    """A version of a report on a study that is named by its UID."""
    return [
        _header("ORU^R01^ORU_R01", control, institution),
        _pid(person, institution),
        f"ORC|RE|P-{order}|{order}",
        f"OBR|1|P-{order}|{order}|^TC TORACE|||{'|' * 10}|||||{_now()}|||{state}",
        f"OBX|1|ST|113014^DICOM Study^DCM||{study}||||||{state}",
        f"OBX|2|TX|18748-4^Referto^LN||{text}||||||{state}",
    ]


def send(address: str, segments: list[str], timeout: float = 10.0) -> str:
    """The acknowledgement's code (AA, AE, AR), or "" where none came."""
    host, port = address.split(":")
    try:
        with socket.create_connection((host, int(port)), timeout=timeout) as line:
            line.sendall(b"\x0b" + ("\r".join(segments) + "\r").encode() + b"\x1c\r")
            told = b""
            while not told.endswith(b"\x1c\r"):
                piece = line.recv(65536)
                if not piece:
                    return ""
                told += piece
    except OSError:
        return ""
    answer = next((segment for segment in told.decode("utf-8", "replace").split("\r") if segment.startswith("MSA|")), "")
    return answer.split("|")[1] if answer else ""


def _header(kind: str, control: str, institution: str) -> str:
    return f"MSH|^~\\&|DRILL|{institution}|CONTENITORE||{_now()}||{kind}|{control}|P|2.5||||||UNICODE UTF-8"


def _pid(person: Person, institution: str) -> str:
    code = f"{person.code}^^^&{CODICE_FISCALE}&ISO^NNITA"
    return f"PID|1||{person.numbers[institution]}^^^{institution}^PI~{code}||{person.name}||{person.birth_date}|{person.sex}"
