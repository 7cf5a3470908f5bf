"""The emulated S3 checks what S3 checks, and answers what S3 answers."""

from __future__ import annotations

import base64
import datetime
import hashlib
import re
import threading
import zlib
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import botocore.auth
import botocore.awsrequest
import pytest
import requests
from botocore.exceptions import ClientError
from moto.s3.utils import _VersionedKeyStore

from local.emulation.moto_patches import list_what_is_there
from tests.harness import RunningCity, wait_until

BODY = b"some bytes" * 1000


def key(name: str) -> str:
    return f"instances/test/{name}"


@pytest.mark.parametrize("listing", ["lists", "items", "values"])
def test_a_listing_is_of_what_is_there_when_it_begins_whatever_is_removed_meanwhile(listing: str) -> None:
    class Keys(_VersionedKeyStore):
        """Changed by itself, not for all tests."""

    list_what_is_there(Keys)
    keys = Keys()
    for name in "abc":
        keys[name] = f"{name}1"
        keys[name] = f"{name}2"
    going = getattr(keys, listing)()
    found = [next(going)]
    dict.pop(keys, "b")
    found += going
    newest = {"lists": [(name, [f"{name}1", f"{name}2"]) for name in "abc"], "items": [(name, f"{name}2") for name in "abc"]}
    assert found == newest.get(listing, ["a2", "b2", "c2"])


def presigned(city: RunningCity, operation: str, name: str, seconds: int = 300, **params: Any) -> str:
    answer = city.client("maugeri").post(
        f"/presign/{name}", json={"operation": operation, "params": {"Key": key(name), **params}, "seconds": seconds}
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["url"])


def upload(city: RunningCity, name: str, body: bytes = BODY) -> tuple[str, dict[str, str]]:
    """A presigned PUT as the archive hands it out, and its headers."""
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    url = presigned(city, "put_object", name, ChecksumSHA256=digest, IfNoneMatch="*", ContentType="application/dicom")
    return url, {"x-amz-checksum-sha256": digest, "If-None-Match": "*", "Content-Type": "application/dicom"}


def stored(city: RunningCity, name: str, body: bytes = BODY) -> None:
    url, headers = upload(city, name, body)
    answer = requests.put(url, data=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text


def code(answer: requests.Response) -> tuple[int, str]:
    found = re.search(r"<Code>(.*?)</Code>", answer.text)
    assert found is not None, answer.text
    assert answer.headers["Content-Type"] == "application/xml"
    return answer.status_code, found[1]


def exists(city: RunningCity, name: str) -> bool:
    bucket = city.outputs()["BucketName"]
    return bool(city.aws("s3").list_objects_v2(Bucket=bucket, Prefix=key(name))["KeyCount"])


def changed(url: str, **parameters: str | None) -> str:
    parts = urlsplit(url)
    query = {name: value for name, value in parse_qsl(parts.query) if parameters.get(name, "") is not None}
    return urlunsplit(parts._replace(query=urlencode(query | {k: v for k, v in parameters.items() if v is not None})))


# Uploads ---------------------------------------------------------------------------------------------


def test_an_upload_with_exactly_the_signed_headers_is_stored_and_announced(standin_city: RunningCity) -> None:
    url, headers = upload(standin_city, "plain")
    answer = requests.put(url, data=BODY, headers=headers, timeout=60)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["ETag"] == f'"{hashlib.md5(BODY).hexdigest()}"'
    assert answer.headers["x-amz-checksum-sha256"] == headers["x-amz-checksum-sha256"]
    assert answer.headers["x-amz-server-side-encryption"] == "aws:kms"
    assert answer.headers["x-amz-version-id"]
    table = standin_city.aws("dynamodb")
    wanted = {"pk": {"S": "F#OBJECT#test#plain"}, "sk": {"S": "."}}
    wait_until(lambda: table.get_item(TableName=standin_city.outputs()["TableName"], Key=wanted).get("Item"))


def test_a_second_upload_of_the_same_key_fails_and_changes_nothing(standin_city: RunningCity) -> None:
    stored(standin_city, "twice")
    url, headers = upload(standin_city, "twice", b"other")
    assert code(requests.put(url, data=b"other", headers=headers, timeout=60)) == (412, "PreconditionFailed")
    assert requests.get(presigned(standin_city, "get_object", "twice"), timeout=60).content == BODY


def test_of_two_uploads_at_once_one_wins(standin_city: RunningCity) -> None:
    url, headers = upload(standin_city, "race")
    statuses: list[int] = []
    start = threading.Barrier(6)

    def put() -> None:
        start.wait()
        statuses.append(requests.put(url, data=BODY, headers=headers, timeout=60).status_code)

    threads = [threading.Thread(target=put) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, 412, 412, 412, 412, 412]


def test_other_bytes_than_were_signed_are_refused_and_not_stored(standin_city: RunningCity) -> None:
    url, headers = upload(standin_city, "tampered")
    for other in (BODY + b"x", BODY[:-1], b"", b"x" * len(BODY)):
        assert code(requests.put(url, data=other, headers=headers, timeout=60)) == (400, "BadDigest")
    assert not exists(standin_city, "tampered")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"If-None-Match": None}, (403, "SignatureDoesNotMatch")),
        ({"x-amz-checksum-sha256": None}, (403, "SignatureDoesNotMatch")),
        ({"x-amz-checksum-sha256": base64.b64encode(b"0" * 32).decode()}, (403, "SignatureDoesNotMatch")),
        ({"Content-Type": "text/html"}, (403, "SignatureDoesNotMatch")),
        ({"x-amz-meta-name": "value"}, (403, "AccessDenied")),
        ({"x-amz-server-side-encryption": "AES256"}, (403, "AccessDenied")),
        ({"Authorization": "AWS4-HMAC-SHA256 Credential=a/b/c/d/e"}, (400, "InvalidArgument")),
        ({"Content-MD5": base64.b64encode(hashlib.md5(b"other").digest()).decode()}, (400, "BadDigest")),
        ({"Content-MD5": "short"}, (400, "InvalidDigest")),
    ],
)
def test_other_headers_than_were_signed_are_refused(
    standin_city: RunningCity, change: dict[str, str | None], expected: tuple[int, str]
) -> None:
    url, headers = upload(standin_city, "headers")
    sent = {name: value for name, value in {**headers, **change}.items() if value is not None}
    assert code(requests.put(url, data=BODY, headers=sent, timeout=60)) == expected
    assert not exists(standin_city, "headers")


