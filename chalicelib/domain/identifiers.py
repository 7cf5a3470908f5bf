"""Identifiers, each checked once, at the door, and then trusted."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from chalicelib.domain.errors import BadRequest

UID = r"[0-9]+(?:\.[0-9]+)*"
"""What a UID looks like, as a part of other patterns; it has at most 64 characters (`is_uid`)."""
_UID = re.compile(UID)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_INSTITUTION = re.compile(r"[a-z][a-z0-9-]{1,38}[a-z0-9]")
_OID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
MAX_PATIENT_ID = 64
MAX_ISSUER = 128


def is_uid(text: str) -> bool:
    """Whether `text` is a UID: digits and dots, at most 64 (PS3.5 9.1; leading zeros, which real modalities make, pass)."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def uid(text: object, parameter: str) -> str:
    """`text` as a UID (`is_uid`). Raises BadRequest naming `parameter`."""
    if not isinstance(text, str) or not is_uid(text):
        raise BadRequest(f"{parameter} is not a UID: digits and dots, at most 64 characters.", parameter)
    return text


def sha256(text: object, parameter: str) -> str:
    """`text` as a SHA-256 in 64 lower-case hex digits. Raises BadRequest naming `parameter`."""
    if not isinstance(text, str) or not _SHA256.fullmatch(text):
        raise BadRequest(f"{parameter} is not a SHA-256: 64 lower-case hex digits.", parameter)
    return text


def institution_id(text: object, parameter: str) -> str:
    """`text` as an institution's id: 3–40 of a–z, 0–9 and hyphen, a letter first. Raises BadRequest."""
    if not isinstance(text, str) or not _INSTITUTION.fullmatch(text):
        raise BadRequest(f"{parameter} is not an institution's id: 3 to 40 of a-z, 0-9 and hyphen.", parameter)
    return text


def oid(text: object, parameter: str) -> str:
    """`text` as an ISO object identifier of at most 64 characters. Raises BadRequest."""
    if not isinstance(text, str) or len(text) > 64 or not _OID.fullmatch(text):
        raise BadRequest(f"{parameter} is not an OID such as 2.16.840.1.113883.2.9.4.3.2.", parameter)
    return text


def is_oid(text: str) -> bool:
    """Whether `text` is an ISO object identifier."""
    return len(text) <= 64 and _OID.fullmatch(text) is not None


@dataclass(frozen=True, order=True)
class PatientIdentifier:
    """A patient's number: always the issuer and the value together."""

    issuer: str
    value: str

    @property
    def hash(self) -> str:
        """What stands for it in keys: the first 32 hex digits of the SHA-256 of issuer, line feed, value."""
        return hashlib.sha256(f"{self.issuer}\n{self.value}".encode()).hexdigest()[:32]

    def to_item(self) -> dict[str, str]:
        """As items and answers say it."""
        return {"issuer": self.issuer, "id": self.value}

    @classmethod
    def from_item(cls, item: Mapping[str, str]) -> PatientIdentifier:
        """What `to_item` made."""
        return cls(str(item["issuer"]), str(item["id"]))


def patient_identifier(
    value: object, issuer: object, default_issuer: str, named: tuple[str, str] = ("patient.id", "patient.issuer")
) -> PatientIdentifier:
    """A patient identifier from a request; `issuer` None means the caller's own. Raises BadRequest, which says as what the
    request has them: `named`.
    """
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_PATIENT_ID or not value.isprintable() or "\\" in value:
        raise BadRequest("The patient's id must be 1 to 64 printable characters without a backslash.", named[0])
    if issuer is None or issuer == "":
        return PatientIdentifier(default_issuer, value.strip())
    if not isinstance(issuer, str) or len(issuer) > MAX_ISSUER or not issuer.isprintable():
        raise BadRequest("The issuer must be an OID or a name of at most 128 printable characters.", named[1])
    return PatientIdentifier(issuer.strip(), value.strip())


def resolve_issuer(
    value: str, issuer_text: str, universal_id: str, own_issuer: str, own_names: frozenset[str]
) -> PatientIdentifier:
    """The identifier that an instance's PatientID stands for (PS3.3 C.7.1.1, Issuer of Patient ID).

    A Universal Entity ID that is an OID wins; then an Issuer of Patient ID that is an OID; a name that the institution
    goes by, or no name, means its own numbering. Any other name is another numbering of the same house, kept apart,
    since joining two numberings would show one patient's images as another's; `Institution.own` joins those that its
    registration names.
    """
    for text in (universal_id.strip(), issuer_text.strip()):
        if is_oid(text):
            return PatientIdentifier(text, value)
    name = issuer_text.strip() or universal_id.strip()
    if not name or name.casefold() in own_names:
        return PatientIdentifier(own_issuer, value)
    return PatientIdentifier(f"{own_issuer}/{name}", value)
