"""An instance in Explicit VR Little Endian, and single frames as plain pixels (PS3.5 A.2, PS3.18 8.7.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.pixels import iter_pixels
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from pixels.frames import frame_values

MOST_DECODED = 1024 * 1024 * 1024
_WORDS = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
_COLOUR = ("YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT", "YBR_PARTIAL_420", "YBR_PARTIAL_422")


class TooMuch(ValueError):
    """More pixels than are decoded at once."""


def to_explicit_little_endian(path: Path, target: Path) -> None:
    """Write the instance anew, its pixels decoded, under the same SOP Instance UID. Raises TooMuch, and what decoding raises."""
    dataset: Dataset = dcmread(path, force=True)
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is not None and syntax.is_compressed and syntax.is_encapsulated and "PixelData" in dataset:
        _check_size(dataset)
        _decompress(path, dataset)
    elif syntax == ExplicitVRBigEndian:
        dataset.walk(_swap)  # and reads every element, so that none is left in the order of the file
        dataset = _anew(dataset)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dcmwrite(target, dataset, implicit_vr=False, little_endian=True, enforce_file_format=True)


def _anew(dataset: Dataset) -> Dataset:
    """The same elements in a data set that comes from no file, which may be written in any order of bytes."""
    plain = Dataset()
    plain.update(dataset)
    plain.file_meta = dataset.file_meta
    return plain


def frame(path: Path, dataset: Dataset, index: int) -> bytes:
    """One frame (from 0) in little endian, samples of a pixel together. Raises TooMuch, and what decoding raises."""
    _check_size(dataset, 1)
    return _little(frame_values(path, dataset, index))


def _decompress(path: Path, dataset: Dataset) -> None:
    frames = [_little(one) for one in iter_pixels(path)]
    pixels = b"".join(frames)
    dataset["PixelData"].value = pixels + b"\0" * (len(pixels) % 2)
    dataset["PixelData"].VR = "OW" if int(dataset.BitsAllocated) > 8 else "OB"
    dataset["PixelData"].is_undefined_length = False
    if int(dataset.SamplesPerPixel) > 1:
        dataset.PlanarConfiguration = 0
        if dataset.PhotometricInterpretation in _COLOUR:
            dataset.PhotometricInterpretation = "RGB"
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            del dataset[keyword]


def _check_size(dataset: Dataset, frames: int | None = None) -> None:
    count = frames or max(1, int(dataset.get("NumberOfFrames") or 1))
    width = (int(dataset.BitsAllocated) + 7) // 8
    if count * int(dataset.Rows) * int(dataset.Columns) * int(dataset.SamplesPerPixel) * width > MOST_DECODED:
        raise TooMuch


def _little(values: Any) -> bytes:
    return bytes(np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False).tobytes())


def _swap(dataset: Dataset, element: Any) -> None:
    """Binary words of a big endian data set in little endian order (PS3.5 7.3)."""
    width = _WORDS.get(element.VR, 1)
    if element.tag == 0x7FE00010 and int(dataset.get("BitsAllocated") or 8) == 8:
        width = 2 if element.VR == "OW" else 1
    if width > 1 and isinstance(element.value, bytes) and len(element.value) % width == 0:
        element.value = np.frombuffer(element.value, f">u{width}").astype(f"<u{width}").tobytes()
