"""What `faults.json` asks for happens to functions and events, and to nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError
from moto.sqs.models import Message, Queue

from local.faults import Chances, Faults, FunctionDied
from local.lambda_runtime import direct
from local.lambda_runtime.event_source_mappings import QueueSource, queue_pump
from local.lambda_runtime.functions import Function
from tests.harness import wait_until

ENDPOINT = "http://127.0.0.1:1"


def asked_for(directory: Path, **chances: Any) -> Faults:
    (directory / "faults.json").write_text(json.dumps(chances))
    return Faults(directory)


class Cloud:
    """Answers every call, and counts them."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.calls += 1
        start_response("200 OK", [("Content-Type", "application/x-amz-json-1.0")])
        return [b'{"TableNames": []}']


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


def dynamodb(cloud: Cloud, faults: Faults) -> Any:
    """A client as the functions have it, tried once."""
    core = botocore.session.get_session()
    core.register("before-send", direct.sender(cloud, ENDPOINT, faults))
    session = boto3.Session("key", "secret", botocore_session=core)
    once = Config(retries={"total_max_attempts": 1})
    return session.client("dynamodb", region_name="eu-south-1", endpoint_url=ENDPOINT, config=once)


def test_without_the_file_nothing_goes_wrong(tmp_path: Path, cloud: Cloud) -> None:
    assert Faults(tmp_path).chances == Chances()
    assert dynamodb(cloud, Faults(tmp_path)).list_tables()["TableNames"] == []


def test_a_call_is_refused_for_its_rate_and_does_nothing(tmp_path: Path, cloud: Cloud) -> None:
    with pytest.raises(ClientError, match="ThrottlingException"):
        dynamodb(cloud, asked_for(tmp_path, throttled=1)).list_tables()
    assert cloud.calls == 0


def test_an_answer_is_lost_after_the_call_was_done(tmp_path: Path, cloud: Cloud) -> None:
    with pytest.raises(ConnectionClosedError):
        dynamodb(cloud, asked_for(tmp_path, answer_lost=1)).list_tables()
    assert cloud.calls == 1


def test_a_function_that_dies_calls_nothing_more_whatever_it_catches_and_the_next_one_lives(tmp_path: Path, cloud: Cloud) -> None:
    client = dynamodb(cloud, asked_for(tmp_path, dies=2))

    def handler(event: Any, context: Any) -> Any:
        for _ in range(3):
            try:
                client.list_tables()
            except Exception:
                continue
        return "lived"

    function = Function("f", handler, 5, 128)
    with pytest.raises(FunctionDied):
        function.invoke({})
    assert cloud.calls == 0
    client.list_tables()  # outside of any function nothing dies
    (tmp_path / "faults.json").unlink()
    wait_until(lambda: lives(function))
    assert cloud.calls == 4


def lives(function: Function) -> bool:
    try:
        return bool(function.invoke({}) == "lived")
    except FunctionDied:
        return False


@pytest.fixture
def queue() -> Iterator[Any]:
    made = Queue("work", "eu-south-1", "123456789012")
    made.visibility_timeout = 60
    yield made


def delivered(queue: Any, faults: Faults, bodies: str, enough: Callable[[list[str]], bool]) -> list[str]:
    """What reaches a function of these messages."""
    seen: list[str] = []
    function = Function("f", lambda event, _: seen.extend(record["body"] for record in event["Records"]), 5, 128)
    for body in bodies:
        message = Message(f"id-{body}", body)
        message.mark_sent()
        queue.add_message(message)
    pump = queue_pump(QueueSource(10, 0.2, True, 0.02), queue, function, "pump", faults)
    pump.start()
    try:
        wait_until(lambda: enough(seen))
    finally:
        pump.stop()
    return seen


def test_events_are_lost_late_and_doubled(tmp_path: Path, queue: Any) -> None:
    lost = asked_for(tmp_path, events_lost=1)
    assert delivered(queue, lost, "ab", lambda _: not queue._messages) == []
    late = asked_for(tmp_path, events_late=1, late_seconds=0.2)
    assert sorted(delivered(queue, late, "cd", lambda seen: len(seen) == 2)) == ["c", "d"]
    doubled = asked_for(tmp_path, events_doubled=1, seed=1)
    assert delivered(queue, doubled, "e", lambda seen: len(seen) > 2)[:3] == ["e", "e", "e"]


def test_what_is_no_fault_is_named_in_the_log_and_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert asked_for(tmp_path, throttled=0.5, trotled=1).chances == Chances(throttled=0.5)
    assert "trotled" in caplog.text
