"""Retrieving: which instances a request means, decided on facts at this moment; and the bodies made of them.

What a Lambda response can hold is answered from here. What it cannot is put together once, inside S3, under `cache/`, where
a lifecycle rule removes it after a day; the caller is sent there by a presigned address. What has to be read for it, other
functions read, each a bounded load (docs/adr/0025).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

from chalicelib.dicomweb import multipart
from chalicelib.domain import accession, assembly, audit, keys, shown_patients, studies
from chalicelib.domain.assembly import ObjectRange, Piece
from chalicelib.domain.audit import DisclosedStudy, Entry, Kind
from chalicelib.domain.dicom_json import Attributes
from chalicelib.domain.errors import NotFound, TooLarge, TryAgain
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.instance_versions import is_stale
from chalicelib.domain.ports import Objects, Table
from chalicelib.domain.reading_order import in_reading_order
from chalicelib.domain.shown_patients import Face
from chalicelib.domain.studies import Bounds, Instance
from chalicelib.services import access
from chalicelib.services.ingest import versions
from chalicelib.services.ingest.instance_items import StoredObject
from chalicelib.services.registry import Caller
from chalicelib.services.search_rows import numbers_linked

INLINE = 4_400_000
"""Bytes of a body that, in base64 and with its headers, fits Lambda's 6 MB."""
MOST_CARRIED = 4096 * assembly.MIB
"""Bytes of one body that may have to be read on their way from S3 to S3: 64 loads."""
_PARALLEL = 16


@dataclass(frozen=True)
class VisibleStudy:
    """A study that the caller may see: whose, which, for the audit trail, and under which patient number."""

    owner: str
    study: str
    seen: DisclosedStudy
    faces: tuple[Face, ...]
    viewer: str
    within: Bounds = studies.EVERYTHING
    accession_issuer: Attributes | None = None
    """Who issued an accession number whose issuer the images do not name (`domain.accession`)."""
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)
    stale: bool = False
    """Whether an earlier reader read some of its instances, as far as its view knows."""

    @property
    def shown_owner(self) -> str | None:
        """The `owner` that addresses of this study need: none for the caller's own."""
        return None if self.owner == self.viewer else self.owner

    @property
    def coerced(self) -> bool:
        """Whether any of its patients is shown under another number than the one in the images."""
        return any(face.coerced and face.shown not in self.seen.patients for face in self.faces)

    @property
    def numbers(self) -> tuple[PatientIdentifier, ...]:
        """The numbers under which its patients are shown, in order."""
        return tuple(face.shown for face in self.faces if face.shown is not None)

    def face(self, said: PatientIdentifier | None) -> Face | None:
        """As whom an instance that says this number is shown; None for a patient that the study was not decided on."""
        return shown_patients.of_instance(said, self.faces, self.aliases)

    def entry(self, kind: Kind, count: int) -> Entry:
        """The record of `count` of its instances being read."""
        return audit.of_study(kind, self.seen, count)


def open_study(table: Table, caller: Caller, study: str, owner: str | None, now: datetime) -> VisibleStudy:
    """The study that the caller means. Raises NotFound when it may not see it, for whatever reason."""
    viewer = caller.member.id
    view, decided = access.find_study(table, viewer, study, owner, now)
    found = shown_patients.faces(viewer, view, decided.used(), numbers_linked(view, decided.known), caller.registry)
    within = studies.bounds(viewer, view)
    issuer = accession.issuer_of(caller.registry, view.owner)
    seen = audit.disclosed(view, decided.decision)
    return VisibleStudy(view.owner, study, seen, tuple(found), viewer, within, issuer, view.aliases, is_stale(view.reader))


def instances(table: Table, opened: VisibleStudy, series: str | None = None) -> list[Instance]:
    """The study's instances, or one series', in the order in which they are read. Raises NotFound when there is none."""
    partition = keys.study_facts(opened.owner, opened.study)
    gone = studies.withdrawn(table.query_all(partition, keys.MARKS))
    found = list(
        studies.instances(
            table.query_all(partition, keys.instance(series, "") if series else keys.INSTANCES), gone, opened.within
        )
    )
    if not found:
        raise NotFound
    return in_reading_order(found)


def instance(table: Table, opened: VisibleStudy, series: str, sop: str) -> Instance:
    """One instance. Raises NotFound."""
    fact = versions.fact_of(table, opened.owner, opened.study, series, sop)
    if fact is None:
        raise NotFound
    found = Instance.from_item(series, sop, fact.data)
    if not opened.within.hold(found):
        raise NotFound
    return found


