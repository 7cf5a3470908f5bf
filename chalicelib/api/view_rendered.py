"""Pictures of a reading session: what the page shows of images, below the link's own DICOMweb (PS3.18 10.4.1.1.3, .4)."""

from __future__ import annotations

from chalice.app import Response

from chalicelib.api import dicomweb_rendered as rendered_doors
from chalicelib.api.call import Call
from chalicelib.api.registry import handler
from chalicelib.api.view import for_viewer
from chalicelib.api.view_dicomweb import INSTANCE, ROOT, SERIES, STUDY, asked_by_reader, below
from chalicelib.domain import identifiers


@handler("GET", f"{ROOT}/{STUDY}/thumbnail", public=True)
def link_study_thumbnail(call: Call, reader: str, study: str) -> Response:
    """200 with a small picture that stands for a study. 400, 404, 406, 410."""
    return for_viewer(rendered_doors.thumbnail(asked_by_reader(call, reader, study)))


@handler("GET", f"{ROOT}/{SERIES}/thumbnail", public=True)
def link_series_thumbnail(call: Call, reader: str, study: str, series: str) -> Response:
    """200 with a small picture that stands for a series. 400, 404, 406, 410."""
    return for_viewer(rendered_doors.thumbnail(asked_by_reader(call, reader, study), identifiers.uid(series, "series")))


@handler("GET", f"{ROOT}/{INSTANCE}/thumbnail", public=True)
def link_instance_thumbnail(call: Call, reader: str, study: str, series: str, instance: str) -> Response:
    """200 with a small picture of an instance. 400, 404, 406, 410."""
    return for_viewer(rendered_doors.thumbnail(asked_by_reader(call, reader, study), *below(series, instance)))


@handler("GET", f"{ROOT}/{INSTANCE}/rendered", public=True)
def link_rendered_instance(call: Call, reader: str, study: str, series: str, instance: str) -> Response:
    """200 or 307 with an instance as a picture, a text or a document. 400, 404, 406, 410."""
    return for_viewer(rendered_doors.rendered(asked_by_reader(call, reader, study), *below(series, instance)))


@handler("GET", f"{ROOT}/{INSTANCE}/frames/{{frames}}/rendered", public=True)
def link_rendered_frames(call: Call, reader: str, study: str, series: str, instance: str, frames: str) -> Response:
    """200 or 307 with pictures of frames. 400, 404, 406, 410."""
    return for_viewer(rendered_doors.rendered(asked_by_reader(call, reader, study), *below(series, instance), frames))
