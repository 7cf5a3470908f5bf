"""What AWS's event source mappings do: poll a queue or a stream, hand batches to a function, honour partial
failures.

A queue's messages come back after their visibility timeout, and go to the dead-letter queue by the queue's
own redrive policy. A stream's batch is tried again from its lowest failed record, bisected only when the handler
raises, which does not count as a try, and what has used up its tries goes to the failure destination. Both wake
up by event; idle they cost nothing.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from local.emulation.moto_patches import REGION
from local.faults import NEVER, Faults
from local.lambda_runtime.filters import Pattern, passes
from local.lambda_runtime.functions import PAYLOAD_LIMIT_BYTES, Function
from local.state import State

_log = logging.getLogger("city.pumps")
STREAM_PERIOD = 0.25
"""Seconds between two batches of a stream: Lambda polls a shard four times a second. A single change goes at once."""
QUIET = 0.03
"""Seconds without a further message after which a batch is handed over, however long its window is."""


@dataclass(frozen=True)
class QueueSource:
    """An SQS event source: `window` in seconds; `hurry` caps the seconds after which a failed message comes
    back."""

    batch_size: int
    window: float
    reports_failures: bool
    hurry: float = 5.0


@dataclass(frozen=True)
class StreamSource:
    """A DynamoDB stream event source; `retries` and `max_age` (seconds) as the mapping sets them, None for no end.

    `on_failure` is told, in the form of Lambda's failure destinations, which records were given up.
    """

    consumer: str
    table_name: str
    batch_size: int
    filters: Sequence[Pattern]
    reports_failures: bool
    bisect: bool
    retries: int | None
    max_age: float | None
    on_failure: Callable[[str], object] | None


class Pump:
    """A thread that runs `step` again and again until `stop`; a step waits, a second at most, while there is nothing."""

    def __init__(self, name: str, step: Callable[[Pump], None]) -> None:
        self.stopping = threading.Event()
        self.delivering = False
        self._thread = threading.Thread(target=self._run, args=(step,), name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self, step: Callable[[Pump], None]) -> None:
        while not self.stopping.is_set():
            try:
                step(self)
            except Exception:  # the emulator's own: a pump that ends would stop the city in silence
                _log.exception("a pump stumbled and goes on")
                self.stopping.wait(1)

    def stop(self) -> None:
        self.stopping.set()

    @property
    def busy(self) -> bool:
        """Whether a batch is with the function."""
        return self.delivering


# SQS -------------------------------------------------------------------------------------------------


def queue_pump(source: QueueSource, queue: Any, function: Function, name: str, faults: Faults = NEVER) -> Pump:
    """Hands the messages of `queue`, the emulator's, to the function."""

    def step(pump: Pump) -> None:
        messages = _spared(_gather(pump, queue, source), queue, faults)
        pump.delivering = bool(messages)
        if messages:
            _handle_messages(function, queue, source, messages)
            _double(messages, queue, faults)
        pump.delivering = False

    return Pump(name, step)


def _gather(pump: Pump, queue: Any, source: QueueSource) -> list[Any]:
    """Up to a batch of messages; waits for the first, then as long as others keep coming within the window."""
    messages: list[Any] = []
    with queue._messages_lock:
        if not queue._messages_lock.wait_for(lambda: pump.stopping.is_set() or _visible(queue), timeout=1.0):
            return []
        until = time.monotonic() + source.window
        while not pump.stopping.is_set() and len(messages) < source.batch_size:
            messages += _take(queue, source.batch_size - len(messages))
            if sum(len(message.body) for message in messages) > PAYLOAD_LIMIT_BYTES // 2:
                break
            wait = min(QUIET, until - time.monotonic())
            if wait <= 0 or not queue._messages_lock.wait_for(lambda: _visible(queue), timeout=wait):
                break
    return messages


def _spared(messages: list[Any], queue: Any, faults: Faults) -> list[Any]:
    """Those that are neither lost nor late this time, in the order in which they come now. None is late twice."""
    chances = faults.chances
    left: list[Any] = []
    for message in messages:
        first = message.approximate_receive_count == 1
        if first and faults.happens(chances.events_lost):
            with queue._messages_lock:
                queue._messages = [kept for kept in queue._messages if kept is not message]
                queue.pending_messages.discard(message)
        elif first and faults.happens(chances.events_late):
            message.visible_at = (time.time() + chances.late_seconds) * 1000
            threading.Timer(chances.late_seconds + 0.01, _wake, [queue]).start()
        else:
            left.append(message)
    if chances.events_shuffled:
        faults.shuffle(left)
    return left


