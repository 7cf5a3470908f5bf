"""What the ports promise, held against the stores in memory and against the adapters over an emulated cloud."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.adapters.dynamodb import DynamoTable
from chalicelib.adapters.lambda_ import LambdaAssembler, LambdaPixels
from chalicelib.adapters.s3 import S3Carrier, S3Objects, S3Versions
from chalicelib.domain.assembly import MIB, Assembler, ObjectRange, Piece, assemble, plan
from chalicelib.domain.errors import NotFound, TryAgain
from chalicelib.domain.ports import Delete, Item, Objects, Put, PutNew, PutVersion, Table
from tests.emulated import Emulated, emulated_cloud
from tests.fakes import MemoryObjects, MemoryTable, MemoryVersions, Watched


@pytest.fixture(scope="module")
def cloud() -> Iterator[Emulated]:
    with emulated_cloud() as cloud:
        yield cloud


@pytest.fixture(params=["memory", "watched", "emulated"])
def table(request: pytest.FixtureRequest) -> Table:
    if request.param == "memory":
        return MemoryTable(page=7)
    if request.param == "watched":
        return Watched(MemoryTable(page=7), lambda name: None)
    cloud: Emulated = request.getfixturevalue("cloud")
    return DynamoTable(cloud.dynamodb, cloud.table_name)


@pytest.fixture
def pk(request: pytest.FixtureRequest) -> str:
    """A partition of the test's own: the emulated table is shared."""
    return f"T#{request.node.name}"


def rows(count: int, pk: str, **indexes: tuple[str, str]) -> list[Item]:
    return [Item(pk, f"K#{number:03d}", {"n": number}, dict(indexes)) for number in range(count)]


def test_what_was_put_is_read_back(table: Table, pk: str) -> None:
    item = Item(pk, "a", {"text": "Müller^Jörg \U0001f3e5", "list": [1, None, {"x": 1.5}]}, {"gsi1": ("p", "s")}, 3, 99)
    assert table.put(Put(item))
    assert table.get(pk, "a") == item
    assert table.get(pk, "b") is None


def test_what_is_read_can_be_changed_without_changing_the_store(table: Table, pk: str) -> None:
    table.put(Put(Item(pk, "a", {"list": [1]})))
    for _ in range(2):
        found = table.get(pk, "a")
        assert found is not None
        assert found.data == {"list": [1]}
        found.data["list"] = []


def test_what_was_written_first_stands(table: Table, pk: str) -> None:
    assert table.put(PutNew(Item(pk, "a", {"n": 1})))
    assert not table.put(PutNew(Item(pk, "a", {"n": 2})))
    found = table.get(pk, "a")
    assert found is not None
    assert found.data == {"n": 1}


def test_a_version_is_written_only_over_the_one_that_was_read(table: Table, pk: str) -> None:
    assert not table.put(PutVersion(Item(pk, "a", version=2), 1))
    assert table.put(PutVersion(Item(pk, "a", version=1), 0))
    assert not table.put(PutVersion(Item(pk, "a", version=1), 0))
    assert table.put(PutVersion(Item(pk, "a", {"n": 2}, version=2), 1))
    assert not table.put(PutVersion(Item(pk, "a", {"n": 3}, version=2), 1))
    found = table.get(pk, "a")
    assert found is not None
    assert (found.data, found.version) == ({"n": 2}, 2)


def test_deleting_what_is_not_there_is_done(table: Table, pk: str) -> None:
    assert table.put(Delete(pk, "a"))
    table.put(Put(Item(pk, "a")))
    assert table.put(Delete(pk, "a"))
    assert table.get(pk, "a") is None


def test_a_batch_reads_those_that_exist_however_many(table: Table, pk: str) -> None:
    for item in rows(120, pk):
        table.put(Put(item))
    asked = [(pk, f"K#{number:03d}") for number in range(240)]
    found = table.batch_get([*asked, *asked])
    assert sorted(found) == asked[:120]
    assert found[pk, "K#007"].data == {"n": 7}
    assert table.batch_get([]) == {}


