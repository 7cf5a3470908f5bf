"""An object's head, and the stored values of one frame, decoded; colour as RGB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.pixels import pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian


def head_of(path: Path) -> Dataset:
    """The data set without pixels; its file meta says the transfer syntax also of an object that has no file meta itself."""
    dataset = dcmread(path, force=True, stop_before_pixels=True)
    if not dataset.file_meta.get("TransferSyntaxUID"):
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset


def frame_values(path: Path, dataset: Dataset, index: int) -> Any:
    """Frame `index` (from 0) as an array of rows, columns and, in colour, samples. `dataset` is the object's head.

    Only this frame is read, but of a deflated object, which has to be read as a whole.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == DeflatedExplicitVRLittleEndian:
        return pixel_array(dcmread(path, force=True), index=index)
    return pixel_array(path, index=index, transfer_syntax_uid=syntax)