def test_another_key_method_or_parameter_than_was_signed_is_refused(standin_city: RunningCity) -> None:
    url, headers = upload(standin_city, "mine")
    for method, address in (
        ("PUT", url.replace("/mine?", "/others?")),
        ("PUT", url.replace("instances/test", "instances/maugeri")),
        ("GET", url),
        ("DELETE", url),
        ("PUT", changed(url, **{"X-Amz-Expires": "600"})),
        ("PUT", changed(url, **{"X-Amz-SignedHeaders": "host"})),
        ("PUT", changed(url, **{"X-Amz-Signature": "0" * 64})),
        ("PUT", changed(url, versionId="null")),
    ):
        answer = requests.request(method, address, data=BODY, headers=headers, timeout=60)
        assert code(answer) == (403, "SignatureDoesNotMatch"), (method, address)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"X-Amz-Signature": None}, (400, "AuthorizationQueryParametersError")),
        ({"X-Amz-Date": None}, (400, "AuthorizationQueryParametersError")),
        ({"X-Amz-Date": "yesterday"}, (400, "AuthorizationQueryParametersError")),
        ({"X-Amz-Expires": "x"}, (400, "AuthorizationQueryParametersError")),
        ({"X-Amz-Expires": "-1"}, (400, "AuthorizationQueryParametersError")),
        ({"X-Amz-Expires": "604801"}, (400, "AuthorizationQueryParametersError")),
        ({"X-Amz-Credential": "a/b"}, (400, "AuthorizationQueryParametersError")),
        ({"X-Amz-Credential": "AK/20260101/eu-west-1/s3/aws4_request"}, (400, "AuthorizationQueryParametersError")),
        ({"X-Amz-Credential": "AK/20260101/eu-south-1/ec2/aws4_request"}, (400, "AuthorizationQueryParametersError")),
        ({"X-Amz-Security-Token": None}, (403, "InvalidAccessKeyId")),
        ({"X-Amz-Security-Token": "wrong"}, (400, "InvalidToken")),
    ],
)
def test_presigning_that_is_not_well_formed_is_refused(
    standin_city: RunningCity, change: dict[str, str | None], expected: tuple[int, str]
) -> None:
    url = changed(presigned(standin_city, "get_object", "any"), **change)
    assert code(requests.get(url, timeout=60)) == expected


