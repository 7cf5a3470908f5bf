"""Handlers of the archive itself: health, uploads, manifest, institutions."""

from __future__ import annotations

from chalice.app import Response

from chalicelib import config
from chalicelib.api.call import Call
from chalicelib.api.registry import handler
from chalicelib.api.responses import answer
from chalicelib.domain import identifiers, institutions
from chalicelib.domain.audit import Entry, Kind
from chalicelib.services import membership
from chalicelib.services.finding import procedure_names
from chalicelib.services.ingest import uploads
from chalicelib.services.operations import forwarders
from chalicelib.services.retrieval import manifest


@handler("GET", "/health", public=True)
def health(call: Call) -> Response:
    """200: the API is there. No credentials, no details."""
    del call
    return answer({"status": "ok", "version": config.VERSION})


@handler("POST", "/uploads")
def request_uploads(call: Call) -> Response:
    """200 with a state, and for what is absent a presigned PUT, for each instance in the order asked. 400."""
    institution = call.caller.member.id
    offers = uploads.parse_offers(call.json())
    call.record(Entry(Kind.IMPORT, institution, count=len(offers)))
    answers = uploads.request_uploads(
        call.archive.table, call.archive.objects, call.archive.announce, institution, offers, call.now
    )
    return answer({"instances": answers})


@handler("POST", "/uploads/status")
def upload_status(call: Call) -> Response:
    """200 with the state of each object in the order asked. 400."""
    institution = call.caller.member.id
    hashes = uploads.parse_hashes(call.json())
    states = uploads.statuses(call.archive.table, call.archive.objects, institution, hashes)
    return answer({"instances": [states[sha].to_json() for sha in hashes]})


@handler("DELETE", "/uploads/{sha256}")
def remove_upload(call: Call, sha256: str) -> Response:
    """204: the bytes that the caller sent, and that were rejected as `not-dicom`, are gone. Again: the same. 400.

    404 for what the archive has not from the caller, 409 for anything else that it has.
    """
    institution, sha = call.caller.member.id, identifiers.sha256(sha256, "sha256")
    call.record(Entry(Kind.UPLOAD_REMOVED, institution, subject=sha, count=1))
    uploads.remove(call.archive.table, call.archive.objects, call.archive.remover, institution, sha)
    return Response(b"", {"Cache-Control": "no-store"}, 204)


@handler("GET", "/studies/{study}/manifest")
def get_manifest(call: Call, study: str) -> Response:
    """200 with a page of instances and presigned GET URLs. 400, 404."""
    viewer = call.caller.member.id
    found = manifest.manifest(
        call.archive.table,
        call.archive.objects,
        viewer,
        identifiers.uid(study, "study_instance_uid"),
        call.now,
        call.parameter("owner"),
        call.parameter("cursor"),
        call.number("limit", manifest.DEFAULT_LIMIT, manifest.MAX_LIMIT),
        record=call.record,
    )
    return answer(found)


@handler("GET", "/institutions")
def list_institutions(call: Call) -> Response:
    """200: ids and names for members, and all of the caller's own registration; everything for the operator."""
    caller = call.caller
    members = caller.registry.members.values()
    own = caller.institution.id if caller.institution is not None else None
    shown = [
        institutions.shown(member) if own in (None, member.id) else {"id": member.id, "name": member.name}
        for member in members
        if own in (None, member.id) or member.id != institutions.CANARY
    ]
    return answer({"institutions": shown})


@handler("PUT", "/institutions/{institution}")
def put_institution(call: Call, institution: str) -> Response:
    """201 when new, 200 when changed or the same; a member's new role waits. Operator only: else 403.

    400; 409 for an id, role, issuer or AE title that is or was another's, and for an issuer that facts name.
    """
    call.caller.require_operator()
    identifiers.institution_id(institution, "id")
    known = call.caller.registry.members.get(institution)
    member, _ = membership.register(
        call.archive.table,
        call.caller,
        institution,
        call.json(),
        call.now,
        call.act,
        call.record,
        call.archive.config.operator_role_arn,
    )
    return answer(institutions.shown(member), 200 if known else 201)


@handler("POST", "/institutions/{institution}/confirm")
def confirm_role(call: Call, institution: str) -> Response:
    """200: the member's new role counts, and the one that signed this no more. 400, 403; 409 where none waits, or another."""
    body = call.json(optional=True)
    return answer(institutions.shown(membership.confirm(call.archive.table, call.caller, institution, body, call.now, call.act)))


@handler("DELETE", "/institutions/{institution}")
def delete_institution(call: Call, institution: str) -> Response:
    """200: its role opens nothing from the next request on. Operator only: else 403. 404."""
    membership.remove(call.caller, institution, call.now, call.act)
    return answer({"id": institution, "status": "removed"})


@handler("GET", "/procedure-names")
def get_procedure_names(call: Call) -> Response:
    """200 with the caller's own names and codes of examinations, the places there are, and what nobody understood."""
    call.record(Entry(Kind.READ, call.caller.member.id, text="procedure names"))
    return answer(procedure_names.shown(call.archive.table, call.caller))


@handler("PUT", "/procedure-names")
def put_procedure_names(call: Call) -> Response:
    """200: these names and codes count for the caller's exams from now on, and no others of its own. 400."""
    return answer(procedure_names.put(call.archive.table, call.caller, call.json(), call.act))


@handler("PUT", "/forwarder")
def put_forwarder(call: Call) -> Response:
    """200: the sign of life of the caller's forwarder is kept; how the archive sees it, and how often it wants one. 400."""
    return answer(forwarders.heard(call.archive.table, call.caller.member.id, call.json(), call.now))
