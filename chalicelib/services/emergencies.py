"""Emergency access: a named practitioner, a reason, 24 hours; the owners are alerted, and review it."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from chalicelib.domain import identifiers, italian
from chalicelib.domain.audit import Act, Entry, Kind, Purpose, Recorder
from chalicelib.domain.errors import BadRequest, NotFound
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Item, PutNew, Table, Write
from chalicelib.domain.transfers import MAX_REASON, iso, patient_partition
from chalicelib.services import access, codice_fiscale
from chalicelib.services.registry import Caller

DURATION = timedelta(hours=24)
_MIN_REASON = 10


def partition(emergency: str) -> str:
    """The partition of one emergency access: its declaration and its review by each owner."""
    return f"F#EMERGENCY#{emergency}"


def declare(table: Table, caller: Caller, body: object, now: datetime, act: Act) -> dict[str, Any]:
    """Open what is known of a patient for 24 h. The answer does not say whether anything is known. Raises BadRequest."""
    patient, reason, practitioner = _parse(caller, body)
    emergency = secrets.token_hex(16)
    touched = sorted({patient.hash, *(one.hash for one in access.load_record(table, patient.hash).linked)})
    records = [access.load_record(table, one) for one in touched]
    owners = sorted({owner for record in records for owner, _ in record.studies} - {caller.member.id})
    data: dict[str, object] = {
        "id": emergency,
        "institution": caller.member.id,
        "patient": {"issuer": patient.issuer, "id": patient.value},
        "practitioner": practitioner,
        "reason": reason,
        "opened_at": iso(now),
        "expires_at": iso(now + DURATION),
        "owners": owners,
        "by": caller.actor,
    }
    writes: list[Write] = [PutNew(Item(partition(emergency), "OPEN", data))]
    writes += [
        PutNew(Item(partition(emergency), f"REVIEW#{owner}", data, {"gsi1": (f"REVIEW#{owner}", f"{iso(now)}#{emergency}")}))
        for owner in owners
    ]
    writes += [PutNew(Item(patient_partition(one), f"EMERGENCY#{emergency}", data)) for one in touched[:50]]
    entries = [
        Entry(
            Kind.EMERGENCY,
            owner,
            (patient,),
            purpose=Purpose.EMERGENCY,
            subject=emergency,
            text=f"{practitioner['id']}: {reason}",
        )
        for owner in owners or [caller.member.id]
    ]
    act(writes, *entries)
    return {"id": emergency, "status": "active", "opened_at": iso(now), "expires_at": iso(now + DURATION)}


def list_reviews(table: Table, caller: Caller, status: str | None, tell: Recorder) -> dict[str, Any]:
    """Emergency accesses to the caller's own patients, newest first: `open` (the default) until its reviewer closes them."""
    if status not in (None, "open", "closed"):
        raise BadRequest("status must be open or closed.", "status")
    owner = caller.member.id
    found = list(table.query_all(f"REVIEW#{owner}", index="gsi1", descending=True))
    closed = table.batch_get((item.pk, f"REVIEWED#{owner}") for item in found)
    reviews = []
    for item in found:
        review = closed.get((item.pk, f"REVIEWED#{owner}"))
        if (review is None) == (status in (None, "open")):
            reviews.append(_shown(item, review))
    tell(Entry(Kind.QUERY, owner, count=len(reviews), text="emergency accesses"))
    return {"reviews": reviews}


def close_review(
    table: Table, caller: Caller, emergency: str, body: object, now: datetime, act: Act, tell: Recorder
) -> dict[str, Any]:
    """The owner's reviewer closes an emergency access with a conclusion. Again: the first conclusion stands. Raises NotFound."""
    owner = caller.member.id
    opened = table.get(partition(emergency), f"REVIEW#{owner}") if emergency.isalnum() and len(emergency) <= 64 else None
    if opened is None:
        raise NotFound
    conclusion = body.get("conclusion") if isinstance(body, dict) else None
    if conclusion not in ("justified", "not-justified"):
        raise BadRequest("conclusion must be justified or not-justified.", "conclusion")
    note = body.get("note", "") if isinstance(body, dict) else ""
    if not isinstance(note, str) or len(note) > MAX_REASON:
        raise BadRequest(f"note must have at most {MAX_REASON} characters.", "note")
    data: dict[str, object] = {"conclusion": conclusion, "note": note, "by": caller.actor, "at": iso(now)}
    reviewed = PutNew(Item(partition(emergency), f"REVIEWED#{owner}", data))
    entry = Entry(Kind.EMERGENCY_REVIEWED, owner, purpose=Purpose.OPERATIONS, subject=emergency, text=str(conclusion))
    if act([reviewed], entry):
        tell(replace(entry, kind=Kind.READ, text=None))
    return _shown(opened, table.get(partition(emergency), f"REVIEWED#{owner}"))


def _shown(item: Item, review: Item | None) -> dict[str, Any]:
    kept = ("id", "institution", "patient", "practitioner", "reason", "opened_at", "expires_at")
    answer = {name: item.data[name] for name in kept}
    answer["status"] = "closed" if review else "open"
    if review is not None:
        answer["review"] = review.data
    return answer


def _parse(caller: Caller, body: object) -> tuple[PatientIdentifier, str, dict[str, str]]:
    if not isinstance(body, dict) or not set(body) <= {"patient", "reason", "practitioner"}:
        raise BadRequest('The body must be {"patient", "reason", "practitioner"}.')
    patient = body.get("patient")
    if not isinstance(patient, dict):
        raise BadRequest('patient must be {"id", "issuer"?}.', "patient")
    identifier = identifiers.patient_identifier(patient.get("id"), patient.get("issuer"), caller.member.patient_id_issuer)
    fiscal = codice_fiscale.read(identifier.value) if identifier.issuer == italian.CODICE_FISCALE else None
    if fiscal is not None:
        identifier = PatientIdentifier(italian.CODICE_FISCALE, fiscal.code)
    reason = body.get("reason")
    if not isinstance(reason, str) or not _MIN_REASON <= len(reason.strip()) <= MAX_REASON:
        raise BadRequest(f"reason must be {_MIN_REASON} to {MAX_REASON} characters.", "reason")
    return identifier, reason.strip(), _practitioner(body.get("practitioner"))


def _practitioner(value: object) -> dict[str, str]:
    """A practitioner as an id, or as {"id", "name"}."""
    given = {"id": value} if isinstance(value, str) else value
    if isinstance(given, dict) and isinstance(given.get("id"), str) and 1 <= len(given["id"].strip()) <= 64:
        name = given.get("name", "")
        if isinstance(name, str) and len(name) <= 100 and given["id"].isprintable() and name.isprintable():
            return {"id": given["id"].strip(), "name": name.strip()}
    raise BadRequest("practitioner must be the id, or {id, name}, of a named person.", "practitioner")
