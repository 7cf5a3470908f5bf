"""The whole head of an instance as DICOM JSON, bulk left where it is (PS3.18 10.4.1.1.2, F.2)."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset

from chalicelib.dicom.elements import LeftOut, Path
from chalicelib.dicom.header import Head
from chalicelib.dicom.pixels import PixelDescription, layout_of
from chalicelib.dicom.streaming import SequenceItem, each_item, one_item
from chalicelib.dicom.values import BINARY, json_values, little_endian_bytes, values_of
from chalicelib.domain import tags
from chalicelib.domain.dicom_json import Attributes

BULK_VR = frozenset({"DS", "FL", "FD", "IS", "LT", "SL", "SS", "ST", "SV", "UC", "UL", "US", "UT", "UV"} | BINARY)
"""VRs whose value may be behind a BulkDataURI (PS3.18 F.2.2)."""

BULK_TEXT_VR = frozenset({"LT", "ST", "UC", "UT"})
"""Those of them whose bytes depend on Specific Character Set."""

_SPACINGS = tags.numbers(tags.PixelSpacing, tags.ImagerPixelSpacing, tags.NominalScannedPixelSpacing)
"""Pixel Spacing, Imager Pixel Spacing, Nominal Scanned Pixel Spacing: with a zero, viewers divide by it."""

_RESOLVED = {"US or SS": "US", "OB or OW": "OW", "US or OW": "OW", "US or SS or OW": "OW"}
_PIXEL_REPRESENTATION = tags.PixelRepresentation.number

BulkUri = Callable[[Path], str]
"""From the path of an element to the address of its value."""


class Serialised(str):
    """JSON text of an attribute that is too long to be held as an object."""

    __slots__ = ()


def full_metadata(
    head: Head, bulk_uri: BulkUri, bulk_threshold: int = 1024, described: PixelDescription | None = None
) -> Attributes:
    """Every attribute of the instance as a DICOM JSON Model object, in ascending order of tags; a sequence that the head does not
    hold is `Serialised`. What contradicts the pixels, as far as `described` says what they are, is as they are.

    Binary values over `bulk_threshold` bytes, values that the head left in the object, and the Pixel Data
    get `bulk_uri` of their path. Group lengths are left out (F.2.2), and so is a pixel spacing that
    contains zero. Invalid values become null or are missing. Specific Character Set stays as it was in the
    object (F.2.2, note 3).
    """
    signed = values_of(head.dataset, _PIXEL_REPRESENTATION, "US") == [1]
    writer = _Writer(signed, _by_place(head.left_out), bulk_uri, bulk_threshold)
    metadata: Attributes = writer.object(head.dataset, ())
    for tag in head.streamed:
        metadata[f"{tag:08X}"] = _streamed(head, tag, writer)
    if described is not None:
        metadata |= _as_they_are(head, described)
    if head.pixel_data is not None:
        path = (head.pixel_data.tag,)
        vr = _RESOLVED.get(head.pixel_data.vr, head.pixel_data.vr)
        metadata[f"{head.pixel_data.tag:08X}"] = {"vr": vr, "BulkDataURI": bulk_uri(path)}
    return dict(sorted(metadata.items()))


def _by_place(left_out: Iterable[LeftOut]) -> dict[Path, list[LeftOut]]:
    found: dict[Path, list[LeftOut]] = {}
    for left in left_out:
        found.setdefault(left.path[:-1], []).append(left)
    return found


def _streamed(head: Head, tag: int, writer: _Writer) -> Serialised:
    items: list[str] = []

    def use(item: SequenceItem) -> None:
        found = replace(writer, left_out=_by_place(item.left_out)).object(item.dataset, (tag, item.number))
        items.append(json.dumps(found, ensure_ascii=False, separators=(",", ":")))

    each_item(head, tag, use)
    return Serialised(f'{{"vr":"SQ","Value":[{",".join(items)}]}}')


def _as_they_are(head: Head, described: PixelDescription) -> Attributes:
    """Number of Frames and Photometric Interpretation where the file says what its pixels are not."""
    found: Attributes = {}
    if described.facts.frames_fault:
        return found
    if described.facts.frames != described.declared_frames:
        found[tags.NumberOfFrames] = {"vr": "IS", "Value": [described.facts.frames]}
    if described.layout.photometric != layout_of(head.dataset, described.tag).photometric:
        found[tags.PhotometricInterpretation] = {"vr": "CS", "Value": [described.layout.photometric]}
    return found


def bulk_name(path: Path) -> str:
    """A path as one segment of an address: `54000100.0.54001010`."""
    return ".".join(f"{step:08X}" if index % 2 == 0 else str(step) for index, step in enumerate(path))


def bulk_path(text: str) -> Path | None:
    """The path that `bulk_name` wrote, None for anything else."""
    steps = text.split(".")
    if len(steps) % 2 == 0 or len(steps) > 65:
        return None
    path = []
    for index, step in enumerate(steps):
        digits = "0123456789ABCDEFabcdef" if index % 2 == 0 else "0123456789"
        if len(step) > 8 or not step or step.strip(digits) or (index % 2 == 0 and len(step) != 8):
            return None
        path.append(int(step, 16 if index % 2 == 0 else 10))
    return tuple(path)


def find_value(head: Head, path: Path) -> LeftOut | None:
    """Where the value at `path` lies in the object (in the inflated data set of a deflated one); None if
    nowhere.

    The length of encapsulated Pixel Data, which the head does not know, is given up to the object's end.
    """
    dataset, left_out = _around(head, path)
    for left in left_out:
        if left.path == path:
            return left
    pixels = head.pixel_data
    if pixels is not None and path == (pixels.tag,):
        length = head.size - pixels.offset if pixels.length is None else pixels.length
        return LeftOut(path, pixels.vr, pixels.offset, length)
    if dataset is None:
        return None
    element = dataset.get_item(path[-1])
    if isinstance(element, RawDataElement) and element.value is not None:
        vr = _RESOLVED.get(str(element.VR), str(element.VR))
        return LeftOut(path, vr, element.value_tell, len(element.value))
    if isinstance(element, DataElement) and isinstance(element.value, bytes):
        return LeftOut(path, str(element.VR), element.file_tell or 0, len(element.value))
    return None


def charset_at(head: Head, path: Path) -> list[str]:
    """The codecs of the text at a path that `find_value` found: of the item that it is in, or the data set's."""
    dataset, _ = _around(head, path)
    return list((dataset or head.dataset).original_character_set)


