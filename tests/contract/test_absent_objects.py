"""What is absent is absent, and what is refused is refused, whichever status S3 has for an absent key.

S3 answers 404 to who may list the bucket and 403 to everyone else; whether a right to list that is bound to a prefix counts
is not documented. Here it does not, or nothing at all may be read or listed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError

from chalicelib.adapters.s3 import S3Carrier, S3Objects, S3Versions
from chalicelib.domain.assembly import ObjectRange
from chalicelib.domain.errors import NotFound, TryAgain
from tests.emulated import Emulated, emulated_cloud

HERE, ABSENT, NEAR = "instances/maugeri/aa", "instances/maugeri/a", "instances/maugeri/aab"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Emulated]:
    with emulated_cloud() as cloud:
        for key in (HERE, NEAR):
            cloud.s3.put_object(Bucket=cloud.bucket_name, Key=key, Body=b"bytes")
        yield cloud


class _Body:
    """What botocore reads an answer from."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._content


class Refusing:
    """Answers for S3 with an error: what an operation and a key say, by `status(operation, key)`; 0 lets it pass."""

    def __init__(self, status: Any) -> None:
        self._status = status
        self.asked: list[str] = []

    def __call__(self, request: Any, event_name: str, **_: Any) -> AWSResponse | None:
        operation = event_name.rsplit(".", 1)[-1]
        self.asked.append(operation)
        status = self._status(operation, request.url.split("?")[0])
        if not status:
            return None
        content = b"<Error><Code>Refused</Code><Message>x</Message></Error>" if operation != "HeadObject" else b""
        return AWSResponse(request.url, status, {}, _Body(content))


@pytest.fixture
def answering(cloud: Emulated) -> Iterator[Any]:
    """`answering(status)` lets S3 refuse as told, and gives what it was asked."""
    made: list[Refusing] = []

    def answer(status: Any) -> Refusing:
        made.append(Refusing(status))
        cloud.s3.meta.events.register_first("before-send.s3.*", made[-1])
        return made[-1]

    yield answer
    for handler in made:
        cloud.s3.meta.events.unregister("before-send.s3.*", handler)


def forbidden_when_absent(operation: str, address: str) -> int:
    return 403 if operation in ("HeadObject", "GetObject") and not address.endswith((HERE, NEAR)) else 0


@pytest.mark.parametrize("absent_is_forbidden", [False, True])
def test_what_is_absent_is_told_from_what_is_there(cloud: Emulated, answering: Any, absent_is_forbidden: bool) -> None:
    if absent_is_forbidden:
        answering(forbidden_when_absent)
    objects = S3Objects(cloud.s3, cloud.bucket_name)
    assert objects.sizes([HERE, ABSENT, NEAR]) == {HERE: 5, NEAR: 5}
    assert objects.existing([ABSENT, HERE]) == {HERE}
    assert objects.read(HERE, 1, 2) == b"yt"
    with pytest.raises(NotFound):
        objects.read(ABSENT, 0, 5)
    with pytest.raises(NotFound):
        S3Carrier(cloud.s3, cloud.bucket_name).checksums([ObjectRange(ABSENT, 0, 5)])


def test_what_is_there_and_may_not_be_read_is_not_absent(cloud: Emulated, answering: Any) -> None:
    """A key that was switched off, a policy that is wrong: what waits to be indexed must not be taken for gone."""
    answering(lambda operation, address: 403 if operation in ("HeadObject", "GetObject") else 0)
    objects = S3Objects(cloud.s3, cloud.bucket_name)
    for ask in (lambda: objects.read(HERE, 0, 5), lambda: objects.sizes([HERE])):
        with pytest.raises(ClientError):
            ask()


def test_a_version_that_may_not_be_read_is_not_absent_even_where_nothing_else_is_there(cloud: Emulated, answering: Any) -> None:
    """What is taken for gone would be removed unread."""
    answering(lambda operation, address: 403 if operation == "GetObject" else 0)
    for key in (HERE, ABSENT):
        with pytest.raises(ClientError):
            S3Versions(cloud.s3, cloud.bucket_name).read(key, "1", 132)


def test_what_may_be_neither_read_nor_listed_is_not_absent(cloud: Emulated, answering: Any) -> None:
    answering(lambda operation, address: 403)
    objects = S3Objects(cloud.s3, cloud.bucket_name)
    for ask in (lambda: objects.read(ABSENT, 0, 5), lambda: objects.sizes([ABSENT])):
        with pytest.raises(ClientError):
            ask()


def test_a_list_that_is_throttled_says_to_try_again(cloud: Emulated, answering: Any) -> None:
    cloud.s3.meta.config.retries = {"max_attempts": 0, "mode": "standard"}
    answering(lambda operation, address: 429 if operation == "ListObjectsV2" else forbidden_when_absent(operation, address))
    with pytest.raises(TryAgain):
        S3Objects(cloud.s3, cloud.bucket_name).sizes([ABSENT])


def test_nothing_is_listed_where_s3_says_that_a_key_is_absent(cloud: Emulated, answering: Any) -> None:
    asked = answering(lambda operation, address: 0)
    S3Objects(cloud.s3, cloud.bucket_name).sizes([HERE, ABSENT])
    assert sorted(asked.asked) == ["HeadObject", "HeadObject"]
