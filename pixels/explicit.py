"""An instance written anew in Explicit VR Little Endian, element by element from its bytes (PS3.5 7.1.2, A.2; PS3.10 7).

Nothing is converted that need not be: a value that is none of its VR goes as UN (PS3.5 6.2.2), so that no odd element withholds
the image. Pixels come from whoever calls.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from struct import calcsize, pack
from typing import BinaryIO

from pydicom import Dataset
from pydicom.dataelem import DataElement, RawDataElement

from chalicelib.dicom.elements import ITEM, ITEM_END, SEQUENCE_END, UNDEFINED, Encoding, LeftOut, Path
from chalicelib.dicom.header import DEFAULT_LIMITS, EXPLICIT_BIG, EXPLICIT_LITTLE, Head
from chalicelib.dicom.scan import Scanned, scan
from chalicelib.dicom.source import Fetch, RangeSource
from chalicelib.dicom.values import values_of
from chalicelib.dicom.vr import KNOWN_VR, LONG_VR
from chalicelib.domain import tags
from chalicelib.domain.rejections import Rejected
from pixels.errors import Undecodable

Replaced = Mapping[int, tuple[str, bytes] | None]
"""Top-level elements that are written otherwise: tag → VR and value, None for those that are left away."""

_WIDTH = {
    "US": 2, "SS": 2, "UL": 4, "SL": 4, "UV": 8, "SV": 8, "FL": 4, "FD": 8, "AT": 2,
    "OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8,
}  # fmt: skip
"""Bytes of what is turned round in another order of bytes; values are whole numbers of them."""
_MULTIPLE = {**_WIDTH, "AT": 4, "OW": 1}
"""Bytes of which a value of this VR has a multiple. OW of an odd length is as old as OW."""
_RESOLVED = {"US or SS": "US", "OB or OW": "OW", "US or OW": "OW", "US or SS or OW": "OW"}
_ZERO_PADDED = frozenset({"UI", "OB", "UN"})
_META_VERSION, _META_LENGTH = tags.FileMetaInformationVersion.number, tags.FileMetaInformationGroupLength.number
_PIXEL_REPRESENTATION = tags.PixelRepresentation.number
_STEP = 1 << 20
_FIRST_ITEM = b"\xfe\xff\x00\xe0"


def write(out: BinaryIO, head: Head, fetch: Fetch, replaced: Replaced, pixels: tuple[str, Iterable[bytes]] | None) -> None:
    """Write the object whose head is given. `pixels`: VR and value of Pixel Data, in pieces, None where it has none.

    Raises Undecodable for what is too large, and what `fetch` raises.
    """
    out.write(bytes(128) + b"DICM")
    _write_meta(out, head)
    _Writer(out, head, fetch, head.left_out).dataset(head.dataset, (), replaced)
    if pixels is not None and head.pixel_data is not None:
        _write_pixels(out, head.pixel_data.tag, *pixels)
        if (tail := _behind_pixels(head, fetch)) is not None:
            _Writer(out, head, fetch, tail.left_out).dataset(tail.dataset, (), {})


def _behind_pixels(head: Head, fetch: Fetch) -> Scanned | None:
    """Elements behind native Pixel Data, as some equipment writes private ones; None where nothing can be read there."""
    pixels = head.pixel_data
    if pixels is None or pixels.length is None or head.deflated:
        return None
    end = pixels.offset + pixels.length
    encoding = Encoding(bool(head.dataset.original_encoding[0]), bool(head.dataset.original_encoding[1]))
    try:
        return scan(RangeSource(fetch, head.size, DEFAULT_LIMITS), end, encoding, DEFAULT_LIMITS)
    except Rejected:
        return None


def _write_meta(out: BinaryIO, head: Head) -> None:
    """File Meta Information as it was, with this transfer syntax and what must not be missing (PS3.10 7.1)."""
    known = {int(tag): _raw(head.file_meta, int(tag)) for tag in head.file_meta.keys()}  # noqa: SIM118
    for tag, of_dataset in (
        (tags.MediaStorageSOPClassUID.number, tags.SOPClassUID.number),
        (tags.MediaStorageSOPInstanceUID.number, tags.SOPInstanceUID.number),
    ):
        known[tag] = ("UI", _raw(head.dataset, of_dataset)[1])
    known[tags.TransferSyntaxUID.number] = ("UI", EXPLICIT_LITTLE.encode())
    known.setdefault(_META_VERSION, ("OB", b"\0\1"))
    known.setdefault(
        tags.ImplementationClassUID.number, ("UI", b"2.25.80302813137786398554742050926734630921603366648225212145404")
    )
    known.pop(_META_LENGTH, None)
    content = b"".join(_element(tag, vr, value) for tag, (vr, value) in sorted(known.items()) if tag >> 16 == 2)
    out.write(_element(_META_LENGTH, "UL", pack("<L", len(content))) + content)


def _raw(dataset: Dataset, tag: int) -> tuple[str, bytes]:
    element = dataset.get_item(tag)
    value = element.value if element is not None else b""
    return str(element.VR) if element is not None else "UN", value if isinstance(value, bytes) else str(value or "").encode()


def _element(tag: int, vr: str, value: bytes) -> bytes:
    """One element; UN where the value does not fit its VR, or its length not the VR's 16 bits."""
    width = _MULTIPLE.get(vr, 1)
    if len(value) % width or vr not in _NAMES or (vr.encode() not in LONG_VR and len(value) > 0xFFFE):
        vr = "UN"
    if len(value) % 2:
        value += b"\0" if vr in _ZERO_PADDED else b" "
    return _head(tag, vr, len(value)) + value


