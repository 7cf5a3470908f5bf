"""API Gateway (REST, Lambda proxy) around the Chalice app: signatures, routes, limits, and the event's exact
form.

Answers are those of the real one ("Amazon API Gateway quotas", "Gateway response types", "Working with binary
media types for REST APIs"). A route is public only if the app declares no authorizer for it.
"""

from __future__ import annotations

import base64
import concurrent.futures
import datetime
import hashlib
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from infra import throttles
from local.api_gateway.answers import GatewayRefusal, TokenBucket, gateway_response, too_large_request
from local.api_gateway.proxy_event import MAX_HEADER_BYTES, STAGE, header_bytes, is_supported, proxy_event
from local.emulation.moto_patches import ACCOUNT, REGION
from local.iam import sigv4
from local.iam.identities import Identities, RoleSession
from local.lambda_runtime.functions import Function, PayloadTooLarge
from local.web.wsgi import HttpRequest, StartResponse, read_request, request_id, respond

MAX_BODY_BYTES = 10 * 1024**2
MAX_SKEW = datetime.timedelta(minutes=5)
INTEGRATION_TIMEOUT = 29.0

_log = logging.getLogger("city.gateway")


class Gateway:
    """WSGI application on the API's port.

    `app` is the Chalice app, `function` what Lambda would run. `base_path` is "" as under a custom domain, or
    "/api" as under the stage address. `may_invoke(identity, arn)` decides `execute-api:Invoke`, of None where none is asked for.
    `on_success(method, path, answer)` hears of every answered request below 300.
    """

    def __init__(
        self,
        app: Any,
        function: Function,
        identities: Identities,
        may_invoke: Callable[[RoleSession | None, str], bool],
        api_id: str,
        base_path: str = "",
        on_success: Callable[[str, str, bytes], None] | None = None,
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
        timeout: float = INTEGRATION_TIMEOUT,
        threads: int = 64,
    ) -> None:
        self._app, self._function, self._identities = app, function, identities
        self._may_invoke, self._api_id, self._base_path = may_invoke, api_id, base_path
        self._on_success, self._now, self._timeout = on_success, now, timeout
        self._binary = [name.lower() for name in app.api.binary_types]
        self._routes = _Routes(app.routes)
        self._buckets: dict[tuple[str, str], TokenBucket] = {}
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="function")

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        request, id_ = read_request(environ), request_id()
        try:
            status, headers, body = self._answer(request, id_)
        except GatewayRefusal as error:
            status, headers, body = gateway_response(error, id_)
        if request.method == "HEAD":
            length = str(len(body))
            headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
            start_response(f"{status} Answer", [*headers, ("Content-Length", length), ("x-amzn-RequestId", id_)])
            return []
        return respond(start_response, status, [*headers, ("x-amzn-RequestId", id_)], body)

    def _answer(self, request: HttpRequest, id_: str) -> tuple[int, list[tuple[str, str]], bytes]:
        if request.length > MAX_BODY_BYTES or header_bytes(request) > MAX_HEADER_BYTES:
            raise too_large_request()
        if not is_supported(request.query):
            raise GatewayRefusal(400, "BadRequestException", "Bad Request")
        raw_path = self._below_base(request.raw_path)
        match = None if raw_path is None else self._routes.match(request.method, raw_path)
        if match is None and raw_path is not None and request.method == "OPTIONS":
            return self._preflight(raw_path)
        if raw_path is None or match is None:
            raise GatewayRefusal(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
        resource, parameters, route = match
        if route.authorizer is None:
            self._throttle(request.method, resource)
        body = request.body.read(request.length)
        identity = self._authenticate(request, body) if route.authorizer is not None else None
        self._authorize(identity, request.method, raw_path)
        binary = self._is_binary(request.headers.get("content-type", "application/json"))
        event = proxy_event(request, id_, raw_path, resource, parameters, identity, body, binary, self._api_id)
        status, headers, content = self._unwrap(self._invoke(event), request)
        if status < 300 and self._on_success is not None:
            self._on_success(request.method, raw_path, content)
        return status, headers, content

    def _authorize(self, identity: RoleSession | None, method: str, raw_path: str) -> None:
        arn = f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{self._api_id}/{STAGE}/{method}{raw_path}"
        if not self._may_invoke(identity, arn):
            raise GatewayRefusal(
                403,
                "AccessDeniedException",
                f"User: {'anonymous' if identity is None else identity.arn} is not authorized to perform: execute-api:Invoke "
                f"on resource: {arn.replace(ACCOUNT, '********' + ACCOUNT[-4:])}",
            )

    def _throttle(self, method: str, resource: str) -> None:
        """Limits of what needs no signature; those of all routes and of the account are above what one machine can do."""
        bucket = self._buckets.setdefault((method, resource), TokenBucket(*throttles.limit(resource)))
        if not bucket.take(time.monotonic()):
            raise GatewayRefusal(429, "TooManyRequestsException", "Too Many Requests")

    def _preflight(self, raw_path: str) -> tuple[int, list[tuple[str, str]], bytes]:
        """What the mock integration answers that Chalice puts on every resource with CORS (its packager's template)."""
        methods = self._routes.methods(raw_path)
        cors = next((route.cors for route in methods.values() if route.cors is not None), None)
        if cors is None:
            raise GatewayRefusal(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
        self._authorize(None, "OPTIONS", raw_path)
        headers = [(str(name), str(value)) for name, value in cors.get_access_control_headers().items()]
        allowed = ",".join(sorted({*methods, "OPTIONS"}))
        return 200, [*headers, ("Access-Control-Allow-Methods", allowed), ("Content-Type", "application/json")], b""

    def _below_base(self, raw_path: str) -> str | None:
        if not self._base_path:
            return raw_path
        if raw_path == self._base_path or raw_path.startswith(self._base_path + "/"):
            return raw_path[len(self._base_path) :] or "/"
        return None

    def _authenticate(self, request: HttpRequest, body: bytes) -> RoleSession:
        header = request.headers.get("authorization")
        if header is None:
            raise GatewayRefusal(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
        try:
            signature = sigv4.parse_authorization(header, request.headers.get("x-amz-date", ""))
            signed_at = signature.time
        except (sigv4.Malformed, ValueError) as error:
            raise GatewayRefusal(403, "IncompleteSignatureException", f"{error}") from error
        scope = signature.scope
        if scope.service != "execute-api" or scope.region != REGION or not signature.timestamp.startswith(scope.day):
            raise GatewayRefusal(
                403,
                "InvalidSignatureException",
                f"Credential should be scoped to a valid region and to correct "
                f"service: '{REGION}', 'execute-api', and to the date of the request.",
            )
        identity = self._identities.find(scope.access_key)
        if identity is None or request.headers.get("x-amz-security-token") != identity.token:
            raise GatewayRefusal(403, "UnrecognizedClientException", "The security token included in the request is invalid.")
        if identity.expired:
            raise GatewayRefusal(403, "ExpiredTokenException", "The security token included in the request is expired")
        now = self._now()
        if abs(now - signed_at) > MAX_SKEW:
            late = signed_at < now
            raise GatewayRefusal(
                403,
                "InvalidSignatureException",
                f"Signature {'expired' if late else 'not yet current'}: "
                f"{signature.timestamp} is {'now earlier' if late else 'still later'} than "
                f"{now - MAX_SKEW if late else now + MAX_SKEW:%Y%m%dT%H%M%SZ} ({now:%Y%m%dT%H%M%SZ} "
                f"{'-' if late else '+'} 5 min.)",
            )
        self._compare(request, signature, identity, body)
        return identity

    def _compare(self, request: HttpRequest, signature: sigv4.Signature, identity: RoleSession, body: bytes) -> None:
        """The payload is always hashed: API Gateway knows no unsigned payload."""
        if "host" not in signature.signed_headers:
            raise GatewayRefusal(
                403,
                "IncompleteSignatureException",
                "'Host' must be a 'SignedHeader' in the AWS Authorization.",
            )
        try:
            canonical = sigv4.canonical_requests(
                request.method,
                request.raw_path,
                request.query,
                request.headers,
                signature,
                hashlib.sha256(body).hexdigest(),
            )
        except KeyError:
            canonical = []
        declared = request.headers.get("x-amz-content-sha256")
        honest = declared is None or declared == hashlib.sha256(body).hexdigest()
        if not honest or not canonical or not sigv4.matches(signature, identity.secret, canonical):
            shown = canonical[0] if canonical else ""
            raise GatewayRefusal(
                403,
                "InvalidSignatureException",
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
                "Access Key and signing method. Consult the service documentation for details.\n\nThe Canonical String "
                f"for this request should have been\n'{shown}'\n\nThe String-to-Sign should have been\n"
                f"'{sigv4.string_to_sign(signature, shown)}'\n",
            )

    def _invoke(self, event: dict[str, Any]) -> Any:
        future = self._pool.submit(self._function.invoke, event)
        try:
            return future.result(self._timeout)
        except concurrent.futures.TimeoutError as error:
            if future.done():
                raise
            raise GatewayRefusal(504, "InternalServerErrorException", "Endpoint request timed out") from error
        except PayloadTooLarge as error:
            _log.error("%s %s: %s", event["httpMethod"], event["resource"], error)
            if error.part == "event":
                raise too_large_request() from error
            raise GatewayRefusal(502, "InternalServerErrorException", "Internal server error") from error
        except Exception as error:
            _log.exception("%s %s failed", event["httpMethod"], event["resource"])
            raise GatewayRefusal(502, "InternalServerErrorException", "Internal server error") from error

    def _unwrap(self, answer: Any, request: HttpRequest) -> tuple[int, list[tuple[str, str]], bytes]:
        """A Lambda proxy answer as HTTP; a malformed one is 502, as in AWS."""
        try:
            status = int(answer["statusCode"])
            text = answer.get("body")
            headers = [(str(name), str(value)) for name, value in (answer.get("headers") or {}).items()]
            for name, values in (answer.get("multiValueHeaders") or {}).items():
                headers = [pair for pair in headers if pair[0].lower() != name.lower()]
                headers += [(str(name), str(value)) for value in values]
            body = b"" if text is None else text.encode()
            if answer.get("isBase64Encoded") and self._is_binary(request.headers.get("accept", "").split(",")[0]):
                body = base64.b64decode(text, validate=True)
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            _log.error("malformed Lambda proxy response: %s", type(error).__name__)
            raise GatewayRefusal(502, "InternalServerErrorException", "Internal server error") from error
        if not any(name.lower() == "content-type" for name, _ in headers):
            headers.append(("Content-Type", "application/json"))
        return (
            status,
            [(f"x-amzn-Remapped-{name}" if name.lower() in _REMAPPED else name, value) for name, value in headers],
            body,
        )

    def _is_binary(self, media_type: str) -> bool:
        name = media_type.split(";")[0].strip().lower()
        kind = name.split("/")[0]
        return any(known in (name, "*/*", f"{kind}/*") for known in self._binary)


_REMAPPED = {
    "age", "authorization", "connection", "content-length", "content-md5", "date", "expect", "host", "max-forwards",
    "proxy-authenticate", "server", "te", "trailer", "transfer-encoding", "upgrade", "user-agent", "via", "warn",
    "www-authenticate",
}  # fmt: skip
"""Header fields of an answer that arrive under another name ("Amazon API Gateway important notes")."""


class _Routes:
    """Chalice's routes, matched as API Gateway matches resources: literal parts before parameters, segment by segment.

    A segment is handed on as it was sent, percent-encoded ("Amazon API Gateway important notes"); decoding it is the app's.
    """

    def __init__(self, routes: dict[str, dict[str, Any]]) -> None:
        self._routes = sorted(
            ((path.split("/"), path, methods) for path, methods in routes.items()),
            key=lambda entry: [part.startswith("{") for part in entry[0]],
        )

    def methods(self, raw_path: str) -> dict[str, Any]:
        """The routes of the resource that a path names, by method; none when there is no such resource."""
        names = {name for _, _, entries in self._routes for name in entries}
        found = {name: match for name in names if (match := self.match(name, raw_path)) is not None}
        return {name: route for name, (_, _, route) in found.items()}

    def match(self, method: str, raw_path: str) -> tuple[str, dict[str, str], Any] | None:
        path = raw_path[:-1] if raw_path != "/" and raw_path.endswith("/") else raw_path
        parts = path.split("/")
        for pattern, resource, methods in self._routes:
            if len(pattern) != len(parts) or method not in methods:
                continue
            parameters: dict[str, str] = {}
            for wanted, part in zip(pattern, parts, strict=True):
                if wanted.startswith("{") and part:
                    parameters[wanted[1:-1]] = part
                elif wanted != part:
                    break
            else:
                return resource, parameters, methods[method]
        return None


__all__ = ["MAX_BODY_BYTES", "STAGE", "Gateway"]
