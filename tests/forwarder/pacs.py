"""A PACS for the tests: real associations; what it has, what it was sent, and how it behaves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, _config, evt
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
)

PLAIN = [str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)]


@dataclass
class Pacs:
    """`patients`: what it knows, by number; `answer`: the status for an instance, which may also raise or block."""

    patients: dict[str, Dataset] = field(default_factory=dict)
    answer: Callable[[Dataset], int] = lambda _: 0x0000
    syntaxes: list[str] | None = None
    finds: bool = True
    port: int = 0
    received: list[Dataset] = field(default_factory=list)
    kept: dict[str, Dataset] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def knows(self, number: str, name: str, birth_date: str = "19510314", sex: str = "F") -> None:
        patient = Dataset()
        patient.PatientID, patient.PatientName, patient.PatientBirthDate, patient.PatientSex = number, name, birth_date, sex
        self.patients[number] = patient

    def _store(self, event: evt.Event) -> int:
        data = DicomBytesIO()
        data.write(event.encoded_dataset())
        data.seek(0)
        ds = dcmread(data)
        with self.lock:
            self.received.append(ds)
        status = self.answer(ds)
        if status == 0x0000 or status & 0xF000 == 0xB000:
            with self.lock:
                self.kept[str(ds.SOPInstanceUID)] = ds
        return status

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        if query.QueryRetrieveLevel == "PATIENT":
            found = self.patients.get(str(query.PatientID))
            if found is not None:
                yield 0xFF00, found
        else:
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
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(str(context.abstract_syntax), pacs.syntaxes or _every(context))
    if pacs.finds:
        ae.add_supported_context(PatientRootQueryRetrieveInformationModelFind, PLAIN)
        ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind, PLAIN)
    handlers = [(evt.EVT_C_STORE, pacs._store), (evt.EVT_C_FIND, pacs._find)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    pacs.port = server.server_address[1]
    try:
        yield pacs
    finally:
        server.shutdown()


def _every(context: Any) -> list[str]:
    del context
    return [*PLAIN, *(f"1.2.840.10008.1.2.4.{end}" for end in ("50", "51", "70", "80", "90", "91"))]