_NAMES = frozenset(KNOWN_VR.values())


def _head(tag: int, vr: str, length: int) -> bytes:
    long = vr.encode() in LONG_VR
    start = pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    return start + (pack("<HL", 0, length) if long else pack("<H", length))


def _delimiter(tag: int, length: int = 0) -> bytes:
    return pack("<HHL", tag >> 16, tag & 0xFFFF, length)


class _Writer:
    """Writes data sets of one object."""

    def __init__(self, out: BinaryIO, head: Head, fetch: Fetch, left_out: Iterable[LeftOut]) -> None:
        self._out = out
        self._head = head
        self._fetch = fetch
        self._left: dict[Path, list[LeftOut]] = {}
        for left in left_out:
            self._left.setdefault(left.path[:-1], []).append(left)
        self._inflated: bytes | None = None
        self._signed = values_of(head.dataset, _PIXEL_REPRESENTATION, "US") == [1]
        self._big = head.transfer_syntax_uid == EXPLICIT_BIG

    def dataset(self, dataset: Dataset, path: Path, replaced: Replaced) -> None:
        """All elements in ascending order but group lengths and File Meta Information; no deeper than the scanner went."""
        left = {element.path[-1]: element for element in self._left.get(path, ())}
        for tag in sorted({int(number) for number in dataset.keys()} | left.keys() | replaced.keys()):  # noqa: SIM118
            if tag in replaced:
                if (new := replaced[tag]) is not None:
                    self._out.write(_element(tag, *new))
            elif not tag & 0xFFFF or tag >> 16 <= 2:
                continue
            elif tag in left:
                self._left_out(left[tag])
            else:
                self._kept(dataset, tag, path)

    def _kept(self, dataset: Dataset, tag: int, path: Path) -> None:
        element = dataset.get_item(tag)
        assert element is not None
        if element.VR == "SQ":
            self._out.write(_head(tag, "SQ", UNDEFINED))
            for number, item in enumerate(element.value):
                self._out.write(_delimiter(ITEM, UNDEFINED))
                self.dataset(item, (*path, tag, number), {})
                self._out.write(_delimiter(ITEM_END))
            self._out.write(_delimiter(SEQUENCE_END))
            return
        vr = self._vr(str(element.VR))
        value = (
            element.value if isinstance(element.value, bytes) else b"" if element.value is None else str(element.value).encode()
        )
        little = element.is_little_endian if isinstance(element, RawDataElement) else isinstance(element, DataElement)
        self._out.write(_element(tag, vr, value if little else turned(value, _WIDTH.get(vr, 1))))

    def _left_out(self, left: LeftOut) -> None:
        """A value that stayed in the object, in pieces; one in fragments as it is, up to its delimiter."""
        tag, vr = left.path[-1], self._vr(left.vr)
        width = _WIDTH.get(vr, 1) if self._big else 1
        if left.length % _MULTIPLE.get(vr, 1) or vr.encode() not in LONG_VR:
            vr, width = "UN", 1
        fragments = self._inner(left.offset, 4) == _FIRST_ITEM and vr in ("OB", "OW")
        self._out.write(_head(tag, vr, UNDEFINED if fragments else left.length + left.length % 2))
        for start in range(0, left.length, _STEP):
            piece = self._inner(left.offset + start, min(_STEP, left.length - start))
            self._out.write(turned(piece, width))
        if left.length % 2:
            self._out.write(b"\0")

    def _vr(self, vr: str) -> str:
        return "SS" if vr == "US or SS" and self._signed else _RESOLVED.get(vr, vr)

    def _inner(self, offset: int, length: int) -> bytes:
        if not self._head.deflated:
            return self._fetch(offset, length)
        if self._inflated is None:
            self._inflated = inflated(self._head, self._fetch)
        return self._inflated[offset : offset + length]


def inflated(head: Head, fetch: Fetch) -> bytes:
    """The data set of a deflated object. Raises Undecodable for one that is too large."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    data = inflate.decompress(fetch(head.dataset_offset, head.size - head.dataset_offset), DEFAULT_LIMITS.inflated)
    if inflate.unconsumed_tail:
        raise Undecodable("it is too large to be inflated")
    return data


def turned(data: bytes, width: int) -> bytes:
    """Words of so many bytes in the other order of bytes; what is no whole number of them stays as it is."""
    if width == 1 or len(data) % width:
        return data
    swapped = bytearray(len(data))
    for index in range(width):
        swapped[index::width] = data[width - 1 - index :: width]
    return bytes(swapped)


def _write_pixels(out: BinaryIO, tag: int, vr: str, pieces: Iterable[bytes]) -> None:
    """Pixel Data, whose length is known when it is written."""
    out.write(_head(tag, vr, 0))
    at, length = out.tell() - calcsize("<L"), 0
    for piece in pieces:
        out.write(piece)
        length += len(piece)
    out.write(b"\0" * (length % 2))
    length += length % 2
    if length >= UNDEFINED:
        raise Undecodable("its pixels are too many for one value")
    end = out.tell()
    out.seek(at)
    out.write(pack("<L", length))
    out.seek(end)


def pieces_of(read: Fetch, offset: int, length: int) -> Iterator[bytes]:
    """A range in pieces that fit memory."""
    for start in range(0, length, _STEP):
        yield read(offset + start, min(_STEP, length - start))
