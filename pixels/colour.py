"""From cells to RGB of eight bits (PS3.3 C.7.6.3.1.2, C.7.6.3.1.5): the bits that are stored, YBR, palettes."""

from __future__ import annotations

from typing import Any

import numpy as np

from chalicelib.dicom.pixels import Layout
from pixels import luts
from pixels.errors import Unrenderable
from pixels.grey import stored_values
from pixels.instance import OpenInstance

_FROM_YBR = np.array([[1.0, 0.0, 1.402], [1.0, -0.344136, -0.714136], [1.0, 1.772, 0.0]], np.float32)
_FROM_PARTIAL = np.array([[1.1644, 0.0, 1.5960], [1.1644, -0.3917, -0.8130], [1.1644, 2.0173, 0.0]], np.float32)


def of_palette(opened: OpenInstance, cells: Any) -> Any:
    """The palette's colour of each pixel. Raises Unrenderable."""
    layout = opened.described.layout
    tables, bits = luts.palette(opened.root, signed=layout.signed)
    stored = stored_values(cells, layout)
    colours = np.stack([table.look_up(stored) for table in tables], axis=-1)
    return _eight_bits(colours, bits)


def of_samples(cells: Any, photometric: str, layout: Layout) -> Any:
    """RGB of cells of three samples. Raises Unrenderable.

    Colour has no sign, whatever its data set says: no image's definition in PS3.3 lets Pixel Representation be 1 there.
    """
    stored = stored_values(cells, layout._replace(signed=False))
    if photometric in ("YBR_FULL", "YBR_PARTIAL"):
        return _rgb(stored, photometric, layout.stored)
    if photometric != "RGB":
        raise Unrenderable(f"{photometric} cannot be drawn")
    return _eight_bits(stored, layout.stored)


def _rgb(stored: Any, photometric: str, bits: int) -> Any:
    scaled = stored.astype(np.float32) * np.float32(255 / ((1 << bits) - 1))
    middle = np.float32(255 * (1 << (bits - 1)) / ((1 << bits) - 1))
    first, matrix = (np.float32(16), _FROM_PARTIAL) if photometric == "YBR_PARTIAL" else (np.float32(0), _FROM_YBR)
    scaled -= np.array([first, middle, middle], np.float32)
    return np.clip(np.rint(scaled @ matrix.T), 0, 255).astype(np.uint8)


def _eight_bits(values: Any, bits: int) -> Any:
    if bits == 8:
        return values.astype(np.uint8)
    return np.clip(np.rint(values.astype(np.float64) * (255 / ((1 << bits) - 1))), 0, 255).astype(np.uint8)