def _double(messages: list[Any], queue: Any, faults: Faults) -> None:
    """Some come once more."""
    chance = faults.chances.events_doubled
    for message in messages:
        if faults.happens(chance):
            from moto.sqs.models import Message

            again = Message(str(uuid.uuid4()), message.body)
            again.mark_sent()
            queue.add_message(again)


def _visible(queue: Any) -> bool:
    now = time.time() * 1000
    return any(message.visible_at < now and message.delayed_until <= now for message in queue._messages)


def _take(queue: Any, count: int) -> list[Any]:
    """Receive visible messages; those received too often move to the dead-letter queue. The lock is held.

    The emulator's own ReceiveMessage counts the whole queue for each message it hands out.
    """
    now = time.time() * 1000
    taken: list[Any] = []
    dead: list[Any] = []
    most = int(queue.redrive_policy["maxReceiveCount"]) if queue.dead_letter_queue is not None else None
    for message in queue._messages:
        if len(taken) >= count:
            break
        if message.visible_at >= now or message.delayed_until > now:
            continue
        if most is not None and message.approximate_receive_count >= most:
            dead.append(message)
            continue
        message.mark_received(visibility_timeout=int(queue.visibility_timeout))
        queue.pending_messages.add(message)
        taken.append(message)
    for message in dead:
        queue._messages.remove(message)
        queue.pending_messages.discard(message)
        queue.dead_letter_queue.add_message(message)
    return taken


def _handle_messages(function: Function, queue: Any, source: QueueSource, messages: list[Any]) -> None:
    event = {"Records": [_sqs_record(message, queue) for message in messages]}
    everything = {message.id for message in messages}
    try:
        answer = function.invoke(event)
        failed = _failed_ids(answer, everything) if source.reports_failures else set()
    except Exception:  # whatever a function raises, Lambda delivers its batch again
        _log.exception("%s failed with a batch of %d", function.name, len(messages))
        failed = everything
    with queue._messages_lock:
        handles = {message.receipt_handle for message in messages if message.id not in failed}
        kept = []
        for message in queue._messages:
            if message.receipt_handle in handles:
                queue.pending_messages.discard(message)
                continue
            if message.id in failed:
                tries = message.approximate_receive_count
                delay = min(source.hurry, 0.5 * 2**tries, float(queue.visibility_timeout))
                message.visible_at = time.time() * 1000 + delay * 1000
                threading.Timer(delay + 0.01, _wake, [queue]).start()
            kept.append(message)
        queue._messages = kept


def _wake(queue: Any) -> None:
    with queue._messages_lock:
        queue._messages_lock.notify_all()


def _failed_ids(answer: Any, everything: set[str]) -> set[str]:
    """The message ids that a handler names; an answer that Lambda cannot read fails the whole batch."""
    if not answer or not answer.get("batchItemFailures"):
        return set()
    named = {entry.get("itemIdentifier") for entry in answer["batchItemFailures"]}
    return named if named <= everything else everything


def _sqs_record(message: Any, queue: Any) -> dict[str, Any]:
    return {
        "messageId": message.id,
        "receiptHandle": message.receipt_handle,
        "body": message.body,
        "attributes": {
            "ApproximateReceiveCount": str(message.approximate_receive_count),
            "SentTimestamp": str(message.sent_timestamp),
            "SenderId": message.sender_id,
            "ApproximateFirstReceiveTimestamp": str(message.approximate_first_receive_timestamp),
        },
        "messageAttributes": {},
        "md5OfBody": message.body_md5,
        "eventSource": "aws:sqs",
        "eventSourceARN": queue.queue_arn,
        "awsRegion": REGION,
    }


# DynamoDB streams ------------------------------------------------------------------------------------

Row = tuple[int, dict[str, Any]]


