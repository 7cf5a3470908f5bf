"""Addresses of resources: studies down to frames and bulk data (PS3.18 10.4.1.1), built and read.

`service` is the base URI of DICOMweb, without a slash at the end. `owner` is named only where the caller's own study
of that UID would be meant without it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from chalicelib.domain.errors import BadRequest

MAX_FRAMES = 2000
"""Frames of one request."""

# What metadata may replace by a reference (10.4.3.3.2, F.2.2).
BULK_VRS = frozenset(
    {
        *("DS", "FL", "FD", "IS", "LT", "OB", "OD", "OF", "OL", "OV", "OW", "SL", "SS", "ST", "SV", "UC", "UL", "UN"),
        *("US", "UT", "UV"),
    }
)
# Of these, the value is always octets; the others are replaced only when they are long.
OCTET_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
OCTETS_INLINE = 1024
TEXT_INLINE = 64 * 1024

PIXEL_TAGS = frozenset({"7FE00008", "7FE00009", "7FE00010"})

_TAG = re.compile(r"[0-9A-F]{8}")
_FRAME = re.compile(r"[1-9][0-9]{0,6}")
_MAX_PATH = 9


@dataclass(frozen=True, slots=True)
class BulkPath:
    """The way to an attribute: its tag, and the (sequence, item from 1) above it, outermost first."""

    tag: str
    parents: tuple[tuple[str, int], ...] = ()


def study_url(service: str, study: str, owner: str | None = None) -> str:
    """The address of a study."""
    return _owned(f"{service}/studies/{study}", owner)


def series_url(service: str, study: str, series: str, owner: str | None = None) -> str:
    """The address of a series."""
    return _owned(f"{service}/studies/{study}/series/{series}", owner)


def instance_url(service: str, study: str, series: str, instance: str, owner: str | None = None) -> str:
    """The address of an instance."""
    return _owned(f"{service}/studies/{study}/series/{series}/instances/{instance}", owner)


def frames_url(instance: str, numbers: tuple[int, ...]) -> str:
    """The address of frames, below that of their instance."""
    return _below(instance, f"frames/{','.join(map(str, numbers))}")


def bulkdata_url(instance: str, path: BulkPath) -> str:
    """BulkDataURI (F.2.6) of an attribute, below the address of its instance: `…/bulkdata/54000100.1.54001010`.

    One segment whatever the depth, since a route has a fixed number of them.
    """
    steps = [part for tag, item in path.parents for part in (tag, str(item))]
    return _below(instance, f"bulkdata/{'.'.join([*steps, path.tag])}")


def _owned(url: str, owner: str | None) -> str:
    return url if owner is None else f"{url}?owner={owner}"


def _below(url: str, path: str) -> str:
    address, mark, query = url.partition("?")
    return f"{address}/{path}{mark}{query}"


def parse_bulk_path(text: str) -> BulkPath:
    """The way that the end of a BulkDataURI, after `bulkdata/`, names. Raises BadRequest."""
    steps = text.upper().split(".")
    tags, numbers = steps[0::2], steps[1::2]
    if (
        len(steps) % 2 == 0
        or len(steps) > _MAX_PATH
        or not all(_TAG.fullmatch(tag) for tag in tags)
        or not all(_FRAME.fullmatch(number) for number in numbers)
    ):
        raise BadRequest("That is no address of bulk data: a tag, or sequence.item.tag.", "bulkdata")
    parents = tuple(zip(tags[:-1], map(int, numbers), strict=True))
    return BulkPath(tags[-1], parents)


def is_bulk(vr: str, length: int) -> bool:
    """Whether metadata refers to a value of this VR and length in bytes instead of holding it."""
    if vr in OCTET_VRS:
        return length > OCTETS_INLINE
    return vr in BULK_VRS and length > TEXT_INLINE


def parse_frame_list(text: str, number_of_frames: int | None = None) -> tuple[int, ...]:
    """The frames of `…/frames/{list}`, from 1, in the order asked (10.4.1.1.6). Raises BadRequest.

    `number_of_frames`: what the instance has; a frame beyond is a BadRequest too.
    """
    values = [value.strip() for value in text.split(",")]
    if not all(_FRAME.fullmatch(value) for value in values) or len(values) > MAX_FRAMES:
        raise BadRequest(f"frames takes up to {MAX_FRAMES} positive integers.", "frames")
    numbers = tuple(int(value) for value in values)
    if number_of_frames is not None and max(numbers) > number_of_frames:
        raise BadRequest("The instance has fewer frames.", "frames")
    return numbers
