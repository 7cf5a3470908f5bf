"""Transfers: the facts that open sharing, folded into what they say at a moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from chalicelib.domain import keys
from chalicelib.domain.errors import BadRequest
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Item, Key
from chalicelib.domain.rfc3339 import iso, kept_moment, parse_moment
from chalicelib.domain.sharing import Grant

DEFAULT_DURATION = timedelta(days=365)
MAX_DURATION = timedelta(days=3653)
MAX_REASON = 500


@dataclass(frozen=True)
class Transfer:
    """One patient, two institutions, for a time.

    `proposed` is what the sender takes for the receiver's number: a word, which opens nothing and links nothing. `receiving` is
    the number by which the receiver accepted the patient, at `accepted_at`; both or neither. `version` counts what was changed.
    """

    id: str
    sender: str
    receiver: str
    patient: PatientIdentifier
    opened_at: datetime
    expires_at: datetime
    reason: str
    proposed: PatientIdentifier | None = None
    receiving: PatientIdentifier | None = None
    accepted_at: datetime | None = None
    version: int = 0
    ended: bool = False

    def status(self, now: datetime) -> str:
        """`active`, `expired` or `revoked` at `now` (aware)."""
        if self.ended:
            return "revoked"
        return "active" if now < self.expires_at else "expired"

    def state(self, now: datetime) -> str:
        """What is another one wherever it is another way, and the same where a change was undone without a trace."""
        number = self.receiving.hash if self.receiving is not None else ""
        accepted = iso(self.accepted_at) if self.accepted_at is not None else ""
        return sha256("\n".join((self.status(now), iso(self.expires_at), accepted, number)).encode()).hexdigest()[:16]

    def matches(self, if_match: str | None, now: datetime) -> bool:
        """Whether it is as a caller saw it, by If-Match (RFC 9110 13.1.1); None: the caller does not say."""
        return if_match in (None, "*") or f'"{self.state(now)}"' in [tag.strip() for tag in (if_match or "").split(",")]

    @property
    def numbers(self) -> frozenset[str]:
        """The numbers of the patient that it names, of whichever hospital."""
        return frozenset(number.value for number in (self.patient, self.receiving, self.proposed) if number is not None)

    def accepted(self, number: PatientIdentifier, now: datetime) -> Transfer:
        """The same, once the receiver accepted the patient under its own number."""
        return replace(self, receiving=number, accepted_at=now, version=self.version + 1)

    def unaccepted(self) -> Transfer:
        """The same, once the receiver's acceptance has ended: it waits again."""
        return replace(self, receiving=None, accepted_at=None, version=self.version + 1)

    def extended(self, expires_at: datetime) -> Transfer:
        """The same, with a later expiry."""
        return replace(self, expires_at=expires_at, version=self.version + 1)


def expiry(asked: object, now: datetime, named: str = "expires_at") -> datetime:
    """When a transfer opened at `now` ends: as asked, or after a year. Raises BadRequest when past or too far."""
    if asked is None:
        return now + DEFAULT_DURATION
    moment = parse_moment(asked, named)
    if not now < moment <= now + MAX_DURATION:
        raise BadRequest(f"{named} must be in the future and within ten years.", named)
    return moment


def later_expiry(transfer: Transfer, asked: object) -> datetime:
    """Until when a transfer is to last now: no less than so far, and never more than ten years in all. Raises BadRequest."""
    moment = parse_moment(asked, "expires_at")
    if not transfer.expires_at <= moment <= transfer.opened_at + MAX_DURATION:
        raise BadRequest("expires_at must be later than so far, and within ten years of the opening.", "expires_at")
    return moment


def opening(transfer: Transfer) -> list[Item]:
    """The facts that open `transfer`: its own, and the copy in the patient's partition that deciding reads."""
    opened = iso(transfer.opened_at)
    own = {
        "gsi1": (keys.sent_transfers(transfer.sender), f"{opened}#{transfer.id}"),
        "gsi2": (keys.received_transfers(transfer.receiver), f"{opened}#{transfer.id}"),
    }
    return _stated(transfer, keys.OPEN, own | _expiring(transfer))


def changing(transfer: Transfer) -> list[Item]:
    """The facts of a later version: the transfer's own, and the copy in the patient's partition.

    They say all that it is since then. That two numbers are the same patient's is a link (`domain.patients`), beside them.
    """
    return _stated(transfer, keys.transfer_version(transfer.version), {})


def extending(transfer: Transfer) -> list[Item]:
    """The same for a version with another expiry, by which it is found when it has run out."""
    return _stated(transfer, keys.transfer_version(transfer.version), _expiring(transfer))


