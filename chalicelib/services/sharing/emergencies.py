"""Emergency access: a named practitioner, a reason, 24 hours; the owners are alerted, and review it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from chalicelib.domain import cursors, identifiers, italian, keys
from chalicelib.domain.audit import Act, Entry, Kind, Purpose, Recorder
from chalicelib.domain.emergencies import EmergencyAccess
from chalicelib.domain.errors import BadRequest, NotFound
from chalicelib.domain.feed import EmergencyNews
from chalicelib.domain.fields import fields
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.patients import Record
from chalicelib.domain.ports import Alerts, Item, PutNew, Table, Write
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.transfers import MAX_REASON
from chalicelib.domain.viewer_sessions import Practitioner
from chalicelib.services import access, changes
from chalicelib.services.changes import Change
from chalicelib.services.identity import codice_fiscale
from chalicelib.services.registry import Caller

DURATION = timedelta(hours=24)
MAX_AT_ONCE = 40
"""Owners that are told in the declaration itself; further ones when their studies are projected."""
DEFAULT_LIMIT, MAX_LIMIT = 100, 500
MAX_EXAMINED = 2000
_ID = re.compile(r"[0-9a-f]{32}")


def declare(table: Table, caller: Caller, body: object, now: datetime, act: Act) -> JsonObject:
    """Open what is known of a patient for 24 h. The answer does not say whether anything is known. Raises BadRequest."""
    patient, reason, practitioner = _parse(caller, body)
    owners = [owner for owner in access.owners_of(table, patient.hash) if owner != caller.member.id][:MAX_AT_ONCE]
    declared = EmergencyAccess(
        secrets.token_hex(16), caller.member.id, patient, practitioner, reason, now, now + DURATION, tuple(owners), caller.actor
    )
    emergency, data = declared.id, declared.to_item()
    writes: list[Write] = [PutNew(Item(keys.emergency_facts(emergency), keys.OPEN, data))]
    writes += [PutNew(review_item(declared, owner)) for owner in owners]
    writes.append(PutNew(Item(keys.patient_facts(patient.hash), keys.emergency(emergency), data)))
    entries = [
        Entry(
            Kind.EMERGENCY,
            owner,
            (patient,),
            purpose=Purpose.EMERGENCY,
            subject=emergency,
            text=f"{practitioner.id}: {reason}",
        )
        for owner in owners or [caller.member.id]
    ]
    act(writes, *entries)
    return {"id": emergency, "status": "active", "opened_at": data["opened_at"], "expires_at": data["expires_at"]}


def review_item(declared: EmergencyAccess, owner: str) -> Item:
    """The fact that an owner has an emergency access to review."""
    place = f"{iso(declared.opened_at)}#{declared.id}"
    index = {"gsi1": (keys.reviews_of(owner), place)}
    return Item(keys.emergency_facts(declared.id), keys.review(owner), declared.to_item(), index)


def alert_owner(table: Table, alerts: Alerts, emergency: str, owner: str, now: datetime) -> None:
    """Tell an owner that an emergency access opens its studies, and let it review that. Once, however often it is called."""
    fact = table.get(keys.emergency_facts(emergency), keys.OPEN)
    if fact is None:
        return
    declared = EmergencyAccess.from_item(fact.data)
    content = EmergencyNews(emergency, declared.institution)
    change = Change(owner, f"EMERGENCY#{emergency}", "emergency-access", content)
    if changes.was_told(table, change):
        return
    table.put(PutNew(review_item(declared, owner)))
    about = {"id": emergency, "institution": declared.institution, "owner": owner, "at": iso(declared.opened_at)}
    alerts.alert("emergency-access", about)
    changes.tell(table, [change], now)


def list_reviews(table: Table, caller: Caller, status: str | None, cursor: str | None, limit: int, tell: Recorder) -> JsonObject:
    """Emergency accesses to the caller's own patients, newest first, a page at a time: `open` (the default) or `closed`.

    Each with the caller's own numbers of the patient (`linked_patients`): who declared it named its own, or a code. A page
    looks at no more than `MAX_EXAMINED`; `next` says that there may be more. Raises BadRequest.
    """
    if status not in (None, "open", "closed"):
        raise BadRequest("status must be open or closed.", "status")
    owner = caller.member.id
    start = _start(owner, cursor) if cursor else None
    shown: list[tuple[Item, Item | None]] = []
    examined, last = 0, ""
    more = True
    while more and len(shown) < limit and examined < MAX_EXAMINED:
        page = table.query(keys.reviews_of(owner), index="gsi1", start=start, limit=limit, descending=True)
        closed = table.batch_get((item.pk, keys.reviewed(owner)) for item in page.items)
        for position, item in enumerate(page.items):
            examined, last = examined + 1, item.indexes["gsi1"][1]
            review = closed.get((item.pk, keys.reviewed(owner)))
            if (review is None) == (status in (None, "open")):
                shown.append((item, review))
            if len(shown) == limit:
                more = position + 1 < len(page.items) or page.next is not None
                break
        else:
            start, more = page.next, page.next is not None
    reviews = _reviews(table, caller, shown)
    tell(Entry(Kind.QUERY, owner, count=len(reviews), text="emergency accesses"))
    return {"reviews": reviews, **({"next": cursors.encode(last)} if more else {})}


def _start(owner: str, cursor: str) -> dict[str, str]:
    place, emergency = cursors.place(cursor, _ID)
    return {"pk": keys.emergency_facts(emergency), "sk": keys.review(owner), "gsi1pk": keys.reviews_of(owner), "gsi1sk": place}


def close_review(
    table: Table, caller: Caller, emergency: str, body: object, now: datetime, act: Act, tell: Recorder
) -> JsonObject:
    """The owner's reviewer closes an emergency access with a conclusion. Again: the first conclusion stands. Raises NotFound."""
    owner = caller.member.id
    opened = table.get(keys.emergency_facts(emergency), keys.review(owner)) if _ID.fullmatch(emergency) else None
    if opened is None:
        raise NotFound
    said = fields(body)
    conclusion, note = said.get("conclusion"), said.get("note", "")
    if conclusion not in ("justified", "not-justified"):
        raise BadRequest("conclusion must be justified or not-justified.", "conclusion")
    if not isinstance(note, str) or len(note) > MAX_REASON:
        raise BadRequest(f"note must have at most {MAX_REASON} characters.", "note")
    data: dict[str, object] = {"conclusion": conclusion, "note": note, "by": caller.actor, "at": iso(now)}
    reviewed = PutNew(Item(keys.emergency_facts(emergency), keys.reviewed(owner), data))
    patient = EmergencyAccess.from_item(opened.data).patient
    entry = Entry(Kind.EMERGENCY_REVIEWED, owner, (patient,), None, Purpose.OPERATIONS, subject=emergency, text=str(conclusion))
    if act([reviewed], entry):
        tell(replace(entry, kind=Kind.READ, text=None))
    (review,) = _reviews(table, caller, [(opened, table.get(keys.emergency_facts(emergency), keys.reviewed(owner)))])
    return review


