"""The emulated AWS endpoint: one door for every service, which checks who asks, what may be asked, and counts
it.

Anything but S3 is verified here (SigV4 in the Authorization header), held to the limits that the emulator
ignores, and passed on. What an identity may do is told by `local.iam.permissions`.
"""

from __future__ import annotations

import collections
import datetime
import hashlib
import io
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any
from urllib.parse import parse_qs

from local.emulation import units
from local.emulation.moto_patches import REGION
from local.iam import policy, sigv4
from local.iam.identities import Identities, RoleSession, role_exists
from local.iam.permissions import Permissions
from local.lambda_runtime import meter
from local.lambda_runtime.workers import Crashed
from local.s3.endpoint import S3Door
from local.state import State
from local.web.wsgi import Application, HttpRequest, StartResponse, json_body, read_request, request_id, respond

_FUNCTION_ERROR = ("X-Amz-Function-Error", "Unhandled")
MAX_SKEW = datetime.timedelta(minutes=5)
MAX_BODY_BYTES = 32 * 1024**2


class Denied(Exception):
    """The service refuses a signed request: the error's code as query-protocol and JSON services name it."""

    def __init__(self, code: str, message: str, status: int = 403) -> None:
        super().__init__(code)
        self.code, self.message, self.status = code, message, status