def _stated(transfer: Transfer, sk: str, indexes: dict[str, Key]) -> list[Item]:
    terms = _terms(transfer)
    copy = Item(keys.patient_facts(transfer.patient.hash), keys.transfer(transfer.id, transfer.version), terms)
    return [Item(keys.transfer_facts(transfer.id), sk, terms, indexes), copy]


def _expiring(transfer: Transfer) -> dict[str, Key]:
    return {"gsi3": (keys.EXPIRING, f"{iso(transfer.expires_at)}#{transfer.id}")}


def history(items: Iterable[Item]) -> list[Transfer]:
    """What a transfer was at first and after each change, from the facts of its own partition; empty if it was never opened."""
    facts = {item.sk: item for item in items}
    opened = facts.get(keys.OPEN)
    if opened is None:
        return []
    ended = keys.END in facts
    versions = [opened, *(facts[key] for key in sorted(facts) if key.startswith(keys.begins(keys.transfer_version)))]
    return [replace(as_of(opened, version), ended=ended) for version in versions]


def from_facts(items: Iterable[Item]) -> Transfer | None:
    """The transfer that the facts of its own partition describe, or None when it was never opened."""
    versions = history(items)
    return versions[-1] if versions else None


def grant(transfer: Transfer, ended: bool, accepted: bool, sent: bool) -> Grant:
    """A transfer as a grant for deciding, once its end was looked up, and whether its acceptance, and it itself, is of this
    patient."""
    moments = transfer.opened_at, transfer.expires_at
    return Grant(transfer.id, transfer.sender, transfer.receiver, *moments, ended, accepted=accepted, sent=sent)


def in_patient(items: Iterable[Item]) -> list[Transfer]:
    """The transfers of a patient identifier, from the facts of its partition: of each, the latest version."""
    versions: dict[str, list[Item]] = {}
    for item in sorted(items, key=lambda fact: fact.sk):
        kind, _, rest = item.sk.partition("#")
        if kind == "TRANSFER":
            versions.setdefault(rest.split("#")[0], []).append(item)
    return [as_of(found[0], found[-1]) for _, found in sorted(versions.items())]


def as_of(opened: Item, version: Item) -> Transfer:
    """A transfer as of a version (or as it was opened), from the facts of both.

    What was written before acceptance was known (`accepted_at` is not among the terms) is read as what it meant: a number that
    stood there from the opening on was the sender's, a proposal; one that came later the receiver had named, which accepts.
    When, only the transfer's own fact says, not its copy: the day of the opening stands for it there.
    """
    terms = version.data
    transfer = _from_terms(terms)
    if "accepted_at" in terms:
        return transfer
    number, first = transfer.receiving, _from_terms(opened.data)
    by_receiver = number is not None and transfer.version > first.version
    accepted_at = kept_moment(terms["at"]) if terms.get("at") else transfer.opened_at
    return replace(
        transfer,
        proposed=first.receiving,
        receiving=number if by_receiver else None,
        accepted_at=accepted_at if by_receiver else None,
    )


def is_of_before(version: Item) -> bool:
    """Whether a transfer's fact was written before acceptance was known."""
    return "accepted_at" not in version.data


def _terms(transfer: Transfer) -> dict[str, object]:
    terms: dict[str, object] = {
        "id": transfer.id,
        "from": transfer.sender,
        "to": transfer.receiver,
        "patient": transfer.patient.to_item(),
        "opened_at": iso(transfer.opened_at),
        "expires_at": iso(transfer.expires_at),
        "reason": transfer.reason,
        "accepted_at": iso(transfer.accepted_at) if transfer.accepted_at else None,
    }
    for name, number in (("proposed", transfer.proposed), ("receiving", transfer.receiving)):
        if number is not None:
            terms[name] = number.to_item()
    if transfer.version:
        terms["receiving_version"] = transfer.version
    return terms


def _from_terms(terms: Mapping[str, Any]) -> Transfer:
    proposed, receiving = terms.get("proposed"), terms.get("receiving")
    version = terms.get("receiving_version", 0)
    return Transfer(
        str(terms["id"]),
        str(terms["from"]),
        str(terms["to"]),
        PatientIdentifier.from_item(terms["patient"]),
        kept_moment(terms["opened_at"]),
        kept_moment(terms["expires_at"]),
        str(terms["reason"]),
        PatientIdentifier.from_item(proposed) if proposed else None,
        PatientIdentifier.from_item(receiving) if receiving else None,
        kept_moment(terms["accepted_at"]) if terms.get("accepted_at") else None,
        version if isinstance(version, int) else 0,
    )
