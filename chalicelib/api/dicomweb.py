"""Handlers of what DICOMweb lets those read who sign, one for each row of `dicomweb_resources`."""

from __future__ import annotations

from chalice.app import Response

from chalicelib.api.call import Call
from chalicelib.api.dicomweb_resources import RESOURCES, SERVICE, DicomwebResource
from chalicelib.api.dicomweb_service import Service
from chalicelib.api.registry import Handler, handler
from chalicelib.domain import identifiers

_UIDS = frozenset({"study", "series", "instance"})


def checked(parameters: dict[str, str]) -> dict[str, str]:
    """What a path's placeholders stand for. Raises BadRequest for what is no UID where one must be."""
    return {name: identifiers.uid(value, name) if name in _UIDS else value for name, value in parameters.items()}


def _handler(resource: DicomwebResource) -> Handler:
    def handle(call: Call, **parameters: str) -> Response:
        response: Response = resource.load()(Service(call, call.base_url + SERVICE), **checked(parameters))
        return response

    return handle


for resource in RESOURCES:
    handler("GET", resource.signed_path, head=True)(_handler(resource))
