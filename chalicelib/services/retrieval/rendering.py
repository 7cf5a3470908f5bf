"""Rendered instances and thumbnails (PS3.18 10.4.1.1.3, 10.4.1.1.4): what can be drawn, and the jobs that draw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from chalicelib.dicomweb import multipart, representations
from chalicelib.dicomweb.media_types import Representation, Selected
from chalicelib.dicomweb.rendered import Rendering, Viewport, place
from chalicelib.domain import tags
from chalicelib.domain.assembly import ObjectRange, Piece
from chalicelib.domain.dicom_json import first_value, texts
from chalicelib.domain.errors import NotAcceptable, NotFound
from chalicelib.domain.pixel_facts import PixelFacts
from chalicelib.domain.ports import Objects, PixelDecoder
from chalicelib.domain.studies import REPORT_KINDS, Instance
from chalicelib.services.retrieval import decoding
from chalicelib.services.retrieval import frames as retrieve_frames
from chalicelib.services.retrieval.bodies import Body, VisibleStudy, multipart_body, object_key, single_body

QUALITY = 90
THUMBNAIL = Viewport(128, 128)
LARGEST_THUMBNAIL = 1024
_LOCALIZER = "LOCALIZER"
"""Value 3 of a CT's Image Type (PS3.3 C.8.2.1.1.1): a scout."""
MOST_PICTURES = 64
"""Pictures of one answer."""

_IMAGES = representations.RENDERED["single-frame"]
_ANIMATED = (Representation("image/gif"), Representation("image/jpeg"), Representation("image/png"))
_STILL = (Representation("image/jpeg"), Representation("image/png"))
MOST_ANIMATED = 200
"""Frames of an animation, and `MOST_PIXELS` of all of them (`pixels.render`)."""
MOST_PIXELS = 128 * 1024 * 1024
_DOCUMENT = {
    "pdf": (Representation("application/pdf"),),
    "cda": (Representation("text/xml"),),
    "sr": (Representation("text/html"), Representation("text/plain")),
}


def is_image(instance: Instance) -> bool:
    """Whether it has pixels that can be drawn."""
    pixels = instance.fact.pixel_offset and instance.fact.rows and instance.fact.columns
    return bool(pixels) and not retrieve_frames.is_video(instance)


def offers(objects: Objects, owner: str, instance: Instance, frames: int | None = None) -> tuple[Representation, ...]:
    """What an instance, or so many frames of it, can be rendered as (Table 8.7.4-1): all of its frames as an animation, unless
    they are too many for one. Raises NotFound for what cannot be, NotAcceptable for pixels that cannot be drawn rightly.
    """
    if is_image(instance):
        several = tuple(Representation(offer.media_type, True) for offer in _IMAGES)
        if frames is not None:
            return (*_IMAGES, *several) if frames == 1 else several
        count = require_picture(objects, owner, instance).frames
        area = instance.fact.rows * instance.fact.columns
        if count == 1:
            return (*_IMAGES, *several)
        return (*_ANIMATED, *several) if count <= MOST_ANIMATED and count * area <= MOST_PIXELS else (*_STILL, *several)
    if frames is None and (video := _video(instance)) is not None:
        return (Representation(video),)
    kind = _kind(instance)
    if kind is None or frames is not None:
        raise NotFound
    return _DOCUMENT[kind]


def require_picture(objects: Objects, owner: str, instance: Instance) -> PixelFacts:
    """What the pixels of an image are. Raises NotAcceptable for those of which every picture would be wrong."""
    facts = retrieve_frames.described(objects, owner, instance)
    if facts.picture_fault:
        raise NotAcceptable(f"No picture can be made of this instance: {facts.picture_fault}.")
    return facts


def _video(instance: Instance) -> str | None:
    """The media type of a video, which is served as it is stored."""
    moving = instance.fact.pixel_offset and retrieve_frames.is_video(instance)
    return representations.FRAME_TYPES[instance.fact.transfer_syntax_uid] if moving else None


def offers_of_all(objects: Objects, owner: str, found: Sequence[Instance]) -> tuple[Representation, ...]:
    """What a series or a study can be rendered as: the picture that stands for it, or all of them in multipart."""
    if any(map(is_image, found)):
        return (*_IMAGES, *(Representation(offer.media_type, True) for offer in _IMAGES))
    return offers(objects, owner, found[0])


def document_type(instance: Instance) -> str | None:
    """The media type of the document that an instance encapsulates; None for what encapsulates none."""
    kind = _kind(instance)
    return _DOCUMENT[kind][0].media_type if kind in ("pdf", "cda") else None


def _kind(instance: Instance) -> str | None:
    sop_class = instance.fact.sop_class_uid
    return REPORT_KINDS.get(sop_class) or ("sr" if sop_class.startswith("1.2.840.10008.5.1.4.1.1.88.") else None)


