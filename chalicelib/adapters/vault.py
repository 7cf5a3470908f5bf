"""The bucket of the audit trail's anchors, whose objects are locked. Fulfils `domain.ports.Vault`."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.domain.errors import TryAgain

_TAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})


class S3Vault:
    """`client` is a boto3 S3 client, `bucket` the name of a bucket that locks every new object."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def put_new(self, key: str, content: bytes) -> bool:
        """See `ports.Vault.put_new`. A locked bucket wants a checksum, which is sent."""
        try:
            self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=content,
                ContentType="application/json",
                IfNoneMatch="*",
                ChecksumAlgorithm="SHA256",
            )
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _TAKEN:
                return False
            raise
        except BotoCoreError as error:
            raise TryAgain from error
        return True

    def read(self, key: str) -> bytes:
        """See `ports.Vault.read`."""
        with self._client.get_object(Bucket=self._bucket, Key=key)["Body"] as body:
            content: bytes = body.read()
        return content
