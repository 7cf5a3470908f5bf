"""What hospitals do before anybody reads: images of invented patients are sent, transfers opened, links made."""

from __future__ import annotations

import hashlib
import io
import itertools
from typing import Any

import pydicom
import requests
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from local.demo.images import as_another_vendor
from tests.harness import Client, RunningCity, wait_until

_numbers = itertools.count(1)
Files = list[bytes]


class Patient:
    """An invented patient of San Matteo and Maugeri, with a number at each that no other test uses."""

    def __init__(self, name: str = "FERRARI^LUCIA") -> None:
        number = f"{next(_numbers):04d}-{generate_uid()[-8:]}"
        self.name = name
        self.at = {"san-matteo": f"SM-{number}", "maugeri": f"MG-{number}"}


def image(
    patient: Patient,
    hospital: str,
    source: str = "CT_small.dcm",
    date: str = "20260301",
    description: str = "TC TORACE",
    **more: Any,
) -> Dataset:
    """One real image under an invented patient; `more` are attributes by keyword."""
    path = get_testdata_file(source, download=False)
    assert path is not None
    data = pydicom.dcmread(str(path))
    data.remove_private_tags()
    data.SpecificCharacterSet = "ISO_IR 192"
    data.PatientName, data.PatientID = patient.name, patient.at[hospital]
    data.PatientBirthDate, data.PatientSex = "19510314", "F"
    data.StudyDate, data.StudyTime, data.StudyDescription = date, "090000", description
    data.StudyInstanceUID, data.SeriesInstanceUID, data.SOPInstanceUID = generate_uid(), generate_uid(), generate_uid()
    for keyword in ("OtherPatientIDs", "OtherPatientIDsSequence", "PatientAge", "IssuerOfPatientID"):
        if keyword in data:
            delattr(data, keyword)
    for keyword, value in more.items():
        setattr(data, keyword, value)
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    return data


def chest_film(patient: Patient, hospital: str, date: str, description: str = "RX TORACE PA", **more: Any) -> Dataset:
    """The one real chest film, with its Pixel Spacing of 0\\0; at Maugeri as another vendor writes it."""
    film = image(patient, hospital, "RG1_UNCR.dcm", date, description, **more)
    if hospital == "maugeri":
        as_another_vendor(film)
    return film


def stack(patient: Patient, hospital: str, date: str, slices: int, **more: Any) -> list[Dataset]:
    """A CT series: one real slice at several heights, in a Frame of Reference of its own, brighter from slice to slice."""
    same = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid(), "FrameOfReferenceUID": generate_uid()}
    made = []
    for number in range(slices):
        cut = image(patient, hospital, "CT_small.dcm", date, **{"description": "TC TORACE", **same, **more})
        cut.InstanceNumber, cut.SliceLocation = number + 1, 5.0 * number
        cut.ImagePositionPatient = [-158.0, -179.0, 5.0 * number]
        made.append(cut)
    return made


def announce(client: Client, *images: Dataset) -> None:
    """Say that these images are coming, as a forwarder does for a study that it has received."""
    assert client.post("/uploads", json={"instances": [_offer(dataset) for dataset in images]}).status_code == 200


def send(client: Client, *images: Dataset) -> None:
    """Upload, and wait until everything is indexed."""
    send_files(client, [(_bytes(dataset), str(dataset.StudyInstanceUID)) for dataset in images])


def send_files(client: Client, files: list[tuple[bytes, str]]) -> None:
    """The same of (content, Study Instance UID)."""
    offers = [_offer_of(content, study) for content, study in files]
    answer = client.post("/uploads", json={"instances": offers}).json()["instances"]
    for (content, _), offer in zip(files, answer, strict=True):
        stored = requests.put(offer["upload"]["url"], data=content, headers=offer["upload"]["headers"], timeout=60)
        assert stored.status_code == 200, stored.text
    wanted = [offer["sha256"] for offer in offers]

    def indexed() -> bool:
        states = client.post("/uploads/status", json={"sha256": wanted}).json()["instances"]
        assert not any(state["state"] in {"rejected", "conflict"} for state in states), states
        return all(state["state"] == "indexed" for state in states)

    wait_until(indexed)


def transfer(city: RunningCity, patient: Patient) -> str:
    """San Matteo transfers the patient to Maugeri, which accepts it under its own number; the transfer's id."""
    body = {"patient": {"id": patient.at["san-matteo"]}, "to": "maugeri", "reason": "rehabilitation"}
    answer = city.client("san-matteo").post("/transfers", json=body)
    assert answer.status_code == 201, answer.text
    accept(city, answer.json()["id"], patient)
    return str(answer.json()["id"])


def accept(city: RunningCity, transfer: str, patient: Patient) -> None:
    """Maugeri accepts the patient."""
    number = {"id": patient.at["maugeri"]}
    answer = city.client("maugeri").put(f"/transfers/{transfer}/receiving-patient", json=number)
    assert answer.status_code == 200, answer.text


def wait_for_studies(city: RunningCity, patient: Patient, count: int, hospital: str = "maugeri") -> list[dict[str, Any]]:
    """The patient's timeline at a hospital, once it has `count` studies."""
    client = city.client(hospital)

    def found() -> list[dict[str, Any]] | None:
        answer = client.get(f"/patients/{patient.at[hospital]}/timeline")
        studies: list[dict[str, Any]] = answer.json()["studies"] if answer.status_code == 200 else []
        return studies if len(studies) == count else None

    studies: list[dict[str, Any]] = wait_until(found)
    return studies


def link(city: RunningCity, hospital: str = "maugeri", **body: Any) -> dict[str, Any]:
    """A link of a radiologist of the hospital: `{"id", "url", "expires_at"}`."""
    whole = {"practitioner": {"id": "rossi", "name": "Dr. Anna Rossi"}, "purpose": "report", **body}
    answer = city.client(hospital).post("/links", json=whole)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def _offer(instance: Dataset) -> dict[str, Any]:
    return _offer_of(_bytes(instance), str(instance.StudyInstanceUID))


def _offer_of(content: bytes, study: str) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "study_instance_uid": study}


def _bytes(instance: Dataset) -> bytes:
    buffer = io.BytesIO()
    instance.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
