"""A PS3.10 file out of metadata and bulk data, as a store request may bring them (PS3.18 10.5.1.4, 10.5.2).

Compressed pixels are put into fragments as they are, never decoded (Table 10.5.2-1, "Unchanged"). What is not done:
image/png and image/gif, which would have to be transformed, and pixels whose Image Pixel Description Macro is left
out. Needs pydicom, which is imported only then.
"""

from __future__ import annotations

import base64
import logging
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

from chalicelib.dicomweb.json_model import Model, first_text, items
from chalicelib.dicomweb.media_types import EXPLICIT_VR_LITTLE_ENDIAN, parse_media_type
from chalicelib.dicomweb.multipart import BodyPart
from chalicelib.dicomweb.representations import FRAME_TYPES, OCTETS
from chalicelib.domain import tags
from chalicelib.domain.dicom_json import Element

if TYPE_CHECKING:
    from pydicom import Dataset

PIXEL_DATA = tags.PixelData
_UIDS = (tags.SOPClassUID, tags.SOPInstanceUID, tags.StudyInstanceUID, tags.SeriesInstanceUID)
_BULK_FORMATS = {"FL": "f", "FD": "d", "SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q"}
_BULK_TEXTS = frozenset({"DS", "IS", "LT", "ST", "UC", "UT"})
# The macro that pixels need (PS3.3 C.7.6.3): samples, photometric interpretation, rows, columns, bits.
_PIXEL_MACRO = (
    tags.SamplesPerPixel,
    tags.PhotometricInterpretation,
    tags.Rows,
    tags.Columns,
    tags.BitsAllocated,
    tags.BitsStored,
    tags.HighBit,
    tags.PixelRepresentation,
)

# Start of frame of a JPEG stream → its transfer syntax (ISO 10918-1 B.1.1.3, PS3.5 8.2.1).
_JPEG_FRAMES = {
    0xC0: "1.2.840.10008.1.2.4.50",
    0xC1: "1.2.840.10008.1.2.4.51",
    0xC3: "1.2.840.10008.1.2.4.70",
}