class _Undo(Exception):
    """The emulator refused; its answer goes out, its changes do not stay."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body


class Cloud:
    """WSGI application on the cloud's port. `policies` are the bucket policies, by bucket."""

    def __init__(
        self,
        emulator: Application,
        state: State,
        identities: Identities,
        permissions: Permissions,
        policies: dict[str, policy.Document],
        functions: Mapping[str, Callable[[dict[str, Any]], Any]],
        on_stack_change: Callable[[], None] = lambda: None,
        expire: Callable[[str], None] = lambda _: None,
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        self._emulator, self._state, self._identities = emulator, state, identities
        self._functions = functions
        self._permissions, self._now, self._on_stack_change, self._expire = permissions, now, on_stack_change, expire
        self._s3 = S3Door(emulator, state, identities, permissions, policies, now)
        self._counts: collections.Counter[str] = collections.Counter()
        self._counts_lock = threading.Lock()
        self._units = units.Units()

    def requests(self) -> dict[str, int]:
        """How many requests came for each `service:Operation` since the start."""
        with self._counts_lock:
            return dict(self._counts)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        request = read_request(environ)
        if request.raw_path == "/_city/requests" and request.method == "GET":
            return respond(start_response, 200, [("Content-Type", "application/json")], json_body(self.requests()))
        if request.raw_path == "/_city/units" and request.method == "GET":
            return respond(start_response, 200, [("Content-Type", "application/json")], json_body(asdict(self._units)))
        if request.raw_path == "/_city/functions" and request.method == "GET":
            return respond(start_response, 200, [("Content-Type", "application/json")], json_body(meter.totals()))
        if request.raw_path.startswith("/_city/expired/") and request.method == "POST":
            self._expire(request.raw_path.rpartition("/")[2])
            return respond(start_response, 204, [], b"")
        header = request.headers.get("authorization", "")
        presigned = "X-Amz-Signature=" in request.query or "X-Amz-Algorithm=" in request.query
        service = header.split("/")[3] if header.count("/") >= 4 and not presigned else "s3"
        if service == "s3":
            self._count(f"s3:{_s3_operation(request)}")
            return self._s3(request, start_response)
        return self._other(request, service, start_response)

    def _count(self, operation: str) -> None:
        with self._counts_lock:
            self._counts[operation] += 1

    def _other(self, request: HttpRequest, service: str, start_response: StartResponse) -> Iterable[bytes]:
        if request.length > MAX_BODY_BYTES:
            return respond(start_response, 413, [], b"")
        body = request.body.read(request.length)
        operation, parameters = _operation(request, body)
        self._count(f"{service}:{operation}")
        try:
            identity = self._authenticate(request, body)
            missing = self._permissions.may_request(identity, service, operation, parameters)
            if operation == "AssumeRole" and not role_exists(str(parameters.get("RoleArn"))):
                missing = ("sts:AssumeRole", str(parameters.get("RoleArn")))
            if missing is not None:
                raise Denied(
                    "AccessDenied",
                    f"User: {identity.arn} is not authorized to perform: {missing[0]} on resource: {missing[1]}",
                )
            if service == "dynamodb":
                _check_limits(operation, parameters)
            if operation == "AssumeRole":
                _check_session(parameters)
        except Denied as error:
            return _denied(request, error, start_response)
        request.environ["wsgi.input"] = io.BytesIO(body)
        if service == "dynamodb":
            answer = self._in_transaction(request, start_response)
            self._count_units(units.of_request(operation, parameters, len(answer[0])))
            return answer
        return self._emulated(request, service, operation, start_response)

    def _count_units(self, took: units.Units) -> None:
        with self._counts_lock:
            known = self._units
            self._units = units.Units(known.written + took.written, known.read + took.read, known.stored + took.stored)

    def _emulated(self, request: HttpRequest, service: str, operation: str, start_response: StartResponse) -> Iterable[bytes]:
        if service == "lambda":
            return self._invoked(request, start_response)
        if service == "cloudformation" and not operation.startswith(("Describe", "Get", "List", "Validate")):
            answer = [b"".join(self._emulator(request.environ, start_response))]
            self._on_stack_change()
            return answer
        return self._emulator(request.environ, start_response)

    def _invoked(self, request: HttpRequest, start_response: StartResponse) -> list[bytes]:
        """A synchronous invocation (Lambda API reference, "Invoke"); one that ends without an answer is a function error."""
        function = self._functions.get(request.path.split("/")[-2])
        if function is None:
            return respond(start_response, 404, [("x-amzn-ErrorType", "ResourceNotFoundException")], b"{}")
        try:
            answer, headers = function(json.loads(request.environ["wsgi.input"].read())), []
        except Crashed as error:
            answer, headers = {"errorType": "Runtime.ExitError", "errorMessage": str(error)}, [_FUNCTION_ERROR]
        return respond(start_response, 200, [("Content-Type", "application/json"), *headers], json_body(answer))

    def _in_transaction(self, request: HttpRequest, start_response: StartResponse) -> list[bytes]:
        """One DynamoDB request is one transaction of the state; what was refused has changed nothing."""
        started: list[Any] = []
        try:
            with self._state.transaction():
                body = b"".join(self._emulator(request.environ, lambda *arguments: started.append(arguments)))
                if not started[-1][0].startswith("200"):
                    raise _Undo(body)
        except _Undo as refused:
            body = refused.body
        start_response(*started[-1])
        return [body]

    def _authenticate(self, request: HttpRequest, body: bytes) -> RoleSession:
        try:
            signature = sigv4.parse_authorization(request.headers.get("authorization", ""), request.headers.get("x-amz-date", ""))
            signed_at = signature.time
        except (sigv4.Malformed, ValueError) as error:
            raise Denied("IncompleteSignature", str(error), 400) from error
        identity = self._identities.find(signature.scope.access_key)
        if identity is None or request.headers.get("x-amz-security-token") != identity.token:
            raise Denied("InvalidClientTokenId", "The security token included in the request is invalid.")
        if identity.expired:
            raise Denied("ExpiredToken", "The security token included in the request is expired")
        if abs(self._now() - signed_at) > MAX_SKEW:
            raise Denied("SignatureDoesNotMatch", f"Signature expired: {signature.timestamp} is now out of range.")
        if signature.scope.region != REGION and signature.scope.service not in ("iam", "sts"):
            raise Denied("SignatureDoesNotMatch", f"Credential should be scoped to region {REGION}.")
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
        if not sigv4.matches(signature, identity.secret, canonical):
            raise Denied(
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
                "Access Key and signing method. Consult the service documentation for details.",
            )
        return identity


def _operation(request: HttpRequest, body: bytes) -> tuple[str, dict[str, Any]]:
    """The operation's name and its parameters, of the JSON and of the query protocol."""
    if target := request.headers.get("x-amz-target"):
        try:
            parameters = json.loads(body or b"{}")
        except ValueError:
            parameters = {}
        return target.rsplit(".", 1)[-1], parameters if isinstance(parameters, dict) else {}
    form = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
    return form.get("Action", f"{request.method} {request.raw_path}"), form


def _check_limits(operation: str, parameters: dict[str, Any]) -> None:
    """Limits of DynamoDB that the emulator lets pass (Developer Guide, "Service, account, and table
    quotas")."""
    tables = parameters.get("RequestItems")
    if operation == "BatchWriteItem" and isinstance(tables, dict):
        count = sum(len(requests) for requests in tables.values())
        if not 1 <= count <= 25:
            raise Denied(
                "ValidationException",
                "1 validation error detected: Value at 'requestItems' failed to satisfy "
                "constraint: Map value must satisfy constraint: [Member must have length less than or equal to 25, "
                "Member must have length greater than or equal to 1]",
                400,
            )
    if operation == "BatchGetItem" and isinstance(tables, dict):
        count = sum(len(asked.get("Keys", [])) for asked in tables.values())
        if not 1 <= count <= 100:
            raise Denied("ValidationException", "Too many items requested for the BatchGetItem call", 400)
    if operation in ("TransactWriteItems", "TransactGetItems"):
        items = parameters.get("TransactItems", [])
        if not 1 <= len(items) <= 100:
            raise Denied(
                "ValidationException",
                "1 validation error detected: Value at 'transactItems' failed to satisfy "
                "constraint: Member must have length less than or equal to 100",
                400,
            )
        if len(json.dumps(items)) > 4 * 1024**2:
            raise Denied("ValidationException", "Transaction request is too large", 400)


def _check_session(parameters: Mapping[str, Any]) -> None:
    """What STS takes of a session's name and length; here every caller is a role already, so that it chains roles (STS API
    reference, "AssumeRole")."""
    name, seconds = str(parameters.get("RoleSessionName", "")), str(parameters.get("DurationSeconds", "3600"))
    if not re.fullmatch(r"[\w+=,.@-]{2,64}", name, re.ASCII):
        raise Denied(
            "ValidationError",
            "1 validation error detected: Value at 'roleSessionName' failed to satisfy constraint: "
            "Member must satisfy regular expression pattern: [\\w+=,.@-]*",
            400,
        )
    if not seconds.isdigit() or not 900 <= int(seconds) <= 3600:
        raise Denied(
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
            400,
        )


_JSON_CODES = {
    "AccessDenied": "AccessDeniedException",
    "SignatureDoesNotMatch": "InvalidSignatureException",
    "InvalidClientTokenId": "UnrecognizedClientException",
    "ExpiredToken": "ExpiredTokenException",
    "IncompleteSignature": "IncompleteSignatureException",
}


def _denied(request: HttpRequest, error: Denied, start_response: StartResponse) -> list[bytes]:
    if "x-amz-target" in request.headers:
        code = _JSON_CODES.get(error.code, error.code)
        content = {"__type": f"com.amazon.coral.service#{code}", "message": error.message}
        headers = [("Content-Type", "application/x-amz-json-1.0"), ("x-amzn-RequestId", request_id())]
        return respond(start_response, 400, headers, json_body(content))
    if request.path.startswith("/2015-03-31/"):  # Lambda, whose errors are named in a header
        headers = [("Content-Type", "application/json"), ("x-amzn-ErrorType", _JSON_CODES.get(error.code, error.code))]
        return respond(start_response, error.status, headers, json_body({"Message": error.message}))
    from xml.sax.saxutils import escape

    document = (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{error.code}</Code><Message>{escape(error.message)}</Message>"
        f"</Error><RequestId>{request_id()}</RequestId></ErrorResponse>"
    )
    return respond(start_response, error.status, [("Content-Type", "text/xml")], document.encode())


def _s3_operation(request: HttpRequest) -> str:
    has_key = bool(request.raw_path.lstrip("/").partition("/")[2])
    if not has_key:
        return f"{request.method.title()}Bucket"
    return {
        "PUT": "PutObject",
        "GET": "GetObject",
        "HEAD": "HeadObject",
        "DELETE": "DeleteObject",
        "POST": "PostObject",
    }.get(request.method, request.method)
