"""Emergency accesses: who opened what is known of a patient, why, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.rfc3339 import iso, kept_moment
from chalicelib.domain.sharing import Emergency
from chalicelib.domain.viewer_sessions import Practitioner


@dataclass(frozen=True)
class EmergencyAccess:
    """An emergency that an institution declared for a patient. `owners`: those that are told with the declaration itself."""

    id: str
    institution: str
    patient: PatientIdentifier
    practitioner: Practitioner
    reason: str
    opened_at: datetime
    expires_at: datetime
    owners: tuple[str, ...]
    by: str

    def for_deciding(self) -> Emergency:
        """As far as it decides who sees what."""
        return Emergency(self.id, self.institution, self.opened_at, self.expires_at)

    def to_item(self) -> JsonObject:
        """As its facts keep it."""
        return {**self.to_json(), "owners": list(self.owners), "by": self.by}

    def to_json(self) -> JsonObject:
        """As an owner that reviews it is shown it."""
        return {
            "id": self.id,
            "institution": self.institution,
            "patient": self.patient.to_item(),
            "practitioner": {"id": self.practitioner.id, "name": self.practitioner.name},
            "reason": self.reason,
            "opened_at": iso(self.opened_at),
            "expires_at": iso(self.expires_at),
        }

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> EmergencyAccess:
        """What `to_item` made, and what earlier releases did."""
        person = item.get("practitioner") or {}
        return cls(
            str(item["id"]),
            str(item["institution"]),
            PatientIdentifier.from_item(item["patient"]),
            Practitioner(str(person.get("id", "")), str(person.get("name", ""))),
            str(item.get("reason", "")),
            kept_moment(item["opened_at"]),
            kept_moment(item["expires_at"]),
            tuple(item.get("owners") or ()),
            str(item.get("by", "")),
        )