def test_a_transaction_writes_all_or_nothing_and_says_what_was_in_the_way(table: Table, pk: str) -> None:
    table.put(Put(Item(pk, "taken", {"n": 0}, version=4)))
    held = table.transact(
        [
            PutNew(Item(pk, "free", {"n": 1})),
            PutNew(Item(pk, "taken", {"n": 1})),
            Put(Item(pk, "any", {"n": 1})),
            PutVersion(Item(pk, "other", version=8), 7),
        ]
    )
    assert held == [True, False, True, False]
    assert table.get(pk, "free") is None
    assert table.get(pk, "any") is None
    assert table.transact([PutVersion(Item(pk, "taken", {"n": 5}, version=5), 4), Delete(pk, "any")]) == []
    found = table.get(pk, "taken")
    assert found is not None
    assert found.data == {"n": 5}


def test_a_transaction_of_more_than_a_hundred_is_refused(table: Table, pk: str) -> None:
    with pytest.raises(ValueError, match="100"):
        table.transact([Put(item) for item in rows(101, pk)])
    with pytest.raises(ValueError, match="100"):
        table.transact([])
    assert table.transact([Put(item) for item in rows(100, pk)]) == []


def test_a_partition_is_read_in_order_by_prefix_and_between(table: Table, pk: str) -> None:
    for item in [*rows(20, pk), Item(pk, "J"), Item(pk, "L"), Item(pk + "x", "K#001")]:
        table.put(Put(item))
    keys = [item.sk for item in table.query_all(pk, "K#")]
    assert keys == [f"K#{number:03d}" for number in range(20)]
    assert [item.sk for item in table.query_all(pk, "K#", descending=True)] == keys[::-1]
    assert [item.sk for item in table.query_all(pk)] == ["J", *keys, "L"]
    assert [item.sk for item in table.query_all(pk, between=("K#003", "K#005"))] == keys[3:6]
    assert list(table.query_all(pk, "M")) == []


def test_pages_go_on_where_the_last_one_ended(table: Table, pk: str) -> None:
    for item in rows(9, pk):
        table.put(Put(item))
    for descending in (False, True):
        seen: list[str] = []
        start: dict[str, str] | None = None
        while True:
            page = table.query(pk, "K#", start=start, limit=4, descending=descending)
            assert len(page.items) <= 4
            seen += [item.sk for item in page.items]
            if page.next is None:
                break
            assert page.next == {"pk": pk, "sk": seen[-1]}
            start = page.next
        assert sorted(seen, reverse=descending) == seen
        assert len(seen) == 9
    assert [item.sk for item in table.query_all(pk, page=2)] == [f"K#{number:03d}" for number in range(9)]


def test_one_can_go_on_from_a_key_that_is_not_there(table: Table, pk: str) -> None:
    for item in rows(5, pk):
        table.put(Put(item))
    page = table.query(pk, start={"pk": pk, "sk": "K#002x"})
    assert [item.sk for item in page.items] == ["K#003", "K#004"]


def test_an_index_finds_only_what_carries_its_keys(table: Table, pk: str) -> None:
    for number in range(9):
        index = {"gsi2": (f"I#{pk}", f"{9 - number:02d}")} if number != 4 else {"gsi1": (f"I#{pk}", "00")}
        table.put(Put(Item(pk, f"K#{number}", {"n": number}, index)))
    assert [item.data["n"] for item in table.query_all(f"I#{pk}", index="gsi2")] == [8, 7, 6, 5, 3, 2, 1, 0]
    assert [item.data["n"] for item in table.query_all(f"I#{pk}", "07", index="gsi2")] == [2]
    assert [item.data["n"] for item in table.query_all(f"I#{pk}", index="gsi2", between=("04", "06"))] == [5, 3]
    page = table.query(f"I#{pk}", index="gsi2", limit=3, descending=True)
    assert [item.data["n"] for item in page.items] == [0, 1, 2]
    assert page.next is not None
    more = table.query(f"I#{pk}", index="gsi2", start=page.next, limit=3, descending=True)
    assert [item.data["n"] for item in more.items] == [3, 5, 6]
    table.put(Put(Item(pk, "K#0", {"n": 0})))
    assert [item.data["n"] for item in table.query_all(f"I#{pk}", "09", index="gsi2")] == []


