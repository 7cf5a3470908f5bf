"""The way out: take what waits, compress it, ask the archive, PUT what it lacks, and learn its verdicts.

    journal ─▶ compressing ─▶ offered (asked in batches) ─▶ uploading (a heap, the most urgent first) ─▶ stored ─▶ verdict

At most `IN_FLIGHT` instances are in memory, however many wait. A failure of the line closes it for everyone and blames no
instance; a failure of one instance postpones that one. Nothing here decides durability: whatever stands in memory can be
lost at any instant, and the journal makes it begin again.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from forwarder import files
from forwarder.alerts import Reason
from forwarder.archive.client import BATCH, Archive, InstanceStatus, Upload
from forwarder.archive.link import ConcurrencyWindow, End, Link, TokenBucket
from forwarder.archive.retry import pause
from forwarder.compression.jpegls import Compressed
from forwarder.compression.pool import CompressionPool
from forwarder.config import SendConfig
from forwarder.errors import ArchiveError, Failure, SpoolError
from forwarder.logs import log
from forwarder.spool.instances import InstanceState, InstanceTable, Item, Packing
from forwarder.spool.spool import Spool
from forwarder.upload.status_polling import Verdicts

IN_FLIGHT = 1000
URGENT_BESIDES = 500  # and so many more of what is urgent, which shall not wait for the others
COMPRESSING = 32
UPLOADING = 300  # beyond it no more questions are asked
LARGEST = 5 * 1024**3  # bytes; the contract's limit
GIVE_UP_AFTER = 12  # refusals of one instance's bytes by the store; then it goes aside for a person to look at
URGENT_FIRST = 2.0  # seconds for which others' bytes wait for an urgent upload to begin, at the most for each block
LOOK_PACE = 0.05  # seconds between two looks into the journal: instances may come by the hundred a second


@dataclass(order=True)
class Job:
    """An upload to be made: the smallest rank first, then the one that came first."""

    rank: float
    number: int
    item: Item = field(compare=False)
    upload: Upload = field(compare=False)


@dataclass
class Traffic:
    """What went out since the start."""

    bytes_sent: int = 0  # over the line, repeated attempts included
    bytes_saved: int = 0  # by compressing
    packing_failures: int = 0


class Outbox:
    """Runs the way out in threads of its own between `start` and `stop`.

    `on_indexed` hears the Study Instance UIDs of what the archive has indexed.
    """

    def __init__(self, spool: Spool, archive: Archive, config: SendConfig) -> None:
        self.on_indexed: Callable[[Collection[str]], None] = lambda _: None
        self.traffic = Traffic()
        self.line = Link()
        self.window = ConcurrencyWindow(config.parallel)
        self.uploads_now = 0
        self._failed_steps: set[str] = set()  # those that the spool failed, at their last try
        self._spool = spool
        self._archive = archive
        self._config = config
        self._queue = InstanceTable(spool.journal)
        self._packers = CompressionPool()
        self._limiter = TokenBucket(config.limits)
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)  # for the feeder
        self._verdict_wake = threading.Condition(self._lock)
        self._upload_wake = threading.Condition(self._lock)
        self._stopping = False
        self._noticed = False  # something came since the feeder looked
        self._idle = False  # the feeder waits for that
        self._look_at = 0.0  # when the feeder may look into the journal again
        self._in_flight: set[str] = set()
        self._compressing = 0
        self._offered: list[Item] = []
        self._offered_since = 0.0
        self._jobs: list[Job] = []
        self._numbers = itertools.count()
        self._verdicts = Verdicts(spool, self._queue, archive, self.line, self._indexed)
        self._threads: list[threading.Thread] = []

    @property
    def issuer_names(self) -> dict[str, int]:
        """See `Verdicts.issuer_names`."""
        return self._verdicts.issuer_names

    @property
    def failing(self) -> bool:
        """Whether the spool failed at the last try."""
        return bool(self._failed_steps)

    def start(self) -> None:
        steps = [("feeder", self._feed, self._wake), ("verdicts", self._ask_for_verdicts, self._verdict_wake)]
        for number in range(self._config.parallel):
            steps.append((f"upload-{number}", self._upload, self._upload_wake))
        for name, step, wake in steps:
            thread = threading.Thread(target=self._guarded, args=(step, wake), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, seconds: float = 10.0) -> None:
        """Begin nothing new and wait for what is under way; what does not end in time begins again at the next start."""
        with self._wake:
            self._stopping = True
            self._notify_all()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._packers.close()

    def notice(self) -> None:
        """Something new waits. Called for each instance that arrives: it costs next to nothing while the feeder is busy."""
        self._noticed = True
        if self._idle:
            with self._wake:
                self._wake.notify_all()

    def try_now(self) -> None:
        """Do not wait for the line any longer."""
        self.line.open_now()
        with self._lock:
            self._notify_all()

    def _indexed(self, studies: Collection[str]) -> None:
        self.on_indexed(studies)

    def _notify_all(self) -> None:
        for wake in (self._wake, self._verdict_wake, self._upload_wake):
            wake.notify_all()

    def _guarded(self, step: Callable[[], float], wake: threading.Condition) -> None:
        """Repeat `step`, which returns how long to wait (seconds) at most; a failing disk is waited out."""
        while not self._stopping:
            try:
                wait = step()
            except (SpoolError, OSError) as error:
                log.error("the spool fails", detail=str(error))
                self._failed_steps.add(step.__name__)
                wait = 2.0
            else:
                self._failed_steps.discard(step.__name__)
            if wait > 0:
                with wake:
                    if not self._stopping:
                        wake.wait(wait)

    # From the journal to the offers

    def _feed(self) -> float:
        if self._may_offer():
            if self._noticed:
                self._look()  # what is most urgent may have come just now
            return self._ask(self._batch_to_offer())
        rest = self._look_at - time.monotonic()
        if rest <= 0 and self._look():
            return 0.0
        with self._wake:
            waiting_for_more, flying = bool(self._offered), bool(self._in_flight)
        if waiting_for_more:
            return max(0.01, self._config.linger_seconds / 4)
        if rest > 0:
            return rest
        due = self._queue.next_due() if not flying else None
        with self._wake:
            self._idle = True
            if not self._noticed and not self._stopping:
                self._wake.wait(min(1.0, due if due is not None else 1.0))
            self._idle = False
        return 0.0

    def _look(self) -> bool:
        """Take what there is room for from the journal; returns whether there was something."""
        self._look_at = time.monotonic() + LOOK_PACE
        self._noticed = False
        with self._wake:
            flying = set(self._in_flight)
            room = COMPRESSING - self._compressing if self._config.lossless else BATCH
        ordinary = min(room, IN_FLIGHT - len(flying))
        items: list[Item] = []
        if ordinary > 0:
            items = self._queue.next(ordinary, flying)
        elif room > 0 and len(flying) < IN_FLIGHT + URGENT_BESIDES:
            items = self._queue.next(room, flying, only_urgent=True)
        for item in items:
            self._take(item)
        return bool(items)

    def _take(self, item: Item) -> None:
        with self._wake:
            self._in_flight.add(item.digest)
        with self._landing_on_failure(item):
            if item.size > LARGEST:
                self._set_aside(item, Reason.LARGER_THAN_5_GIB)
            elif item.packing is Packing.UNDECIDED and self._config.lossless and self._has_room_for(item):
                with self._wake:
                    self._compressing += 1
                self._compress(item)
            else:
                self._offer(item)

    @contextmanager
    def _landing_on_failure(self, item: Item) -> Iterator[None]:
        """Where the spool fails in the middle, the instance begins again from the journal instead of staying in the air."""
        try:
            yield
        except (SpoolError, OSError):
            self._land(item)
            raise

    def _has_room_for(self, item: Item) -> bool:
        return self._spool.free_bytes() > self._spool.reserve_bytes + 2 * item.size

    def _compress(self, item: Item) -> None:
        source, target = self._spool.path(item.digest), self._spool.packed_path(item.digest)
        future = self._packers.submit(source, target, item.digest)
        future.add_done_callback(
            lambda done: None if done.cancelled() or self._stopping else self._compressed(item, done.result())
        )

    def _compressed(self, item: Item, result: Compressed | str | None) -> None:
        if isinstance(result, Compressed):
            item.packing, item.packed = Packing.PACKED, result
            self.traffic.bytes_saved += item.size - result.size
        else:
            item.packing = Packing.PLAIN
            if isinstance(result, str):
                self.traffic.packing_failures += 1
                log.warning("sent uncompressed", instance=item.digest[:12], detail=result)
        self._queue.packed(item)
        self._spool.step("packed")
        with self._wake:
            self._compressing -= 1
        self._offer(item)

    def _offer(self, item: Item) -> None:
        with self._wake:
            if not self._offered:
                self._offered_since = time.monotonic()
            self._offered.append(item)
            self._wake.notify_all()

    # From the offers to the uploads

    def _may_offer(self) -> bool:
        """Whether it is time to ask: a full batch, or what has lingered, while uploads have room or something is urgent."""
        with self._wake:
            if not self._offered or self.line.closed_for():
                return False
            if len(self._jobs) >= UPLOADING and not any(item.urgent for item in self._offered):
                return False
            lingered = time.monotonic() - self._offered_since >= self._config.linger_seconds
            return lingered or len(self._offered) >= BATCH

    def _batch_to_offer(self) -> list[Item]:
        """The instances to ask about now, the most urgent first."""
        with self._wake:
            self._offered.sort(key=lambda item: item.rank)
            batch, self._offered = self._offered[:BATCH], self._offered[BATCH:]
            return batch

    def _ask(self, batch: list[Item]) -> float:
        started = time.monotonic()
        try:
            standings = self._archive.ask([item.offer() for item in batch])
        except ArchiveError as error:
            return self._not_answered(batch, error, started)
        self.line.succeeded()
        self._spool.step("asked")
        settled: list[tuple[str, InstanceStatus]] = []
        with self._wake:
            for item, standing in zip(batch, standings, strict=True):
                if standing.upload is not None:
                    heapq.heappush(self._jobs, Job(item.rank, next(self._numbers), item, standing.upload))
                else:
                    settled.append((item.digest, standing))
            self._upload_wake.notify_all()
        try:
            self._verdicts.judge(settled)
        finally:
            for digest, _ in settled:
                self._land_digest(digest)
        return 0.0

    def _not_answered(self, batch: list[Item], error: ArchiveError, started: float) -> float:
        if self.line.failed(error, started):
            log.warning("the archive does not answer", kind=error.failure.value, detail=str(error))
            with self._wake:
                self.window.failed()
                self._offered[:0] = batch
            return self.line.closed_for()
        if len(batch) > 1:  # one of them spoils the question: halve it until it stands alone
            middle = len(batch) // 2
            return max(self._ask(batch[:middle]), self._ask(batch[middle:]))
        with self._landing_on_failure(batch[0]):
            self._failed_alone(batch[0], error)
        return 0.0

    def _upload(self) -> float:
        """One upload, if there is one and the window allows it."""
        with self._wake:
            closed = self.line.closed_for()
            if closed:
                return min(closed, 1.0)
            if not self._jobs or self.uploads_now >= self.window.limit:
                return 1.0
            job = heapq.heappop(self._jobs)
            self.uploads_now += 1
            in_flight = self.uploads_now
        try:
            with self._landing_on_failure(job.item):
                self._put(job, in_flight)
        finally:
            with self._wake:
                self.uploads_now -= 1
                self._upload_wake.notify(2)
                if len(self._jobs) < UPLOADING:
                    self._wake.notify_all()
        return 0.0

    def _put(self, job: Job, in_flight: int) -> None:
        item, started = job.item, time.monotonic()
        if self._is_late(job.upload):
            self._offer(item)
            return
        path = self._spool.packed_path(item.digest) if item.packed else self._spool.path(item.digest)
        try:
            with path.open("rb") as file:
                self._archive.put(job.upload, file, item.sent_size, self._count)
        except OSError as error:
            self._unreadable(item, error)
        except SpoolError as error:
            log.error("an instance cannot be read", instance=item.digest[:12], detail=str(error))
            self._check_bytes(item)
        except ArchiveError as error:
            if self.line.failed(error, started, End.STORE):
                log.warning("the store does not take it", kind=error.failure.value, detail=str(error))
                with self._wake:
                    self.window.failed()
                    heapq.heappush(self._jobs, job)
            elif error.failure is Failure.EXPIRED_URL:
                self._offer(item)
            else:
                self._failed_alone(item, error)
        else:
            self.line.succeeded(End.STORE)
            self._spool.step("put")
            with self._wake:
                self.window.succeeded(item.sent_size, in_flight)
            self._queue.stored(item).add_done_callback(lambda _: self._land(item))

    def _count(self, sent: int) -> None:
        self.traffic.bytes_sent += sent
        self._limiter.take(sent)

    def share(self, count: int) -> None:
        """Account for bytes that somebody else moved over the line: within the same limits, and behind what is urgent."""
        self._limiter.take(count)
        deadline = time.monotonic() + URGENT_FIRST
        with self._upload_wake:
            self._upload_wake.wait_for(
                lambda: self._stopping or not any(job.item.urgent for job in self._jobs), deadline - time.monotonic()
            )

    def _is_late(self, upload: Upload) -> bool:
        try:
            expires = datetime.fromisoformat(upload.expires_at).timestamp()
        except ValueError:
            return False
        return self._archive.signer.clock.now() > expires - 2

    # What goes wrong with one instance

    def _failed_alone(self, item: Item, error: ArchiveError) -> None:
        log.warning("instance refused", instance=item.digest[:12], kind=error.failure.value, detail=str(error))
        if error.failure is Failure.INSTANCE and not self._check_bytes(item):
            return
        if item.attempts + 1 >= GIVE_UP_AFTER:
            self._set_aside(item, Reason.REFUSED_BY_THE_STORE)
            return
        seconds = pause(error.failure, item.attempts + 1, error.retry_after)
        self._queue.postponed(item, seconds, error.failure.value).add_done_callback(lambda _: self._land(item))

    def _set_aside(self, item: Item, reason: Reason) -> None:
        """Something a person should look at."""
        try:
            self._queue.settle(item.digest, InstanceState.REJECTED, reason)
        finally:  # if the journal cannot be written now, it begins again from the journal
            self._land(item)

    def _unreadable(self, item: Item, error: OSError) -> None:
        log.error("an instance cannot be read", instance=item.digest[:12], detail=error.strerror)
        self._check_bytes(item)

    def _check_bytes(self, item: Item) -> bool:
        """Whether what would be sent is what it should be. If not: compress anew, or put it aside as damaged."""
        path = self._spool.packed_path(item.digest) if item.packed else self._spool.path(item.digest)
        try:
            sound = files.sha256_of(path) == item.sent_digest
        except OSError:
            sound = False
        if sound:
            return True
        if item.packed:
            item.packing, item.packed = Packing.UNDECIDED, None
            path.unlink(missing_ok=True)
            self._queue.packed(item).add_done_callback(lambda _: self._land(item))
        else:
            self._set_aside(item, Reason.DAMAGED_IN_SPOOL)
        return False

    def _ask_for_verdicts(self) -> float:
        return self._verdicts.ask(busy=self.uploads_now > 0)

    def _land(self, item: Item) -> None:
        self._land_digest(item.digest)

    def _land_digest(self, digest: str) -> None:
        with self._wake:
            self._in_flight.discard(digest)
            self._wake.notify_all()
