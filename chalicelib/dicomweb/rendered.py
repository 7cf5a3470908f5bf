"""Parameters of rendered resources and thumbnails (PS3.18 8.3.5), and the geometry that they mean."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from chalicelib.domain.errors import BadRequest

MAX_VIEWPORT = 8192
"""Pixels of either side of a rendered image."""

WindowFunction = Literal["linear", "linear-exact", "sigmoid"]
_FUNCTIONS: dict[str, WindowFunction] = {"linear": "linear", "linear-exact": "linear-exact", "sigmoid": "sigmoid"}

# 8.3.5.1.1: what may be burned in.
ANNOTATIONS = frozenset({"patient", "technique"})
# 8.3.5.1.5.
ICC_PROFILES = frozenset({"no", "yes", "srgb", "adobergb", "rommrgb"})

_DECIMAL = re.compile(r"[+-]?(\d{1,9}(\.\d{0,9})?|\.\d{1,9})([eE][+-]?\d{1,2})?")
_KEYWORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Viewport:
    """The size of the answer in pixels, either side None for what keeps the aspect ratio; and the region to show.

    `x`, `y`: the region's top left corner in pixels of the source. `width_of_region`, `height_of_region`: its size,
    None for up to the edge. `flip_horizontal`, `flip_vertical`: mirrored. `normalized`: the region is in parts of
    the source's size, 0 to 1, instead of pixels (9.5.1.2.5).
    """

    width: int | None = None
    height: int | None = None
    x: float = 0.0
    y: float = 0.0
    width_of_region: float | None = None
    height_of_region: float | None = None
    flip_horizontal: bool = False
    flip_vertical: bool = False
    normalized: bool = False

    def is_at_most(self, size: int) -> bool:
        """Whether this is the whole image, and neither side of the answer is longer than so many pixels."""
        whole = (self.x, self.y, self.width_of_region, self.height_of_region) == (0, 0, None, None)
        return whole and self.width is not None and self.height is not None and max(self.width, self.height) <= size


@dataclass(frozen=True, slots=True)
class Window:
    """The window of 8.3.5.1.4: center and width in values of the Modality LUT's output, and the function's name."""

    center: float
    width: float
    function: WindowFunction = "linear"


@dataclass(frozen=True, slots=True)
class Rendering:
    """How to render. None is the default: the source's size, its own window, the best quality that is usual.

    `annotations`: of `ANNOTATIONS`. `quality`: 1 to 100. `frame`: from 1, or None for the resource's own frames.
    `warnings`: texts for `Warning: 299`.
    """

    viewport: Viewport | None = None
    window: Window | None = None
    quality: int | None = None
    annotations: frozenset[str] = frozenset()
    icc_profile: str | None = None
    frame: int | None = None
    warnings: tuple[str, ...] = ()


def parse_rendering(params: Sequence[tuple[str, str]]) -> Rendering:
    """The parameters of a rendered resource (Table 8.3.5-1); all others are ignored. Raises BadRequest."""
    single = single_values(params, ("annotation", "quality", "viewport", "window", "iccprofile"))
    annotations, warnings = parse_annotation("annotation", single.get("annotation"))
    icc = single.get("iccprofile")
    if icc is not None and icc not in ICC_PROFILES:
        raise BadRequest(f"iccprofile must be one of {', '.join(sorted(ICC_PROFILES))}.", "iccprofile")
    return Rendering(
        viewport=parse_viewport(single["viewport"]) if "viewport" in single else None,
        window=parse_window(single["window"]) if "window" in single else None,
        quality=parse_quality("quality", single.get("quality")),
        annotations=annotations,
        icc_profile=icc,
        warnings=warnings,
    )


def parse_thumbnail(params: Sequence[tuple[str, str]]) -> Rendering:
    """The parameters of a thumbnail (Table 8.3.5-2): its size, and nothing else. Raises BadRequest."""
    single = single_values(params, ("viewport",))
    if "viewport" not in single:
        return Rendering()
    viewport = parse_viewport(single["viewport"])
    if single["viewport"].count(",") != 1:
        raise BadRequest("viewport of a thumbnail takes a width and a height only.", "viewport")
    return Rendering(viewport=viewport)


def single_values(params: Sequence[tuple[str, str]], names: Sequence[str]) -> dict[str, str]:
    """Those of the parameters, each at most once. Raises BadRequest naming one that is repeated."""
    found: dict[str, str] = {}
    for name, value in params:
        if name in names:
            if name in found:
                raise BadRequest(f"{name} was given more than once.", name)
            found[name] = value
    return found


def parse_viewport(text: str) -> Viewport:
    """`vw,vh[,[sx],[sy],[sw],[sh]]` (8.3.5.1.3). Raises BadRequest."""
    values = [value.strip() for value in text.split(",")]
    if not 2 <= len(values) <= 6:
        raise BadRequest("viewport takes a width, a height, and up to four numbers of a region.", "viewport")
    width, height = (positive("viewport", value, MAX_VIEWPORT) for value in values[:2])
    x, y, region_width, region_height = (decimal("viewport", value) if value else None for value in (values[2:] + [""] * 4)[:4])
    if region_width == 0 or region_height == 0:
        raise BadRequest("viewport names a region without area.", "viewport")
    return Viewport(
        width,
        height,
        abs(x or 0.0),
        abs(y or 0.0),
        None if region_width is None else abs(region_width),
        None if region_height is None else abs(region_height),
        flip_horizontal=region_width is not None and region_width < 0,
        flip_vertical=region_height is not None and region_height < 0,
    )


def parse_window(text: str) -> Window:
    """`center,width,function` (8.3.5.1.4), all three. Raises BadRequest."""
    values = [value.strip() for value in text.split(",")]
    function = _FUNCTIONS.get(values[2]) if len(values) == 3 else None
    if function is None:
        raise BadRequest("window takes a center, a width, and linear, linear-exact or sigmoid.", "window")
    return Window(decimal("window", values[0]), window_width("window", values[1], function), function)


def window_width(name: str, text: str, function: WindowFunction = "linear") -> float:
    """A window's width: at least 1 for linear, above 0 for the others (PS3.3 C.11.2.1.2). Raises BadRequest."""
    width = decimal(name, text)
    if width <= 0 or (function == "linear" and width < 1):
        raise BadRequest(f"{name} names a window that is too narrow.", name)
    return width


