"""PutObject, GetObject and HeadObject, streamed: bodies go between the socket and a file, never through memory.

Everything else that S3 does (configuration, listing, versions, multipart, copies, deletes) stays with the emulator. A body is
checked against every digest that came with it before anything is stored (S3 API reference, "PutObject", "GetObject").
"""

from __future__ import annotations

import base64
import binascii
import datetime
import email.utils
import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any

from moto.s3.models import FakeBucket, s3_backends
from moto.s3.utils import metadata_from_headers

from local.emulator import ACCOUNT
from local.objects import Body, StoredKey, new_body_path, save_versions
from local.s3_guard import Refused
from local.sigv4 import UNSIGNED_PAYLOAD, query_pairs
from local.state import State
from local.web import Request

MAX_OBJECT_BYTES = 5 * 1024**3
_CHUNK = 1 << 20
_PRESIGNED_OR_HARMLESS = re.compile(r"^(X-Amz-.*|x-id|versionId|response-[a-z-]+)$")
_OVERRIDES = {
    f"response-{name}": name
    for name in (
        "content-type", "content-language", "expires", "cache-control", "content-disposition", "content-encoding",
    )
}  # fmt: skip

Answer = tuple[int, list[tuple[str, str]], Iterable[bytes]]


def is_data_request(request: Request, key: str) -> bool:
    """Whether this is a plain PUT, GET or HEAD of one object."""
    if not key or request.method not in ("PUT", "GET", "HEAD"):
        return False
    if request.method == "PUT" and "x-amz-copy-source" in request.headers:
        return False
    return all(_PRESIGNED_OR_HARMLESS.match(name) for name, _ in query_pairs(request.query))


def bucket_named(name: str) -> FakeBucket:
    bucket = s3_backends[ACCOUNT]["aws"].buckets.get(name)
    if bucket is None:
        raise Refused(404, "NoSuchBucket", "The specified bucket does not exist", BucketName=name)
    return bucket


# PUT ------------------------------------------------------------------------------------------------------------


