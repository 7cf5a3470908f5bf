"""The event in which API Gateway (REST) hands a request to a Lambda function, field by field.

After "Lambda proxy integrations in API Gateway", "Amazon API Gateway important notes" and "Quotas": what differs from them
is listed in docs/local-city.md.
"""

from __future__ import annotations

import base64
import hashlib
import time
from typing import Any
from urllib.parse import unquote_plus

from local.emulation.moto_patches import ACCOUNT
from local.iam.identities import RoleSession
from local.web.wsgi import HttpRequest

STAGE = "api"
MAX_HEADER_BYTES = 10_240
"""Request line and values of header fields together."""
_UNSUPPORTED = "|{}"
"""What a query may hold percent-encoded only."""
_GATEWAYS = ("x-forwarded-for", "x-forwarded-port", "x-forwarded-proto", "x-amzn-trace-id")
_IDENTITY = (
    "accessKey", "accountId", "caller", "cognitoAuthenticationProvider", "cognitoAuthenticationType", "cognitoIdentityId",
    "cognitoIdentityPoolId", "principalOrgId", "user", "userArn",
)  # fmt: skip


def header_bytes(request: HttpRequest) -> int:
    """What counts against MAX_HEADER_BYTES."""
    line = len(request.method) + len(request.raw_path) + len(request.query) + len("  HTTP/1.1")
    return line + sum(len(value) for _, value in request.fields)


def is_supported(query: str) -> bool:
    """Whether a query has none of the characters that have to be percent-encoded."""
    return not any(character in query for character in _UNSUPPORTED)


def parsed(query: str) -> dict[str, list[str]]:
    """Names and values of a query, decoded; a semicolon separates too, and the order of names is not kept."""
    found: dict[str, list[str]] = {}
    for part in query.replace(";", "&").split("&"):
        if part:
            name, _, value = part.partition("=")
            found.setdefault(unquote_plus(name), []).append(unquote_plus(value))
    return dict(reversed(found.items()))


def proxy_event(
    request: HttpRequest,
    id_: str,
    raw_path: str,
    resource: str,
    parameters: dict[str, str],
    identity: RoleSession | None,
    body: bytes,
    binary: bool,
    api_id: str,
) -> dict[str, Any]:
    """The event. `raw_path` is the path below the stage, `parameters` are its parts as they were sent."""
    headers: dict[str, list[str]] = {}
    kept = [(name, value) for name, value in request.fields if name.lower() not in _GATEWAYS]
    for name, value in [*kept, *_added(request, id_)]:
        headers.setdefault(name, []).append(value)
    query = parsed(request.query)
    content = base64.b64encode(body).decode() if binary else body.decode("utf-8", "replace")
    return {
        "resource": resource,
        "path": raw_path,
        "httpMethod": request.method,
        "headers": {name: values[-1] for name, values in headers.items()},
        "multiValueHeaders": headers,
        "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
        "multiValueQueryStringParameters": query or None,
        "pathParameters": parameters or None,
        "stageVariables": None,
        "requestContext": _context(request, id_, resource, identity, api_id),
        "body": content if body else None,
        "isBase64Encoded": bool(body) and binary,
    }


def _added(request: HttpRequest, id_: str) -> list[tuple[str, str]]:
    """What the gateway adds, and takes from nobody else."""
    came_by = [value for name, value in request.fields if name.lower() == "x-forwarded-for"]
    return [
        ("X-Forwarded-For", ", ".join([*came_by, request.address])),
        ("X-Forwarded-Port", request.headers.get("host", "").partition(":")[2] or "80"),
        ("X-Forwarded-Proto", "http"),
        ("X-Amzn-Trace-Id", f"Root=1-{int(time.time()):08x}-{id_.replace('-', '')[:24]}"),
    ]


def _context(request: HttpRequest, id_: str, resource: str, identity: RoleSession | None, api_id: str) -> dict[str, Any]:
    now, host = time.time(), request.headers.get("host", "")
    who: dict[str, str | None] = dict.fromkeys(_IDENTITY)
    if identity is not None:
        who |= {
            "accessKey": identity.access_key,
            "accountId": identity.account,
            "caller": identity.user_id,
            "user": identity.user_id,
            "userArn": identity.arn,
        }
    return {
        "resourceId": hashlib.sha256(resource.encode()).hexdigest()[:6],
        "resourcePath": resource,
        "httpMethod": request.method,
        "extendedRequestId": base64.b64encode(id_.encode()[:11]).decode(),
        "requestTime": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
        "path": request.raw_path,
        "accountId": ACCOUNT,
        "protocol": "HTTP/1.1",
        "stage": STAGE,
        "domainPrefix": host.split(".")[0],
        "requestTimeEpoch": int(now * 1000),
        "requestId": id_,
        "identity": {**who, "sourceIp": request.address, "userAgent": request.headers.get("user-agent")},
        "domainName": host,
        "deploymentId": "local0",
        "apiId": api_id,
    }
