"""The bodies of what is retrieved, in the representation that was selected (PS3.18 8.7, 10.4.4)."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Sequence

from chalicelib.dicomweb import multipart, native_xml, representations
from chalicelib.dicomweb.media_types import EXPLICIT_VR_LITTLE_ENDIAN, Selected, part_type
from chalicelib.domain.assembly import Extract, Piece
from chalicelib.domain.ports import Objects
from chalicelib.domain.studies import Instance
from chalicelib.services import retrieve_frames
from chalicelib.services.retrieve import INLINE, Body, Elsewhere, Inline, Opened, multipart_body, object_key, single_body


def is_encapsulated(one: Instance) -> bool:
    """Whether its pixels are compressed frames in fragments."""
    return str(one.data["syntax"]) in representations.FRAME_TYPES


def body(objects: Objects, opened: Opened, found: Sequence[Instance], selected: Selected) -> Body:
    """Whole instances. One by itself that does not fit lies in the bucket as it is; several are put together."""
    media_type = selected.offer.media_type
    parts: list[tuple[multipart.Headers, tuple[Piece, ...]]] = []
    for one in found:
        key, size, syntax = object_key(opened.owner, one), int(one.data["size"]), str(one.data["syntax"])
        if not selected.offer.multipart:
            if size > INLINE:
                return Elsewhere(key, part_type(selected, syntax))
            return single_body(objects, (Extract(key, 0, size),), part_type(selected, syntax))
        parts.append(((("Content-Type", part_type(selected, syntax)),), (Extract(key, 0, size),)))
    return multipart_body(objects, parts, media_type)


def elsewhere(opened: Opened, one: Instance) -> Elsewhere:
    """The instance where it lies, as it was stored."""
    return Elsewhere(object_key(opened.owner, one), representations.DICOM)


def frames_body(objects: Objects, opened: Opened, one: Instance, numbers: Sequence[int], selected: Selected) -> Body:
    """Frames, one part each."""
    found = retrieve_frames.frames(objects, opened.owner, one, numbers)
    return parts_body(objects, found, selected, str(one.data["syntax"]) if is_encapsulated(one) else EXPLICIT_VR_LITTLE_ENDIAN)


def parts_body(objects: Objects, found: Sequence[tuple[Piece, ...]], selected: Selected, syntax: str | None = None) -> Body:
    """Values that are octets, one part each, or the only one by itself."""
    name = part_type(selected, syntax)
    if not selected.offer.multipart:
        return single_body(objects, found[0], name)
    return multipart_body(objects, [((("Content-Type", name),), pieces) for pieces in found], selected.offer.media_type)


def metadata_body(objects: Objects, array: bytes, selected: Selected, gzipped: bool) -> Body:
    """A JSON array of metadata as JSON or XML; gzipped where the caller takes that. What does not fit lies in the bucket."""
    if selected.offer.multipart:
        return _xml(objects, json.loads(array))
    content = gzip.compress(array, 1, mtime=0) if gzipped else array
    encoding = (("Content-Encoding", "gzip"),) if gzipped else ()
    if len(content) <= INLINE:
        return Inline(content, selected.offer.media_type, encoding)
    key = f"cache/metadata/{hashlib.sha256(content).hexdigest()}"
    objects.write(key, content, selected.offer.media_type)
    return Elsewhere(key, selected.offer.media_type, (("content_encoding", "gzip"),) if gzipped else ())


def _xml(objects: Objects, data_sets: Iterable[dict[str, object]]) -> Body:
    headers = (("Content-Type", representations.XML),)
    parts = [(headers, (native_xml.to_xml(one),)) for one in data_sets]
    return multipart_body(objects, parts, representations.XML)
