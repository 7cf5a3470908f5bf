"""How much of a file is believed, held and waited for."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds of reading one header. Together they bound its memory and time, whatever the file says.

    `first_range`: bytes of the first ranged read. Of the 219 real files that the tests accept, 97.3 % have a head below
        32 KiB, 98.6 % below 64 KiB; the others step over waveforms and palettes (`python bench/header.py --sizes`).
    `largest_range`: bytes of one later read; each is four times the one before, up to this.
    `fetches`: ranged reads for one object.
    `value`: a longer value is left in the object: its place is noted, its bytes are not read.
    `header`: bytes of headers and values held before the Pixel Data.
    `elements`: data elements and sequence items before the Pixel Data, all levels together; an item counts
        `item_weight`, since it costs as much memory as that many elements.
    `alone`: elements from which on a header is read while no other one of its kind is: threads that read headers side by
        side share one function's memory, and a full one takes about 120 MB.
    `kept_items`: items of Per-frame Functional Groups that are held; of more than these none is: they are passed over, and read
        again one by one where they are wanted (`dicom.streaming`).
    `passed`: data elements and items that are passed over so. A segmentation has about 26 for each of its frames.
    `accepted`: whether the object was walked before: then what is passed over and says how long it is, is not walked again.
    `depth`: sequences inside sequences. The deepest real ones known are CAD structured reports, with about
    ten. `inflated`: bytes that a deflated data set may inflate to, Pixel Data included.
    """

    first_range: int = 64 * KIB
    largest_range: int = 1 * MIB
    fetches: int = 64
    value: int = 64 * KIB
    header: int = 16 * MIB
    elements: int = 400_000
    item_weight: int = 4
    alone: int = 20_000
    kept_items: int = 1_000
    passed: int = 4_000_000
    accepted: bool = False
    depth: int = 32
    inflated: int = 64 * MIB
