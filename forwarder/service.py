"""`run`: everything together, until a signal ends it."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from forwarder import logs
from forwarder.archive.client import archive_of
from forwarder.background import Background
from forwarder.config import Config
from forwarder.deliver.engine import Deliveries
from forwarder.dicom import scp
from forwarder.dicom.commitment import Commitments
from forwarder.errors import ConfigError, ForwarderError, SpoolError
from forwarder.hl7 import mllp, waiting
from forwarder.hl7.adt.engine import Registration
from forwarder.hl7.feed import Feed
from forwarder.hl7.outbox import ReportOutbox
from forwarder.hl7.priors import OrderPriors
from forwarder.hl7.receiver import MessageHandler
from forwarder.logs import log
from forwarder.operations import sign_of_life
from forwarder.operations.mail import Mailer
from forwarder.operations.snapshot import State
from forwarder.operations.work_items import WorkList
from forwarder.query.engine import Queries
from forwarder.spool.clock import CLOCK_JUMP, straighten
from forwarder.spool.spool import NUDGE, Recovery, Spool
from forwarder.spool.watched_folder import Watcher
from forwarder.upload.outbox import Outbox
from forwarder.upload.priority import Ranks
from forwarder.web import app as web
from forwarder.web.workplace import Workplace

MINUTE, HOUR = 60.0, 3600.0
LOOK_SECONDS = 1.0  # between two looks whether a signal asks for the end
M_ARENA_MAX = -8  # malloc.h
OF_ONE_CONNECTION = ("Thread-", "AcceptorThread", "RequestorThread")  # names that the standard library and pynetdicom give


def run(config: Config) -> None:
    """Run until SIGTERM or SIGINT. Raises ForwarderError for what keeps it from starting."""
    logs.set_up(config.log.level)
    _few_arenas()
    stop = threading.Event()
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: asked.append(number))  # which takes no lock that this thread may hold
    died = _end_with_any_thread(stop)
    with running(config, stop):
        while not asked and not stop.wait(LOOK_SECONDS):
            pass  # a signal that comes right before the wait begins does not end it
        log.info("stopping")
    if died:
        raise ForwarderError(f"The thread “{died[0]}” ended unexpectedly, and the forwarder with it; it is to be started again.")


def _end_with_any_thread(stop: threading.Event) -> list[str]:
    """From now on an unexpected error in a thread that neither begins anew nor is of one connection, as of those that send, ends
    the forwarder, so that whoever watches over it starts it again: better than to look alive and to send nothing. Returns where
    the thread's name will stand.
    """
    died: list[str] = []

    def ended(what: threading.ExceptHookArgs) -> None:
        name = what.thread.name if what.thread else ""
        where = logs.place_of(what.exc_traceback)[-1:]
        log.error("a thread ended unexpectedly", thread=name, error=what.exc_type.__name__, where=where)
        if not name.startswith(OF_ONE_CONNECTION):
            died.append(name)
            stop.set()

    threading.excepthook = ended
    return died


def _few_arenas() -> None:
    """glibc keeps freed memory for each thread; with dozens of threads that adds up to more than what is in use."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)


