"""What waits for a person: acceptances, proposed numbers, merges, emergencies to review, what was put aside or is to be recalled.

Each has its role, its age, and the page on which it is done. Nothing here says of which patient it is.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from forwarder.archive.changes import ask_all
from forwarder.archive.client import Archive
from forwarder.archive.link import Link
from forwarder.deliver import account
from forwarder.deliver.deliveries import RecallReason
from forwarder.errors import ArchiveError, Failure, SpoolError
from forwarder.hl7 import waiting
from forwarder.hl7.adt import standing as adt
from forwarder.hl7.adt.merges import merges
from forwarder.logs import log
from forwarder.spool import instances
from forwarder.spool.journal import Journal

LOOK_SECONDS = 30.0
ASK_SECONDS = 300.0
"""How often the archive is asked; the pages themselves ask when somebody looks at them."""


class WorkKind(StrEnum):
    """What a person has to do."""

    ACCEPTANCE = "acceptance"
    NUMBER_PROPOSAL = "number-proposal"
    MERGE = "merge"
    EMERGENCY_REVIEW = "emergency-review"
    PUT_ASIDE = "put-aside"
    DELIVERY_ASIDE = "delivery-aside"
    REGISTRATION = "registration"
    RECALL = "recall"


@dataclass(frozen=True, slots=True)
class Responsibility:
    """Whose it is (a role of the contract), and where on the staff's pages it is done."""

    role: str
    path: str


PLACES: Mapping[WorkKind, Responsibility] = {
    WorkKind.ACCEPTANCE: Responsibility("registry", "/transfers#waiting"),
    WorkKind.NUMBER_PROPOSAL: Responsibility("registry", "/transfers#waiting"),
    WorkKind.MERGE: Responsibility("registry", "/patients#merges"),
    WorkKind.EMERGENCY_REVIEW: Responsibility("privacy", "/patients#reviews"),
    WorkKind.PUT_ASIDE: Responsibility("admin", "/queue#aside"),
    WorkKind.DELIVERY_ASIDE: Responsibility("admin", "/queue#deliveries"),
    WorkKind.REGISTRATION: Responsibility("admin", "/queue#adt"),
    WorkKind.RECALL: Responsibility("admin", "/queue#recalls"),
}


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One thing that waits, since when (seconds since the epoch); `key` tells it from others of its kind, and says nothing."""

    kind: WorkKind
    key: str
    since: float


Listener = Callable[[list[WorkItem]], object]


class WorkList:
    """What waits. `on_look` hears of each look: what waits, and whether the archive could be asked."""

    def __init__(
        self,
        journal: Journal,
        archive: Archive,
        line: Link,
        *,
        asks: bool,
        on_look: Listener | None = None,
    ) -> None:
        """`asks`: whether the archive is asked at all: not where nobody could do anything."""
        self._journal, self._archive, self._line = journal, archive, line
        self._asks = asks
        self._on_look = on_look
        self._at_archive: list[WorkItem] | None = None
        self._asked_at = -ASK_SECONDS
        self.items: list[WorkItem] = []

    def run(self, stop: threading.Event) -> None:
        """Look until told to stop."""
        while not stop.is_set():
            try:
                self.look(fresh=time.monotonic() - self._asked_at >= ASK_SECONDS)
                if self._on_look and (self._at_archive is not None or not self._asks):
                    self._on_look(self.items)
            except SpoolError as error:
                if not stop.is_set():
                    log.error("the spool fails", detail=str(error))
            stop.wait(LOOK_SECONDS)

    def look(self, *, fresh: bool = True) -> list[WorkItem]:
        """What waits now, the oldest first; what the archive says as it said last where it cannot be asked. Raises SpoolError."""
        if fresh and self._asks and not self._line.closed_for():
            try:
                self._at_archive = list(self._from_the_archive())
                self._asked_at = time.monotonic()
            except ArchiveError as error:
                log.debug("the archive is not asked what waits", kind=error.failure.value, detail=str(error))
        with self._journal.read() as connection:
            found = [*(self._at_archive or ()), *from_journal(connection)]
        self.items = sorted(found, key=lambda item: item.since)
        return self.items

    def _from_the_archive(self) -> Iterator[WorkItem]:
        try:
            for transfer in ask_all(self._archive, "/transfers?direction=incoming&accepted=false&status=active", "transfers"):
                yield WorkItem(WorkKind.ACCEPTANCE, str(transfer["id"]), _seconds(transfer["opened_at"]))
            for review in ask_all(self._archive, "/emergency-access?status=open", "reviews"):
                yield WorkItem(WorkKind.EMERGENCY_REVIEW, str(review["id"]), _seconds(review["opened_at"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ArchiveError("The archive's answer is not what the contract says.", Failure.PROTOCOL) from error


def summary(items: Iterable[WorkItem]) -> dict[str, dict[str, Any]]:
    """By kind how much waits (`count`) and for how long the oldest does (`oldest_seconds`, None without any)."""
    now = time.time()
    told: dict[str, dict[str, Any]] = {str(kind): {"count": 0, "oldest_seconds": None} for kind in WorkKind}
    for item in items:
        of_kind = told[item.kind]
        of_kind["count"] += 1
        of_kind["oldest_seconds"] = max(of_kind["oldest_seconds"] or 0.0, round(max(0.0, now - item.since), 1))
    return told


def from_journal(connection: sqlite3.Connection) -> Iterator[WorkItem]:
    """What of it the journal knows."""
    for proposal in adt.proposals(connection):
        yield WorkItem(WorkKind.NUMBER_PROPOSAL, _key(proposal.transfer, proposal.number), proposal.since)
    for transfer in account.numberless(connection):
        if transfer.proposal:
            yield WorkItem(WorkKind.NUMBER_PROPOSAL, _key(transfer.transfer, transfer.proposal), transfer.since)
    for merge in merges(connection):
        yield WorkItem(WorkKind.MERGE, _key(merge.number, merge.other), merge.since)
    for aside in instances.put_aside(connection):
        yield WorkItem(WorkKind.PUT_ASIDE, aside.digest, aside.settled_at)
    for report in waiting.aside(connection):
        yield WorkItem(WorkKind.PUT_ASIDE, str(report[0]), float(report[-1]))
    for exam in account.exams_aside(connection):
        yield WorkItem(WorkKind.DELIVERY_ASIDE, _key(exam.study, exam.owner), exam.since)
    for act in adt.waiting_for_a_person(connection):
        yield WorkItem(WorkKind.REGISTRATION, str(act["seq"]), float(act["since"]))
    for recall in account.recalls(connection):
        if recall.reason is not RecallReason.ENDED and recall.rejected_at is None:
            yield WorkItem(WorkKind.RECALL, _key(recall.study, recall.owner, recall.reason), recall.since)


def _key(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