def representative(found: Sequence[Instance]) -> Instance:
    """The instance that stands for a series or a study: the middle one of its first series with images that are no localizers."""
    images = [instance for instance in found if is_image(instance)]
    if not images:
        return found[0]
    drawable = [image for image in images if not _said_fault(image)] or images
    drawable = [instance for instance in drawable if _LOCALIZER not in texts(instance.attributes, tags.ImageType)] or drawable
    same = [instance for instance in drawable if instance.series_instance_uid == drawable[0].series_instance_uid]
    return same[len(same) // 2]


def _said_fault(instance: Instance) -> bool:
    """Whether it is known already that no picture can be made of it."""
    facts = instance.fact.pixels
    return facts is not None and bool(facts.picture_fault)


def thumbnail(wanted: Rendering) -> Rendering:
    """A thumbnail is a small picture; the caller may say how small, and no more than so large."""
    if wanted.viewport is None:
        return replace(wanted, viewport=THUMBNAIL)
    width, height = (
        min(side or LARGEST_THUMBNAIL, LARGEST_THUMBNAIL) for side in (wanted.viewport.width, wanted.viewport.height)
    )
    return replace(wanted, viewport=replace(wanted.viewport, width=width, height=height))


def body(
    objects: Objects,
    pixels: PixelDecoder,
    opened: VisibleStudy,
    found: Sequence[tuple[Instance, int | None]],
    wanted: Rendering,
    selected: Selected,
) -> Body:
    """Pictures of (instance, frame) pairs, or the document that the only instance is. Raises NotFound, NotAcceptable.

    A frame of None is all frames for an animation, and else the middle one.
    """
    media_type = selected.offer.media_type
    if not is_image(found[0][0]):
        return _document(objects, pixels, opened, found[0][0], media_type)
    jobs = [
        _job(objects, opened, instance, frame, wanted, media_type)
        for instance, frame in found[:MOST_PICTURES]
        if is_image(instance)
    ]
    sizes = decoding.make(objects, pixels, jobs)
    made = [(ObjectRange(decoding.target(job), 0, sizes[decoding.target(job)]),) for job in jobs]
    if not selected.offer.multipart:
        return single_body(objects, made[0], media_type)
    headers: multipart.Headers = (("Content-Type", media_type),)
    return multipart_body(objects, [(headers, pieces) for pieces in made], media_type)


def _job(
    objects: Objects, opened: VisibleStudy, instance: Instance, frame: int | None, wanted: Rendering, media_type: str
) -> decoding.Job:
    facts = require_picture(objects, opened.owner, instance)
    columns, rows = instance.fact.columns, instance.fact.rows
    shown = place(wanted.viewport, columns, rows)
    if frame is None and media_type != "image/gif":
        frame = (facts.frames + 1) // 2
    window = wanted.window
    return {
        "op": "render",
        "source": object_key(opened.owner, instance),
        "media_type": media_type,
        "frame": frame,
        "quality": wanted.quality or QUALITY,
        "box": [shown.left, shown.top, shown.right, shown.bottom],
        "size": [shown.width, shown.height],
        "flip": [shown.flip_horizontal, shown.flip_vertical],
        "window": [window.center, window.width, window.function] if window else None,
        "annotations": _annotations(opened, instance, wanted),
    }


def _annotations(opened: VisibleStudy, instance: Instance, wanted: Rendering) -> list[str]:
    """What is burned in (8.3.5.1.1): the patient under the number that the caller knows, and how the image was made."""
    lines: list[str] = []
    attributes = instance.attributes
    if "patient" in wanted.annotations:
        name: Any = (attributes.get(tags.PatientName, {}).get("Value") or [{}])[0]
        lines += [str(name.get("Alphabetic", "")) if isinstance(name, dict) else ""]
        face = opened.face(instance.fact.patient)
        number = face.shown.value if face and face.shown else first_value(attributes, tags.PatientID)
        lines += [number, first_value(attributes, tags.PatientBirthDate)]
    if "technique" in wanted.annotations:
        lines += [
            first_value(attributes, tag) for tag in (tags.Modality, tags.StudyDate, tags.SeriesDescription, tags.ProtocolName)
        ]
    return [line for line in lines if line]


def _document(objects: Objects, pixels: PixelDecoder, opened: VisibleStudy, instance: Instance, media_type: str) -> Body:
    if _video(instance) is not None:
        (stream,) = retrieve_frames.frames(objects, opened.owner, instance, [1])
        return single_body(objects, stream, media_type)
    if _kind(instance) != "sr":
        return single_body(objects, retrieve_frames.document(objects, opened.owner, instance), media_type)
    job: decoding.Job = {"op": "report", "source": object_key(opened.owner, instance), "media_type": media_type}
    size = decoding.make(objects, pixels, [job])[decoding.target(job)]
    pieces: tuple[Piece, ...] = (ObjectRange(decoding.target(job), 0, size),)
    return single_body(objects, pieces, f"{media_type}; charset=utf-8")
