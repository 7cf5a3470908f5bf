"""Storage commitment, push model: the PACS asks what has become of its instances, and is told once it is certain.

“Committed” means what the contract calls `indexed` (or `echo`): durable in the archive, checked and searchable; being in
the spool is not enough. A request is in the journal before it is acknowledged, so a restart forgets none. PS3.4 J.3.

Each asker is answered in a thread of its own, since one that does not answer holds its thread for half a minute. On the
association on which it asked the report is only sent, and its answer taken when it comes. Who has no `[[peers]]` entry can be
answered there and nowhere else: what cannot be answered at once is refused, instead of never being answered.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pynetdicom import AE, build_role
from pynetdicom.sop_class import StorageCommitmentPushModel

from forwarder.config import DicomConfig, PeerConfig
from forwarder.dicom.associations import Established
from forwarder.dicom.scp import NEGOTIATION_SYNTAXES
from forwarder.errors import ForwarderError, SpoolError
from forwarder.logs import log
from forwarder.spool.instances import PENDING, SETTLED_WELL, under_uid
from forwarder.spool.spool import Spool, SpoolFullError
from forwarder.tls import tls_context

WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"
PROCESSING_FAILURE, NO_SUCH_OBJECT, CLASS_INSTANCE_CONFLICT = 0x0110, 0x0112, 0x0119  # PS3.3 C.14
GIVE_UP_AFTER = 7 * 86400.0  # seconds; by then the PACS has asked again, or never will
LOOK_EVERY = 0.5
OPEN_AT_MOST = 1000  # requests
AT_ONCE = 32  # askers that are being answered
AT_ONCE_SECONDS = 5.0  # for the verdicts on what an asker without address asks about
ANSWER_SECONDS = 30.0  # for the answer to a report

Reference = tuple[str, str]
"""(SOP Class UID, SOP Instance UID)"""


Key = tuple[str, str]
"""(transaction UID, calling AE title)"""


class UnreachableError(ForwarderError):
    """Who asks has no `[[peers]]` entry, and its request cannot be answered at once."""


@dataclass(slots=True)
class _Asker:
    """The association on which a request came, and the message id of the report that was sent on it."""

    association: Established
    message_id: int | None = None


def outcome(connection: sqlite3.Connection, reference: Reference) -> int | None:
    """0 if committed, a failure reason if it will not be, None while that is open.

    What came last under a UID decides: the sender speaks of that. So a conflict is never committed, although the instance
    that stands in its place is in the archive.
    """
    sop_class, sop_instance = reference
    found = under_uid(connection, sop_instance)
    if not found:
        return NO_SUCH_OBJECT
    if any(state in PENDING for state, _ in found):
        return None
    latest, its_class = found[0]
    if latest not in SETTLED_WELL:
        return PROCESSING_FAILURE
    if its_class != sop_class:
        return CLASS_INSTANCE_CONFLICT
    return 0


def summary(connection: sqlite3.Connection) -> dict[str, float | None]:
    """How many requests are open, and for how long (seconds) the oldest has been."""
    count, oldest = connection.execute("SELECT count(*), min(requested_at) FROM commitments").fetchone()
    return {"open": count, "oldest_seconds": None if oldest is None else round(max(0.0, time.time() - oldest), 1)}


def report(transaction: str, outcomes: Sequence[tuple[Reference, int]]) -> tuple[int, Dataset]:
    """(event type, event information) of the N-EVENT-REPORT. PS3.4 table J.3-2."""
    information = Dataset()
    information.TransactionUID = transaction
    good: list[Dataset] = []
    bad: list[Dataset] = []
    for (sop_class, sop_instance), reason in outcomes:
        item = Dataset()
        item.ReferencedSOPClassUID = sop_class
        item.ReferencedSOPInstanceUID = sop_instance
        if reason:
            item.FailureReason = reason
        (bad if reason else good).append(item)
    if good:
        information.ReferencedSOPSequence = DicomSequence(good)
    if bad:
        information.FailedSOPSequence = DicomSequence(bad)
    return (2 if bad else 1), information


class Commitments:
    """Records requests and reports their outcome, on the association that asked or on a new one."""

    def __init__(self, spool: Spool, dicom: DicomConfig, peers: Sequence[PeerConfig]) -> None:
        self._spool = spool
        self._dicom = dicom
        self._peers = {peer.ae_title.strip(): peer for peer in peers}
        self._askers: dict[Key, _Asker] = {}
        self._look_at: dict[Key, float] = {}  # monotonic
        self._busy: set[str] = set()  # calling AE titles that are being answered
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()

    def record(self, transaction: str, caller: str, references: list[Reference], association: Established) -> None:
        """Remember a request durably. Raises SpoolError; SpoolFullError for lack of space, and where too many are open;
        UnreachableError for an asker without address that cannot be answered on this association at once.
        """
        self._spool.check_space()
        if caller not in self._peers and not self._known_soon(references):
            raise UnreachableError("It has no [[peers]] entry, and what it asks about has no verdict yet.")
        items = json.dumps(references)

        def work(connection: sqlite3.Connection) -> bool:
            if connection.execute("SELECT count(*) FROM commitments").fetchone()[0] >= OPEN_AT_MOST:
                return False
            connection.execute(
                "INSERT OR REPLACE INTO commitments (transaction_uid, caller, requested_at, items) VALUES (?, ?, ?, ?)",
                (transaction, caller, time.time(), items),
            )
            return True

        if not self._spool.journal.write(work):
            raise SpoolFullError("Too many requests for commitment are open.")
        self._askers[(transaction, caller)] = _Asker(association)
        self._wake.set()

    def _known_soon(self, references: list[Reference]) -> bool:
        """Whether all has its verdict, or has it within `AT_ONCE_SECONDS`."""
        deadline = time.monotonic() + AT_ONCE_SECONDS
        while self._outcomes(references) is None:
            if time.monotonic() > deadline or self._closing.wait(0.1):
                return False
        return True

    def run(self, stop: threading.Event) -> None:
        """Report what is certain until told to stop."""
        while not stop.is_set():
            self._wake.clear()
            try:
                some = self._report_due()
            except ForwarderError as error:
                log.error("commitment not reported", detail=str(error))
                some = True
            if not stop.is_set():
                self._wake.wait(LOOK_EVERY if some else 5.0)

    def close(self) -> None:
        self._closing.set()
        self._wake.set()

    def _report_due(self) -> bool:
        """Report what can be reported; returns whether anything is still open."""
        with self._spool.journal.read() as connection:
            keys = connection.execute(
                "SELECT transaction_uid, caller, not_before FROM commitments ORDER BY requested_at"
            ).fetchall()
        for transaction, caller, not_before in keys:
            began = time.monotonic()
            if not_before > time.time() or began < self._look_at.get((transaction, caller), 0.0) or caller in self._busy:
                continue
            with self._spool.journal.read() as connection:
                row = connection.execute(
                    "SELECT transaction_uid, caller, items, attempts, requested_at FROM commitments"
                    " WHERE transaction_uid = ? AND caller = ?",
                    (transaction, caller),
                ).fetchone()
            if row is not None:
                self._consider(row)
            took = time.monotonic() - began  # a request about very many is looked at less often
            self._look_at[(transaction, caller)] = time.monotonic() + took * 20
        for gone in self._look_at.keys() - {(transaction, caller) for transaction, caller, _ in keys}:
            del self._look_at[gone]
        return bool(keys)

    def _outcomes(self, references: list[Reference]) -> list[tuple[Reference, int]] | None:
        """What has become of each, or None while that is open for one."""
        outcomes: list[tuple[Reference, int]] = []
        with self._spool.journal.read() as connection:
            for reference in references:
                reason = outcome(connection, reference)
                if reason is None:
                    return None
                outcomes.append((reference, reason))
        return outcomes

    def _consider(self, row: sqlite3.Row) -> None:
        """Have it answered, if everything it asks about has its verdict and there is a thread for it."""
        # The answer to N-ACTION has to leave before the report may come on the same association.
        if 0 <= time.time() - row["requested_at"] < LOOK_EVERY / 5:
            return
        outcomes = self._outcomes([(str(sop_class), str(sop_instance)) for sop_class, sop_instance in json.loads(row["items"])])
        if outcomes is None:
            return
        caller = row["caller"]
        with self._lock:
            if len(self._busy) >= AT_ONCE:
                return
            self._busy.add(caller)
        threading.Thread(target=self._answer, args=(row, outcomes), name="commitment", daemon=True).start()

    def _answer(self, row: sqlite3.Row, outcomes: list[tuple[Reference, int]]) -> None:
        try:
            self._answered(row, outcomes, self._deliver((row["transaction_uid"], row["caller"]), outcomes))
        except SpoolError as error:
            log.error("commitment not reported", detail=str(error))
        finally:
            with self._lock:
                self._busy.discard(row["caller"])
            self._wake.set()

    def _answered(self, row: sqlite3.Row, outcomes: list[tuple[Reference, int]], delivered: bool) -> None:
        """Forget the request if it is answered, or never can be; else try again later. Raises SpoolError."""
        key = transaction, caller = row["transaction_uid"], row["caller"]
        asker = self._askers.get(key)
        reachable = caller in self._peers or (asker is not None and asker.association.is_established)
        if delivered or not reachable or time.time() - row["requested_at"] > GIVE_UP_AFTER:
            self._spool.journal.write(
                lambda connection: connection.execute(
                    "DELETE FROM commitments WHERE transaction_uid = ? AND caller = ?", (transaction, caller)
                )
            )
            self._askers.pop(key, None)
            say = log.info if delivered else log.warning
            say(
                "commitment reported" if delivered else "commitment given up",
                caller=caller,
                instances=len(outcomes),
                failed=sum(1 for _, reason in outcomes if reason),
            )
            return
        wait = min(600.0, 2.0 ** row["attempts"])
        self._spool.journal.write(
            lambda connection: connection.execute(
                "UPDATE commitments SET attempts = attempts + 1, not_before = ? WHERE transaction_uid = ? AND caller = ?",
                (time.time() + wait * 0.5, transaction, caller),
            )
        )

    def _deliver(self, key: Key, outcomes: list[tuple[Reference, int]]) -> bool:
        """Report, on the association that asked or on a new one; whether the asker has said that it knows."""
        transaction, caller = key
        event_type, information = report(transaction, outcomes)
        asker = self._askers.get(key)
        if asker is not None and self._report_where_it_asked(asker, event_type, information):
            return True
        peer = self._peers.get(caller)
        if peer is None:
            return False
        ae = AE(self._dicom.ae_title)
        ae.acse_timeout = ae.connection_timeout = 10
        ae.dimse_timeout = ANSWER_SECONDS
        ae.add_requested_context(StorageCommitmentPushModel, NEGOTIATION_SYNTAXES)
        try:
            association = ae.associate(
                peer.host,
                peer.port,
                ae_title=peer.ae_title,
                ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)],
                tls_args=(tls_context(self._dicom.tls, server=False), None) if peer.tls else None,
            )
        except (OSError, RuntimeError, ForwarderError) as error:  # its name cannot be resolved, no thread, no certificate
            log.warning("who asked for commitment cannot be reached", caller=caller, detail=type(error).__name__)
            return False
        if not association.is_established:
            log.warning("who asked for commitment cannot be reached", caller=caller)
            return False
        try:
            status, _ = association.send_n_event_report(information, event_type, StorageCommitmentPushModel, WELL_KNOWN_INSTANCE)
            return "Status" in status and status.Status == 0x0000
        except (RuntimeError, ValueError) as error:  # the association ended meanwhile, or has no such context
            log.warning("commitment report not sent", caller=caller, detail=type(error).__name__)
            return False
        finally:
            association.release()

    def _report_where_it_asked(self, asker: _Asker, event_type: int, information: Dataset) -> bool:
        """The report goes once; its answer may come as late as the association stands."""
        seconds = 0.0
        try:
            if asker.message_id is None and asker.association.is_established:
                seconds = ANSWER_SECONDS
                asker.message_id = asker.association.send_report(
                    information, event_type, str(StorageCommitmentPushModel), WELL_KNOWN_INSTANCE
                )
        except ValueError as error:
            log.warning("commitment report not sent", caller=asker.association.calling, detail=str(error))
        return asker.message_id is not None and asker.association.answer(asker.message_id, seconds) == 0x0000
