"""The bucket in S3. Fulfils `domain.ports.Objects` and `domain.ports.Versions`."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar
from zlib import crc32

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.domain.assembly import Assembler, Batch, Numbered, ObjectRange, UploadPart, batches, gather, ranges
from chalicelib.domain.checksums import joined
from chalicelib.domain.errors import NotFound, TryAgain
from chalicelib.domain.ports import Listed, StoredVersion, Version

_PARALLEL = 16
_LOADS_AT_ONCE = 64
"""Loads of what `services.retrieval.bodies.MOST_CARRIED` allows: none waits for another."""
_RESPONSE_PARAMETERS = {
    "content_type": "ResponseContentType",
    "content_disposition": "ResponseContentDisposition",
    "content_encoding": "ResponseContentEncoding",
    "cache_control": "ResponseCacheControl",
}
_PARTS_AT_ONCE = 4
_MOST_VERSIONS = 1000
"""In one listing, as S3 has it."""
_LEAST_SECONDS = 1.0
"""No batch is begun with less time than this."""
Job = TypeVar("Job")
Result = TypeVar("Result")


class S3Objects:
    """`client` is a boto3 S3 client, `bucket` the bucket's name, `assembler` what large bodies are put together by: this
    process where there is none. `remaining` answers how many seconds there are until the API's own caller gives up."""

    def __init__(
        self, client: Any, bucket: str, assembler: Assembler | None = None, remaining: Callable[[], float] = lambda: 26.0
    ) -> None:
        self._client, self._remaining = client, remaining
        self._bucket = bucket
        self._here = S3Carrier(client, bucket)
        self._assembler = assembler or self._here

    def existing(self, keys: Sequence[str]) -> set[str]:
        """See `ports.Objects.existing`. One HEAD each, several at a time."""
        return set(self.sizes(keys))

    def sizes(self, keys: Sequence[str]) -> dict[str, int]:
        """See `ports.Objects.sizes`. One HEAD each, several at a time."""
        if not keys:
            return {}
        with ThreadPoolExecutor(min(_PARALLEL, len(keys))) as pool:
            found = zip(keys, pool.map(self._size, keys), strict=True)
            return {key: size for key, size in found if size is not None}

    def keys_after(self, prefix: str, after: str, count: int) -> list[Listed]:
        """See `ports.Objects.keys_after`. One request, and others while S3 ends a page before it is full."""
        found: list[Listed] = []
        following = {"StartAfter": after} if after else {}
        while True:
            with _busy_as_try_again():
                page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, MaxKeys=count - len(found), **following)
            found += (Listed(str(entry["Key"]), int(entry["Size"]), entry["LastModified"]) for entry in page.get("Contents", []))
            if not page.get("IsTruncated") or len(found) >= count:
                return found
            following = {"ContinuationToken": page["NextContinuationToken"]}

    def read(self, key: str, start: int, length: int) -> bytes:
        """See `ports.Objects.read`. One ranged GET. Raises NotFound when there is no such object."""
        return _read(self._client, self._bucket, key, start, length)

    def put_new(self, key: str, body: bytes, sha256: str) -> bool:
        """See `ports.Objects.put_new`. One PUT."""
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
        try:
            self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=body,
                ContentType="application/dicom",
                ChecksumSHA256=checksum,
                IfNoneMatch="*",
            )
        except ClientError as error:
            if _status(error) == 412:
                return False
            if _status(error) in (409, 429) or _status(error) >= 500:
                raise TryAgain from error
            raise
        except BotoCoreError as error:
            raise TryAgain from error
        return True

    def write(self, key: str, body: bytes, content_type: str) -> None:
        """See `ports.Objects.write`. One PUT."""
        with _busy_as_try_again():
            self._client.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType=content_type)

    def assemble(self, key: str, parts: Sequence[UploadPart], content_type: str) -> None:
        """See `ports.Objects.assemble`. A multipart upload, or one PUT for one part."""
        if len(parts) == 1 and not parts[0].copied:
            self.write(key, self._here.content(parts[0]), content_type)
            return
        target = {"Bucket": self._bucket, "Key": key}
        with _busy_as_try_again():
            upload = self._client.create_multipart_upload(**target, ContentType=content_type)["UploadId"]
            try:
                done = [{"ETag": tag, "PartNumber": number} for number, tag in sorted(self._sent(key, upload, parts).items())]
                self._client.complete_multipart_upload(**target, UploadId=upload, MultipartUpload={"Parts": done})
            except BaseException:
                self._client.abort_multipart_upload(**target, UploadId=upload)
                raise

    def _sent(self, key: str, upload: str, parts: Sequence[UploadPart]) -> dict[int, str]:
        """The ETag of each part by its number, once all are sent."""
        own, shared = batches(parts)

        def send(who: Assembler, numbered: Sequence[Numbered]) -> dict[int, str]:
            tags = who.upload(Batch(key, upload, tuple(numbered)))
            return {number: tag for (number, _), tag in zip(numbered, tags, strict=True)}

        jobs = [(self._assembler, batch) for batch in shared] + ([(self._here, own)] if own else [])
        return {number: tag for sent in self._side_by_side(lambda job: send(*job), jobs) for number, tag in sent.items()}

    def checksums(self, extracts: Sequence[ObjectRange]) -> list[int]:
        """See `ports.Objects.checksums`. One GET for each range of 8 MiB."""
        shared = ranges(extracts)
        values = [value for found in self._side_by_side(self._assembler.checksums, shared) for value in found]
        found = iter(zip((extract for batch in shared for extract in batch), values, strict=True))
        results: list[int] = []
        for extract in extracts:
            value, done = 0, 0
            while done < extract.length:
                part, of_range = next(found)
                value, done = joined(value, of_range, part.length) if done else of_range, done + part.length
            results.append(value)
        return results

    def _side_by_side(self, run: Callable[[Job], Result], jobs: Sequence[Job]) -> list[Result]:
        """The result of each job. Raises TryAgain when the time is up in which the API's own caller wants its answer.

        What is under way then is left to itself: it ends by its own time limit, and what it made is not used.
        """
        until = time.monotonic() + self._remaining()

        def in_time(job: Job) -> Result:
            if time.monotonic() > until - _LEAST_SECONDS:
                raise TryAgain
            return run(job)

        pool = ThreadPoolExecutor(max(1, min(_LOADS_AT_ONCE, len(jobs))))
        try:
            waiting = [pool.submit(in_time, job) for job in jobs]
            return [future.result(max(0.0, until - time.monotonic())) for future in waiting]
        except TimeoutError as error:
            raise TryAgain from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def presign_put(self, key: str, sha256: str, seconds: int) -> tuple[str, dict[str, str]]:
        """See `ports.Objects.presign_put`. The checksum, `If-None-Match: *` and the content type are signed."""
        headers = {
            "Content-Type": "application/dicom",
            "If-None-Match": "*",
            "x-amz-checksum-sha256": base64.b64encode(bytes.fromhex(sha256)).decode(),
        }
        url: str = self._client.generate_presigned_url(
            "put_object",
            Params={
                "Bucket": self._bucket,
                "Key": key,
                "ContentType": headers["Content-Type"],
                "IfNoneMatch": headers["If-None-Match"],
                "ChecksumSHA256": headers["x-amz-checksum-sha256"],
            },
            ExpiresIn=seconds,
        )
        return url, headers

    def presign_get(self, key: str, seconds: int, **response: str) -> str:
        """See `ports.Objects.presign_get`."""
        url: str = self._client.generate_presigned_url(
            "get_object", Params={"Bucket": self._bucket, "Key": key, **_overrides(response)}, ExpiresIn=seconds
        )
        return url

    def presign_head(self, key: str, seconds: int, **response: str) -> str:
        """See `ports.Objects.presign_head`."""
        url: str = self._client.generate_presigned_url(
            "head_object", Params={"Bucket": self._bucket, "Key": key, **_overrides(response)}, ExpiresIn=seconds
        )
        return url

    def _size(self, key: str) -> int | None:
        try:
            with _busy_as_try_again():
                return int(self._client.head_object(Bucket=self._bucket, Key=key)["ContentLength"])
        except ClientError as error:
            if _is_absent(self._client, self._bucket, key, error):
                return None
            raise