def _reviews(table: Table, caller: Caller, found: Sequence[tuple[Item, Item | None]]) -> list[JsonObject]:
    """Accesses as their owner sees them, each with its review."""
    declared = [EmergencyAccess.from_item(item.data) for item, _ in found]
    known = access.load_facts(table, [declaration.patient.hash for declaration in declared]).known
    return [
        {
            **declaration.to_json(),
            "linked_patients": [
                number.to_item() for number in _own_numbers(caller, declaration, known[declaration.patient.hash].record)
            ],
            **({"status": "open"} if review is None else {"status": "closed", "review": review.data}),
        }
        for declaration, (_, review) in zip(declared, found, strict=True)
    ]


def _own_numbers(caller: Caller, declared: EmergencyAccess, record: Record) -> list[PatientIdentifier]:
    """The owner's numbers that are the declared one, or linked to it; also where the link was undone since the declaration."""
    links = (link for link in record.links if not link.ended or link.at >= iso(declared.opened_at))
    numbers = {declared.patient, *(link.beyond(declared.patient.hash) for link in links)}
    return sorted(number for number in numbers if caller.registry.by_issuer(number.issuer) == caller.institution)


def _parse(caller: Caller, body: object) -> tuple[PatientIdentifier, str, Practitioner]:
    said = fields(body, ("patient", "reason", "practitioner"))
    patient = fields(said.get("patient"), of="patient")
    identifier = identifiers.patient_identifier(patient.get("id"), patient.get("issuer"), caller.member.patient_id_issuer)
    fiscal = codice_fiscale.read(identifier.value) if identifier.issuer == italian.CODICE_FISCALE else None
    if fiscal is not None:
        identifier = PatientIdentifier(italian.CODICE_FISCALE, fiscal.written)
    reason = said.get("reason")
    if not isinstance(reason, str) or not 1 <= len(reason.strip()) <= MAX_REASON:
        raise BadRequest(f"reason must be 1 to {MAX_REASON} characters.", "reason")
    return identifier, reason.strip(), _practitioner(said.get("practitioner"))


def _practitioner(value: object) -> Practitioner:
    """A practitioner as an id, or as {"id", "name"}."""
    given = {"id": value} if isinstance(value, str) else value
    if isinstance(given, dict) and isinstance(given.get("id"), str) and 1 <= len(given["id"].strip()) <= 64:
        name = given.get("name", "")
        if isinstance(name, str) and len(name) <= 100 and given["id"].isprintable() and name.isprintable():
            return Practitioner(given["id"].strip(), name.strip())
    raise BadRequest("practitioner must be the id, or {id, name}, of a named person.", "practitioner")
