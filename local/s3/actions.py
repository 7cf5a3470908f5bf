"""Which permissions an S3 request needs (Service Authorization Reference, "Actions … for Amazon S3")."""

from __future__ import annotations

from urllib.parse import unquote

from local.iam.sigv4 import query_pairs
from local.web.wsgi import HttpRequest

_OBJECT = {
    ("GET", "retention"): "s3:GetObjectRetention",
    ("PUT", "retention"): "s3:PutObjectRetention",
    ("GET", "legal-hold"): "s3:GetObjectLegalHold",
    ("PUT", "legal-hold"): "s3:PutObjectLegalHold",
    ("GET", "tagging"): "s3:GetObjectTagging",
    ("PUT", "tagging"): "s3:PutObjectTagging",
    ("DELETE", "tagging"): "s3:DeleteObjectTagging",
    ("GET", "acl"): "s3:GetObjectAcl",
    ("PUT", "acl"): "s3:PutObjectAcl",
    ("GET", "attributes"): "s3:GetObjectAttributes",
    ("GET", "uploadId"): "s3:ListMultipartUploadParts",
    ("DELETE", "uploadId"): "s3:AbortMultipartUpload",
    ("GET", "versionId"): "s3:GetObjectVersion",
    ("HEAD", "versionId"): "s3:GetObjectVersion",
    ("DELETE", "versionId"): "s3:DeleteObjectVersion",
}
_PLAIN = {"GET": "s3:GetObject", "HEAD": "s3:GetObject", "DELETE": "s3:DeleteObject"}
_BUCKET = {
    ("GET", "versions"): "s3:ListBucketVersions",
    ("GET", "uploads"): "s3:ListBucketMultipartUploads",
    ("PUT", "object-lock"): "s3:PutBucketObjectLockConfiguration",
    ("POST", "delete"): "s3:DeleteObject",
}


def needs(request: HttpRequest, bucket: str, key: str) -> list[tuple[str, str]]:
    """Pairs of an action and the ARN it acts on; all of them must be allowed."""
    parameters = {name for name, _ in query_pairs(request.query)}
    arn = f"arn:aws:s3:::{bucket}"
    if not key:
        for (method, parameter), action in _BUCKET.items():
            if request.method == method and parameter in parameters:
                return [(action, f"{arn}/*" if action == "s3:DeleteObject" else arn)]
        if request.method in ("GET", "HEAD"):
            return [("s3:ListBucket" if bucket else "s3:ListAllMyBuckets", arn)]
        return [("s3:PutBucketConfiguration", arn)]
    wanted = [(_object_action(request.method, parameters), f"{arn}/{key}")]
    if request.headers.get("x-amz-bypass-governance-retention", "").lower() == "true":
        wanted.append(("s3:BypassGovernanceRetention", f"{arn}/{key}"))
    if source := request.headers.get("x-amz-copy-source"):
        wanted.append(("s3:GetObject", f"arn:aws:s3:::{unquote(source).lstrip('/').split('?')[0]}"))
    return wanted


def _object_action(method: str, parameters: set[str]) -> str:
    for (other, parameter), action in _OBJECT.items():
        if method == other and parameter in parameters:
            return action
    return _PLAIN.get(method, "s3:PutObject")
