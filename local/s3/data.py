"""What uploading and downloading one object have in common.

Plain PUT, GET and HEAD of an object are streamed between the socket and a file (`s3_upload`, `s3_download`), and never
pass through memory; everything else that S3 does stays with the emulator.
"""

from __future__ import annotations

import datetime
import email.utils
import re
from collections.abc import Iterable

from moto.s3.models import FakeBucket, s3_backends

from local.emulation.moto_patches import ACCOUNT
from local.emulation.objects import StoredKey
from local.iam.sigv4 import query_pairs
from local.s3.authentication import S3Refusal
from local.web.wsgi import HttpRequest

_PRESIGNED_OR_HARMLESS = re.compile(r"^(X-Amz-.*|x-id|versionId|response-[a-z-]+)$")

Answer = tuple[int, list[tuple[str, str]], Iterable[bytes]]


def is_data_request(request: HttpRequest, key: str) -> bool:
    """Whether this is a plain PUT, GET or HEAD of one object."""
    if not key or request.method not in ("PUT", "GET", "HEAD"):
        return False
    if request.method == "PUT" and "x-amz-copy-source" in request.headers:
        return False
    return all(_PRESIGNED_OR_HARMLESS.match(name) for name, _ in query_pairs(request.query))


def bucket_named(name: str) -> FakeBucket:
    bucket = s3_backends[ACCOUNT]["aws"].buckets.get(name)
    if bucket is None:
        raise S3Refusal(404, "NoSuchBucket", "The specified bucket does not exist", BucketName=name)
    return bucket


def facts(stored: StoredKey) -> list[tuple[str, str]]:
    facts = {
        "ETag": stored.etag,
        "Last-Modified": email.utils.format_datetime(stored.last_modified.replace(tzinfo=datetime.UTC), usegmt=True),
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
    for name, value in (
        ("mode", stored.lock_mode),
        ("retain-until-date", stored.lock_until),
        ("legal-hold", stored.lock_legal_status),
    ):
        if value:
            facts[f"x-amz-object-lock-{name}"] = value
    if stored.storage_class != "STANDARD":
        facts["x-amz-storage-class"] = stored.storage_class
    return list(facts.items())


def checksum_headers(stored: StoredKey) -> list[tuple[str, str]]:
    if not stored.checksum_algorithm or not stored.checksum_value:
        return []
    return [
        (f"x-amz-checksum-{stored.checksum_algorithm.lower()}", stored.checksum_value),
        ("x-amz-checksum-type", stored.checksum_type or "FULL_OBJECT"),
    ]


def precondition_failed(condition: str) -> S3Refusal:
    return S3Refusal(
        412,
        "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold",
        Condition=condition,
    )
