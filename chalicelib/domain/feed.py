"""What an entry of the change feed says, by what it is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from chalicelib.domain.json_object import JsonObject


@dataclass(frozen=True)
class TransferNews:
    """About a transfer; what does not apply to the kind of entry is empty."""

    transfer_id: str
    sender: str
    receiver: str
    expires_at: str = ""
    status: str = ""
    accepted_at: str = ""

    def to_item(self) -> JsonObject:
        """As the feed keeps and answers it."""
        said = {"expires_at": self.expires_at, "status": self.status, "accepted_at": self.accepted_at}
        parties = {"transfer_id": self.transfer_id, "from": self.sender, "to": self.receiver}
        return parties | {name: value for name, value in said.items() if value}


@dataclass(frozen=True)
class StudyNews:
    """About a study: `instances` are shown of it now."""

    owner: str
    study_instance_uid: str
    instances: int

    def to_item(self) -> JsonObject:
        """As the feed keeps and answers it."""
        return {"owner": self.owner, "study_instance_uid": self.study_instance_uid, "instances": self.instances}


@dataclass(frozen=True)
class ReadingNews:
    """About what a practitioner read and does not stand any more: a report, or, where that is empty, the whole study."""

    owner: str
    study_instance_uid: str
    practitioner: str
    sop_instance_uid: str = ""

    def to_item(self) -> JsonObject:
        """As the feed keeps and answers it."""
        read = {"owner": self.owner, "study_instance_uid": self.study_instance_uid, "practitioner": self.practitioner}
        return read | ({"sop_instance_uid": self.sop_instance_uid} if self.sop_instance_uid else {})


@dataclass(frozen=True)
class EmergencyNews:
    """About an emergency access that an institution declared."""

    emergency_id: str
    institution: str

    def to_item(self) -> JsonObject:
        """As the feed keeps and answers it."""
        return {"emergency_id": self.emergency_id, "institution": self.institution}


@dataclass(frozen=True)
class IssuerNews:
    """About a name of an issuer that the viewer's registration does not list."""

    issuer_name: str

    def to_item(self) -> JsonObject:
        """As the feed keeps and answers it."""
        return {"issuer_name": self.issuer_name}


@dataclass(frozen=True)
class MembershipNews:
    """About a registration. `change`: joined, removed, role-proposed, role-withdrawn, role-changed, changed; `fields`: which of
    the registration's, None where that says nothing."""

    institution: str
    change: str
    fields: tuple[str, ...] | None = None
    role_arn: str = ""
    proposed_role_arn: str = ""
    takes_effect_at: str = ""

    def to_item(self) -> JsonObject:
        """As the feed keeps and answers it."""
        said = {
            "role_arn": self.role_arn,
            "proposed_role_arn": self.proposed_role_arn,
            "takes_effect_at": self.takes_effect_at,
        }
        fields = {} if self.fields is None else {"fields": list(self.fields)}
        named = {"institution": self.institution, "change": self.change, **fields}
        return named | {name: value for name, value in said.items() if value}


News: TypeAlias = TransferNews | StudyNews | ReadingNews | EmergencyNews | IssuerNews | MembershipNews
