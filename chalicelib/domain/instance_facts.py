"""What is recorded of an instance: the content of its fact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chalicelib.domain import pixel_facts
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.pixel_facts import PixelFacts


@dataclass(frozen=True)
class InstanceFact:
    """An instance as its fact says.

    `size` in bytes, `at` the moment it was indexed. `kept`: its attributes as `studies.packed` makes them. `reader`: that of
    the release that read it (`instance_versions.READER`). `header_length`, `pixel_offset`, `pixel_length`, `frame_length` in
    bytes, 0 where there is none. `dropped`, `unread`: tags (`dicom.summary`). `place`: what images are read in order by.
    `document`: what a report says of its versions, and what it concludes. `key_images`: what a document singles out
    (`dicom.key_images`). `part`: the object that holds its metadata. `original_sha256`: of what it
    was losslessly compressed from. `corrected`: how often its bytes were exchanged for others. `batch`: what it was indexed with.
    """

    sha256: str = ""
    size: int = 0
    at: str = ""
    sop_class_uid: str = ""
    transfer_syntax_uid: str = ""
    kept: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    reader: int = 1
    patient: PatientIdentifier | None = None
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
    place: tuple[Any, ...] = ()
    geometry: Mapping[str, Any] = field(default_factory=dict)
    document: Mapping[str, Any] = field(default_factory=dict)
    key_images: Mapping[str, Any] = field(default_factory=dict)
    part: str = ""
    original_sha256: str = ""
    corrected: int = 0
    batch: str = ""

    def to_item(self) -> dict[str, Any]:
        """As an item keeps it: only what is not the default."""
        optional: dict[str, Any] = {
            "patient": {"issuer": self.patient.issuer, "id": self.patient.value} if self.patient else None,
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
            "place": list(self.place),
            "geometry": dict(self.geometry),
            "document": dict(self.document),
            "key_images": dict(self.key_images),
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
    def from_item(cls, item: Mapping[str, Any]) -> InstanceFact:
        """What `to_item` made, and what earlier releases did."""
        patient = item.get("patient")
        return cls(
            str(item.get("sha256", "")),
            int(item.get("size", 0)),
            str(item.get("at", "")),
            str(item.get("class", "")),
            str(item.get("syntax", "")),
            item.get("attributes", {}),
            int(item.get("reader", 1)),
            PatientIdentifier(patient["issuer"], patient["id"]) if patient else None,
            int(item.get("number_of_frames") or 1),
            int(item.get("rows") or 0),
            int(item.get("columns") or 0),
            int(item.get("header_length") or 0),
            int(item.get("pixel_offset") or 0),
            int(item.get("pixel_length") or 0),
            int(item.get("frame_length") or 0),
            bool(item.get("deflated", False)),
            pixel_facts.from_item(item.get("pixels")),
            tuple(item.get("dropped") or ()),
            tuple(item.get("unread") or ()),
            tuple(item.get("place") or ()),
            item.get("geometry") or {},
            item.get("document") or {},
            item.get("key_images") or {},
            str(item.get("part", "")),
            str(item.get("original_sha256", "")),
            int(item.get("corrected", 0)),
            str(item.get("batch", "")),
        )
