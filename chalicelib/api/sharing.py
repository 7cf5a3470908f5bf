"""Handlers of sharing: transfers, and a patient's timeline."""

from __future__ import annotations

from chalice.app import Response

from chalicelib.api.call import Call
from chalicelib.api.registry import handler
from chalicelib.api.responses import answer
from chalicelib.domain.audit import Entry, Kind
from chalicelib.domain.json_object import JsonObject
from chalicelib.services.finding import timeline
from chalicelib.services.identity import numbering
from chalicelib.services.sharing import acceptance, transfer_reading, transfers
from chalicelib.services.sharing.transfers import ShownTransfer
from chalicelib.telemetry import logger


@handler("POST", "/transfers")
def open_transfer(call: Call) -> Response:
    """201 with the transfer; the same one again for the same Idempotency-Key. 400; 404 for a patient who is none of the caller's;
    409 for a key used for another one; 429 after 60 proposed numbers in an hour."""
    key = call.request.headers.get("idempotency-key")
    opened = transfers.open_transfer(call.archive.table, call.caller, call.json(), key, call.now, call.act, call.record)
    if opened.transfer.proposed is not None:
        logger().info(
            "proposal", extra={"institution": opened.transfer.sender}
        )  # counted: see ProposalsMetric in infra/functions.yaml
    return answer(opened.to_json() | _apart(call, opened), 201, location=f"{call.base_url}/transfers/{opened.transfer.id}")


@handler("GET", "/transfers")
def list_transfers(call: Call) -> Response:
    """200 with a page of the caller's transfers, newest first unless otherwise asked. 400."""
    limit = call.number("limit", transfer_reading.DEFAULT_LIMIT, 1000)
    parameters = ("direction", "status", "accepted", "institution", "patient", "order")
    asked = transfer_reading.TransferFilter(*(call.parameter(name) for name in parameters))
    found = transfer_reading.list_transfers(call.archive.table, call.caller, asked, call.parameter("cursor"), limit, call.now)
    call.record(Entry(Kind.QUERY, text=call.query_text, count=len(found.transfers)))
    return answer(found.to_json())


@handler("GET", "/transfers/{transfer}")
def get_transfer(call: Call, transfer: str) -> Response:
    """200 with the transfer, for its two parties; with `compare`, how the codici fiscali of the patient and of that number of the
    receiver's compare. 400, 404; 403 for the sender who compares."""
    compare = call.parameter("compare")
    found = transfer_reading.read_transfer(call.archive.table, call.caller, transfer, compare, call.now, call.record)
    return answer(found.to_json() | _apart(call, found))


@handler("PATCH", "/transfers/{transfer}")
def extend_transfer(call: Call, transfer: str) -> Response:
    """200 with the transfer, which lasts longer. 400, 404; 403 for the receiver; 409 for one that is over; 412."""
    found = transfers.extend_transfer(
        call.archive.table, call.caller, transfer, call.json(), call.now, call.act, call.record, _if_match(call)
    )
    return answer(found.to_json())


@handler("DELETE", "/transfers/{transfer}")
def end_transfer(call: Call, transfer: str) -> Response:
    """200 with status `revoked`, for either party, however often. 404; 412."""
    ended = transfers.end_transfer(call.archive.table, call.caller, transfer, call.now, call.act, call.record, _if_match(call))
    return answer(ended.to_json())


@handler("PUT", "/transfers/{transfer}/receiving-patient")
def accept_transfer(call: Call, transfer: str) -> Response:
    """200 with the transfer, accepted: the receiver's own number is linked. 400, 404; 403 for the sender; 409 for one that
    is over, for another codice fiscale, and, with their count, where not just one number is linked and none is named; 412."""
    accepted = acceptance.accept(
        call.archive.table, call.caller, transfer, call.json(), call.now, call.act, call.record, _if_match(call)
    )
    return answer(accepted.to_json())


@handler("DELETE", "/transfers/{transfer}/receiving-patient")
def take_acceptance_back(call: Call, transfer: str) -> Response:
    """200 with the transfer, which waits again, however often. 404; 403 for the sender; 409 for one that is over; 412."""
    waiting = acceptance.take_back(call.archive.table, call.caller, transfer, call.now, call.act, call.record, _if_match(call))
    return answer(waiting.to_json())


@handler("GET", "/patients/{patient}/timeline")
def get_timeline(call: Call, patient: str) -> Response:
    """200 with all that the caller may see of the patient, both hospitals', newest first. 400; 404 when that is nothing."""
    issuer = call.parameter("issuer")
    return answer(timeline.timeline(call.archive.table, call.caller, patient, issuer, call.now, call.record).to_json())


def _if_match(call: Call) -> str | None:
    """The state in which the caller saw the transfer, where it says so: in another one nothing is done (412)."""
    said: str | None = call.request.headers.get("if-match")
    return said


def _apart(call: Call, shown: ShownTransfer) -> JsonObject:
    """For the sender: what it has under the same number of another issuer, which the transfer does not open."""
    if shown.transfer.sender != call.caller.member.id:
        return {}
    apart = numbering.apart_from(call.archive.table, call.caller.member.id, shown.transfer.patient, call.now)
    return {"apart": [kept.to_json() for kept in apart]} if apart else {}
