"""Verification of AWS Signature Version 4, as the receiving side does it: sign again, compare.

Used by the gateway (service `execute-api`) and by the emulated cloud (every other service, and presigned S3
addresses). What a sender may legitimately have signed is wider than one form (see `canonical_queries`);
anything else is refused.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from botocore.utils import normalize_url_path

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"

_AUTHORIZATION = re.compile(
    r"^AWS4-HMAC-SHA256\s+Credential=(?P<credential>[^\s,]+),\s*"
    r"SignedHeaders=(?P<headers>[^\s,]+),\s*Signature=(?P<signature>[0-9a-fA-F]+)\s*$"
)


@dataclass(frozen=True)
class CredentialScope:
    """What a credential names: access key, day (YYYYMMDD), region, service."""

    access_key: str
    day: str
    region: str
    service: str

    @property
    def text(self) -> str:
        return f"{self.day}/{self.region}/{self.service}/aws4_request"


@dataclass(frozen=True)
class Signature:
    """A signature as it was sent, in the Authorization header or in the query (presigned)."""

    scope: CredentialScope
    timestamp: str
    signed_headers: tuple[str, ...]
    value: str

    @property
    def time(self) -> datetime.datetime:
        """Raises ValueError if the timestamp is not `YYYYMMDDTHHMMSSZ`."""
        return datetime.datetime.strptime(self.timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)


class Malformed(Exception):
    """The credential or the header does not have the form that the specification gives it."""


def parse_scope(credential: str) -> CredentialScope:
    parts = credential.split("/")
    if len(parts) < 5 or parts[-1] != "aws4_request" or not re.fullmatch(r"\d{8}", parts[-4]):
        raise Malformed(f"Credential must have the form <access-key>/YYYYMMDD/REGION/SERVICE/aws4_request, got '{credential}'.")
    return CredentialScope("/".join(parts[:-4]), *parts[-4:-1])


def parse_authorization(header: str, timestamp: str) -> Signature:
    """The Authorization header's parts; `timestamp` comes from X-Amz-Date."""
    match = _AUTHORIZATION.match(header)
    if match is None:
        raise Malformed("Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters.")
    names = tuple(match["headers"].lower().split(";"))
    return Signature(parse_scope(match["credential"]), timestamp, names, match["signature"].lower())


def query_pairs(query: str) -> list[tuple[str, str]]:
    """The query as it was sent, percent-decoded (a `+` stays a `+`), in order; values are latin-1 for odd
    bytes."""
    pairs = []
    for part in query.split("&"):
        if part:
            name, _, value = part.partition("=")
            pairs.append((_decode(name), _decode(value)))
    return pairs


def _decode(text: str) -> str:
    return unquote_to_bytes(text).decode("utf-8", "surrogateescape")


def _encode(text: str) -> str:
    return quote(text.encode("utf-8", "surrogateescape"), safe="-_.~")


def canonical_queries(query: str, leave_out: Iterable[str] = ()) -> list[str]:
    """The canonical forms of a query that a sender may have signed.

    The specification's own (decoded, encoded again, sorted), with `+` as a space or as itself, and what
    botocore signs for an address that it did not build: the raw parts, sorted.
    """
    skipped = set(leave_out)
    pairs = [(name, value) for name, value in query_pairs(query) if name not in skipped]
    forms = [sorted((_encode(name), _encode(value)) for name, value in pairs)]
    if "+" in query:
        forms.append(sorted((_encode(n.replace("+", " ")), _encode(v.replace("+", " "))) for n, v in pairs))
    raw = [part.partition("=")[::2] for part in query.split("&") if part]
    forms.append(sorted((name, value) for name, value in raw if _decode(name) not in skipped))
    unique = dict.fromkeys("&".join(f"{name}={value}" for name, value in form) for form in forms)
    return list(unique)


def canonical_path(raw_path: str, service: str) -> str:
    """S3 signs the path as sent; every other service signs it normalised and encoded once more."""
    if service == "s3":
        return raw_path or "/"
    return quote(normalize_url_path(raw_path), safe="/~")


def canonical_requests(
    method: str,
    raw_path: str,
    query: str,
    headers: dict[str, str],
    signature: Signature,
    payload_hash: str,
    leave_out: Iterable[str] = (),
) -> list[str]:
    """Every canonical request that would be right for what arrived. `headers` has lower-case names.

    Raises KeyError with the name of a signed header that did not arrive.
    """
    lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in signature.signed_headers)
    names = ";".join(signature.signed_headers)
    path = canonical_path(raw_path, signature.scope.service)
    return [
        f"{method}\n{path}\n{canonical_query}\n{lines}\n{names}\n{payload_hash}"
        for canonical_query in canonical_queries(query, leave_out)
    ]


@functools.lru_cache(maxsize=1024)
def _signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def string_to_sign(signature: Signature, canonical_request: str) -> str:
    digest = hashlib.sha256(canonical_request.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{ALGORITHM}\n{signature.timestamp}\n{signature.scope.text}\n{digest}"


def matches(signature: Signature, secret: str, canonical_requests: Iterable[str]) -> bool:
    """Whether one of the canonical requests, signed with this secret, gives the signature that was sent."""
    scope = signature.scope
    key = _signing_key(secret, scope.day, scope.region, scope.service)
    for canonical_request in canonical_requests:
        expected = hmac.new(key, string_to_sign(signature, canonical_request).encode(), hashlib.sha256).hexdigest()
        if hmac.compare_digest(expected, signature.value):
            return True
    return False