def object_key(owner: str, stored: Instance) -> str:
    """Where the instance's bytes lie."""
    return StoredObject(owner, stored.fact.sha256, 0).key


@dataclass(frozen=True)
class Inline:
    """A body that fits a response."""

    content: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()
    """Further header fields that belong to it, such as its encoding."""


@dataclass(frozen=True)
class Elsewhere:
    """A body that lies in the bucket."""

    key: str
    content_type: str
    overrides: tuple[tuple[str, str], ...] = ()
    """Further header fields that S3 is to answer with, by their names in `ports.Objects.presign_get`."""


Body = Inline | Elsewhere


def multipart_body(objects: Objects, parts: Sequence[tuple[multipart.Headers, tuple[Piece, ...]]], media_type: str) -> Body:
    """A `multipart/related` body of parts, each with its header fields. Raises TooLarge."""
    digest = _digest(parts)
    boundary = digest[:32]
    pieces: list[Piece] = []
    for position, (headers, content) in enumerate(parts):
        pieces.append(multipart.part_head(boundary, headers, first=position == 0))
        pieces += content
    pieces.append(multipart.closing(boundary))
    return _body(objects, pieces, keys.multipart_body(digest), f'multipart/related; type="{media_type}"; boundary={boundary}')


def single_body(objects: Objects, pieces: Sequence[Piece], content_type: str) -> Body:
    """A body of one part, without multipart. Raises TooLarge."""
    return _body(objects, pieces, keys.single_body(_digest([((), tuple(pieces))])), content_type)


def read_pieces(objects: Objects, pieces: Sequence[Piece]) -> list[bytes]:
    """The bytes of each piece, read several at a time. Raises TryAgain when an object is shorter than it should be."""

    def read(wanted: Sequence[ObjectRange]) -> list[bytes]:
        with ThreadPoolExecutor(min(_PARALLEL, len(wanted))) as pool:
            return list(pool.map(lambda extent: objects.read(extent.key, extent.start, extent.length), wanted))

    found = assembly.gather(pieces, read)
    if any(len(data) != assembly.size(piece) for data, piece in zip(found, pieces, strict=True)):
        raise TryAgain
    return found


def kept_body(
    objects: Objects, key: str, content_type: str, headers: tuple[tuple[str, str], ...], make: Callable[[], Sequence[Piece]]
) -> Body:
    """A body that is costly to make: put together once, under a key that names its content. Raises TooLarge."""
    sizes = objects.sizes([key])
    if key not in sizes:
        pieces = make()
        _assemble(objects, key, pieces, content_type)
        sizes = {key: sum(map(assembly.size, pieces))}
    if sizes[key] <= INLINE:
        return Inline(b"".join(read_pieces(objects, [ObjectRange(key, 0, sizes[key])])), content_type, headers)
    return Elsewhere(key, content_type, tuple((name.lower().replace("-", "_"), value) for name, value in headers))


def _body(objects: Objects, pieces: Sequence[Piece], key: str, content_type: str) -> Body:
    if sum(map(assembly.size, pieces)) <= INLINE:
        return Inline(b"".join(read_pieces(objects, pieces)), content_type)
    if not objects.existing([key]):
        _assemble(objects, key, pieces, content_type)
    return Elsewhere(key, content_type)


def _assemble(objects: Objects, key: str, pieces: Sequence[Piece], content_type: str) -> None:
    parts = assembly.plan(pieces)
    if assembly.bytes_read(parts) > MOST_CARRIED:
        raise TooLarge("This is too much for one answer. Please retrieve series by series, or use the study's manifest.")
    objects.assemble(key, parts, content_type)


def _digest(parts: Sequence[tuple[multipart.Headers, tuple[Piece, ...]]]) -> str:
    """What stands for a body: the same for the same parts of the same objects, whose keys name their content."""
    digest = hashlib.sha256()
    for headers, content in parts:
        digest.update(repr(tuple(headers)).encode())
        for piece in content:
            shown = hashlib.sha256(piece).hexdigest() if isinstance(piece, bytes) else f"{piece.key} {piece.start} {piece.length}"
            digest.update(f"\n{shown}".encode())
        digest.update(b"\0")
    return digest.hexdigest()
