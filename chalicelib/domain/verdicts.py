"""Verdicts: what the archive says of an uploaded object, once and for ever, and what holds of it at a moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from chalicelib.domain.json_object import JsonObject


class UploadState(StrEnum):
    """What may be answered of an object. A verdict is one of the last five; the first stored ones are never `superseded`."""

    ABSENT = "absent"
    STORED = "stored"
    INDEXED = "indexed"
    REJECTED = "rejected"
    CONFLICT = "conflict"
    ECHO = "echo"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A verdict, as `F#OBJECT` keeps it. `at`: when it was given; `size` in bytes.

    `reason`: a slug, of what was rejected or is a conflict. The three UIDs are empty for what could not be read. `unread`: tags
    of dates and times that cannot be read. `owner`: whose the instance is that came back (`echo`). `first`: the SHA-256 of what
    the SOP Instance UID stands for (`conflict`). `issuer_name`: the name that keeps its number apart, since its sender has
    registered no such name. `removed_at`: when its bytes were removed.
    """

    state: UploadState
    at: str = ""
    size: int = 0
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    sop_instance_uid: str = ""
    reason: str = ""
    unread: tuple[str, ...] = ()
    owner: str = ""
    first: str = ""
    issuer_name: str = ""
    removed_at: str = ""

    @property
    def is_removed(self) -> bool:
        """Whether the bytes on which it was given are gone, so that they count as absent to who would send them."""
        return bool(self.removed_at)

    def is_rejected_as(self, reason: str) -> bool:
        """Whether it was rejected for this reason."""
        return self.state is UploadState.REJECTED and self.reason == reason

    def to_item(self) -> JsonObject:
        """As an item keeps it."""
        optional = {
            "study": self.study_instance_uid,
            "series": self.series_instance_uid,
            "sop": self.sop_instance_uid,
            "reason": self.reason,
            "unread": list(self.unread),
            "owner": self.owner,
            "first": self.first,
            "issuer_name": self.issuer_name,
            "removed_at": self.removed_at,
        }
        said = {name: value for name, value in optional.items() if value}
        return {"state": str(self.state), "at": self.at, "size": self.size, **said}

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Verdict:
        """What `to_item` made, and what earlier releases did."""
        return cls(
            state=UploadState(item["state"]),
            at=str(item.get("at", "")),
            size=int(item.get("size", 0)),
            study_instance_uid=str(item.get("study", "")),
            series_instance_uid=str(item.get("series", "")),
            sop_instance_uid=str(item.get("sop", "")),
            reason=str(item.get("reason", "")),
            unread=tuple(item.get("unread") or ()),
            owner=str(item.get("owner", "")),
            first=str(item.get("first", "")),
            issuer_name=str(item.get("issuer_name", "")),
            removed_at=str(item.get("removed_at", "")),
        )


@dataclass(frozen=True)
class UploadStatus:
    """What is answered of an object: its state, and what its verdict says, where there is one."""

    sha256: str
    state: UploadState
    verdict: Verdict | None = None

    @classmethod
    def of(cls, sha256: str, verdict: Verdict) -> UploadStatus:
        """The status of an object with a verdict."""
        return cls(sha256, verdict.state, verdict)

    def to_json(self) -> JsonObject:
        """As `POST /uploads/status` answers it."""
        answer: JsonObject = {"sha256": self.sha256, "state": str(self.state)}
        if self.verdict is None:
            return answer
        said = {
            "reason": self.verdict.reason,
            "study_instance_uid": self.verdict.study_instance_uid,
            "sop_instance_uid": self.verdict.sop_instance_uid,
            "issuer_name": self.verdict.issuer_name,
            "removed_at": self.verdict.removed_at,
            "unread": list(self.verdict.unread),
        }
        return answer | {name: value for name, value in said.items() if value}
