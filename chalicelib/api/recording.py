"""From a request to the audit trail: who asked, what a refusal says, and which routes need no record."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from chalice.app import Request

from chalicelib.domain import audit
from chalicelib.domain.audit import Entry, Kind, Purpose, RequestContext
from chalicelib.domain.errors import ContenitoreError, Forbidden, Gone, NotFound, UnknownInstitution
from chalicelib.domain.identifiers import MAX_PATIENT_ID, PatientIdentifier
from chalicelib.domain.institutions import assumed_role
from chalicelib.services.registry import OPERATOR, Caller

UNRECORDED: dict[str, str] = {
    "GET /health": "no credentials, no data",
    "OPTIONS /dicomweb": "what the service can do, no patient",
    "GET /institutions": "names of institutions, no patient",
    "GET /view/events": "whether something changed, nothing of it; asked every few seconds by an open page",
    "POST /view/session/keep": "that someone is still there; what the page says is on the screen is recorded",
    "GET /changes": "what changed, by UID and transfer, asked for all day; opening a study is recorded",
    "PUT /forwarder": "the sign of life of the caller's own machine, once a minute; no patient",
    "POST /uploads/status": "the state of the caller's own objects, by hash; their upload was recorded",
}
"""The routes that answer without a record, each with the reason. Every other one must record, or it answers nothing."""

_SUBJECTS = frozenset({"consent", "emergency", "institution", "link", "objection", "transfer"})
"""The parts of a path that say what was acted upon. Others are too fine, or, as a reading session's pass, secret."""
_REFUSED = (Forbidden, Gone, NotFound, UnknownInstitution)


def context(request: Request, now: datetime, route: str, caller: Caller | None) -> RequestContext:
    """Who asked: `caller` if it is known, else what the signature says."""
    identity = request.context.get("identity") or {}
    arn = str(identity.get("userArn") or "")
    _, role, session = assumed_role(arn) or ("", arn.rpartition(":")[2], "")
    institution = audit.UNREGISTERED
    if caller is not None:
        institution = caller.institution.id if caller.institution is not None else OPERATOR
    return RequestContext(
        now,
        str(request.context.get("requestId") or ""),
        route,
        institution,
        caller.actor if caller is not None else session,
        role,
        session,
        str(identity.get("sourceIp") or ""),
    )


def refusal(error: ContenitoreError, parameters: Mapping[str, str], issuer: str | None, caller: Caller | None) -> Entry | None:
    """What to record of an error: a refusal names what was asked for, and nothing else; other errors are none.

    The entry is the same whether that does not exist, is not shared or is hidden, and so is the cost of writing it.
    """
    if not isinstance(error, _REFUSED):
        return None
    names = dict(parameters)
    patient, study = names.pop("patient", None), names.pop("study", None)
    patients: tuple[PatientIdentifier, ...] = ()
    if patient is not None:
        if not issuer and caller is not None and caller.institution is not None:
            issuer = caller.institution.patient_id_issuer
        patients = (PatientIdentifier((issuer or "")[:MAX_PATIENT_ID], patient[:MAX_PATIENT_ID]),)
    subject = " ".join(f"{name}={value}" for name, value in sorted(names.items()) if name in _SUBJECTS) or None
    purpose = Purpose.ADMINISTRATION if "institution" in names else Purpose.TREATMENT
    return Entry(Kind.REFUSAL, None, patients, study[:64] if study else None, purpose, subject=subject)