class S3Versions:
    """The versions that the bucket keeps. `client` is a boto3 S3 client, `bucket` the bucket's name."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def of(self, key: str) -> list[Version]:
        """See `ports.Versions.of`, and `below`: the key itself comes before those that begin with it."""
        return [stored.version for stored in self.below(key) if stored.key == key]

    def below(self, prefix: str) -> list[StoredVersion]:
        """See `ports.Versions.below`. One request, and others while S3 ends a page before it is full."""
        found: list[StoredVersion] = []
        following: dict[str, str] = {}
        while True:
            with _busy_as_try_again():
                page = self._client.list_object_versions(
                    Bucket=self._bucket, Prefix=prefix, MaxKeys=_MOST_VERSIONS - len(found), **following
                )
            found += (
                StoredVersion(
                    str(listed["Key"]), Version(str(listed["VersionId"]), kind == "DeleteMarkers"), int(listed.get("Size", 0))
                )
                for kind in ("Versions", "DeleteMarkers")
                for listed in page.get(kind, [])
            )
            if not page.get("IsTruncated") or len(found) >= _MOST_VERSIONS:
                return sorted(found, key=lambda stored: stored.key)
            following = {"KeyMarker": page["NextKeyMarker"]}
            if version := page.get("NextVersionIdMarker"):
                following["VersionIdMarker"] = version

    def read(self, key: str, version: str, length: int) -> bytes:
        """See `ports.Versions.read`. One ranged GET. What is refused is not absent: nobody may take it for that."""
        try:
            with _busy_as_try_again():
                target = {"Bucket": self._bucket, "Key": key, "VersionId": version}
                answer = self._client.get_object(**target, Range=f"bytes=0-{length - 1}")
            with answer["Body"] as body:
                found: bytes = body.read()
            return found
        except ClientError as error:
            if _status(error) == 416:
                return b""
            if _status(error) == 404:
                raise NotFound from error
            raise

    def remove(self, key: str, version: str) -> None:
        """See `ports.Versions.remove`. One request."""
        with _busy_as_try_again():
            self._client.delete_object(Bucket=self._bucket, Key=key, VersionId=version)


class S3Carrier:
    """Brings bytes from S3 to S3 through this process, 32 MiB in memory at a time. Fulfils `domain.assembly.Assembler`."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def upload(self, batch: Batch) -> list[str]:
        """See `Assembler.upload`. For each part a GET of each range and a PUT, or one copy inside S3."""
        target = {"Bucket": self._bucket, "Key": batch.key, "UploadId": batch.upload}
        with _busy_as_try_again(), ThreadPoolExecutor(min(_PARTS_AT_ONCE, len(batch.parts))) as pool:
            return list(pool.map(lambda numbered: self._part(target, *numbered), batch.parts))

    def checksums(self, ranges: Sequence[ObjectRange]) -> list[int]:
        """See `Assembler.checksums`. One GET for each."""

        def checksum(extent: ObjectRange) -> int:
            data = _read(self._client, self._bucket, extent.key, extent.start, extent.length)
            if len(data) != extent.length:
                raise TryAgain
            return crc32(data)

        with ThreadPoolExecutor(min(_PARTS_AT_ONCE, len(ranges))) as pool:
            return list(pool.map(checksum, ranges))

    def content(self, part: UploadPart) -> bytes:
        """The bytes of a part. Raises TryAgain when an object is shorter than it should be."""
        found = gather(
            part.pieces,
            lambda wanted: [_read(self._client, self._bucket, extract.key, extract.start, extract.length) for extract in wanted],
        )
        if sum(map(len, found)) != part.length:
            raise TryAgain
        return b"".join(found)

    def _part(self, target: dict[str, str], number: int, part: UploadPart) -> str:
        if part.copied and isinstance(source := part.pieces[0], ObjectRange):
            copied = self._client.upload_part_copy(
                **target,
                PartNumber=number,
                CopySource={"Bucket": self._bucket, "Key": source.key},
                CopySourceRange=f"bytes={source.start}-{source.start + source.length - 1}",
            )
            return str(copied["CopyPartResult"]["ETag"])
        return str(self._client.upload_part(**target, PartNumber=number, Body=self.content(part))["ETag"])


