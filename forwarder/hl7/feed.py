"""What the archive tells of new studies: it wakes the reports that wait for them, however the images came (`GET /changes`).

Asked only while a report waits for its study: then every few seconds. What is told wakes a report and decides
nothing: whose study it is, is looked at as ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from urllib.parse import quote

from forwarder.archive.changes import NOW, Pace, ask, changes
from forwarder.archive.client import Archive
from forwarder.archive.link import Link
from forwarder.errors import ArchiveError, Failure, SpoolError
from forwarder.hl7 import waiting as queue
from forwarder.logs import log
from forwarder.spool.spool import Spool

KINDS = frozenset({"study-arrived", "study-changed"})
LOOK_SECONDS = 1.0  # between two looks whether a report waits
PAUSE_SECONDS = 10.0  # after a failure; the line is no business of this
MOST_SEARCHES = 100  # studies of one answer whose accession number is looked up; of more than that, all reports are tried


class Feed:
    """Follows the archive's feed while reports wait, in a thread of its own (`run`)."""

    def __init__(self, spool: Spool, archive: Archive, line: Link, notice: Callable[[], None]) -> None:
        self._journal = spool.journal
        self._archive = archive
        self._line = line
        self._notice = notice
        self._cursor = ""  # empty: not following
        self._pace = Pace(archive)

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                wait = self._step(stop)
            except ArchiveError as error:
                log.debug("the archive's feed cannot be read", kind=error.failure.value, detail=str(error))
                wait = PAUSE_SECONDS
            except SpoolError as error:
                if not stop.is_set():
                    log.error("the spool fails", detail=str(error))
                wait = PAUSE_SECONDS
            if wait:
                stop.wait(wait)

    def _step(self, stop: threading.Event) -> float:
        """One look or one question; how long to wait (seconds) before the next. Raises ArchiveError, SpoolError."""
        if self._line.closed_for():
            return LOOK_SECONDS
        if not queue.waiting_for_studies(self._journal)[0]:
            self._cursor = ""
            return LOOK_SECONDS
        if not self._cursor:
            _, self._cursor = self._changes(NOW)
            self._wake(None)  # what came between their last try and this beginning
            return 0.0
        came, self._cursor = self._changes(self._cursor)
        if came and not stop.is_set():
            _, studies, accessions = queue.waiting_for_studies(self._journal)
            if accessions and len(came) > MOST_SEARCHES:
                self._wake(None)
            elif accessions or studies & came:
                found = {number for study in came for number in self._accessions(study)} if accessions else set()
                self._wake(came & studies, accessions & found)
        return self._pace.after(bool(came))

    def _wake(self, studies: Collection[str] | None, accessions: Collection[str] = ()) -> None:
        if queue.wake(self._journal, studies, accessions):
            self._notice()

    def _changes(self, since: str) -> tuple[set[str], str]:
        """(the Study Instance UIDs that have news since a cursor, the next cursor). Raises ArchiveError."""
        found, cursor = changes(self._archive, since)
        return {str(change.get("study_instance_uid")) for change in found if change.get("kind") in KINDS}, cursor

    def _accessions(self, study: str) -> set[str]:
        """The accession numbers of a study; none where it is not there any more. Raises ArchiveError."""
        path = f"/dicomweb/studies?StudyInstanceUID={quote(study, safe='')}&includefield=AccessionNumber"
        found = ask(self._archive, path, "application/dicom+json")
        try:
            return {str(study["00080050"]["Value"][0]).strip() for study in found if study.get("00080050", {}).get("Value")}
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ArchiveError("The archive's answer to a search is not what the standard says.", Failure.PROTOCOL) from error
