"""A PACS of a hundred lines, where Orthanc is not installed: it stores, is queried, and sends where it is told. For nothing else.

Files lie in a folder under their SOP Instance UID; what it knows is read from them at the start.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, build_context, evt
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

PLAIN = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
SYNTAXES = [*PLAIN, *(UID(f"1.2.840.10008.1.2.4.{end}") for end in ("50", "51", "57", "70", "80", "81", "90", "91"))]
LEVELS = {"PATIENT": "PatientID", "STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}


class SmallPacs:
    """Listens from `start` to `stop`. `nodes`: where it may send to, AE title → (host, port)."""

    def __init__(self, title: str, port: int, folder: Path, nodes: dict[str, tuple[str, int]]) -> None:
        self._title, self._port, self._folder, self._nodes = title, port, folder, nodes
        self._lock = threading.Lock()
        self._known: dict[str, Dataset] = {}  # by SOP Instance UID, without pixels
        self._server: Any = None

    def start(self) -> None:
        """Listen. Raises OSError where the port is taken."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.glob("*.dcm"):
            known = dcmread(path, stop_before_pixels=True)
            self._known[str(known.SOPInstanceUID)] = known
        ae = AE(self._title)
        ae.add_supported_context(Verification, PLAIN)
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(str(context.abstract_syntax), SYNTAXES)
        for model in (
            PatientRootQueryRetrieveInformationModelFind,
            StudyRootQueryRetrieveInformationModelFind,
            StudyRootQueryRetrieveInformationModelMove,
        ):
            ae.add_supported_context(model, PLAIN)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_C_FIND, self._find), (evt.EVT_C_MOVE, self._move)]
        self._server = ae.start_server(("127.0.0.1", self._port), block=False, evt_handlers=handlers)

    def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.shutdown()

    def _store(self, event: evt.Event) -> int:
        received = event.dataset
        received.file_meta = event.file_meta
        uid = UID(str(received.SOPInstanceUID))
        if not uid.is_valid:  # it becomes a file's name
            return 0xC000
        try:
            received.save_as(self._folder / f"{uid}.dcm", enforce_file_format=True)
        except OSError:
            return 0xA700
        known = dcmread(self._folder / f"{uid}.dcm", stop_before_pixels=True)
        with self._lock:
            self._known[uid] = known
        return 0x0000

    def _matching(self, query: Dataset) -> list[Dataset]:
        """What it has that has the values of the unique keys."""
        wanted = {key: str(query.get(key) or "").split("\\") for key in LEVELS.values() if query.get(key)}
        with self._lock:
            known = list(self._known.values())
        return [dataset for dataset in known if all(str(dataset.get(key, "")) in values for key, values in wanted.items())]

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        query = event.identifier
        level = str(query.QueryRetrieveLevel)
        found: dict[str, list[Dataset]] = {}
        for match in self._matching(query):
            found.setdefault(str(match.get(LEVELS[level], "")), []).append(match)
        for instances in found.values():
            answer = Dataset()
            answer.SpecificCharacterSet = "ISO_IR 192"
            for element in query:
                if element.keyword in instances[0]:
                    setattr(answer, element.keyword, instances[0][element.keyword].value)
            answer.QueryRetrieveLevel = level
            answer.NumberOfStudyRelatedInstances = len(instances)
            yield 0xFF00, answer

    def _move(self, event: evt.Event) -> Iterator[Any]:
        found = self._matching(event.identifier)
        contexts = [
            build_context(*each) for each in {(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID) for dataset in found}
        ]
        yield (*self._nodes.get(str(event.move_destination), (None, None)), {"contexts": contexts})
        yield len(found)
        for dataset in found:
            yield 0xFF00, dcmread(self._folder / f"{dataset.SOPInstanceUID}.dcm")
