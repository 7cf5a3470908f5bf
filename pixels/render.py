"""An image as one sees it: stored values → Modality LUT → window → eight bits → region, size, file format (PS3.18 8.3.5).

`RenderJob` fields are numbers that the API has checked; the image is a stranger's.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from pixels import colour, decode, grey
from pixels.errors import Unrenderable
from pixels.instance import OpenInstance

MOST_PIXELS = 128 * 1024 * 1024
MOST_FRAMES = 200
FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/gif": "GIF"}
_MILLISECONDS = 100


@dataclass(frozen=True)
class RenderJob:
    """What to draw: `frame` from 1, or None for all as an animation. `box` in pixels of the source, `size` of the result."""

    media_type: str
    frame: int | None
    quality: int
    box: tuple[int, int, int, int]
    size: tuple[int, int]
    flip: tuple[bool, bool]
    window: tuple[float, float, str] | None
    annotations: tuple[str, ...]


def job(event: Mapping[str, Any]) -> RenderJob:
    """A job as the API sends it."""
    left, top, right, bottom = (int(edge) for edge in event["box"])
    width, height = (int(edge) for edge in event["size"])
    window = event.get("window")
    return RenderJob(
        str(event["media_type"]),
        int(event["frame"]) if event.get("frame") is not None else None,
        int(event["quality"]),
        (left, top, right, bottom),
        (width, height),
        (bool(event["flip"][0]), bool(event["flip"][1])),
        (float(window[0]), float(window[1]), str(window[2])) if window else None,
        tuple(str(text) for text in event.get("annotations", ())),
    )


def render(opened: OpenInstance, wanted: RenderJob) -> bytes:
    """The picture of an object. Raises Unrenderable, and what decoding raises."""
    described = opened.described
    if described.layout.rows * described.layout.columns > MOST_PIXELS:
        raise Unrenderable("it has too many pixels to be drawn")
    if wanted.frame is not None:
        return _encode([_picture(opened, wanted, wanted.frame - 1)], wanted)
    count = described.facts.frames
    if count > MOST_FRAMES or count * wanted.size[0] * wanted.size[1] > MOST_PIXELS:
        raise Unrenderable("it has too many frames to be drawn as one")
    count = opened.located(range(count))
    return _encode([_picture(opened, wanted, index) for index in range(count)], wanted)


def _picture(opened: OpenInstance, wanted: RenderJob, index: int) -> Image.Image:
    picture = Image.fromarray(drawn(opened, index, wanted.window))
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


def drawn(opened: OpenInstance, index: int, window: tuple[float, float, str] | None = None) -> Any:
    """Frame `index` (from 0) as eight bits: rows and columns of grey, or of RGB. Raises Undecodable, Unrenderable."""
    layout = opened.described.layout
    cells, photometric = decode.cells(opened, index)
    if photometric == "PALETTE COLOR":
        return np.ascontiguousarray(colour.of_palette(opened, cells))
    if layout.samples == 3:
        return np.ascontiguousarray(colour.of_samples(cells, photometric, layout))
    return np.ascontiguousarray(grey.grey(opened, cells, index, window))


def _annotate(picture: Image.Image, lines: tuple[str, ...]) -> None:
    """Burn in the lines that the API sends (PS3.18 8.3.5.1.1)."""
    if lines:
        text = "\n".join(line[:64] for line in lines).encode("latin-1", "replace").decode("latin-1")
        ImageDraw.Draw(picture).multiline_text((4, 4), text, fill=255 if picture.mode == "L" else (255, 255, 255))


def _encode(pictures: list[Image.Image], wanted: RenderJob) -> bytes:
    out = io.BytesIO()
    options: dict[str, Any] = {"quality": wanted.quality} if wanted.media_type == "image/jpeg" else {}
    if wanted.media_type == "image/gif" and len(pictures) > 1:
        options = {"save_all": True, "append_images": pictures[1:], "duration": _MILLISECONDS, "loop": 0}
    pictures[0].save(out, FORMATS[wanted.media_type], **options)
    return out.getvalue()
