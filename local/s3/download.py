"""GetObject and HeadObject, streamed from the file: ranges, conditions, overrides (S3 API reference, "GetObject")."""

from __future__ import annotations

import datetime
import email.utils
import re
from collections.abc import Iterator
from typing import IO

from moto.s3.models import FakeBucket

from local.emulation.objects import StoredKey
from local.iam.sigv4 import query_pairs
from local.s3.authentication import S3Refusal
from local.s3.data import Answer, checksum_headers, facts, precondition_failed
from local.web.wsgi import HttpRequest

_CHUNK = 1 << 20
_OVERRIDES = {
    f"response-{name}": name
    for name in (
        "content-type",
        "content-language",
        "expires",
        "cache-control",
        "content-disposition",
        "content-encoding",
    )
}


def get_object(request: HttpRequest, bucket: FakeBucket, key: str) -> Answer:
    """One object or a range of it; also answers HEAD. Raises Refused."""
    parameters = dict(query_pairs(request.query))
    found = _find(bucket, key, parameters.get("versionId"))
    headers = dict(facts(found))
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
            headers |= dict(checksum_headers(found))
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
        raise S3Refusal(404, "NoSuchKey", "The specified key does not exist.", Key=key)
    for version in bucket.keys.getlist(key, []):
        if version.version_id == version_id:
            if isinstance(version, StoredKey):
                return version
            raise S3Refusal(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
    raise S3Refusal(404, "NoSuchVersion", "The specified version does not exist.", Key=key, VersionId=version_id)


def _title(name: str) -> str:
    return name if name.startswith("x-amz-") else "-".join(part.capitalize() for part in name.split("-"))


def _not_modified(headers: dict[str, str], found: StoredKey) -> bool:
    """RFC 9110 13.2.2, as S3 does it; raises Refused (412) where a condition forbids the answer."""
    modified = found.last_modified.replace(microsecond=0, tzinfo=datetime.UTC)
    etag = found.etag.strip('"')
    if "if-match" in headers:
        if headers["if-match"].strip('"') not in (etag, "*"):
            raise precondition_failed("If-Match")
    elif (since := _date(headers.get("if-unmodified-since"))) and modified > since:
        raise precondition_failed("If-Unmodified-Since")
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
    """The half-open byte range asked for; None for the whole. S3 ignores what is not one well-formed
    range."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip()) if header else None
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= size or (not first and int(last) == 0):
        raise S3Refusal(
            416,
            "InvalidRange",
            "The requested range is not satisfiable",
            RangeRequested=str(header),
            ActualObjectSize=str(size),
        )
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
