"""From stored values to grey (PS3.3 C.7.6.3.1, C.11.1, C.11.2, C.11.6): Modality LUT, padding, window or VOI LUT, presentation.

What is done to a value depends on the value alone, so it is done once to each value that there may be, and the image looked up
in the result; only wide and floating point pixels are gone through one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chalicelib.dicom.pixels import Layout
from chalicelib.domain import tags
from pixels import luts
from pixels.errors import Unrenderable
from pixels.instance import Node, OpenInstance

_MOST_LISTED = 16
"""Bits stored up to which every value is gone through, and not every pixel."""
_MODALITY_LUT, _VOI_LUT = tags.ModalityLUTSequence.number, tags.VOILUTSequence.number
_SLOPE, _INTERCEPT = tags.RescaleSlope.number, tags.RescaleIntercept.number
_CENTER, _WIDTH, _FUNCTION = tags.WindowCenter.number, tags.WindowWidth.number, tags.VOILUTFunction.number
_FRAME_VOI, _FRAME_VALUES = tags.FrameVOILUTSequence.number, tags.PixelValueTransformationSequence.number
_PADDING, _PADDING_LIMIT, _SHAPE = (
    tags.PixelPaddingValue.number,
    tags.PixelPaddingRangeLimit.number,
    tags.PresentationLUTShape.number,
)
_FLOAT_PADDING = {
    True: (tags.FloatPixelPaddingValue.number, tags.FloatPixelPaddingRangeLimit.number),
    False: (tags.DoubleFloatPixelPaddingValue.number, tags.DoubleFloatPixelPaddingRangeLimit.number),
}

Window = tuple[float, float, str]


@dataclass(frozen=True)
class _Values:
    """What is drawn: `stored` values, whether each `occurs` in the image, and whether each is no more than padding."""

    stored: Any
    occurs: Any
    padding: Any


def grey(opened: OpenInstance, cells: Any, index: int, window: Window | None) -> Any:
    """Frame `index` as grey from 0 to 255. `window`: center, width and function that the caller wants. Raises Unrenderable."""
    layout = opened.described.layout
    if layout.real:
        return _shown(opened, _of(opened, cells, cells.ravel(), None), index, window).reshape(cells.shape)
    if layout.stored > _MOST_LISTED or layout.allocated > 16:
        stored = stored_values(cells, layout)
        return _shown(opened, _of(opened, cells, stored.ravel(), None), index, window).reshape(cells.shape)
    numbers = _numbers(cells, layout)
    size = 1 << layout.stored
    occurs = np.bincount(numbers.ravel(), minlength=size) > 0
    stored = np.arange(size, dtype=np.int64)
    if layout.signed:
        stored = np.where(stored >= size // 2, stored - size, stored)
    return _shown(opened, _of(opened, cells, stored, occurs), index, window)[numbers]


def stored_values(cells: Any, layout: Layout) -> Any:
    """The stored bits of each cell as a number, with its sign."""
    numbers = _numbers(cells, layout).astype(np.int64 if layout.stored < 64 or layout.signed else np.uint64)
    if not layout.signed or layout.stored == 64:
        return numbers
    half = 1 << (layout.stored - 1)
    return (numbers ^ half) - half


def _numbers(cells: Any, layout: Layout) -> Any:
    """The stored bits of each cell, without their neighbours and as unsigned (PS3.5 8.1.1)."""
    bits = cells.dtype.itemsize * 8
    unsigned = np.ascontiguousarray(cells).view(np.dtype(f"<u{bits // 8}"))
    if layout.stored == bits:
        return unsigned
    shift = layout.high_bit + 1 - layout.stored
    return (unsigned >> np.array(shift, unsigned.dtype)) & np.array((1 << layout.stored) - 1, unsigned.dtype)


def _of(opened: OpenInstance, cells: Any, stored: Any, occurs: Any) -> _Values:
    padding = np.zeros(stored.shape, bool)
    limits = _padding(opened, single=cells.dtype.itemsize == 4)
    if limits is not None:
        padding = (stored >= min(limits)) & (stored <= max(limits))
    if opened.described.layout.real:
        padding |= ~np.isfinite(stored)
    return _Values(stored, np.ones(stored.shape, bool) if occurs is None else occurs, padding)


def _padding(opened: OpenInstance, *, single: bool) -> tuple[float, float] | None:
    """First and last value that only fills the image up to a rectangle (PS3.3 C.7.5.1.1.2)."""
    layout = opened.described.layout
    if layout.real:
        first, last = (opened.root.numbers(tag)[:1] for tag in _FLOAT_PADDING[single])
        value = first[0] if first else None
        limit = last[0] if last else None
        return None if value is None else (value, value if limit is None else limit)
    values = []
    for tag in (_PADDING, _PADDING_LIMIT):
        words = opened.root.words(tag)
        if words is None or len(words.data) < 2:
            break
        value = int.from_bytes(words.data[:2], "little" if words.little else "big")
        if layout.signed and value >= 0x8000:
            value -= 0x10000
        values.append(value)
    return (values[0], values[-1]) if values else None


def _shown(opened: OpenInstance, values: _Values, index: int, window: Window | None) -> Any:
    """Each value as grey from 0 to 255; what is padding, and what is no number, as black."""
    groups = opened.groups(index)
    output, known, signed = _modality(opened, groups, values.stored)
    drawn = values.occurs & ~values.padding
    levels = _voi(opened, groups, output, drawn, window, known=known, signed=signed)
    levels = np.clip(np.rint(np.nan_to_num(levels, nan=0.0, posinf=1.0, neginf=0.0) * 255), 0, 255).astype(np.uint8)
    inverse = opened.described.layout.photometric == "MONOCHROME1" or opened.root.text(_SHAPE) == "INVERSE"
    shown = 255 - levels if inverse else levels
    return np.where(values.padding, np.uint8(0), shown)


def _modality(opened: OpenInstance, groups: list[Node], stored: Any) -> tuple[Any, bool, bool]:
    """(the output of the Modality LUT; whether it is what a window of the image is meant for; whether it may be negative)."""
    layout = opened.described.layout
    item = opened.root.item(_MODALITY_LUT)
    table = luts.read(item, tags.LUTDescriptor.number, tags.LUTData.number, signed=layout.signed) if item is not None else None
    if table is not None:
        return table.look_up(stored).astype(np.float64), True, False
    values = stored.astype(np.float64)
    slope, intercept, known = 1.0, 0.0, True
    for node in (opened.root, *(values_of for group in groups if (values_of := group.item(_FRAME_VALUES)) is not None)):
        slopes, intercepts = node.numbers(_SLOPE), node.numbers(_INTERCEPT)
        if slopes or intercepts:
            slope = 1.0 if not slopes else slopes[0] if slopes[0] is not None else 0.0
            read = intercepts[0] if intercepts else 0.0
            intercept = read if read is not None else 0.0
            whole = bool(slopes and intercepts) or (slope, intercept) == (1.0, 0.0)  # of half a one readers make several things
            known = slope != 0.0 and read is not None and whole
    if not known:  # what cannot be read is not guessed: the values as they are stored, and no window meant for others
        return values, False, layout.signed
    return values * slope + intercept, True, layout.signed or slope < 0 or intercept < 0


def _voi(
    opened: OpenInstance, groups: list[Node], values: Any, drawn: Any, window: Window | None, *, known: bool, signed: bool
) -> Any:
    """From 0 to 1: the caller's window, a VOI LUT, the image's first window, or all values that occur."""
    if window is not None:
        return windowed(values, *window)
    nodes = [voi for group in reversed(groups) if (voi := group.item(_FRAME_VOI)) is not None]
    for node in (*nodes, opened.root) if known else ():
        item = node.item(_VOI_LUT)
        try:
            table = luts.read(item, tags.LUTDescriptor.number, tags.LUTData.number, signed=signed) if item is not None else None
        except Unrenderable:
            table = None  # another way of showing the same values
        if table is not None:
            whole = np.rint(np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0))
            return table.look_up(np.clip(whole, -1e15, 1e15)) / ((1 << table.bits) - 1)
        name = node.text(_FUNCTION).lower().replace("_", "-") or "linear"
        for center, width in zip(node.numbers(_CENTER), node.numbers(_WIDTH), strict=False):
            if center is not None and width is not None and width >= (0 if name in ("linear-exact", "sigmoid") else 1) and width:
                return windowed(values, center, width, name)
    return _stretched(values, drawn)


def windowed(values: Any, center: float, width: float, function: str) -> Any:
    """From 0 to 1 (PS3.3 C.11.2.1.2, C.11.2.1.3)."""
    with np.errstate(invalid="ignore", over="ignore"):
        if function == "sigmoid":
            return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
        if function == "linear-exact":
            return np.clip((values - center) / width + 0.5, 0, 1)
        if width <= 1:
            return (values > center - 0.5).astype(np.float64)
        return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def _stretched(values: Any, drawn: Any) -> Any:
    """From 0 to 1 over the values that occur, where nothing says which matter; padding does not."""
    seen = values[drawn]
    if not seen.size:
        return np.zeros_like(values)
    low, high = float(seen.min()), float(seen.max())
    with np.errstate(invalid="ignore", over="ignore"):
        return np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
