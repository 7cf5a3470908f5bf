"""Images that a sender singles out: Key Object Selection (PS3.3 A.35.4) and Presentation States (A.33) name them."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

from chalicelib.dicom.identity import single_uid
from chalicelib.dicom.rejection_note import KEY_OBJECT_SELECTION, rejects
from chalicelib.dicom.values import items_of, text_of, values_of
from chalicelib.domain import tags
from chalicelib.domain.instance_facts import KeyImages

PRESENTATION_STATES = "1.2.840.10008.5.1.4.1.1.11."
MAX_IMAGES = 100
"""Of one document: who singles out more singles out nothing."""
_MAX_FRAMES = 16
_LONGEST = 200
_MAX_DEPTH = 8
_DESCRIPTION = "113012"
"""Key Object Description (DCM), PS3.16 TID 2010."""


def read(dataset: Dataset) -> KeyImages | None:
    """What a document singles out; None for what is no such document, rejects images (`rejection_note`), or names none."""
    sop_class = single_uid(dataset, tags.SOPClassUID)
    if sop_class == KEY_OBJECT_SELECTION and not rejects(dataset):
        names = items_of(dataset, tags.ConceptNameCodeSequence)[:1]
        title = text_of(names[0], tags.CodeMeaning, "LO") if names else ""
        kind, description, images = "KO", _described(dataset), _selected(dataset, 0)
    elif sop_class.startswith(PRESENTATION_STATES):
        title, description = text_of(dataset, tags.ContentLabel, "CS"), text_of(dataset, tags.ContentDescription, "LO")
        kind, images = "PR", _presented(dataset)
    else:
        return None
    found: dict[str, list[int]] = {}
    for sop, frames in images:
        if sop not in found and len(found) == MAX_IMAGES:
            break
        known = found.setdefault(sop, [])
        known += [frame for frame in frames if frame not in known][: _MAX_FRAMES - len(known)]
    if not found:
        return None
    return KeyImages(kind, title[:_LONGEST], description[:_LONGEST], {sop: tuple(frames) for sop, frames in found.items()})


def _selected(item: Dataset, depth: int) -> Iterator[tuple[str, list[int]]]:
    """The IMAGE items of a key object selection's content, whatever depth a sender wrote them at (PS3.3 C.17.3)."""
    for child in items_of(item, tags.ContentSequence):
        if text_of(child, tags.ValueType, "CS") == "IMAGE":
            yield from _references(child, tags.ReferencedSOPSequence)
        elif depth < _MAX_DEPTH:
            yield from _selected(child, depth + 1)


def _presented(dataset: Dataset) -> Iterator[tuple[str, list[int]]]:
    """Presentation State Relationship (PS3.3 C.11.11)."""
    for series in items_of(dataset, tags.ReferencedSeriesSequence):
        yield from _references(series, tags.ReferencedImageSequence)


def _references(item: Dataset, sequence: tags.Tag) -> Iterator[tuple[str, list[int]]]:
    for reference in items_of(item, sequence):
        if sop := text_of(reference, tags.ReferencedSOPInstanceUID, "UI")[:64]:
            frames = values_of(reference, tags.ReferencedFrameNumber, "IS")
            yield sop, [frame for frame in frames if isinstance(frame, int) and frame > 0][:_MAX_FRAMES]


def _described(dataset: Dataset) -> str:
    for child in items_of(dataset, tags.ContentSequence):
        names = items_of(child, tags.ConceptNameCodeSequence)[:1]
        if names and text_of(names[0], tags.CodeValue, "SH") == _DESCRIPTION:
            return text_of(child, tags.TextValue, "UT").strip()
    return ""