def _read(client: Any, bucket: str, key: str, start: int, length: int) -> bytes:
    try:
        answer = client.get_object(Bucket=bucket, Key=key, Range=f"bytes={start}-{start + length - 1}")
        with answer["Body"] as body:
            found: bytes = body.read()
        return found
    except ClientError as error:
        if _status(error) == 416:
            return b""
        if _is_absent(client, bucket, key, error):
            raise NotFound from error
        if _status(error) >= 500 or _status(error) == 429:
            raise TryAgain from error
        raise
    except BotoCoreError as error:
        raise TryAgain from error


def _is_absent(client: Any, bucket: str, key: str, error: ClientError) -> bool:
    """Whether what failed to be read is not there.

    S3 answers 403 in place of 404 to who may not list the bucket, and it is not documented whether a right that is bound to a
    prefix counts. So a 403 is asked about in the way that such a right surely covers. What is there, and what may not be
    listed either, was truly refused: to take that for absent would drop what waits to be indexed. Raises TryAgain.
    """
    if _status(error) != 403:
        return _status(error) == 404
    try:
        with _busy_as_try_again():
            listed = client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)  # the key itself comes first
    except ClientError:
        return False
    return all(found["Key"] != key for found in listed.get("Contents", []))


def _overrides(response: dict[str, str]) -> dict[str, str]:
    return {_RESPONSE_PARAMETERS[name]: value for name, value in response.items()}


@contextmanager
def _busy_as_try_again() -> Iterator[None]:
    """A store that is throttled or unavailable raises TryAgain."""
    try:
        yield
    except ClientError as error:
        if _status(error) in (409, 429) or _status(error) >= 500:
            raise TryAgain from error
        raise
    except BotoCoreError as error:
        raise TryAgain from error


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