def parse_quality(name: str, text: str | None) -> int | None:
    """1 to 100 (8.3.5.1.2). Raises BadRequest."""
    return None if text is None else positive(name, text, 100)


def parse_annotation(name: str, text: str | None) -> tuple[frozenset[str], tuple[str, ...]]:
    """(what to burn in, warnings about keywords that are not supported) (8.3.5.1.1). Raises BadRequest."""
    if text is None:
        return frozenset(), ()
    asked = [value.strip() for value in text.split(",")]
    if not all(_KEYWORD.fullmatch(value) for value in asked):
        raise BadRequest(f"{name} takes one or more keywords.", name)
    unknown = [value for value in asked if value not in ANNOTATIONS]
    text = f"The following annotation values are not supported: {', '.join(unknown)}"
    return ANNOTATIONS & set(asked), (text,) if unknown else ()


def decimal(name: str, text: str) -> float:
    """A decimal number of at most nine digits before and after the point. Raises BadRequest."""
    if not _DECIMAL.fullmatch(text):
        raise BadRequest(f"{name} takes decimal numbers.", name)
    return float(text)


def positive(name: str, text: str, most: int) -> int:
    """A positive integer up to `most`. Raises BadRequest."""
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or not 1 <= int(text) <= most:
        raise BadRequest(f"{name} takes integers from 1 to {most}.", name)
    return int(text)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the answer's pixels come from: the box to cut out of the source, and the size to scale it to.

    `left`, `top`, `right`, `bottom`: whole pixels of the source, the last two not included.
    """

    left: int
    top: int
    right: int
    bottom: int
    width: int
    height: int
    flip_horizontal: bool = False
    flip_vertical: bool = False


def place(viewport: Viewport | None, columns: int, rows: int) -> Placement:
    """What a viewport shows of a source with that many columns and rows (8.3.5.1.3, 9.5.2.5).

    The region is cut to the source and scaled until one side fits, whatever the aspect ratio leaves of the other.
    Raises BadRequest for a region outside the source, or an answer beyond MAX_VIEWPORT.
    """
    if viewport is None:
        return Placement(0, 0, columns, rows, columns, rows)
    scale_x, scale_y = (columns, rows) if viewport.normalized else (1, 1)
    left, right = _span(viewport.x, viewport.width_of_region, scale_x, columns)
    top, bottom = _span(viewport.y, viewport.height_of_region, scale_y, rows)
    if left >= right or top >= bottom:
        raise BadRequest("The region lies outside the image.", "viewport")
    width, height = right - left, bottom - top
    factors = [size / side for size, side in ((viewport.width, width), (viewport.height, height)) if size is not None]
    factor = min(factors, default=1.0)
    shown = max(1, round(width * factor)), max(1, round(height * factor))
    if max(shown) > MAX_VIEWPORT:
        raise BadRequest(f"The rendered image would be larger than {MAX_VIEWPORT} pixels.", "viewport")
    return Placement(left, top, right, bottom, *shown, viewport.flip_horizontal, viewport.flip_vertical)


def _span(start: float, length: float | None, scale: int, size: int) -> tuple[int, int]:
    """First and one-past-last pixel of a region along one side; a fraction of a pixel counts as the whole."""
    first = math.floor(round(start * scale, 6))
    last = size if length is None else math.ceil(round((start + length) * scale, 6))
    return min(first, size), min(last, size)
