"""`send`: files and folders to the archive, once, and what became of each."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from forwarder.alerts import Reason
from forwarder.archive.client import BATCH, PENDING, InstanceStatus, Offer, Upload
from forwarder.archive.retry import JITTER, PLANS, Blame, pause
from forwarder.errors import ArchiveError, Failure, SpoolError
from forwarder.files import Known, NotSentError, SourceFile, know, opened_again, walk
from forwarder.upload.outgoing_files import OutgoingFile, Preparation, as_it_is, compressing

PARALLEL = 8
BATCH_BYTES = 256_000_000  # of originals: what is compressed at once, beside what is being sent, bounds the disk's use
ATTEMPTS = 6
ATTEMPTS_BEFORE_FIRST_ANSWER = 3  # a mistyped address should not take long to show
UNSENT = frozenset({"stored", "unreadable", "failed"})  # what ends so was not sent, or not judged in time
ARRIVED = frozenset({"indexed", "echo", "superseded"})  # what ends so needs nobody
T = TypeVar("T")

PATIENCE = 600.0  # seconds without any instance settling, before `send` gives up waiting


class Client(Protocol):
    """What `send` needs of an archive; `forwarder.archive.client.Archive` is the real one."""

    def ask(self, offers: Sequence[Offer]) -> list[InstanceStatus]: ...
    def status(self, sha256s: Sequence[str]) -> list[InstanceStatus]: ...
    def put(self, upload: Upload, body: BinaryIO, size: int, on_bytes: Callable[[int], None] | None = None) -> None: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file. `state` is one of the contract's, or `not-sent`, `unreadable` or `failed` (see `reason`)."""

    path: Path
    sha256: str | None
    state: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class SendProgress:
    """A moment of the way: counts are of files, sizes in bytes."""

    files: int = 0
    hashed: int = 0
    sent: int = 0
    settled: int = 0
    bytes_total: int = 0
    bytes_sent: int = 0
    waiting_for: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """The end of a `send`."""

    outcomes: tuple[Outcome, ...]
    bytes_sent: int
    seconds: float
    bytes_saved: int = 0  # by compressing
    packing_failures: int = 0

    @property
    def counts(self) -> dict[str, int]:
        return dict(Counter(outcome.state for outcome in self.outcomes))

    @property
    def exit_code(self) -> int:
        """0 all are in the archive, 1 some are not accepted, 2 some could not be sent."""
        states = {outcome.state for outcome in self.outcomes}
        if states & UNSENT:
            return 2
        return 1 if states - ARRIVED else 0


@dataclass
class _Run:
    """One `send` under way."""

    client: Client
    on_progress: Callable[[SendProgress], None]
    parallel: int
    files: int = 0
    hashed: int = 0
    bytes_total: int = 0
    bytes_sent: int = 0
    bytes_saved: int = 0
    packing_failures: int = 0
    known: dict[str, list[Known]] = field(default_factory=dict)  # by digest: two files may have the same content
    verdicts: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    unreadable: list[Outcome] = field(default_factory=list)
    stored: dict[str, str] = field(default_factory=dict)  # by digest: the digest of what was sent, perhaps compressed
    waiting_for: str = ""
    reached: bool = False

    def report(self) -> None:
        self.on_progress(
            SendProgress(
                files=self.files,
                hashed=self.hashed,
                sent=sum(len(self.known[sha256]) for sha256 in self.stored.keys() | self.verdicts.keys()),
                settled=sum(len(self.known[sha256]) for sha256 in self.verdicts) + len(self.unreadable),
                bytes_total=self.bytes_total,
                bytes_sent=self.bytes_sent,
                waiting_for=self.waiting_for,
            )
        )

    def settle(self, sha256: str, standing: InstanceStatus) -> None:
        """Note how the file with this digest stands; the standing may be that of its compressed form."""
        if standing.state == "stored":
            self.stored[sha256] = standing.sha256
        elif standing.state not in PENDING:
            self.verdicts[sha256] = (standing.state, standing.reason)
            self.stored.pop(sha256, None)

    def not_sent(self, path: Path, reason: Reason) -> None:
        self.unreadable.append(Outcome(path, None, "not-sent", reason))

    def packing_failed(self) -> None:
        self.packing_failures += 1

    def moved(self, count: int) -> None:
        self.bytes_sent += count


