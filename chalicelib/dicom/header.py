"""Reading the head of a stored object: everything before the Pixel Data, checked, and nothing else (PS3.10
7).

`read_head` is the only door for bytes that a stranger sent. It answers a `Head` or raises `Rejected`,
within `Limits`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from pydicom.dataset import Dataset

from chalicelib.dicom import identity
from chalicelib.dicom.elements import (
    ITEM,
    SEQUENCE_END,
    SEQUENCE_END_BYTES,
    Element,
    Encoding,
    LeftOut,
    Streaming,
    item_head,
    name,
    shown_encoding,
)
from chalicelib.dicom.limits import Limits
from chalicelib.dicom.preamble import check_preamble, guess_encoding
from chalicelib.dicom.scan import Scanned, scan
from chalicelib.dicom.source import Fetch, InflatedSource, RangeSource, Source
from chalicelib.domain import tags
from chalicelib.domain.rejections import Rejected

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
GE_PRIVATE_BIG = "1.2.840.113619.5.2"
"""GE Private DLX: implicit VR little endian, with big endian Pixel Data."""

DEFLATED = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.206"})
"""Deflated Explicit VR Little Endian, and the deflated JPIP references (PS3.5 A.5, A.7, A.12)."""

PIXEL_DATA = tags.numbers(tags.FloatPixelData, tags.DoubleFloatPixelData, tags.PixelData)
"""Float, Double Float and Pixel Data (PS3.3 C.7.6.3, C.7.6.24, C.7.6.25)."""

DEFAULT_LIMITS = Limits()
ACCEPTED = Limits(accepted=True)
"""Those for an object that was accepted by the default ones."""

_BEGINNING = 16 * 1024
"""Bytes of fragments that are kept beside the head: the Basic Offset Table, and what the first frame says of itself."""
END_OF_STREAM = b"\xff\xd9"
"""JPEG's End of Image and JPEG 2000's End of Codestream, which are the same two bytes."""
END_WITHIN = 10
"""Bytes at a fragment's end that may hold the marker: padding, and garbage of some encoders, follow it."""
_MOST_HOPS = 40
"""Heads of fragments that are read one by one, where the object does not end with a delimiter."""


@dataclass(frozen=True)
class PixelData:
    """Where the pixels are. `length` is None where encapsulated. `offset` counts in the inflated data set
    of a deflated object, and from the object's start otherwise. `begins`: of fragments, as much as came with the head.
    """

    tag: int
    offset: int
    length: int | None
    vr: str
    begins: bytes = b""


@dataclass(frozen=True)
class Head:
    """The head of one instance.

    `file_meta` and `dataset` (everything before the Pixel Data, without the values in `left_out`) convert
    values when asked. `header_length` is the offset of the Pixel Data element, or where the data set ends.
    `transfer_syntax_uid` is the one that the bytes are in, where File Meta Information contradicts them.
    `part10` is false for an object that has no preamble or no File Meta Information: its transfer syntax
    was found by looking. `dataset_offset` is where the data set (or its deflated form) begins in the object.
    `streamed` are sequences that are too long to be held (`scan.STREAMED`), and how many items each has; `again` reads their
    items one by one.
    """

    file_meta: Dataset
    dataset: Dataset
    transfer_syntax_uid: str
    header_length: int
    pixel_data: PixelData | None
    deflated: bool
    part10: bool
    size: int
    left_out: tuple[LeftOut, ...]
    ranges: int
    bytes_fetched: int
    dataset_offset: int
    streamed: Mapping[int, int] = field(default_factory=dict)
    again: Callable[[Streaming], object] = field(default=lambda _: None, repr=False, compare=False)


