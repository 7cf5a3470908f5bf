"""Doors of sharing: transfers, and a patient's timeline."""

from __future__ import annotations

from typing import Any

from chalice.app import Response

from chalicelib import bootstrap
from chalicelib.api.http import Call, answer, door
from chalicelib.domain.audit import Entry, Kind
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.services import numbering, timeline, transfers


@door("POST", "/transfers")
def open_transfer(call: Call) -> Response:
    """201 with the transfer; the same one again for the same Idempotency-Key. 400; 409 for a key used for another one."""
    key = call.request.headers.get("idempotency-key")
    opened = transfers.open_transfer(bootstrap.table(), call.caller, call.json(), key, call.now, call.act, call.record)
    return answer(opened | _apart(call, opened), 201, location=f"{call.base_url}/transfers/{opened['id']}")


@door("GET", "/transfers")
def list_transfers(call: Call) -> Response:
    """200 with a page of the caller's transfers, newest first. 400."""
    limit = call.number("limit", transfers.DEFAULT_LIMIT, 1000)
    direction, status, cursor = (
        call.parameter("direction"),
        call.parameter("status"),
        call.parameter("cursor"),
    )
    found = transfers.list_transfers(bootstrap.table(), call.caller, direction, status, cursor, limit, call.now)
    call.record(Entry(Kind.QUERY, text=call.query_text, count=len(found["transfers"])))
    return answer(found)


@door("GET", "/transfers/{transfer}")
def get_transfer(call: Call, transfer: str) -> Response:
    """200 with the transfer, for its two parties. 404."""
    found = transfers.read_transfer(bootstrap.table(), call.caller, transfer, call.now, call.record)
    return answer(found | _apart(call, found))


@door("DELETE", "/transfers/{transfer}")
def end_transfer(call: Call, transfer: str) -> Response:
    """200 with status `revoked`, for either party, however often. 404."""
    return answer(transfers.end_transfer(bootstrap.table(), call.caller, transfer, call.now, call.act, call.record))


@door("PUT", "/transfers/{transfer}/receiving-patient")
def name_receiving_patient(call: Call, transfer: str) -> Response:
    """200 with the transfer: the receiver's own number is linked. 400, 404; 403 for the sender."""
    body = call.json()
    return answer(
        transfers.name_receiving_patient(bootstrap.table(), call.caller, transfer, body, call.now, call.act, call.record)
    )


@door("GET", "/patients/{patient}/timeline")
def get_timeline(call: Call, patient: str) -> Response:
    """200 with all that the caller may see of the patient, both hospitals', newest first. 400; 404 when that is nothing."""
    issuer = call.parameter("issuer")
    return answer(timeline.timeline(bootstrap.table(), call.caller, patient, issuer, call.now, call.record))


def _apart(call: Call, transfer: dict[str, Any]) -> dict[str, Any]:
    """For the sender: what it has under the same number of another issuer, which the transfer does not open."""
    if transfer["from"] != call.caller.member.id:
        return {}
    number = PatientIdentifier(transfer["patient"]["issuer"], transfer["patient"]["id"])
    apart = numbering.apart_from(bootstrap.table(), call.caller.member.id, number, call.now)
    return {"apart": apart} if apart else {}
