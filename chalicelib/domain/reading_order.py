"""The order in which the images of a study are read: the same on the page, in metadata, manifest, viewer and archive files.

Series by Series Number, images by Instance Number. Where that says nothing, or the same of several, images go by their position
along the normal of the slice (PS3.3 C.7.6.2.1.1) or by Slice Location, then by acquisition time; UIDs, which are random, come
last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from chalicelib.domain import tags
from chalicelib.domain.dicom_json import first_value
from chalicelib.domain.studies import Instance, unpacked

_SERIES_NUMBER, _INSTANCE_NUMBER = tags.SeriesNumber, tags.InstanceNumber


def number(instance: Instance, tag: str = _INSTANCE_NUMBER) -> int | None:
    """A number of an instance, None where it has none."""
    text = first_value(unpacked({tag: kept}), tag) if (kept := instance.fact.kept.get(tag)) else ""
    return int(text) if text.lstrip("-").isdigit() else None


def in_reading_order(found: Iterable[Instance]) -> list[Instance]:
    """Instances of one study, series by series."""
    return [member for members in by_series(found) for member in members]


def by_series(found: Iterable[Instance]) -> list[list[Instance]]:
    """The series of a study in their order, each with its instances in theirs."""
    series: dict[str, list[Instance]] = {}
    for instance in found:
        series.setdefault(instance.series_instance_uid, []).append(instance)
    ordered = [sorted(members, key=_within) for members in series.values()]
    return sorted(ordered, key=_of_series)


def _of_series(members: Sequence[Instance]) -> tuple[float, str]:
    known = number(members[0], _SERIES_NUMBER)
    return (known if known is not None else 0, members[0].series_instance_uid)


def _within(instance: Instance) -> tuple[float, float, str, str]:
    known = number(instance)
    place = instance.fact.place
    return (
        known if known is not None else math.inf,
        place.position if place.position is not None else math.inf,
        place.time or "",
        instance.sop_instance_uid,
    )
