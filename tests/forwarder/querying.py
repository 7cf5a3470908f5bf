"""What the tests of query and retrieve share: a hospital whose workstation asks for a patient of another."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hospital import Hospital, hospital
from pacs import PLAIN
from pydicom import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    MRImageStorage,
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from forwarder.service import running
from local.processes import free_port
from tests.browser import hospital as by_api
from tests.harness import RunningCity

PATIENT, STUDY = PatientRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelFind
NEEDS_DCMTK = pytest.mark.skipif(not Path("/usr/bin/findscu").exists(), reason="findscu is not installed (Debian: dcmtk)")


@dataclass
class Case:
    """A patient of San Matteo's who is at Maugeri, Maugeri's forwarder, and a workstation that is its peer."""

    city: RunningCity
    place: Hospital
    patient: by_api.Patient
    films: list[Dataset] = field(default_factory=list)

    @property
    def number(self) -> str:
        return self.patient.at["maugeri"]

    def send(self, *images: Dataset, owner: str = "san-matteo") -> None:
        by_api.send(self.city.client(owner), *images)

    def prior(self, **more: Any) -> Dataset:
        return by_api.image(self.patient, "san-matteo", **more)

    def find(self, model: Any = PATIENT, calling: str = "WORKSTATION", **keys: Any) -> tuple[list[Dataset], Dataset]:
        """(the identifiers of the matches, the final status)."""
        query = Dataset()
        for keyword, value in keys.items():
            setattr(query, keyword, value)
        with self.association(calling, model) as association:
            answers = list(association.send_c_find(query, model))
        assert [status.Status in (0xFF00, 0xFF01) for status, _ in answers[:-1]] == [True] * (len(answers) - 1)
        return [found for _, found in answers[:-1]], answers[-1][0]

    @contextmanager
    def association(self, calling: str, *models: Any, **more: Any) -> Iterator[Any]:
        ae = AE(calling)
        for model in models:
            ae.add_requested_context(model, PLAIN)
        for context in more.pop("contexts", []):
            ae.add_requested_context(*context)
        port = more.pop("port", None) or self.place.port
        association = ae.associate("127.0.0.1", port, ae_title="CONTENITORE", **more)
        assert association.is_established
        try:
            yield association
        finally:
            association.release()

    def get(self, model: Any = StudyRootQueryRetrieveInformationModelGet, syntaxes: Any = PLAIN, answer: Any = None, **keys: Any):
        """(the instances that came, the statuses that did)."""
        query, came = Dataset(), []
        how = {name: keys.pop(name) for name in ("port", "tls_args") if name in keys}
        for keyword, value in keys.items():
            setattr(query, keyword, value)

        def store(event: evt.Event) -> int:
            ds = event.dataset
            ds.file_meta = event.file_meta
            came.append(ds)
            return 0x0000 if answer is None else answer(ds)

        classes = [CTImageStorage, MRImageStorage, "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.1"]
        with self.association(
            "WORKSTATION", model, contexts=[(sop_class, syntaxes) for sop_class in classes],
            ext_neg=[build_role(sop_class, scp_role=True) for sop_class in classes], evt_handlers=[(evt.EVT_C_STORE, store)],
            **how,
        ) as association:  # fmt: skip
            answers = list(association.send_c_get(query, model))
        return came, answers


@contextmanager
def a_case(city: RunningCity, folder: Path) -> Iterator[Case]:
    """Maugeri's forwarder in this folder, with three peers."""
    peers = [{"ae_title": title, "host": "127.0.0.1", "port": free_port()} for title in ("WORKSTATION", "FINDSCU", "GETSCU")]
    place = hospital(folder, city.api, archive__profile="maugeri", peers=peers)
    with running(place.config()):
        yield Case(city, place, by_api.Patient("FERRARI^LUCIA"))


def dcmtk(program: str, *arguments: str) -> str:
    """The output of a DCMTK program (pynetdicom puts namesakes on PATH), which has to succeed."""
    done = subprocess.run(
        [f"/usr/bin/{program}", *arguments], check=False, capture_output=True, text=True, timeout=60,
        env={**os.environ, "TCP_NODELAY": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
