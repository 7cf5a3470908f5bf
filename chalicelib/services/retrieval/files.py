"""The bodies of what is retrieved, in the representation that was selected (PS3.18 8.7, 10.4.4)."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from chalicelib.dicomweb import multipart, native_xml, representations
from chalicelib.dicomweb.media_types import EXPLICIT_VR_LITTLE_ENDIAN, Selected, part_type
from chalicelib.domain import keys
from chalicelib.domain.assembly import ObjectRange, Piece
from chalicelib.domain.dicom_json import Attributes
from chalicelib.domain.ports import Objects, PixelDecoder
from chalicelib.domain.studies import Instance
from chalicelib.services.retrieval import decoding, frames, zip_archive
from chalicelib.services.retrieval.bodies import (
    INLINE,
    Body,
    Elsewhere,
    Inline,
    VisibleStudy,
    multipart_body,
    object_key,
    single_body,
)


def is_encapsulated(objects: Objects, opened: VisibleStudy, instance: Instance) -> bool:
    """Whether its pixels are frames in fragments. Raises NotFound for an instance without pixels."""
    return frames.described(objects, opened.owner, instance).encapsulated


def stored_frames(objects: Objects, opened: VisibleStudy, instance: Instance) -> str:
    """The transfer syntax that its frames have as they lie in the object: none of its own, unless they are compressed in one
    that has a media type of its own."""
    stored = instance.fact.transfer_syntax_uid
    return (
        stored
        if is_encapsulated(objects, opened, instance) and stored in representations.FRAME_TYPES
        else EXPLICIT_VR_LITTLE_ENDIAN
    )


def body(objects: Objects, pixels: PixelDecoder, opened: VisibleStudy, found: Sequence[Instance], selected: Selected) -> Body:
    """Whole instances. One that does not fit lies in the bucket as it is.

    Raises NotAcceptable, TryAgain, TooLarge.
    """
    if selected.offer.media_type == representations.ZIP:
        return zip_archive.body(objects, opened, found)
    files = _files(objects, pixels, opened, found, selected)
    if not selected.offer.multipart:
        ((syntax, content),) = files
        if content.length > INLINE:
            return Elsewhere(content.key, part_type(selected, syntax))
        return single_body(objects, (content,), part_type(selected, syntax))
    parts = [((("Content-Type", part_type(selected, syntax)),), (content,)) for syntax, content in files]
    return multipart_body(objects, parts, selected.offer.media_type)


def _files(
    objects: Objects, pixels: PixelDecoder, opened: VisibleStudy, found: Sequence[Instance], selected: Selected
) -> list[tuple[str, ObjectRange]]:
    """(transfer syntax, where it lies) of each instance, transcoded where the caller wants another than the stored one.

    Who names no transfer syntax gets Explicit VR Little Endian (8.7.3.5), of what is stored with loss the stored one. One
    instance among several that cannot be decoded comes as it is stored: the others are not withheld for it.
    """
    several = len({instance.fact.transfer_syntax_uid for instance in found}) > 1
    left = representations.VIDEO if selected.named else representations.LOSSY
    jobs: dict[str, decoding.Job] = {}
    for instance in found:
        stored = instance.fact.transfer_syntax_uid
        if selected.any_syntax or selected.transfer_syntax in (None, stored) or (several and stored in left):
            continue
        jobs[instance.sop_instance_uid] = {"op": "transcode", "source": object_key(opened.owner, instance)}
    wanted = list(jobs.values())
    sizes = decoding.make(objects, pixels, wanted) if len(found) == 1 else decoding.attempt(objects, pixels, wanted)[0]
    files: list[tuple[str, ObjectRange]] = []
    for instance in found:
        job = jobs.get(instance.sop_instance_uid)
        key = decoding.target(job) if job is not None else ""
        if key in sizes:
            files.append((EXPLICIT_VR_LITTLE_ENDIAN, ObjectRange(key, 0, sizes[key])))
        else:
            files.append(
                (instance.fact.transfer_syntax_uid, ObjectRange(object_key(opened.owner, instance), 0, instance.fact.size))
            )
    return files


def elsewhere(opened: VisibleStudy, instance: Instance) -> Elsewhere:
    """The instance where it lies, as it was stored."""
    return Elsewhere(object_key(opened.owner, instance), representations.DICOM)


def transcoded(objects: Objects, pixels: PixelDecoder, opened: VisibleStudy, instance: Instance) -> Elsewhere:
    """The instance in Explicit VR Little Endian, where it lies."""
    job: decoding.Job = {"op": "transcode", "source": object_key(opened.owner, instance)}
    decoding.make(objects, pixels, [job])
    return Elsewhere(decoding.target(job), representations.DICOM)


def frames_body(
    objects: Objects,
    pixels: PixelDecoder,
    opened: VisibleStudy,
    instance: Instance,
    numbers: Sequence[int],
    selected: Selected,
    locations: Sequence[str] = (),
) -> Body:
    """Frames, one part each; `locations` are their addresses."""
    stored = stored_frames(objects, opened, instance)
    as_stored = selected.any_syntax or selected.transfer_syntax == stored
    found = frame_pieces(objects, pixels, opened, instance, numbers, as_stored)
    return parts_body(objects, found, selected, stored if as_stored else EXPLICIT_VR_LITTLE_ENDIAN, locations)


def frame_pieces(
    objects: Objects, pixels: PixelDecoder, opened: VisibleStudy, instance: Instance, numbers: Sequence[int], as_stored: bool
) -> list[tuple[Piece, ...]]:
    """The pieces of each frame: cut out of the object where they lie in it as they are wanted, else decoded."""
    facts = frames.with_frames(objects, opened.owner, instance)
    compressed = stored_frames(objects, opened, instance) != EXPLICIT_VR_LITTLE_ENDIAN
    if facts.direct and ((as_stored and compressed) or not facts.encapsulated):
        return frames.frames(objects, opened.owner, instance, numbers)
    jobs = [{"op": "frame", "source": object_key(opened.owner, instance), "frame": number} for number in numbers]
    sizes = decoding.make(objects, pixels, jobs)
    return [(ObjectRange(decoding.target(job), 0, sizes[decoding.target(job)]),) for job in jobs]


def parts_body(
    objects: Objects,
    found: Sequence[tuple[Piece, ...]],
    selected: Selected,
    syntax: str | None = None,
    locations: Sequence[str] = (),
) -> Body:
    """Values, one part each with its address (10.4.3.3.5) where `locations` says one, or the only one by itself."""
    name = part_type(selected, syntax)
    if not selected.offer.multipart:
        return single_body(objects, found[0], name)
    parts = [(part_headers(name, at), pieces) for at, pieces in zip_longest(locations, found)]
    return multipart_body(objects, parts, selected.offer.media_type)


def part_headers(content_type: str, location: str | None) -> multipart.Headers:
    """The header fields of a part of bulk data."""
    return (("Content-Type", content_type), *((("Content-Location", location),) if location is not None else ()))


def metadata_body(objects: Objects, array: bytes, selected: Selected, gzipped: bool) -> Body:
    """A JSON array of metadata as JSON or XML; gzipped where the caller takes that. What does not fit lies in the bucket."""
    if selected.offer.multipart:
        return xml_body(objects, json.loads(array))
    content = gzip.compress(array, 1, mtime=0) if gzipped else array
    encoding = (("Content-Encoding", "gzip"),) if gzipped else ()
    if len(content) <= INLINE:
        return Inline(content, selected.offer.media_type, encoding)
    key = keys.metadata_body(hashlib.sha256(content).hexdigest())
    objects.write(key, content, selected.offer.media_type)
    return Elsewhere(key, selected.offer.media_type, (("content_encoding", "gzip"),) if gzipped else ())


def xml_body(objects: Objects, data_sets: Iterable[Attributes]) -> Body:
    """Each data set as a part in XML (PS3.18 8.7.3.1, F.3). At least one."""
    headers = (("Content-Type", representations.XML),)
    parts = [(headers, (native_xml.to_xml(data_set),)) for data_set in data_sets]
    return multipart_body(objects, parts, representations.XML)
