"""Whether an instance that comes again under the same UIDs only corrects whose it is and what was ordered.

A PACS that corrects a patient or an order sends the same Study, Series and SOP Instance UID again. Such a correction has the same
transfer syntax, the same pixels to the bit, and the same data set but for the attributes listed here. Anything else is another
image under a UID that is taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from struct import unpack
from typing import Any

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from chalicelib.dicom.charset import decode
from chalicelib.dicom.elements import ITEM, UNDEFINED, LeftOut, Path
from chalicelib.dicom.header import Head, read_head
from chalicelib.dicom.limits import MIB, Limits
from chalicelib.dicom.source import Fetch, InflatedSource, RangeSource, Source
from chalicelib.dicom.values import TEXT
from chalicelib.domain import tags
from chalicelib.domain.rejections import Rejected

MOST_COMPARED = 1024 * MIB
"""Bytes of an object whose pixels are compared: they have to be read for it, once of each."""
CORRECTION, OTHER, NOT_COMPARED = "correction", "other", "pixels-not-compared"

PATIENT_AND_ORDER = tags.numbers(
    # the patient
    tags.PatientName, tags.PatientID, tags.IssuerOfPatientID, tags.TypeOfPatientID, tags.IssuerOfPatientIDQualifiersSequence,
    tags.OtherPatientIDs, tags.OtherPatientNames, tags.OtherPatientIDsSequence,
    tags.PatientBirthDate, tags.PatientBirthTime, tags.PatientSex, tags.PatientSize, tags.PatientWeight, tags.PatientComments,
    # the study
    tags.AccessionNumber, tags.IssuerOfAccessionNumberSequence, tags.StudyID, tags.StudyDescription,
    tags.ReferringPhysicianName, tags.ReferringPhysicianAddress, tags.ReferringPhysicianTelephoneNumbers,
    tags.ReferringPhysicianIdentificationSequence,
    # what was requested
    tags.ReasonForStudy, tags.RequestingPhysicianIdentificationSequence, tags.RequestingPhysician, tags.RequestingService,
    tags.RequestedProcedureDescription, tags.RequestedProcedureCodeSequence, tags.RequestedProcedureID,
    tags.ReasonForTheRequestedProcedure, tags.RequestedProcedurePriority, tags.RequestedProcedureComments,
    tags.RequestAttributesSequence, tags.ReferencedRequestSequence,
    # the order
    tags.OrderPlacerIdentifierSequence, tags.OrderFillerIdentifierSequence, tags.ReasonForTheImagingServiceRequest,
    tags.IssueDateOfImagingServiceRequest, tags.IssueTimeOfImagingServiceRequest, tags.OrderEnteredBy,
    tags.OrderEntererLocation, tags.OrderCallbackPhoneNumber, tags.PlacerOrderNumberImagingServiceRequest,
    tags.FillerOrderNumberImagingServiceRequest, tags.ImagingServiceRequestComments,
)  # fmt: skip
"""What a correction may change (PS3.3 C.7.1.1, C.7.2.1, C.4.11, C.4.12)."""

_NOT_COMPARED = tags.numbers(
    tags.SpecificCharacterSet, tags.InstanceCoercionDateTime, tags.ContributingEquipmentSequence, tags.OriginalAttributesSequence
)
"""What says who changed what, and how text is written."""
_PADDED = TEXT | {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"}
_MOST_LEFT_OUT = 256
"""Values over 64 KiB that are compared, each of which is read by itself."""
_STEP = 8 * MIB
_READING = Limits(largest_range=_STEP, fetches=MOST_COMPARED // MIB)


@dataclass(frozen=True)
class ReadableObject:
    """An object: how to read it, and its size in bytes."""

    fetch: Fetch
    size: int


def compare(before: ReadableObject, after: ReadableObject) -> str:
    """`CORRECTION`, `OTHER`, or `NOT_COMPARED` for what is too large to be compared. Raises what `fetch` raises."""
    try:
        heads = [read_head(readable.fetch, readable.size) for readable in (before, after)]
    except Rejected:
        return OTHER
    if _identity(heads[0]) != _identity(heads[1]):
        return OTHER
    if any(len(head.left_out) > _MOST_LEFT_OUT for head in heads):
        return OTHER
    if max(before.size, after.size) > MOST_COMPARED:
        return NOT_COMPARED
    first, second = (_Digest(readable, head) for readable, head in zip((before, after), heads, strict=True))
    try:
        if first.of_elements() != second.of_elements():
            return OTHER
        return CORRECTION if first.of_pixels() == second.of_pixels() else OTHER
    except Rejected:
        return OTHER


def _identity(head: Head) -> tuple[Any, ...]:
    """What must be the same before anything of the pixels is read."""
    pixels = head.pixel_data
    return (
        head.transfer_syntax_uid,
        head.deflated,
        (pixels.tag, pixels.length) if pixels else None,
        *(
            _bytes(head.dataset, tag.number).rstrip(b"\0 ")
            for tag in (tags.SOPClassUID, tags.SOPInstanceUID, tags.StudyInstanceUID, tags.SeriesInstanceUID)
        ),
    )


def _bytes(dataset: Dataset, tag: int) -> bytes:
    element = dataset.get_item(tag)
    value = element.value if element is not None else None
    return value if isinstance(value, bytes) else str(value or "").encode()


class _Digest:
    """SHA-256 of what is compared of one object."""

    def __init__(self, stored: ReadableObject, head: Head) -> None:
        self._stored = stored
        self._head = head

    def of_elements(self) -> bytes:
        """Of the data set but for what a correction may change, and what is not compared."""
        digest = hashlib.sha256()
        left: dict[Path, LeftOut] = {element.path: element for element in self._head.left_out}
        for line in _lines(self._head.dataset, (), left):
            if isinstance(line, LeftOut):
                value = hashlib.sha256()
                for chunk in self._left_out(line):
                    value.update(chunk)
                digest.update(value.digest())
            else:
                digest.update(line)
        return digest.digest()

    def of_pixels(self) -> bytes:
        """Of the value of Pixel Data (or Float, or Double Float Pixel Data), as a stream."""
        digest = hashlib.sha256()
        pixels = self._head.pixel_data
        if pixels is not None:
            source = self._source()
            whole = self._fragments(source, pixels.offset) if pixels.length is None else None
            for chunk in whole or _values(source, pixels.offset, pixels.length or 0):
                digest.update(chunk)
        return digest.digest()

    def _source(self) -> Source:
        raw = RangeSource(self._stored.fetch, self._stored.size, _READING)
        return InflatedSource(raw, self._head.dataset_offset, _READING) if self._head.deflated else raw

    def _left_out(self, place: LeftOut) -> Iterator[bytes]:
        if self._head.deflated:
            return iter([self._inflated[place.offset : place.offset + place.length]])
        return _values(self._source(), place.offset, place.length)

    @cached_property
    def _inflated(self) -> bytes:
        return self._source().read(0, _READING.inflated)

    def _fragments(self, source: Source, offset: int) -> Iterator[bytes]:
        """An encapsulated value, up to its delimiter (PS3.5 A.4)."""
        position = offset
        while len(head := source.read(position, 8)) == 8:
            group, element, length = unpack("<HHL", head)
            if group << 16 | element != ITEM or length == UNDEFINED:
                return
            yield head
            yield from _values(source, position + 8, length)
            position += 8 + length


def _values(source: Source, offset: int, length: int) -> Iterator[bytes]:
    for start in range(offset, offset + length, _STEP):
        yield source.read(start, min(_STEP, offset + length - start))


def _lines(dataset: Dataset, path: Path, left: dict[Path, LeftOut]) -> Iterator[bytes | LeftOut]:
    """What is compared of a data set, in ascending order of tags: text as text, since its character set may be another."""
    charset = list(dataset.original_character_set)
    tags = {int(tag) for tag in dataset.keys()} | {where[-1] for where in left if where[:-1] == path}  # noqa: SIM118
    for tag in sorted(tags):
        if tag in _NOT_COMPARED or not tag & 0xFFFF or tag & 0x10000 or (not path and tag in PATIENT_AND_ORDER):
            continue
        here = (*path, tag)
        yield f"{tag:08X}".encode()
        if here in left:
            yield left[here]
            continue
        element: Any = dataset.get_item(tag)
        if element.VR == "SQ":
            for number, item in enumerate(element.value):
                yield b"{"
                yield from _lines(item, (*here, number), left)
                yield b"}"
            continue
        value = element.value if isinstance(element.value, bytes) else str(element.value or "").encode()
        vr = str(element.VR)
        if isinstance(element, RawDataElement) and vr in TEXT:
            value = decode(value, charset, vr).encode("utf-8", "replace")
        if vr in _PADDED:
            value = value.rstrip(b"\0 ")
        yield len(value).to_bytes(8, "big") + value
