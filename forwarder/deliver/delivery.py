"""One study into the PACS: downloaded, coerced, stored over several associations, each in the first form that is taken."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from forwarder.deliver import documents
from forwarder.deliver.ledger import DeliveryState, InPacs, Ledger, Task, WaitingInstance
from forwarder.deliver.source import Source
from forwarder.errors import ArchiveError, Failure, SpoolError
from forwarder.header import head_of
from forwarder.logs import log
from forwarder.retrieve.coercion import LocalPatient, Origin, UncoercibleError, coerce
from forwarder.retrieve.instances import CannotBeHadError, Instance
from forwarder.retrieve.pacs import Pacs
from forwarder.retrieve.store_scu import PLAIN, Association, NothingAcceptedError, PacsError
from forwarder.spool.spool import Spool

TRIES = 3
"""How often an instance may break an association, or not be kept, before it takes a person."""
URL_SECONDS = 240.0
"""Addresses of a manifest hold for 300 seconds."""
WARNINGS = frozenset({0xB000, 0xB006, 0xB007})
NO_RESOURCES = range(0xA700, 0xA800)
EACH = 8  # instances for which another association is worth its opening
OPENINGS, OPENING_SECONDS = 3, 0.5
"""How often one more association is tried, and with which pause."""
PAIRS = 40  # (SOP class, transfer syntax) for which one association has room, each with its fallbacks
TAKES_NONE = "pacs-takes-no-such-instance"


class NotNowError(Exception):
    """The rest of a study waits for what goes before it."""


@dataclass(frozen=True, slots=True)
class Taken:
    """How the PACS answered: the status, or 0 where it took it without a word; and what came into it in place of a report."""

    status: int
    made: tuple[InPacs, ...] = ()


@dataclass(frozen=True, slots=True)
class NotTaken:
    """Why an instance is not taken in a form."""

    reason: str


class Delivery:
    """What bringing a study takes. `is_first` tells whether it still goes before all others; `pause` hears of each block that is
    downloaded, and may sleep."""

    def __init__(
        self,
        spool: Spool,
        ledger: Ledger,
        source: Source,
        pacs: Pacs,
        reports: str,
        associations: int,
        pause: Callable[[int], None],
    ) -> None:
        self._spool = spool
        self._ledger = ledger
        self._source = source
        self._pacs = pacs
        self._reports = reports
        self._pause = pause
        self._most = associations
        self._bears = associations  # what the PACS was found to bear
        self.seconds_each: float | None = None
        """What an instance takes, on the average of the last ones."""

    def bring(
        self, task: Task, left: Sequence[WaitingInstance], listed: Mapping[str, Instance], local: LocalPatient, origin: Origin,
        stop: threading.Event, is_first: Callable[[], bool],
    ) -> bool:  # fmt: skip
        """Store what is left of a study; whether all of it is settled. Raises PacsError, ArchiveError, SpoolError,
        NotNowError."""
        pairs = sorted({(listed[entry.sop_instance].sop_class, listed[entry.sop_instance].transfer_syntax) for entry in left})
        deadline = time.monotonic() + URL_SECONDS
        for start in range(0, len(pairs), PAIRS):
            some = set(pairs[start : start + PAIRS])
            queue = [
                entry for entry in left
                if (listed[entry.sop_instance].sop_class, listed[entry.sop_instance].transfer_syntax) in some
            ]  # fmt: skip
            round_of = _Round(self, task, queue, listed, local, origin, stop, is_first, deadline)
            if not self._run(round_of, some):
                return False
        return True

    def clean(self, waiting: Collection[str]) -> None:
        """Remove what a death left behind, but for beginnings of downloads that are gone on with (SHA-256). Raises OSError."""
        folder = self._spool.folder / "deliver"
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.suffix != ".part" or path.stem not in waiting:
                path.unlink(missing_ok=True)

    def forget(self, sha256: str) -> None:
        """An instance need not be downloaded any more. Raises OSError."""
        (self._spool.folder / "deliver" / f"{sha256}.part").unlink(missing_ok=True)

    def _run(self, round_of: _Round, pairs: set[tuple[str, str]]) -> bool:
        made = {documents.MADE_CLASSES[form] for sop_class, _ in pairs for form in self._forms(sop_class) if form}
        wanted = pairs | {(sop_class, PLAIN[0]) for sop_class in made}
        began, count = time.monotonic(), len(round_of.queue)
        helpers: list[threading.Thread] = []
        try:
            with self._pacs.association(wanted) as association:
                for _ in range(min(self._bears, -(-count // EACH)) - 1):
                    helper = threading.Thread(target=self._help, args=(round_of, wanted), name="deliver-store", daemon=True)
                    helpers.append(helper)
                    helper.start()
                round_of.work(association)
        except NothingAcceptedError:
            for entry in round_of.rest():
                self._ledger.settle(round_of.task, entry, DeliveryState.ASIDE, TAKES_NONE)
        finally:
            round_of.end()
            for helper in helpers:
                helper.join()
        if done := count - len(round_of.queue):
            each = (time.monotonic() - began) / done
            self.seconds_each = each if self.seconds_each is None else (self.seconds_each + each) / 2
        if round_of.error is not None:
            raise round_of.error
        return not round_of.queue

    def _help(self, round_of: _Round, wanted: set[tuple[str, str]]) -> None:
        """Store over one more association, if the PACS bears it; what fails there, fails for all."""
        opened = False
        try:
            for _ in range(OPENINGS):
                try:
                    with self._pacs.association(wanted) as association:
                        opened = True
                        round_of.work(association)
                        return
                except PacsError as error:
                    if opened:
                        round_of.fail(error)
                        return
                if round_of.over.wait(OPENING_SECONDS):  # one that has just ended may still count there
                    return
            self._bears = max(1, self._bears - 1)
            log.info("the PACS bears no more associations", associations=self._bears)
        except (ArchiveError, SpoolError, NotNowError) as error:
            round_of.fail(error)
        except OSError as error:
            round_of.fail(SpoolError(f"The spool's disk says: {error.strerror or error}."))

    def _forms(self, sop_class: str) -> tuple[str, ...]:
        return documents.forms(sop_class, self._reports)

    def store(self, round_of: _Round, entry: WaitingInstance, association: Association) -> None:
        """Bring one instance, in the first form that the PACS takes, and note what became of it."""
        task, instance = round_of.task, round_of.listed[entry.sop_instance]
        outcome: Taken | NotTaken = NotTaken(TAKES_NONE)
        for form in self._forms(instance.sop_class):
            try:
                outcome = self._as(form, round_of, entry, instance, association)
            except PacsError as error:
                if str(error) == "full":
                    raise
                if entry.attempts + 1 >= TRIES:
                    self._ledger.settle(task, entry, DeliveryState.ASIDE, "breaks-the-association")
                else:
                    self._ledger.failed(task, entry)
                raise
            if isinstance(outcome, Taken):
                break
        if isinstance(outcome, Taken):
            reason = f"warning-{outcome.status:04x}" if outcome.status else None
            self._ledger.settle(task, entry, DeliveryState.DELIVERED, reason, outcome.made)
        else:
            self._ledger.settle(task, entry, DeliveryState.ASIDE, outcome.reason)
        self._spool.step("deliver-settled")

    def _as(
        self, form: str, round_of: _Round, entry: WaitingInstance, instance: Instance, association: Association
    ) -> Taken | NotTaken:
        """Try one form. Raises PacsError, ArchiveError, SpoolError."""
        if form:
            return self._made(form, round_of, entry, instance, association)
        syntax = association.takes(instance.sop_class, instance.transfer_syntax)
        if syntax is None:
            return NotTaken(TAKES_NONE)
        outcome = self._image(round_of, entry, instance, association, syntax)
        plain = next((name for name in PLAIN if association.takes(instance.sop_class, name) == name), None)
        if isinstance(outcome, NotTaken) and syntax not in PLAIN and plain is not None:
            # some propose to accept a syntax and refuse what comes in it
            return self._image(round_of, entry, instance, association, plain)
        return outcome

    def _image(
        self, round_of: _Round, entry: WaitingInstance, instance: Instance, association: Association, syntax: str
    ) -> Taken | NotTaken:
        with self._files(entry.sha256) as (fetched, coerced):
            try:
                if syntax == instance.transfer_syntax:
                    self._source.download(instance, fetched, self._pause)
                else:
                    self._source.transcoded(round_of.task.study, round_of.task.owner, instance, fetched)
                self._spool.step("deliver-fetched")
                result = coerce(fetched, coerced, round_of.local, round_of.origin, round_of.task.coerced_at)
                self._spool.step("deliver-coerced")
            except CannotBeHadError:
                return NotTaken("cannot-be-decompressed")
            except UncoercibleError:
                return NotTaken("cannot-be-coerced")
            if association.takes(instance.sop_class, result.transfer_syntax_uid) != result.transfer_syntax_uid:
                return NotTaken(TAKES_NONE)
            return self._sent(coerced, association)

    def _made(
        self, form: str, round_of: _Round, entry: WaitingInstance, instance: Instance, association: Association
    ) -> Taken | NotTaken:
        """A report, made into another form."""
        if association.takes(documents.MADE_CLASSES[form], PLAIN[0]) != PLAIN[0]:
            return NotTaken(TAKES_NONE)
        with self._files(entry.sha256) as (fetched, coerced):
            files: list[Path] = []
            try:
                self._source.download(instance, fetched, self._pause)
                coerce(fetched, coerced, round_of.local, round_of.origin, round_of.task.coerced_at)
                files = documents.made(coerced, form, coerced.parent)
                outcome: Taken | NotTaken = NotTaken(TAKES_NONE)
                made: list[InPacs] = []
                status = 0
                for path in files:
                    outcome = self._sent(path, association)
                    if isinstance(outcome, NotTaken):
                        return outcome
                    status = status or outcome.status
                    made.append(_in_pacs(path, instance.sop_instance))
                return Taken(status, tuple(made))
            except UncoercibleError:
                return NotTaken("cannot-be-coerced")
            except documents.CannotBeShownError:
                return NotTaken("report-cannot-be-shown")
            finally:
                for path in files:
                    path.unlink(missing_ok=True)

    def _sent(self, path: Path, association: Association) -> Taken | NotTaken:
        status = association.store(path)
        self._spool.step("deliver-stored")
        if status == 0x0000 or status in WARNINGS:
            return Taken(status)
        if status in NO_RESOURCES:
            raise PacsError("full")
        return NotTaken(f"pacs-status-{status:04x}")

    @contextlib.contextmanager
    def _files(self, sha256: str) -> Iterator[tuple[Path, Path]]:
        """Where an instance is downloaded to and coerced; gone at the end, but for what a broken line left of a download."""
        folder = self._spool.folder / "deliver"
        fetched, coerced = folder / f"{sha256}.part", folder / f"{sha256}.coerced"
        try:
            folder.mkdir(exist_ok=True)
            self._spool.check_space()
        except OSError as error:
            raise SpoolError(f"The spool's disk does not take a folder: {error.strerror or error}") from error
        keep = False
        try:
            yield fetched, coerced
        except ArchiveError as error:
            keep = error.failure is Failure.NETWORK
            raise
        finally:
            coerced.unlink(missing_ok=True)
            if not keep:
                fetched.unlink(missing_ok=True)


class _Round:
    """The instances that one or more associations store together."""

    def __init__(
        self, delivery: Delivery, task: Task, queue: list[WaitingInstance], listed: Mapping[str, Instance], local: LocalPatient,
        origin: Origin, stop: threading.Event, is_first: Callable[[], bool], deadline: float,
    ) -> None:  # fmt: skip
        self.task, self.listed, self.local, self.origin = task, listed, local, origin
        self.queue = queue[::-1]
        self.error: Exception | None = None
        self._delivery = delivery
        self._stop, self._is_first, self._deadline = stop, is_first, deadline
        self._lock = threading.Lock()
        self.over = threading.Event()
        self._looked = time.monotonic()

    def work(self, association: Association) -> None:
        """Store one after the other while there are any, and nothing goes before them."""
        while (entry := self._next()) is not None:
            try:
                self._delivery.store(self, entry, association)
            except Exception:
                with self._lock:
                    self.queue.append(entry)
                raise

    def _next(self) -> WaitingInstance | None:
        now = time.monotonic()
        with self._lock:
            if self.over.is_set() or self._stop.is_set() or not self.queue or now > self._deadline:
                return None  # where the addresses end, the next round has new ones
            look, self._looked = now - self._looked > 1.0, now if now - self._looked > 1.0 else self._looked
        if look and not self._is_first():
            raise NotNowError
        with self._lock:
            return self.queue.pop() if self.queue else None

    def rest(self) -> list[WaitingInstance]:
        """What is left, which nobody else will take."""
        with self._lock:
            rest, self.queue = self.queue, []
            return rest

    def fail(self, error: Exception) -> None:
        """Somebody failed: nobody begins anything more."""
        with self._lock:
            self.error = self.error or error
            self.over.set()

    def end(self) -> None:
        self.over.set()


def _in_pacs(path: Path, original: str) -> InPacs:
    """What a file that was made here is. Raises OSError."""
    with path.open("rb") as file:
        header = head_of(file)
    if header is None:
        raise SpoolError("What was made of a report cannot be read.")
    return InPacs(header.sop_instance_uid or "", header.sop_class_uid or "", header.text((0x0020, 0x000E)) or "", original)
