"""Retrieving (C-GET, C-MOVE; PS3.4 C.4.2, C.4.3): what is meant is counted, then fetched some ahead, coerced, and stored."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from forwarder.archive.client import Archive
from forwarder.errors import ArchiveError, SpoolError
from forwarder.header import IMPLICIT_LE
from forwarder.logs import log, log_unforeseen
from forwarder.query.keys import Identifier, Key
from forwarder.query.search import Caller, owner_of, results, text_of
from forwarder.retrieve.coercion import LocalPatient, Origin, UncoercibleError, coerced
from forwarder.retrieve.implicit import to_implicit
from forwarder.retrieve.instances import CannotBeHadError, Instance, Instances
from forwarder.retrieve.pacs import Pacs
from forwarder.retrieve.query_retrieve import CANNOT_COUNT, NOT_THIS_SOP_CLASS, Channel, QueryRefusedError, SubOperations
from forwarder.retrieve.store_association import is_warning
from forwarder.retrieve.store_scu import NothingAcceptedError, PacsError
from forwarder.spool.spool import Spool

FETCHING, AHEAD = 4, 8  # instances that are fetched at once, and that lie on the disk before they are stored
URL_SECONDS = 240.0  # addresses of a manifest hold for 300
TELL_SECONDS = 1.0
MOST_SUB_OPERATIONS = 65_535  # their numbers have two bytes (PS3.7 E.1)
MOST_STUDIES = 1000
LARGEST_MESSAGE_ID = 65_535
FAILURES_IN_A_ROW = 8  # after which the archive, or the disk, is taken to be gone
NOT_SENT = 0xC000


@dataclass(slots=True)
class Page:
    """Instances of a study that are meant, as one page of its manifest lists them, and since when (monotonic)."""

    study: str
    owner: str
    cursor: str
    instances: list[Instance]
    listed_at: float
    number: str = ""
    """The number of ours of its patient, where the study is another hospital's."""


@dataclass(frozen=True, slots=True)
class RetrievalPlan:
    """What is meant by a request."""

    pages: list[Page] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(len(page.instances) for page in self.pages)

    @property
    def contexts(self) -> Collection[tuple[str, str]]:
        """The (SOP class, transfer syntax) of its instances."""
        return {(instance.sop_class, instance.transfer_syntax) for page in self.pages for instance in page.instances}


def plan(archive: Archive, instances: Instances, identifier: Identifier, caller: Caller) -> RetrievalPlan:
    """What a retrieval means, counted. Raises QueryRefusedError, ArchiveError."""
    series, sops = set(identifier.values("SeriesInstanceUID")), set(identifier.values("SOPInstanceUID"))
    found = RetrievalPlan()
    for study, owner, number in _studies(archive, identifier, caller):
        cursor: str | None = ""
        while cursor is not None:
            page = instances.manifest_page(study, owner, cursor)
            if page is None:  # no longer shared
                break
            meant = [
                instance
                for instance in page[0]
                if (not series or instance.series in series) and (not sops or instance.sop_instance in sops)
            ]
            if meant:
                found.pages.append(Page(study, owner, cursor, meant, time.monotonic(), number))
            cursor = page[1]
            if found.count > MOST_SUB_OPERATIONS:
                raise QueryRefusedError(CANNOT_COUNT, f"more than {MOST_SUB_OPERATIONS} instances: ask for less at once")
    return found


