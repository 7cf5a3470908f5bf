"""Accession numbers belong to an issuer (PS3.3 C.7.2.1: Issuer of Accession Number Sequence).

Two hospitals number their orders alike. So a number goes out with its issuer: the one that the images name, else the owner
of the study; and a search by the number alone means the caller's own.
"""

from __future__ import annotations

from typing import Any

from chalicelib.domain import tags
from chalicelib.domain.dicom_json import Attributes
from chalicelib.domain.institutions import Registry

ACCESSION_NUMBER, ISSUER = tags.AccessionNumber, tags.IssuerOfAccessionNumberSequence


def issuer_of(registry: Registry, owner: str) -> Attributes | None:
    """The item that names an owner as issuer, by its id and its OID (PS3.3 10.14); None for one that nobody knows."""
    member = registry.known(owner)
    if member is None:
        return None
    return {
        tags.LocalNamespaceEntityID: {"vr": "UT", "Value": [member.id]},
        tags.UniversalEntityID: {"vr": "UT", "Value": [member.patient_id_issuer]},
        tags.UniversalEntityIDType: {"vr": "CS", "Value": ["ISO"]},
    }


def with_issuer(attributes: Attributes, issuer: Attributes | None) -> Attributes:
    """Attributes whose accession number, if any, has an issuer."""
    if issuer is None or ISSUER in attributes or not attributes.get(ACCESSION_NUMBER, {}).get("Value"):
        return attributes
    return {**attributes, ISSUER: {"vr": "SQ", "Value": [issuer]}}


def matched(attributes: Attributes, issuer: Attributes | None) -> Attributes:
    """Attributes as a search matches them: the owner is an issuer of its number whatever else the images name."""
    named: list[Any] = attributes.get(ISSUER, {}).get("Value") or []
    if issuer is None or issuer in named or not attributes.get(ACCESSION_NUMBER, {}).get("Value"):
        return attributes
    return {**attributes, ISSUER: {"vr": "SQ", "Value": [*named, issuer]}}