def test_an_upload_by_who_has_no_right_to_the_key_is_refused(standin_city: RunningCity) -> None:
    """The signer's policy counts when the address is used, not when it is made."""
    bucket, client = standin_city.outputs()["BucketName"], standin_city.aws("s3", "maugeri")
    url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key("plain")})
    assert code(requests.get(url, timeout=60)) == (403, "AccessDenied")
    outside = standin_city.client("maugeri").post(
        "/presign/x", json={"operation": "put_object", "params": {"Key": "elsewhere/x"}}
    )
    assert code(requests.put(outside.json()["url"], data=b"x", timeout=60)) == (403, "AccessDenied")


def test_the_buckets_policy_holds(standin_city: RunningCity) -> None:
    """infra/city.yaml: instances are written once, whoever asks; no other encryption than the bucket's."""
    bucket, operator = standin_city.outputs()["BucketName"], standin_city.aws("s3")
    for arguments in ({}, {"IfNoneMatch": "*", "ServerSideEncryption": "AES256"}):
        with pytest.raises(ClientError) as refused:
            operator.put_object(Bucket=bucket, Key=key("policy"), Body=b"x", **arguments)
        assert refused.value.response["Error"]["Code"] == "AccessDenied"
    operator.put_object(Bucket=bucket, Key=key("policy"), Body=b"x", IfNoneMatch="*")


# Time ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "expires", "message"),
    [
        (-100, 60, "Request has expired"),
        (-400, 3600, "explicit deny"),
        (1000, 60, "Request is not yet valid"),
    ],
)
def test_an_address_works_only_in_its_time(
    standin_city: RunningCity, monkeypatch: pytest.MonkeyPatch, seconds: float, expires: int, message: str
) -> None:
    """Five minutes for reading by the bucket's policy, whatever it was signed for."""
    bucket, client = standin_city.outputs()["BucketName"], standin_city.aws("s3")
    then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: then)
    url = client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": key("plain")}, ExpiresIn=expires)
    answer = requests.get(url, timeout=60)
    assert code(answer) == (403, "AccessDenied")
    assert message in answer.text


# Downloads -------------------------------------------------------------------------------------------


def test_a_download_is_what_was_uploaded(standin_city: RunningCity) -> None:
    stored(standin_city, "down")
    answer = requests.get(presigned(standin_city, "get_object", "down"), timeout=60)
    assert answer.content == BODY
    assert answer.headers["Content-Type"] == "application/dicom"
    assert answer.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    ("header", "expected", "content_range"),
    [
        ("bytes=0-9", BODY[:10], "bytes 0-9/10000"),
        ("bytes=9990-", BODY[-10:], "bytes 9990-9999/10000"),
        ("bytes=-5", BODY[-5:], "bytes 9995-9999/10000"),
        ("bytes=9998-20000", BODY[-2:], "bytes 9998-9999/10000"),
        ("bytes=-20000", BODY, "bytes 0-9999/10000"),
    ],
)
def test_a_range_of_it_can_be_read(standin_city: RunningCity, header: str, expected: bytes, content_range: str) -> None:
    name = "range" + hashlib.sha256(header.encode()).hexdigest()[:8]
    stored(standin_city, name)
    answer = requests.get(presigned(standin_city, "get_object", name), headers={"Range": header}, timeout=60)
    assert (answer.status_code, answer.content, answer.headers["Content-Range"]) == (206, expected, content_range)


def test_a_range_that_is_not_there_is_refused_and_one_that_is_none_ignored(standin_city: RunningCity) -> None:
    stored(standin_city, "ranges")
    url = presigned(standin_city, "get_object", "ranges")
    for header in ("bytes=10000-", "bytes=-0"):
        assert code(requests.get(url, headers={"Range": header}, timeout=60)) == (416, "InvalidRange")
    for header in ("bytes=5-2", "bytes=0-1,4-5", "lines=1-2", "bytes=-"):
        answer = requests.get(url, headers={"Range": header}, timeout=60)
        assert (answer.status_code, answer.content) == (200, BODY), header


def test_an_address_for_get_does_not_serve_head_and_the_other_way_round(standin_city: RunningCity) -> None:
    stored(standin_city, "head")
    get, head = (presigned(standin_city, operation, "head") for operation in ("get_object", "head_object"))
    assert requests.head(get, timeout=60).status_code == 403
    assert code(requests.get(head, timeout=60)) == (403, "SignatureDoesNotMatch")
    answer = requests.head(head, timeout=60)
    assert (answer.status_code, answer.headers["Content-Length"], answer.content) == (200, str(len(BODY)), b"")