_content = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abé", max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.dictionaries(st.text("xyz", max_size=4), _content, max_size=4))
def test_any_json_content_survives(table: Table, pk: str, content: dict[str, object]) -> None:
    table.put(Put(Item(pk, "a", content)))
    found = table.get(pk, "a")
    assert found is not None
    assert json.dumps(found.data, sort_keys=True) == json.dumps(content, sort_keys=True)


# The bucket ------------------------------------------------------------------------------------------


class Bucket:
    """A bucket under test, and a way to fill it."""

    def __init__(self, objects: Objects, cloud: Emulated | None) -> None:
        self.objects, self._cloud = objects, cloud

    def fill(self, key: str, content: bytes) -> None:
        if self._cloud is not None:
            self._cloud.s3.put_object(Bucket=self._cloud.bucket_name, Key=key, Body=content)
        elif isinstance(self.objects, MemoryObjects):
            self.objects.contents[key] = content


class Invoked:
    """Stands for Lambda: the function gets its event, and its caller the answer, as JSON."""

    def __init__(self, assembler: Assembler) -> None:
        self._assembler = assembler

    def invoke(self, FunctionName: str, Payload: bytes) -> dict[str, Any]:
        assert FunctionName == "assembly"
        return {"Payload": io.BytesIO(json.dumps(assemble(json.loads(Payload), self._assembler)).encode())}


