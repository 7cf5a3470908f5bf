"""The hospital's PACS as we speak to it: C-FIND for what it knows, C-STORE and storage commitment for what it gets (PS3.4)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
)

from forwarder.config import PacsConfig
from forwarder.retrieve.coercion import LocalPatient
from forwarder.retrieve.store_scu import PLAIN, Node, NothingAcceptedError, PacsError

PENDING = frozenset({0xFF00, 0xFF01})
CANNOT_FIND = range(0x0100, 0xFE00)
"""Final statuses of C-FIND by which the PACS says that it does not answer it (PS3.4 table C.4-1)."""
ABORTED_WITHIN = 20.0  # seconds; who only is slow, is waited for longer
MOST_PATIENTS = 50  # answers to one question about patients
WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"
ANSWERED_SECONDS = 5.0  # in which the answer to a report has gone out, and an association has ended
PAUSED_SECONDS = 0.02  # in which pynetdicom's reactor, which looks about it each millisecond, has seen that it is to pause
COMMITMENT_SECONDS = 5.0
"""How long the result is waited for on the association on which it was asked for; many send it on one of their own."""

OnCommitment = Callable[[str, Collection[str], Collection[str]], bool]
"""(transaction UID, SOP Instance UIDs that are committed, those that are not) → whether somebody waits for it."""


class NotAnsweredError(PacsError):
    """The PACS answers no such C-FIND."""


class Pacs(Node):
    """The PACS of the configuration. Methods raise PacsError."""

    @property
    def _issuer(self) -> str:
        """What it writes as the issuer of the hospital's own numbers, as configured; "" where that is not known."""
        return self._node.issuer if isinstance(self._node, PacsConfig) else ""

    def patient(self, number: str) -> LocalPatient | None:
        """The patient as the PACS knows this number; None where it does not, or answers no C-FIND of patients.

        Where the issuer of the hospital's own numbers is known, another issuer's same number is somebody else's.
        """
        issuers = {self._issuer, ""}
        for patient in self.patients(PatientID=number):
            if patient.id == number and patient.name and (not self._issuer or patient.issuer in issuers):
                return patient
        return None

    def patients(self, **keys: str) -> list[LocalPatient]:
        """The patients that match these attributes (at most `MOST_PATIENTS`); none where it answers no C-FIND of patients."""
        return self.asked_for_patients(**keys) or []

    def asked_for_patients(self, **keys: str) -> list[LocalPatient] | None:
        """The same; None where it answers no C-FIND of patients."""
        query = Dataset()
        query.SpecificCharacterSet = "ISO_IR 192"
        query.QueryRetrieveLevel = "PATIENT"
        wanted = dict.fromkeys(("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "IssuerOfPatientID"), "") | keys
        for keyword, value in wanted.items():
            setattr(query, keyword, value)
        found: list[LocalPatient] = []
        try:
            for answer in self._find(query, PatientRootQueryRetrieveInformationModelFind):
                text = {keyword: str(answer.get(keyword, "") or "").strip() for keyword in wanted}
                found.append(
                    LocalPatient(
                        text["PatientID"],
                        text["IssuerOfPatientID"],
                        text["PatientName"],
                        text["PatientBirthDate"],
                        text["PatientSex"],
                    )
                )
                if len(found) >= MOST_PATIENTS:
                    break
        except NotAnsweredError:
            return None
        return found

    def known(self, patient: LocalPatient) -> LocalPatient | None:
        """A patient of the archive's as the PACS knows them, else as they are; None where the two are two people."""
        known, written = self.patient(patient.id), self._issuer
        if known is None:
            return replace(patient, issuer=written or patient.issuer)
        if known.birth_date and patient.birth_date and known.birth_date != patient.birth_date:
            return None
        issuer = written or known.issuer or patient.issuer
        return LocalPatient(patient.id, issuer, known.name, known.birth_date, known.sex, patient.birth_date, patient.sex)

    def has(self, study: str, series: Collection[str]) -> frozenset[str] | None:
        """The SOP Instance UIDs that the PACS has of these series; None where it answers no C-FIND of images."""
        found: set[str] = set()
        for series_instance_uid in series:
            query = Dataset()
            query.QueryRetrieveLevel = "IMAGE"
            query.StudyInstanceUID, query.SeriesInstanceUID = study, series_instance_uid
            query.SOPInstanceUID = ""
            try:
                found |= {
                    str(row.get("SOPInstanceUID", "")) for row in self._find(query, StudyRootQueryRetrieveInformationModelFind)
                }
            except NotAnsweredError:
                return None
        return frozenset(found - {""})

    def ask_commitment(self, transaction_uid: str, instances: Mapping[str, str], on_result: OnCommitment) -> bool:
        """Ask for storage commitment of instances (SOP class by SOP Instance UID); whether the PACS does it (PS3.4 J.3.2).

        A result that comes at once, on the same association, goes to `on_result`; a later one comes to our own port.
        """
        ae = self._ae()
        ae.add_requested_context(StorageCommitmentPushModel, list(PLAIN))
        came = threading.Event()
        answers = _Answers()

        def report(event: evt.Event) -> tuple[int, None]:
            is_in_time = answers.begin()
            status = answer_report(event, on_result)
            came.set()
            if not is_in_time:
                _wait_for_end(event.assoc)
            return status, None

        try:
            association = self._associate(ae, [(evt.EVT_N_EVENT_REPORT, report)])
        except NothingAcceptedError:
            return False
        information = Dataset()
        information.TransactionUID = transaction_uid
        information.ReferencedSOPSequence = DicomSequence(_reference(uid, sop_class) for uid, sop_class in instances.items())
        try:
            status, _ = association.send_n_action(information, 1, StorageCommitmentPushModel, WELL_KNOWN_INSTANCE)
            if "Status" not in status:
                raise PacsError("no-answer")
            if status.Status != 0x0000:
                return False
            came.wait(COMMITMENT_SECONDS)
            return True
        except (ValueError, RuntimeError, OSError, AttributeError) as error:
            raise PacsError("broke-off") from error
        finally:
            answers.end()
            _release(association)

    def _find(self, query: Dataset, model: Any) -> Iterator[Dataset]:
        """Raises NotAnsweredError where it answers no such query."""
        ae = self._ae()
        ae.add_requested_context(model, list(PLAIN))
        try:
            association = self._associate(ae)
        except NothingAcceptedError as error:
            raise NotAnsweredError("does-not-find") from error
        asked_at = time.monotonic()
        try:
            for status, identifier in association.send_c_find(query, model):
                if "Status" not in status:
                    # Orthanc, for one, takes the association of whom it does not know, and aborts the query at once.
                    raise PacsError("aborts-queries" if time.monotonic() - asked_at < ABORTED_WITHIN else "no-answer")
                if status.Status in CANNOT_FIND:
                    raise NotAnsweredError("does-not-find")
                if status.Status in PENDING and identifier is not None:
                    yield identifier
        except (ValueError, RuntimeError, OSError, AttributeError) as error:
            raise PacsError("broke-off") from error
        finally:
            if association.is_established:
                association.release()


class _Answers:
    """The threads in which reports are answered on an association that is about to be released: nothing may be sent after it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] | None = []

    def begin(self) -> bool:
        """This thread answers a report; whether there is still time for it."""
        with self._lock:
            if self._threads is not None:
                self._threads.append(threading.current_thread())
            return self._threads is not None

    def end(self) -> None:
        """Wait until those that have begun are through; none has time from now on."""
        with self._lock:
            begun, self._threads = self._threads or [], None
        for thread in begun:
            thread.join(ANSWERED_SECONDS)


def _wait_for_end(association: Association) -> None:
    """Until it stands no longer: what is sent then is lost, and no error."""
    deadline = time.monotonic() + ANSWERED_SECONDS
    while association.is_established and time.monotonic() < deadline:
        time.sleep(PAUSED_SECONDS)


def _release(association: Association) -> None:
    """Release it, if it still stands (PS3.8 7.2).

    Pynetdicom's own way waits until its reactor says that it is paused; which the thread that answers a report denies when it
    ends, for good: the caller would wait for ever.
    """
    if association.is_established:
        association._reactor_checkpoint.clear()
        time.sleep(PAUSED_SECONDS)
        association.acse.negotiate_release()
        association._reactor_checkpoint.set()


def answer_report(event: evt.Event, on_result: OnCommitment) -> int:
    """Hand on the result of a storage commitment; the status to answer N-EVENT-REPORT with (PS3.7 10.1.1.1.8)."""
    information = event.event_information
    transaction = str(information.get("TransactionUID") or "")
    kept, lost = (
        [str(item.get("ReferencedSOPInstanceUID", "")) for item in information.get(keyword) or []]
        for keyword in ("ReferencedSOPSequence", "FailedSOPSequence")
    )
    if not transaction:
        return 0x0115  # invalid argument value
    return 0x0000 if on_result(transaction, kept, lost) else 0x0110


def _reference(sop_instance: str, sop_class: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_instance
    return item
