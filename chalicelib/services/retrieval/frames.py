"""Frames and bulk data of an instance, as they are stored: where they lie, and which bytes they are (PS3.18 10.4.1.1)."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from chalicelib.dicomweb import representations
from chalicelib.domain import assembly, tags
from chalicelib.domain.assembly import MIB, ObjectRange, Piece
from chalicelib.domain.errors import NotAcceptable, NotFound, TooLarge, TryAgain
from chalicelib.domain.pixel_facts import PixelFacts
from chalicelib.domain.ports import Objects
from chalicelib.domain.studies import REPORT_KINDS, Instance
from chalicelib.services.retrieval.bodies import INLINE, object_key, read_pieces

if TYPE_CHECKING:
    from chalicelib.dicom.elements import LeftOut, Path
    from chalicelib.dicom.frames import Extent
    from chalicelib.dicom.header import Head

BIG_ENDIAN = "1.2.840.10008.1.2.2"
MOST_IN_MEMORY = 64 * MIB
_ENCAPSULATED_DOCUMENT, _ENCAPSULATED_DOCUMENT_LENGTH = tags.EncapsulatedDocument.number, tags.EncapsulatedDocumentLength.number


def described(objects: Objects, owner: str, instance: Instance) -> PixelFacts:
    """What its pixels are; of an instance that was indexed before that was recorded, as its object says now.

    Raises NotFound for an instance without pixels, NotAcceptable for one that can no longer be read.
    """
    if not instance.fact.pixel_offset:
        raise NotFound
    facts = instance.fact.pixels
    if facts is not None:
        return facts
    from chalicelib.dicom.frames import examine
    from chalicelib.dicom.summary import frame_length

    key, size = object_key(owner, instance), instance.fact.size
    found = examine(head_of(objects, key, size), lambda start, length: objects.read(key, start, length))
    if found is None:
        raise NotFound
    instance.fact = replace(  # for the rest of this request
        instance.fact, pixels=found.facts, number_of_frames=found.facts.frames, frame_length=frame_length(found)
    )
    return found.facts


def known_pixels(objects: Objects, owner: str, instance: Instance) -> PixelFacts:
    """What its pixels are. Raises NotAcceptable where nobody knows what the bytes mean: they come as a whole instance only."""
    facts = described(objects, owner, instance)
    if facts.opaque:
        raise NotAcceptable(f"The pixels of this instance can be had as it was stored only: {facts.frames_fault}.")
    return facts


def number_of_frames(objects: Objects, owner: str, instance: Instance) -> int:
    """How many frames can be had of it, one of a video, which is one stream.

    Raises NotFound for an instance without pixels, NotAcceptable for one whose frames cannot be had.
    """
    facts = with_frames(objects, owner, instance)
    return 1 if is_video(instance) else facts.frames


def with_frames(objects: Objects, owner: str, instance: Instance) -> PixelFacts:
    """What its pixels are. Raises NotFound for an instance without any, NotAcceptable for one whose frames cannot be had."""
    facts = described(objects, owner, instance)
    if facts.frames_fault:
        raise NotAcceptable(f"The frames of this instance cannot be had: {facts.frames_fault}.")
    return facts


def is_video(instance: Instance) -> bool:
    """Whether its pixels are one compressed stream of all frames (PS3.5 8.2.5 to 8.2.9)."""
    return instance.fact.transfer_syntax_uid in representations.VIDEO


def frames(objects: Objects, owner: str, instance: Instance, numbers: Sequence[int]) -> list[tuple[Piece, ...]]:
    """The pieces of each frame (from 1) that is asked for, as it is stored: native pixels, or one compressed stream.

    Raises NotAcceptable where the frames cannot be told apart.
    """
    from chalicelib.dicom.frames import FrameError, only_frame

    facts = with_frames(objects, owner, instance)
    key, offset = object_key(owner, instance), instance.fact.pixel_offset
    if length := instance.fact.frame_length:
        return [(ObjectRange(key, offset + (number - 1) * length, length),) for number in numbers]
    rest = instance.fact.size - offset
    try:
        if facts.encapsulated and (facts.frames == 1 or is_video(instance)) and rest <= INLINE:
            return [(only_frame(_read(objects, key, offset, rest)),) for _ in numbers]
        wanted = [number - 1 for number in numbers]
        extents = _extents(objects, key, instance.fact.size, 1 if is_video(instance) else None, wanted)
        return _contents(objects, key, [extents[number - 1] for number in numbers])
    except FrameError as error:
        raise NotAcceptable(f"The frames of this instance cannot be told apart: {error}.") from error
    except IndexError as error:
        raise NotFound from error


def _extents(objects: Objects, key: str, size: int, count: int | None, wanted: Sequence[int]) -> list[Extent]:
    from chalicelib.dicom.frames import locate_frames

    def fetch(start: int, length: int) -> bytes:
        return objects.read(key, start, length)

    return locate_frames(head_of(objects, key, size), fetch, count=count, wanted=wanted)


def head_of(objects: Objects, key: str, size: int) -> Head:
    """The head of a stored object, which was accepted when it was indexed."""
    from chalicelib.dicom.header import ACCEPTED, read_head
    from chalicelib.domain.rejections import Rejected

    try:
        return read_head(lambda start, length: objects.read(key, start, length), size, ACCEPTED)
    except Rejected as rejected:
        raise NotAcceptable(f"The instance cannot be read: {rejected.reason}.") from rejected


def _contents(objects: Objects, key: str, extents: Sequence[Extent]) -> list[tuple[Piece, ...]]:
    from chalicelib.dicom.frames import fragments, frame_bytes

    plain = [extent for extent in extents if not extent.items and extent.bits is None]
    if len(plain) == len(extents):
        return [(ObjectRange(key, extent.start, extent.length),) for extent in extents]
    if sum(extent.length for extent in extents) <= INLINE:
        found = read_pieces(objects, [ObjectRange(key, extent.start, extent.length) for extent in extents])
        return [(frame_bytes(extent, data),) for extent, data in zip(extents, found, strict=True)]
    if any(extent.bits is not None for extent in extents):
        raise TooLarge("This is too much for one answer. Please ask for fewer frames.")

    def fetch(start: int, length: int) -> bytes:
        return objects.read(key, start, length)

    return [tuple(ObjectRange(key, start, length) for start, length in fragments(extent, fetch)) for extent in extents]


def bulk_value(objects: Objects, owner: str, instance: Instance, name: str) -> tuple[Piece, ...]:
    """The pieces of the value that a BulkDataURI ends in, in little endian order. Raises NotFound."""
    return bulk_values(objects, owner, instance, [name])[0]


def bulk_values(
    objects: Objects, owner: str, instance: Instance, names: Sequence[str], room: Room | None = None
) -> list[tuple[Piece, ...]]:
    """The same of several values, out of a head that is read once. Raises NotFound, TooLarge.

    `room`: what values that have to be held share with those of other instances of the same answer.
    """
    from chalicelib.dicom.metadata import bulk_path

    paths: list[Path] = []
    for name in names:
        path = bulk_path(name)
        if path is None:
            raise NotFound
        paths.append(path)
    source = _source(objects, owner, instance, room)
    return [_value(source, path) for path in paths]


def document(objects: Objects, owner: str, instance: Instance) -> tuple[Piece, ...]:
    """The pieces of an encapsulated document, without what made its length even (PS3.3 C.24.2.2). Raises NotFound."""
    from chalicelib.dicom.values import values_of

    source = _source(objects, owner, instance)
    (piece,) = _value(source, (_ENCAPSULATED_DOCUMENT,))
    length = assembly.size(piece)
    declared = values_of(source.head.dataset, _ENCAPSULATED_DOCUMENT_LENGTH, "UL")

    def is_padding(at: int) -> bool:
        return (piece[at : at + 1] if isinstance(piece, bytes) else _read(objects, source.key, piece.start + at, 1)) == b"\0"

    said = declared[0] if declared and isinstance(declared[0], int) and 0 < declared[0] <= length else 0
    counted = said > 0 and (said == length or is_padding(said))  # one that is too short cuts nothing
    length = said if counted else length
    is_xml = REPORT_KINDS.get(instance.fact.sop_class_uid) == "cda"  # whose last byte is none, whatever the length counts
    length -= (is_xml or not counted) and is_padding(length - 1)
    return (piece[:length] if isinstance(piece, bytes) else ObjectRange(source.key, piece.start, length),)


class Room:
    """The memory for values that cannot be copied inside S3, since they have to be inflated, turned round or decoded first."""

    def __init__(self) -> None:
        self._left = MOST_IN_MEMORY
        self.lock = threading.RLock()

    def take(self, count: int) -> None:
        """So many bytes will be held. Raises TooLarge."""
        with self.lock:
            self._left -= count
            if self._left < 0:
                raise TooLarge("Of these values too much has to be made anew for one answer. Please retrieve the instances.")


@dataclass(frozen=True)
class _Source:
    """A stored object whose values are wanted."""

    objects: Objects
    key: str
    size: int
    head: Head
    room: Room

    @cached_property
    def inflated(self) -> bytes:
        """The data set of a deflated object; how far it inflates was found within limits when it was indexed (PS3.5 A.5)."""
        if self.size > MOST_IN_MEMORY:
            raise TooLarge("A deflated instance this large is served as a whole only.")
        with self.room.lock:  # how much it is, is only known when it is there: so one at a time
            self.room.take(0)
            data = _read(self.objects, self.key, 0, self.size)
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            content = inflate.decompress(data[self.head.dataset_offset :], MOST_IN_MEMORY)
            self.room.take(len(content))
            return content


def _source(objects: Objects, owner: str, instance: Instance, room: Room | None = None) -> _Source:
    key, size = object_key(owner, instance), instance.fact.size
    return _Source(objects, key, size, head_of(objects, key, size), room or Room())


def _value(source: _Source, path: Path) -> tuple[Piece, ...]:
    """The value at a path, text in UTF-8 as in the metadata (PS3.18 F.2.2, note 4)."""
    from chalicelib.dicom.charset import decode
    from chalicelib.dicom.metadata import BULK_TEXT_VR, charset_at, find_value

    found = find_value(source.head, path)
    if found is None or found.length == 0:
        raise NotFound
    pieces = _bytes_of(source, found)
    if found.vr not in BULK_TEXT_VR:
        return pieces
    if isinstance(pieces[0], ObjectRange):
        source.room.take(found.length)
    return (decode(b"".join(read_pieces(source.objects, pieces)), charset_at(source.head, path), found.vr).encode(),)


def _bytes_of(source: _Source, found: LeftOut) -> tuple[Piece, ...]:
    from chalicelib.dicom.values import little_endian_bytes

    if source.head.deflated:
        return (source.inflated[found.offset : found.offset + found.length],)
    if source.head.transfer_syntax_uid == BIG_ENDIAN:
        source.room.take(found.length)
        return (little_endian_bytes(found.vr, _read(source.objects, source.key, found.offset, found.length)),)
    return (ObjectRange(source.key, found.offset, found.length),)


def _read(objects: Objects, key: str, start: int, length: int) -> bytes:
    data = objects.read(key, start, length)
    if len(data) != length:
        raise TryAgain
    return data