def read_head(fetch: Fetch, size: int, limits: Limits = DEFAULT_LIMITS) -> Head:
    """The head of the object of `size` bytes that `fetch(start, length)` reads from.

    An ordinary object takes one fetch of at most `limits.first_range` bytes. A second one reads what
    follows native Pixel Data, where anything does. Raises `Rejected` (every slug of
    `domain.rejections.REASONS`), and whatever `fetch` raises.
    """
    raw = RangeSource(fetch, size, limits)
    start = check_preamble(raw)
    meta = scan(raw, start, Encoding(False, True), limits, stop=lambda tag: tag >> 16 != 2)
    file_meta = meta.dataset
    if identity.single_uid(file_meta, tags.MediaStorageSOPClassUID) == MEDIA_STORAGE_DIRECTORY:
        raise Rejected("dicomdir")
    declared = identity.single_uid(file_meta, tags.TransferSyntaxUID)
    transfer_syntax, encoding = _encoding(raw, meta.position, declared, start > 0)
    data_at = meta.position
    deflated = transfer_syntax in DEFLATED and guess_encoding(raw.read(data_at, 8)) is None
    source: Source = InflatedSource(raw, data_at, limits) if deflated else raw

    def read(source: Source, limits: Limits, streaming: Streaming | None = None) -> Scanned:
        return scan(source, 0 if deflated else data_at, encoding, limits, lambda tag: tag in PIXEL_DATA, streaming)

    def again(streaming: Streaming) -> Scanned:
        anew = RangeSource(fetch, size, replace(limits, first_range=limits.largest_range))
        source = InflatedSource(anew, data_at, limits) if deflated else anew
        return read(source, replace(limits, accepted=True), streaming)

    body = read(source, limits)
    if not deflated:
        transfer_syntax = _shown_syntax(transfer_syntax, body.encoding)
    identity.check(file_meta, meta.repeated, body.dataset, body.repeated, part10=start > 0)
    pixel_data = _pixel_data(source, raw, size, body.stopped_at, body, limits) if body.stopped_at else None
    if isinstance(source, InflatedSource):
        source.drain()
    return Head(
        file_meta=file_meta,
        dataset=body.dataset,
        transfer_syntax_uid=transfer_syntax,
        header_length=body.position,
        pixel_data=pixel_data,
        deflated=deflated,
        part10=start > 0 and declared != "",
        size=size,
        left_out=body.left_out,
        ranges=raw.fetches,
        bytes_fetched=raw.fetched,
        dataset_offset=data_at,
        streamed=body.streamed,
        again=again,
    )


def declared_uids(fetch: Fetch, size: int, limits: Limits = DEFAULT_LIMITS) -> tuple[str, str]:
    """(SOP Class UID, SOP Instance UID) that the File Meta Information of an object says, which `read_head` rejected.

    Empty where it does not say them, or not clearly. Raises whatever `fetch` raises.
    """
    raw = RangeSource(fetch, size, limits)
    start = 132 if raw.read(0, 132)[128:] == b"DICM" else 0
    try:
        meta = scan(raw, start, Encoding(False, True), limits, stop=lambda tag: tag >> 16 != 2)
        if identity.ONCE & meta.repeated:
            return "", ""
        sop_class, sop = (
            identity.single_uid(meta.dataset, tag) for tag in (tags.MediaStorageSOPClassUID, tags.MediaStorageSOPInstanceUID)
        )
    except Rejected:
        return "", ""
    return sop_class, sop


def _encoding(raw: RangeSource, position: int, declared: str, part10: bool) -> tuple[str, Encoding]:
    """The transfer syntax and what it means for the data set; looked for where it is not declared."""
    if declared in (IMPLICIT_LITTLE, GE_PRIVATE_BIG):
        return declared, Encoding(True, True)
    if declared == EXPLICIT_BIG:
        return declared, Encoding(False, False)
    if declared:
        return declared, Encoding(False, True)
    found = guess_encoding(raw.read(position, 8))
    if found is None:
        if not part10:
            raise Rejected("not-dicom")
        found = shown_encoding(raw, position, Encoding(True, True))
    implicit, little_endian = found
    return (IMPLICIT_LITTLE if implicit else EXPLICIT_LITTLE if little_endian else EXPLICIT_BIG), found


