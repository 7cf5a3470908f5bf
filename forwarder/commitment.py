"""Storage commitment, push model: the PACS asks what has become of its instances, and is told once it is certain.

“Committed” means what the contract calls `indexed` (or `echo`): durable in the archive, checked and searchable; being in
the spool is not enough. A request is in the journal before it is acknowledged, so a restart forgets none. PS3.4 J.3.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Sequence
from typing import Any

from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pynetdicom import AE, build_role
from pynetdicom.sop_class import StorageCommitmentPushModel

from forwarder.config import DicomConfig, PeerConfig
from forwarder.errors import ForwarderError
from forwarder.logs import log
from forwarder.scp import NEGOTIATION_SYNTAXES, tls_context
from forwarder.spool import Spool, SpoolFullError

WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"
PROCESSING_FAILURE, NO_SUCH_OBJECT, CLASS_INSTANCE_CONFLICT = 0x0110, 0x0112, 0x0119  # PS3.3 C.14
GIVE_UP_AFTER = 7 * 86400.0  # seconds; by then the PACS has asked again, or never will
LOOK_EVERY = 0.5
OPEN_AT_MOST = 1000  # requests

Reference = tuple[str, str]
"""(SOP Class UID, SOP Instance UID)"""


def outcome(connection: sqlite3.Connection, reference: Reference) -> int | None:
    """0 if committed, a failure reason if it will not be, None while that is open."""
    sop_class, sop_instance = reference
    rows = connection.execute("SELECT state, sop_class FROM instances WHERE sop_instance = ?", (sop_instance,)).fetchall()
    if not rows:
        return NO_SUCH_OBJECT
    if any(row["state"] in ("waiting", "stored") for row in rows):
        return None
    arrived = [row for row in rows if row["state"] in ("indexed", "echo")]
    if not arrived:
        return PROCESSING_FAILURE
    if sop_class and all(row["sop_class"] != sop_class for row in arrived):
        return CLASS_INSTANCE_CONFLICT
    return 0


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
        self._askers: dict[tuple[str, str], Any] = {}
        self._look_at: dict[tuple[str, str], float] = {}  # monotonic
        self._wake = threading.Event()

    def record(self, transaction: str, caller: str, references: list[Reference], association: Any) -> None:
        """Remember a request durably. Raises SpoolError; SpoolFullError for lack of space, and where too many are open."""
        self._spool.check_space()
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
        self._askers[(transaction, caller)] = association
        self._wake.set()

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
        self._wake.set()

    def _report_due(self) -> bool:
        """Report what can be reported; returns whether anything is still open."""
        with self._spool.journal.read() as connection:
            keys = connection.execute(
                "SELECT transaction_uid, caller, not_before FROM commitments ORDER BY requested_at"
            ).fetchall()
        for transaction, caller, not_before in keys:
            began = time.monotonic()
            if not_before > time.time() or began < self._look_at.get((transaction, caller), 0.0):
                continue
            with self._spool.journal.read() as connection:
                row = connection.execute(
                    "SELECT transaction_uid, caller, items, attempts, requested_at FROM commitments"
                    " WHERE transaction_uid = ? AND caller = ?",
                    (transaction, caller),
                ).fetchone()
            self._consider(row)
            took = time.monotonic() - began  # a request about very many is looked at less often
            self._look_at[(transaction, caller)] = time.monotonic() + took * 20
        for gone in self._look_at.keys() - {(transaction, caller) for transaction, caller, _ in keys}:
            del self._look_at[gone]
        return bool(keys)

    def _consider(self, row: sqlite3.Row) -> None:
        references = [(str(one), str(other)) for one, other in json.loads(row["items"])]
        outcomes: list[tuple[Reference, int]] = []
        with self._spool.journal.read() as connection:
            for reference in references:
                reason = outcome(connection, reference)
                if reason is None:
                    return
                outcomes.append((reference, reason))
        transaction, caller = row["transaction_uid"], row["caller"]
        event_type, information = report(transaction, outcomes)
        # The answer to N-ACTION has to leave before the report may come on the same association.
        age = time.time() - row["requested_at"]
        delivered = not 0 <= age < LOOK_EVERY / 5 and self._deliver(transaction, caller, event_type, information)
        if delivered or age > GIVE_UP_AFTER:
            self._spool.journal.write(
                lambda connection: connection.execute(
                    "DELETE FROM commitments WHERE transaction_uid = ? AND caller = ?", (transaction, caller)
                )
            )
            self._askers.pop((transaction, caller), None)
            failed = sum(1 for _, reason in outcomes if reason)
            log.info(
                "commitment reported" if delivered else "commitment given up",
                caller=caller,
                instances=len(outcomes),
                failed=failed,
            )
            return
        wait = min(600.0, 2.0 ** row["attempts"])
        self._spool.journal.write(
            lambda connection: connection.execute(
                "UPDATE commitments SET attempts = attempts + 1, not_before = ? WHERE transaction_uid = ? AND caller = ?",
                (time.time() + wait * 0.5, transaction, caller),
            )
        )

    def _deliver(self, transaction: str, caller: str, event_type: int, information: Dataset) -> bool:
        asker = self._askers.pop((transaction, caller), None)
        if asker is not None and asker.is_established and self._send(asker, event_type, information):
            return True
        peer = self._peers.get(caller.strip())
        if peer is None:
            log.warning("no [[peers]] entry for who asked for commitment", caller=caller)
            return False
        ae = AE(self._dicom.ae_title)
        ae.acse_timeout = ae.connection_timeout = 10
        ae.dimse_timeout = 30
        ae.add_requested_context(StorageCommitmentPushModel, NEGOTIATION_SYNTAXES)
        try:
            association = ae.associate(
                peer.host,
                peer.port,
                ae_title=peer.ae_title,
                ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)],
                tls_args=(tls_context(self._dicom.tls, server=False), None) if peer.tls else None,
            )
        except OSError as error:  # its name cannot be resolved
            log.warning("who asked for commitment cannot be reached", caller=caller, detail=type(error).__name__)
            return False
        if not association.is_established:
            log.warning("who asked for commitment cannot be reached", caller=caller)
            return False
        try:
            return self._send(association, event_type, information)
        finally:
            association.release()

    def _send(self, association: Any, event_type: int, information: Dataset) -> bool:
        try:
            status, _ = association.send_n_event_report(information, event_type, StorageCommitmentPushModel, WELL_KNOWN_INSTANCE)
        except (RuntimeError, ValueError) as error:  # the association ended meanwhile, or has no such context
            log.warning("commitment report not sent", detail=type(error).__name__)
            return False
        return "Status" in status and status.Status == 0x0000
