"""What QIDO-RS answers (PS3.18 10.6): a search is read, done within what its caller may see, and written down."""

from __future__ import annotations

from chalice.app import Response

from chalicelib.api.bodies import send
from chalicelib.api.dicomweb_service import Service
from chalicelib.api.responses import answer
from chalicelib.dicomweb import representations
from chalicelib.dicomweb.caching import NO_STORE
from chalicelib.dicomweb.media_types import Selected
from chalicelib.dicomweb.qido import DEFAULT_LIMIT, MAX_LIMIT, SearchScope, parse_query
from chalicelib.dicomweb.search_attributes import Level
from chalicelib.dicomweb.search_results import warning_header
from chalicelib.domain.dicom_json import Attributes
from chalicelib.services.finding.search import search
from chalicelib.services.retrieval.files import xml_body
from chalicelib.services.viewer.search import search_in_scope


def search_for_studies(service: Service) -> Response:
    """200 with matching studies, `[]` or 204 for none. 400, 406."""
    return _search(service, "study", SearchScope())


def search_for_series(service: Service, study: str | None = None) -> Response:
    """200 with matching series, of all studies or of one; `[]` or 204 for none. 400, 404, 406."""
    return _search(service, "series", SearchScope(study))


def search_for_instances(service: Service, study: str | None = None, series: str | None = None) -> Response:
    """200 with matching instances, of all studies, of one, or of a series; `[]` or 204 for none. 400, 404, 406."""
    return _search(service, "instance", SearchScope(study, series))


def _search(service: Service, level: Level, scope: SearchScope) -> Response:
    call, table, reader = service.call, service.archive.table, service.reader
    selected = service.select(representations.SEARCH)
    # A viewer asks for an exam's series once, without a limit, and shows those that come as if there were no others.
    query = parse_query(level, call.query, scope, DEFAULT_LIMIT if reader is None else MAX_LIMIT)
    if reader is None:
        page = search(table, call.caller, query, call.now)
    else:
        page = search_in_scope(table, reader, query, call.now, call.record)
    call.record(*page.entries(call.caller, query, call.query_text))
    response = _in_representation(service, page.results(call.caller, query, service.url, call.now), selected)
    warning = warning_header(service.url, page.warnings)
    if warning is not None:
        response.headers["Warning"] = warning
    return response


def _in_representation(service: Service, results: list[Attributes], selected: Selected) -> Response:
    """Results as JSON, or as XML in multipart, which has no form for none of them (204)."""
    if not selected.offer.multipart:
        return answer(results, 200, selected.offer.media_type)
    if not results:
        return Response(b"", {"Content-Type": representations.XML, **NO_STORE}, 204)
    return send(service.call, xml_body(service.archive.objects, results))