def send(
    paths: Iterable[Path],
    client: Client,
    on_progress: Callable[[SendProgress], None] = lambda _: None,
    *,
    parallel: int = PARALLEL,
    lossless: bool = True,
    patience: float = PATIENCE,
) -> Summary:
    """Bring the files at `paths` into the archive and wait until each has its verdict.

    Hashes, compresses losslessly unless told not to, asks in batches of 500, PUTs what is absent in parallel, then polls.
    Safe to repeat: what the archive already has, in either form, is not sent again. Raises ConfigError for a path that does
    not exist and ArchiveError when the archive cannot be used at all; what concerns one file alone is in the summary.
    """
    began = time.monotonic()
    run = _Run(client, on_progress, parallel)
    files = list(dict.fromkeys(walk(paths, run.not_sent)))
    run.files = len(files) + len(run.unreadable)
    run.report()
    with (
        ThreadPoolExecutor(parallel, thread_name_prefix="send") as pool,
        compressing(run.packing_failed) if lossless else nullcontext(as_it_is) as wrap,
    ):
        for parcels in _wrapped(run, _batches(_hashed(run, files, pool), BATCH, lambda known: known.size), wrap):
            _send_batch(run, parcels, pool)
    _wait_for_verdicts(run, patience)
    outcomes = [
        Outcome(known.path, sha256, *run.verdicts.get(sha256, ("stored", "not indexed in time")))
        for sha256, same in run.known.items()
        for known in same
    ]
    order = {source.path: number for number, source in enumerate(files)}
    outcomes = sorted([*outcomes, *run.unreadable], key=lambda outcome: order.get(outcome.path, len(order)))
    return Summary(tuple(outcomes), run.bytes_sent, time.monotonic() - began, run.bytes_saved, run.packing_failures)


def _hashed(run: _Run, files: Sequence[SourceFile], pool: ThreadPoolExecutor) -> Iterator[Known]:
    """Each distinct content once, hashed a few files ahead of the sending."""
    for some in _batches(iter(files), BATCH):
        futures = [(source.path, pool.submit(know, source)) for source in some]
        for path, future in futures:
            try:
                known = future.result()
            except NotSentError as error:
                run.not_sent(path, error.reason)
                continue
            except SpoolError as error:
                run.unreadable.append(Outcome(path, None, "unreadable", str(error)))
                continue
            finally:
                run.hashed += 1
            same = run.known.setdefault(known.sha256, [])
            same.append(known)
            run.report()
            if len(same) == 1:
                run.bytes_total += known.size
                yield known


def _wrapped(run: _Run, batches: Iterator[list[Known]], wrap: Preparation) -> Iterator[list[OutgoingFile]]:
    """The parcels of each batch; while one is being sent the next is compressed."""
    before: list[Callable[[], OutgoingFile]] = []
    for batch in batches:
        begun = [wrap(known) for known in _unknown_to_the_archive(run, batch, wrap)]
        yield [_parcel(run, ended) for ended in before]
        before = begun
    yield [_parcel(run, ended) for ended in before]


def _unknown_to_the_archive(run: _Run, batch: list[Known], wrap: Preparation) -> list[Known]:
    """Those that are worth compressing: the archive is asked first, so that sending again costs no work."""
    compressible = [known for known in batch if known.compressible] if wrap is not as_it_is else []
    if not compressible:
        return batch
    for known, standing in zip(compressible, _ask_status(run, [known.sha256 for known in compressible]), strict=True):
        run.settle(known.sha256, standing)
        if standing.state != "absent":
            run.bytes_total -= known.size
    return [known for known in batch if known.sha256 not in run.verdicts and known.sha256 not in run.stored]


def _parcel(run: _Run, ended: Callable[[], OutgoingFile]) -> OutgoingFile:
    parcel = ended()
    saved = parcel.known.size - parcel.size
    run.bytes_saved += saved
    run.bytes_total -= saved
    return parcel


def _batches(items: Iterator[T], most: int, weight: Callable[[T], int] = lambda _: 0) -> Iterator[list[T]]:
    """At most so many together, and no more once they weigh `BATCH_BYTES`."""
    batch: list[T] = []
    heavy = 0
    for item in items:
        batch.append(item)
        heavy += weight(item)
        if len(batch) == most or heavy >= BATCH_BYTES:
            yield batch
            batch, heavy = [], 0
    if batch:
        yield batch


