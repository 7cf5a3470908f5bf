"""The way out of reports: find the study, make sure whose it is, and add the report to it.

It shares the line, the credentials and the retry plans with the images. A report waits for its study for as long as the
configuration says; nothing that is wrong with one report holds up another.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from forwarder.alerts import Reason
from forwarder.archive.client import Archive
from forwarder.archive.link import Link
from forwarder.archive.retry import pause
from forwarder.config import Hl7Config
from forwarder.errors import ArchiveError, Failure, SpoolError
from forwarder.hl7 import waiting as queue
from forwarder.hl7.report import Report
from forwarder.logs import UNFORESEEN, log, log_unforeseen
from forwarder.spool.spool import Spool

LOOK_AGAIN = 0.3  # seconds between two looks for a study that is being indexed
ARRIVING_SECONDS = 10.0  # and for how long it is looked for so often
MOST_ARRIVING = 10_000  # studies that are remembered so
SAME_EXAM = timedelta(days=182)
"""How far apart what a report says of its exam's day, and the exams of one accession number, may be."""
_STUDY_DATE = "00080020"
PERHAPS_THIS_ONE = frozenset({Failure.SERVER, Failure.REFUSED, Failure.PROTOCOL})
"""Blamed on the line; but should it be this report (a proxy may dislike its words), it must not hold up the others."""
_ANSWERS = {
    200: None, 201: None, 404: Reason.REPORT_WITHOUT_STUDY, 409: Reason.REPORT_OF_ANOTHER_PATIENT,
    **dict.fromkeys((400, 413, 415), Reason.REPORT_REFUSED),
}  # fmt: skip
"""What the archive answers to a report, and why it then does not have it. 409: the document itself names another patient."""