def _studies(archive: Archive, identifier: Identifier, caller: Caller) -> list[tuple[str, str, str]]:
    """(Study Instance UID, owner, number of ours) of the studies that are meant."""
    level = identifier.level
    wanted = {"PATIENT": "PatientID", "STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}[
        level
    ]
    if not identifier.values(wanted) or any("*" in value or "?" in value for value in identifier.values(wanted)):
        raise QueryRefusedError(NOT_THIS_SOP_CLASS, f"{wanted} is needed, without wild cards")
    above = {name: value for name, value in identifier.above.items() if name == "PatientID"}
    keys: tuple[Key, ...] = ()
    if level == "PATIENT":
        above = {"PatientID": identifier.values("PatientID")[0]}
        if len(identifier.values("PatientID")) > 1:
            raise QueryRefusedError(NOT_THIS_SOP_CLASS, "PatientID is needed with one value")
    else:
        uids = identifier.values("StudyInstanceUID")
        keys = (Key((0x0020000D,), "\\".join(uids)),)
    asked = Identifier(identifier.root, "STUDY", above, keys, False, "")
    found = []
    for row in results(archive, asked, caller):
        owner = owner_of(row)
        found.append((text_of(row, "StudyInstanceUID"), owner or caller.institution, text_of(row, "PatientID") if owner else ""))
        if len(found) > MOST_STUDIES:
            raise QueryRefusedError(CANNOT_COUNT, f"more than {MOST_STUDIES} studies: ask for less at once")
    return found


def _rewrite(path: Path, write: Callable[[Path], object]) -> None:
    """Put what `write` makes of a file in its place."""
    other = path.with_suffix(".new")
    try:
        write(other)
        other.replace(path)
    finally:
        other.unlink(missing_ok=True)


class _OverError(Exception):
    """The rest of a retrieval is not wanted, or cannot be had."""


