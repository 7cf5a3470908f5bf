"""Handlers of DICOMweb (PS3.18)."""

from __future__ import annotations

from typing import Any

from chalice.app import Response

from chalicelib import bootstrap
from chalicelib.api.bodies import send
from chalicelib.api.call import Call
from chalicelib.api.registry import handler
from chalicelib.api.responses import answer
from chalicelib.dicomweb import representations
from chalicelib.dicomweb.caching import NO_STORE
from chalicelib.dicomweb.media_types import Selected, negotiate
from chalicelib.dicomweb.qido import Scope, parse_query
from chalicelib.dicomweb.search_attributes import Level
from chalicelib.dicomweb.search_results import project, warning_header, with_day_of_change
from chalicelib.domain import audit, identifiers
from chalicelib.domain.audit import Entry, Kind
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.services.finding.search import Match, search
from chalicelib.services.retrieval.files import xml_body

DICOM_JSON = "application/dicom+json"


@handler("GET", "/dicomweb/studies", head=True)
def search_for_studies(call: Call) -> Response:
    """200 with matching studies, `[]` for none (PS3.18 10.6). 400."""
    return _search(call, "study", Scope())


@handler("GET", "/dicomweb/series", head=True)
def search_for_all_series(call: Call) -> Response:
    """200 with matching series of all studies. 400."""
    return _search(call, "series", Scope())


@handler("GET", "/dicomweb/instances", head=True)
def search_for_all_instances(call: Call) -> Response:
    """200 with matching instances of all studies. 400."""
    return _search(call, "instance", Scope())


@handler("GET", "/dicomweb/studies/{study}/series", head=True)
def search_for_series(call: Call, study: str) -> Response:
    """200 with matching series of one study. 400, 404."""
    return _search(call, "series", Scope(identifiers.uid(study, "study")))


@handler("GET", "/dicomweb/studies/{study}/instances", head=True)
def search_for_study_instances(call: Call, study: str) -> Response:
    """200 with matching instances of one study. 400, 404."""
    return _search(call, "instance", Scope(identifiers.uid(study, "study")))


@handler("GET", "/dicomweb/studies/{study}/series/{series}/instances", head=True)
def search_for_series_instances(call: Call, study: str, series: str) -> Response:
    """200 with matching instances of one series. 400, 404."""
    return _search(call, "instance", Scope(identifiers.uid(study, "study"), identifiers.uid(series, "series")))


def _search(call: Call, level: Level, scope: Scope) -> Response:
    service = f"{call.base_url}/dicomweb"
    caller = call.caller
    selected = negotiate(representations.SEARCH, call.request.headers.get("accept"), call.parameter("accept"))
    query = parse_query(level, call.query, scope)
    found = search(bootstrap.table(), caller, query, call.now)
    call.record(
        *audit.disclosures(caller.member.id, (match.seen for match in found.matches)), _query_entry(call, len(found.matches))
    )
    results = []
    for match in found.matches:
        result = with_day_of_change(project(query, match.attributes), call.now)
        owner = caller.registry.members.get(match.owner)
        result["00080080"] = {"vr": "LO", "Value": [owner.name if owner else match.owner]}
        result["00081190"] = {"vr": "UR", "Value": [retrieve_url(service, match, caller.member.id)]}
        results.append(dict(sorted(result.items())))
    warning = warning_header(service, found.warnings)
    response = _in_representation(call, results, selected)
    return (
        response if warning is None else Response(response.body, {**response.headers, "Warning": warning}, response.status_code)
    )


def _in_representation(call: Call, results: list[dict[str, Any]], selected: Selected) -> Response:
    """Results as JSON, or as XML in multipart, which has no form for none of them (204)."""
    if not selected.offer.multipart:
        return answer(results, 200, selected.offer.media_type)
    if not results:
        return Response(b"", {"Content-Type": representations.XML, **NO_STORE}, 204)
    return send(call, xml_body(bootstrap.objects(), results))


def _query_entry(call: Call, results: int) -> Entry:
    """The search itself; of one patient where it names a PatientID, the caller's own where it names no issuer."""
    values = {name: value for name, value in call.query if value and not set(value) & set("*?\\,")}
    number = values.get("00100020") or values.get("PatientID")
    own = call.caller.member
    issuer = values.get("00100021") or values.get("IssuerOfPatientID") or own.patient_id_issuer
    patients = (PatientIdentifier(issuer, number),) if number else ()
    owner = own.id if number and call.caller.registry.by_issuer(issuer) == own else None
    return Entry(Kind.QUERY, owner, patients, text=call.query_text, count=results)


def retrieve_url(service: str, match: Match, viewer: str) -> str:
    """Where the entity is retrieved; `?owner=` tells another institution's from the caller's own."""
    url = f"{service}/studies/{match.study}"
    if match.series is not None:
        url += f"/series/{match.series}"
    if match.sop is not None:
        url += f"/instances/{match.sop}"
    return url if match.owner == viewer else f"{url}?owner={match.owner}"
