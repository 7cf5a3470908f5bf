"""A PACS for the tests: real associations; what it has, what it was sent, and how it behaves."""

from __future__ import annotations

import copy
import functools
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, _config, build_context, build_role, evt
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

PLAIN = [str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)]


@dataclass
class Pacs:
    """`patients`: what it knows, by number; `answer`: the status for an instance, which may also raise or block.

    `refuses`: SOP classes that it does not take; `breaks`: instances that it keeps, and breaks off before it says so;
    `warns`: statuses beside Bxxx with which it keeps what came; `commits`: whether it does storage commitment,
    and says so on the same association or on one that it opens to `report_to` (a port);
    `loses`: instances of which it says then that it does not have them; `associations`: how many it bears at once; `patience`:
    seconds for which it waits for an answer.
    """

    patients: dict[str, Dataset] = field(default_factory=dict)
    answer: Callable[[Dataset], int] = lambda _: 0x0000
    syntaxes: list[str] | None = None
    finds: bool = True
    refuses: frozenset[str] = frozenset()
    breaks: set[str] = field(default_factory=set)
    at_once: int = 0
    most_at_once: int = 0
    warns: frozenset[int] = frozenset()
    commits: str = ""
    report_to: int = 0
    loses: set[str] = field(default_factory=set)
    associations: int = 10
    patience: float = 30.0
    asked: list[str] = field(default_factory=list)  # transactions of storage commitment
    reported: list[int | None] = field(default_factory=list)  # how its reports were answered
    before_report: Callable[[], Any] = lambda: None
    before_find: Callable[[], Any] = lambda: None
    aborts_queries: bool = False
    port: int = 0
    received: list[Dataset] = field(default_factory=list)
    kept: dict[str, Dataset] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    stop: Callable[[], None] = lambda: None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def knows(self, number: str, name: str, birth_date: str = "19510314", sex: str = "F") -> None:
        patient = Dataset()
        patient.SpecificCharacterSet = "ISO_IR 192"
        patient.PatientID, patient.PatientName, patient.PatientBirthDate, patient.PatientSex = number, name, birth_date, sex
        self.patients[number] = patient

    def _store(self, event: evt.Event) -> int:
        data = DicomBytesIO()
        data.write(event.encoded_dataset())
        data.seek(0)
        ds = dcmread(data)
        with self.lock:
            self.received.append(ds)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        uid = str(ds.SOPInstanceUID)
        if uid in self.breaks:
            self.breaks.discard(uid)
            self.kept[uid] = ds
            event.assoc.abort()
        status = self.answer(ds)
        with self.lock:
            self.at_once -= 1
        if status == 0x0000 or status & 0xF000 == 0xB000 or status in self.warns:
            with self.lock:
                self.kept[str(ds.SOPInstanceUID)] = ds
        return status

    def _action(self, event: evt.Event) -> tuple[int, None]:
        information = event.action_information
        wanted = [(item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) for item in information.ReferencedSOPSequence]
        self.asked.append(str(information.TransactionUID))
        threading.Thread(target=self._report, args=(event.assoc, str(information.TransactionUID), wanted), daemon=True).start()
        return 0x0000, None

    def _report(self, assoc: Any, transaction: str, wanted: list[tuple[str, str]]) -> None:
        self.before_report()
        report = Dataset()
        report.TransactionUID = transaction
        good, bad = [], []
        for sop_class, uid in wanted:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
            lost = str(uid) in self.loses or str(uid) not in self.kept
            if lost:
                item.FailureReason = 0x0112
                self.kept.pop(str(uid), None)
            (bad if lost else good).append(item)
        if good:
            report.ReferencedSOPSequence = good
        if bad:
            report.FailedSOPSequence = bad
        opened = None
        if self.commits == "later":
            ae = AE("PACS")
            ae.add_requested_context(StorageCommitmentPushModel, PLAIN)
            roles = [build_role(StorageCommitmentPushModel, scp_role=True)]
            opened = assoc = ae.associate("127.0.0.1", self.report_to, ext_neg=roles)
            if not opened.is_established:
                self.reported.append(None)
                return
        try:
            status, _ = assoc.send_n_event_report(report, 2 if bad else 1, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1")
            self.reported.append(status.get("Status"))
        except (RuntimeError, ValueError):
            self.reported.append(None)
        if opened is not None:
            opened.release()

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        if self.aborts_queries:
            event.assoc.abort()
            return
        if query.QueryRetrieveLevel == "PATIENT":
            number, name = str(query.get("PatientID") or ""), str(query.get("PatientName") or "")
            for found in self.patients.values():
                same = not number or str(found.PatientID) == number
                same = same and fnmatch(str(found.PatientName).upper(), name.upper() or "*")
                if same and str(query.get("PatientBirthDate") or "") in ("", str(found.PatientBirthDate)):
                    yield 0xFF00, found
        else:
            self.before_find()
            with self.lock:
                kept = list(self.kept.values())
            for ds in kept:
                if str(ds.SeriesInstanceUID) == str(query.SeriesInstanceUID):
                    row = Dataset()
                    row.QueryRetrieveLevel, row.SOPInstanceUID = "IMAGE", ds.SOPInstanceUID
                    yield 0xFF00, row


@contextmanager
def running_pacs(**values: Any) -> Iterator[Pacs]:
    """A PACS on a free port, while the block runs."""
    pacs = Pacs(**values)
    _config.UNRESTRICTED_STORAGE_SERVICE = False
    ae = AE("PACS")
    ae.maximum_associations, ae.dimse_timeout = pacs.associations, pacs.patience
    contexts = [build_context(Verification, PLAIN)]
    if pacs.commits:
        contexts.append(build_context(StorageCommitmentPushModel, PLAIN))
    contexts += [context for context in _storage(tuple(pacs.syntaxes or ())) if context.abstract_syntax not in pacs.refuses]
    if pacs.finds:
        contexts.append(build_context(PatientRootQueryRetrieveInformationModelFind, PLAIN))
        contexts.append(build_context(StudyRootQueryRetrieveInformationModelFind, PLAIN))
    handlers = [(evt.EVT_C_STORE, pacs._store), (evt.EVT_C_FIND, pacs._find), (evt.EVT_N_ACTION, pacs._action)]
    server = ae.start_server(
        ("127.0.0.1", pacs.port), block=False, evt_handlers=handlers, ssl_context=pacs.tls, contexts=Supported(contexts)
    )
    pacs.port = server.server_address[1]

    def stop() -> None:
        ae.shutdown()

    pacs.stop = stop
    try:
        yield pacs
    finally:
        ae.shutdown()


class Supported(list[PresentationContext]):
    """What a PACS supports. pynetdicom copies it deeply for each association, which took a fifth of these tests' time."""

    def __deepcopy__(self, memo: object) -> list[PresentationContext]:
        return [copy.copy(context) for context in self]


@functools.cache
def _storage(syntaxes: tuple[str, ...]) -> list[PresentationContext]:
    """Every storage class with these transfer syntaxes, or with those that images mostly have."""
    taken = list(syntaxes) or [*PLAIN, *(f"1.2.840.10008.1.2.4.{end}" for end in ("50", "51", "70", "80", "90", "91"))]
    return [build_context(str(context.abstract_syntax), taken) for context in AllStoragePresentationContexts]
