"""The stored values of one frame, decoded; colour as RGB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.pixels import pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian


def frame_values(path: Path, dataset: Dataset, index: int) -> Any:
    """Frame `index` (from 0) as an array of rows, columns and, in colour, samples. `dataset` is the object's head.

    Only this frame is read, but of a deflated object, which has to be read as a whole.
    """
    if dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        return pixel_array(dcmread(path, force=True), index=index)
    return pixel_array(path, index=index)
