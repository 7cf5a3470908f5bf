"""What the partition of one patient identifier says: links, transfers, objections, protections, emergencies.

Patients are linked, never merged. A link joins two identifiers, stands in the partitions of both, and is ended by a fact
beside it. Links are not followed further: what is linked to a linked identifier is not linked.

Every kind of fact is `KIND#<id>[#<number>]`, and is ended by the same key with `#END`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

from chalicelib.domain import transfers
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Item
from chalicelib.domain.sharing import Consent, Emergency, Objection, Protection
from chalicelib.domain.transfers import Transfer, iso, patient_partition

END = "#END"


@dataclass(frozen=True)
class Link:
    """Two identifiers of the same patient. `basis`: `codice-fiscale`, `transfer` or `confirmed`. `number` counts repeats."""

    id: str
    number: int
    one: PatientIdentifier
    other: PatientIdentifier
    basis: str
    by: str
    at: str
    evidence: tuple[str, ...] = ()
    ended: bool = False

    def beyond(self, patient: str) -> PatientIdentifier:
        """The identifier that is not the one with this hash."""
        return self.other if self.one.hash == patient else self.one


@dataclass(frozen=True)
class Carrier:
    """An identifier whose images carry a codice fiscale, with what that record says of birth date (YYYYMMDD) and sex."""

    identifier: PatientIdentifier
    code: str
    birth_date: str
    sex: str


@dataclass(frozen=True)
class Record:
    """The partition of one patient identifier, folded."""

    patient: str
    links: tuple[Link, ...] = ()
    transfers: tuple[Transfer, ...] = ()
    objections: dict[str, Objection] = field(default_factory=dict)
    protections: tuple[Protection, ...] = ()
    consents: tuple[Consent, ...] = ()
    emergencies: tuple[Emergency, ...] = ()
    studies: tuple[tuple[str, str], ...] = ()
    carriers: tuple[Carrier, ...] = ()

    @property
    def linked(self) -> tuple[PatientIdentifier, ...]:
        """The identifiers that are linked to this one now."""
        return tuple(sorted({link.beyond(self.patient) for link in self.links if not link.ended}))


def link_id(one: PatientIdentifier, other: PatientIdentifier) -> str:
    """The id of the link of two identifiers, whichever comes first."""
    return sha256("\n".join(sorted((one.hash, other.hash))).encode()).hexdigest()[:24]


def fold(patient: str, items: Iterable[Item]) -> Record:
    """The record of the identifier with this hash, from the facts of its partition in any order."""
    facts = list(items)
    ended = {item.sk.removesuffix(END) for item in facts if item.sk.endswith(END)}
    live = [item for item in facts if not item.sk.endswith(END) and item.sk not in ended]

    def of(kind: str) -> list[Item]:
        return [item for item in live if item.sk.startswith(f"{kind}#")]

    return Record(
        patient,
        links=tuple(_link(item, item.sk in ended) for item in facts if item.sk.startswith("LINK#") and not item.sk.endswith(END)),
        transfers=tuple(transfers.in_patient(facts)),
        objections={item.sk.split("#")[1]: Objection(str(item.data["owner"]), _study(item)) for item in of("OBJECTION")},
        protections=tuple(Protection(str(i.data["owner"]), str(i.data["study"])) for i in of("PROTECTION")),
        consents=tuple(Consent(str(i.data["owner"]), str(i.data["study"]), str(i.data["to"])) for i in of("CONSENT")),
        emergencies=tuple(emergency(item.data) for item in of("EMERGENCY")),
        studies=tuple(_owner_and_study(item.sk) for item in of("STUDY")),
        carriers=tuple(_carrier(item.data) for item in of("CARRIES")),
    )


def linking(link: Link) -> list[Item]:
    """The facts of a link: the same in the partitions of both identifiers."""
    data: dict[str, object] = {
        "id": link.id,
        "number": link.number,
        "one": _shown(link.one),
        "other": _shown(link.other),
        "basis": link.basis,
        "by": link.by,
        "at": link.at,
        "evidence": list(link.evidence),
    }
    return [Item(patient_partition(side.hash), f"LINK#{link.id}#{link.number:06d}", data) for side in (link.one, link.other)]


def unlinking(link: Link, by: str, now: datetime) -> list[Item]:
    """The facts that undo a link, in the partitions of both identifiers."""
    data: dict[str, object] = {"by": by, "at": iso(now)}
    return [Item(patient_partition(side.hash), f"LINK#{link.id}#{link.number:06d}{END}", data) for side in (link.one, link.other)]


def emergency(data: dict[str, Any]) -> Emergency:
    """An emergency access from the content of its fact."""
    return Emergency(
        str(data["id"]),
        str(data["institution"]),
        datetime.fromisoformat(str(data["opened_at"])),
        datetime.fromisoformat(str(data["expires_at"])),
    )


def agreeing(carriers: Iterable[Carrier], birth: str, sex: str) -> list[PatientIdentifier]:
    """The identifiers whose every record agrees with the birth date (YYMMDD) and sex that a codice fiscale encodes.

    One record that says otherwise keeps its identifier out: a newborn filed under its mother's code is not her.
    """
    verdict: dict[PatientIdentifier, bool] = {}
    for carrier in carriers:
        agrees = len(carrier.birth_date) == 8 and carrier.birth_date[2:] == birth and carrier.sex == sex
        verdict[carrier.identifier] = verdict.get(carrier.identifier, True) and agrees
    return sorted(identifier for identifier, agrees in verdict.items() if agrees)


def _link(item: Item, ended: bool) -> Link:
    data: dict[str, Any] = item.data
    return Link(
        str(data["id"]),
        int(data["number"]),
        _identifier(data["one"]),
        _identifier(data["other"]),
        str(data["basis"]),
        str(data["by"]),
        str(data["at"]),
        tuple(str(text) for text in data["evidence"]),
        ended,
    )


def _carrier(data: dict[str, Any]) -> Carrier:
    return Carrier(_identifier(data), str(data["code"]), str(data["birth_date"]), str(data["sex"]))


def _study(item: Item) -> str | None:
    study = item.data.get("study")
    return str(study) if study else None


def _owner_and_study(sk: str) -> tuple[str, str]:
    _, owner, study = sk.split("#", 2)
    return owner, study


def _shown(identifier: PatientIdentifier) -> dict[str, str]:
    return {"issuer": identifier.issuer, "id": identifier.value}


def _identifier(value: dict[str, Any]) -> PatientIdentifier:
    return PatientIdentifier(str(value["issuer"]), str(value["id"]))
