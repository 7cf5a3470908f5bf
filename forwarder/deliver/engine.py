"""Into the hospital's PACS: follows the archive's feed, decides what is wanted, downloads, coerces, stores; and remembers."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from forwarder.archive.changes import NOW, changes
from forwarder.archive.client import Archive
from forwarder.archive.link import Link
from forwarder.config import Config
from forwarder.deliver.ledger import WITHDRAWN, Ledger, Look, Task, WaitingInstance
from forwarder.deliver.rules import Patient, chosen, open_now
from forwarder.deliver.source import Source
from forwarder.errors import ArchiveError, Failure, SpoolError
from forwarder.logs import log
from forwarder.retrieve.coercion import LocalPatient, Origin, UncoercibleError, coerce
from forwarder.retrieve.instances import CannotBeHadError, Instance
from forwarder.retrieve.pacs import Pacs
from forwarder.retrieve.store_scu import Association, NothingAcceptedError, PacsError
from forwarder.spool.spool import Spool

POLL_SECONDS = 20
LOOK_SECONDS = 1.0
PAUSE_SECONDS = 10.0
LONGEST_PAUSE = 900.0
TRIES = 3
"""How often an instance may break an association before it takes a person."""
URL_SECONDS = 240.0
"""Addresses of a manifest hold for 300 seconds."""
OF_PATIENTS = frozenset({"study-arrived", "study-changed", "report-arrived", "study-withdrawn"})
OF_TRANSFERS = frozenset({"transfer-opened", "transfer-accepted", "transfer-ended", "transfer-waiting", "transfer-extended"})
WARNINGS = frozenset({0xB000, 0xB006, 0xB007})
NO_RESOURCES = range(0xA700, 0xA800)
REPORT_CLASSES = ("1.2.840.10008.5.1.4.1.1.88.", "1.2.840.10008.5.1.4.1.1.104.")


class Deliveries:
    """Two threads: `follow` reads the feed, `deliver` does the work."""

    def __init__(
        self, config: Config, spool: Spool, archive: Archive, line: Link, today: Callable[[], datetime] = datetime.now
    ) -> None:
        self._config = config.deliver
        self._spool = spool
        self._archive = archive
        self._line = line
        self._now = today
        self._source = Source(archive)
        self._pacs = Pacs(config.pacs, config.dicom)
        self.ledger = Ledger(spool.journal)
        self.trouble: str | None = None
        """Why the PACS cannot be spoken to, in one word; None while it can."""
        self._wake = threading.Event()

    def notice(self) -> None:
        """Look now: somebody asked for it."""
        self._wake.set()

    def is_echo(self, sop_instance: str) -> bool:
        """Whether an instance that the PACS sends came into it from here. Raises SpoolError."""
        return self.ledger.was_brought(sop_instance)

    # The feed

    def follow(self, stop: threading.Event) -> None:
        """Follow the feed until told to stop."""
        while not stop.is_set():
            wait = LOOK_SECONDS
            try:
                if not self._line.closed_for():
                    self._follow()
                    wait = 0.0
            except ArchiveError as error:
                log.debug("the archive's feed cannot be read", kind=error.failure.value, detail=str(error))
                wait = PAUSE_SECONDS
            except SpoolError as error:
                log.error("the spool fails", detail=str(error))
                wait = PAUSE_SECONDS
            if wait:
                stop.wait(wait)

    def _follow(self) -> None:
        since = self.ledger.cursor()
        if since is None:
            # From the beginning: what was accepted before this was switched on is wanted too.
            since = ""
        found, cursor = changes(self._archive, since, POLL_SECONDS if since else 0)
        looks: set[tuple[str, str]] = set()
        ended: dict[str, str] = {}
        for change in found:
            kind = str(change.get("kind"))
            if kind in OF_PATIENTS and change.get("owner") != self._source.ourselves().id:
                looks.add(("study", str(change.get("study_instance_uid"))))
                if kind == "study-withdrawn":
                    ended[str(change.get("study_instance_uid"))] = WITHDRAWN
            elif kind in OF_TRANSFERS:
                looks.add(("transfer", str(change.get("transfer_id"))))
        if found or since != cursor:
            self.ledger.followed(cursor or NOW, looks, ended)
        if looks:
            self._wake.set()

    # The work

    def deliver(self, stop: threading.Event) -> None:
        """Look at what is to be looked at, and bring what is wanted, until told to stop."""
        while not stop.is_set():
            self._wake.clear()
            try:
                busy = self._look() or self._bring(stop)
            except ArchiveError as error:
                log.warning("a delivery waits for the archive", kind=error.failure.value, detail=str(error))
                busy = False
            except SpoolError as error:
                log.error("the spool fails", detail=str(error))
                busy = False
            if not busy and not stop.is_set():
                self._wake.wait(LOOK_SECONDS)

    def _look(self) -> bool:
        """Look at one thing anew; whether there was one."""
        look = self.ledger.next_look()
        if look is None or self._line.closed_for():
            return False
        try:
            self._look_at(look)
        except ArchiveError:
            self.ledger.look_later(look, _pause(look.attempts))
            raise
        return True

    def _look_at(self, look: Look) -> None:
        if look.kind == "patient":
            found = self._source.exams_of(look.name)
            self.ledger.planned(look, found, chosen(found, self._config, self._now().date()), self._now())
            return
        if look.kind == "study":
            number = self._source.number_of_study(look.name) or self.ledger.number_of(look.name)
            self.ledger.looked(look, [("patient", number)] if number else [])
            return
        number = self._source.number_of_transfer(look.name)
        numberless = number is None and self._source.is_accepted(look.name)
        self.ledger.looked(look, [("patient", number)] if number else [], numberless)

    def _bring(self, stop: threading.Event) -> bool:
        """Bring one study into the PACS; whether there was one."""
        if not open_now(self._config.hours, self._now()) or self._line.closed_for():
            return False
        task = self.ledger.next_task()
        if task is None:
            return False
        try:
            self._spool.check_space()
            self._deliver(task, stop)
        except PacsError as error:
            self.trouble = str(error)
            log.warning("the PACS does not take a study", reason=str(error))
            self.ledger.later(task, _pause(task.attempts), f"pacs-{error}")
        except ArchiveError as error:
            self.ledger.later(task, _pause(task.attempts), error.failure.value)
            raise
        except SpoolError:
            self.ledger.later(task, _pause(task.attempts), "no-space")
            raise
        return True

    def _deliver(self, task: Task, stop: threading.Event) -> None:
        listed = {instance.sop_instance: instance for page in self._source.manifest(task.study, task.owner) for instance in page}
        if self._config.reports == "none":
            listed = {uid: instance for uid, instance in listed.items() if not instance.sop_class.startswith(REPORT_CLASSES)}
        waiting = self.ledger.announced(task, {uid: instance.sha256 for uid, instance in listed.items()})
        if not waiting:
            self.ledger.finish(task)
            return
        there = self._pacs.has(task.study, sorted({listed[entry.sop_instance].series for entry in waiting}))
        for entry in waiting:
            if entry.sop_instance in there:
                self.ledger.settle(task, entry, "there")
        left = [entry for entry in waiting if entry.sop_instance not in there]
        found = self._source.exams_of(task.number)
        local = self._local(task, found)
        self.trouble = None
        if local is None:
            self.ledger.put_aside(task, "other-person")
            return
        try:
            if not left or self._store_all(task, left, listed, local, stop):
                self.ledger.finish(task)
        except NothingAcceptedError:
            self.ledger.put_aside(task, "pacs-takes-no-such-instance")

    def _local(self, task: Task, found: Patient) -> LocalPatient | None:
        """The patient as the PACS knows them, else as the archive does; None where the two name two people."""
        issuer = self._source.ourselves().issuer
        return self._pacs.known(LocalPatient(task.number, issuer, found.name, found.birth_date, found.sex))

    def _store_all(
        self, task: Task, left: Sequence[WaitingInstance], listed: dict[str, Instance], local: LocalPatient, stop: threading.Event
    ) -> bool:
        """Store what is left; whether all of it is settled. Raises PacsError, ArchiveError, SpoolError."""
        own = self._source.ourselves()
        hospital = self._source.names.get(task.owner, task.owner)
        origin = Origin(hospital, own.name, self._config.mark.replace("{hospital}", hospital))
        wanted = {(listed[entry.sop_instance].sop_class, listed[entry.sop_instance].transfer_syntax) for entry in left}
        began = time.monotonic()
        with self._pacs.association(wanted) as association:
            for entry in left:
                if stop.is_set():
                    return False
                self._store(task, entry, listed[entry.sop_instance], local, origin, association)
                if time.monotonic() - began > URL_SECONDS:
                    return False  # the addresses end: the next round has new ones
        return True

    def _store(
        self,
        task: Task,
        waiting: WaitingInstance,
        instance: Instance,
        local: LocalPatient,
        origin: Origin,
        association: Association,
    ) -> None:
        syntax = association.takes(instance.sop_class, instance.transfer_syntax)
        if syntax is None:
            self.ledger.settle(task, waiting, "aside", "pacs-takes-no-such-instance")
            return
        with self._files(waiting.sha256) as (fetched, coerced):
            try:
                if syntax == instance.transfer_syntax:
                    self._source.download(instance, fetched)
                else:
                    self._source.transcoded(task.study, task.owner, instance, fetched)
                result = coerce(fetched, coerced, local, origin, task.coerced_at)
            except CannotBeHadError:
                self.ledger.settle(task, waiting, "aside", "cannot-be-decompressed")
                return
            except UncoercibleError:
                self.ledger.settle(task, waiting, "aside", "cannot-be-coerced")
                return
            if association.takes(instance.sop_class, result.transfer_syntax_uid) != result.transfer_syntax_uid:
                self.ledger.settle(task, waiting, "aside", "pacs-takes-no-such-instance")
                return
            try:
                status = association.store(coerced)
            except PacsError:
                if waiting.attempts + 1 >= TRIES:
                    self.ledger.settle(task, waiting, "aside", "breaks-the-association")
                else:
                    self.ledger.failed(task, waiting)
                raise
        self._stored(task, waiting, status)

    def _stored(self, task: Task, waiting: WaitingInstance, status: int) -> None:
        if status == 0x0000 or status in WARNINGS:
            self.ledger.settle(task, waiting, "delivered", f"warning-{status:04x}" if status else None)
        elif status in NO_RESOURCES:
            raise PacsError("full")
        else:
            self.ledger.settle(task, waiting, "aside", f"pacs-status-{status:04x}")

    @contextlib.contextmanager
    def _files(self, sha256: str) -> Iterator[tuple[Path, Path]]:
        """Where an instance is downloaded to and coerced; gone at the end, but for what a broken line left of a download."""
        folder = self._spool.folder / "deliver"
        fetched, coerced = folder / f"{sha256}.part", folder / f"{sha256}.coerced"
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise SpoolError(f"The spool's disk does not take a folder: {error.strerror or error}") from error
        try:
            yield fetched, coerced
        except ArchiveError as error:
            if error.failure is not Failure.NETWORK:
                fetched.unlink(missing_ok=True)
            coerced.unlink(missing_ok=True)
            raise
        except BaseException:
            fetched.unlink(missing_ok=True)
            coerced.unlink(missing_ok=True)
            raise
        fetched.unlink(missing_ok=True)
        coerced.unlink(missing_ok=True)


def _pause(attempts: int) -> float:
    return float(min(LONGEST_PAUSE, PAUSE_SECONDS * 2.0 ** min(attempts, 10)))
