"""DICOMweb of a reading session, below `/view/{reader}/dicomweb`: what the viewer and the page's images fetch by themselves.

`{reader}` is the session's pass. Everything is kept to what the link opens; within that it is the archive's own DICOMweb.
"""

from __future__ import annotations

from typing import TypeAlias
from urllib.parse import quote

from chalice.app import Response

from chalicelib import bootstrap
from chalicelib.api import dicomweb_retrieve as retrieve_doors
from chalicelib.api.call import Call
from chalicelib.api.dicomweb import DICOM_JSON, retrieve_url
from chalicelib.api.dicomweb_retrieve import Asked
from chalicelib.api.registry import handler
from chalicelib.api.responses import answer
from chalicelib.api.view import for_viewer, passing
from chalicelib.dicomweb import wado_uri
from chalicelib.dicomweb.qido import Scope, parse_query
from chalicelib.dicomweb.search_attributes import Level
from chalicelib.dicomweb.search_results import project, with_day_of_change
from chalicelib.domain import audit, identifiers
from chalicelib.domain.audit import Entry, Kind
from chalicelib.domain.errors import NotFound
from chalicelib.services.finding import search
from chalicelib.services.retrieval import bodies
from chalicelib.services.viewer import timeline

Parameters: TypeAlias = list[tuple[str, str]]
ROOT = "/view/{reader}/dicomweb"
STUDY = "studies/{study}"
SERIES = STUDY + "/series/{series}"
INSTANCE = SERIES + "/instances/{instance}"
_STUDY_UID = ("StudyInstanceUID", "0020000D")


@handler("GET", f"{ROOT}/studies", public=True)
def search_link_studies(call: Call, reader: str) -> Response:
    """200 with the matching studies among those that the link opens. 400, 404, 410."""
    return _search(call, reader, "study", Scope())


@handler("GET", f"{ROOT}/{STUDY}/series", public=True)
def search_link_series(call: Call, reader: str, study: str) -> Response:
    """200 with the series of a study. 400, 404, 410."""
    return _search(call, reader, "series", Scope(identifiers.uid(study, "study")))


@handler("GET", f"{ROOT}/{STUDY}/instances", public=True)
def search_link_study_instances(call: Call, reader: str, study: str) -> Response:
    """200 with the instances of a study. 400, 404, 410."""
    return _search(call, reader, "instance", Scope(identifiers.uid(study, "study")))


@handler("GET", f"{ROOT}/{SERIES}/instances", public=True)
def search_link_series_instances(call: Call, reader: str, study: str, series: str) -> Response:
    """200 with the instances of a series. 400, 404, 410."""
    scope = Scope(identifiers.uid(study, "study"), identifiers.uid(series, "series"))
    return _search(call, reader, "instance", scope)


@handler("GET", f"{ROOT}/{STUDY}/metadata", public=True)
def link_study_metadata(call: Call, reader: str, study: str) -> Response:
    """200 or 307 with the metadata of a study's instances (PS3.18 10.4.1.1.2). 304, 400, 404, 406, 410."""
    return for_viewer(retrieve_doors.series_metadata(asked_by_reader(call, reader, study)))


@handler("GET", f"{ROOT}/{SERIES}/metadata", public=True)
def link_series_metadata(call: Call, reader: str, study: str, series: str) -> Response:
    """200 or 307 with the metadata of a series' instances. 304, 400, 404, 406, 410."""
    return for_viewer(retrieve_doors.series_metadata(asked_by_reader(call, reader, study), identifiers.uid(series, "series")))


@handler("GET", f"{ROOT}/{INSTANCE}/metadata", public=True)
def link_instance_metadata(call: Call, reader: str, study: str, series: str, instance: str) -> Response:
    """200 with the metadata of one instance. 304, 400, 404, 406, 410."""
    return for_viewer(retrieve_doors.instance_metadata(asked_by_reader(call, reader, study), *below(series, instance)))


@handler("GET", f"{ROOT}/{INSTANCE}", public=True)
def retrieve_link_instance(call: Call, reader: str, study: str, series: str, instance: str) -> Response:
    """200 or 307 with one instance (PS3.18 10.4.1.1.1). 400, 404, 406, 410."""
    return for_viewer(retrieve_doors.files(asked_by_reader(call, reader, study), *below(series, instance)))


