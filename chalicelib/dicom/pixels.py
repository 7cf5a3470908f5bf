"""What the pixels of an instance *are*: the one place that decides it (docs/adr/0026).

The length of the Pixel Data against rows, columns, samples, bits and frames; fragments against the transfer syntax; what the
compressed stream says against what the data set says. What contradicts itself gets a fault in words; what is only unusual is
read as DCMTK and pydicom read it. Indexing records the outcome (`PixelFacts`), and whoever cuts, decodes, draws or describes
pixels asks here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import NamedTuple

from pydicom.dataset import Dataset

from chalicelib.dicom import codestream
from chalicelib.dicom.header import DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, GE_PRIVATE_BIG, IMPLICIT_LITTLE, Head
from chalicelib.dicom.values import values_of
from chalicelib.domain import tags
from chalicelib.domain.pixel_facts import PixelFacts
from chalicelib.domain.tags import Tag

FLOAT, DOUBLE, INTEGER = tags.FloatPixelData.number, tags.DoubleFloatPixelData.number, tags.PixelData.number

_PREFIX = "1.2.840.10008.1.2"
ENCAPSULATED_UNCOMPRESSED = f"{_PREFIX}.1.98"
DEFLATED_FRAMES = f"{_PREFIX}.8.1"
NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, GE_PRIVATE_BIG, *DEFLATED})
"""Transfer syntaxes whose Pixel Data is not in fragments."""

FAMILIES: dict[str, str] = {
    ENCAPSULATED_UNCOMPRESSED: "native",
    DEFLATED_FRAMES: "deflated",
    f"{_PREFIX}.5": "rle",
    **dict.fromkeys((f"{_PREFIX}.4.{end}" for end in ("50", "51", "53", "55", "57", "70")), "jpeg"),
    **dict.fromkeys((f"{_PREFIX}.4.{end}" for end in ("80", "81")), "jpeg-ls"),
    **dict.fromkeys((f"{_PREFIX}.4.{end}" for end in ("90", "91", "201", "202", "203")), "jpeg-2000"),
}
"""What the fragments of each transfer syntax hold that can be decoded here."""

_KEPT_ONLY = re.compile(rf"{re.escape(_PREFIX)}\.4\.(92|93|11[0-2]|10[0-8](\.1)?)")
"""Part 2 of JPEG 2000, JPEG XL, video: frames are had as they are stored, and never decoded here."""

_GREY = frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"})
_COLOUR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_RCT", "YBR_ICT"})
_SHARED = frozenset({"YBR_FULL_422", "YBR_PARTIAL_422"})
"""Native, two pixels share their colour: two samples a pixel are stored (PS3.3 C.7.6.3.1.2)."""
_TRANSFORMED = frozenset({"YBR_RCT", "YBR_ICT"})
_PARTIAL_FAULT = "YBR_PARTIAL_422 is not read in its transfer syntax"
_MOST_PADDING = 16
"""Bytes behind native pixels that do not put their length in doubt, where two lengths are possible."""


class Layout(NamedTuple):
    """The Image Pixel Module as it is to be read (PS3.3 C.7.6.3); 0 and "" where the data set does not say it."""

    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    photometric: str
    planar: int
    real: bool
    """Whether the values are floating point numbers."""
    sign_said: bool = True
    """Whether the data set says if they are signed."""


@dataclass(frozen=True, slots=True)
class PixelDescription:
    """`frame_bits`: bits of one native frame, 0 where frames are compressed. `shared`: native pixels that share their colour
    by two. `family`: what fragments hold (`FAMILIES`), "native" without fragments, "" for what cannot be decoded.
    """

    facts: PixelFacts
    layout: Layout
    frame_bits: int
    shared: bool
    family: str
    declared_frames: int
    tag: int = INTEGER


def layout_of(dataset: Dataset, tag: int) -> Layout:
    """What the data set says, missing values made up where only one can be meant."""
    rows, columns, allocated = (_number(dataset, tag) or 0 for tag in (tags.Rows, tags.Columns, tags.BitsAllocated))
    photometric = _text(dataset, tags.PhotometricInterpretation)
    samples = _number(dataset, tags.SamplesPerPixel) or (3 if photometric in _COLOUR else 1)
    stored, high_bit = _number(dataset, tags.BitsStored), _number(dataset, tags.HighBit)
    signed, planar = _number(dataset, tags.PixelRepresentation), _number(dataset, tags.PlanarConfiguration)
    if tag != INTEGER:
        width = 32 if tag == FLOAT else 64
        return Layout(rows, columns, samples, width, width, width - 1, True, photometric, 0, True)
    if allocated == 1:
        stored, high_bit, signed = 1, 0, 0
    stored = stored or 0
    return Layout(
        rows, columns, samples, allocated, stored, stored - 1 if high_bit is None else high_bit, signed == 1, photometric,
        planar or 0, False, signed in (0, 1),
    )  # fmt: skip


def declared_frames(dataset: Dataset) -> int:
    """Number of Frames, at least 1; `3.0` is three (PS3.3 C.7.6.6)."""
    values = values_of(dataset, tags.NumberOfFrames, "IS")
    return max(1, values[0]) if values and isinstance(values[0], int) else 1


def describe(head: Head, stream: bytes | None = None, located: int | str | None = None) -> PixelDescription | None:
    """What the pixels of an instance are; None where it has none.

    `stream`: the beginning of the first frame's compressed stream, where it is at hand. `located`: how many frames its
    fragments hold, where they were looked at, or in words why they cannot be told apart.
    """
    pixels = head.pixel_data
    if pixels is None:
        return None
    layout = layout_of(head.dataset, pixels.tag)
    count = declared_frames(head.dataset)
    syntax = head.transfer_syntax_uid
    direct = not head.deflated and syntax not in (EXPLICIT_BIG, GE_PRIVATE_BIG)
    if pixels.length is None:
        return _in_fragments(layout, count, syntax, direct, stream, located)
    return replace(_native(layout, count, syntax, direct, pixels.length), tag=pixels.tag)


def _in_fragments(
    layout: Layout, count: int, syntax: str, direct: bool, stream: bytes | None, located: int | str | None
) -> PixelDescription:
    family = FAMILIES.get(syntax, "")
    fault = located if isinstance(located, str) else ""
    if syntax in NATIVE:
        fault = "its pixels are in fragments, its transfer syntax says that they are not compressed"
    elif not family and not _KEPT_ONLY.fullmatch(syntax):
        fault = "its transfer syntax is not known here"
    elif family and (not layout.rows or not layout.columns):
        fault = fault or "it does not say how many rows and columns it has"
    if not fault and stream is not None and family in ("jpeg", "jpeg-ls", "jpeg-2000"):
        begins = codestream.family_of(stream)
        if begins and begins != family.removesuffix("-ls"):
            fault = "its pixels are compressed otherwise than its transfer syntax says"
    picture = fault or ("" if family else "its transfer syntax cannot be decoded here") or _layout_fault(layout, native=False)
    if not picture and layout.photometric == "YBR_PARTIAL_422" and family != "jpeg":
        picture = _PARTIAL_FAULT
    if not picture and stream is not None and (said := codestream.read(stream)) is not None:
        picture = stream_fault(layout, family, said)
    frames = located if isinstance(located, int) else count
    opaque = syntax in NATIVE or not (family or _KEPT_ONLY.fullmatch(syntax))
    facts = PixelFacts(frames, True, direct, fault, picture, opaque)
    bits = layout.rows * layout.columns * layout.samples * layout.allocated if family in ("native", "deflated") else 0
    return PixelDescription(facts, layout, bits, False, family, count)


def stream_fault(layout: Layout, family: str, said: codestream.Codestream) -> str:
    """In words, what a compressed frame says of itself that cannot be if the data set is right; empty for nothing."""
    if said.family != family and family:
        return "its pixels are compressed otherwise than its transfer syntax says"
    if (said.columns, said.rows) != (layout.columns, layout.rows):
        return (
            f"its compressed frame has {said.columns} columns and {said.rows} rows, "
            f"the data set says {layout.columns} and {layout.rows}"
        )
    if said.samples != layout.samples:
        return f"its compressed frame has {said.samples} samples a pixel, the data set says {layout.samples}"
    if said.lossless and layout.photometric == "YBR_PARTIAL_422":
        return _PARTIAL_FAULT
    if said.precision > max(8, (layout.allocated + 7) // 8 * 8):
        return f"its compressed frame has {said.precision} bits a sample, the data set allocates {layout.allocated}"
    return ""


def _native(layout: Layout, count: int, syntax: str, direct: bool, length: int) -> PixelDescription:
    bits = layout.rows * layout.columns * layout.samples * layout.allocated
    shared, fault, declared = False, "", count
    if syntax not in NATIVE and (syntax in FAMILIES or _KEPT_ONLY.fullmatch(syntax)):
        fault = "its pixels are not in fragments, as its transfer syntax says"
    elif syntax not in NATIVE:
        fault = "its transfer syntax is not known here"
    elif not bits:
        fault = "it does not say how many rows, columns and bits it has"
    elif layout.photometric in _SHARED and layout.samples == 3:
        layout, bits, shared, count, fault = _shared(layout, bits, count, length)
    else:
        whole = length * 8 // bits
        if whole == 0:
            fault = f"its pixels have {length} bytes, one frame needs {(bits + 7) // 8}"
        count = min(count, max(1, whole))
        fault = fault or _apart(bits, count, length)
    if not fault and syntax == GE_PRIVATE_BIG and layout.allocated < 16:
        fault = "in which order its bytes are cannot be told"
    picture = fault or _layout_fault(layout, native=True)
    facts = PixelFacts(count, False, direct, fault, picture, syntax not in NATIVE)
    return PixelDescription(facts, layout, bits, shared, "native", declared)


def _apart(bits: int, count: int, length: int) -> str:
    """Frames of single bits follow one another inside bytes (PS3.5 8.1.1); some writers begin each with a byte of its own."""
    packed, apart = (bits * count + 7) // 8, count * ((bits + 7) // 8)
    if bits % 8 and apart > packed + packed % 2 and apart <= length <= apart + apart % 2:
        return "its frames of single bits seem to begin with a byte each, which others read otherwise"
    return ""


def _shared(layout: Layout, bits: int, count: int, length: int) -> tuple[Layout, int, bool, int, str]:
    """YBR_FULL_422 with the two samples a pixel that it means, or with all three: the length says which."""
    half = bits // 3 * 2
    fitting = [allocated for allocated in (half, bits) if 0 <= length - allocated * count // 8 <= 1]
    if not fitting:
        fitting = [allocated for allocated in (half, bits) if 0 <= length - allocated * count // 8 <= _MOST_PADDING]
    if not fitting:
        fitting = [
            allocated for allocated in (half, bits) if 0 < length * 8 // allocated <= count and length * 8 % allocated <= 8
        ]
    if len(fitting) != 1:
        return layout, half, True, count, f"its pixels have {length} bytes, which fits neither two nor three bytes a pixel"
    count = min(count, length * 8 // fitting[0])
    if fitting[0] == bits:
        if layout.photometric != "YBR_FULL_422":
            return layout, bits, False, count, "its pixels have three samples each, which YBR_PARTIAL_422 does not have"
        return layout._replace(photometric="YBR_FULL"), bits, False, count, ""
    if layout.columns % 2:
        return layout, half, True, count, "its pixels share their colour by two, and its columns are odd"
    return layout, half, True, count, ""


def _layout_fault(layout: Layout, *, native: bool) -> str:
    if layout.samples == 1:
        if layout.photometric not in _GREY:
            return f"one sample a pixel cannot be {layout.photometric or 'without a photometric interpretation'}"
    elif layout.samples != 3 or layout.photometric not in _COLOUR:
        return f"{layout.samples} samples a pixel cannot be {layout.photometric or 'without a photometric interpretation'} here"
    if layout.photometric in _TRANSFORMED and native:
        return f"{layout.photometric} is for JPEG 2000 only"
    if layout.real:
        return "" if layout.samples == 1 and layout.photometric != "PALETTE COLOR" else "floating point pixels are grey only"
    if layout.allocated not in (1, 8, 16, 32, 64) or (layout.allocated == 1 and layout.samples != 1):
        return f"{layout.allocated} bits allocated are not read here"
    if not 1 <= layout.stored <= layout.allocated:
        return f"of {layout.allocated} bits allocated {layout.stored} cannot be stored"
    if not layout.stored - 1 <= layout.high_bit < layout.allocated:
        return f"the high bit of {layout.stored} bits stored cannot be {layout.high_bit}"
    if not layout.sign_said and layout.samples == 1 and layout.photometric != "PALETTE COLOR":
        return "it does not say whether its pixels have a sign"
    if layout.samples > 1 and layout.planar not in (0, 1):
        return f"there is no planar configuration {layout.planar}"
    return ""


def _number(dataset: Dataset, tag: Tag) -> int | None:
    values = values_of(dataset, tag, "US")
    return values[0] if values and isinstance(values[0], int) else None


def _text(dataset: Dataset, tag: Tag) -> str:
    values = values_of(dataset, tag, "CS")
    return str(values[0]).strip().upper() if values and values[0] is not None else ""
