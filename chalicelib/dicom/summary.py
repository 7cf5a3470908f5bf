"""What the archive keeps of one instance: identity, place of the pixels, and the attributes that searches
need.
"""

from __future__ import annotations

import hashlib
import json
import math
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


def summarise(head: Head, described: PixelDescription | None = None) -> dict[str, Any]:
    """The summary of an instance, ready for JSON. `described`: what its pixels are, where more
    than the head was looked at (`frames.examine`).

    `study_instance_uid`, `series_instance_uid`, `sop_instance_uid`, `sop_class_uid`, `transfer_syntax_uid`:
    str. `number_of_frames`: int, at least 1. `rows`, `columns`: int, or None for what is no image.
    `header_length`: bytes before the Pixel Data element. `pixel_offset`, `pixel_length`: of its value, None
    where there is none; the length is also None where it is encapsulated. `pixels`: `PixelFacts`. `deflated`: these three count
    inflated bytes. `patient`: `id`, `issuer` (0010,0021), `issuer_universal_id` (0010,0024): str or None;
    `other_ids`: the same three for each of (0010,1000) and (0010,1002). `attributes`: DICOM JSON Model
    (PS3.18 F.2) of `attributes.KEPT`, text in Unicode, invalid values left out, at most `ATTRIBUTES_LIMIT`
    bytes, or `LONG_LIMIT` with values that are longer than their VR allows. `dropped`: the tags that had no room, or of which not
    all had, least important first to go. `unread`: the tags of dates and times that are there and cannot be read.
    `place`: see `_place`. `geometry`: see `_geometry`. `rejects`: see `rejection_note.read`.
    `key_images`: see `key_images.read`.
    """
    dataset = head.dataset
    pixels = head.pixel_data
    described = described or describe(head)
    attributes, dropped, unread = _attributes(dataset)
    return {
        "study_instance_uid": single_uid(dataset, tags.StudyInstanceUID),
        "series_instance_uid": single_uid(dataset, tags.SeriesInstanceUID),
        "sop_instance_uid": single_uid(dataset, tags.SOPInstanceUID),
        "sop_class_uid": single_uid(dataset, tags.SOPClassUID),
        "transfer_syntax_uid": head.transfer_syntax_uid,
        "number_of_frames": declared_frames(dataset),
        "rows": _number(dataset, tags.Rows, "US"),
        "columns": _number(dataset, tags.Columns, "US"),
        "header_length": head.header_length,
        "pixel_offset": pixels.offset if pixels else None,
        "pixel_length": pixels.length if pixels else None,
        **(pixel_fields(described) if described else {}),
        "deflated": head.deflated,
        "patient": _patient(dataset),
        "attributes": attributes,
        "dropped": dropped,
        "unread": unread,
        "place": _place(dataset),
        "geometry": _geometry(dataset),
        "rejects": rejection_note.read(dataset),
        "key_images": key_images.read(dataset),
    }


def pixel_fields(pixels: PixelDescription) -> dict[str, Any]:
    """What a summary says of pixels: `number_of_frames`, `frame_length`, `pixels`."""
    frames = pixels.facts.frames
    return {"number_of_frames": frames, "frame_length": frame_length(pixels), "pixels": pixels.facts.to_item()}


def frame_length(pixels: PixelDescription) -> int | None:
    """Bytes of one native frame where frames are whole bytes and lie one after the other, so that no head need be read."""
    if pixels.facts.encapsulated or pixels.facts.frames_fault or not pixels.facts.direct:
        return None
    return pixels.frame_bits // 8 if pixels.frame_bits % 8 == 0 else None


def _place(dataset: Dataset) -> list[Any] | None:
    """[position in mm along the normal of the slice, or its Slice Location; acquisition time], what images are read in order by.

    Either is None where it is not known; None where neither is (PS3.3 C.7.6.2.1.1).
    """
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
    return None if position is None and time is None else [None if position is None else round(position, 3), time]