def put_object(request: Request, bucket: FakeBucket, key: str, state: State) -> Answer:
    """Stream the body into a file, check it, and make it the newest version. Raises Refused."""
    headers = request.headers
    if len(key.encode("utf-8", "surrogateescape")) > 1024:
        raise Refused(
            400, "KeyTooLongError", "Your key is too long", Size=str(len(key)), MaxSizeAllowed="1024"
        )
    if request.length > MAX_OBJECT_BYTES:
        raise Refused(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size.")
    if headers.get("if-none-match", "*") != "*":
        raise Refused(501, "NotImplemented", "A header you provided implies functionality that is not implemented",
                      Header="If-None-Match")  # fmt: skip
    wanted = _wanted_digests(headers)
    _check_conditions(headers, bucket, key)
    body = _receive(request, state, wanted)
    try:
        with state.lock:
            _check_conditions(headers, bucket, key)
            stored = _store(headers, bucket, key, body)
            save_versions(state, bucket, [key])
    except BaseException:
        body.path.unlink(missing_ok=True)
        raise
    _notify(bucket, stored)
    sent = [
        (name, value) for name, value in _facts(stored) if name not in ("Last-Modified", "Content-Length")
    ]
    return 200, sent + _checksum_headers(stored), []


def _wanted_digests(headers: dict[str, str]) -> dict[str, bytes]:
    """The digests that the sender states, by algorithm; raises Refused for one that cannot be one."""
    wanted: dict[str, bytes] = {}
    declared = headers.get("x-amz-content-sha256", UNSIGNED_PAYLOAD)
    if declared != UNSIGNED_PAYLOAD and not declared.startswith("STREAMING-"):
        if not re.fullmatch(r"[0-9a-fA-F]{64}", declared):
            raise Refused(
                400,
                "InvalidArgument",
                "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, or a valid sha256 value.",
            )
        wanted["content-sha256"] = bytes.fromhex(declared)
    if "content-md5" in headers:
        wanted["md5"] = _decoded(
            headers["content-md5"], 16, "InvalidDigest", "The Content-MD5 you specified is not valid."
        )
    for name, value in headers.items():
        if not name.startswith("x-amz-checksum-") or name in ("x-amz-checksum-mode", "x-amz-checksum-type"):
            continue
        algorithm = name.removeprefix("x-amz-checksum-")
        if algorithm == "algorithm":
            continue
        sizes = {"sha256": 32, "sha1": 20, "crc32": 4}
        if algorithm not in sizes:
            raise Refused(501, "NotImplemented", f"The local city does not compute {algorithm} checksums.")
        wanted[algorithm] = _decoded(
            value, sizes[algorithm], "InvalidRequest", f"Value for {name} header is invalid."
        )
    return wanted


def _decoded(value: str, size: int, code: str, message: str) -> bytes:
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(400, code, message) from error
    if len(raw) != size:
        raise Refused(400, code, message)
    return raw


def _check_conditions(headers: dict[str, str], bucket: FakeBucket, key: str) -> None:
    current = bucket.keys.get(key)
    exists = isinstance(current, StoredKey)
    if "if-none-match" in headers and exists:
        raise Refused(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold",
                      Condition="If-None-Match")  # fmt: skip
    if "if-match" in headers:
        if not exists:
            raise Refused(404, "NoSuchKey", "The specified key does not exist.", Key=key)
        if headers["if-match"].strip('"') != current.etag.strip('"'):
            raise Refused(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold",
                          Condition="If-Match")  # fmt: skip


class _Crc32:
    def __init__(self) -> None:
        self.value = 0

    def update(self, data: bytes) -> None:
        self.value = zlib.crc32(data, self.value)

    def digest(self) -> bytes:
        return self.value.to_bytes(4, "big")


def _receive(request: Request, state: State, wanted: dict[str, bytes]) -> Body:
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


def _chunks(request: Request) -> Iterator[bytes]:
    if request.headers.get("x-amz-content-sha256", "").startswith("STREAMING-"):
        yield from _decode_aws_chunked(request)
        return
    left = request.length
    while left > 0:
        chunk = request.body.read(min(_CHUNK, left))
        if not chunk:
            raise Refused(400, "IncompleteBody", "You did not provide the number of bytes specified by the "
                          "Content-Length HTTP header")  # fmt: skip
        left -= len(chunk)
        yield chunk


def _decode_aws_chunked(request: Request) -> Iterator[bytes]:
    """`STREAMING-UNSIGNED-PAYLOAD-TRAILER`, which SDKs send; the trailing checksum is checked."""
    if request.headers["x-amz-content-sha256"] != "STREAMING-UNSIGNED-PAYLOAD-TRAILER":
        raise Refused(501, "NotImplemented", "The local city does not verify signed chunks.")
    trailer = request.headers.get("x-amz-trailer", "").removeprefix("x-amz-checksum-")
    digest: Any = {"sha256": hashlib.sha256, "sha1": hashlib.sha1, "crc32": _Crc32}.get(
        trailer, lambda: None
    )()
    if digest is None:
        raise Refused(501, "NotImplemented", f"The local city does not compute {trailer} checksums.")
    while True:
        left = int(request.body.readline(1024).split(b";")[0].strip() or b"0", 16)
        if left == 0:
            break
        while left > 0:
            chunk = request.body.read(min(_CHUNK, left))
            if not chunk:
                raise Refused(400, "IncompleteBody", "The request body terminated unexpectedly")
            left -= len(chunk)
            digest.update(chunk)
            yield chunk
        request.body.readline(16)
    name, _, value = request.body.readline(1024).decode("latin-1").strip().partition(":")
    expected = _decoded(value, len(digest.digest()), "MalformedTrailerError", "The request contained trailing data "
                        "that was not well-formed.")  # fmt: skip
    if digest.digest() != expected:
        raise _mismatch(name.removeprefix("x-amz-checksum-"), expected, digest.digest())


def _mismatch(algorithm: str, expected: bytes, found: bytes) -> Refused:
    if algorithm == "content-sha256":
        return Refused(
            400, "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
            ClientComputedContentSHA256=expected.hex(), S3ComputedContentSHA256=found.hex(),
        )  # fmt: skip
    if algorithm == "md5":
        return Refused(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")
    return Refused(
        400, "BadDigest", f"The {algorithm.upper()} you specified did not match the calculated checksum."
    )


def _store(headers: dict[str, str], bucket: FakeBucket, key: str, body: Body) -> StoredKey:
    backend = s3_backends[ACCOUNT]["aws"]
    stored: StoredKey = backend.put_object(
        bucket.name, key, body, storage=headers.get("x-amz-storage-class", "STANDARD"),
        encryption=headers.get("x-amz-server-side-encryption"),
        kms_key_id=headers.get("x-amz-server-side-encryption-aws-kms-key-id"), disable_notification=True,
    )  # fmt: skip
    stored.set_metadata(metadata_from_headers({name.title(): value for name, value in headers.items()}))
    for algorithm in ("sha256", "sha1", "crc32"):
        if value := headers.get(f"x-amz-checksum-{algorithm}"):
            stored.checksum_algorithm, stored.checksum_value = algorithm.upper(), value
    return stored


def _notify(bucket: FakeBucket, stored: StoredKey) -> None:
    from moto.s3 import notifications

    notifications.send_event(
        ACCOUNT, notifications.S3NotificationEvent.OBJECT_CREATED_PUT_EVENT, bucket, stored
    )


# GET and HEAD ---------------------------------------------------------------------------------------------------


def get_object(request: Request, bucket: FakeBucket, key: str) -> Answer:
    """One object or a range of it; also answers HEAD. Raises Refused."""
    parameters = dict(query_pairs(request.query))
    found = _find(bucket, key, parameters.get("versionId"))
    headers = dict(_facts(found))
    headers |= {_title(name): value for name, value in found.metadata.items()}
    headers["Accept-Ranges"] = "bytes"
    for parameter, name in _OVERRIDES.items():
        if parameter in parameters:
            headers[_title(name)] = parameters[parameter]
    if _not_modified(request.headers, found):
        kept = ("ETag", "Last-Modified", "x-amz-version-id", "Cache-Control", "Expires")
        return 304, [(name, value) for name, value in headers.items() if name in kept], []
    window = _window(request.headers.get("range"), found.size)
    if window is None:
        if request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
            headers |= dict(_checksum_headers(found))
        start, end, status = 0, found.size, 200
    else:
        start, end, status = *window, 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{found.size}"
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return status, list(headers.items()), []
    return status, list(headers.items()), _read(found.path.open("rb"), start, end)


def _find(bucket: FakeBucket, key: str, version_id: str | None) -> StoredKey:
    if version_id is None:
        current = bucket.keys.get(key)
        if isinstance(current, StoredKey):
            return current
        raise Refused(404, "NoSuchKey", "The specified key does not exist.", Key=key)
    for version in bucket.keys.getlist(key, []):
        if version.version_id == version_id:
            if isinstance(version, StoredKey):
                return version
            raise Refused(
                405, "MethodNotAllowed", "The specified method is not allowed against this resource."
            )
    raise Refused(
        404, "NoSuchVersion", "The specified version does not exist.", Key=key, VersionId=version_id
    )


def _facts(stored: StoredKey) -> list[tuple[str, str]]:
    facts = {
        "ETag": stored.etag,
        "Last-Modified": email.utils.format_datetime(
            stored.last_modified.replace(tzinfo=datetime.UTC), usegmt=True
        ),
        "Content-Length": str(stored.size),
    }
    if stored.encryption:
        facts["x-amz-server-side-encryption"] = stored.encryption
        if stored.encryption == "aws:kms" and stored.kms_key_id:
            facts["x-amz-server-side-encryption-aws-kms-key-id"] = stored.kms_key_id
        if stored.bucket_key_enabled:
            facts["x-amz-server-side-encryption-bucket-key-enabled"] = "true"
    if stored._is_versioned:
        facts["x-amz-version-id"] = stored.version_id
    if stored.storage_class != "STANDARD":
        facts["x-amz-storage-class"] = stored.storage_class
    return list(facts.items())


def _checksum_headers(stored: StoredKey) -> list[tuple[str, str]]:
    if not stored.checksum_algorithm or not stored.checksum_value:
        return []
    return [
        (f"x-amz-checksum-{stored.checksum_algorithm.lower()}", stored.checksum_value),
        ("x-amz-checksum-type", stored.checksum_type or "FULL_OBJECT"),
    ]


def _title(name: str) -> str:
    return name if name.startswith("x-amz-") else "-".join(part.capitalize() for part in name.split("-"))


def _not_modified(headers: dict[str, str], found: StoredKey) -> bool:
    """RFC 9110 13.2.2, as S3 does it; raises Refused (412) where a condition forbids the answer."""
    modified = found.last_modified.replace(microsecond=0, tzinfo=datetime.UTC)
    etag = found.etag.strip('"')
    if "if-match" in headers:
        if headers["if-match"].strip('"') not in (etag, "*"):
            raise Refused(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold",
                          Condition="If-Match")  # fmt: skip
    elif (since := _date(headers.get("if-unmodified-since"))) and modified > since:
        raise Refused(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold",
                      Condition="If-Unmodified-Since")  # fmt: skip
    if "if-none-match" in headers:
        return headers["if-none-match"].strip('"') in (etag, "*")
    since = _date(headers.get("if-modified-since"))
    return since is not None and modified <= since


def _date(text: str | None) -> datetime.datetime | None:
    if text is None:
        return None
    try:
        parsed = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=datetime.UTC)


def _window(header: str | None, size: int) -> tuple[int, int] | None:
    """The half-open byte range asked for; None for the whole. S3 ignores what is not one well-formed range."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip()) if header else None
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= size or (not first and int(last) == 0):
        raise Refused(416, "InvalidRange", "The requested range is not satisfiable", RangeRequested=str(header),
                      ActualObjectSize=str(size))  # fmt: skip
    return start, end


def _read(file: IO[bytes], start: int, end: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        left = end - start
        while left > 0:
            chunk = file.read(min(_CHUNK, left))
            if not chunk:
                return
            left -= len(chunk)
            yield chunk
