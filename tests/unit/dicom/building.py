"""Small DICOM files made byte by byte, right ones and broken ones, and the real files that come with
pydicom.
"""

from __future__ import annotations

import importlib.util
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

IMPLICIT, EXPLICIT, BIG, DEFLATED = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
)
JPEG = "1.2.840.10008.1.2.4.50"
CT = "1.2.840.10008.5.1.4.1.1.2"
UNDEFINED = 0xFFFFFFFF
_LONG = ("OB", "OW", "SQ", "UN", "UT", "OV")


def element(tag: int, vr: str, value: bytes | str, length: int | None = None, order: str = "<") -> bytes:
    """One explicit element; `length` lies about the value where given."""
    data = value.encode() if isinstance(value, str) else value
    if len(data) % 2:
        data += b"\0" if vr in ("UI", "OB", "UN") else b" "
    count = len(data) if length is None else length
    head = struct.pack(f"{order}HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    return head + struct.pack(f"{order}HL" if vr in _LONG else f"{order}H", *([0] if vr in _LONG else []), count) + data


def implicit(tag: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    data += b"\0" * (len(data) % 2)
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(data)) + data


def item(content: bytes, length: int | None = None) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content) if length is None else length) + content


ITEM_END = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
SEQUENCE_END = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


def identity(study: str = "1.2.3", sop: str = "1.2.3.4.5", sop_class: str = CT, patient: str = "P1") -> bytes:
    return (
        element(0x00080016, "UI", sop_class)
        + element(0x00080018, "UI", sop)
        + element(0x00100020, "LO", patient)
        + element(0x0020000D, "UI", study)
        + element(0x0020000E, "UI", "1.2.3.4")
    )


def file_meta(syntax: str = EXPLICIT, sop: str = "1.2.3.4.5", sop_class: str = CT) -> bytes:
    content = element(0x00020002, "UI", sop_class) + element(0x00020003, "UI", sop) + element(0x00020010, "UI", syntax)
    return element(0x00020000, "UL", struct.pack("<L", len(content))) + content


def part10(body: bytes, syntax: str = EXPLICIT, preamble: bytes = b"", meta: bytes | None = None) -> bytes:
    if syntax == DEFLATED:
        body = deflate(body)
    return preamble.ljust(128, b"\0") + b"DICM" + (file_meta(syntax) if meta is None else meta) + body


def deflate(body: bytes) -> bytes:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return squeeze.compress(body) + squeeze.flush()


def pixels(count: int = 64) -> bytes:
    return element(0x7FE00010, "OW", b"\1\2" * (count // 2))


def image(**changes: str) -> bytes:
    return part10(identity(**changes) + pixels())


def reader(data: bytes) -> Callable[[int, int], bytes]:
    return lambda start, length: data[start : start + length]


class Counting:
    """A fetch that remembers what was asked of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked: list[tuple[int, int]] = []

    def __call__(self, start: int, length: int) -> bytes:
        self.asked.append((start, length))
        return self.data[start : start + length]


def _folder(package: str, inside: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / inside


def real_files() -> dict[str, Path]:
    """Every file of pydicom and pydicom-data that somebody could take for a DICOM file, by a short name."""
    found = {}
    for folder in (_folder("pydicom", "data"), _folder("data_store", "data")):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix in ("", ".dcm"):
                found[path.relative_to(folder).as_posix()] = path
    return found