def stream_pump(source: StreamSource, function: Function, state: State, faults: Faults = NEVER) -> Pump:
    """One shard, one batch at a time, so that the records of a key stay in order. The checkpoint is in the
    state."""
    with state.transaction() as database:
        database.execute("INSERT OR IGNORE INTO checkpoints VALUES (?, ?, 0)", (source.consumer, source.table_name))
    more = threading.Event()
    state.stream_listeners.append(more)
    handed_over = 0.0

    def step(pump: Pump) -> None:
        nonlocal handed_over
        pump.delivering = False
        pump.stopping.wait(max(0.0, handed_over + STREAM_PERIOD - time.monotonic()))
        more.clear()
        rows, last = _read(source, state)
        if rows:
            pump.delivering = True
            pump.stopping.wait(faults.chances.records_late_seconds)
            handed_over = time.monotonic()
        if last is None:
            more.wait(timeout=1.0)
            return
        if rows and not _deliver(pump, source, function, rows):
            return
        if rows and faults.happens(faults.chances.records_doubled):
            return  # the checkpoint was not kept: they come again
        _advance(source, state, last)

    return Pump(source.consumer, step)


def _read(source: StreamSource, state: State) -> tuple[list[Row], int | None]:
    """The next records that pass the filter, and the sequence number up to which was read."""
    with state.lock:
        found = state.database.execute(
            "SELECT sequence, record FROM stream WHERE source = ? AND sequence > "
            "(SELECT sequence FROM checkpoints WHERE consumer = ?) ORDER BY sequence LIMIT ?",
            (source.table_name, source.consumer, source.batch_size),
        ).fetchall()
    rows: list[Row] = []
    size, last = 0, None
    for sequence, text in found:
        size += len(text)
        if rows and size > PAYLOAD_LIMIT_BYTES * 3 // 4:
            break
        last = sequence
        record = json.loads(text)
        if passes(source.filters, record):
            record["dynamodb"]["SequenceNumber"] = f"{sequence:021d}"
            rows.append((sequence, record))
    return rows, last


def _advance(source: StreamSource, state: State, sequence: int) -> None:
    with state.transaction() as database:
        database.execute(
            "UPDATE checkpoints SET sequence = max(sequence, ?) WHERE consumer = ?",
            (sequence, source.consumer),
        )
        database.execute(
            "DELETE FROM stream WHERE source = ? AND sequence <= (SELECT min(sequence) FROM checkpoints WHERE source = ?)",
            (source.table_name, source.table_name),
        )


def _deliver(pump: Pump, source: StreamSource, function: Function, rows: list[Row]) -> bool:
    """Hand over until all are done or given up; False if the city is stopping and something is left."""
    tries = 0
    while rows:
        if pump.stopping.is_set():
            return False
        try:
            answer = function.invoke({"Records": [record for _, record in rows]})
            left, raised = (_from_lowest_failure(answer, rows) if source.reports_failures else []), False
        except Exception:  # whatever a function raises, Lambda delivers its batch again
            _log.exception("%s failed with a batch of %d", function.name, len(rows))
            left, raised = rows, True
        if len(left) < len(rows):
            tries = 0
        rows = left
        if not rows:
            return True
        oldest = time.time() - rows[0][1]["dynamodb"]["ApproximateCreationDateTime"]
        too_old = source.max_age is not None and oldest > source.max_age
        if source.bisect and raised and len(rows) > 1 and not too_old:
            half = len(rows) // 2
            return _deliver(pump, source, function, rows[:half]) and _deliver(pump, source, function, rows[half:])
        tries += 1
        exhausted = source.retries is not None and tries > source.retries
        if exhausted or too_old:
            _give_up(source, rows, "RetryAttemptsExhausted" if exhausted else "RecordAgeExceeded")
            return True
        pump.stopping.wait(min(5.0, 0.05 * 2**tries))
    return True


def _from_lowest_failure(answer: Any, rows: list[Row]) -> list[Row]:
    """Everything from the lowest sequence number named on; an answer that Lambda cannot read fails the whole
    batch."""
    if not answer or not answer.get("batchItemFailures"):
        return []
    try:
        lowest = min(int(entry["itemIdentifier"]) for entry in answer["batchItemFailures"])
    except (KeyError, TypeError, ValueError):
        return rows
    return [row for row in rows if row[0] >= lowest] if lowest <= rows[-1][0] else rows


def _give_up(source: StreamSource, rows: list[Row], condition: str) -> None:
    _log.error("%s: %d records given up (%s)", source.consumer, len(rows), condition)
    if source.on_failure is None:
        return
    message = {
        "requestContext": {"functionArn": source.consumer, "condition": condition},
        "DDBStreamBatchInfo": {
            "shardId": "shardId-00000000000000000000-00000001",
            "startSequenceNumber": f"{rows[0][0]:021d}",
            "endSequenceNumber": f"{rows[-1][0]:021d}",
            "batchSize": len(rows),
        },
    }
    source.on_failure(json.dumps(message))
