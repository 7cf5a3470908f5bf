"""Whose a study is, through the public doors: reports, however their issuer is written; names of an issuer; two patients."""

from __future__ import annotations

import io
import warnings
from typing import Any

import pytest
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset

from tests.harness import Client, RunningCity, wait_until
from tests.integration.hospital import new_uid, send, visible

IMAGE, BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.88.11"
REGIONAL = "2.16.840.1.113883.2.9.2.30.4.1"


def made(patient: str, study: str, sop_class: str = IMAGE, **more: Any) -> bytes:
    """A small DICOM file."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID, data.StudyInstanceUID, data.SeriesInstanceUID = sop_class, new_uid(), study, new_uid()
    data.PatientID, data.PatientName, data.PatientBirthDate, data.PatientSex = patient, "Prova^Una", "19600315", "F"
    data.StudyDate, data.Modality, data.InstanceNumber = "20260110", "SR" if sop_class == BASIC_TEXT_SR else "OT", 1
    for name, value in more.items():
        setattr(data, name, value)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, data.SOPInstanceUID
    meta.TransferSyntaxUID, meta.ImplementationClassUID = "1.2.840.10008.1.2.1", "1.2.3.4"
    data.file_meta = meta
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcmwrite(written, data, enforce_file_format=True)
    return written.getvalue()


def qualifiers(universal: str = REGIONAL, kind: str = "ISO") -> list[Dataset]:
    """Issuer of Patient ID Qualifiers Sequence (PS3.3 Table 10-18)."""
    item = Dataset()
    item.UniversalEntityID, item.UniversalEntityIDType = universal, kind
    return [item]


def shared(city: RunningCity, patient: str, issuer: str, study: str, count: int = 1) -> Client:
    """A hospital to which the patient of the study was transferred, and which sees it."""
    body = {"patient": {"id": patient, "issuer": issuer}, "to": "maugeri", "reason": "rehabilitation"}
    opened = city.client("san-matteo").post("/transfers", json=body)
    assert opened.status_code == 201, opened.text
    receiver = city.client("maugeri")
    visible(receiver, study, count)
    return receiver


def test_a_report_joins_the_patient_whose_issuer_the_images_say_in_qualifiers_only(city: RunningCity) -> None:
    owner, study = city.client("san-matteo"), new_uid()
    patient = f"Q{study[-8:]}"
    send(owner, made(patient, study, IssuerOfPatientIDQualifiersSequence=qualifiers()))
    receiver = shared(city, patient, REGIONAL, study)
    report = owner.post(f"/studies/{study}/reports", data=b"nothing found", headers={"Content-Type": "text/plain; charset=utf-8"})
    assert report.status_code == 201, report.text
    visible(receiver, study, 2)
    (row,) = owner.get(f"/dicomweb/studies?PatientID={patient}&IssuerOfPatientID={REGIONAL}").json()
    assert row["00201208"]["Value"] == [2]


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"IssuerOfPatientID": "RIS"},
        {"IssuerOfPatientID": "2.16.840.1.113883.2.9.99.1.4.1"},
        {"IssuerOfPatientID": REGIONAL},
        {"IssuerOfPatientIDQualifiersSequence": qualifiers()},
        {"IssuerOfPatientIDQualifiersSequence": qualifiers("ris.hospital.example", "DNS")},
    ],
    ids=["none", "name", "own", "the same", "qualifiers", "no OID"],
)
@pytest.mark.parametrize("first", ["images", "report"])
def test_a_structured_report_joins_its_studys_patient_however_it_writes_the_issuer(
    city: RunningCity, said: dict[str, Any], first: str
) -> None:
    owner, study = city.client("san-matteo"), new_uid()
    patient = f"S{study[-8:]}"
    image = made(patient, study, IssuerOfPatientIDQualifiersSequence=qualifiers())
    report = made(patient, study, BASIC_TEXT_SR, **said)
    send(owner, *([image] if first == "images" else [report]))
    send(owner, *([report] if first == "images" else [image]))
    visible(owner, study, 2)
    receiver = shared(city, patient, REGIONAL, study, 2)
    assert len(receiver.get(f"/studies/{study}/manifest").json()["instances"]) == 2


def test_what_is_said_under_the_number_of_a_report_hides_the_study_too(city: RunningCity) -> None:
    owner, study = city.client("san-matteo"), new_uid()
    patient = f"O{study[-8:]}"
    send(owner, made(patient, study, IssuerOfPatientIDQualifiersSequence=qualifiers()), made(patient, study, BASIC_TEXT_SR))
    visible(owner, study, 2)
    receiver = shared(city, patient, REGIONAL, study, 2)
    assert owner.post(f"/patients/{patient}/objections").status_code == 201
    assert receiver.get(f"/studies/{study}/manifest").status_code == 404


def test_a_name_registered_later_joins_what_is_stored(city: RunningCity) -> None:
    operator = city.client("operator")
    body = {"name": "Città Studi", "role_arn": "arn:aws:iam::222222222222:role/studi", "patient_id_issuer": "2.16.99.51"}
    assert operator.put("/institutions/studi", json=body).status_code == 201
    owner = city.client("studi")
    try:
        plain, named = new_uid(), new_uid()
        patient = f"N{plain[-8:]}"
        statuses = send(owner, made(patient, plain), made(patient, named, IssuerOfPatientID="ADT1"))
        assert [status.get("issuer_name") for status in statuses] == [None, "ADT1"]
        visible(owner, named)
        timeline = owner.get(f"/patients/{patient}/timeline").json()
        assert [study["study_instance_uid"] for study in timeline["studies"]] == [plain]
        assert timeline["apart"] == [{"issuer": "2.16.99.51/ADT1", "studies": 1}]
        told = owner.get("/changes").json()["changes"]
        assert [change["issuer_name"] for change in told if change["kind"] == "issuer-unknown"] == ["ADT1"]
        asked = {"patient": {"id": patient}, "to": "mondino", "reason": "stroke"}
        assert owner.post("/transfers", json=asked).json()["apart"] == timeline["apart"]
        assert operator.put("/institutions/studi", json={"issuer_names": ["adt1"]}).status_code == 200

        def joined() -> bool:
            found = owner.get(f"/patients/{patient}/timeline").json()
            return len(found["studies"]) == 2 and "apart" not in found

        wait_until(joined)
        visible(city.client("mondino"), named)
    finally:
        operator.delete("/institutions/studi")
