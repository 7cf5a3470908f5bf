"""Handlers of what an owner corrects: versions of its instances, withdrawals of its studies, and who had read what was wrong."""

from __future__ import annotations

from chalice.app import Response

from chalicelib.api.call import Call
from chalicelib.api.registry import handler
from chalicelib.api.responses import answer
from chalicelib.domain import identifiers
from chalicelib.services.ingest import corrections, withdrawals
from chalicelib.services.sharing import readings


@handler("GET", "/studies/{study}/versions")
def list_versions(call: Call, study: str) -> Response:
    """200 with the instances of the caller's own study that were corrected, each with its versions. 400, 404."""
    uid = identifiers.uid(study, "study_instance_uid")
    return answer(corrections.list_versions(call.archive.table, call.caller, uid, call.record))


@handler("POST", "/studies/{study}/versions/{sha256}/current")
def bring_back(call: Call, study: str, sha256: str) -> Response:
    """200: this version of an instance is the one that stands. Owner only. 400, 404."""
    uid, sha = identifiers.uid(study, "study_instance_uid"), identifiers.sha256(sha256, "sha256")
    return answer(corrections.bring_back(call.archive.table, call.caller, uid, sha, call.now, call.act))


@handler("GET", "/studies/{study}/readings")
def list_readings(call: Call, study: str) -> Response:
    """200 with who of other hospitals opened the caller's own study and its reports, and took note of a correction. 400, 404."""
    uid = identifiers.uid(study, "study_instance_uid")
    return answer(readings.list_readings(call.archive.table, call.caller, uid, call.record))


@handler("GET", "/studies/{study}/withdrawals")
def list_withdrawals(call: Call, study: str) -> Response:
    """200 with the withdrawals of the caller's own study, those that have ended among them. 400, 404."""
    uid = identifiers.uid(study, "study_instance_uid")
    return answer(withdrawals.list_withdrawals(call.archive.table, call.caller, uid, call.record))


@handler("DELETE", "/studies/{study}/withdrawals/{withdrawal}")
def end_withdrawal(call: Call, study: str, withdrawal: str) -> Response:
    """200: what it hid is shown again; again: the same answer. Owner only. 400, 404."""
    uid = identifiers.uid(study, "study_instance_uid")
    return answer(withdrawals.end_withdrawal(call.archive.table, call.caller, uid, withdrawal, call.now, call.act))
