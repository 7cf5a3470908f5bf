"""What the archive keeps of one instance: identity, place of the pixels, and the attributes that searches
need.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from typing import Any

from pydicom.dataset import Dataset

from chalicelib.dicom import key_images, rejection_note
from chalicelib.dicom.header import Head
from chalicelib.dicom.identity import single_uid
from chalicelib.dicom.pixels import PixelDescription, declared_frames, describe
from chalicelib.dicom.readings import valid_date, valid_time
from chalicelib.dicom.values import items_of, text_of, values_of
from chalicelib.domain import tags
from chalicelib.domain.attributes import ITEM_VRS, KEPT, Attribute
from chalicelib.domain.dicom_json import Attributes, Element
from chalicelib.domain.image_geometry import NOWHERE, ImageGeometry, ReadingPlace
from chalicelib.domain.instance_summary import InstanceSummary, StatedIdentifier
from chalicelib.domain.tags import Tag

ATTRIBUTES_LIMIT = 1536
"""Bytes of `attributes` as compact JSON in UTF-8, where no value is longer than its VR allows. An ordinary image takes 900 to
1,300.
"""

LONG_LIMIT = 8192
"""Bytes of them with the values that are longer."""

_TEXT_LIMIT = 64
"""Characters of one text value that nothing else has to make room for: the longest that LO and one component group of PN may have
(PS3.5 6.2).
"""

_LONG_TEXT_LIMIT = 1024
"""Characters kept of one text value: as many as a search may ask for."""

_VALUES_LIMIT = 8
_ITEMS_LIMIT = 4
_OTHER_IDS_LIMIT = 16


def summarise(head: Head, described: PixelDescription | None = None) -> InstanceSummary:
    """The summary of an instance. `described`: what its pixels are, where more than the head was looked at (`frames.examine`).

    `number_of_frames` is at least 1. `header_length`: bytes before the Pixel Data element; `pixel_offset`, `pixel_length`: of its
    value, the length 0 where it is encapsulated. `attributes`: text in Unicode, invalid values left out, at most
    `ATTRIBUTES_LIMIT` bytes, or `LONG_LIMIT` with values that are longer than their VR allows. `dropped`: the tags that had no
    room, or of which not all had, least important first to go. `unread`: the tags of dates and times that are there and cannot be
    read. `document` and `metadata` are not read here.
    """
    dataset = head.dataset
    pixels = head.pixel_data
    described = described or describe(head)
    attributes, dropped, unread = _attributes(dataset)
    summary = InstanceSummary(
        study_instance_uid=single_uid(dataset, tags.StudyInstanceUID),
        series_instance_uid=single_uid(dataset, tags.SeriesInstanceUID),
        sop_instance_uid=single_uid(dataset, tags.SOPInstanceUID),
        sop_class_uid=single_uid(dataset, tags.SOPClassUID),
        transfer_syntax_uid=head.transfer_syntax_uid,
        number_of_frames=declared_frames(dataset),
        rows=_number(dataset, tags.Rows, "US"),
        columns=_number(dataset, tags.Columns, "US"),
        header_length=head.header_length,
        pixel_offset=pixels.offset if pixels else 0,
        pixel_length=(pixels.length or 0) if pixels else 0,
        deflated=head.deflated,
        patient=_identifier(dataset),
        other_ids=_other_identifiers(dataset),
        attributes=attributes,
        dropped=tuple(dropped),
        unread=tuple(unread),
        place=_place(dataset),
        geometry=_geometry(dataset),
        rejects=rejection_note.read(dataset),
        key_images=key_images.read(dataset),
    )
    if described is None:
        return summary
    facts = described.facts
    return replace(summary, number_of_frames=facts.frames, frame_length=frame_length(described), pixels=facts)


def frame_length(pixels: PixelDescription) -> int:
    """Bytes of one native frame where frames are whole bytes and lie one after the other, so that no head is read; else 0."""
    if pixels.facts.encapsulated or pixels.facts.frames_fault or not pixels.facts.direct:
        return 0
    return pixels.frame_bits // 8 if pixels.frame_bits % 8 == 0 else 0


def _place(dataset: Dataset) -> ReadingPlace:
    position: float | None = None
    origin, plane = (
        values_of(dataset, tags.ImagePositionPatient, "DS"),
        values_of(dataset, tags.ImageOrientationPatient, "DS"),
    )
    if len(origin) == 3 and len(plane) == 6 and None not in (*origin, *plane):
        a, b, c, d, e, f = plane
        position = sum(x * n for x, n in zip(origin, (b * f - c * e, c * d - a * f, a * e - b * d), strict=True))
    elif location := values_of(dataset, tags.SliceLocation, "DS")[:1]:
        position = location[0]
    if position is not None and not math.isfinite(position):
        position = None
    time = next((valid_time(text) for text in values_of(dataset, tags.AcquisitionTime, "TM") if text), None)
    if time is None and (moment := values_of(dataset, tags.AcquisitionDateTime, "DT")) and moment[0]:
        time = valid_time(moment[0])
    if position is None and time is None:
        return NOWHERE
    return ReadingPlace(None if position is None else round(position, 3), time)


def _geometry(dataset: Dataset) -> ImageGeometry:
    orientation = _numbers(dataset, tags.ImageOrientationPatient, 6)
    position = _numbers(dataset, tags.ImagePositionPatient, 3)
    spacing, detector = _spacing(dataset, tags.PixelSpacing), _spacing(dataset, tags.ImagerPixelSpacing)
    centre, width = (_numbers(dataset, tag, 1) for tag in (tags.WindowCenter, tags.WindowWidth))
    thickness, frame_time, echo_time = (_numbers(dataset, tag, 1) for tag in (tags.SliceThickness, tags.FrameTime, tags.EchoTime))
    kernel, frame = _text(dataset, tags.ConvolutionKernel), single_uid(dataset, tags.FrameOfReferenceUID)
    return ImageGeometry(
        orientation=orientation if position else (),
        position=position if orientation else (),
        toward=_toward(dataset),
        spacing=spacing or detector,
        at_detector=bool(detector and not spacing),
        thickness=(thickness[0] or None) if thickness else None,
        kernel=kernel[:_TEXT_LIMIT],
        window=(*centre, *width) if centre and width and width[0] > 0 else (),
        inverse=_text(dataset, tags.PhotometricInterpretation) == "MONOCHROME1",
        frame_time=frame_time[0] if frame_time and frame_time[0] > 0 else None,
        view=_coded_view(dataset),
        frame=hashlib.sha256(frame.encode()).hexdigest()[:8] if frame else "",
        aspect=None if spacing or detector else _aspect(dataset),
        echo_time=echo_time[0] if echo_time and echo_time[0] > 0 else None,
    )


_VIEW_CODES = {"R-10242": "CC", "399162004": "CC", "R-10226": "MLO", "399368009": "MLO"}
"""PS3.16 CID 4014, SRT and SCT."""


def _coded_view(dataset: Dataset) -> str:
    """What View Code Sequence says where View Position, which may be absent from a mammogram, says nothing (PS3.3 C.8.11.7)."""
    views = [] if _text(dataset, tags.ViewPosition) else items_of(dataset, tags.ViewCodeSequence)[:1]
    return _VIEW_CODES.get(text_of(views[0], tags.CodeValue, "SH"), "") if views else ""


def _toward(dataset: Dataset) -> tuple[str, ...]:
    """Patient Orientation, where it says both directions."""
    values = [str(value) for value in values_of(dataset, tags.PatientOrientation, "CS") if value]
    return tuple(value[:3] for value in values) if len(values) == 2 else ()


def _numbers(dataset: Dataset, tag: Tag, count: int) -> tuple[float, ...]:
    """The first `count` decimals of an attribute; none where one of them is none."""
    values = values_of(dataset, tag, "DS")[:count]
    if len(values) < count or any(not isinstance(value, int | float) or not math.isfinite(value) for value in values):
        return ()
    return tuple(round(float(value), 5) for value in values)


def _aspect(dataset: Dataset) -> float | None:
    """Pixel Aspect Ratio, vertical to horizontal, where it is not 1 (PS3.3 C.7.6.3.1.7)."""
    values = values_of(dataset, tags.PixelAspectRatio, "IS")
    if len(values) != 2 or any(not isinstance(value, int) or value <= 0 for value in values) or values[0] == values[1]:
        return None
    height, width = float(values[0]), float(values[1])
    return round(height / width, 5)


def _spacing(dataset: Dataset, tag: Tag) -> tuple[float, ...]:
    found = _numbers(dataset, tag, 2)
    return found if found and min(found) > 0 else ()


def _attributes(dataset: Dataset) -> tuple[Attributes, list[str], list[str]]:
    """What is kept; what had no room; what could not be read."""
    room, taken, dropped, unread = ATTRIBUTES_LIMIT - len("{}"), Attributes(), list[str](), list[str]()
    whole: Attributes = {}
    for kept in KEPT:
        attribute, complete = _attribute(dataset, kept)
        if attribute is None:
            if kept.vr in ("DA", "TM") and any(values_of(dataset, kept.tag, kept.vr)):
                unread.append(kept.tag)
            continue
        short = _clipped(attribute, _TEXT_LIMIT)
        if (cost := _cost(kept.tag, short)) > room:
            dropped.append(kept.tag)
            continue
        room -= cost
        taken[kept.tag] = short
        if short != attribute:
            whole[kept.tag] = attribute
        if not complete:
            dropped.append(kept.tag)
    room += LONG_LIMIT - ATTRIBUTES_LIMIT
    for tag, attribute in whole.items():  # what is longer than it may be takes no room from the others
        cost = _cost(tag, attribute) - _cost(tag, taken[tag])
        if cost <= room:
            room -= cost
            taken[tag] = attribute
        elif tag not in dropped:
            dropped.append(tag)
    return taken, dropped, unread


def _cost(tag: str, attribute: Element) -> int:
    text = json.dumps(attribute, ensure_ascii=False, separators=(",", ":"))
    return len(f'"{tag}":,') + len(text.encode("utf-8", "replace"))


def _attribute(dataset: Dataset, kept: Attribute) -> tuple[Element | None, bool]:
    """An attribute, with values of `_LONG_TEXT_LIMIT` characters at the most, and whether that is all of it."""
    if kept.items:
        every = items_of(dataset, kept.tag)
        items = [_item(item, kept.items) for item in every[:_ITEMS_LIMIT]]
        found = [item for item in items if item]
        return ({"vr": "SQ", "Value": found} if found else None), len(every) <= _ITEMS_LIMIT
    every = values_of(dataset, kept.tag, kept.vr)
    values = _clean(kept.vr, every)
    if not values:
        return None, True
    attribute = {"vr": kept.vr, "Value": values}
    clipped = _clipped(attribute, _LONG_TEXT_LIMIT)
    return clipped, clipped == attribute and len(every) <= _VALUES_LIMIT


def _item(item: Dataset, kept: tuple[Tag, ...]) -> Attributes:
    out: Attributes = {}
    for tag in kept:
        values = _clean("LO", values_of(item, tag, "LO"))
        if values:
            out[str(tag)] = {"vr": ITEM_VRS[tag], "Value": values}
    return out


def _clean(vr: str, values: list[Any]) -> list[Any]:
    check = {"DA": valid_date, "TM": valid_time}.get(vr)
    cleaned = [check(value) if check and value is not None else value for value in values[:_VALUES_LIMIT]]
    return cleaned if any(value is not None for value in cleaned) else []


def _clipped(value: Any, limit: int) -> Any:
    """A value, or an attribute with all that is in it, without what is longer than `limit` characters."""
    if isinstance(value, str):
        return value[:limit]
    if isinstance(value, dict):
        return {kind: inner if kind == "vr" else _clipped(inner, limit) for kind, inner in value.items()}
    return [_clipped(inner, limit) for inner in value] if isinstance(value, list) else value


def _other_identifiers(dataset: Dataset) -> tuple[StatedIdentifier, ...]:
    others = [StatedIdentifier(str(value)) for value in values_of(dataset, tags.OtherPatientIDs, "LO") if value]
    others += [_identifier(item) for item in items_of(dataset, tags.OtherPatientIDsSequence)]
    return tuple(other for other in others if other.id)[:_OTHER_IDS_LIMIT]


def _identifier(dataset: Dataset) -> StatedIdentifier:
    qualifiers = items_of(dataset, tags.IssuerOfPatientIDQualifiersSequence)[:1]
    universal = _text(qualifiers[0], tags.UniversalEntityID) if qualifiers else ""
    return StatedIdentifier(_text(dataset, tags.PatientID), _text(dataset, tags.IssuerOfPatientID), universal)


def _text(dataset: Dataset, tag: Tag) -> str:
    values = values_of(dataset, tag, "LO")
    return str(values[0]) if values and values[0] is not None else ""


def _number(dataset: Dataset, tag: Tag, vr: str) -> int:
    values = values_of(dataset, tag, vr)
    return values[0] if values and isinstance(values[0], int) else 0
