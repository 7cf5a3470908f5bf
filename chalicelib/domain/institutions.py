"""The registry of institutions: the latest version of each, folded from facts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, cast

from chalicelib.domain import identifiers, italian
from chalicelib.domain.errors import BadRequest
from chalicelib.domain.fields import fields as request_fields
from chalicelib.domain.identifiers import PatientIdentifier

_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):role/(?:[\w+=,.@/-]*/)?([\w+=,.@-]{1,64})")
_ASSUMED = re.compile(r"arn:aws[a-z-]*:sts::(\d{12}):assumed-role/([\w+=,.@-]{1,64})/([\w+=,.@-]{1,64})")
_AE_TITLE = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")
MAX_NAMES = 50
CANARY = "canary"
"""The id of the institution that tries the archive: no hospital, and shown to none."""
Corrections = Literal["accept", "conflict"]


@dataclass(frozen=True)
class Institution:
    """A member of the city. `version` counts its registrations from 1; a removed one is kept, with `removed` set.

    `issuer_names` is what its systems write as Issuer of Patient ID (0010,0021) for its own numbering; `corrections` says
    what becomes of an own instance that comes again with other patient or order data. `proposed_role_arn` is a new role that
    waits until `takes_effect_at` (RFC 3339), or until the member confirms it; both are empty where none does.
    """

    id: str
    name: str
    role_arn: str
    patient_id_issuer: str
    ae_titles: tuple[str, ...] = ()
    version: int = 1
    removed: bool = False
    issuer_names: tuple[str, ...] = ()
    corrections: Corrections = "accept"
    proposed_role_arn: str = ""
    takes_effect_at: str = ""

    @property
    def names(self) -> frozenset[str]:
        """What its own numbering may be called in Issuer of Patient ID, folded to lower case."""
        return frozenset(text.casefold() for text in (self.id, self.name, *self.ae_titles))

    def own(self, number: PatientIdentifier) -> PatientIdentifier:
        """The number under its own issuer, where it is filed under one of the names that its systems give that issuer."""
        name = self._kept_apart(number)
        known = name is not None and name.casefold() in self.names | {issuer_name.casefold() for issuer_name in self.issuer_names}
        return PatientIdentifier(self.patient_id_issuer, number.value) if known else number

    def unknown_name(self, number: PatientIdentifier) -> str | None:
        """The name of the issuer under which a number is kept apart, since it is none of the institution's; else None."""
        return self._kept_apart(number) if self.own(number) == number else None

    def _kept_apart(self, number: PatientIdentifier) -> str | None:
        issuer, slash, name = number.issuer.partition("/")
        return name if slash and issuer == self.patient_id_issuer else None


@dataclass(frozen=True)
class Registry:
    """All members, and those that left, by id. Small, and read at every request, so that a change holds at once.

    `changes` counts the changes to it: a change is made to what was read, or not at all.
    """

    members: dict[str, Institution]
    versions: dict[str, int]
    former: dict[str, Institution] = field(default_factory=dict)
    changes: int = 0

    def known(self, institution: str) -> Institution | None:
        """The institution with this id, be it one that left: what it sent was sent under its own numbers."""
        return self.members.get(institution) or self.former.get(institution)

    def by_role(self, account: str, role: str) -> Institution | None:
        """The institution whose role this is, or None."""
        for member in self.members.values():
            if role_of(member.role_arn) == (account, role):
                return member
        return None

    def by_issuer(self, issuer: str) -> Institution | None:
        """The institution that gives out this issuer's patient numbers, or None."""
        for member in self.members.values():
            if issuer == member.patient_id_issuer or issuer.startswith(member.patient_id_issuer + "/"):
                return member
        return None


def fold(versions: Iterable[Institution], changes: int = 0) -> Registry:
    """The registry from versions of institutions, in any order: the highest version of each counts."""
    latest: dict[str, Institution] = {}
    for entry in versions:
        known = latest.get(entry.id)
        if known is None or entry.version > known.version:
            latest[entry.id] = entry
    return Registry(
        {key: entry for key, entry in sorted(latest.items()) if not entry.removed},
        {key: entry.version for key, entry in latest.items()},
        {key: entry for key, entry in sorted(latest.items()) if entry.removed},
        changes,
    )


def role_of(role_arn: str) -> tuple[str, str] | None:
    """(account, role name) of an IAM role's ARN, or None. The path is not part of it: an assumed role's ARN lacks it."""
    found = _ROLE_ARN.fullmatch(role_arn)
    return (found[1], found[2]) if found else None


