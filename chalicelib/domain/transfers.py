"""Transfers: the facts that open sharing, folded into what they say at a moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from chalicelib.domain.errors import BadRequest
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Item
from chalicelib.domain.sharing import Grant

DEFAULT_DURATION = timedelta(days=365)
MAX_DURATION = timedelta(days=3653)
MAX_REASON = 500
EXPIRING = "EXPIRES"
"""The index partition (gsi3) of all transfers by their expiry."""


@dataclass(frozen=True)
class Transfer:
    """One patient, two institutions, for a time. `receiving` is the receiver's own number for the patient, once known."""

    id: str
    sender: str
    receiver: str
    patient: PatientIdentifier
    opened_at: datetime
    expires_at: datetime
    reason: str
    receiving: PatientIdentifier | None = None
    receiving_version: int = 0
    ended: bool = False

    def status(self, now: datetime) -> str:
        """`active`, `expired` or `revoked` at `now` (aware)."""
        if self.ended:
            return "revoked"
        return "active" if now < self.expires_at else "expired"


def iso(moment: datetime) -> str:
    """An aware moment as RFC 3339 in UTC with milliseconds, which sorts as text."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_moment(text: object, parameter: str) -> datetime:
    """An RFC 3339 moment with its offset from UTC, to the millisecond, as it is kept. Raises BadRequest naming `parameter`."""
    moment = None
    if isinstance(text, str) and len(text) <= 40:
        try:
            moment = datetime.fromisoformat(text)
            utc = moment.astimezone(UTC)
        except (ValueError, OverflowError):
            moment = None
    if moment is None or moment.tzinfo is None:
        raise BadRequest(f"{parameter} must be an RFC 3339 time with its offset, such as 2026-03-01T12:00:00Z.", parameter)
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)


def expiry(asked: object, now: datetime) -> datetime:
    """When a transfer opened at `now` ends: as asked, or after a year. Raises BadRequest when past or too far."""
    if asked is None:
        return now + DEFAULT_DURATION
    moment = parse_moment(asked, "expires_at")
    if not now < moment <= now + MAX_DURATION:
        raise BadRequest("expires_at must be in the future and within ten years.", "expires_at")
    return moment


def partition(transfer_id: str) -> str:
    """The partition of one transfer's facts."""
    return f"F#TRANSFER#{transfer_id}"


def patient_partition(patient_hash: str) -> str:
    """The partition of all facts about one patient identifier."""
    return f"F#PATIENT#{patient_hash}"


def opening(transfer: Transfer) -> list[Item]:
    """The facts that open `transfer`: its own, and the copy in the patient's partition that deciding reads."""
    terms = _terms(transfer)
    opened = iso(transfer.opened_at)
    facts = [
        Item(
            partition(transfer.id),
            "OPEN",
            terms,
            {
                "gsi1": (f"FROM#{transfer.sender}", f"{opened}#{transfer.id}"),
                "gsi2": (f"TO#{transfer.receiver}", f"{opened}#{transfer.id}"),
                "gsi3": (EXPIRING, f"{iso(transfer.expires_at)}#{transfer.id}"),
            },
        ),
        Item(patient_partition(transfer.patient.hash), f"TRANSFER#{transfer.id}#000000", terms),
    ]
    if transfer.receiving is not None:
        facts += naming(transfer)
    return facts


def naming(transfer: Transfer) -> list[Item]:
    """The facts that name the receiver's number: the transfer's own, and the copy in the patient's partition.

    They only say which number, or that it is none of those said before; that two numbers are the same patient's is a link
    (`domain.patients`), which can be undone.
    """
    number = f"{transfer.receiving_version:06d}"
    terms = _terms(transfer)
    return [
        Item(partition(transfer.id), f"RECEIVER#{number}", terms),
        Item(patient_partition(transfer.patient.hash), f"TRANSFER#{transfer.id}#{number}", terms),
    ]


def from_facts(items: Iterable[Item]) -> Transfer | None:
    """The transfer that the facts of its own partition describe, or None when it was never opened."""
    opened: Item | None = None
    latest: Item | None = None
    ended = False
    for item in items:
        if item.sk == "OPEN":
            opened = item
        elif item.sk == "END":
            ended = True
        elif item.sk.startswith("RECEIVER#") and (latest is None or item.sk > latest.sk):
            latest = item
    if opened is None:
        return None
    transfer = from_terms((latest or opened).data)
    return Transfer(**{**transfer.__dict__, "ended": ended})


def grant(transfer: Transfer, ended: bool) -> Grant:
    """A transfer as a grant for deciding, once its end was looked up."""
    return Grant(transfer.id, transfer.sender, transfer.receiver, transfer.opened_at, transfer.expires_at, ended)


def in_patient(items: Iterable[Item]) -> list[Transfer]:
    """The transfers of a patient identifier, from the facts of its partition: of each, the latest terms."""
    latest: dict[str, Item] = {}
    for item in sorted(items, key=lambda one: one.sk):
        kind, _, rest = item.sk.partition("#")
        if kind == "TRANSFER":
            latest[rest.split("#")[0]] = item
    return [from_terms(item.data) for _, item in sorted(latest.items())]


def _terms(transfer: Transfer) -> dict[str, object]:
    terms: dict[str, object] = {
        "id": transfer.id,
        "from": transfer.sender,
        "to": transfer.receiver,
        "patient": {"issuer": transfer.patient.issuer, "id": transfer.patient.value},
        "opened_at": iso(transfer.opened_at),
        "expires_at": iso(transfer.expires_at),
        "reason": transfer.reason,
    }
    if transfer.receiving is not None:
        terms["receiving"] = {"issuer": transfer.receiving.issuer, "id": transfer.receiving.value}
    if transfer.receiving_version:
        terms["receiving_version"] = transfer.receiving_version
    return terms


def from_terms(terms: dict[str, object]) -> Transfer:
    """A transfer from the terms that its facts carry."""
    receiving = terms.get("receiving")
    version = terms.get("receiving_version", 0)
    return Transfer(
        str(terms["id"]),
        str(terms["from"]),
        str(terms["to"]),
        _identifier(terms["patient"]),
        datetime.fromisoformat(str(terms["opened_at"])),
        datetime.fromisoformat(str(terms["expires_at"])),
        str(terms["reason"]),
        _identifier(receiving) if receiving else None,
        version if isinstance(version, int) else 0,
    )


def _identifier(value: object) -> PatientIdentifier:
    if not isinstance(value, dict):
        raise ValueError("a patient identifier must be an object")
    return PatientIdentifier(str(value["issuer"]), str(value["id"]))
