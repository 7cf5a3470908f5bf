"""Handlers about one patient: what its hospital says, links, objections, protection, consents, emergencies; changes."""

from __future__ import annotations

from datetime import UTC, datetime

from chalice.app import Response

from chalicelib.api.call import Call
from chalicelib.api.registry import handler
from chalicelib.api.responses import answer
from chalicelib.domain import identifiers
from chalicelib.domain.errors import BadRequest
from chalicelib.services import changes
from chalicelib.services.identity import identity_links, known_patients
from chalicelib.services.sharing import emergencies, explanation, protection


@handler("PUT", "/patients/{patient}")
def make_known(call: Call, patient: str) -> Response:
    """200 with what the caller's registration now says of its own patient; the same again changes nothing. 400."""
    body = call.json()
    return answer(known_patients.make_known(call.archive.table, call.caller, patient, body, call.now, call.act, call.record))


@handler("GET", "/patients/{patient}/links")
def list_links(call: Call, patient: str) -> Response:
    """200 with the links of one of the caller's numbers, and proposals with evidence. 404."""
    return answer(identity_links.list_links(call.archive.table, call.caller, patient, call.now, call.record))


@handler("POST", "/patients/{patient}/links")
def confirm_link(call: Call, patient: str) -> Response:
    """201 with the link, now confirmed. 400, 404; 409 when evidence forbids it."""
    body = call.json()
    return answer(
        identity_links.confirm_link(call.archive.table, call.caller, patient, body, call.now, call.act, call.record), 201
    )


@handler("DELETE", "/patients/{patient}/links/{link}")
def undo_link(call: Call, patient: str, link: str) -> Response:
    """200: undone from the next request on, however often. 404."""
    return answer(identity_links.undo_link(call.archive.table, call.caller, patient, link, call.now, call.act, call.record))


@handler("GET", "/patients/{patient}/sharing")
def explain_sharing(call: Call, patient: str) -> Response:
    """200 with the caller's studies of its own patient and what hides or shows them; with `to`, what that institution sees of
    each, by which rule, since and until when; with `until`, also what it would see if a transfer were opened. 400, 404."""
    to, until = call.parameter("to"), call.parameter("until")
    return answer(explanation.explain(call.archive.table, call.caller, patient, to, until, call.now, call.record))


@handler("GET", "/patients/{patient}/objections")
def list_objections(call: Call, patient: str) -> Response:
    """200 with the active objections of the caller's own patient. 404."""
    return answer(protection.list_objections(call.archive.table, call.caller, patient, call.record))


@handler("POST", "/patients/{patient}/objections")
def object_to_sharing(call: Call, patient: str) -> Response:
    """201: one study, or all, hidden from every other institution from the next request on. 400, 404."""
    body = call.json(optional=True)
    return answer(protection.object_to_sharing(call.archive.table, call.caller, patient, body, call.now, call.act), 201)


@handler("DELETE", "/patients/{patient}/objections/{objection}")
def withdraw_objection(call: Call, patient: str, objection: str) -> Response:
    """200: shared again as before. 404."""
    return answer(protection.withdraw_objection(call.archive.table, call.caller, patient, objection, call.now, call.act))


@handler("POST", "/patients/{patient}/protections")
def protect(call: Call, patient: str) -> Response:
    """201: the study is shared only with whom the patient consents to by name. 400, 404."""
    return answer(protection.protect(call.archive.table, call.caller, patient, call.json(), call.now, call.act), 201)


@handler("POST", "/patients/{patient}/consents")
def consent(call: Call, patient: str) -> Response:
    """201 with the consent. 400, 404."""
    return answer(protection.consent(call.archive.table, call.caller, patient, call.json(), call.now, call.act), 201)


@handler("DELETE", "/patients/{patient}/consents/{consent}")
def revoke_consent(call: Call, patient: str, consent: str) -> Response:
    """200: ended. 404."""
    return answer(protection.revoke_consent(call.archive.table, call.caller, patient, consent, call.now, call.act))


@handler("POST", "/studies/{study}/withdrawals")
def withdraw(call: Call, study: str) -> Response:
    """201: the study, or the instances named, are gone for everybody from the next request on. Owner only. 400, 404."""
    uid = identifiers.uid(study, "study_instance_uid")
    return answer(protection.withdraw(call.archive.table, call.caller, uid, call.json(), call.now, call.act), 201)


@handler("POST", "/emergency-access")
def declare_emergency(call: Call) -> Response:
    """201: what is known of the patient is open for 24 h, whether or not anything is. 400."""
    body = call.json()
    return answer(emergencies.declare(call.archive.table, call.caller, body, call.now, call.act), 201)


@handler("GET", "/emergency-access")
def list_emergency_reviews(call: Call) -> Response:
    """200 with the emergency accesses to the caller's own patients that wait for review (`status=closed`: that had it). 400."""
    status, cursor = call.parameter("status"), call.parameter("cursor")
    limit = call.number("limit", emergencies.DEFAULT_LIMIT, emergencies.MAX_LIMIT)
    return answer(emergencies.list_reviews(call.archive.table, call.caller, status, cursor, limit, call.record))


@handler("POST", "/emergency-access/{emergency}/review")
def close_emergency_review(call: Call, emergency: str) -> Response:
    """200: the owner's reviewer closed it; the first conclusion stands. 400, 404."""
    body = call.json()
    return answer(emergencies.close_review(call.archive.table, call.caller, emergency, body, call.now, call.act, call.record))


@handler("GET", "/changes")
def read_changes(call: Call) -> Response:
    """200 with what changed for the caller after `since`, at once or within `wait` seconds. 400."""
    limit = call.number("limit", changes.DEFAULT_LIMIT, changes.MAX_LIMIT)
    wait = call.parameter("wait") or "0"
    if not wait.isascii() or not wait.isdigit() or len(wait) > 9:
        raise BadRequest("wait must be a number of seconds.", "wait")
    since = call.parameter("since")
    return answer(changes.read_changes(call.archive.table, call.caller, since, limit, int(wait), lambda: datetime.now(UTC)))
