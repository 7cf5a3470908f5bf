"""Where an image lies in the patient and how its values are shown: what images are put in order, and beside each other, by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from chalicelib.domain.json_object import JsonObject, known_fields, said_fields

Numbers = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ReadingPlace:
    """What images are read in order by, each None where it is not known.

    `position`: in mm along the normal of the slice, or its Slice Location. `time`: of acquisition (PS3.3 C.7.6.2.1.1).
    """

    position: float | None = None
    time: str | None = None

    def to_item(self) -> list[float | str | None]:
        """As a fact keeps it; empty where nothing is known."""
        return [] if self == NOWHERE else [self.position, self.time]

    @classmethod
    def from_item(cls, item: object) -> ReadingPlace:
        """What `to_item` made."""
        if not isinstance(item, list | tuple) or not item:
            return NOWHERE
        position, time = (*item, None)[:2]
        return cls(position if isinstance(position, int | float) else None, str(time) if time else None)


NOWHERE = ReadingPlace()


@dataclass(frozen=True, slots=True)
class ImageGeometry:
    """What images are put beside each other by; what is not known is empty.

    `orientation`: six direction cosines; `position`: mm (PS3.3 C.7.6.2.1.1). `toward`: where in the patient the image's right and
    bottom edges lie (C.7.6.1.1.1). `spacing`: mm from row to row and from column to column, at the detector where `at_detector`
    is true (C.7.6.3, 10.7.1.3); `aspect`: how many times as high as wide a pixel is, where nothing else is said of it.
    `thickness`: mm. `kernel`. `window`: centre and width, the first. `inverse`: whether greater values are darker (C.7.6.3.1.2).
    `frame_time`: ms. `view`: of a mammogram that says it by its code alone. `frame`: a few characters that tell one Frame of
    Reference from another. `echo_time`: ms, of an MR image (C.8.3.1).
    """

    orientation: Numbers = ()
    position: Numbers = ()
    toward: tuple[str, ...] = ()
    spacing: Numbers = ()
    at_detector: bool = False
    thickness: float | None = None
    kernel: str = ""
    window: Numbers = ()
    inverse: bool = False
    frame_time: float | None = None
    view: str = ""
    frame: str = ""
    aspect: float | None = None
    echo_time: float | None = None

    def to_item(self) -> JsonObject:
        """As a fact keeps it, and as answers have it: only what is known."""
        return said_fields(self, _FIELDS)

    @classmethod
    def from_item(cls, item: Mapping[str, Any] | None) -> ImageGeometry:
        """What `to_item` made."""
        return cls(**known_fields(item, _FIELDS)) if item else UNKNOWN


_FIELDS = tuple(field.name for field in fields(ImageGeometry))
UNKNOWN = ImageGeometry()