class ReportOutbox:
    """Sends what waits, in a thread of its own (`run`)."""

    def __init__(self, spool: Spool, archive: Archive, line: Link, config: Hl7Config) -> None:
        self._spool = spool
        self._archive = archive
        self._line = line
        self._patience = config.wait_days * 86400.0
        self._zeros_count = config.patient_zeros == "kept"
        self._arriving: dict[str, float] = {}  # studies whose images just came, and until when to look often
        self._wake = threading.Event()
        self._leftovers = True  # whether the journal's log may still hold what was sent, perhaps before this start

    def notice(self) -> None:
        """Something new waits, or it is time to stop."""
        self._wake.set()

    def arrived(self, studies: Collection[str]) -> None:
        """Images of these studies are in the archive: reports that wait for them go now. Raises SpoolError."""
        now = time.monotonic()
        fresh = [study for study in studies if self._arriving.get(study, 0.0) < now]
        if not fresh:
            return
        if len(self._arriving) > MOST_ARRIVING:
            self._arriving = {study: until for study, until in self._arriving.items() if until > now}
        self._arriving |= dict.fromkeys(fresh, now + ARRIVING_SECONDS)
        if queue.wake(self._spool.journal, fresh):
            self.notice()

    def run(self, stop: threading.Event) -> None:
        """Until `stop`; a failing disk is waited out."""
        while not stop.is_set():
            self._wake.clear()
            try:
                wait = self.step()
            except SpoolError as error:
                log.error("the spool fails", detail=str(error))
                wait = 2.0
            if wait and not stop.is_set():
                self._wake.wait(wait)

    def step(self) -> float:
        """Send one report, if one is due and the line is open; how long to wait (seconds) before the next step."""
        closed = self._line.closed_for()
        waiting = None if closed else queue.next_due(self._spool.journal)
        if waiting is None:
            self._leftovers = self._leftovers and not self._spool.journal.shorten()
            now = time.monotonic()
            return min(closed or 1.0, LOOK_AGAIN if any(until > now for until in self._arriving.values()) else 1.0)
        started = time.monotonic()
        try:
            verdict = self._deliver(waiting.report)
        except ArchiveError as error:
            self._failed(waiting, error, started)
            return 0.0
        except (SpoolError, OSError):
            raise
        except Exception as error:  # nobody foresaw it: it holds up this report alone
            log_unforeseen("a report could not be sent", error, report=waiting.digest[:12])
            queue.postpone(self._spool.journal, waiting.digest, pause(Failure.INSTANCE, waiting.attempts + 1), UNFORESEEN)
            return 0.0
        self._line.succeeded()
        if verdict is None:
            queue.sent(self._spool.journal, waiting.digest)
            self._leftovers = True
            self._spool.step("report-settled")
            log.info("report sent", report=waiting.digest[:12])
        elif verdict == Reason.REPORT_WITHOUT_STUDY and time.time() - waiting.received_at < self._patience:
            fresh = self._arriving.get(waiting.report.study, 0.0) > time.monotonic()
            seconds = LOOK_AGAIN if fresh else pause(Failure.ABSENT, waiting.attempts + 1)
            queue.postpone(self._spool.journal, waiting.digest, seconds, Failure.ABSENT.value)
        else:
            self._aside(waiting, verdict)
        return 0.0

    def _deliver(self, report: Report) -> Reason | None:
        """None when the archive has the report; else why not. Raises ArchiveError."""
        found = self._search(report)
        own = [study for study in found if self._same(_first(study, "00100020"), report.patients)]
        self._spool.step("report-found")
        if not own:
            return Reason.REPORT_OF_ANOTHER_PATIENT if found else Reason.REPORT_WITHOUT_STUDY
        if not report.study:  # RISes give a number again
            own = [study for study in own if not _far(_first(study, _STUDY_DATE), report.examined)]
            days = sorted(_first(study, _STUDY_DATE) for study in own)
            if not own or _far(days[0], days[-1]):
                return Reason.REPORT_OF_SEVERAL_EXAMS if own else Reason.REPORT_WITHOUT_STUDY
        verdicts = [self._add(report, _first(study, "0020000D")) for study in own]
        self._spool.step("report-added")
        return next((verdict for verdict in verdicts if verdict), None)

    def _search(self, report: Report) -> list[dict[str, Any]]:
        """Our own studies that the report may mean, by UID or exact accession number (PS3.18 10.6)."""
        key, tag = ("StudyInstanceUID", "0020000D") if report.study else ("AccessionNumber", "00080050")
        value = report.study or report.accession
        path = f"/dicomweb/studies?{key}={quote(value, safe='')}"
        try:
            found = json.loads(self._archive.call("GET", path, b"", {"Accept": "application/dicom+json"}).data)
            return [study for study in found if _first(study, tag) == value and "owner=" not in _first(study, "00081190")]
        except (ValueError, TypeError, AttributeError) as error:
            raise ArchiveError("The archive's answer to a search is not what the standard says.", Failure.PROTOCOL) from error

    def _same(self, patient: str, numbers: Collection[str]) -> bool:
        """Whether a study's Patient ID is one of these, leading zeros as configured."""
        if self._zeros_count:
            return patient in numbers
        return (patient.lstrip("0") or "0") in {number.lstrip("0") or "0" for number in numbers} if patient else False

    def _add(self, report: Report, study: str) -> Reason | None:
        """Sending a version again changes nothing there, so an answer that was lost does no harm."""
        document = report.document if report.part == 1 else f"{report.document}-{report.part}"
        query = {"document": document, "report": report.document, "title": report.title, "date": report.at}
        query |= {"status": report.status, "replaces": report.replaces}
        path = f"/studies/{study}/reports?{urlencode({name: value for name, value in query.items() if value}, quote_via=quote)}"
        headers = {"Content-Type": report.media_type, "Accept": "application/json"}
        status = self._archive.call("POST", path, report.content or b"", headers, _ANSWERS).status
        return _ANSWERS[status]

    def _failed(self, waiting: queue.WaitingReport, error: ArchiveError, started: float) -> None:
        log.warning("report not sent", report=waiting.digest[:12], kind=error.failure.value, detail=str(error))
        blamed = not self._line.failed(error, started)
        if error.failure is Failure.INSTANCE:
            self._aside(waiting, Reason.REPORT_REFUSED)
        elif blamed or error.failure in PERHAPS_THIS_ONE:
            seconds = pause(Failure.INSTANCE, waiting.attempts + 1, error.retry_after)
            queue.postpone(self._spool.journal, waiting.digest, seconds, error.failure.value)

    def _aside(self, waiting: queue.WaitingReport, reason: Reason) -> None:
        queue.put_aside(self._spool.journal, waiting.digest, reason)
        log.warning("report put aside", report=waiting.digest[:12], reason=reason)


def _far(day: str, other: str) -> bool:
    """Whether two days (YYYYMMDD, more may follow) are not those of one exam, or of exams made together."""
    try:
        days = [datetime.strptime(text[:8], "%Y%m%d") for text in (day, other)]
    except ValueError:
        return False
    return abs(days[0] - days[1]) > SAME_EXAM


def _first(attributes: dict[str, Any], tag: str) -> str:
    values = attributes.get(tag, {}).get("Value") or [""]
    return str(values[0]).strip()