def _shown_syntax(declared: str, shown: Encoding) -> str:
    """The transfer syntax that the elements are in, where what is declared says no more than how elements are written.

    File Meta Information that contradicts the data set is believed for what cannot be seen: how pixels are compressed.
    """
    if declared not in (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, *DEFLATED):
        return declared
    if shown.implicit:
        return IMPLICIT_LITTLE if shown.little_endian else declared
    return EXPLICIT_LITTLE if shown.little_endian else EXPLICIT_BIG


def _pixel_data(source: Source, raw: RangeSource, size: int, element: Element, body: Scanned, limits: Limits) -> PixelData:
    vr = element.vr or "OW"
    if element.length is None:
        if element.tag != tags.PixelData.number:
            raise Rejected("unreadable", f"{name(element.tag)} has undefined length")
        begins = b""
        if source is raw:
            begins = raw.read(element.value, min(raw.held(element.value), _BEGINNING))
            _check_fragments(raw, size, element, body.encoding, limits)
        return PixelData(element.tag, element.value, None, vr, begins)
    end = element.value + element.length
    if source.size is None:
        if element.length and not source.read(end - 1, 1):
            raise Rejected("truncated", f"{name(element.tag)} declares {element.length} bytes")
    elif end > source.size:
        raise Rejected("truncated", f"{name(element.tag)} ends at {end}, the object at {source.size}")
    _check_tail(source, end, body.encoding, limits)
    return PixelData(element.tag, element.value, element.length, vr)


def _check_tail(source: Source, position: int, encoding: Encoding, limits: Limits) -> None:
    """What follows the pixels may be padding or signatures, never another identity: some readers take the
    last one.

    Anything else there is not judged, since real files carry garbage behind the pixels and every reader
    ignores it.
    """
    if source.size is not None and source.size - position < 8:
        return
    try:
        tail = scan(source, position, encoding, limits, stop=lambda tag: tag in identity.ONCE)
    except Rejected:
        return
    if tail.stopped_at is not None:
        raise Rejected("ambiguous-identifier", f"{name(tail.stopped_at.tag)} after the Pixel Data")


def _check_fragments(raw: RangeSource, size: int, element: Element, encoding: Encoding, limits: Limits) -> None:
    """That the fragments end inside the object (PS3.5 A.4), without reading pixels.

    Those whose heads came with the header, or would come with one range more, are walked. Of more than those, the object's end
    is read, which most often holds the delimiter; where it does not, heads are read until it comes, `_MOST_HOPS` at the most.
    A delimiter of whatever length ends them, and so do zeros, or the object's end behind a stream that is whole, since writers
    err in that; what follows is padding. A byte may follow a fragment of odd length.
    """
    position, start = element.value, size - limits.first_range
    hops, looked_at_end, odd = 0, False, False
    while position + 8 <= size:
        near = raw.held(position) >= 8 or position + 8 < size <= position + limits.first_range
        if not near and position + 8 == size:
            return None  # room for the delimiter, and nothing else
        if not near and not looked_at_end:
            looked_at_end = True
            tail = raw.aside(max(position, start), limits.first_range)
            delimiter = SEQUENCE_END_BYTES[encoding.little_endian]
            if delimiter in tail or delimiter[:4] + b"\xff" * 4 in tail:
                return None
        hops += not near
        if hops > _MOST_HOPS:
            raise Rejected("truncated", "no delimiter ends the fragments")
        tag, length = item_head(raw, position, encoding)
        if tag == SEQUENCE_END:
            return _check_tail(raw, position + 8, encoding, limits)
        if (tag, length) == (0, 0):
            return None
        if tag != ITEM or length is None:
            if not odd:
                raise Rejected("unreadable", f"no fragment at {position}")
            position, odd = position + 1, False
            continue
        position, odd = position + 8 + length, length % 2 == 1
    if position > size:
        raise Rejected("truncated", f"the fragments need {position} bytes, the object has {size}")
    if END_OF_STREAM not in raw.aside(max(element.value, size - END_WITHIN), END_WITHIN):
        raise Rejected("truncated", "no delimiter ends the fragments, nor a marker the last of them")
    return None