def test_the_type_and_name_of_a_download_can_be_signed_into_its_address(standin_city: RunningCity) -> None:
    stored(standin_city, "named")
    url = presigned(
        standin_city, "get_object", "named", ResponseContentType="application/octet-stream",
        ResponseContentDisposition='attachment; filename="a.dcm"', ResponseCacheControl="no-store",
    )  # fmt: skip
    answer = requests.get(url, timeout=60)
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="a.dcm"'
    assert answer.headers["Cache-Control"] == "no-store"


def test_conditions_of_a_download_are_honoured(standin_city: RunningCity) -> None:
    stored(standin_city, "conditions")
    url = presigned(standin_city, "get_object", "conditions")
    etag = requests.get(url, timeout=60).headers["ETag"]
    future = "Wed, 01 Jan 2080 00:00:00 GMT"
    for headers, status in (
        ({"If-None-Match": etag}, 304),
        ({"If-Match": etag}, 200),
        ({"If-Match": '"other"'}, 412),
        ({"If-Modified-Since": future}, 304),
        ({"If-Unmodified-Since": "Wed, 01 Jan 2020 00:00:00 GMT"}, 412),
    ):
        assert requests.get(url, headers=headers, timeout=60).status_code == status, headers


def test_what_is_not_there_is_404(standin_city: RunningCity) -> None:
    assert code(requests.get(presigned(standin_city, "get_object", "absent"), timeout=60)) == (404, "NoSuchKey")


def test_nothing_is_public(standin_city: RunningCity) -> None:
    bucket = standin_city.outputs()["BucketName"]
    for path in ("/", f"/{bucket}", f"/{bucket}/{key('plain')}", "/other/x"):
        assert code(requests.get(standin_city.s3 + path, timeout=60)) == (403, "AccessDenied")
    assert code(requests.put(f"{standin_city.s3}/{bucket}/{key('public')}", data=b"x", timeout=60))[0] == 403


# Signed by header ------------------------------------------------------------------------------------


def test_an_sdk_can_write_read_list_copy_and_delete(standin_city: RunningCity) -> None:
    bucket, s3 = standin_city.outputs()["BucketName"], standin_city.aws("s3")
    name = "cache/a b/ü+%.txt"
    put = s3.put_object(
        Bucket=bucket, Key=name, Body=BODY, ContentType="text/plain", ContentEncoding="gzip", Metadata={"a-b": "c"}
    )
    got = s3.get_object(Bucket=bucket, Key=name)
    assert got["Body"].read() == BODY
    assert (got["ContentType"], got["ContentEncoding"], got["Metadata"]) == ("text/plain", "gzip", {"a-b": "c"})
    assert s3.head_object(Bucket=bucket, Key=name)["VersionId"] == put["VersionId"]
    assert s3.list_objects_v2(Bucket=bucket, Prefix="cache/a")["Contents"][0]["Key"] == name
    s3.copy_object(Bucket=bucket, Key="cache/copy", CopySource={"Bucket": bucket, "Key": name})
    assert s3.get_object(Bucket=bucket, Key="cache/copy")["Body"].read() == BODY
    s3.delete_object(Bucket=bucket, Key=name)
    with pytest.raises(ClientError) as absent:
        s3.get_object(Bucket=bucket, Key=name)
    assert absent.value.response["Error"]["Code"] == "NoSuchKey"
    assert s3.get_object(Bucket=bucket, Key=name, VersionId=put["VersionId"])["Body"].read() == BODY


def test_a_multipart_upload_becomes_one_object(standin_city: RunningCity) -> None:
    bucket, s3 = standin_city.outputs()["BucketName"], standin_city.aws("s3")
    made = s3.create_multipart_upload(Bucket=bucket, Key="cache/parts", ContentType="text/plain")["UploadId"]
    pieces = [b"a" * 5 * 1024**2, b"b" * 1000]
    parts = [
        {
            "PartNumber": number,
            "ETag": s3.upload_part(Bucket=bucket, Key="cache/parts", UploadId=made, PartNumber=number, Body=piece)["ETag"],
        }
        for number, piece in enumerate(pieces, 1)
    ]
    s3.complete_multipart_upload(Bucket=bucket, Key="cache/parts", UploadId=made, MultipartUpload={"Parts": parts})
    got = s3.get_object(Bucket=bucket, Key="cache/parts", Range="bytes=5242878-5242883")
    assert got["Body"].read() == b"aabbbb"


