"""What is recorded of an instance: the content of its fact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from chalicelib.domain import pixel_facts
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.image_geometry import NOWHERE, UNKNOWN, ImageGeometry, ReadingPlace
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.pixel_facts import PixelFacts
from chalicelib.domain.report_versions import UNDECLARED, DeclaredDocument


@dataclass(frozen=True, slots=True)
class KeyImages:
    """What a document singles out. `kind`: KO or PR; `title` and `description` may be empty; `images`: SOP Instance UID → frame
    numbers, none where the whole image is meant."""

    kind: str
    title: str
    description: str
    images: Mapping[str, Sequence[int]]

    def to_item(self) -> JsonObject:
        """As a fact keeps it."""
        images = [[sop, *frames] for sop, frames in self.images.items()]
        return {"kind": self.kind, "title": self.title, "description": self.description, "images": images}

    @classmethod
    def from_item(cls, item: Mapping[str, Any] | None) -> KeyImages | None:
        """What `to_item` made."""
        if not item:
            return None
        images = {str(sop): tuple(int(frame) for frame in frames) for sop, *frames in item.get("images", ())}
        return cls(str(item["kind"]), str(item["title"]), str(item["description"]), images)


@dataclass(frozen=True, kw_only=True)
class InstanceHead:
    """What is read in the head of an instance, and kept as it is.

    `header_length`, `pixel_offset`, `pixel_length`, `frame_length` in bytes, 0 where there is none. `deflated`: the first three
    count inflated bytes. `rows`, `columns`: 0 for what is no image. `dropped`, `unread`: tags (`dicom.summary`). `place`: what
    images are read in order by. `document`: what a report says of its versions, and what it concludes. `key_images`: what a
    document singles out.
    """

    sop_class_uid: str = ""
    transfer_syntax_uid: str = ""
    number_of_frames: int = 1
    rows: int = 0
    columns: int = 0
    header_length: int = 0
    pixel_offset: int = 0
    pixel_length: int = 0
    frame_length: int = 0
    deflated: bool = False
    pixels: PixelFacts | None = None
    dropped: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    place: ReadingPlace = NOWHERE
    geometry: ImageGeometry = UNKNOWN
    document: DeclaredDocument = UNDECLARED
    key_images: KeyImages | None = None


_HEAD = tuple(field.name for field in fields(InstanceHead))


@dataclass(frozen=True, kw_only=True)
class InstanceFact(InstanceHead):
    """An instance as its fact says.

    `size` in bytes, `at` the moment it was indexed. `kept`: its attributes as `studies.packed` makes them. `reader`: that of
    the release that read it (`instance_versions.READER`). `part`: the object that holds its metadata. `original_sha256`: of what
    it was losslessly compressed from. `corrected`: how often its bytes were exchanged for others. `batch`: what it was indexed
    with.
    """

    sha256: str = ""
    size: int = 0
    at: str = ""
    kept: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    reader: int = 1
    patient: PatientIdentifier | None = None
    part: str = ""
    original_sha256: str = ""
    corrected: int = 0
    batch: str = ""

    def to_item(self) -> JsonObject:
        """As an item keeps it: only what is not the default."""
        optional: JsonObject = {
            "patient": self.patient.to_item() if self.patient else None,
            "number_of_frames": self.number_of_frames if self.number_of_frames != 1 else None,
            "rows": self.rows,
            "columns": self.columns,
            "header_length": self.header_length,
            "pixel_offset": self.pixel_offset,
            "pixel_length": self.pixel_length,
            "frame_length": self.frame_length,
            "deflated": self.deflated,
            "pixels": self.pixels.to_item() if self.pixels else None,
            "dropped": list(self.dropped),
            "unread": list(self.unread),
            "place": self.place.to_item(),
            "geometry": self.geometry.to_item(),
            "document": self.document.to_item(),
            "key_images": self.key_images.to_item() if self.key_images else None,
            "part": self.part,
            "original_sha256": self.original_sha256,
            "corrected": self.corrected,
            "batch": self.batch,
        }
        return {
            "sha256": self.sha256,
            "size": self.size,
            "at": self.at,
            "class": self.sop_class_uid,
            "syntax": self.transfer_syntax_uid,
            "attributes": dict(self.kept),
            "reader": self.reader,
            **{name: value for name, value in optional.items() if value},
        }

    @classmethod
    def of(cls, head: InstanceHead) -> InstanceFact:
        """The fact of what was read in a head, as far as that tells it."""
        return cls(**{name: getattr(head, name) for name in _HEAD})

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> InstanceFact:
        """What `to_item` made, and what earlier releases did."""
        patient = item.get("patient")
        return cls(
            sha256=str(item.get("sha256", "")),
            size=int(item.get("size", 0)),
            at=str(item.get("at", "")),
            sop_class_uid=str(item.get("class", "")),
            transfer_syntax_uid=str(item.get("syntax", "")),
            kept=item.get("attributes", {}),
            reader=int(item.get("reader", 1)),
            patient=PatientIdentifier.from_item(patient) if patient else None,
            number_of_frames=int(item.get("number_of_frames") or 1),
            rows=int(item.get("rows") or 0),
            columns=int(item.get("columns") or 0),
            header_length=int(item.get("header_length") or 0),
            pixel_offset=int(item.get("pixel_offset") or 0),
            pixel_length=int(item.get("pixel_length") or 0),
            frame_length=int(item.get("frame_length") or 0),
            deflated=bool(item.get("deflated", False)),
            pixels=pixel_facts.from_item(item.get("pixels")),
            dropped=tuple(item.get("dropped") or ()),
            unread=tuple(item.get("unread") or ()),
            place=ReadingPlace.from_item(item.get("place")),
            geometry=ImageGeometry.from_item(item.get("geometry")),
            document=DeclaredDocument.from_item(item.get("document")),
            key_images=KeyImages.from_item(item.get("key_images")),
            part=str(item.get("part", "")),
            original_sha256=str(item.get("original_sha256", "")),
            corrected=int(item.get("corrected", 0)),
            batch=str(item.get("batch", "")),
        )
