"""Handlers of STOW-RS (PS3.18 10.5), of Storage Commitment (13), and of the service's description (8.9)."""

from __future__ import annotations

from chalice.app import Response

from chalicelib.api.call import Call
from chalicelib.api.registry import handler
from chalicelib.api.responses import answer
from chalicelib.dicomweb import capabilities, media_types, native_xml, representations, stow_response
from chalicelib.dicomweb.caching import NO_STORE
from chalicelib.dicomweb.commitment import parse_commitment_request
from chalicelib.dicomweb.json_model import Model
from chalicelib.dicomweb.stow import parse_store_request
from chalicelib.domain import identifiers
from chalicelib.domain.audit import Entry, Kind
from chalicelib.domain.errors import UnsupportedMediaType
from chalicelib.services.ingest import at_once, commitment, store
from chalicelib.services.ingest.summaries import read_summary

_COMMITMENT = "/dicomweb/commitment-requests/{transaction}"


@handler("POST", "/dicomweb/studies")
def store_instances(call: Call) -> Response:
    """200 when all are stored, 202 when some are, 409 when none is, each with a reason for each. 400, 406, 413, 415."""
    return _store(call, None)


@handler("POST", "/dicomweb/studies/{study}")
def store_study_instances(call: Call, study: str) -> Response:
    """The same for instances that must be of the study in the path. 200, 202, 409. 400, 406, 413, 415."""
    return _store(call, identifiers.uid(study, "study"))


@handler("POST", _COMMITMENT)
def request_commitment(call: Call, transaction: str) -> Response:
    """200 with what is kept and what is not (PS3.18 13.1). 400, 406; 409 for a UID that stands for another request; 415."""
    uid = identifiers.uid(transaction, "transactionUID")
    selected = _select(call, representations.COMMITMENT)
    request = parse_commitment_request(call.request.headers.get("content-type"), _content(call))
    institution = call.caller.member.id
    model = commitment.commit(call.archive.table, institution, uid, request, call.now, call.act, call.record)
    return _model(model, 200, selected)


@handler("GET", _COMMITMENT, head=True)
def check_commitment(call: Call, transaction: str) -> Response:
    """200 with the result of an earlier request (PS3.18 13.2). 400, 404, 406."""
    uid = identifiers.uid(transaction, "transactionUID")
    selected = _select(call, representations.COMMITMENT)
    model = commitment.result(call.archive.table, call.caller.member.id, uid, call.now, call.record)
    return _model(model, 200, selected)


@handler("OPTIONS", "/dicomweb")
def retrieve_capabilities(call: Call) -> Response:
    """200 with the description of the service (PS3.18 8.9). 406."""
    selected = _select(call, capabilities.OFFERS)
    service = f"{call.base_url}/dicomweb"
    xml = selected.offer.media_type == capabilities.WADL
    body = capabilities.to_xml(service) if xml else capabilities.to_json(service)
    return Response(body, {"Content-Type": selected.offer.media_type, **NO_STORE}, 200)


def _store(call: Call, study: str | None) -> Response:
    selected = _select(call, representations.STORE_RESPONSE)
    request = parse_store_request(call.request.headers.get("content-type"), _content(call))
    institution = call.caller.member.id
    outcomes = store.store(
        call.archive.table,
        call.archive.objects,
        at_once.index_all(call.archive.table, call.archive.objects, call.archive.trail),
        read_summary,
        institution,
        request,
        study,
        f"{call.base_url}/dicomweb",
    )
    kept = sum(isinstance(outcome, stow_response.StoredInstance) for outcome in outcomes)
    call.record(Entry(Kind.IMPORT, institution, study=study, count=kept))
    return _model(stow_response.response(outcomes), stow_response.status(outcomes), selected)


def _content(call: Call) -> bytes:
    """The request's body. Raises UnsupportedMediaType for one that is compressed (RFC 9110 8.4, 15.5.16)."""
    if (call.request.headers.get("content-encoding") or "identity").strip().lower() != "identity":
        raise UnsupportedMediaType("Content-Encoding of a request is not taken. Send it as it is.")
    return call.request.raw_body or b""


def _select(call: Call, offers: tuple[media_types.Representation, ...]) -> media_types.Selected:
    return media_types.negotiate(offers, call.request.headers.get("accept"), call.parameter("accept"))


def _model(model: Model, status: int, selected: media_types.Selected) -> Response:
    name = selected.offer.media_type
    if name == representations.XML:
        return Response(native_xml.to_xml(model), {"Content-Type": name, **NO_STORE}, status)
    return answer(model, status, name)