@contextmanager
def running(
    config: Config, stop: threading.Event | None = None, steps: Callable[[str], None] = lambda _: None
) -> Iterator[State]:
    """A running forwarder, while the block runs. Raises ForwarderError for what keeps it from starting."""
    stop = stop or threading.Event()
    folder = Path(config.spool.folder)
    with ExitStack() as stack:
        stack.enter_context(_alone(folder))
        spool = Spool(folder, config.spool.reserve_mb * 1_000_000, steps)
        stack.callback(spool.close)
        recovered = spool.recover()
        straighten(spool.journal)
        archive = archive_of(config)
        outbox = Outbox(spool, archive, config.send)
        ranks = Ranks(config.send.urgent)
        commitments = Commitments(spool, config.dicom, config.peers)
        receiver = scp.Receiver(spool, ranks, commitments.record, outbox.notice)
        reports = ReportOutbox(spool, archive, outbox.line, config.hl7)
        outbox.on_indexed = reports.arrived
        door = MessageHandler(config.hl7, spool, reports.notice)
        if config.hl7.adt.enabled:
            door.registration = Registration(spool, archive, outbox.line, config.hl7.adt)
        state = State(config, spool, outbox, receiver, archive, door, Background(stop))
        if config.deliver.enabled:
            state.deliveries = deliveries = Deliveries(config, spool, archive, outbox.line, outbox.share)
            receiver.is_echo = deliveries.is_echo
            receiver.on_commitment = deliveries.committed
            if door.registration is not None:
                door.registration.on_accepted = deliveries.transfer_accepted
        if any(peer.query for peer in config.peers):
            state.queries = Queries(config, spool, archive)
        people = config.identity.configured or bool(config.mail.host)
        mailer = Mailer(config, spool.journal) if config.mail.host else None
        state.work = WorkList(spool.journal, archive, outbox.line, asks=people, on_look=mailer.tell if mailer else None)
        outbox.start()
        stack.callback(outbox.stop)
        if config.watch.folder:
            state.watcher = Watcher(config.watch, spool, ranks)
            state.watcher.heard = receiver.senders.heard
        if config.hl7.orders.enabled:
            front = state.deliveries.to_the_front if state.deliveries is not None else None
            door.orders = OrderPriors(spool, archive, outbox.line, config.hl7.orders, front)
        background = state.background
        background.begin("commitments", commitments.run)
        background.begin("reports", reports.run)
        background.begin("tick", lambda stop: _tick(stop, config, spool, outbox, state, recovered))
        if state.watcher is not None:
            background.begin("watch", state.watcher.run)
        if state.deliveries is not None:
            background.begin("deliver", state.deliveries.deliver)
            background.begin("deliver-plan", state.deliveries.plan)
            background.begin("deliver-feed", state.deliveries.follow, waited_for=False)
        if door.orders is not None:
            background.begin("orders", door.orders.run)
        if door.registration is not None:
            background.begin("adt", door.registration.run)
            background.begin("adt-feed", door.registration.follow, waited_for=False)
        background.begin("sign-of-life", lambda stop: sign_of_life.run(stop, state, archive), waited_for=False)
        background.begin("work-items", state.work.run, waited_for=False)
        background.begin("feed", Feed(spool, archive, outbox.line, reports.notice).run, waited_for=False)

        def end_background() -> None:
            stop.set()
            commitments.close()
            reports.notice()
            if state.deliveries is not None:
                state.deliveries.notice()
            if door.registration is not None:
                door.registration.notice()
            if door.orders is not None:
                door.orders.notice()
            background.wait(15)

        stack.callback(end_background)
        state.ports |= stack.enter_context(scp.listening(config.dicom, receiver, config.peers, state.queries))
        state.ports |= stack.enter_context(mllp.listening(config.hl7, door))
        told = state.deliveries.transfer_accepted if state.deliveries is not None else lambda _: None
        workplace = Workplace(spool.journal, state.work, lambda: state.pace, told)
        stack.enter_context(web.opened(config, state, spool, archive, outbox.line, background, workplace))
        log.info(
            "ready", ae_title=config.dicom.ae_title, ports=state.ports, page=config.page.port,
            waiting=spool.tally()["waiting"], cleaned=recovered.removed, adopted=recovered.adopted, missing=recovered.missing,
        )  # fmt: skip
        yield state


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the spool's lock. Raises SpoolError if another forwarder has it, ConfigError if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("a")
    except OSError as error:
        raise ConfigError(f"The spool “{folder}” cannot be written: {error.strerror or error}.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpoolError(f"Another forwarder is using the spool “{folder}”.") from None
        yield


def _tick(stop: threading.Event, config: Config, spool: Spool, outbox: Outbox, state: State, recovered: Recovery) -> None:
    """Once a second: rates, and a look for a nudge; once an hour: forget what was delivered long ago."""
    with contextlib.suppress(SpoolError):  # the page then tells of those that come from now on
        state.recall()
    forget_at = adopt_at = 0.0
    clock = time.time() - time.monotonic()
    while not stop.wait(1.0):
        try:
            state.tick()
            jump = time.time() - time.monotonic() - clock
            if abs(jump) > CLOCK_JUMP:
                clock += jump
                straighten(spool.journal, max(0.0, -jump))
            nudge = spool.folder / NUDGE
            if nudge.exists():
                nudge.unlink(missing_ok=True)
                outbox.try_now()
                if state.deliveries is not None:
                    state.deliveries.notice()
                if state.registration is not None:
                    state.registration.notice()
            if recovered.postponed and time.monotonic() >= adopt_at:
                adopt_at = time.monotonic() + MINUTE
                recovered = spool.adopt_postponed()
                outbox.notice()
            if time.monotonic() >= forget_at:
                forget_at = time.monotonic() + HOUR
                before = time.time() - config.spool.history_days * 86400.0
                spool.forget(before)
                waiting.forget(spool.journal, before)
                if state.registration is not None:
                    state.registration.ledger.forget(before)
                if state.orders is not None:
                    state.orders.forget(before)
        except (SpoolError, OSError) as error:
            log.error("the spool fails", detail=str(error))
