"""A modality that stores, and a hospital's PACS that is stored into, found in, and breaks."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from drill.ledger import Ledger

_PLAIN = [str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)]
_SYNTAXES = [*_PLAIN, "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90"]


def store(address: str, called: str, images: list[Dataset]) -> list[int | None]:
    """C-STORE of each over one association; the status of each, None where none came."""
    ae = AE("DRILL")
    ae.acse_timeout = ae.connection_timeout = ae.network_timeout = 10
    ae.dimse_timeout = 15
    for uid in {str(ds.SOPClassUID) for ds in images}:
        ae.add_requested_context(uid, str(ExplicitVRLittleEndian))
    host, port = address.split(":")
    try:
        association = ae.associate(host, int(port), ae_title=called)
    except (OSError, RuntimeError):
        return [None] * len(images)
    told: list[int | None] = []
    try:
        for ds in images:
            told.append(_status(association, ds))
    finally:
        if association.is_established:
            association.release()
    return told


def _status(association: Any, ds: Dataset) -> int | None:
    if not association.is_established:
        return None
    try:
        answer = association.send_c_store(ds)
    except (OSError, RuntimeError, ValueError):
        return None
    return int(answer.Status) if "Status" in answer else None


def pixels_of(ds: Dataset) -> str:
    """SHA-256 of the decoded pixels, or of the whole content of what has none."""
    if "PixelData" in ds:
        return hashlib.sha256(ds.pixel_array.tobytes()).hexdigest()
    return hashlib.sha256(str(ds.get("TextValue", "")).encode()).hexdigest()


class Pacs:
    """A hospital's PACS. `mood` is how it behaves now: "", "full", "slow", "deaf" (keeps, and breaks off before it says so)."""

    def __init__(self, institution: str, title: str, port: int, ledger: Ledger) -> None:
        self.institution, self.title, self.port, self.mood = institution, title, port, ""
        self._ledger, self._lock = ledger, threading.Lock()
        self.held: dict[str, Dataset] = {}
        self._server: Any = None

    def start(self) -> None:
        ae = AE(self.title)
        ae.add_supported_context(Verification, _PLAIN)
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(str(context.abstract_syntax), _SYNTAXES)
        for model in (PatientRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelFind):
            ae.add_supported_context(model, _PLAIN)
        self._server = ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store), (evt.EVT_C_FIND, self._find)]
        )

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def live(self, wanted: bool) -> None:
        """Whether it listens at all."""
        if wanted and self._server is None:
            self.start()
        elif not wanted:
            self.stop()

    def _store(self, event: evt.Event) -> int:
        mood = self.mood
        if mood == "full":
            return 0xA700
        if mood == "slow":
            time.sleep(0.5)
        data = DicomBytesIO()
        data.write(event.encoded_dataset())
        data.seek(0)
        ds = dcmread(data)
        uid = str(ds.SOPInstanceUID)
        digest = pixels_of(ds)
        with self._lock:
            again = uid in self.held
            self.held[uid] = ds
        self._ledger.note(
            "brought", to=self.institution, sop=uid, study=str(ds.StudyInstanceUID), number=str(ds.PatientID),
            name=str(ds.PatientName), pixels=digest, sop_class=str(ds.SOPClassUID), again=again, deaf=mood == "deaf",
        )  # fmt: skip
        if mood == "deaf":
            event.assoc.abort()
        return 0x0000

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        query = event.identifier
        level = str(query.QueryRetrieveLevel)
        keys = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        wanted = {key: str(query.get(key)).split("\\") for key in keys if query.get(key)}
        with self._lock:
            held = list(self.held.values())
        matching = [ds for ds in held if all(str(ds.get(key, "")) in values for key, values in wanted.items())]
        of = {"PATIENT": "PatientID", "STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}[
            level
        ]
        for ds in {str(ds.get(of, "")): ds for ds in matching}.values():
            answer = Dataset()
            answer.SpecificCharacterSet = "ISO_IR 192"
            for element in query:
                if element.keyword in ds:
                    setattr(answer, element.keyword, ds[element.keyword].value)
            answer.QueryRetrieveLevel = level
            yield 0xFF00, answer
