"""Emergency access: a named practitioner, a reason, 24 hours; the owners are alerted, and review it."""

from __future__ import annotations

import re
import secrets
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from chalicelib.domain import cursors, identifiers, italian, keys
from chalicelib.domain.audit import Act, Entry, Kind, Purpose, Recorder
from chalicelib.domain.errors import BadRequest, NotFound
from chalicelib.domain.fields import fields
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Alerts, Item, PutNew, Table, Write
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.transfers import MAX_REASON
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


def declare(table: Table, caller: Caller, body: object, now: datetime, act: Act) -> dict[str, Any]:
    """Open what is known of a patient for 24 h. The answer does not say whether anything is known. Raises BadRequest."""
    patient, reason, practitioner = _parse(caller, body)
    emergency = secrets.token_hex(16)
    owners = [owner for owner in access.owners_of(table, patient.hash) if owner != caller.member.id][:MAX_AT_ONCE]
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
    writes: list[Write] = [PutNew(Item(keys.emergency_facts(emergency), keys.OPEN, data))]
    writes += [PutNew(review_item(data, owner)) for owner in owners]
    writes.append(PutNew(Item(keys.patient_facts(patient.hash), keys.emergency(emergency), data)))
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


def review_item(data: dict[str, Any], owner: str) -> Item:
    """The fact that an owner has an emergency access to review."""
    place = f"{data['opened_at']}#{data['id']}"
    return Item(keys.emergency_facts(str(data["id"])), keys.review(owner), data, {"gsi1": (keys.reviews_of(owner), place)})


def alert_owner(table: Table, alerts: Alerts, emergency: str, owner: str, now: datetime) -> None:
    """Tell an owner that an emergency access opens its studies, and let it review that. Once, however often it is called."""
    fact = table.get(keys.emergency_facts(emergency), keys.OPEN)
    if fact is None:
        return
    content = {"emergency_id": emergency, "institution": str(fact.data["institution"])}
    change = Change(owner, f"EMERGENCY#{emergency}", "emergency-access", content)
    if changes.was_told(table, change):
        return
    table.put(PutNew(review_item(fact.data, owner)))
    about = {"id": emergency, "institution": content["institution"], "owner": owner, "at": str(fact.data["opened_at"])}
    alerts.alert("emergency-access", about)
    changes.tell(table, [change], now)


def list_reviews(
    table: Table, caller: Caller, status: str | None, cursor: str | None, limit: int, tell: Recorder
) -> dict[str, Any]:
    """Emergency accesses to the caller's own patients, newest first, a page at a time: `open` (the default) or `closed`.

    A page looks at no more than `MAX_EXAMINED`; `next` says that there may be more. Raises BadRequest.
    """
    if status not in (None, "open", "closed"):
        raise BadRequest("status must be open or closed.", "status")
    owner = caller.member.id
    start = _start(owner, cursor) if cursor else None
    reviews: list[dict[str, Any]] = []
    examined, last = 0, ""
    more = True
    while more and len(reviews) < limit and examined < MAX_EXAMINED:
        page = table.query(keys.reviews_of(owner), index="gsi1", start=start, limit=limit, descending=True)
        closed = table.batch_get((item.pk, keys.reviewed(owner)) for item in page.items)
        for position, item in enumerate(page.items):
            examined, last = examined + 1, item.indexes["gsi1"][1]
            review = closed.get((item.pk, keys.reviewed(owner)))
            if (review is None) == (status in (None, "open")):
                reviews.append(_shown(item, review))
            if len(reviews) == limit:
                more = position + 1 < len(page.items) or page.next is not None
                break
        else:
            start, more = page.next, page.next is not None
    tell(Entry(Kind.QUERY, owner, count=len(reviews), text="emergency accesses"))
    return {"reviews": reviews, **({"next": last} if more else {})}


def _start(owner: str, cursor: str) -> dict[str, str]:
    emergency = cursors.place(cursor, _ID)
    return {"pk": keys.emergency_facts(emergency), "sk": keys.review(owner), "gsi1pk": keys.reviews_of(owner), "gsi1sk": cursor}


def close_review(
    table: Table, caller: Caller, emergency: str, body: object, now: datetime, act: Act, tell: Recorder
) -> dict[str, Any]:
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
    named = opened.data["patient"]
    patients = (PatientIdentifier(str(named["issuer"]), str(named["id"])),) if isinstance(named, dict) else ()
    entry = Entry(Kind.EMERGENCY_REVIEWED, owner, patients, None, Purpose.OPERATIONS, subject=emergency, text=str(conclusion))
    if act([reviewed], entry):
        tell(replace(entry, kind=Kind.READ, text=None))
    return _shown(opened, table.get(keys.emergency_facts(emergency), keys.reviewed(owner)))


def _shown(item: Item, review: Item | None) -> dict[str, Any]:
    kept = ("id", "institution", "patient", "practitioner", "reason", "opened_at", "expires_at")
    answer = {name: item.data[name] for name in kept}
    answer["status"] = "closed" if review else "open"
    if review is not None:
        answer["review"] = review.data
    return answer


def _parse(caller: Caller, body: object) -> tuple[PatientIdentifier, str, dict[str, str]]:
    said = fields(body, ("patient", "reason", "practitioner"))
    patient = fields(said.get("patient"), of="patient")
    identifier = identifiers.patient_identifier(patient.get("id"), patient.get("issuer"), caller.member.patient_id_issuer)
    fiscal = codice_fiscale.read(identifier.value) if identifier.issuer == italian.CODICE_FISCALE else None
    if fiscal is not None:
        identifier = PatientIdentifier(italian.CODICE_FISCALE, fiscal.code)
    reason = said.get("reason")
    if not isinstance(reason, str) or not 1 <= len(reason.strip()) <= MAX_REASON:
        raise BadRequest(f"reason must be 1 to {MAX_REASON} characters.", "reason")
    return identifier, reason.strip(), _practitioner(said.get("practitioner"))


def _practitioner(value: object) -> dict[str, str]:
    """A practitioner as an id, or as {"id", "name"}."""
    given = {"id": value} if isinstance(value, str) else value
    if isinstance(given, dict) and isinstance(given.get("id"), str) and 1 <= len(given["id"].strip()) <= 64:
        name = given.get("name", "")
        if isinstance(name, str) and len(name) <= 100 and given["id"].isprintable() and name.isprintable():
            return {"id": given["id"].strip(), "name": name.strip()}
    raise BadRequest("practitioner must be the id, or {id, name}, of a named person.", "practitioner")