def _around(head: Head, path: Path) -> tuple[Dataset | None, Sequence[LeftOut]]:
    """(the data set or item that an element is in, None where there is none; the values that are left in the object)."""
    dataset, left_out, steps = head.dataset, head.left_out, list(zip(path[:-1:2], path[1::2], strict=True))
    if steps and steps[0][0] in head.streamed:
        item = one_item(head, *steps.pop(0))
        if item is None:
            return None, ()
        dataset, left_out = item.dataset, tuple(item.left_out)
    for tag, number in steps:
        element = dataset.get_item(tag)
        if element is None or element.VR != "SQ" or number >= len(element.value):
            return None, left_out
        dataset = element.value[number]
    return dataset, left_out


@dataclass(frozen=True, slots=True)
class _Writer:
    """What stays the same from the top of a data set to its deepest item."""

    signed: bool
    left_out: dict[Path, list[LeftOut]]
    bulk_uri: BulkUri
    threshold: int

    def object(self, dataset: Dataset, path: Path) -> Attributes:
        """One data set. It calls itself for items, no deeper than the scanner went."""
        out: Attributes = {}
        for tag, element in _elements(dataset):
            here = (*path, tag)
            if element.VR == "SQ":
                items = [self.object(item, (*here, number)) for number, item in enumerate(element.value)]
                out[f"{tag:08X}"] = {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
                continue
            attribute = self._attribute(dataset, here, element)
            if not (tag in _SPACINGS and 0 in attribute.get("Value", ())):
                out[f"{tag:08X}"] = attribute
        for left in self.left_out.get(path, ()):
            vr = _RESOLVED.get(left.vr, left.vr)
            bulk = {"BulkDataURI": self.bulk_uri(left.path)} if vr in BULK_VR else {}
            out[f"{left.path[-1]:08X}"] = {"vr": vr, **bulk}
        return dict(sorted(out.items()))

    def _attribute(self, dataset: Dataset, path: Path, element: RawDataElement | DataElement) -> Attributes:
        vr = _RESOLVED.get(str(element.VR), str(element.VR))
        if element.VR == "US or SS" and self.signed:
            vr = "SS"
        value = element.value
        if vr in BINARY:
            if not isinstance(value, bytes) or not value:
                return {"vr": vr}
            if len(value) > self.threshold:
                return {"vr": vr, "BulkDataURI": self.bulk_uri(path)}
            if isinstance(element, RawDataElement) and not element.is_little_endian:
                value = little_endian_bytes(vr, value)
            return {"vr": vr, "InlineBinary": b64encode(value).decode()}
        if isinstance(element, RawDataElement):
            charset = list(dataset.original_character_set)
            values = json_values(vr, value or b"", charset, little_endian=element.is_little_endian)
        else:
            values = values_of(dataset, path[-1], vr)
        return {"vr": vr, "Value": values} if values else {"vr": vr}


def _elements(dataset: Dataset) -> Iterator[tuple[int, RawDataElement | DataElement]]:
    """All but group lengths, unconverted."""
    for tag in dataset.keys():  # noqa: SIM118, iterating over the data set itself would convert every value
        element = dataset.get_item(tag)
        if int(tag) & 0xFFFF and element is not None:
            yield int(tag), element
