"""What S3 checks before it does anything, and the emulator does not: who signed, what exactly, and until
when.

Codes and texts are those of the S3 API reference, "Error responses" and "Authenticating Requests (AWS
Signature Version 4)".
"""

from __future__ import annotations

import datetime
from collections.abc import Callable

from local.emulation.moto_patches import REGION
from local.iam import sigv4
from local.iam.identities import Identities, RoleSession
from local.web.wsgi import HttpRequest

MAX_PRESIGNED_SECONDS = 604800
MAX_SKEW = datetime.timedelta(minutes=15)

_PRESIGN_PARAMETERS = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
)


class S3Refusal(Exception):
    """S3 would refuse: status, code, text, and further elements of the error document."""

    def __init__(self, status: int, code: str, message: str, **more: str) -> None:
        super().__init__(code)
        self.status, self.code, self.message, self.more = status, code, message, more


def authenticate(request: HttpRequest, identities: Identities, now: datetime.datetime) -> tuple[RoleSession, float]:
    """Who signed this S3 request, and the signature's age in seconds. Raises Refused."""
    parameters = dict(sigv4.query_pairs(request.query))
    presigned = any(name in parameters for name in ("X-Amz-Signature", "X-Amz-Algorithm", "Signature"))
    header = request.headers.get("authorization")
    if presigned and header is not None:
        raise S3Refusal(
            400,
            "InvalidArgument",
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string "
            "parameter or the Authorization header should be specified",
            ArgumentName="Authorization",
            ArgumentValue=header.split(",")[0],
        )
    if presigned:
        return _presigned(request, parameters, identities, now)
    if header is not None:
        return _signed(request, header, identities, now)
    raise S3Refusal(403, "AccessDenied", "Access Denied")