@handler("GET", f"{ROOT}/{INSTANCE}/frames/{{frames}}", public=True)
def retrieve_link_frames(call: Call, reader: str, study: str, series: str, instance: str, frames: str) -> Response:
    """200 or 307 with frames (PS3.18 10.4.1.1.6). 400, 404, 406, 410, 413."""
    return for_viewer(retrieve_doors.frame_list(asked_by_reader(call, reader, study), *below(series, instance), frames))


@handler("GET", f"{ROOT}/{INSTANCE}/bulkdata/{{bulkdata}}", public=True)
def retrieve_link_bulkdata(call: Call, reader: str, study: str, series: str, instance: str, bulkdata: str) -> Response:
    """200 or 307 with the value of one attribute (PS3.18 10.4.1.1.5). 400, 404, 406, 410, 413."""
    return for_viewer(retrieve_doors.bulk(asked_by_reader(call, reader, study), *below(series, instance), bulkdata))


@handler("GET", "/view/{reader}/wado", public=True)
def link_wado_uri(call: Call, reader: str) -> Response:
    """307 to the instance's bytes (PS3.18 9). 400, 404, 406, 410."""
    wanted = wado_uri.parse_wado_uri(call.query)
    return for_viewer(retrieve_doors.by_uri(asked_by_reader(call, reader, wanted.study_instance_uid, wanted.owner), wanted))


def asked_by_reader(call: Call, pass_: str, study: str, owner: str | None = None) -> Asked:
    """What a reader asks for, in the link's scope and allowed on facts at this moment. Raises BadRequest, NotFound, Gone."""
    who, uid = passing(call, pass_), identifiers.uid(study, "study")
    meant = timeline.require_in_scope(bootstrap.table(), who, uid, owner or call.parameter("owner"))
    opened = bodies.open_study(bootstrap.table(), who.caller, uid, meant, call.now)
    return Asked(call, _service(call, pass_), opened, secret=True, shown=True)


def below(series: str, instance: str) -> tuple[str, str]:
    """A series and an instance from the path. Raises BadRequest."""
    return identifiers.uid(series, "series"), identifiers.uid(instance, "instance")


def _service(call: Call, pass_: str) -> str:
    return f"{call.base_url}/view/{quote(pass_)}/dicomweb"


def _search(call: Call, pass_: str, level: Level, scope: Scope) -> Response:
    """QIDO-RS within the link: a study in the path must be one that it opens, and a search is narrowed to those."""
    table, reader = bootstrap.table(), passing(call, pass_)
    if scope.study_instance_uid is not None:
        meant = {(scope.study_instance_uid, timeline.require_in_scope(table, reader, scope.study_instance_uid, None))}
        narrowed: Parameters | None = call.query
    else:
        shown = timeline.shown_timeline(table, reader, call.now, call.record)
        meant = {(study["study_instance_uid"], study["owner"]) for study in shown["studies"]}
        narrowed = _narrowed(call.query, {uid for uid, _ in meant})
    if narrowed is None:
        call.record(Entry(Kind.QUERY, text=call.query_text, count=0))
        return for_viewer(answer([], 200, DICOM_JSON))
    query = parse_query(level, narrowed, scope)
    found = search.search(table, reader.caller, query, call.now)
    service = _service(call, pass_)
    results = []
    for match in found.matches:
        if (match.study, match.owner) not in meant:
            continue
        result = with_day_of_change(project(query, match.attributes), call.now)
        result["00081190"] = {"vr": "UR", "Value": [retrieve_url(service, match, reader.viewer)]}
        results.append(dict(sorted(result.items())))
    if scope.study_instance_uid is not None and not results:
        raise NotFound
    call.record(Entry(Kind.QUERY, text=call.query_text, count=len(results)))
    for entry in audit.disclosures(reader.viewer, [match.seen for match in found.matches if (match.study, match.owner) in meant]):
        call.record(entry)
    return for_viewer(answer(results, 200, DICOM_JSON))


def _narrowed(params: Parameters, opened: set[str]) -> Parameters | None:
    """The search with the link's own studies as its StudyInstanceUID key, or None when it names none of them."""
    named = [value for name, value in params if name in _STUDY_UID]
    wanted = {uid for value in named for uid in value.replace("\\", ",").split(",")} & opened if named else opened
    if not wanted:
        return None
    return [(name, value) for name, value in params if name not in _STUDY_UID] + [("StudyInstanceUID", ",".join(sorted(wanted)))]
