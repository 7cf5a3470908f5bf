"""The pumps hand over what Lambda would, and honour what a function says about it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.sqs.models import Message, Queue

from chalicelib.api import events
from chalicelib.bootstrap import Archive
from local.lambda_runtime.event_source_mappings import Pump, QueueSource, StreamSource, queue_pump, stream_pump
from local.lambda_runtime.functions import Function
from local.lambda_runtime.schedule import UnknownSchedule, period, schedule_pump
from local.state import State
from tests.harness import wait_until
from tests.streams import Told
from tests.unit.test_projecting import Poisoned
from tests.world import image, reading_world

Event = dict[str, Any]


class Recorder:
    """A function that remembers its events, and answers what `answer` says."""

    def __init__(self, answer: Callable[[Event], Any]) -> None:
        self.events: list[Event] = []
        self._answer = answer

    def __call__(self, event: Event, context: Any) -> Any:
        self.events.append(event)
        return self._answer(event)

    @property
    def function(self) -> Function:
        return Function("recorder", self, timeout=60, memory=128)


@pytest.fixture
def started() -> Iterator[Callable[[Pump], Pump]]:
    pumps: list[Pump] = []

    def start(pump: Pump) -> Pump:
        pump.start()
        pumps.append(pump)
        return pump

    yield start
    for pump in pumps:
        pump.stop()


# SQS -------------------------------------------------------------------------------------------------


@pytest.fixture
def queue() -> Any:
    """A queue whose messages go to a dead-letter queue after three receives."""
    queue = Queue("work", "eu-south-1", "123456789012")
    queue.dead_letter_queue = Queue("dead", "eu-south-1", "123456789012")
    queue.redrive_policy = {"maxReceiveCount": 3}
    queue.visibility_timeout = 60
    return queue


def send(queue: Any, *bodies: str) -> None:
    for body in bodies:
        message = Message(f"id-{body}", body)
        message.mark_sent()
        queue.add_message(message)


def source(**changes: Any) -> QueueSource:
    return QueueSource(**{"batch_size": 10, "window": 1.0, "reports_failures": True, "hurry": 0.02, **changes})


def test_a_message_arrives_in_lambdas_form_and_is_gone(queue: Any, started: Callable[[Pump], Pump]) -> None:
    recorder = Recorder(lambda event: {"batchItemFailures": []})
    started(queue_pump(source(window=60.0), queue, recorder.function, "pump"))
    sent_at = time.monotonic()
    send(queue, "a")
    wait_until(lambda: recorder.events and not queue._messages)
    assert time.monotonic() - sent_at < 30, "a lone message does not wait for the window to end"
    (record,) = recorder.events[0]["Records"]
    assert (record["messageId"], record["body"], record["eventSource"]) == ("id-a", "a", "aws:sqs")
    assert record["attributes"]["ApproximateReceiveCount"] == "1"


def test_messages_that_come_together_make_batches_of_the_size_that_is_set(queue: Any, started: Callable[[Pump], Pump]) -> None:
    recorder = Recorder(lambda event: None)
    send(queue, *(str(n) for n in range(25)))
    started(queue_pump(source(), queue, recorder.function, "pump"))
    wait_until(lambda: not queue._messages)
    assert [len(event["Records"]) for event in recorder.events] == [10, 10, 5]


def test_only_the_messages_that_the_function_names_come_back_until_they_are_dead_letters(
    queue: Any, started: Callable[[Pump], Pump]
) -> None:
    def answer(event: Event) -> Any:
        return {
            "batchItemFailures": [
                {"itemIdentifier": record["messageId"]} for record in event["Records"] if record["body"] == "bad"
            ]
        }

    recorder = Recorder(answer)
    send(queue, "good", "bad", "fine")
    started(queue_pump(source(), queue, recorder.function, "pump"))
    wait_until(lambda: queue.dead_letter_queue._messages)
    seen = [record["body"] for event in recorder.events for record in event["Records"]]
    assert (seen.count("good"), seen.count("fine"), seen.count("bad")) == (1, 1, 3)
    assert [message.body for message in queue.dead_letter_queue._messages] == ["bad"]


@pytest.mark.parametrize("changes", [{}, {"reports_failures": False}])
def test_a_function_that_raises_gets_the_whole_batch_again(
    changes: dict[str, Any], queue: Any, started: Callable[[Pump], Pump]
) -> None:
    tries = iter([True, False])

    def answer(event: Event) -> Any:
        if next(tries):
            raise RuntimeError("out of memory")

    recorder = Recorder(answer)
    send(queue, "a", "b")
    started(queue_pump(source(**changes), queue, recorder.function, "pump"))
    wait_until(lambda: len(recorder.events) == 2 and not queue._messages)
    assert [len(event["Records"]) for event in recorder.events] == [2, 2]


@pytest.mark.parametrize("nonsense", [[{"itemIdentifier": "unknown"}], [{"other": "x"}], [{"itemIdentifier": ""}]])
def test_failures_that_lambda_cannot_read_fail_the_whole_batch(
    nonsense: Any, queue: Any, started: Callable[[Pump], Pump]
) -> None:
    recorder = Recorder(lambda event: {"batchItemFailures": nonsense})
    send(queue, "a", "b")
    started(queue_pump(source(), queue, recorder.function, "pump"))
    wait_until(lambda: len(queue.dead_letter_queue._messages) == 2)


def test_without_report_batch_item_failures_what_the_function_says_is_lost(queue: Any, started: Callable[[Pump], Pump]) -> None:
    """As in AWS: the reason why the packaged template is tested for it."""
    recorder = Recorder(lambda event: {"batchItemFailures": [{"itemIdentifier": "id-a"}]})
    send(queue, "a")
    started(queue_pump(source(reports_failures=False), queue, recorder.function, "pump"))
    wait_until(lambda: not queue._messages)
    assert len(recorder.events) == 1
    assert not queue.dead_letter_queue._messages


# DynamoDB streams ------------------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = State(tmp_path / "state")
    yield state
    state.close()


def change(state: State, *keys: str) -> None:
    with state.transaction():
        for key in keys:
            record = {
                "eventName": "INSERT",
                "dynamodb": {
                    "ApproximateCreationDateTime": int(time.time()),
                    "Keys": {"pk": {"S": key}, "sk": {"S": str(time.monotonic_ns())}},
                },
            }
            state.append_to_stream("table", (key, str(time.monotonic_ns())), record)


def stream(**changes: Any) -> StreamSource:
    settings: dict[str, Any] = {
        "consumer": "projector",
        "table_name": "table",
        "batch_size": 10,
        "filters": [{"dynamodb": {"Keys": {"pk": {"S": [{"prefix": "F#"}]}}}}],
        "reports_failures": True,
        "bisect": False,
        "retries": 3,
        "max_age": None,
        "on_failure": None,
        **changes,
    }
    return StreamSource(**settings)


def keys(event: Event) -> list[str]:
    return [record["dynamodb"]["Keys"]["pk"]["S"] for record in event["Records"]]


def checkpoint(state: State) -> int:
    with state.lock:
        row = state.database.execute("SELECT sequence FROM checkpoints WHERE consumer = 'projector'").fetchone()
        left = state.database.execute("SELECT count(*) FROM stream").fetchone()[0]
    return int(row[0]) if not left else -1


def test_changes_arrive_in_order_and_only_those_that_pass_the_filter(state: State, started: Callable[[Pump], Pump]) -> None:
    recorder = Recorder(lambda event: {"batchItemFailures": []})
    started(stream_pump(stream(), recorder.function, state))
    changed_at = time.monotonic()
    change(state, "F#1", "V#1", "F#2")
    wait_until(lambda: checkpoint(state) == 3)
    assert time.monotonic() - changed_at < 5
    assert [keys(event) for event in recorder.events] == [["F#1", "F#2"]]
    numbers = [int(record["dynamodb"]["SequenceNumber"]) for record in recorder.events[0]["Records"]]
    assert numbers == sorted(numbers)


def test_a_partial_failure_is_tried_again_from_the_lowest_record_named(state: State, started: Callable[[Pump], Pump]) -> None:
    def answer(event: Event) -> Any:
        failed = [r["dynamodb"]["SequenceNumber"] for r in event["Records"] if len(event["Records"]) == 3][1:]
        return {"batchItemFailures": [{"itemIdentifier": number} for number in reversed(failed)]}

    recorder = Recorder(answer)
    change(state, "F#1", "F#2", "F#3")
    started(stream_pump(stream(), recorder.function, state))
    wait_until(lambda: checkpoint(state) == 3)
    assert [keys(event) for event in recorder.events] == [["F#1", "F#2", "F#3"], ["F#2", "F#3"]]


def test_a_record_that_always_fails_is_set_aside_alone(state: State, started: Callable[[Pump], Pump]) -> None:
    def answer(event: Event) -> Any:
        if "F#poison" in keys(event):
            raise RuntimeError("cannot project")

    told: list[str] = []
    recorder = Recorder(answer)
    change(state, "F#1", "F#poison", "F#2", "F#3")
    started(stream_pump(stream(bisect=True, on_failure=told.append), recorder.function, state))
    wait_until(lambda: checkpoint(state) == 4)
    done = [key for event in recorder.events for key in keys(event) if "F#poison" not in keys(event)]
    assert done == ["F#1", "F#2", "F#3"]
    (message,) = [json.loads(text) for text in told]
    assert message["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert message["DDBStreamBatchInfo"]["batchSize"] == 1
    assert int(message["DDBStreamBatchInfo"]["startSequenceNumber"]) == 2


def test_a_partial_failure_is_not_halved_and_takes_all_behind_it_along(state: State, started: Callable[[Pump], Pump]) -> None:
    """As in AWS, which goes on from the number that was named: the reason why the projector raises."""

    def answer(event: Event) -> Any:
        named = [r["dynamodb"]["SequenceNumber"] for r in event["Records"] if r["dynamodb"]["Keys"]["pk"]["S"] == "F#poison"]
        return {"batchItemFailures": [{"itemIdentifier": number} for number in named]}

    told: list[str] = []
    recorder = Recorder(answer)
    change(state, "F#1", "F#poison", "F#2", "F#3")
    started(stream_pump(stream(bisect=True, on_failure=told.append), recorder.function, state))
    wait_until(lambda: checkpoint(state) == 4)
    assert {tuple(keys(event)) for event in recorder.events[1:]} == {("F#poison", "F#2", "F#3")}
    assert [json.loads(text)["DDBStreamBatchInfo"]["batchSize"] for text in told] == [3]


def test_a_fact_that_never_succeeds_is_set_aside_alone_by_the_projector_and_thirty_others_are_projected(
    state: State, started: Callable[[Pump], Pump]
) -> None:
    """It had taken along all behind it: studies of other patients were not found, and nobody was told of what they opened."""
    archive = reading_world()
    images = [image(study=f"1.{number}", patient=f"SM{number}") for number in range(31)]
    archive.index_batch(archive.put_objects("san-matteo", *images))
    projector = Archive({"table": Poisoned(archive.table, "1.7"), "alerts": Told()})
    told: list[str] = []
    recorder = Recorder(lambda event: events.project(projector, event, lambda: 300.0))
    change(state, *(f"F#STUDY#san-matteo#1.{number}" for number in range(31)))
    started(stream_pump(stream(batch_size=500, bisect=True, on_failure=told.append), recorder.function, state))
    wait_until(lambda: checkpoint(state) == 31)
    shown = {pk for pk, _ in archive.views() if pk.startswith("V#STUDY#")}
    assert shown == {f"V#STUDY#1.{number}" for number in range(31) if number != 7}
    (letter,) = [json.loads(text)["DDBStreamBatchInfo"] for text in told]
    assert (int(letter["startSequenceNumber"]), letter["batchSize"]) == (8, 1)
    last = [keys(event)[0] for event in recorder.events if len(event["Records"]) == 1]
    assert last.count("F#STUDY#san-matteo#1.7") == 4, "it was tried once, and again three times"


def test_a_record_that_is_too_old_is_given_up(state: State, started: Callable[[Pump], Pump]) -> None:
    def answer(event: Event) -> Any:
        raise RuntimeError("later")

    told: list[str] = []
    change(state, "F#1")
    started(stream_pump(stream(retries=None, max_age=0.0, on_failure=told.append), Recorder(answer).function, state))
    wait_until(lambda: checkpoint(state) == 1)
    assert json.loads(told[0])["requestContext"]["condition"] == "RecordAgeExceeded"


def test_what_was_not_delivered_is_delivered_after_a_restart(tmp_path: Path, started: Callable[[Pump], Pump]) -> None:
    state = State(tmp_path / "state")
    stuck = threading.Event()
    pump = stream_pump(stream(), Recorder(lambda event: stuck.wait(5)).function, state)
    pump.start()
    change(state, "F#1")
    wait_until(lambda: pump.busy)
    pump.stop()
    state.close()
    stuck.set()
    again = State(tmp_path / "state")
    recorder = Recorder(lambda event: None)
    started(stream_pump(stream(), recorder.function, again))
    wait_until(lambda: checkpoint(again) == 1)
    assert keys(recorder.events[0]) == ["F#1"]
    again.close()


def test_a_change_that_is_undone_makes_no_record(state: State) -> None:
    with pytest.raises(RuntimeError), state.transaction():
        change(state, "F#1")
        raise RuntimeError
    with state.lock:
        assert state.database.execute("SELECT count(*) FROM stream").fetchone()[0] == 0


# Schedules -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("expression", "seconds"), [("rate(15 minutes)", 900), ("rate(1 hour)", 3600), ("rate(2 days)", 172800)])
def test_a_rate_is_understood(expression: str, seconds: float) -> None:
    assert period(expression) == seconds


def test_a_schedule_that_is_not_understood_is_an_error() -> None:
    with pytest.raises(UnknownSchedule):
        period("cron(0 3 * * ? *)")


def test_a_function_runs_when_its_time_has_come_and_again_after_a_period(state: State, started: Callable[[Pump], Pump]) -> None:
    recorder = Recorder(lambda event: None)
    began = time.monotonic()
    started(schedule_pump(recorder.function, 0.2, state))
    wait_until(lambda: len(recorder.events) == 2)
    assert time.monotonic() - began > 0.35
    assert recorder.events[0]["source"] == "aws.events"


def test_a_function_that_was_due_while_the_city_was_down_runs_at_its_start(state: State, started: Callable[[Pump], Pump]) -> None:
    recorder = Recorder(lambda event: None)
    state.set_setting("schedule:recorder", time.time() - 1000)
    started(schedule_pump(recorder.function, 900, state))
    wait_until(lambda: recorder.events)


def test_a_scheduled_function_that_raises_is_called_twice_more(state: State, started: Callable[[Pump], Pump]) -> None:
    def answer(event: Event) -> Any:
        raise RuntimeError("not now")

    recorder = Recorder(answer)
    state.set_setting("schedule:recorder", time.time() - 1000)
    pump = started(schedule_pump(recorder.function, 900, state, pause=0.01))
    wait_until(lambda: len(recorder.events) == 3 and not pump.busy)
