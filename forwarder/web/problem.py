"""Refusals of the DICOMweb service, as the archive words its own (RFC 9457; the contract's *Errors*)."""

from __future__ import annotations

import json
import uuid

from starlette.responses import Response

from forwarder.logs import log
from forwarder.web.identity import RefusedError

TITLES = {
    "no-identity": "Nobody is named in the request.",
    "no-role": "This person does not have the role that this takes.",
    "ambiguous-identity": "The request names a person in more than one way.",
    "unusable-name": "The person's name cannot be written into the audit trail.",
    "invalid-token": "The token is not valid.",
    "token-of-another-client": "The token was issued to another client.",
    "provider-unreachable": "The identity provider cannot be reached.",
    "other-origin": "The request comes from a page of another origin.",
    "bad-host": "The request does not name the host that it is for.",
    "no-such-resource": "There is no such resource.",
    "method-not-allowed": "This method is not allowed here.",
    "bad-query": "The query cannot be read.",
    "address-too-long": "The address is longer than the archive takes.",
    "bad-header": "A header has other characters than those of ASCII (RFC 9110 5.5).",
    "body-too-large": "The body is larger than is taken at once. Store instances as application/dicom, or by C-STORE.",
    "bad-accept": "What is to be answered cannot be read.",
    "bad-multipart": "The body is not whole, or no multipart body.",
    "bad-uid": "The study in the address is not a UID: digits and dots, at most 64 characters.",
    "content-encoding": "Content-Encoding of a request is not taken. Send it as it is.",
    "empty-body": "The body is empty.",
    "not-acceptable": "The answer is application/dicom+json, application/dicom+xml or application/json.",
    "unsupported-media-type": "The body is none that is stored, or has no part that is an instance.",
    "body-too-slow": "The body did not come in time.",
    "busy": "Too many requests are being answered.",
    "archive-unreachable": "The archive cannot be reached, or does not answer as it should.",
}
DETAILS = {
    "no-identity": "Ask by the hospital's proxy or with a session or token of its identity provider.",
    "no-role": "DICOMweb takes the role radiology.",
    "ambiguous-identity": "The headers that name the person and the roles may come once, with one name.",
    "unusable-name": "A name has 1 to 64 printable characters of ASCII.",
    "other-origin": "An origin that may store is named in web.allowed_origins.",
    "bad-host": "Host is a name or address, with a port or without.",
    "no-such-resource": "The resources are those of PS3.18 10 and 13 below /dicomweb.",
    "method-not-allowed": "Allow names the methods that this resource has.",
    "bad-query": "A query has at most 200 parameters.",
    "address-too-long": "Address and headers have some 10 kB at most. Ask for less at once, such as fewer values of a key.",
    "bad-accept": "Accept has at most 64 media ranges; the parameter accept is given once, of DICOM or of what is rendered.",
    "bad-multipart": "A multipart body has its boundary (at most 200 printable ASCII characters) before each part, at most 16 "
    "KiB of headers in each, and ends by it.",
    "unsupported-media-type": 'Send multipart/related; type="application/dicom", or application/dicom.',
    "busy": "Ask again in some seconds.",
    "provider-unreachable": "Ask again in some seconds.",
    "archive-unreachable": "Ask again in some seconds; the forwarder's page says what is wrong.",
}
"""What is told beside the title: what would be taken. A refusal without one has its title here too."""


def problem(status: int, slug: str, **headers: str) -> Response:
    """The answer; 401 says how to bring an identity (RFC 9110 11.6.1). `request_id` stands in the log beside the reason."""
    request_id, title = str(uuid.uuid4()), TITLES.get(slug, slug)
    log.info("DICOMweb refused", request_id=request_id, status=status, reason=slug)
    body = {
        "type": f"urn:contenitore:problem:{slug}", "title": title, "status": status, "detail": DETAILS.get(slug, title),
        "request_id": request_id,
    }  # fmt: skip
    fields = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    if status == 401:
        fields["WWW-Authenticate"] = 'Bearer realm="DICOMweb"'
    return Response(json.dumps(body).encode(), status, fields, "application/problem+json")


def refusal(error: RefusedError) -> Response:
    """The answer to a request that is refused for who asks."""
    return problem(error.status, error.reason, **({"Retry-After": "5"} if error.status == 503 else {}))
