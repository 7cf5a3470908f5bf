"""Letters that were set aside: what the archive could not do in many tries, why, and tried again."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from infra.deployed import DeployedCity

_HIDDEN_FOR = 60
"""Seconds for which a letter that is looked at is hidden from others."""
_MOST_LETTERS = 10_000
_OBJECTS_AT_ONCE = 50
_KEY = re.compile(r"instances/([a-z0-9-]{1,40})/([0-9a-f]{64})")


@dataclass(frozen=True)
class Letter:
    """A message that was tried until it was set aside. `objects`: (institution, SHA-256) of what it tells was stored."""

    queue: str
    body: str
    receipt: str
    objects: tuple[tuple[str, str], ...]
    cause: str = ""


def read(client: Any, queue: str) -> Iterator[Letter]:
    """All letters of a queue, each hidden from others for a while, or until they are shown again."""
    count = 0
    while count < _MOST_LETTERS:
        answer = client.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=_HIDDEN_FOR, WaitTimeSeconds=0)
        messages = answer.get("Messages", [])
        if not messages:
            return
        for message in messages:
            count += 1
            yield Letter(queue, message["Body"], message["ReceiptHandle"], tuple(_objects(message["Body"])))


def show_again(client: Any, seen: list[Letter]) -> None:
    """Hide letters that were only looked at no longer: the next look is to find them."""
    for letter in seen:
        client.change_message_visibility(QueueUrl=letter.queue, ReceiptHandle=letter.receipt, VisibilityTimeout=0)


def _objects(body: str) -> Iterator[tuple[str, str]]:
    try:
        records = json.loads(body).get("Records", [])
        names = [unquote_plus(str(record["s3"]["object"]["key"])) for record in records]
    except (ValueError, KeyError, TypeError, AttributeError):
        return
    for name in names:
        if found := _KEY.fullmatch(name):
            yield found[1], found[2]


def causes_of(city: DeployedCity, objects: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Why each of these objects could not be indexed, as the archive finds it now."""
    found: dict[tuple[str, str], str] = {}
    for start in range(0, len(objects), _OBJECTS_AT_ONCE):
        asked = objects[start : start + _OBJECTS_AT_ONCE]
        answer = city.run({"job": "look", "objects": [{"institution": institution, "sha256": sha} for institution, sha in asked]})
        found |= dict(zip(asked, answer["causes"], strict=True))
    return found


def given_up(body: str) -> str:
    """What Lambda says of a part of the stream that it gave up."""
    try:
        told = json.loads(body)
        batch, why = told["DDBStreamBatchInfo"], told["requestContext"]["condition"]
        return f"{why}: {int(batch['batchSize'])} facts since {batch['approximateArrivalOfFirstRecord']}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "it is not what Lambda sends"


def redrive(city: DeployedCity, client: Any, instances: list[Letter]) -> int:
    """Have letters of the indexer tried again: how many were. One that was sent and not removed comes twice, which is safe."""
    done = 0
    for letter in instances:
        if letter.objects:
            client.send_message(QueueUrl=city.outputs["InstancesQueueUrl"], MessageBody=letter.body)
            client.delete_message(QueueUrl=letter.queue, ReceiptHandle=letter.receipt)
            done += 1
    return done