class Unstorable(Exception):
    """Metadata that makes no instance; `reason` is a key of `stow_response.FAILURE_REASONS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def to_part10(model: Model, bulkdata: Callable[[str], Sequence[BodyPart]]) -> bytes:
    """The instance as a PS3.10 file in Explicit VR Little Endian, or in the transfer syntax of its compressed pixels.

    `bulkdata`: the parts that a BulkDataURI stands for. Text becomes UTF-8 (ISO_IR 192). Raises Unstorable.
    """
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset

    if not all(first_text(model, tag) for tag in _UIDS):
        raise Unstorable("missing-uid")
    content = {tag: element for tag, element in model.items() if tag[:4] != "0002"}
    syntax, pixels = _pixels(content, bulkdata)
    if pixels is not None:
        content[PIXEL_DATA] = {"vr": "OB"}
    try:
        with _unheard():
            dataset = Dataset.from_json(_inlined(content, bulkdata))
            if pixels is not None:
                dataset.PixelData = pixels
                dataset[PIXEL_DATA].is_undefined_length = True
            elif "PixelData" in dataset and all(tag in content for tag in _PIXEL_MACRO):
                _check_length(dataset)
            dataset.SpecificCharacterSet = "ISO_IR 192"
            dataset.file_meta = FileMetaDataset()
            dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.file_meta.TransferSyntaxUID = syntax
            out = BytesIO()
            dataset.save_as(out, enforce_file_format=True)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError, struct.error) as error:
        raise Unstorable("unreadable") from error
    return out.getvalue()


def _check_length(dataset: Dataset) -> None:
    """What is not as long as the pixels that the metadata describes would be drawn as noise (PS3.5 8.1.1)."""
    from pydicom.pixels.utils import get_expected_length

    expected = get_expected_length(dataset)
    if len(dataset.PixelData) not in (expected, expected + expected % 2):
        raise Unstorable("unreadable")


@contextmanager
def _unheard() -> Iterator[None]:
    """pydicom warns of a value by repeating it, by `warnings` and to its logger: of a patient, neither may reach a log."""
    log = logging.getLogger("pydicom")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before


def _pixels(model: Model, bulkdata: Callable[[str], Sequence[BodyPart]]) -> tuple[str, bytes | None]:
    """(transfer syntax, encapsulated pixels or None where they are native or absent)."""
    uri = model.get(PIXEL_DATA, {}).get("BulkDataURI")
    parts = bulkdata(uri) if isinstance(uri, str) else ()
    declared = parse_media_type((parts[0].header("content-type") if parts else None) or "")
    name, syntax = (declared.name, declared.parameter("transfer-syntax")) if declared is not None else ("", None)
    if name in ("", OCTETS) and syntax in (None, "", EXPLICIT_VR_LITTLE_ENDIAN):
        return EXPLICIT_VR_LITTLE_ENDIAN, None
    if not all(tag in model for tag in _PIXEL_MACRO):
        raise Unstorable("unsupported-media-type")
    syntax = syntax or _syntax_of(name, bytes(parts[0].body[: 64 * 1024]))
    if syntax not in FRAME_TYPES or name not in (FRAME_TYPES[syntax].lower(), OCTETS):
        raise Unstorable("unsupported-transfer-syntax")
    from pydicom.encaps import encapsulate

    return syntax, encapsulate([bytes(part.body) for part in parts])


def _syntax_of(media_type: str, start: bytes) -> str:
    """The transfer syntax of a compressed frame: of JPEG by its start of frame, else that of its media type (Table 8.7.3-5) which
    says the least: pixels of which nobody said so are not called without loss."""
    if media_type == "image/jpeg":
        at = 2
        while at + 4 <= len(start) and start[at] == 0xFF:
            if start[at + 1] in _JPEG_FRAMES:
                return _JPEG_FRAMES[start[at + 1]]
            at += 2 + int.from_bytes(start[at + 2 : at + 4], "big")
        raise Unstorable("unsupported-transfer-syntax")
    return _DEFAULT_SYNTAX.get(media_type, "")


_DEFAULT_SYNTAX = {
    "image/dicom-rle": "1.2.840.10008.1.2.5",
    "image/jls": "1.2.840.10008.1.2.4.80",
    "image/jp2": "1.2.840.10008.1.2.4.91",
    "image/jpx": "1.2.840.10008.1.2.4.93",
    "image/jphc": "1.2.840.10008.1.2.4.203",
    "image/jxl": "1.2.840.10008.1.2.4.112",
    "video/mpeg": "1.2.840.10008.1.2.4.101",
    "video/mp4": "1.2.840.10008.1.2.4.102",
    "video/h265": "1.2.840.10008.1.2.4.107",
}


def _inlined(model: Model, bulkdata: Callable[[str], Sequence[BodyPart]]) -> Model:
    """The model with bulk data in place of its references."""
    result: Model = {}
    for tag, element in model.items():
        if element["vr"] == "SQ":
            inner = [_inlined(item, bulkdata) for item in items(model, tag)]
            result[tag] = {"vr": "SQ", "Value": inner} if inner else {"vr": "SQ"}
        elif "BulkDataURI" in element:
            parts = bulkdata(element["BulkDataURI"])
            if not parts:
                raise Unstorable("missing-bulkdata")
            result[tag] = _from_bulk(element["vr"], b"".join(bytes(part.body) for part in parts))
        elif element["vr"] == "DS" and "Value" in element:
            result[tag] = {"vr": "DS", "Value": [_decimal(value) for value in element["Value"]]}
        else:
            result[tag] = element
    return result


def _decimal(value: object) -> object:
    """A number as a DS has room for it: 16 characters (PS3.5 6.2)."""
    from pydicom.valuerep import format_number_as_ds

    return format_number_as_ds(value) if isinstance(value, float) else value


def _from_bulk(vr: str, value: bytes) -> Element:
    """An attribute whose value field came as bulk data, in little endian (PS3.18 8.7.3.3.1)."""
    if vr in _BULK_FORMATS:
        size = struct.calcsize("<" + _BULK_FORMATS[vr])
        if len(value) % size:
            raise Unstorable("unreadable")
        return {"vr": vr, "Value": list(struct.unpack(f"<{len(value) // size}{_BULK_FORMATS[vr]}", value))}
    if vr in _BULK_TEXTS:
        text = value.decode("utf-8", "replace").rstrip(" \0")
        return {"vr": vr, "Value": [text] if vr in ("LT", "ST", "UT") else text.split("\\")}
    return {"vr": vr, "InlineBinary": base64.b64encode(value + b"\0" * (len(value) % 2)).decode("ascii")}
