"""One study into the PACS: made ready ahead, stored over several associations, each instance in the first form that is taken."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from forwarder.deliver import documents
from forwarder.deliver.deliveries import DeliveryState, InPacs, Task, WaitingInstance
from forwarder.deliver.ledger import Ledger
from forwarder.deliver.preparation import Coercion, Preparation
from forwarder.deliver.source import Source
from forwarder.errors import ArchiveError, SpoolError
from forwarder.header import head_of
from forwarder.logs import log, log_unforeseen
from forwarder.retrieve.coercion import LocalPatient, Origin, OtherPersonError, UncoercibleError
from forwarder.retrieve.instances import CannotBeHadError, Instance
from forwarder.retrieve.outgoing import OutgoingInstance, outgoing
from forwarder.retrieve.pacs import Pacs
from forwarder.retrieve.store_association import DUPLICATE_SOP_INSTANCE, is_warning
from forwarder.retrieve.store_scu import PLAIN, Association, NothingAcceptedError, PacsError
from forwarder.spool.spool import Spool

TRIES = 3
"""How often an instance may break an association, or not be kept, before it takes a person."""
URL_SECONDS = 240.0
"""Addresses of a manifest hold for 300 seconds."""
NO_RESOURCES = range(0xA700, 0xA800)
EACH = 8  # instances for which another association is worth its opening
OPENINGS, OPENING_SECONDS = 3, 0.5
"""How often one more association is tried, and with which pause."""
FETCHING, AHEAD, AHEAD_BYTES = 8, 24, 64 * 1024 * 1024
"""Instances that are downloaded at once; that are made ready before they are stored; and how many bytes of them at the most."""
PAIRS = 40  # (SOP class, transfer syntax) for which one association has room, each with its fallbacks
TAKES_NONE = "pacs-takes-no-such-instance"
OTHER_PERSON = "other-person"


class NotNowError(Exception):
    """The rest of a study waits for what goes before it."""


class _UnwantedError(Exception):
    """What is being made ready is not wanted any more."""


@dataclass(frozen=True, slots=True)
class Taken:
    """How the PACS answered: the status, or 0 where it took it without a word (0111 where it says that it has it);
    and what came into it in place of a report."""

    status: int
    made: tuple[InPacs, ...] = ()


@dataclass(frozen=True, slots=True)
class NotTaken:
    """Why an instance is not taken in a form."""

    reason: str


Ready = OutgoingInstance | NotTaken


class Delivery:
    """What bringing a study takes. `is_first` tells whether it still goes before all others; `pause` hears of each block that is
    downloaded, and may sleep."""

    def __init__(
        self, spool: Spool, ledger: Ledger, source: Source, pacs: Pacs, reports: str, associations: int,
        pause: Callable[[int], None],
    ) -> None:  # fmt: skip
        self._spool = spool
        self._ledger = ledger
        self._pacs = pacs
        self._reports = reports
        self._preparation = Preparation(spool, source)
        self._pause = pause
        self._bears = associations  # as many as the PACS was found to bear
        self.seconds_each: float | None = None
        """What an instance takes, on the average of the last ones."""

    def bring(
        self, task: Task, left: Sequence[WaitingInstance], listed: Mapping[str, Instance], local: LocalPatient, origin: Origin,
        stop: threading.Event, is_first: Callable[[], bool],
    ) -> bool:  # fmt: skip
        """Store what is left of a study; whether all of it is settled. Raises PacsError, ArchiveError, SpoolError,
        NotNowError."""
        self.clean({entry.sha256 for entry in left})
        deadline = time.monotonic() + URL_SECONDS
        kinds = {entry.sop_instance: _kind(listed[entry.sop_instance]) for entry in left}
        pairs = sorted(set(kinds.values()))
        for start in range(0, len(pairs), PAIRS):
            offered = set(pairs[start : start + PAIRS])
            queue = [entry for entry in left if kinds[entry.sop_instance] in offered]
            coercion = Coercion(local, origin, task.coerced_at)
            if not self._run(_Round(self, task, queue, listed, coercion, stop, is_first, deadline), offered):
                return False
        return True

    def clean(self, waiting: Collection[str]) -> None:
        """Remove what was left behind, but for downloads that are gone on with (SHA-256). Raises OSError."""
        self._preparation.clean(waiting)

    def forget(self, sha256: str) -> None:
        """An instance need not be downloaded any more. Raises OSError."""
        self._preparation.forget(sha256)

    def forms(self, sop_class: str) -> tuple[str, ...]:
        """The forms to try for an instance, in this order; the empty one is the instance as it is."""
        return documents.forms(sop_class, self._reports)

    def _run(self, round_of: _Round, pairs: set[tuple[str, str]]) -> bool:
        made = {documents.MADE_CLASSES[form] for sop_class, _ in pairs for form in self.forms(sop_class) if form}
        wanted = pairs | {(sop_class, PLAIN[0]) for sop_class in made}
        began, count = time.monotonic(), round_of.left
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
            round_of.close()
        if done := count - round_of.left:
            each = (time.monotonic() - began) / done
            self.seconds_each = each if self.seconds_each is None else (self.seconds_each + each) / 2
        if round_of.error is not None:
            raise round_of.error
        return not round_of.left

    def _help(self, round_of: _Round, wanted: set[tuple[str, str]]) -> None:
        """Store over one more association, if the PACS bears it; what fails there, fails for all."""
        opened = False
        try:
            for _ in range(OPENINGS):
                try:
                    with ExitStack() as held:
                        with round_of.opening:  # what a PACS refuses may count there too, so that several at once are all refused
                            if round_of.over.is_set():  # whoever waited for a PACS that does not answer keeps nobody waiting
                                return
                            association = held.enter_context(self._pacs.association(wanted))
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
        except Exception as error:  # it is told where the study is
            round_of.fail(error)

    def ready(self, round_of: _Round, instance: Instance, syntax: str | None, pause: Callable[[int], None]) -> Ready:
        """An instance made ready in a transfer syntax, or why it cannot be. Raises ArchiveError, SpoolError."""
        if syntax is None:
            return NotTaken(TAKES_NONE)
        task = round_of.task
        try:
            return self._preparation.instance(task.study, task.owner, instance, syntax, round_of.coercion, pause)
        except CannotBeHadError:
            return NotTaken("cannot-be-decompressed")
        except OtherPersonError:
            log.warning("an instance says another birth date or sex than the patient's", sha256=instance.sha256[:12])
            return NotTaken(OTHER_PERSON)
        except UncoercibleError as error:
            log.warning("an instance cannot be coerced", sha256=instance.sha256[:12], detail=str(error))
            return NotTaken("cannot-be-coerced")
        except (ArchiveError, SpoolError, OSError, MemoryError, _UnwantedError):
            raise
        except Exception as error:  # whatever it is: this instance takes a person, and the others go on
            log_unforeseen("an instance could not be made ready", error, sha256=instance.sha256[:12])
            return NotTaken("cannot-be-coerced")

    def downloaded(self, count: int) -> None:
        """So many bytes came over the line."""
        self._pause(count)

    def store(self, round_of: _Round, entry: WaitingInstance, ahead: Future[Ready] | None, association: Association) -> None:
        """Bring one instance, in the first form that the PACS takes, and note what became of it. `ahead`: as it is, where that is
        to be tried."""
        task, instance = round_of.task, round_of.listed[entry.sop_instance]
        outcome: Taken | NotTaken = NotTaken(TAKES_NONE)
        for form in self.forms(instance.sop_class):
            try:
                if form:
                    outcome = self._made(form, round_of, instance, association)
                else:
                    outcome = self._as_it_is(round_of, instance, ahead, association)
            except PacsError as error:
                if str(error) == "full":
                    raise
                if entry.attempts + 1 >= TRIES:
                    self._ledger.settle(task, entry, DeliveryState.ASIDE, "breaks-the-association")
                else:
                    self._ledger.failed(task, entry)
                raise
            if isinstance(outcome, Taken) or outcome.reason == OTHER_PERSON:
                break
        if isinstance(outcome, Taken):
            reason = f"warning-{outcome.status:04x}" if outcome.status else None
            self._ledger.settle(task, entry, DeliveryState.DELIVERED, reason, outcome.made)
        else:
            self._ledger.settle(task, entry, DeliveryState.ASIDE, outcome.reason)
        self._spool.step("deliver-settled")
        self._preparation.forget(entry.sha256)

    def _as_it_is(
        self, round_of: _Round, instance: Instance, ahead: Future[Ready] | None, association: Association
    ) -> Taken | NotTaken:
        """Raises PacsError, ArchiveError, SpoolError."""
        syntax = association.takes(instance.sop_class, instance.transfer_syntax)
        outcome = self._sent(ahead.result() if ahead else self.ready(round_of, instance, syntax, self._pause), association)
        plain = next((name for name in PLAIN if association.takes(instance.sop_class, name) == name), None)
        if isinstance(outcome, Taken) or outcome.reason == OTHER_PERSON:
            return outcome
        if syntax is not None and syntax not in PLAIN and plain is not None:
            # some propose to accept a syntax and refuse what comes in it
            return self._sent(self.ready(round_of, instance, plain, self._pause), association)
        return outcome

    def _made(self, form: str, round_of: _Round, instance: Instance, association: Association) -> Taken | NotTaken:
        """A report, made into another form."""
        if association.takes(documents.MADE_CLASSES[form], PLAIN[0]) != PLAIN[0]:
            return NotTaken(TAKES_NONE)
        ready = self.ready(round_of, instance, instance.transfer_syntax, self._pause)
        if isinstance(ready, NotTaken):
            return ready
        files: list[Path] = []
        try:
            report = self._preparation.file(ready)
            files = documents.made(report, form, report.parent)
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
        except documents.CannotBeShownError:
            return NotTaken("report-cannot-be-shown")
        finally:
            for path in files:
                path.unlink(missing_ok=True)

    def _sent(self, ready: Ready | Path, association: Association) -> Taken | NotTaken:
        if isinstance(ready, NotTaken):
            return ready
        if isinstance(ready, OutgoingInstance):
            syntax = ready.transfer_syntax_uid
            if association.takes(ready.sop_class_uid, syntax) != syntax:
                return NotTaken(TAKES_NONE)
        status = association.store(ready)
        self._spool.step("deliver-stored")
        if status == 0x0000 or is_warning(status) or (status == DUPLICATE_SOP_INSTANCE and not self._was_brought(ready)):
            return Taken(status)
        if status in NO_RESOURCES:
            raise PacsError("full")
        return NotTaken(f"pacs-status-{status:04x}")

    def _was_brought(self, ready: OutgoingInstance | Path) -> bool:
        """Whether other bytes of this instance came into the PACS from here: a correction that it refuses is not in it.

        Raises SpoolError.
        """
        return self._ledger.was_brought((ready if isinstance(ready, OutgoingInstance) else outgoing(ready)).sop_instance_uid)


class _Round:
    """The instances that one or more associations store together. `queue` is what nobody has begun with, `ahead` what is being
    made ready, in this order."""

    def __init__(
        self, delivery: Delivery, task: Task, queue: Sequence[WaitingInstance], listed: Mapping[str, Instance],
        coercion: Coercion, stop: threading.Event, is_first: Callable[[], bool], deadline: float,
    ) -> None:  # fmt: skip
        self.task, self.listed, self.coercion = task, listed, coercion
        self.error: Exception | None = None
        self.over, self.opening = threading.Event(), threading.Lock()
        self._queue = list(queue)[::-1]
        self._ahead: deque[tuple[WaitingInstance, Future[Ready] | None]] = deque()
        self._delivery = delivery
        self._stop, self._is_first, self._deadline = stop, is_first, deadline
        self._lock = threading.Lock()
        self._looked = time.monotonic()
        self._fetching = ThreadPoolExecutor(FETCHING, "deliver-fetch")

    @property
    def left(self) -> int:
        """How many instances are not settled."""
        return len(self._queue) + len(self._ahead)

    def work(self, association: Association) -> None:
        """Store one after the other while there are any, and nothing goes before them."""
        while (following := self._next(association)) is not None:
            entry, ahead = following
            try:
                self._delivery.store(self, entry, ahead, association)
            except BaseException as error:
                with self._lock:
                    self._queue.append(entry)
                if isinstance(error, _UnwantedError):  # whoever failed says why
                    return
                raise

    def _next(self, association: Association) -> tuple[WaitingInstance, Future[Ready] | None] | None:
        now = time.monotonic()
        with self._lock:
            if self.over.is_set() or self._stop.is_set():
                return None
            look, self._looked = now - self._looked > 1.0, now if now - self._looked > 1.0 else self._looked
        if look and not self._is_first():
            raise NotNowError
        with self._lock:
            if now <= self._deadline:  # where the addresses end, the next round has new ones
                self._begin(association)
            return self._ahead.popleft() if self._ahead else None

    def _begin(self, association: Association) -> None:
        """Have some more made ready. The caller has the lock."""
        held = sum(self.listed[entry.sop_instance].size for entry, _ in self._ahead)
        while self._queue and len(self._ahead) < AHEAD and held < AHEAD_BYTES and not self.over.is_set():
            entry = self._queue.pop()
            instance = self.listed[entry.sop_instance]
            held += instance.size
            if self._delivery.forms(instance.sop_class)[:1] == ("",):
                syntax = association.takes(instance.sop_class, instance.transfer_syntax)
                self._ahead.append((entry, self._fetching.submit(self._delivery.ready, self, instance, syntax, self._pause)))
            else:
                self._ahead.append((entry, None))

    def _pause(self, count: int) -> None:
        """So many bytes came. Raises _UnwantedError where nobody waits for more."""
        if self.over.is_set():
            raise _UnwantedError
        self._delivery.downloaded(count)

    def rest(self) -> list[WaitingInstance]:
        """What is left, which nobody else will take."""
        with self._lock:
            rest, self._queue = self._queue[::-1], []
            return rest

    def fail(self, error: Exception) -> None:
        """Somebody failed: nobody begins anything more."""
        with self._lock:
            self.error = self.error or error
            self.over.set()

    def end(self) -> None:
        """Nothing more is begun."""
        self.over.set()

    def close(self) -> None:
        """Wait until nothing is made ready any more; what was, and was not stored, is left."""
        self._fetching.shutdown(cancel_futures=True)


def _kind(instance: Instance) -> tuple[str, str]:
    return instance.sop_class, instance.transfer_syntax


def _in_pacs(path: Path, original: str) -> InPacs:
    """What a file that was made here is. Raises OSError."""
    with path.open("rb") as file:
        header = head_of(file)
    if header is None:
        raise SpoolError("What was made of a report cannot be read.")
    return InPacs(header.sop_instance_uid or "", header.sop_class_uid or "", header.text((0x0020, 0x000E)) or "", original)
