"""An image as one sees it: stored values → Modality LUT → window → eight bits → region, size, file format (PS3.18 8.3.5).

`Job` fields are numbers that the API has checked; the image is a stranger's.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from pydicom import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut

from pixels.frames import frame_values

MOST_PIXELS = 128 * 1024 * 1024
MOST_FRAMES = 200
FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/gif": "GIF"}
_VOI = ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence")
_FRAME_GROUPS = (("FrameVOILUTSequence", _VOI), ("PixelValueTransformationSequence", ("RescaleSlope", "RescaleIntercept")))
_MILLISECONDS = 100


class Unrenderable(ValueError):
    """Not an image, or one that is too large to be drawn."""


@dataclass(frozen=True)
class Job:
    """What to draw: `frame` from 1, or None for all as an animation. `box` in pixels of the source, `size` of the result."""

    media_type: str
    frame: int | None
    quality: int
    box: tuple[int, int, int, int]
    size: tuple[int, int]
    flip: tuple[bool, bool]
    window: tuple[float, float, str] | None
    annotations: tuple[str, ...]


def job(event: Mapping[str, Any]) -> Job:
    """A job as the API sends it."""
    left, top, right, bottom = (int(one) for one in event["box"])
    width, height = (int(one) for one in event["size"])
    window = event.get("window")
    return Job(
        str(event["media_type"]),
        int(event["frame"]) if event.get("frame") is not None else None,
        int(event["quality"]),
        (left, top, right, bottom),
        (width, height),
        (bool(event["flip"][0]), bool(event["flip"][1])),
        (float(window[0]), float(window[1]), str(window[2])) if window else None,
        tuple(str(one) for one in event.get("annotations", ())),
    )


def render(path: Path, dataset: Dataset, wanted: Job) -> bytes:
    """The picture of an object whose data set, without pixels, is `dataset`. Raises Unrenderable, and what decoding raises."""
    count = max(1, int(dataset.get("NumberOfFrames") or 1))
    if int(dataset.Rows) * int(dataset.Columns) > MOST_PIXELS:
        raise Unrenderable("too many pixels")
    if wanted.frame is not None:
        return _encode([_picture(path, dataset, wanted, wanted.frame - 1)], wanted)
    if count > MOST_FRAMES or count * wanted.size[0] * wanted.size[1] > MOST_PIXELS:
        raise Unrenderable("too many frames")
    return _encode([_picture(path, dataset, wanted, index) for index in range(count)], wanted)


def _picture(path: Path, dataset: Dataset, wanted: Job, index: int) -> Image.Image:
    values = frame_values(path, dataset, index)
    described = _of_frame(dataset, index)
    shown = _colours(values, described) if values.ndim == 3 or "PALETTE" in str(dataset.PhotometricInterpretation) else (
        _grey(values, described, wanted.window)
    )  # fmt: skip
    picture = Image.fromarray(shown)
    if wanted.box != (0, 0, *picture.size):
        picture = picture.crop(wanted.box)
    if wanted.size != picture.size:
        picture = picture.resize(wanted.size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    if wanted.flip[0]:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if wanted.flip[1]:
        picture = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    _annotate(picture, wanted.annotations)
    return picture


def _of_frame(dataset: Dataset, index: int) -> Dataset:
    """The data set with what the functional groups of an enhanced image say of this frame (PS3.3 C.7.6.16)."""
    described = Dataset()
    described.update(dataset)
    described.file_meta = dataset.file_meta  # says in which order the bytes of a palette are
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    for group in [*shared[:1], *per_frame[index : index + 1]]:
        for sequence, keywords in _FRAME_GROUPS:
            for item in (group.get(sequence) or [])[:1]:
                for keyword in keywords:
                    if keyword in item:
                        described[keyword] = item[keyword]
    return described


def _grey(values: Any, dataset: Dataset, window: tuple[float, float, str] | None) -> Any:
    """Grey values from 0 to 255 (PS3.3 C.11.1, C.11.2)."""
    values = apply_modality_lut(values, dataset)
    if window is not None:
        levels = _windowed(values.astype(np.float64), *window)
    elif dataset.get("VOILUTSequence"):
        levels = _stretched(apply_voi_lut(values, dataset, prefer_lut=True).astype(np.float64))
    else:
        center, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
        if center is not None and width is not None and width >= 1:
            name = str(dataset.get("VOILUTFunction") or "LINEAR").lower().replace("_", "-")
            levels = _windowed(values.astype(np.float64), center, width, name)
        else:
            levels = _stretched(values.astype(np.float64), dataset)
    grey = np.clip(np.rint(levels * 255), 0, 255).astype(np.uint8)
    inverted = dataset.PhotometricInterpretation == "MONOCHROME1" or dataset.get("PresentationLUTShape") == "INVERSE"
    return 255 - grey if inverted else grey


def _windowed(values: Any, center: float, width: float, function: str) -> Any:
    """From 0 to 1 (PS3.3 C.11.2.1.2, C.11.2.1.3)."""
    if function == "sigmoid":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if function == "linear-exact":
        return np.clip((values - center) / width + 0.5, 0, 1)
    if width <= 1:
        return (values > center - 0.5).astype(np.float64)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def _stretched(values: Any, dataset: Dataset | None = None) -> Any:
    """From 0 to 1 over the values that occur, where nothing says which matter; padding does not."""
    seen = values
    padding = dataset.get("PixelPaddingValue") if dataset is not None else None
    if padding is not None and np.any(values != padding):
        seen = values[values != padding]
    low, high = float(np.min(seen)), float(np.max(seen))
    return np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)


def _first(value: Any) -> float | None:
    values = value if isinstance(value, list | tuple) or hasattr(value, "__iter__") else [value]
    return next((float(one) for one in values if one is not None), None)


def _colours(values: Any, dataset: Dataset) -> Any:
    if "PALETTE" in str(dataset.PhotometricInterpretation):
        values = apply_color_lut(values, dataset)
    if values.dtype.itemsize > 1:
        values = (values.astype(np.float64) * (255 / np.iinfo(values.dtype).max)).astype(np.uint8)
    return np.ascontiguousarray(values[..., :3]).astype(np.uint8)


def _annotate(picture: Image.Image, lines: tuple[str, ...]) -> None:
    """Burn in the lines that the API sends (PS3.18 8.3.5.1.1)."""
    if lines:
        text = "\n".join(line[:64] for line in lines).encode("latin-1", "replace").decode("latin-1")
        ImageDraw.Draw(picture).multiline_text((4, 4), text, fill=255 if picture.mode == "L" else (255, 255, 255))


def _encode(pictures: list[Image.Image], wanted: Job) -> bytes:
    out = io.BytesIO()
    options: dict[str, Any] = {"quality": wanted.quality} if wanted.media_type == "image/jpeg" else {}
    if wanted.media_type == "image/gif" and len(pictures) > 1:
        options = {"save_all": True, "append_images": pictures[1:], "duration": _MILLISECONDS, "loop": 0}
    pictures[0].save(out, FORMATS[wanted.media_type], **options)
    return out.getvalue()
