"""What is known of an instance's pixels since it was indexed, as its fact keeps it; decided in one place, `dicom.pixels`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chalicelib.domain.json_object import JsonObject

DECODER = "5"
"""What pictures, decoded frames and reports as text that are kept are named by, too: another one when the function that makes
them makes something else of the same object than before, so that what an older release made is never served."""

VERSION = 2
"""Another one when the same object is described otherwise than before: facts of an older version are made anew when needed."""


@dataclass(frozen=True, slots=True)
class PixelFacts:
    """What has to be known of the pixels before any of them is read.

    `frames`: how many there are, as far as that can be told without reading all. `encapsulated`: whether they lie in fragments
    (PS3.5 A.4). `direct`: whether a frame as it lies in the object is one as the web has it: little endian, and not inside a
    deflated data set. `frames_fault`: in words, why no frame can be had at all; empty where they can. `picture_fault`: the same
    of decoded frames and of pictures. `opaque`: whether even the value as a whole is bytes of which nobody knows the meaning.
    """

    frames: int = 1
    encapsulated: bool = False
    direct: bool = True
    frames_fault: str = ""
    picture_fault: str = ""
    opaque: bool = False

    def to_item(self) -> JsonObject:
        """As a fact keeps it: only what is not the default."""
        item: JsonObject = {"version": VERSION}
        if self.frames != 1:
            item["frames"] = self.frames
        if self.encapsulated:
            item["encapsulated"] = True
        if not self.direct:
            item["direct"] = False
        if self.frames_fault:
            item["frames_fault"] = self.frames_fault
        if self.picture_fault and self.picture_fault != self.frames_fault:
            item["picture_fault"] = self.picture_fault
        if self.opaque:
            item["opaque"] = True
        return item


def from_item(item: Mapping[str, Any] | None) -> PixelFacts | None:
    """What `to_item` made; None for what is absent or of another version."""
    if item is None or int(item.get("version", 0)) != VERSION:
        return None
    fault = str(item.get("frames_fault", ""))
    return PixelFacts(
        int(item.get("frames", 1)),
        bool(item.get("encapsulated", False)),
        bool(item.get("direct", True)),
        fault,
        str(item.get("picture_fault", fault)),
        bool(item.get("opaque", False)),
    )
