"""Bodies that services make, as answers: what fits is sent, what lies in the bucket is referred to."""

from __future__ import annotations

from chalice.app import Response

from chalicelib.api.call import Call
from chalicelib.dicomweb.caching import NO_STORE
from chalicelib.services.retrieval.bodies import Body, Elsewhere
from chalicelib.services.retrieval.manifest import GET_SECONDS

_ACTIVE = frozenset({"text/html", "text/xml"})
"""Media types that a browser may find scripts in."""


def send(call: Call, body: Body) -> Response:
    """200 with the body, or 307 to a presigned address that answers with the right media type, and serves HEAD where asked."""
    if not isinstance(body, Elsewhere):
        return Response(body.content, {"Content-Type": body.content_type, **NO_STORE, **dict(body.headers)}, 200)
    objects = call.archive.objects
    presign = objects.presign_head if call.request.method == "HEAD" else objects.presign_get
    fields = {"cache_control": "no-store", **dict(body.overrides)}  # a film must not outlive the session on somebody's disk
    if body.content_type.partition(";")[0] in _ACTIVE:
        fields = {"content_disposition": "attachment", **fields}  # what comes from S3 has no policy that makes it inert
    url = presign(body.key, GET_SECONDS, content_type=body.content_type, **fields)
    return Response(b"", {"Location": url, "Content-Type": body.content_type, **NO_STORE}, 307)
