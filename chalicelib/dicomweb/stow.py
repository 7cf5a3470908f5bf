"""STOW-RS requests: which parts are instances, which are metadata, which are their bulk data (PS3.18 10.5.1).

Bodies stay where they are: an instance is a view of the request. Beyond the standard, a single `application/dicom`,
`application/dicom+json` or `application/dicom+xml` without multipart is taken, and so are parts without Content-Type,
which then have the type that the request's `type` names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from chalicelib.dicomweb import multipart
from chalicelib.dicomweb.json_model import Model, parse_json
from chalicelib.dicomweb.media_types import MediaType, parse_media_type
from chalicelib.dicomweb.multipart import BodyPart
from chalicelib.dicomweb.native_xml import parse_xml
from chalicelib.domain.errors import BadRequest, UnsupportedMediaType

DICOM = "application/dicom"
JSON = "application/dicom+json"
XML = "application/dicom+xml"
_METADATA = (JSON, XML)
# Table 10.5.4-1: what `type` may name; of images and videos, any (Table 8.7.3-5).
_TYPES = (DICOM, JSON, XML, "application/octet-stream")
_PIXEL_TYPES = ("image/", "video/")

MAX_PARTS = 10_000


@dataclass(frozen=True, slots=True)
class MetadataInstance:
    """One instance that came as metadata; what its BulkDataURIs mean is in the request's `bulkdata`."""

    model: Model


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """A store request.

    `instances`: the parts that are PS3.10 files, with their place in the body. `metadata`: the instances that came as
    metadata. `bulkdata`: Content-Location → parts, several of them for the frames of one pixel data. `foreign`: how
    many parts are nothing that this transaction stores.
    """

    instances: tuple[BodyPart, ...] = ()
    metadata: tuple[MetadataInstance, ...] = ()
    bulkdata: dict[str, list[BodyPart]] = field(default_factory=dict)
    foreign: int = 0


def parse_store_request(content_type: str | None, body: bytes) -> StoreRequest:
    """The instances of a store request.

    `content_type`: the header. `body`: the payload, not copied. Raises UnsupportedMediaType for a type that is not of
    Table 10.5.4-1, BadRequest for a body that does not have the form its type promises, or that holds nothing.
    """
    media_type = parse_media_type(content_type or "")
    if media_type is None:
        raise UnsupportedMediaType("Content-Type is missing or is no media type.")
    if media_type.name == "multipart/related":
        return _parse_parts(media_type, body)
    if media_type.name not in (DICOM, *_METADATA):
        raise UnsupportedMediaType(f"{media_type.name} is not taken. Send {_expected()}.")
    if not body:
        raise BadRequest("The body is empty.")
    return _sort((BodyPart((("content-type", media_type.name),), memoryview(body), 0),), media_type.name)


def _parse_parts(media_type: MediaType, body: bytes) -> StoreRequest:
    root = parse_media_type(media_type.parameter("type") or "")
    name = root.name if root else None
    if name is not None and name not in _TYPES and not name.startswith(_PIXEL_TYPES):
        raise UnsupportedMediaType(f"Parts of type {name} are not taken. Send {_expected()}.")
    boundary = media_type.parameter("boundary")
    if boundary is None:
        raise BadRequest("Content-Type has no boundary.", "Content-Type")
    request = _sort(multipart.parse(body, boundary, max_parts=MAX_PARTS), name)
    if not (request.instances or request.metadata):
        if request.foreign or request.bulkdata:
            raise UnsupportedMediaType(f"No part is an instance or metadata. Send {_expected()}.")
        raise BadRequest("The body has no parts.")
    return request


def _expected() -> str:
    return ", ".join(f'multipart/related; type="{name}"' for name in (DICOM, JSON, XML))


def _sort(parts: Iterable[BodyPart], root: str | None) -> StoreRequest:
    instances: list[BodyPart] = []
    metadata: list[MetadataInstance] = []
    bulkdata: dict[str, list[BodyPart]] = {}
    foreign = 0
    for part in parts:
        declared = part.header("content-type")
        media_type = parse_media_type(declared) if declared else None
        name = media_type.name if media_type else root or DICOM
        location = part.header("content-location")
        if (part.header("content-transfer-encoding") or "binary").lower() not in ("binary", "8bit", "7bit"):
            raise BadRequest("Content-Transfer-Encoding of a part must be binary.")
        if name == DICOM:
            instances.append(part)
        elif name == JSON:
            metadata += (MetadataInstance(model) for model in parse_json(part.body))
        elif name == XML:
            metadata.append(MetadataInstance(parse_xml(part.body)))
        elif location is not None:
            bulkdata.setdefault(location, []).append(part)
        else:
            foreign += 1
    return StoreRequest(tuple(instances), tuple(metadata), bulkdata, foreign)


def bulkdata_of(request: StoreRequest, uri: str) -> Sequence[BodyPart]:
    """The parts that a BulkDataURI of the metadata stands for; none when the request does not hold them.

    A URI that is relative in one place and absolute in the other means the same if one ends with the other.
    """
    found = request.bulkdata.get(uri)
    if found is not None:
        return found
    ends = [p for location, p in request.bulkdata.items() if _same_reference(location, uri)]
    return ends[0] if len(ends) == 1 else ()


def _same_reference(one: str, other: str) -> bool:
    shorter, longer = sorted((one.lstrip("./"), other.lstrip("./")), key=len)
    return bool(shorter) and (longer == shorter or longer.endswith("/" + shorter))
