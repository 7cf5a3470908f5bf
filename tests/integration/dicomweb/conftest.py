"""One city with the studies of an invented patient, shared by San Matteo with Maugeri; nothing of it with Mondino."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest
import requests
from pydicom import Dataset, FileDataset
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.uid import EncapsulatedCDAStorage, EncapsulatedPDFStorage, ExplicitVRLittleEndian, generate_uid

from tests.harness import Client, RunningCity, running_city, wait_until

PATIENT = "SM-0001"
CDA = b'<?xml version="1.0"?>\n<ClinicalDocument xmlns="urn:hl7-org:v3"><title>Referto</title></ClinicalDocument>\n'
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"


@dataclass(frozen=True)
class Kept:
    """One instance as it was sent, with its addresses below the service."""

    content: bytes
    head: Dataset

    @property
    def study(self) -> str:
        return f"/studies/{self.head.StudyInstanceUID}"

    @property
    def series(self) -> str:
        return f"{self.study}/series/{self.head.SeriesInstanceUID}"

    @property
    def path(self) -> str:
        return f"{self.series}/instances/{self.head.SOPInstanceUID}"

    @property
    def frames(self) -> int:
        return int(self.head.get("NumberOfFrames") or 1)


def kept(content: bytes) -> Kept:
    return Kept(content, pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True, force=True))


@dataclass(frozen=True)
class World:
    """The city, its clients, and what is in it by a short name."""

    city: RunningCity
    owner: Client
    receiver: Client
    stranger: Client
    instances: dict[str, Kept]

    def __getitem__(self, name: str) -> Kept:
        return self.instances[name]

    @property
    def slices(self) -> list[Kept]:
        return [instance for name, instance in self.instances.items() if name.startswith("slice")]


def upload(client: Client, contents: Sequence[bytes]) -> list[dict[str, Any]]:
    """Send instances as a hospital does, and wait until each has its verdict."""
    offers = [{"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)} for content in contents]
    answers = client.post("/uploads", json={"instances": offers}).json()["instances"]
    for content, answer in zip(contents, answers, strict=True):
        if answer["state"] == "absent":
            sent = requests.put(answer["upload"]["url"], data=content, headers=answer["upload"]["headers"], timeout=60)
            assert sent.status_code == 200, sent.text

    def settled() -> list[dict[str, Any]] | None:
        asked = {"sha256": [offer["sha256"] for offer in offers]}
        found: list[dict[str, Any]] = client.post("/uploads/status", json=asked).json()["instances"]
        return found if all(status["state"] not in ("absent", "stored") for status in found) else None

    result: list[dict[str, Any]] = wait_until(settled)
    return result


def written(dataset: Dataset) -> bytes:
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _test_file(name: str) -> FileDataset:
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return pydicom.dcmread(path)


def made(name: str, study: str, series: str, number: int = 1) -> bytes:
    """One of pydicom's images under the invented patient."""
    dataset = _test_file(name)
    dataset.remove_private_tags()
    dataset.PatientID, dataset.PatientName, dataset.PatientBirthDate = PATIENT, "ESPOSITO^GIULIA", "19520304"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(
        entropy_srcs=[study, series, str(number)]
    )
    dataset.StudyDate, dataset.AccessionNumber, dataset.InstanceNumber = "20251120", "ACC-1", number
    return written(dataset)


def encapsulated_pdf(study: str) -> bytes:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = EncapsulatedPDFStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid(entropy_srcs=[study, "pdf"])
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.PatientID, dataset.PatientName = PATIENT, "ESPOSITO^GIULIA"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, f"{study}.99"
    dataset.StudyDate, dataset.Modality, dataset.InstanceNumber = "20251120", "DOC", 1
    dataset.MIMETypeOfEncapsulatedDocument, dataset.EncapsulatedDocument = "application/pdf", PDF + b"\0" * (len(PDF) % 2)
    return written(dataset)


def encapsulated_cda(study: str, *, length: int | None = len(CDA)) -> bytes:
    """A CDA of odd length, which is padded; `length`: how long the instance says that it is, if it does."""
    dataset = pydicom.dcmread(io.BytesIO(encapsulated_pdf(study)))
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EncapsulatedCDAStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[study, str(length)])
    dataset.SeriesInstanceUID, dataset.MIMETypeOfEncapsulatedDocument = f"{study}.98", "text/XML"
    dataset.EncapsulatedDocument = CDA + b"\0"
    if length is not None:
        dataset.EncapsulatedDocumentLength = length
    return written(dataset)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    ct, mixed = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"
    contents = {f"slice{number}": made("CT_small.dcm", ct, f"{ct}.1", number) for number in (1, 2, 3)}
    contents |= {
        "j2k": made("693_J2KR.dcm", mixed, f"{mixed}.1"),
        "implicit": made("MR_small_implicit.dcm", mixed, f"{mixed}.2"),
        "frames": made("emri_small_jpeg_2k_lossless.dcm", mixed, f"{mixed}.3"),
        "colour": made("US1_UNCR.dcm", mixed, f"{mixed}.4"),
        "lossy": made("SC_rgb_jpeg_dcmtk.dcm", mixed, f"{mixed}.5"),
        "report": made("reportsi.dcm", mixed, f"{mixed}.6"),
        "pdf": encapsulated_pdf(mixed),
        "cda": encapsulated_cda(mixed),
        "film": made("RG1_UNCR.dcm", "1.2.826.0.1.3680043.8.498.3", "1.2.826.0.1.3680043.8.498.3.1"),
    }
    with running_city(tmp_path_factory.mktemp("dicomweb") / "city") as city:
        owner, receiver = city.client("san-matteo"), city.client("maugeri")
        states = upload(owner, list(contents.values()))
        assert [status["state"] for status in states] == ["indexed"] * len(contents), states
        opened = owner.post("/transfers", json={"patient": {"id": PATIENT}, "to": "maugeri", "reason": "rehabilitation"})
        assert opened.status_code == 201, opened.text
        accepted = receiver.put(f"/transfers/{opened.json()['id']}/receiving-patient", json={"id": "MG-77"})
        assert accepted.status_code == 200, accepted.text
        wait_until(lambda: len(receiver.get("/dicomweb/studies?PatientID=MG-77").json()) == 3)
        yield World(city, owner, receiver, city.client("mondino"), {name: kept(content) for name, content in contents.items()})


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("retrieved")
