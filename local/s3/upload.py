"""PutObject, streamed: the body goes from the socket into a file, and is checked before it counts.

Every digest that came with the body is compared before anything is stored (S3 API reference, "PutObject";
"Checking object integrity").
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from moto.s3.models import FakeBucket, s3_backends
from moto.s3.utils import metadata_from_headers

from local.emulation.moto_patches import ACCOUNT
from local.emulation.objects import Body, StoredKey, new_body_path, save_newest
from local.iam.sigv4 import UNSIGNED_PAYLOAD
from local.s3 import lost_events
from local.s3.authentication import S3Refusal
from local.s3.data import Answer, checksum_headers, facts, precondition_failed
from local.state import State
from local.web.wsgi import HttpRequest

MAX_OBJECT_BYTES = 5 * 1024**3
_CHUNK = 1 << 20


def put_object(request: HttpRequest, bucket: FakeBucket, key: str, state: State) -> Answer:
    """Stream the body into a file, check it, and make it the newest version. Raises Refused."""
    headers = request.headers
    if len(key.encode("utf-8", "surrogateescape")) > 1024:
        raise S3Refusal(400, "KeyTooLongError", "Your key is too long", Size=str(len(key)), MaxSizeAllowed="1024")
    if request.length > MAX_OBJECT_BYTES:
        raise S3Refusal(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size.")
    if headers.get("if-none-match", "*") != "*":
        raise S3Refusal(
            501,
            "NotImplemented",
            "A header you provided implies functionality that is not implemented",
            Header="If-None-Match",
        )
    wanted = _wanted_digests(headers)
    if _lock(headers, bucket) != {} and not wanted.keys() - {"content-sha256"} and "x-amz-trailer" not in headers:
        raise S3Refusal(
            400,
            "InvalidRequest",
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters",
        )
    _check_conditions(headers, bucket, key)
    body = _receive(request, state, wanted)
    try:
        with state.lock:
            _check_conditions(headers, bucket, key)
            stored = _store(headers, bucket, key, body)
            save_newest(state, bucket, key)
    except BaseException:
        body.path.unlink(missing_ok=True)
        raise
    _notify(bucket, stored)
    sent = [(name, value) for name, value in facts(stored) if name not in ("Last-Modified", "Content-Length")]
    return 200, sent + checksum_headers(stored), []


def _wanted_digests(headers: dict[str, str]) -> dict[str, bytes]:
    """The digests that the sender states, by algorithm; raises Refused for one that cannot be one."""
    wanted: dict[str, bytes] = {}
    declared = headers.get("x-amz-content-sha256", UNSIGNED_PAYLOAD)
    if declared != UNSIGNED_PAYLOAD and not declared.startswith("STREAMING-"):
        if not re.fullmatch(r"[0-9a-fA-F]{64}", declared):
            raise S3Refusal(
                400,
                "InvalidArgument",
                "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, or a valid sha256 value.",
            )
        wanted["content-sha256"] = bytes.fromhex(declared)
    if "content-md5" in headers:
        wanted["md5"] = _decoded(headers["content-md5"], 16, "InvalidDigest", "The Content-MD5 you specified is not valid.")
    for name, value in headers.items():
        if not name.startswith("x-amz-checksum-") or name in ("x-amz-checksum-mode", "x-amz-checksum-type"):
            continue
        algorithm = name.removeprefix("x-amz-checksum-")
        if algorithm == "algorithm":
            continue
        sizes = {"sha256": 32, "sha1": 20, "crc32": 4}
        if algorithm not in sizes:
            raise S3Refusal(501, "NotImplemented", f"The local city does not compute {algorithm} checksums.")
        wanted[algorithm] = _decoded(value, sizes[algorithm], "InvalidRequest", f"Value for {name} header is invalid.")
    return wanted


def _decoded(value: str, size: int, code: str, message: str) -> bytes:
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise S3Refusal(400, code, message) from error
    if len(raw) != size:
        raise S3Refusal(400, code, message)
    return raw


def _check_conditions(headers: dict[str, str], bucket: FakeBucket, key: str) -> None:
    current = bucket.keys.get(key)
    exists = isinstance(current, StoredKey)
    if "if-none-match" in headers and exists:
        raise precondition_failed("If-None-Match")
    if "if-match" in headers:
        if not exists:
            raise S3Refusal(404, "NoSuchKey", "The specified key does not exist.", Key=key)
        if headers["if-match"].strip('"') != current.etag.strip('"'):
            raise precondition_failed("If-Match")


class _Crc32:
    def __init__(self) -> None:
        self.value = 0

    def update(self, data: bytes) -> None:
        self.value = zlib.crc32(data, self.value)

    def digest(self) -> bytes:
        return self.value.to_bytes(4, "big")


def _receive(request: HttpRequest, state: State, wanted: dict[str, bytes]) -> Body:
    """The body in a file, with every stated digest found to be right; else Refused, and no file."""
    md5 = hashlib.md5(usedforsecurity=False)
    digests: dict[str, Any] = {"md5": md5}
    if "sha256" in wanted or "content-sha256" in wanted:
        digests["sha256"] = hashlib.sha256()
    if "sha1" in wanted:
        digests["sha1"] = hashlib.sha1(usedforsecurity=False)
    if "crc32" in wanted:
        digests["crc32"] = _Crc32()
    path, size = new_body_path(state.directory / "objects"), 0
    try:
        with path.open("xb") as file:
            for chunk in _chunks(request):
                file.write(chunk)
                size += len(chunk)
                for digest in digests.values():
                    digest.update(chunk)
        for algorithm, expected in wanted.items():
            found = digests["sha256" if algorithm == "content-sha256" else algorithm].digest()
            if found != expected:
                raise _mismatch(algorithm, expected, found)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Body(path, size, md5.hexdigest())


def _chunks(request: HttpRequest) -> Iterator[bytes]:
    if request.headers.get("x-amz-content-sha256", "").startswith("STREAMING-"):
        yield from _decode_aws_chunked(request)
        return
    left = request.length
    while left > 0:
        chunk = request.body.read(min(_CHUNK, left))
        if not chunk:
            raise S3Refusal(
                400,
                "IncompleteBody",
                "You did not provide the number of bytes specified by the Content-Length HTTP header",
            )
        left -= len(chunk)
        yield chunk


def _decode_aws_chunked(request: HttpRequest) -> Iterator[bytes]:
    """`STREAMING-UNSIGNED-PAYLOAD-TRAILER`, which SDKs send; the trailing checksum is checked."""
    if request.headers["x-amz-content-sha256"] != "STREAMING-UNSIGNED-PAYLOAD-TRAILER":
        raise S3Refusal(501, "NotImplemented", "The local city does not verify signed chunks.")
    trailer = request.headers.get("x-amz-trailer", "").removeprefix("x-amz-checksum-")
    makers: dict[str, Callable[[], Any]] = {"sha256": hashlib.sha256, "sha1": hashlib.sha1, "crc32": _Crc32}
    if trailer not in makers:
        raise S3Refusal(501, "NotImplemented", f"The local city does not compute {trailer} checksums.")
    digest = makers[trailer]()
    while left := _chunk_size(request.body.readline(1024)):
        while left > 0:
            chunk = request.body.read(min(_CHUNK, left))
            if not chunk:
                raise S3Refusal(400, "IncompleteBody", "The request body terminated unexpectedly")
            left -= len(chunk)
            digest.update(chunk)
            yield chunk
        request.body.readline(16)
    name, _, value = request.body.readline(1024).decode("latin-1").strip().partition(":")
    expected = _decoded(
        value,
        len(digest.digest()),
        "MalformedTrailerError",
        "The request contained trailing data that was not well-formed.",
    )
    if digest.digest() != expected:
        raise _mismatch(name.removeprefix("x-amz-checksum-"), expected, digest.digest())


def _chunk_size(line: bytes) -> int:
    try:
        return int(line.split(b";")[0].strip() or b"0", 16)
    except ValueError as error:
        raise S3Refusal(400, "InvalidRequest", "The chunked encoding of the body is not well-formed.") from error


def _mismatch(algorithm: str, expected: bytes, found: bytes) -> S3Refusal:
    if algorithm == "content-sha256":
        return S3Refusal(
            400,
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
            ClientComputedContentSHA256=expected.hex(),
            S3ComputedContentSHA256=found.hex(),
        )
    if algorithm == "md5":
        return S3Refusal(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")
    return S3Refusal(400, "BadDigest", f"The {algorithm.upper()} you specified did not match the calculated checksum.")


def _store(headers: dict[str, str], bucket: FakeBucket, key: str, body: Body) -> StoredKey:
    backend = s3_backends[ACCOUNT]["aws"]
    stored: StoredKey = backend.put_object(
        bucket.name,
        key,
        body,
        storage=headers.get("x-amz-storage-class", "STANDARD"),
        encryption=headers.get("x-amz-server-side-encryption"),
        kms_key_id=headers.get("x-amz-server-side-encryption-aws-kms-key-id"),
        disable_notification=True,
        **_lock(headers, bucket),
    )
    stored.set_metadata(metadata_from_headers(headers))
    for algorithm in ("sha256", "sha1", "crc32"):
        if value := headers.get(f"x-amz-checksum-{algorithm}"):
            stored.checksum_algorithm, stored.checksum_value = algorithm.upper(), value
    return stored


def _lock(headers: dict[str, str], bucket: FakeBucket) -> dict[str, str]:
    """The lock that the new version gets: what the request says, else the bucket's default."""
    if not bucket.object_lock_enabled:
        return {}
    names = {"lock_mode": "mode", "lock_until": "retain-until-date", "lock_legal_status": "legal-hold"}
    asked = {name: headers[f"x-amz-object-lock-{part}"] for name, part in names.items() if f"x-amz-object-lock-{part}" in headers}
    if asked or not bucket.has_default_lock:
        return asked
    return {"lock_mode": bucket.default_lock_mode, "lock_until": bucket.default_retention()}


def _notify(bucket: FakeBucket, stored: StoredKey) -> None:
    from moto.s3 import notifications

    if lost_events.is_lost(StoredKey.directory.parent):
        return
    notifications.send_event(ACCOUNT, notifications.S3NotificationEvent.OBJECT_CREATED_PUT_EVENT, bucket, stored)
