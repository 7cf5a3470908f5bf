"""The queue of stored objects. Fulfils `domain.ports.Announcer`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import quote_plus

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.domain.errors import TryAgain

_OBJECTS = 5
"""Objects that one message tells of: a batch of messages is then no more than an indexer reads in its time."""
_MESSAGES = 10
"""Messages that one request may send (SQS API reference, SendMessageBatch)."""
T = TypeVar("T")


class SqsAnnouncer:
    """`client` is a boto3 SQS client, `queue` the URL of the queue into which S3 sends its events."""

    def __init__(self, client: Any, queue: str) -> None:
        self._client = client
        self._queue = queue

    def announce(self, sizes: Mapping[str, int]) -> None:
        """See `ports.Announcer.announce`. One request for fifty objects."""
        for messages in _groups(_groups(sizes.items(), _OBJECTS), _MESSAGES):
            entries = [{"Id": str(number), "MessageBody": _event(objects)} for number, objects in enumerate(messages)]
            try:
                answer = self._client.send_message_batch(QueueUrl=self._queue, Entries=entries)
            except (BotoCoreError, ClientError) as error:
                raise TryAgain from error
            if answer.get("Failed"):
                raise TryAgain


def _event(objects: Iterable[tuple[str, int]]) -> str:
    """What S3 would send, as far as the indexer reads it (S3 User Guide, "Event message structure")."""
    records = [
        {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {"object": {"key": quote_plus(key), "size": size}}}
        for key, size in objects
    ]
    return json.dumps({"Records": records})


def _groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    remaining = iter(items)
    while group := list(islice(remaining, size)):
        yield group