def assumed_role(user_arn: str) -> tuple[str, str, str] | None:
    """(account, role name, session name) of an assumed role's ARN, or None for any other principal."""
    found = _ASSUMED.fullmatch(user_arn)
    return (found[1], found[2], found[3]) if found else None


REGISTERED = ("name", "role_arn", "patient_id_issuer", "ae_titles", "issuer_names", "corrections")
"""What `PUT /institutions/{id}` may say; all of it stands in a registration."""


def parse(institution: str, body: object, known: Institution | None = None) -> Institution:
    """The body of `PUT /institutions/{id}` as an institution of version 0; what it does not name stays as in `known`.

    Raises BadRequest naming the field.
    """
    wanted = {**(_registered(known) if known else {}), **request_fields(body, REGISTERED)}
    name = wanted.get("name")
    if not isinstance(name, str) or not 1 <= len(name.strip()) <= 100 or not name.isprintable():
        raise BadRequest("name must be 1 to 100 printable characters.", "name")
    role_arn = wanted.get("role_arn")
    if not isinstance(role_arn, str) or role_of(role_arn) is None:
        raise BadRequest("role_arn must be the ARN of an IAM role.", "role_arn")
    titles = wanted.get("ae_titles", [])
    if not isinstance(titles, list) or len(titles) > MAX_NAMES:
        raise BadRequest(f"ae_titles must be a list of at most {MAX_NAMES} AE titles.", "ae_titles")
    for title in titles:
        if not isinstance(title, str) or not _AE_TITLE.fullmatch(title) or not title.strip():
            raise BadRequest("An AE title has 1 to 16 printable ASCII characters, no backslash (PS3.5 6.2).", "ae_titles")
    issuer = identifiers.oid(wanted.get("patient_id_issuer"), "patient_id_issuer")
    if italian.is_public(issuer) and (known is None or known.patient_id_issuer != issuer):
        raise BadRequest("This OID is that of a national or regional register, and no hospital's own.", "patient_id_issuer")
    corrections = wanted.get("corrections", "accept")
    if corrections not in ("accept", "conflict"):
        raise BadRequest('corrections must be "accept" or "conflict".', "corrections")
    return Institution(
        identifiers.institution_id(institution, "id"),
        name.strip(),
        role_arn,
        issuer,
        tuple(title.strip() for title in titles),
        version=0,
        issuer_names=_issuer_names(wanted.get("issuer_names", [])),
        corrections=cast("Corrections", corrections),
    )


def _issuer_names(names: object) -> tuple[str, ...]:
    """Names for a numbering, each once whatever its case. An OID is none: it names a numbering by itself."""
    if not isinstance(names, list) or len(names) > MAX_NAMES:
        raise BadRequest(f"issuer_names must be a list of at most {MAX_NAMES} names.", "issuer_names")
    kept: dict[str, str] = {}
    for name in names:
        if not isinstance(name, str) or not 1 <= len(name.strip()) <= 64 or not name.isprintable() or "\\" in name:
            raise BadRequest("An issuer's name has 1 to 64 printable characters, no backslash (PS3.5 6.2).", "issuer_names")
        if identifiers.is_oid(name.strip()):
            raise BadRequest("An issuer's name is no OID: an OID in an image says by itself whose number it is.", "issuer_names")
        kept.setdefault(name.strip().casefold(), name.strip())
    return tuple(kept.values())


def _registered(known: Institution) -> dict[str, object]:
    """A registration as a body of `PUT /institutions/{id}` that changes nothing."""
    values = {key: getattr(known, key) for key in REGISTERED}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def shown(member: Institution) -> dict[str, object]:
    """A registration as the operator and the institution itself read it."""
    waits = {"proposed_role_arn": member.proposed_role_arn, "takes_effect_at": member.takes_effect_at}
    return {"id": member.id} | _registered(member) | (waits if member.proposed_role_arn else {})


def from_data(data: Mapping[str, object]) -> Institution:
    """The institution that an item of the registry stands for; items of before a field was there have its default."""
    known = {key.name: data[key.name] for key in fields(Institution) if key.name in data}
    lists = {key: tuple(value) for key, value in known.items() if isinstance(value, list)}
    return Institution(**{**known, **lists, "version": int(str(data["version"]))})  # type: ignore[arg-type]


def clash(registry: Registry, new: Institution) -> str | None:
    """The field in which `new` takes what belongs to another member (role, issuer, AE title), or None."""
    for member in registry.members.values():
        if member.id == new.id:
            continue
        if role_of(member.role_arn) == role_of(new.role_arn):
            return "role_arn"
        if member.patient_id_issuer == new.patient_id_issuer:
            return "patient_id_issuer"
        if set(member.ae_titles) & set(new.ae_titles):
            return "ae_titles"
    return None
