"""Into the hospital's PACS: follows the archive's feed, decides what is wanted, has it brought, confirmed, and recalled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from forwarder.archive.changes import NOW, Pace, changes
from forwarder.archive.client import Archive
from forwarder.archive.link import Link
from forwarder.config import Config
from forwarder.deliver import proposals
from forwarder.deliver.deliveries import (
    Brought,
    Confirmation,
    DeliveryState,
    Look,
    Numberless,
    RecallReason,
    Task,
    ToConfirm,
    ToReject,
)
from forwarder.deliver.delivery import OTHER_PERSON, TRIES, Delivery, NotNowError
from forwarder.deliver.ledger import Ledger
from forwarder.deliver.rejection import KEY_OBJECT_SELECTION, derived_uid, rejection_note
from forwarder.deliver.rules import Patient, chosen, open_now, rank
from forwarder.deliver.source import Source
from forwarder.errors import ArchiveError, SpoolError
from forwarder.logs import UNFORESEEN, log, log_unforeseen
from forwarder.retrieve.coercion import LocalPatient, Origin
from forwarder.retrieve.instances import Instance
from forwarder.retrieve.pacs import Pacs
from forwarder.retrieve.store_association import is_warning
from forwarder.retrieve.store_scu import PLAIN, NothingAcceptedError, PacsError
from forwarder.spool.spool import Spool

LOOK_SECONDS = 1.0
PAUSE_SECONDS = 10.0
LONGEST_PAUSE = 900.0
REVIEW_EVERY = timedelta(days=1)
"""How often the archive is asked about a patient of whom something was brought, whatever the feed says: it does not tell that a
patient objected, for what is hidden looks as if it had never been."""
SOON = (0.1, 0.2, 0.4)
"""Pauses (seconds) after which a patient who was just accepted is looked at again, where there is no exam yet."""
COMMITMENT_WAIT = 600.0  # seconds for the result of a storage commitment; then the PACS is asked by C-FIND
LOOKS_BEFORE_LOST = 4
"""How often C-FIND may lack what the PACS has just taken, before it counts as lost: some index behind their answer."""
OF_PATIENTS = frozenset({"study-arrived", "study-changed", "report-arrived", "study-withdrawn"})
OF_TRANSFERS = frozenset({"transfer-opened", "transfer-accepted", "transfer-ended", "transfer-waiting", "transfer-extended"})
REPORT_CLASSES = ("1.2.840.10008.5.1.4.1.1.88.", "1.2.840.10008.5.1.4.1.1.104.")


class Deliveries:
    """Three threads: `follow` reads the feed, `plan` decides what is wanted, `deliver` does the work.

    `pause` hears of each downloaded block, and may sleep.
    """

    def __init__(
        self, config: Config, spool: Spool, archive: Archive, line: Link, pause: Callable[[int], None] = lambda _: None,
        today: Callable[[], datetime] = datetime.now,
    ) -> None:  # fmt: skip
        self._config = config.deliver
        self._commits = config.pacs.commitment
        self._spool = spool
        self._archive = archive
        self._line = line
        self._now = today
        self._source = Source(archive)
        self._pacs = Pacs(config.pacs, config.dicom)
        self.ledger = Ledger(spool.journal)
        self._delivery = Delivery(
            spool, self.ledger, self._source, self._pacs, config.deliver.reports, config.pacs.associations, pause
        )
        self.trouble: str | None = None
        """Why the PACS cannot be spoken to, in one word; None while it can."""
        self._wake, self._looking = threading.Event(), threading.Event()
        self._told_here: set[str] = set()  # transfers that were accepted here a moment ago, and not looked at since
        self._just_accepted: set[str] = set()  # the numbers under which they were

    @property
    def seconds_each(self) -> float | None:
        """What an instance takes now, where that is known."""
        return self._delivery.seconds_each

    def notice(self) -> None:
        """Look now: somebody asked for it."""
        self._looking.set()
        self._wake.set()

    def to_the_front(self, number: str, relevant: Sequence[tuple[str, str]]) -> None:
        """An exam of this patient was ordered here, for which these (study, owner) are relevant: they go before all others.

        Raises SpoolError.
        """
        self.ledger.to_the_front(number, relevant)
        self._wake.set()

    def transfer_accepted(self, transfer: str) -> None:
        """A transfer was accepted from here, by registration or by a person: the feed, which tells it too, is not waited for.

        Raises SpoolError.
        """
        self._told_here.add(transfer)
        self.ledger.ask_about("transfer", transfer)
        self._looking.set()

    def is_echo(self, sop_instance: str) -> bool:
        """Whether an instance that the PACS sends came into it from here. Raises SpoolError."""
        return self.ledger.was_brought(sop_instance)

    def committed(self, transaction_uid: str, kept: Collection[str], lost: Collection[str]) -> bool:
        """The PACS's answer to a request for storage commitment; whether it was ours. Raises SpoolError."""
        known = self.ledger.committed(transaction_uid, kept, lost, TRIES)
        self._spool.step("deliver-committed")
        if lost:
            log.warning("the PACS did not keep what it took", kept=len(kept), lost=len(lost))
        self._wake.set()
        return known

    # The feed

    def follow(self, stop: threading.Event) -> None:
        """Follow the feed until told to stop."""
        pace = Pace(self._archive)
        while not stop.is_set():
            wait, began = LOOK_SECONDS, time.monotonic()
            try:
                if not self._line.closed_for():
                    wait = pace.after(self._follow())
                    self._line.succeeded()
            except ArchiveError as error:
                self._line.failed(error, began)
                log.debug("the archive's feed cannot be read", kind=error.failure.value, detail=str(error))
                wait = PAUSE_SECONDS
            except SpoolError as error:
                log.error("the spool fails", detail=str(error))
                wait = PAUSE_SECONDS
            if wait:
                stop.wait(wait)

    def _follow(self) -> bool:
        """Ask the feed once; whether anything came. Raises ArchiveError, SpoolError."""
        since = self.ledger.cursor()
        if since is None:
            # From the beginning: what was accepted before this was switched on is wanted too.
            since = ""
        found, cursor = changes(self._archive, since)
        looks: dict[tuple[str, str], None] = {}  # in the feed's order
        withdrawn: set[str] = set()
        for change in found:
            kind, study = str(change.get("kind")), str(change.get("study_instance_uid"))
            if kind in OF_PATIENTS:
                # An exam of our own says who is being read now, which counts only where something waits.
                if change.get("owner") != self._source.ourselves().id or self.ledger.has_waiting():
                    looks[("study", study)] = None
                if kind == "study-withdrawn" and not change.get("instances"):
                    withdrawn.add(study)
            elif kind in OF_TRANSFERS:
                looks[("transfer", str(change.get("transfer_id")))] = None
        if found or since != cursor:
            self.ledger.followed(cursor or NOW, looks, withdrawn)
        if looks:
            self._looking.set()
        return bool(found)

    # The work

    def plan(self, stop: threading.Event) -> None:
        """Look at what is to be looked at, until told to stop: also while a long study is being brought."""
        self._repeat(stop, self._looking, lambda: self._look() or self._review())

    def deliver(self, stop: threading.Event) -> None:
        """Bring what is wanted, have it confirmed and recalled, until told to stop."""
        try:
            self._delivery.clean(self.ledger.begin_anew())
        except (SpoolError, OSError) as error:
            log.error("the spool fails", detail=str(error))
        self._repeat(stop, self._wake, lambda: self._reject() or self._bring(stop) or self._confirm())

    def _repeat(self, stop: threading.Event, wake: threading.Event, step: Callable[[], bool]) -> None:
        """Do `step`, which tells whether there was anything to do; without, or where it failed, wait until woken."""
        while not stop.is_set():
            wake.clear()
            try:
                busy = step()
            except ArchiveError as error:
                log.warning("a delivery waits for the archive", kind=error.failure.value, detail=str(error))
                busy = False
            except SpoolError as error:
                log.error("the spool fails", detail=str(error))
                busy = False
            except OSError as error:
                log.error("the spool fails", detail=str(error.strerror or error))
                busy = False
            if not busy and not stop.is_set():
                wake.wait(LOOK_SECONDS)

    def _review(self) -> bool:
        return self.ledger.review(time.time() - REVIEW_EVERY.total_seconds())

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
        except (SpoolError, OSError):
            raise
        except Exception as error:  # nobody foresaw it: it holds up this look alone
            log_unforeseen("what is wanted could not be found out", error, kind=look.kind)
            self.ledger.look_later(look, _pause(look.attempts))
        return True

    def _look_at(self, look: Look) -> None:
        if look.kind == "patient":
            self._plan(look)
        elif look.kind == "study":
            brought, shown = self.ledger.number_of(look.name), self._source.number_of_study(look.name)
            known = [number for number in (brought, shown) if number is not None]
            if brought is None and shown is not None:  # it is brought under the number that was accepted, if that is another one
                known += self._source.person(shown).accepted_under
            self.ledger.looked(look, [("patient", number) for number in dict.fromkeys(known)])
        else:
            found = self._source.transfer(look.name)
            number = self._source.number_in(found) if found else None
            numbers = {number, *self.ledger.numbers_by(look.name)} - {None}
            more = [("patient", str(known)) for known in numbers]
            if look.name in self._told_here and number is not None:
                self._just_accepted.add(number)
            self._told_here.discard(look.name)
            if found is None or number is not None:
                self.ledger.looked(look, more)
                return
            try:
                self.ledger.looked(look, more, self._without_number(found))
            except PacsError as error:
                log.info("the PACS is not asked for a number", reason=str(error))
                without = Numberless(bool(found.get("accepted_at")))
                self.ledger.looked(look, more, without, again=_pause(look.attempts))

    def _plan(self, look: Look) -> None:
        """Decide what of a patient is wanted, in which order, and what is to be recalled."""
        found = self._source.exams_of(look.name)
        for pause in SOON if look.name in self._just_accepted and not found.exams else ():
            self._looking.wait(pause)  # the archive's views come after its facts
            found = self._source.exams_of(look.name)
            if found.exams:
                break
        self._just_accepted.discard(look.name)
        relevant = self._source.relevant(found.latest_own) if found.latest_own and found.exams else []
        now = self._now()
        ordered = self.ledger.ordered(look.name)
        exams = chosen(found, self._config, now.date(), list(dict.fromkeys([*ordered, *relevant])))
        visible = {(exam.study, exam.owner) for exam in found.exams}
        gone = {
            (study.study, study.owner): self._why_gone(study, look.name)
            for study in self.ledger.brought(look.name)
            if (study.study, study.owner) not in visible
        }
        ranked = [
            (exam, rank(found, place, now.date(), ordered=(exam.study, exam.owner) in ordered))
            for place, exam in enumerate(exams)
        ]
        self.ledger.planned(look, found, ranked, gone, now)
        self._wake.set()

    def _why_gone(self, study: Brought, number: str) -> RecallReason:
        """Why what was brought under a number may not be seen there any more."""
        for name in study.opened_by:
            transfer = self._source.transfer(name)
            if transfer is None:
                continue
            named = self._source.number_in(transfer)
            if not transfer.get("accepted_at") or (named is not None and named != number):
                return RecallReason.LINKED_OTHERWISE
            return RecallReason.NO_LONGER_SHARED
        return RecallReason.ENDED

    def _without_number(self, transfer: dict[str, Any]) -> Numberless | None:
        """A transfer for which we have no number yet; the PACS may know the patient. None where the receiver's word is awaited.

        Raises PacsError.
        """
        accepted = bool(transfer.get("accepted_at"))
        if transfer.get("to") != self._source.ourselves().id:
            return Numberless(accepted) if accepted else None
        known = self._source.exams_of(str(transfer["patient"]["id"]), str(transfer["patient"]["issuer"]))
        code = next((number for issuer, number in known.numbers if issuer == proposals.CODICE_FISCALE), "")
        candidates: list[LocalPatient] = []
        for asked in proposals.questions(known.name, known.birth_date, code):
            candidates += self._pacs.patients(**asked)
        return Numberless(accepted, *proposals.proposal(candidates, known.name, known.birth_date, known.sex, code))

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
        except NotNowError:
            pass  # the next task is another one
        except PacsError as error:
            log.warning("the PACS does not take a study", reason=str(error))
            self.ledger.later(task, _pause(task.attempts), f"pacs-{error}")
            self.trouble = str(error)
        except ArchiveError as error:
            self.ledger.later(task, _pause(task.attempts), error.failure.value)
            raise
        except (SpoolError, OSError):
            self.ledger.later(task, _pause(task.attempts), "no-space")
            raise
        except Exception as error:  # nobody foresaw it: it holds up this study alone
            log_unforeseen("a study could not be brought", error, owner=task.owner)
            self.ledger.later(task, _pause(task.attempts), UNFORESEEN)
        return True

    def _deliver(self, task: Task, stop: threading.Event) -> None:
        with ThreadPoolExecutor(1, "deliver-look") as beside:  # questions at once: somebody waits for the first image
            asking = beside.submit(lambda: self._local(self._source.person(task.number)))
            listed = self._source.listed(task.study, task.owner)
            if listed is None:  # why, is found out by a look at the patient: an empty list would withdraw all of it
                self.ledger.later(task, _pause(task.attempts), "not-to-be-seen")
                return
            self._bring_listed(task, listed, asking, stop)

    def _bring_listed(
        self, task: Task, listed: dict[str, Instance], asking: Future[LocalPatient | None], stop: threading.Event
    ) -> None:
        if self._config.reports == "none":
            listed = {uid: instance for uid, instance in listed.items() if not instance.sop_class.startswith(REPORT_CLASSES)}
        waiting = self.ledger.announced(task, listed)
        self._spool.step("deliver-listed")
        if not waiting:
            self.ledger.finish(task)
            return
        series = sorted({listed[entry.sop_instance].series for entry in waiting})
        there = self._pacs.has(task.study, series) or frozenset()
        local = asking.result()
        for entry in waiting:
            if entry.sop_instance in there:
                self.ledger.settle(task, entry, DeliveryState.THERE)
                self._delivery.forget(entry.sha256)
        left = [entry for entry in waiting if entry.sop_instance not in there]
        self.trouble = None
        if local is None:
            self.ledger.put_aside(task, OTHER_PERSON)
            return
        hospital = self._source.names.get(task.owner, task.owner)
        origin = Origin(hospital, self._source.ourselves().name, self._config.mark.replace("{hospital}", hospital))

        def is_first() -> bool:
            return (self.ledger.first_rank() or task.rank) >= task.rank

        if not left or self._delivery.bring(task, left, listed, local, origin, stop, is_first):
            self.ledger.finish(task)

    def _local(self, found: Patient) -> LocalPatient | None:
        """The patient as the PACS knows them, else as the archive does; None where the two name two people."""
        issuer = self._source.ourselves().issuer
        return self._pacs.known(LocalPatient(found.number, issuer, found.name, found.birth_date, found.sex))

    # Whether the PACS keeps it

    def _confirm(self) -> bool:
        """Ask the PACS whether it keeps what it took of one study; whether there was one."""
        study = self.ledger.next_to_confirm()
        if study is None:
            return False
        try:
            if not study.instances or not self._commits or study.attempts or not self._commitment_asked(study):
                self._found_there(study)
        except PacsError as error:
            log.info("the PACS is not asked whether it keeps a study", reason=str(error))
            self.ledger.confirm_later(study, _pause(study.attempts))
        except (SpoolError, OSError):
            raise
        except Exception as error:  # nobody foresaw it: it holds up this study alone
            log_unforeseen("the PACS could not be asked whether it keeps a study", error, owner=study.owner)
            self.ledger.confirm_later(study, _pause(study.attempts))
        return True

    def _commitment_asked(self, study: ToConfirm) -> bool:
        """Ask for storage commitment; whether the PACS does it."""
        transaction = derived_uid("commitment", study.study, study.owner, f"{time.time_ns()}")
        self.ledger.asking(study, transaction, COMMITMENT_WAIT)  # before it is asked: the answer may be faster than we
        self._spool.step("deliver-asked")
        return self._pacs.ask_commitment(
            transaction, {entry.sop_instance: entry.sop_class for entry in study.instances}, self.committed
        )

    def _found_there(self, study: ToConfirm) -> None:
        """Ask by C-FIND; where the PACS answers none, what it said to C-STORE has to do."""
        wanted = {entry.sop_instance for entry in study.instances}
        there = self._pacs.has(study.study, sorted({entry.series for entry in study.instances}))
        if there is None:
            self.ledger.confirmed(study, wanted, (), Confirmation.JOURNAL, TRIES)
            return
        missing = wanted - there
        patient = study.attempts < LOOKS_BEFORE_LOST
        self.ledger.confirmed(study, wanted & there, () if patient else missing, Confirmation.FIND, TRIES)
        if missing and patient:
            self.ledger.confirm_later(study, _pause(study.attempts))

    # What must not be used

    def _reject(self) -> bool:
        """Tell the PACS that something must not be used any more, if that is configured; whether there was something."""
        if self._config.recall != "reject":
            return False
        study = self.ledger.next_to_reject()
        if study is None:
            return False
        try:
            failure = self._note_taken(study)
        except PacsError as error:
            failure = f"pacs-{error}"
        except (ArchiveError, SpoolError, OSError):
            raise
        except Exception as error:  # nobody foresaw it: it holds up this note alone
            log_unforeseen("a rejection note could not be made", error, owner=study.owner)
            failure = UNFORESEEN
        if failure:
            log.warning("the PACS did not take a rejection note", reason=failure)
        self.ledger.rejected(study, failure, _pause(study.attempts))
        return True

    def _note_taken(self, study: ToReject) -> str | None:
        """Why the PACS did not take the note; None where it did. Raises PacsError."""
        folder = self._spool.folder / "deliver"
        folder.mkdir(exist_ok=True)
        path = folder / "rejection-note"
        own = self._source.ourselves()
        known = self._pacs.patient(study.number) or LocalPatient(study.number, own.issuer, "")
        if not study.instances:
            return None  # nothing of it is there any more
        try:
            moment = datetime.fromtimestamp(study.since, UTC)
            self.ledger.note(study, rejection_note(path, study, known, own.name, moment))
            with self._pacs.association({(KEY_OBJECT_SELECTION, PLAIN[0])}) as association:
                status = association.store(path)
        except NothingAcceptedError:
            return "pacs-takes-no-rejection-note"
        finally:
            path.unlink(missing_ok=True)
        return None if status == 0x0000 or is_warning(status) else f"pacs-status-{status:04x}"


def _pause(attempts: int) -> float:
    return float(min(LONGEST_PAUSE, PAUSE_SECONDS * 2.0 ** min(attempts, 10)))
