"""The emulated S3: signature, bucket policy, then the streamed data path or the emulator; CORS on every
answer."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote_to_bytes
from xml.sax.saxutils import unescape

from moto.s3.models import FakeBucket, s3_backends

from local.emulation.moto_patches import ACCOUNT
from local.emulation.objects import save_versions
from local.iam import policy
from local.iam.identities import Identities, RoleSession
from local.iam.permissions import Permissions
from local.iam.sigv4 import query_pairs
from local.s3 import actions, data
from local.s3.authentication import S3Refusal, authenticate
from local.s3.download import get_object
from local.s3.upload import put_object
from local.state import State
from local.web.wsgi import Application, HttpRequest, StartResponse, request_id, respond, xml_error

_CONDITION_HEADERS = (
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "if-none-match",
    "if-match",
)


class S3Door:
    """WSGI application for every S3 request.

    `emulator` answers what is not a plain object request; `policies` are the bucket policies by bucket name, `now` is
    the clock.
    """

    def __init__(
        self,
        emulator: Application,
        state: State,
        identities: Identities,
        permissions: Permissions,
        policies: dict[str, policy.Document],
        now: Callable[[], datetime.datetime],
    ) -> None:
        self._emulator, self._state, self._identities = emulator, state, identities
        self._permissions, self._policies, self._now = permissions, policies, now

    def __call__(self, request: HttpRequest, start_response: StartResponse) -> Iterable[bytes]:
        bucket_name, _, raw_key = request.raw_path.lstrip("/").partition("/")
        key = unquote_to_bytes(raw_key).decode("utf-8", "surrogateescape")
        bucket = s3_backends[ACCOUNT]["aws"].buckets.get(bucket_name)
        cors = _cors_headers(bucket, request)
        base = [("x-amz-request-id", request_id())]
        if request.method == "OPTIONS":
            return _preflight(request, cors, base, start_response)
        try:
            status, headers, body = self._answer(request, bucket_name, key)
        except S3Refusal as error:
            status, headers = error.status, [("Content-Type", "application/xml")]
            body = [] if request.method == "HEAD" else [xml_error(error.code, error.message, **error.more)]
        names = {name.lower() for name, _ in headers}
        headers = headers + base + [pair for pair in cors if pair[0].lower() not in names]
        if isinstance(body, list) and request.method != "HEAD":
            return respond(start_response, status, headers, b"".join(body))
        start_response(f"{status} {'OK' if status < 300 else 'Error'}", headers)
        return body

    def _answer(self, request: HttpRequest, bucket_name: str, key: str) -> data.Answer:
        identity, age = authenticate(request, self._identities, self._now())
        self._authorize(identity, request, bucket_name, key, age)
        if not data.is_data_request(request, key):
            return self._emulated(request, bucket_name, key)
        bucket = data.bucket_named(bucket_name)
        if request.method == "PUT":
            return put_object(request, bucket, key, self._state)
        try:
            return get_object(request, bucket, key)
        except S3Refusal as error:
            if error.code == "NoSuchKey" and not self._may_list(identity, bucket_name, key):
                raise S3Refusal(403, "AccessDenied", "Access Denied") from error
            raise

    def _may_list(self, identity: RoleSession, bucket: str, key: str) -> bool:
        """Who may not list a bucket is not told that something is absent (S3 API reference, "GetObject")."""
        context = {"s3:prefix": key}
        return self._permissions.may(identity, [("s3:ListBucket", f"arn:aws:s3:::{bucket}")], context) is None

    def _authorize(self, identity: RoleSession, request: HttpRequest, bucket_name: str, key: str, age: float) -> None:
        """What the identity's policies do not allow, or the bucket's policy denies, is refused."""
        needs = actions.needs(request, bucket_name, key)
        context = _context(request, age) | {"aws:principalarn": identity.role_arn}
        missing, reason = self._permissions.may(identity, needs, context), ""
        document = self._policies.get(bucket_name)
        if missing is None and document is not None:
            denied = (need for need in needs if policy.decide([document], *need, context) == "deny")
            missing, reason = next(denied, None), " with an explicit deny in a resource-based policy"
        if missing is not None:
            action, resource = missing
            raise S3Refusal(
                403,
                "AccessDenied",
                f'User: {identity.arn} is not authorized to perform: {action} on resource: "{resource}"{reason}',
            )

    def _emulated(self, request: HttpRequest, bucket_name: str, key: str) -> data.Answer:
        """Let the emulator answer, and write into the state what it changed."""
        mutating = request.method in ("PUT", "POST", "DELETE")
        environ = request.environ
        names = [key] if key else []
        if mutating and not key and request.query.split("&")[0].split("=")[0] == "delete":
            names = _deleted_names(environ, request)
        captured: list[Any] = []

        def start(status: str, headers: list[tuple[str, str]], _error: Any = None) -> None:
            captured[:] = [int(status.split()[0]), headers]

        if not mutating:
            body = b"".join(self._emulator(environ, start))
        else:
            with self._state.lock:
                body = b"".join(self._emulator(environ, start))
                bucket = s3_backends[ACCOUNT]["aws"].buckets.get(bucket_name)
                if bucket is not None and names:
                    save_versions(self._state, bucket, names)
        return captured[0], captured[1], [body]


def _deleted_names(environ: dict[str, Any], request: HttpRequest) -> list[str]:
    import io

    body = request.body.read(request.length)
    environ["wsgi.input"] = io.BytesIO(body)
    return [unescape(name) for name in re.findall(r"<Key>([^<]*)</Key>", body.decode("utf-8", "replace"))]


def _context(request: HttpRequest, age: float) -> dict[str, str]:
    """The condition keys of this request. The local city speaks plain HTTP to itself, and counts as TLS
    1.3."""
    context = {
        "aws:securetransport": "true",
        "s3:tlsversion": "1.3",
        "s3:signatureage": str(int(age * 1000)),
        "s3:objectcreationoperation": str("uploadId" not in request.query).lower(),
    }
    parameters = dict(query_pairs(request.query))
    if "prefix" in parameters:
        context["s3:prefix"] = parameters["prefix"]
    for name in _CONDITION_HEADERS:
        if name in request.headers:
            context[f"s3:{name}"] = request.headers[name]
    return context


# CORS ------------------------------------------------------------------------------------------------


def _rule(bucket: FakeBucket, origin: str, method: str, asked: list[str]) -> Any:
    for rule in bucket.cors if bucket is not None else []:
        allowed = [name.lower() for name in _strings(rule.allowed_headers)]
        if (
            method in _strings(rule.allowed_methods)
            and any(_wild(pattern, origin) for pattern in _strings(rule.allowed_origins))
            and all(any(_wild(pattern, name.lower()) for pattern in allowed) for name in asked)
        ):
            return rule
    return None


def _cors_headers(bucket: FakeBucket, request: HttpRequest) -> list[tuple[str, str]]:
    origin = request.headers.get("origin")
    if origin is None:
        return []
    preflight = request.method == "OPTIONS"
    method = request.headers.get("access-control-request-method", "") if preflight else request.method
    asked = request.headers.get("access-control-request-headers", "") if preflight else ""
    rule = _rule(bucket, origin, method, [name.strip() for name in asked.split(",") if name.strip()])
    if rule is None:
        return []
    everyone = "*" in _strings(rule.allowed_origins)
    headers = [
        ("Access-Control-Allow-Origin", "*" if everyone else origin),
        ("Access-Control-Allow-Methods", ", ".join(_strings(rule.allowed_methods))),
        ("Vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"),
    ]
    if not everyone:
        headers.append(("Access-Control-Allow-Credentials", "true"))
    if exposed := _strings(rule.exposed_headers):
        headers.append(("Access-Control-Expose-Headers", ", ".join(exposed)))
    if preflight and asked:
        headers.append(("Access-Control-Allow-Headers", asked.lower()))
    if preflight and rule.max_age_seconds:
        headers.append(("Access-Control-Max-Age", str(rule.max_age_seconds)))
    return headers


def _preflight(
    request: HttpRequest, cors: list[tuple[str, str]], base: list[tuple[str, str]], start_response: StartResponse
) -> Iterable[bytes]:
    if "origin" not in request.headers or "access-control-request-method" not in request.headers:
        message = "Insufficient information. Origin request header needed."
        return respond(
            start_response,
            400,
            [*base, ("Content-Type", "application/xml")],
            xml_error("BadRequest", message),
        )
    if not cors:
        message = (
            "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, "
            "request method / Access-Control-Request-Method or Access-Control-Request-Headers are not "
            "whitelisted by the resource's CORS spec."
        )
        return respond(
            start_response,
            403,
            [*base, ("Content-Type", "application/xml")],
            xml_error("AccessForbidden", message),
        )
    return respond(start_response, 200, [*base, *cors])


def _strings(value: Any) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _wild(pattern: str, value: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), value) is not None
