"""What a search answers: the attributes of each match, and the warnings beside them (PS3.18 10.6.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from chalicelib.dicomweb.matching import Element
from chalicelib.dicomweb.qido import Attributes, Query
from chalicelib.dicomweb.search_attributes import ATTRIBUTES, LEVELS, RETURNED_ALSO, Level, rank, vr_of
from chalicelib.domain import dicom_json, tags

# Everything that is found is in S3: it can be fetched at once (PS3.3 C.4.23.1.1).
_AVAILABILITY = {"vr": "CS", "Value": ["ONLINE"]}
_REQUEST_ATTRIBUTES = tags.RequestAttributesSequence
# How many patients a study has, where they are several.
_MARKS = (tags.PatientsPrivateCreator, tags.NumberOfPatients)
# Unique keys of study, series and instance: each result has those of the entities above it too, whatever the path has fixed,
# as C-FIND has them (PS3.4 C.4.1.1.3.2) and clients expect.
_UNIQUE = (tags.StudyInstanceUID, tags.SeriesInstanceUID, tags.SOPInstanceUID)
# Required inside an item of Request Attributes Sequence (Table 10.6.3-4).
_REQUIRED_IN_REQUEST = (tags.ScheduledProcedureStepID, tags.RequestedProcedureID)


def levels_returned(query: Query) -> tuple[Level, ...]:
    """The entities whose required attributes are in each result (10.6.3.3.1 to 10.6.3.3.3).

    `/series` adds those of the study, `/instances` those of study and series, `/studies/{}/instances` those
    of the series.
    """
    first = 0 if query.scope.study_instance_uid is None else 1 if query.scope.series_instance_uid is None else 2
    return LEVELS[min(first, rank(query.level)) : rank(query.level) + 1]


def project(query: Query, attributes: Attributes) -> dicom_json.Attributes:
    """The attributes of one result, by tag in ascending order.

    `attributes`: all that is known of the entity, those of the entities above it included. Required
    attributes that are not known are there without a value (F.2.5), conditional ones are left out.
    Attributes of entities below the one searched for are never returned.
    """
    levels = levels_returned(query)
    result: dicom_json.Attributes = {}
    known = dict(attributes)
    if "study" in levels or query.level == "instance":
        known.setdefault(tags.InstanceAvailability, _AVAILABILITY)
    for tag, row in ATTRIBUTES.items():
        level = row.level if row.level in levels else next((x for x in levels if tag in RETURNED_ALSO[x]), None)
        if level is not None and row.returned != "O":
            _put(result, tag, known.get(tag), required=row.returned in "UR")
    for tag in _UNIQUE[: rank(query.level) + 1]:
        _put(result, tag, known.get(tag), required=True)
    asked = {key.path for key in query.keys} | query.included | {(m.time,) for m in query.moments}
    for path in sorted(asked, key=len, reverse=True):
        asked_row = ATTRIBUTES.get(path[0])
        if asked_row is None or rank(asked_row.level) <= rank(query.level):
            _put_path(result, path, known.get(path[0]), required=vr_of(path) is not None)
    if query.include_all:
        for tag, element in known.items():
            known_row = ATTRIBUTES.get(tag)
            if known_row is None or rank(known_row.level) <= rank(query.level):
                result[tag] = element
    if "study" in levels:
        result |= {tag: known[tag] for tag in _MARKS if tag in known}
    if _REQUEST_ATTRIBUTES in result:
        result[_REQUEST_ATTRIBUTES] = _request_attributes(result[_REQUEST_ATTRIBUTES])
    return {tag: dict(result[tag]) for tag in sorted(result)}


def dated(item: Mapping[str, Any], now: datetime) -> dicom_json.Attributes:
    """An item of Original Attributes Sequence with the day on which the attributes are replaced (PS3.3 Table C.12-1)."""
    day = {"vr": "DT", "Value": [now.strftime("%Y%m%d")]}
    return dict(sorted({**item, tags.AttributeModificationDateTime: day}.items()))


def with_day_of_change(result: dicom_json.Attributes, now: datetime) -> dicom_json.Attributes:
    """A result whose patient is shown under another number than the one in the images, with the day on which it is."""
    original = result.get(tags.OriginalAttributesSequence)
    if original is None:
        return result
    return {
        **result,
        tags.OriginalAttributesSequence: {"vr": "SQ", "Value": [dated(item, now) for item in original.get("Value", [])]},
    }


def _put(result: dicom_json.Attributes, tag: str, element: Element | None, *, required: bool) -> None:
    if element is not None and (required or len(element) > 1):
        result[tag] = element
    elif required:
        result[tag] = {"vr": ATTRIBUTES[tag].vr}


def _put_path(result: dicom_json.Attributes, path: tuple[str, ...], element: Element | None, *, required: bool) -> None:
    """Adds an attribute that was asked for; of a sequence that was asked for by a path, only what the paths
    name.
    """
    tag = path[0]
    if len(path) == 1:
        if element is not None:
            result[tag] = element
        elif required:
            result.setdefault(tag, {"vr": ATTRIBUTES[tag].vr})
        return
    if tag in result and tag == _REQUEST_ATTRIBUTES:
        return
    before = _items(result.get(tag))
    items = []
    for index, item in enumerate(_items(element)):
        kept: dicom_json.Attributes = dict(before[index]) if index < len(before) else {}
        inner = item.get(path[1])
        if inner is not None:
            _put_path(kept, path[1:], inner, required=False)
        items.append(kept)
    result[tag] = {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}


def _items(element: Element | None) -> list[dicom_json.Attributes]:
    """Copies of a sequence's items, empty ones included."""
    values = element.get("Value") if element else None
    return [dict(item) for item in values if isinstance(item, dict)] if isinstance(values, list) else []


def _request_attributes(element: Element) -> Element:
    items = _items(element)
    for item in items:
        for tag in _REQUIRED_IN_REQUEST:
            item.setdefault(tag, {"vr": "SH"})
    return {"vr": "SQ", "Value": [dict(sorted(item.items())) for item in items]} if items else {"vr": "SQ"}


def warning_header(service: str, texts: Iterable[str]) -> str | None:
    """The value of `Warning` (8.3.4, RFC 7234 5.5) for texts that are all 299; None when there are none.

    `service`: the base URI of the service, such as `https://archive.example/dicomweb`.
    """
    return ", ".join(f"299 {service}: {text}" for text in texts) or None


def remaining_text(remaining: int | None) -> str:
    """The warning that there is more (8.3.4.4.1); `remaining` None: more, and not counted."""
    count = "" if remaining is None else f"{remaining} "
    return f"There are {count}additional results that can be requested"


def page(query: Query, found: Sequence[Any]) -> tuple[Sequence[Any], int]:
    """(results, remaining) of all matches in their order (8.3.4.4.1)."""
    results = found[query.offset : query.offset + query.limit]
    return results, max(0, len(found) - query.offset - len(results))
