"""Bulk data of whole instances: their pixels, or all values that their metadata refers to (PS3.18 10.4.3.3.5, 10.4.3.3.6)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from chalicelib.dicomweb import multipart, representations
from chalicelib.dicomweb.media_types import EXPLICIT_VR_LITTLE_ENDIAN, Selected, part_type
from chalicelib.dicomweb.resources import ENCAPSULATED_DOCUMENT, PIXEL_TAGS
from chalicelib.domain import tags
from chalicelib.domain.assembly import ObjectRange, Piece
from chalicelib.domain.errors import NotFound
from chalicelib.domain.ports import Objects, PixelDecoder
from chalicelib.domain.studies import REPORT_KINDS, Instance
from chalicelib.services.retrieval import frames, metadata
from chalicelib.services.retrieval.bodies import Body, VisibleStudy, multipart_body, object_key
from chalicelib.services.retrieval.files import frame_pieces, is_encapsulated, part_headers, stored_frames

_PARALLEL = 16
_NAME = re.compile(rb'"BulkDataURI":"[^"]*/bulkdata/([^"/]+)"')
_PIXEL_DATA = tags.PixelData
_UNCOMPRESSED = f"{representations.OCTETS}; transfer-syntax={EXPLICIT_VR_LITTLE_ENDIAN}"
_DOCUMENTS = {sop_class for sop_class, kind in REPORT_KINDS.items() if kind != "sr"}

Part = tuple[multipart.Headers, tuple[Piece, ...]]
Locate = Callable[[Instance, str], str | None]
"""From an instance and the name of an attribute to the address that its metadata gives of the value; None for none."""


def pixels_body(
    objects: Objects, pixels: PixelDecoder, opened: VisibleStudy, found: Sequence[Instance], selected: Selected, locate: Locate
) -> Body:
    """Every frame of these instances, one part each. Raises NotFound when none has pixels."""
    parts = [part for instance in found for part in _pixels(objects, pixels, opened, instance, selected, locate)]
    return _body(objects, parts, selected)


def bulkdata_body(
    objects: Objects, pixels: PixelDecoder, opened: VisibleStudy, found: Sequence[Instance], selected: Selected, locate: Locate
) -> Body:
    """Every value that the metadata of these instances refers to, and their documents: one part each, of compressed pixels
    one for each frame. Raises NotFound when there is none, TooLarge.
    """
    lines = metadata.lines(objects, opened.owner, found)
    names = {instance.sop_instance_uid: _names(instance, line) for instance, line in zip(found, lines, strict=True)}
    room = frames.Room()
    with ThreadPoolExecutor(_PARALLEL) as pool:
        values = list(
            pool.map(lambda instance: _values(objects, opened, instance, names[instance.sop_instance_uid], locate, room), found)
        )
    parts: list[Part] = []
    for instance, others in zip(found, values, strict=True):
        parts += others
        if _has_fragments(objects, opened, instance):
            parts += _pixels(objects, pixels, opened, instance, selected, locate)
    return _body(objects, parts, selected)


def _names(instance: Instance, line: bytes) -> list[str]:
    """The attributes that have bulk data; a document has it even where it is so short that it stands in the metadata itself."""
    names = [name.decode() for name in _NAME.findall(line)]
    short = instance.fact.sop_class_uid in _DOCUMENTS and f'"{ENCAPSULATED_DOCUMENT}":{{"vr":"OB","InlineBinary"'.encode() in line
    return [*names, ENCAPSULATED_DOCUMENT] if short else names


def _body(objects: Objects, parts: list[Part], selected: Selected) -> Body:
    if not parts:
        raise NotFound
    return multipart_body(objects, parts, selected.offer.media_type)


def _values(
    objects: Objects, opened: VisibleStudy, instance: Instance, names: list[str], locate: Locate, room: frames.Room
) -> list[Part]:
    """The values as they are, but for compressed pixels."""
    wanted = [name for name in names if not (name in PIXEL_TAGS and _has_fragments(objects, opened, instance))]
    values: dict[str, tuple[Piece, ...]] = {
        name: (pixels,) for name in wanted if (pixels := _plain_pixels(objects, opened, instance, name)) is not None
    }
    if others := [name for name in wanted if name not in values]:
        values |= zip(others, frames.bulk_values(objects, opened.owner, instance, others, room), strict=True)
    return [(part_headers(_UNCOMPRESSED, locate(instance, name)), values[name]) for name in wanted]


def _has_fragments(objects: Objects, opened: VisibleStudy, instance: Instance) -> bool:
    return bool(instance.fact.pixel_offset) and is_encapsulated(objects, opened, instance)


def _plain_pixels(objects: Objects, opened: VisibleStudy, instance: Instance, name: str) -> ObjectRange | None:
    """Pixel Data of which the facts say where it lies, so that no head need be read."""
    length = instance.fact.pixel_length
    if name not in PIXEL_TAGS or not length or not frames.known_pixels(objects, opened.owner, instance).direct:
        return None
    if name != _PIXEL_DATA:
        return None
    return ObjectRange(object_key(opened.owner, instance), instance.fact.pixel_offset, int(length))


def _pixels(
    objects: Objects, pixels: PixelDecoder, opened: VisibleStudy, instance: Instance, selected: Selected, locate: Locate
) -> Iterator[Part]:
    """The frames of an instance, as they are stored where that is wanted, or where they are stored with loss and no transfer
    syntax is named (8.7.3.4)."""
    if not instance.fact.pixel_offset:
        return
    stored = stored_frames(objects, opened, instance)
    left = representations.VIDEO if selected.named else representations.LOSSY
    as_stored = selected.any_syntax or stored == selected.transfer_syntax or stored in left
    syntax = stored if as_stored else EXPLICIT_VR_LITTLE_ENDIAN
    numbers = range(1, frames.number_of_frames(objects, opened.owner, instance) + 1)
    headers = part_headers(part_type(selected, syntax), locate(instance, _PIXEL_DATA))
    for pieces in frame_pieces(objects, pixels, opened, instance, numbers, as_stored):
        yield headers, pieces
