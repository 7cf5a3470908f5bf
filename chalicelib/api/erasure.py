"""Handlers of erasure: of an institution, which two operators decide; of a patient and by a rule, which the owner decides."""

from __future__ import annotations

from chalice.app import Response

from chalicelib.api.call import Call
from chalicelib.api.registry import handler
from chalicelib.api.responses import answer
from chalicelib.domain import identifiers
from chalicelib.domain.audit import Entry, Kind, Purpose
from chalicelib.services.erasure import institutions, orders, retention


@handler("GET", "/institutions/{institution}/erasure")
def get_erasure(call: Call, institution: str) -> Response:
    """200: who asked, who confirmed, when it is due, how far it went. Operator only: else 403. 400, 404."""
    named = identifiers.institution_id(institution, "id")
    found = institutions.shown(call.archive.table, call.caller, named)
    call.record(
        Entry(Kind.ADMINISTRATION, named, purpose=Purpose.ADMINISTRATION, subject=f"institution={named}", text="looked at")
    )
    return answer(found)


@handler("PUT", "/institutions/{institution}/erasure")
def put_erasure(call: Call, institution: str) -> Response:
    """200: asked for; with the `confirm` that was shown, confirmed by another operator than who asked. Operator only: else 403.

    400, 404; 409 for a member, for one that is asked for already, for a confirmation by who asked, and of what stands no more.
    """
    named = identifiers.institution_id(institution, "id")
    return answer(institutions.put(call.archive.table, call.caller, call.context.session, named, call.json(), call.now, call.act))


@handler("DELETE", "/institutions/{institution}/erasure")
def delete_erasure(call: Call, institution: str) -> Response:
    """200: taken back. Operator only: else 403. 400; 409 where none waits, or it has begun."""
    named = identifiers.institution_id(institution, "id")
    return answer(institutions.cancel(call.archive.table, call.caller, named, call.act))


@handler("POST", "/patients/{patient}/erasures")
def order_erasure(call: Call, patient: str) -> Response:
    """200: what would go; with that `confirm`, 201: hidden at once, and erased when it is due. Owner only. 400, 404, 409.

    With `order`, 201: one that waits after a restore of the table is confirmed anew.
    """
    said, ordered = orders.order(call.archive.table, call.caller, patient, call.json(), call.now, call.act, call.record)
    return answer(said, 201 if ordered else 200)


@handler("DELETE", "/patients/{patient}/erasures/{erasure}")
def take_back_erasure(call: Call, patient: str, erasure: str) -> Response:
    """200: it is not erased. Owner only. 404, 409 once it began and does not wait."""
    return answer(orders.take_back(call.archive.table, call.caller, patient, erasure, call.act))


@handler("GET", "/retention")
def get_retention(call: Call) -> Response:
    """200: the caller's own rule, whether it was tried, and what the last pass found due or erased."""
    owner = call.caller.member.id
    call.record(Entry(Kind.READ, owner, purpose=Purpose.ADMINISTRATION, text="retention"))
    return answer(retention.load(call.archive.table, owner).to_answer())


@handler("PUT", "/retention")
def put_retention(call: Call) -> Response:
    """200: the caller's own rule from now on; `null` ends it. 400; 409 for one that is to be carried out and was not tried."""
    return answer(retention.put(call.archive.table, call.caller, call.json(), call.now, call.act))
