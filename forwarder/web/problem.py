"""Refusals of the DICOMweb service, as the archive words its own (RFC 9457)."""

from __future__ import annotations

import json

from starlette.responses import Response

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
    "bad-header": "A header has other characters than those of ASCII (RFC 9110 5.5).",
    "body-too-large": "The body is larger than is taken at once. Store instances as application/dicom, or by C-STORE.",
    "bad-multipart": "The body is not whole, or no multipart body.",
    "not-acceptable": "The answer is application/dicom+json.",
    "body-too-slow": "The body did not come in time.",
    "busy": "Too many requests are being answered.",
    "archive-unreachable": "The archive cannot be reached, or does not answer as it should.",
}


def problem(status: int, slug: str, **headers: str) -> Response:
    """The answer; 401 says how to bring an identity (RFC 9110 11.6.1)."""
    body = {"type": f"urn:contenitore:problem:{slug}", "title": TITLES.get(slug, slug), "status": status}
    fields = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    if status == 401:
        fields["WWW-Authenticate"] = 'Bearer realm="DICOMweb"'
    return Response(json.dumps(body).encode(), status, fields, "application/problem+json")


def refusal(error: RefusedError) -> Response:
    """The answer to a request that is refused for who asks."""
    return problem(error.status, error.reason, **({"Retry-After": "5"} if error.status == 503 else {}))
