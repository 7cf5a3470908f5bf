"""Handlers of a reading session's DICOMweb, below `/view/{reader}/dicomweb`: what the viewer and the page's images fetch.

`{reader}` is the session's pass. Everything is kept to what the link opens; within that it is the archive's own DICOMweb, one
handler for each row of `dicomweb_resources` that a session has. 404 and 410 where the session opens nothing (any more).
"""

from __future__ import annotations

from urllib.parse import quote

from chalice.app import Response

from chalicelib.api.call import Call
from chalicelib.api.dicomweb import checked
from chalicelib.api.dicomweb_resources import RESOURCES, SERVICE, DicomwebResource
from chalicelib.api.dicomweb_service import Service
from chalicelib.api.registry import Handler, handler
from chalicelib.api.view import for_viewer, passing


def _handler(resource: DicomwebResource) -> Handler:
    def handle(call: Call, reader: str, **parameters: str) -> Response:
        service = Service(call, f"{call.base_url}/view/{quote(reader)}{SERVICE}", passing(call, reader))
        return for_viewer(call, resource.load()(service, **checked(parameters)))

    return handle


for resource in RESOURCES:
    if resource.in_session:
        handler("GET", resource.session_path, public=True)(_handler(resource))