@pytest.fixture(params=["memory", "emulated", "emulated, put together by a function"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    if request.param == "memory":
        return Bucket(MemoryObjects(), None)
    cloud: Emulated = request.getfixturevalue("cloud")
    for entry in cloud.s3.list_objects_v2(Bucket=cloud.bucket_name).get("Contents", []):
        cloud.s3.delete_object(Bucket=cloud.bucket_name, Key=entry["Key"])
    function = LambdaAssembler(Invoked(S3Carrier(cloud.s3, cloud.bucket_name)), "assembly")
    return Bucket(S3Objects(cloud.s3, cloud.bucket_name, None if request.param == "emulated" else function), cloud)


@pytest.mark.parametrize("emulated", [False, True])
def test_a_version_is_read_and_removed_by_itself(emulated: bool, cloud: Emulated) -> None:
    objects = MemoryObjects()
    key, neighbour = "instances/versions/aa", "instances/versions/aab"
    if emulated:
        target = {"Bucket": cloud.bucket_name}
        cloud.s3.put_bucket_versioning(**target, VersioningConfiguration={"Status": "Enabled"})
        for name in (key, neighbour):
            cloud.s3.put_object(**target, Key=name, Body=b"0123456789")
    else:
        objects.contents |= dict.fromkeys((key, neighbour), b"0123456789")
    versions = S3Versions(cloud.s3, cloud.bucket_name) if emulated else MemoryVersions(objects)
    assert [(stored.key, stored.size) for stored in versions.below(key)] == [(key, 10), (neighbour, 10)]
    assert versions.below("instances/versions/b") == []
    (version,) = versions.of(key)
    assert versions.read(key, version.id, 4) == b"0123"
    versions.remove(key, version.id)
    versions.remove(key, version.id)
    assert versions.of(key) == []
    assert len(versions.of(neighbour)) == 1
    with pytest.raises(NotFound):
        versions.read(key, version.id, 4)


def test_versions_that_are_hidden_are_found_and_go_for_good(cloud: Emulated) -> None:
    target = {"Bucket": cloud.bucket_name, "Key": "instances/versions/bb"}
    cloud.s3.put_bucket_versioning(Bucket=cloud.bucket_name, VersioningConfiguration={"Status": "Enabled"})
    for content in (b"first", b"second"):
        cloud.s3.put_object(**target, Body=content)
    cloud.s3.delete_object(**target)
    versions = S3Versions(cloud.s3, cloud.bucket_name)
    found = versions.of(target["Key"])
    assert sorted(version.marker for version in found) == [False, False, True]
    contents = {versions.read(target["Key"], version.id, 9) for version in found if not version.marker}
    assert contents == {b"first", b"second"}
    for version in found:
        versions.remove(target["Key"], version.id)
    assert versions.of(target["Key"]) == []


@pytest.fixture
def short_pages(cloud: Emulated) -> Iterator[Emulated]:
    """S3 as it may be: "the response might contain fewer keys but will never contain more" than were asked for."""

    def two(params: dict[str, Any], **_: Any) -> None:
        params["MaxKeys"] = min(2, params.get("MaxKeys", 1000))

    events = [f"provide-client-params.s3.{operation}" for operation in ("ListObjectsV2", "ListObjectVersions")]
    for event in events:
        cloud.s3.meta.events.register(event, two)
    yield cloud
    for event in events:
        cloud.s3.meta.events.unregister(event, two)


def test_a_short_page_of_objects_is_not_the_end(short_pages: Emulated) -> None:
    objects = S3Objects(short_pages.s3, short_pages.bucket_name)
    keys = [f"instances/short/{number}" for number in range(7)]
    for key in keys:
        objects.write(key, b"x", "application/dicom")
    prefix = "instances/short/"
    assert [listed.key for listed in objects.keys_after(prefix, "", 1000)] == keys
    assert [listed.key for listed in objects.keys_after(prefix, "", 5)] == keys[:5]
    assert [listed.key for listed in objects.keys_after(prefix, keys[2], 4)] == keys[3:]
    assert [listed.key for listed in objects.keys_after(prefix, keys[2], 3)] == keys[3:6]
    assert objects.keys_after(prefix, keys[6], 3) == []


def test_a_short_page_of_versions_is_not_the_end(short_pages: Emulated) -> None:
    target = {"Bucket": short_pages.bucket_name, "Key": "instances/versions/cc"}
    short_pages.s3.put_bucket_versioning(Bucket=short_pages.bucket_name, VersioningConfiguration={"Status": "Enabled"})
    for number in range(5):
        short_pages.s3.put_object(**target, Body=str(number).encode())
    versions = S3Versions(short_pages.s3, short_pages.bucket_name)
    assert len({version.id for version in versions.of(target["Key"])}) == 5


def test_an_empty_page_that_is_not_the_last_is_not_the_end() -> None:
    entry = {"Key": "instances/e/1", "Size": 1, "LastModified": datetime(2026, 1, 1, tzinfo=UTC)}
    client = Scripted({"IsTruncated": True, "NextContinuationToken": "on"}, {"IsTruncated": False, "Contents": [entry]})
    assert [listed.key for listed in S3Objects(client, "b").keys_after("instances/e/", "", 3)] == ["instances/e/1"]
    assert client.asked[1]["ContinuationToken"] == "on"


@pytest.mark.parametrize("seen", [0, 1])
def test_a_listing_that_does_not_come_whole_is_asked_for_again(seen: int) -> None:
    whole = {"IsTruncated": True, "NextContinuationToken": "on"}
    for error in (ReadTimeoutError(endpoint_url=""), refusal("SlowDown", status=503)):
        with pytest.raises(TryAgain):
            S3Objects(Scripted(*[whole] * seen, error), "b").keys_after("instances/e/", "", 3)


def test_a_range_is_read_and_ends_where_the_object_ends(bucket: Bucket) -> None:
    bucket.fill("instances/a/1", b"0123456789")
    assert bucket.objects.read("instances/a/1", 2, 3) == b"234"
    assert bucket.objects.read("instances/a/1", 8, 100) == b"89"
    assert bucket.objects.read("instances/a/1", 10, 5) == b""
    with pytest.raises(NotFound):
        bucket.objects.read("instances/a/2", 0, 5)


def test_a_new_key_is_written_once_and_a_computed_one_again(bucket: Bucket) -> None:
    sha = hashlib.sha256(b"one").hexdigest()
    assert bucket.objects.put_new("instances/n/1", b"one", sha)
    assert not bucket.objects.put_new("instances/n/1", b"".join([b"o", b"ne"]), sha)
    for content in (b"first", b"second"):
        bucket.objects.write("metadata/n", content, "application/gzip")
        assert bucket.objects.read("metadata/n", 0, 99) == content
    assert bucket.objects.sizes(["instances/n/1", "metadata/n", "metadata/m"]) == {"instances/n/1": 3, "metadata/n": 6}
    assert bucket.objects.sizes([]) == {}


def test_an_object_is_put_together_from_bytes_and_from_ranges_of_others(bucket: Bucket) -> None:
    bucket.fill("instances/p/1", bytes(range(256)) * 40_000)
    pieces: list[Piece] = [
        b"begin",
        ObjectRange("instances/p/1", 3, 5),
        b"--",
        ObjectRange("instances/p/1", 0, 256 * 40_000),
        b"end",
    ]
    bucket.objects.assemble("copies/p", plan(pieces), "application/octet-stream")
    whole = bytes(range(256)) * 40_000
    assert bucket.objects.read("copies/p", 0, 2 * len(whole)) == b"begin" + whole[3:8] + b"--" + whole + b"end"


def test_checksums_are_those_of_the_bytes(bucket: Bucket) -> None:
    content = bytes(range(256)) * 70_000
    bucket.fill("instances/k/1", content)
    bucket.fill("instances/k/2", b"123456789")
    wanted = [ObjectRange("instances/k/1", 5, 17_000_000), ObjectRange("instances/k/2", 0, 9), ObjectRange("instances/k/2", 4, 0)]
    assert bucket.objects.checksums(wanted) == [zlib.crc32(content[5:17_000_005]), 0xCBF43926, 0]
    assert bucket.objects.checksums([]) == []
    assert bucket.objects.checksums([ObjectRange("instances/k/2", 4, 0)]) == [0]


def test_an_object_that_is_shorter_than_it_should_be_is_neither_put_together_nor_summed(cloud: Emulated) -> None:
    objects = S3Objects(cloud.s3, cloud.bucket_name)
    objects.write("instances/s/1", b"x" * 100, "application/dicom")
    for asked in (ObjectRange("instances/s/1", 0, 101), ObjectRange("instances/s/1", 0, 6 * MIB)):
        with pytest.raises(TryAgain):
            objects.assemble("copies/s", plan([asked, b"y" * 6 * MIB]), "application/dicom")
        with pytest.raises(TryAgain):
            objects.checksums([asked])
    assert objects.existing(["copies/s"]) == set()
    assert "Uploads" not in cloud.s3.list_multipart_uploads(Bucket=cloud.bucket_name)


def test_a_body_that_takes_too_long_is_given_up_and_leaves_nothing(cloud: Emulated) -> None:
    objects = S3Objects(cloud.s3, cloud.bucket_name, remaining=lambda: -1.0)
    objects.write("instances/t/1", b"x" * 6 * MIB, "application/dicom")
    with pytest.raises(TryAgain):
        objects.assemble("copies/t", plan([ObjectRange("instances/t/1", 0, 6 * MIB), b"y" * 6 * MIB]), "application/dicom")
    assert objects.existing(["copies/t"]) == set()
    assert "Uploads" not in cloud.s3.list_multipart_uploads(Bucket=cloud.bucket_name)


def test_all_that_one_request_waits_for_has_one_deadline(cloud: Emulated) -> None:
    class NeverDone:
        """A function that answers nobody in time."""

        done = threading.Event()

        def upload(self, batch: object) -> list[str]:
            self.done.wait(60)
            return []

        def checksums(self, ranges: object) -> list[int]:
            self.done.wait(60)
            return []

    until = time.monotonic() + 2.0
    objects = S3Objects(cloud.s3, cloud.bucket_name, NeverDone(), lambda: until - time.monotonic())
    objects.write("instances/u/1", b"x" * 6 * MIB, "application/dicom")
    with pytest.raises(TryAgain):
        objects.checksums([ObjectRange("instances/u/1", 0, 6 * MIB)])
    with pytest.raises(TryAgain):
        objects.assemble("copies/u", plan([ObjectRange("instances/u/1", 0, 6 * MIB), b"y" * 6 * MIB]), "application/dicom")
    assert time.monotonic() < until + 8.0, "it waited anew for each"
    NeverDone.done.set()
    assert objects.existing(["copies/u"]) == set()
    assert "Uploads" not in cloud.s3.list_multipart_uploads(Bucket=cloud.bucket_name)


def test_a_function_that_fails_to_carry_means_try_again() -> None:
    class Failing:
        def invoke(self, **request: object) -> dict[str, Any]:
            return {"FunctionError": "Unhandled", "Payload": io.BytesIO(b'{"errorType": "Sandbox.Timedout"}')}

    with pytest.raises(TryAgain):
        LambdaAssembler(Failing(), "assembly").checksums([ObjectRange("instances/f/1", 0, 1)])


class Decoding:
    """Stands for Lambda: the function that decodes answered this, or ended with an error."""

    def __init__(self, answer: object, **more: str) -> None:
        self._answer, self._more = answer, more

    def invoke(self, **_: object) -> dict[str, Any]:
        if isinstance(self._answer, Exception):
            raise self._answer
        return {"Payload": io.BytesIO(json.dumps(self._answer).encode()), **self._more}


def test_a_decoder_says_why_an_image_cannot_be_decoded_and_what_passes_is_tried_again() -> None:
    assert LambdaPixels(Decoding({"state": "done", "size": 1}), "pixels").run({}) is None
    assert LambdaPixels(Decoding({"state": "refused", "reason": "it has no pixels"}), "pixels").run({}) == "it has no pixels"
    killed = Decoding({"errorType": "Runtime.ExitError"}, FunctionError="Unhandled")
    assert LambdaPixels(killed, "pixels").run({}) == "undecodable"
    assert LambdaPixels(Decoding(ReadTimeoutError(endpoint_url="")), "pixels").run({}) == "too-slow"
    for passing in ({"state": "busy"}, refusal("TooManyRequestsException"), ConnectTimeoutError(endpoint_url="")):
        with pytest.raises(TryAgain):
            LambdaPixels(Decoding(passing), "pixels").run({})


def test_those_that_are_stored_are_told_from_those_that_are_not(bucket: Bucket) -> None:
    for number in range(0, 40, 2):
        bucket.fill(f"instances/b/{number}", b"x")
    asked = [f"instances/b/{number}" for number in range(40)]
    assert bucket.objects.existing(asked) == set(asked[::2])
    assert bucket.objects.existing([]) == set()


def test_a_presigned_put_names_the_key_and_what_must_be_sent(bucket: Bucket) -> None:
    sha = hashlib.sha256(b"x").hexdigest()
    url, headers = bucket.objects.presign_put("instances/c/1", sha, 60)
    assert "instances/c/1" in url
    assert headers
    assert "instances/c/1" in bucket.objects.presign_get("instances/c/1", 60)


def test_the_address_of_an_upload_signs_checksum_and_if_none_match(cloud: Emulated) -> None:
    sha = hashlib.sha256(b"x").hexdigest()
    url, headers = S3Objects(cloud.s3, cloud.bucket_name).presign_put("instances/c/1", sha, 60)
    assert headers["x-amz-checksum-sha256"] == base64.b64encode(bytes.fromhex(sha)).decode()
    assert headers["If-None-Match"] == "*"
    signed = next(part for part in url.split("&") if part.startswith("X-Amz-SignedHeaders="))
    for name in ("if-none-match", "x-amz-checksum-sha256", "content-type", "host"):
        assert name in signed


# What only the cloud does ----------------------------------------------------------------------------


class Scripted:
    """A client that answers what a test has written down."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def __getattr__(self, operation: str) -> Any:
        def call(**request: Any) -> Any:
            self.asked.append(request)
            answer = self._answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def refusal(code: str, reasons: list[str] | None = None, status: int = 400) -> Exception:
    from botocore.exceptions import ClientError

    response: dict[str, Any] = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}}
    if reasons is not None:
        response["CancellationReasons"] = [{"Code": reason} for reason in reasons]
    error: Exception = ClientError(response, "Operation")
    return error


def test_what_a_batch_left_out_is_asked_for_again() -> None:
    raw = [{"pk": {"S": "p"}, "sk": {"S": str(number)}, "data": {"S": "{}"}} for number in range(2)]
    left = {"t": {"Keys": [{"pk": {"S": "p"}, "sk": {"S": "1"}}], "ConsistentRead": True}}
    client = Scripted(
        {"Responses": {"t": raw[:1]}, "UnprocessedKeys": left}, {"Responses": {"t": raw[1:]}, "UnprocessedKeys": {}}
    )
    assert len(DynamoTable(client, "t").batch_get([("p", "0"), ("p", "1")])) == 2
    assert client.asked[1]["RequestItems"]["t"]["Keys"] == [{"pk": {"S": "p"}, "sk": {"S": "1"}}]
    assert client.asked[1]["RequestItems"]["t"]["ConsistentRead"] is True


def test_a_transaction_that_met_another_is_tried_again() -> None:
    conflict = refusal("TransactionCanceledException", ["None", "TransactionConflict"])
    client = Scripted(conflict, conflict, {})
    assert DynamoTable(client, "t").transact([Put(Item("p", "1")), Put(Item("p", "2"))]) == []
    assert len(client.asked) == 3


def test_a_condition_that_failed_beside_a_collision_is_an_answer() -> None:
    client = Scripted(refusal("TransactionCanceledException", ["ConditionalCheckFailed", "TransactionConflict"]))
    assert DynamoTable(client, "t").transact([PutNew(Item("p", "1")), Put(Item("p", "2"))]) == [False, True]


@pytest.mark.parametrize("code", ["ThrottlingException", "ProvisionedThroughputExceededException", "InternalServerError"])
def test_a_busy_table_asks_to_try_again(code: str) -> None:
    with pytest.raises(TryAgain):
        DynamoTable(Scripted(refusal(code)), "t").get("p", "s")


def test_pages_of_the_emulated_table_are_in_one_order() -> None:
    """The order is one of bytes, as DynamoDB's: capitals, then small letters, then what is not ASCII."""
    table = MemoryTable()
    for sk in ("a", "Z", "é", "~", "#"):
        table.put(Put(Item("p", sk)))
    keys = [item.sk for item in table.query_all("p")]
    assert all(first.encode() < second.encode() for first, second in pairwise(keys))


def test_a_table_says_when_it_was_made(table: Table) -> None:
    made = table.created_at()
    assert made.tzinfo is not None
    assert made == table.created_at() <= datetime.now(UTC)


def test_a_restored_table_was_made_when_it_was_restored(cloud: Emulated) -> None:
    before = DynamoTable(cloud.dynamodb, cloud.table_name)
    moment = before.created_at() + timedelta(milliseconds=2)
    while datetime.now(UTC) < moment:
        pass
    backup = cloud.dynamodb.create_backup(TableName=cloud.table_name, BackupName="before")["BackupDetails"]["BackupArn"]
    cloud.dynamodb.restore_table_from_backup(TargetTableName="restored", BackupArn=backup)
    assert DynamoTable(cloud.dynamodb, "restored").created_at() > before.created_at()