def _presigned(
    request: HttpRequest, parameters: dict[str, str], identities: Identities, now: datetime.datetime
) -> tuple[RoleSession, float]:
    def wrong(text: str) -> S3Refusal:
        return S3Refusal(400, "AuthorizationQueryParametersError", text)

    if missing := [name for name in _PRESIGN_PARAMETERS if name not in parameters]:
        raise wrong(
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, "
            f"X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters; {missing[0]} is missing."
        )
    if parameters["X-Amz-Algorithm"] != sigv4.ALGORITHM:
        raise wrong('X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"')
    try:
        scope = sigv4.parse_scope(parameters["X-Amz-Credential"])
        names = tuple(parameters["X-Amz-SignedHeaders"].lower().split(";"))
        signature = sigv4.Signature(scope, parameters["X-Amz-Date"], names, parameters["X-Amz-Signature"])
        signed_at = signature.time
    except sigv4.Malformed as error:
        raise wrong(f"Error parsing the X-Amz-Credential parameter; {error}") from error
    except ValueError as error:
        raise wrong("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"") from error
    _check_scope(scope, signature, wrong, "Error parsing the X-Amz-Credential parameter; ")
    try:
        seconds = int(parameters["X-Amz-Expires"])
    except ValueError as error:
        raise wrong("X-Amz-Expires should be a number") from error
    if seconds < 0:
        raise wrong("X-Amz-Expires must be non-negative")
    if seconds > MAX_PRESIGNED_SECONDS:
        raise wrong("X-Amz-Expires must be less than a week (in seconds) that is 604800")
    if signed_at > now + MAX_SKEW:
        raise S3Refusal(403, "AccessDenied", "Request is not yet valid")
    expires_at = signed_at + datetime.timedelta(seconds=seconds)
    if now >= expires_at:
        raise S3Refusal(
            403,
            "AccessDenied",
            "Request has expired",
            **{
                "X-Amz-Expires": str(seconds),
                "Expires": f"{expires_at:%Y-%m-%dT%H:%M:%SZ}",
                "ServerTime": f"{now:%Y-%m-%dT%H:%M:%SZ}",
            },
        )
    identity = _identity(scope.access_key, parameters.get("X-Amz-Security-Token"), identities)
    payload_hash = request.headers.get("x-amz-content-sha256", sigv4.UNSIGNED_PAYLOAD)
    _compare(request, signature, identity, payload_hash, leave_out=["X-Amz-Signature"])
    return identity, (now - signed_at).total_seconds()


def _signed(request: HttpRequest, header: str, identities: Identities, now: datetime.datetime) -> tuple[RoleSession, float]:
    def malformed(text: str) -> S3Refusal:
        return S3Refusal(400, "AuthorizationHeaderMalformed", text)

    try:
        signature = sigv4.parse_authorization(header, request.headers.get("x-amz-date", ""))
        signed_at = signature.time
    except sigv4.Malformed as error:
        raise malformed(f"The authorization header is malformed; {error}") from error
    except ValueError as error:
        raise S3Refusal(403, "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header") from error
    _check_scope(signature.scope, signature, malformed, "The authorization header is malformed; ")
    if abs(now - signed_at) > MAX_SKEW:
        raise S3Refusal(
            403,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
            RequestTime=signature.timestamp,
            ServerTime=f"{now:%Y-%m-%dT%H:%M:%SZ}",
            MaxAllowedSkewMilliseconds="900000",
        )
    if "x-amz-content-sha256" not in request.headers:
        raise S3Refusal(400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    identity = _identity(signature.scope.access_key, request.headers.get("x-amz-security-token"), identities)
    _compare(request, signature, identity, request.headers["x-amz-content-sha256"])
    return identity, (now - signed_at).total_seconds()


def _check_scope(
    scope: sigv4.CredentialScope, signature: sigv4.Signature, wrong: Callable[[str], S3Refusal], prefix: str
) -> None:
    if scope.service != "s3":
        raise wrong(f'{prefix}incorrect service "{scope.service}". This endpoint belongs to "s3".')
    if scope.region != REGION:
        raise wrong(f"{prefix}the region '{scope.region}' is wrong; expecting '{REGION}'")
    if not signature.timestamp.startswith(scope.day):
        raise wrong(f'{prefix}incorrect date "{scope.day}".')
    if "host" not in signature.signed_headers:
        raise S3Refusal(
            403,
            "AccessDenied",
            "There were headers present in the request which were not signed",
            HeadersNotSigned="host",
        )


def _identity(access_key: str, token: str | None, identities: Identities) -> RoleSession:
    identity = identities.find(access_key)
    if identity is None or token is None:
        raise S3Refusal(
            403,
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist in our records.",
            AWSAccessKeyId=access_key,
        )
    if token != identity.token:
        raise S3Refusal(400, "InvalidToken", "The provided token is malformed or otherwise invalid.")
    if identity.expired:
        raise S3Refusal(400, "ExpiredToken", "The provided token has expired.")
    return identity


def _compare(
    request: HttpRequest,
    signature: sigv4.Signature,
    identity: RoleSession,
    payload_hash: str,
    leave_out: list[str] | None = None,
) -> None:
    unsigned = [
        name
        for name in request.headers
        if name.startswith("x-amz-") and name not in signature.signed_headers and name != "x-amz-content-sha256"
    ]
    try:
        canonical = sigv4.canonical_requests(
            request.method,
            request.raw_path,
            request.query,
            request.headers,
            signature,
            payload_hash,
            leave_out or [],
        )
    except KeyError:
        canonical = []
    if not canonical or not sigv4.matches(signature, identity.secret, canonical):
        shown = canonical[0] if canonical else ""
        raise S3Refusal(
            403,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
            AWSAccessKeyId=identity.access_key,
            StringToSign=sigv4.string_to_sign(signature, shown),
            SignatureProvided=signature.value,
            CanonicalRequest=shown,
        )
    if unsigned:
        raise S3Refusal(
            403,
            "AccessDenied",
            "There were headers present in the request which were not signed",
            HeadersNotSigned=", ".join(sorted(unsigned)),
        )