def _geometry(dataset: Dataset) -> dict[str, Any] | None:
    """What images are put beside each other by, only what is known; None where nothing is.

    `orientation`: six direction cosines; `position`: mm (PS3.3 C.7.6.2.1.1). `toward`: where in the patient the image's right and
    bottom edges lie (C.7.6.1.1.1). `spacing`: mm from row to row and from column to column, at the detector where `at_detector`
    is true (C.7.6.3, 10.7.1.3). `thickness`: mm. `kernel`. `window`: [centre, width], the first. `inverse`: whether greater
    values are darker (C.7.6.3.1.2). `frame_time`: ms. `view`: of a mammogram that says it by its code alone. `frame`: a few
    characters that tell one Frame of Reference from another.
    """
    orientation = _numbers(dataset, tags.ImageOrientationPatient, 6)
    position = _numbers(dataset, tags.ImagePositionPatient, 3)
    spacing, detector = _spacing(dataset, tags.PixelSpacing), _spacing(dataset, tags.ImagerPixelSpacing)
    centre, width = (_numbers(dataset, tag, 1) for tag in (tags.WindowCenter, tags.WindowWidth))
    thickness, frame_time = (_numbers(dataset, tag, 1) for tag in (tags.SliceThickness, tags.FrameTime))
    kernel, frame = _text(dataset, tags.ConvolutionKernel), single_uid(dataset, tags.FrameOfReferenceUID)
    found = {
        "orientation": orientation if position else None,
        "position": position if orientation else None,
        "toward": _toward(dataset),
        "spacing": spacing or detector,
        "at_detector": bool(detector and not spacing),
        "thickness": thickness[0] if thickness else None,
        "kernel": kernel[:_TEXT_LIMIT] if kernel else None,
        "window": [*centre, *width] if centre and width and width[0] > 0 else None,
        "inverse": _text(dataset, tags.PhotometricInterpretation) == "MONOCHROME1",
        "frame_time": frame_time[0] if frame_time and frame_time[0] > 0 else None,
        "view": _coded_view(dataset),
        "frame": hashlib.sha256(frame.encode()).hexdigest()[:8] if frame else None,
    }
    return {name: value for name, value in found.items() if value} or None


_VIEW_CODES = {"R-10242": "CC", "399162004": "CC", "R-10226": "MLO", "399368009": "MLO"}
"""PS3.16 CID 4014, SRT and SCT."""


def _coded_view(dataset: Dataset) -> str | None:
    """What View Code Sequence says where View Position, which may be absent from a mammogram, says nothing (PS3.3 C.8.11.7)."""
    views = [] if _text(dataset, tags.ViewPosition) else items_of(dataset, tags.ViewCodeSequence)[:1]
    return _VIEW_CODES.get(text_of(views[0], tags.CodeValue, "SH")) if views else None


def _toward(dataset: Dataset) -> list[str] | None:
    """Patient Orientation, where it says both directions."""
    values = [str(value) for value in values_of(dataset, tags.PatientOrientation, "CS") if value]
    return [value[:3] for value in values] if len(values) == 2 else None


def _numbers(dataset: Dataset, tag: Tag, count: int) -> list[float] | None:
    """The first `count` decimals of an attribute; None where one of them is none."""
    values = values_of(dataset, tag, "DS")[:count]
    if len(values) < count or any(not isinstance(value, int | float) or not math.isfinite(value) for value in values):
        return None
    return [round(float(value), 5) for value in values]


def _spacing(dataset: Dataset, tag: Tag) -> list[float] | None:
    found = _numbers(dataset, tag, 2)
    return found if found and min(found) > 0 else None


def _attributes(dataset: Dataset) -> tuple[dict[str, Any], list[str], list[str]]:
    """What is kept; what had no room; what could not be read."""
    room, taken, dropped, unread = ATTRIBUTES_LIMIT - len("{}"), dict[str, Any](), list[str](), list[str]()
    whole: dict[str, Any] = {}
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


def _cost(tag: str, attribute: dict[str, Any]) -> int:
    text = json.dumps(attribute, ensure_ascii=False, separators=(",", ":"))
    return len(f'"{tag}":,') + len(text.encode("utf-8", "replace"))


def _attribute(dataset: Dataset, kept: Attribute) -> tuple[dict[str, Any] | None, bool]:
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


def _item(item: Dataset, kept: tuple[Tag, ...]) -> dict[str, Any]:
    out = {}
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
        return {kind: one if kind == "vr" else _clipped(one, limit) for kind, one in value.items()}
    return [_clipped(one, limit) for one in value] if isinstance(value, list) else value


def _patient(dataset: Dataset) -> dict[str, Any]:
    others = [
        {"id": value, "issuer": None, "issuer_universal_id": None}
        for value in values_of(dataset, tags.OtherPatientIDs, "LO")
        if value
    ]
    others += [_identifier(item) for item in items_of(dataset, tags.OtherPatientIDsSequence)]
    return {
        **_identifier(dataset),
        "other_ids": [other for other in others if other["id"]][:_OTHER_IDS_LIMIT],
    }


def _identifier(dataset: Dataset) -> dict[str, Any]:
    qualifiers = items_of(dataset, tags.IssuerOfPatientIDQualifiersSequence)[:1]
    return {
        "id": _text(dataset, tags.PatientID),
        "issuer": _text(dataset, tags.IssuerOfPatientID),
        "issuer_universal_id": _text(qualifiers[0], tags.UniversalEntityID) if qualifiers else None,
    }


def _text(dataset: Dataset, tag: Tag) -> str | None:
    values = values_of(dataset, tag, "LO")
    return str(values[0]) if values and values[0] is not None else None


def _number(dataset: Dataset, tag: Tag, vr: str) -> int | None:
    values = values_of(dataset, tag, vr)
    return values[0] if values and isinstance(values[0], int) else None
