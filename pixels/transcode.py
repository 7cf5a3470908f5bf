"""An instance in Explicit VR Little Endian, and single frames as plain pixels (PS3.5 A.2, PS3.18 8.7.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from chalicelib.dicom.source import Fetch
from pixels import decode
from pixels.decode import BIG_ENDIAN
from pixels.errors import Undecodable
from pixels.instance import Opened

_WORDS = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
_PLAIN = (None, ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
"""Transfer syntaxes whose elements can be written anew as they are, whatever their pixels are."""


def to_explicit_little_endian(path: Path, target: Path) -> None:
    """Write the instance anew, its pixels decoded, under the same SOP Instance UID. Raises Undecodable, and what reading raises.

    Compressed pixels that cannot be decoded rightly make no instance; what was never compressed goes as it is.
    """
    dataset: Dataset = dcmread(path, force=True)
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if "PixelData" in dataset:
        with path.open("rb") as file:
            opened = Opened(ranges(file), path.stat().st_size)
            if opened.described.facts.frames_fault and syntax not in _PLAIN:
                raise Undecodable(opened.described.facts.frames_fault)
            if opened.described.facts.encapsulated:
                _decompress(opened, dataset)
    if syntax == ExplicitVRBigEndian:
        dataset.walk(_swap)  # and reads every element, so that none is left in the order of the file
        dataset = _anew(dataset)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dcmwrite(target, dataset, implicit_vr=False, little_endian=True, enforce_file_format=True)


def ranges(file: BinaryIO) -> Fetch:
    """Reads an open file as a stored object is read."""

    def fetch(start: int, length: int) -> bytes:
        file.seek(start)
        return file.read(length)

    return fetch


def _anew(dataset: Dataset) -> Dataset:
    """The same elements in a data set that comes from no file, which may be written in any order of bytes."""
    plain = Dataset()
    plain.update(dataset)
    plain.file_meta = dataset.file_meta
    return plain


def frame(opened: Opened, index: int) -> bytes:
    """One frame (from 0) in little endian: native samples in their own order, compressed ones together. Raises Undecodable."""
    described, layout = opened.described, opened.described.layout
    if not described.facts.encapsulated:
        decode.check_size(layout)
        source = opened.frame(index)
        width = layout.allocated // 8
        swapped = opened.head.transfer_syntax_uid in BIG_ENDIAN and width > 1
        return _turned(source, width) if swapped else source
    return _little(_decoded(opened, index)[0])


def _decoded(opened: Opened, index: int) -> tuple[Any, str]:
    """Cells, and what they are; YBR of YBR_FULL_422 is of every pixel."""
    cells, photometric = decode.cells(opened, index)
    if opened.described.layout.allocated == 1:
        return np.packbits(cells.ravel(), bitorder="little"), photometric
    return cells, photometric


def _decompress(opened: Opened, dataset: Dataset) -> None:
    count = opened.described.facts.frames
    decode.check_size(opened.described.layout, count)
    frames, photometric = [], ""
    for index in range(count):
        cells, photometric = _decoded(opened, index)
        frames.append(_little(cells))
    pixels = b"".join(frames)
    dataset["PixelData"].value = pixels + b"\0" * (len(pixels) % 2)
    dataset["PixelData"].VR = "OW" if int(dataset.BitsAllocated) > 8 else "OB"
    dataset["PixelData"].is_undefined_length = False
    if opened.described.layout.samples > 1:
        dataset.PlanarConfiguration = 0
        dataset.PhotometricInterpretation = photometric
    if count != opened.described.declared_frames:
        dataset.NumberOfFrames = count
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            del dataset[keyword]


def _turned(source: bytes, width: int) -> bytes:
    return np.frombuffer(source, f">u{width}").astype(f"<u{width}").tobytes()


def _little(values: Any) -> bytes:
    return bytes(np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False).tobytes())


def _swap(dataset: Dataset, element: Any) -> None:
    """Binary words of a big endian data set in little endian order (PS3.5 7.3)."""
    width = _WORDS.get(element.VR, 1)
    if element.tag == 0x7FE00010 and int(dataset.get("BitsAllocated") or 8) == 8:
        width = 2 if element.VR == "OW" else 1
    if width > 1 and isinstance(element.value, bytes) and len(element.value) % width == 0:
        element.value = np.frombuffer(element.value, f">u{width}").astype(f"<u{width}").tobytes()
