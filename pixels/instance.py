"""A stored object, opened for its pixels: its head, what they are, and the bytes of one frame, by ranged reads.

What the pixels are, and where each frame lies, is decided by `chalicelib.dicom`, as everywhere (docs/adr/0026).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from pydicom import Dataset
from pydicom.dataelem import DataElement, RawDataElement

from chalicelib.dicom.elements import Path
from chalicelib.dicom.frames import MOST_PROVED, Extent, FrameError, extents_in, frame_bytes
from chalicelib.dicom.header import ACCEPTED, DEFAULT_LIMITS, EXPLICIT_BIG, Head, read_head
from chalicelib.dicom.pixels import PixelDescription, describe
from chalicelib.dicom.source import Fetch
from chalicelib.dicom.streaming import one_item
from chalicelib.dicom.values import values_of
from chalicelib.domain import tags
from pixels.errors import Undecodable

MOST_DEFLATED = 256 * 1024 * 1024
_SHARED_GROUPS, _FRAME_GROUPS = tags.SharedFunctionalGroupsSequence.number, tags.PerFrameFunctionalGroupsSequence.number


class Words(NamedTuple):
    """A binary value: whether its words are `little` endian, and whether it is written as `octets`, one by one (OB)."""

    data: bytes
    little: bool
    octets: bool


@dataclass(frozen=True)
class Node:
    """A data set, or an item of it, and where it is."""

    opened: OpenInstance
    dataset: Dataset
    path: Path = ()

    def item(self, tag: int, number: int = 0) -> Node | None:
        """An item of a sequence; None where there is none."""
        element = self.dataset.get_item(tag)
        if element is None or element.VR != "SQ" or not element.value or number >= len(element.value):
            return None
        return Node(self.opened, element.value[number], (*self.path, tag, number))

    def numbers(self, tag: int) -> list[float | None]:
        """Numbers as they can be read (`dicom.readings`), None for each that cannot."""
        element = self.dataset.get_item(tag)
        vr = str(element.VR) if element is not None and element.VR in ("FD", "FL", "US", "SS", "UL", "SL") else "DS"
        values = values_of(self.dataset, tag, vr)
        if vr == "DS" and not values and element is not None and str(element.value or "").strip(" \0b'\""):
            return [None]  # something is written there, and it is no number
        return [float(value) if value is not None else None for value in values]

    def text(self, tag: int) -> str:
        """A defined term, empty where there is none."""
        values = values_of(self.dataset, tag, "CS")
        return str(values[0]).strip().upper() if values and values[0] is not None else ""

    def words(self, tag: int) -> Words | None:
        """A binary value as it is stored; None where there is none."""
        for left in self.opened.head.left_out:
            if left.path == (*self.path, tag):
                little = self.opened.head.transfer_syntax_uid != EXPLICIT_BIG
                return Words(self.opened.inner(left.offset, left.length), little, left.vr == "OB")
        element = self.dataset.get_item(tag)
        if isinstance(element, RawDataElement) and element.value:
            return Words(bytes(element.value), bool(element.is_little_endian), element.VR == "OB")
        if isinstance(element, DataElement) and isinstance(element.value, bytes) and element.value:
            return Words(element.value, True, False)
        return None


class OpenInstance:
    """One object. Raises what `fetch` and `read_head` raise; Undecodable for what has no pixels."""

    def __init__(self, fetch: Fetch, size: int) -> None:
        self.fetch = fetch
        self.head: Head = read_head(fetch, size, ACCEPTED)
        described = describe(self.head)
        if described is None:
            raise Undecodable("it has no pixels")
        self.described: PixelDescription = described
        self._extents: list[Extent] = []
        self._proved: frozenset[int] = frozenset()

    @property
    def root(self) -> Node:
        """The data set."""
        return Node(self, self.head.dataset)

    @cached_property
    def _inflated(self) -> bytes:
        if self.head.size > MOST_DEFLATED:
            raise Undecodable("it is too large to be inflated")
        data = self.fetch(self.head.dataset_offset, self.head.size - self.head.dataset_offset)
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, DEFAULT_LIMITS.inflated)

    def inner(self, start: int, length: int) -> bytes:
        """Bytes of the data set, where `head` counts them."""
        return self._inflated[start : start + length] if self.head.deflated else self.fetch(start, length)

    def groups(self, index: int) -> list[Node]:
        """The functional groups that say something of a frame (from 0), the more special one last (PS3.3 C.7.6.16)."""
        found = [self.root.item(_SHARED_GROUPS), self.root.item(_FRAME_GROUPS, index)]
        if _FRAME_GROUPS in self.head.streamed and (item := one_item(self.head, _FRAME_GROUPS, index)) is not None:
            found.append(Node(self, item.dataset, (_FRAME_GROUPS, index)))
        return [value for value in found if value is not None]

    def frame(self, index: int) -> bytes:
        """The bytes of a frame (from 0) as they are stored: native, or one compressed stream. Raises Undecodable."""
        return self.frames([index])[0]

    def frames(self, indices: Sequence[int]) -> list[bytes]:
        """Several of them. Raises Undecodable for what cannot be told apart, and for a frame that is not there."""
        if max(indices) >= self.located(indices):
            raise Undecodable("it has no such frame")
        try:
            return [self._bytes(self._extents[index]) for index in indices]
        except FrameError as error:
            raise Undecodable(str(error)) from error

    def located(self, indices: Sequence[int]) -> int:
        """How many frames there are, the place of these looked at: an offset table may be right of some frames only.

        Raises Undecodable.
        """
        if not self._proved.issuperset(indices):
            try:
                self._extents = extents_in(self.head, self.inner, wanted=indices)
            except FrameError as error:
                raise Undecodable(str(error)) from error
            self._proved = frozenset(sorted(indices)[:MOST_PROVED])
        return len(self._extents)

    def _bytes(self, extent: Extent) -> bytes:
        pixels = self.head.pixel_data
        if pixels is not None and self._swapped(pixels.vr):
            first = extent.start - (extent.start - pixels.offset) % 2
            data = bytearray(self.inner(first, extent.start + extent.length + 1 - first))
            data = data[: len(data) // 2 * 2]
            data[0::2], data[1::2] = data[1::2], data[0::2]
            return frame_bytes(extent, bytes(data[extent.start - first :][: extent.length]))
        data_ = self.inner(extent.start, extent.length)
        if len(data_) != extent.length and not (extent.items and self.head.deflated):
            raise Undecodable("its pixels end too early")
        return frame_bytes(extent, data_)

    def _swapped(self, vr: str) -> bool:
        """Bytes of one pixel each, or of eight, stored as big endian words (PS3.5 7.3)."""
        native = not self.described.facts.encapsulated
        return native and self.head.transfer_syntax_uid == EXPLICIT_BIG and vr == "OW" and self.described.layout.allocated <= 8
