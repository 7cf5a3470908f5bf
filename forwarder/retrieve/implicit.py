"""A file rewritten in Implicit VR Little Endian (PS3.5 A.1), for equipment that knows nothing else: DICOM's default, which
everyone has to take. Its pixels are copied as they are, a piece at a time.
"""

from __future__ import annotations

import struct
from pathlib import Path

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO, DicomFileLike
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from forwarder.header import EXPLICIT_LE, IMPLICIT_LE, UNDEFINED, head_of, walk
from forwarder.retrieve.coercion import LARGEST_HEAD, UncoercibleError

_COPIED_AT_ONCE = 1024 * 1024
_PIXEL_DATA = (0x7FE0, 0x0010)


def to_implicit(source: Path, target: Path) -> None:
    """Write `source`, a Part 10 file in Explicit VR Little Endian, to `target` in Implicit VR Little Endian.

    Raises UncoercibleError for a file that is in another transfer syntax or cannot be taken apart, OSError.
    """
    try:
        _rewrite(source, target)
    except (struct.error, ValueError) as error:  # as lengths that say more than there is
        raise UncoercibleError("it cannot be taken apart") from error


def _rewrite(source: Path, target: Path) -> None:
    with source.open("rb") as file:
        header = head_of(file)
        if header is None or header.transfer_syntax_uid != EXPLICIT_LE or not header.data_set_at:
            raise UncoercibleError("it is not in Explicit VR Little Endian")
        pixels = header.pixel_data
        if pixels is not None and pixels.length == UNDEFINED:
            raise UncoercibleError("its pixels are encapsulated")
        size = source.stat().st_size
        end = size if pixels is None else pixels.start
        rest_at = size if pixels is None else pixels.value_at + pixels.length
        if end - header.data_set_at > LARGEST_HEAD or size - rest_at > LARGEST_HEAD or rest_at > size:
            raise UncoercibleError("its head is too large, or it is cut short")
        with target.open("wb") as out:
            file.seek(0)
            out.write(_meta(file.read(header.data_set_at)))
            file.seek(header.data_set_at)
            out.write(_implicit(file.read(end - header.data_set_at)))
            if pixels is not None:
                out.write(struct.pack("<HHL", *_PIXEL_DATA, pixels.length))
                file.seek(pixels.value_at)
                left = pixels.length
                while left:
                    data = file.read(min(left, _COPIED_AT_ONCE))
                    out.write(data)
                    left -= len(data)
                out.write(_implicit(file.read()))


def _implicit(elements: bytes) -> bytes:
    try:
        content = read_dataset(DicomBytesIO(elements), is_implicit_VR=False, is_little_endian=True)
        out: DicomFileLike = DicomBytesIO()
        out.is_implicit_VR, out.is_little_endian = True, True
        write_dataset(out, Dataset(content))
    except Exception as error:  # whatever pydicom stumbles over: what is not surely whole is not sent
        raise UncoercibleError("its elements cannot be written in Implicit VR") from error
    return bytes(out.getvalue())


def _meta(head: bytes) -> bytes:
    """Preamble and file meta, with the other transfer syntax."""
    kept = []
    for element in walk(head, 132, implicit=False, order="<"):
        raw = head[element.start : element.value_at + element.length]
        if element.tag == (0x0002, 0x0010):
            uid = IMPLICIT_LE.encode() + b"\0" * (len(IMPLICIT_LE) % 2)
            raw = struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid
        if element.tag != (0x0002, 0x0000):
            kept.append(raw)
    body = b"".join(kept)
    return head[:132] + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(body)) + body