def _send_batch(run: _Run, batch: Sequence[OutgoingFile], pool: ThreadPoolExecutor) -> None:
    """Ask, PUT what is absent, and ask again about what an expired URL or a broken line left behind."""
    missing = {parcel.known.sha256: parcel for parcel in batch}
    try:
        for attempt in range(1, ATTEMPTS + 1):
            if not missing:
                return
            errors = _try_once(run, missing, pool)
            for sha256, error in errors.items():
                if attempt == ATTEMPTS or not _worth_repeating(error):
                    run.verdicts[sha256] = ("failed", str(error))
                    missing.pop(sha256)
            again = [error for sha256, error in errors.items() if sha256 in missing and isinstance(error, ArchiveError)]
            if again:
                _sleep(max(pause(error.failure, attempt, error.retry_after) for error in again), run, str(again[0]))
    finally:
        for parcel in batch:
            parcel.discard()


def _try_once(run: _Run, missing: dict[str, OutgoingFile], pool: ThreadPoolExecutor) -> dict[str, ArchiveError | SpoolError]:
    """Ask about what is missing and PUT what is absent; what got through is missing no more. Returns what went wrong."""
    parcels = list(missing.values())
    futures: dict[Future[None], OutgoingFile] = {}
    for parcel, standing in zip(parcels, _ask(run, [parcel.offer() for parcel in parcels]), strict=True):
        run.settle(parcel.known.sha256, standing)
        if standing.upload is None:
            run.bytes_total -= missing.pop(parcel.known.sha256).size
        else:
            futures[pool.submit(_put, run, parcel, standing.upload)] = parcel
    errors: dict[str, ArchiveError | SpoolError] = {}
    for future in as_completed(futures):
        parcel = futures[future]
        error = future.exception()
        if error is None:
            run.stored[parcel.known.sha256] = parcel.sha256
            missing.pop(parcel.known.sha256)
        elif isinstance(error, ArchiveError | SpoolError):
            errors[parcel.known.sha256] = error
        else:
            raise error
        run.report()
    return errors


def _worth_repeating(error: ArchiveError | SpoolError) -> bool:
    return isinstance(error, ArchiveError) and error.failure is not Failure.INSTANCE


def _put(run: _Run, parcel: OutgoingFile, upload: Upload) -> None:
    try:
        with parcel.path.open("rb") if parcel.packed else opened_again(parcel.known) as file:
            run.client.put(upload, file, parcel.size, run.moved)
    except OSError as error:
        raise SpoolError(f"“{parcel.known.path.name}” cannot be read: {error.strerror or error}") from error


def _patiently(call: Callable[[], list[InstanceStatus]], run: _Run) -> list[InstanceStatus]:
    """Call; after a failure of the line that no person must mend, call again, a few times."""
    attempt = 1
    while True:
        try:
            answer = call()
            run.reached = True
            return answer
        except ArchiveError as error:
            plan = PLANS[error.failure]
            if (
                attempt == (ATTEMPTS if run.reached else ATTEMPTS_BEFORE_FIRST_ANSWER)
                or plan.needs_person
                or plan.blame is Blame.INSTANCE
            ):
                raise
            _sleep(pause(error.failure, attempt, error.retry_after), run, str(error))
            attempt += 1


def _sleep(seconds: float, run: _Run, because: str) -> None:
    run.waiting_for = because
    run.report()
    time.sleep(seconds)
    run.waiting_for = ""


def _ask(run: _Run, offers: list[Offer]) -> list[InstanceStatus]:
    return _patiently(lambda: run.client.ask(offers), run)


def _ask_status(run: _Run, sha256s: list[str]) -> list[InstanceStatus]:
    return _patiently(lambda: run.client.status(sha256s), run)


def _wait_for_verdicts(run: _Run, patience: float) -> None:
    """Poll what is stored, with a growing pause, until nothing is pending or nothing has moved for `patience` seconds."""
    wait, deadline = 0.25, time.monotonic() + patience
    run.report()
    while run.stored and time.monotonic() < deadline:
        time.sleep(wait * JITTER.uniform(0.8, 1.2))
        before = len(run.stored)
        for batch in _batches(iter(sorted(run.stored.items())), BATCH):
            standings = _ask_status(run, [sent for _, sent in batch])
            for (sha256, _), standing in zip(batch, standings, strict=True):
                run.settle(sha256, standing)
        run.report()
        moved = len(run.stored) < before
        wait = min(wait * (1.2 if moved else 1.6), 8.0)
        deadline = time.monotonic() + patience if moved else deadline