def test_a_body_with_a_trailing_checksum_is_checked(standin_city: RunningCity) -> None:
    """What SDKs send over TLS: `aws-chunked` with the checksum behind the body."""
    bucket, credentials = standin_city.outputs()["BucketName"], standin_city.credentials("administrator")

    def put(name: str, checksum: bytes) -> requests.Response:
        chunks = b"%x\r\n%b\r\n0\r\nx-amz-checksum-crc32:%b\r\n\r\n" % (
            len(BODY), BODY, base64.b64encode(checksum),
        )  # fmt: skip
        url = f"{standin_city.s3}/{bucket}/cache/{name}"
        request = botocore.awsrequest.AWSRequest("PUT", url, data=chunks, headers={
            "X-Amz-Content-SHA256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "Content-Encoding": "aws-chunked",
            "X-Amz-Trailer": "x-amz-checksum-crc32", "X-Amz-Decoded-Content-Length": str(len(BODY)),
        })  # fmt: skip
        Trailer(credentials, "s3", "eu-south-1").add_auth(request)
        return requests.put(url, data=chunks, headers=dict(request.headers), timeout=60)

    assert put("trailer", zlib.crc32(BODY).to_bytes(4, "big")).status_code == 200
    assert code(put("trailer-bad", b"0000")) == (400, "BadDigest")
    got = standin_city.aws("s3").get_object(Bucket=bucket, Key="cache/trailer")
    assert got["Body"].read() == BODY


class Trailer(botocore.auth.S3SigV4Auth):  # type: ignore[misc]
    def payload(self, request: Any) -> str:
        return "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

    def _modify_request_before_signing(self, request: Any) -> None:
        botocore.auth.SigV4Auth._modify_request_before_signing(self, request)


# Browsers --------------------------------------------------------------------------------------------


def test_a_browser_may_read_by_presigned_address_and_nothing_else(standin_city: RunningCity) -> None:
    stored(standin_city, "cors")
    url = presigned(standin_city, "get_object", "cors")
    answer = requests.get(url, headers={"Origin": "null"}, timeout=60)
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "ETag" in answer.headers["Access-Control-Expose-Headers"]
    ask = {"Origin": "http://viewer.example", "Access-Control-Request-Headers": "range"}
    allowed = requests.options(url, headers={**ask, "Access-Control-Request-Method": "GET"}, timeout=60)
    assert (allowed.status_code, allowed.headers["Access-Control-Allow-Headers"]) == (200, "range")
    refused = requests.options(url, headers={**ask, "Access-Control-Request-Method": "PUT"}, timeout=60)
    assert code(refused) == (403, "AccessForbidden")
    assert "Access-Control-Allow-Origin" not in requests.get(url, timeout=60).headers


def test_a_refusal_can_be_read_by_a_browser(standin_city: RunningCity) -> None:
    url = changed(presigned(standin_city, "get_object", "cors"), **{"X-Amz-Signature": "0" * 64})
    answer = requests.get(url, headers={"Origin": "http://viewer.example"}, timeout=60)
    assert answer.status_code == 403
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


# Locked ----------------------------------------------------------------------------------------------


def test_what_the_audit_trail_locks_away_cannot_be_removed_or_shortened_by_anyone(standin_city: RunningCity) -> None:
    s3 = standin_city.aws("s3")
    (bucket,) = [found["Name"] for found in s3.list_buckets()["Buckets"] if "anchor" in found["Name"]]
    locked = {"Bucket": bucket, "Key": "anchors/x"}
    version = s3.put_object(**locked, Body=b"head", IfNoneMatch="*", ChecksumAlgorithm="SHA256")["VersionId"]
    until = s3.head_object(**locked)["ObjectLockRetainUntilDate"]
    assert until > datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=365)
    for operation, arguments in (
        ("delete_object", {"VersionId": version}),
        ("delete_object", {"VersionId": version, "BypassGovernanceRetention": True}),
        ("put_object_retention", {"Retention": {"Mode": "GOVERNANCE", "RetainUntilDate": "2030-01-01"}}),
    ):
        with pytest.raises(ClientError) as refused:
            getattr(s3, operation)(**locked, **arguments)
        assert refused.value.response["Error"]["Code"] == "AccessDenied", operation
    s3.delete_object(**locked)
    assert s3.get_object(**locked, VersionId=version)["Body"].read() == b"head"


def test_a_locked_bucket_wants_a_checksum(standin_city: RunningCity) -> None:
    s3 = standin_city.aws("s3")
    (bucket,) = [found["Name"] for found in s3.list_buckets()["Buckets"] if "anchor" in found["Name"]]
    url = s3.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "anchors/y", "IfNoneMatch": "*"})
    answer = requests.put(url, data=b"x", headers={"If-None-Match": "*"}, timeout=60)
    assert code(answer) == (400, "InvalidRequest")