class Retrieval:
    """One C-GET or C-MOVE that is carried out. `steps` tells how it stands."""

    def __init__(
        self,
        instances: Instances,
        spool: Spool,
        pacs: Pacs | None,
        mark: str,
        meant: RetrievalPlan,
        caller: Caller,
        channel: Channel,
    ) -> None:
        self._instances, self._spool, self._pacs, self._mark = instances, spool, pacs, mark
        self._plan, self._caller, self._channel = meant, caller, channel
        self._now = datetime.now(UTC)
        self._patients: dict[str, LocalPatient | None] = {}
        self._names = itertools.count()
        self._is_over = False  # nothing more is to be fetched
        self._failures_in_a_row = 0

    def steps(self, folder: Path, message_id: int, originator: tuple[str, int] | None) -> Iterator[SubOperations]:
        """Store everything; how it stands, after each instance, and each second in between. What is fetched lies in `folder`."""
        remaining = self._plan.count
        completed = failed = warning = 0
        failures: list[str] = []
        yield SubOperations(remaining)
        with ThreadPoolExecutor(FETCHING, "query-fetch") as fetching, ThreadPoolExecutor(1, "query-store") as storing:
            ahead: deque[tuple[Instance, Future[Path]]] = deque()
            meant = self._meant(fetching, folder)
            try:
                ids = itertools.cycle(range(1, LARGEST_MESSAGE_ID + 1))
                for _ in range(message_id):
                    next(ids)
                while True:
                    ahead.extend(itertools.islice(meant, AHEAD - len(ahead)))
                    if not ahead:
                        break
                    instance, coming = ahead.popleft()
                    done = storing.submit(self._store, instance, coming, next(ids), originator)
                    while not wait([done], TELL_SECONDS).done:
                        yield SubOperations(remaining, completed, failed, warning, tuple(failures))
                    status = done.result()
                    remaining -= 1
                    completed += status == 0x0000
                    warning += is_warning(status)
                    if status != 0x0000 and not is_warning(status):
                        failed += 1
                        failures.append(instance.sop_instance)
                    yield SubOperations(remaining, completed, failed, warning, tuple(failures))
            finally:
                self._is_over = True
                for _, coming in ahead:
                    coming.cancel()
                fetching.shutdown(cancel_futures=True)
                for _, coming in ahead:
                    if not coming.cancelled() and coming.exception() is None:
                        coming.result().unlink(missing_ok=True)

    def _meant(self, fetching: ThreadPoolExecutor, folder: Path) -> Iterator[tuple[Instance, Future[Path]]]:
        """Each instance, and the file that it becomes."""
        for page in self._plan.pages:
            for number in range(len(page.instances)):
                if time.monotonic() - page.listed_at > URL_SECONDS:
                    self._renew(page)
                instance = page.instances[number]
                yield instance, fetching.submit(self._fetched, page, instance, folder / str(next(self._names)))

    def _renew(self, page: Page) -> None:
        """Give the instances of a page new addresses. What is no longer shared keeps its old one, which ends."""
        try:
            listed = self._instances.manifest_page(page.study, page.owner, page.cursor)
        except ArchiveError as error:
            log.warning("a retrieval waits for the archive", kind=error.failure.value, detail=str(error))
            return
        fresh = {instance.sop_instance: instance for instance in (listed[0] if listed else ())}
        page.instances = [fresh.get(instance.sop_instance, instance) for instance in page.instances]
        page.listed_at = time.monotonic()

    def _fetched(self, page: Page, instance: Instance, target: Path) -> Path:
        """The file to send. Raises what `_store` tells apart."""
        self._go_on()
        syntax = self._channel.takes(instance.sop_class, instance.transfer_syntax)
        if syntax is None:
            raise NothingAcceptedError("takes-no-such-instance")
        self._spool.check_space()
        try:
            if syntax == instance.transfer_syntax:
                self._instances.download(instance, target, self._go_on)
            else:
                self._instances.transcoded(page.study, page.owner, instance, target)
            if page.number:
                patient, origin = self._patient(page.number), self._origin(page.owner)
                _rewrite(target, coerced(target, patient, origin, self._now).write_to)
            if syntax == IMPLICIT_LE != instance.transfer_syntax:
                _rewrite(target, lambda other: to_implicit(target, other))
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        return target

    def _patient(self, number: str) -> LocalPatient:
        """The patient as the hospital's own PACS knows them, else as the archive does. Raises ArchiveError, UncoercibleError."""
        if number not in self._patients:
            known = self._instances.patient(number, self._caller.issuer)
            try:
                self._patients[number] = self._pacs.known(known) if self._pacs else known
            except PacsError:
                self._patients[number] = known
        patient = self._patients[number]
        if patient is None:
            raise UncoercibleError("the PACS has another person under this number")
        return patient

    def _go_on(self, _: int = 0) -> None:
        """Raises _OverError when nothing more is to be fetched."""
        if self._is_over:
            raise _OverError

    def _origin(self, owner: str) -> Origin:
        own = self._instances.ourselves()
        hospital = self._instances.names.get(owner, owner)
        return Origin(hospital, own.name, self._mark.replace("{hospital}", hospital))

    def _store(self, instance: Instance, coming: Future[Path], message_id: int, originator: tuple[str, int] | None) -> int:
        """The status of the sub-operation; NOT_SENT for an instance that could not be sent."""
        try:
            path = coming.result()
        except (ArchiveError, SpoolError) as error:
            log.warning("an instance was not retrieved", sha256=instance.sha256[:12], detail=str(error))
            self._failures_in_a_row += 1
            self._is_over = self._is_over or self._failures_in_a_row >= FAILURES_IN_A_ROW
            return NOT_SENT
        except (CannotBeHadError, UncoercibleError, NothingAcceptedError) as error:
            log.warning("an instance was not retrieved", sha256=instance.sha256[:12], why=type(error).__name__, detail=str(error))
            return NOT_SENT
        except _OverError:
            return NOT_SENT
        except Exception as error:  # whatever it is: this sub-operation failed, and the others go on
            log_unforeseen("an instance was not retrieved", error, sha256=instance.sha256[:12])
            return NOT_SENT
        self._failures_in_a_row = 0
        try:
            return self._channel.store(path, message_id, originator)
        except NothingAcceptedError as error:
            log.warning("an instance was not stored", sha256=instance.sha256[:12], detail=str(error))
        except PacsError as error:
            log.warning("an instance was not stored, and no further one will be", sha256=instance.sha256[:12], detail=str(error))
            self._is_over = True
        finally:
            path.unlink(missing_ok=True)
        return NOT_SENT
