"""A study as a ZIP archive with a DICOMDIR, as one burns it on a disc (PS3.18 8.7.3.1, PS3.10 8, Annex V of PS3.12).

Files are not compressed, so that the archive can be put together inside S3 from the objects as they are. Only their checksums
need their bytes, which are read once more.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence

from chalicelib.domain import keys, tags
from chalicelib.domain.assembly import MIB, ObjectRange, Piece
from chalicelib.domain.errors import TooLarge
from chalicelib.domain.ports import Objects
from chalicelib.domain.studies import Instance
from chalicelib.services.retrieval.bodies import Body, VisibleStudy, kept_body, object_key

MOST_BYTES, MOST_FILES = 3840 * MIB, 65_000
"""What fits an archive whose sizes have 32 bits and whose count has 16 (APPNOTE 4.4)."""
ZIP = "application/zip"
_DOS_DATE = (1980 - 1980) << 9 | 1 << 5 | 1
_VERSION, _UTF8 = 20, 0x0800


def body(objects: Objects, opened: VisibleStudy, found: Sequence[Instance]) -> Body:
    """The archive of these instances. Raises TooLarge."""
    if len(found) > MOST_FILES or sum(instance.fact.size for instance in found) > MOST_BYTES:
        raise TooLarge("This is too much for one archive. Please retrieve series by series, or use the study's manifest.")
    digest = hashlib.sha256("\n".join(object_key(opened.owner, instance) for instance in found).encode()).hexdigest()
    headers = (("Content-Disposition", f'attachment; filename="{digest[:8]}.zip"'),)
    return kept_body(objects, keys.zip_body(digest), ZIP, headers, lambda: _pieces(objects, opened, found, digest))


def _pieces(objects: Objects, opened: VisibleStudy, found: Sequence[Instance], digest: str) -> list[Piece]:
    from chalicelib.dicom.dicomdir import File, dicomdir

    paths = [("DICOM", f"{number:08d}") for number in range(1, len(found) + 1)]
    files = [
        File(
            path,
            instance.fact.sop_class_uid,
            instance.sop_instance_uid,
            instance.fact.transfer_syntax_uid,
            _attributes(opened, instance),
        )
        for path, instance in zip(paths, found, strict=True)
    ]
    directory = dicomdir(files, f"2.25.{int(digest[:32], 16)}")
    contents = [ObjectRange(object_key(opened.owner, instance), 0, instance.fact.size) for instance in found]
    entries: list[tuple[str, int, Piece, int]] = [("DICOMDIR", zlib.crc32(directory), directory, len(directory))]
    for path, content, checksum in zip(paths, contents, objects.checksums(contents), strict=True):
        entries.append(("/".join(path), checksum, content, content.length))
    return _zip(entries)


def _zip(entries: Sequence[tuple[str, int, Piece, int]]) -> list[Piece]:
    """The archive of (name, CRC-32, content, size), all stored (APPNOTE 4.3)."""
    pieces: list[Piece] = []
    central: list[bytes] = []
    at = 0
    for name, checksum, content, size in entries:
        common = struct.pack("<HHHHHLLLHH", _VERSION, _UTF8, 0, 0, _DOS_DATE, checksum, size, size, len(name), 0)
        head = b"PK\x03\x04" + common + name.encode()
        central.append(
            b"PK\x01\x02" + struct.pack("<H", _VERSION) + common + struct.pack("<HHHLL", 0, 0, 0, 0, at) + name.encode()
        )
        pieces += [head, content]
        at += len(head) + size
    directory = b"".join(central)
    end = struct.pack("<HHHHLLH", 0, 0, len(entries), len(entries), len(directory), at, 0)
    return [*pieces, directory, b"PK\x05\x06" + end]


def _attributes(opened: VisibleStudy, instance: Instance) -> dict[str, object]:
    return {
        **instance.attributes,
        tags.StudyInstanceUID: {"vr": "UI", "Value": [opened.study]},
        tags.SeriesInstanceUID: {"vr": "UI", "Value": [instance.series_instance_uid]},
    }
