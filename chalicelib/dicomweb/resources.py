"""Addresses of studies, series and instances, and lists of frames (PS3.18 10.4.1.1).

`service` is the base URI of DICOMweb, without a slash at the end. `owner` is named only where the caller's own study
of that UID would be meant without it.
"""

from __future__ import annotations

import re

from chalicelib.domain import tags
from chalicelib.domain.errors import BadRequest, NotFound

MAX_FRAMES = 2000
"""Frames of one request."""

ENCAPSULATED_DOCUMENT = tags.EncapsulatedDocument
PIXEL_TAGS = frozenset({tags.FloatPixelData, tags.DoubleFloatPixelData, tags.PixelData})

_FRAME = re.compile(r"[1-9][0-9]{0,6}")


def entity_url(service: str, study: str, series: str | None = None, instance: str | None = None, owner: str | None = None) -> str:
    """The address of a study, or of a series or an instance in it."""
    url = f"{service}/studies/{study}"
    if series is not None:
        url += f"/series/{series}"
    if instance is not None:
        url += f"/instances/{instance}"
    return _owned(url, owner)


def below_instance(service: str, study: str, series: str, instance: str, path: str, owner: str | None = None) -> str:
    """The address of a resource below an instance, such as `bulkdata/<tag>`: what metadata refers to."""
    return _owned(f"{entity_url(service, study, series, instance)}/{path}", owner)


def _owned(url: str, owner: str | None) -> str:
    return url if owner is None else f"{url}?owner={owner}"


def parse_frame_list(text: str, number_of_frames: int | None = None) -> tuple[int, ...]:
    """The frames of `…/frames/{list}`, from 1, in the order asked (10.4.1.1.6). Raises BadRequest.

    `number_of_frames`: what the instance has. Raises NotFound for a frame beyond: there is no such resource.
    """
    values = [value.strip() for value in text.split(",")]
    if not all(_FRAME.fullmatch(value) for value in values) or len(values) > MAX_FRAMES:
        raise BadRequest(f"frames takes up to {MAX_FRAMES} positive integers.", "frames")
    numbers = tuple(int(value) for value in values)
    if number_of_frames is not None and max(numbers) > number_of_frames:
        raise NotFound
    return numbers
