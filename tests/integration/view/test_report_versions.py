"""Versions of reports through every door: POSTed, uploaded as a forwarder does, stored by STOW-RS; in any order, one result."""

from __future__ import annotations

import io
import itertools
from typing import Any

import pydicom
import pytest
import requests
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tests.browser import hospital
from tests.browser.hospital import Patient
from tests.harness import RunningCity, wait_until

CDA, ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.104.2", "1.2.840.10008.5.1.4.1.1.88.22"
_COPIED = ("SpecificCharacterSet", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate")
ROOT = "2.16.840.1.113883.2.9.2.30.4.4"


def national_report(name: str, version: int, text: str) -> bytes:
    """A radiology report of the national record (LOINC 68604-8) in its essentials, which replaces the version before it."""
    parent = f'<parentDocument><id root="{ROOT}" extension="{name}.{version - 1}"/></parentDocument>'
    replaces = f'<relatedDocument typeCode="RPLC">{parent}</relatedDocument>'
    return f"""<?xml version="1.0" encoding="UTF-8"?><ClinicalDocument xmlns="urn:hl7-org:v3">
      <templateId root="2.16.840.1.113883.2.9.10.1.7.1" extension="1.0"/><id root="{ROOT}" extension="{name}.{version}"/>
      <code code="68604-8" codeSystem="2.16.840.1.113883.6.1" codeSystemName="LOINC"/><title>Referto v{version}</title>
      <effectiveTime value="202603{10 + version}0900+0100"/><setId root="{ROOT}" extension="{name}"/>
      <versionNumber value="{version}"/>{replaces if version > 1 else ""}<component><structuredBody><component><section>
      <title>Referto</title><text><paragraph>{text}</paragraph></text></section></component></structuredBody></component>
      </ClinicalDocument>""".encode()


def as_dicom(of: Dataset, sop_class: str, **more: Any) -> Dataset:
    """A report's instance as a RIS sends it, in a series of its own."""
    data = Dataset()
    for keyword in _COPIED:
        setattr(data, keyword, getattr(of, keyword))
    data.SOPClassUID, data.SOPInstanceUID, data.SeriesInstanceUID = sop_class, generate_uid(), generate_uid()
    data.Modality, data.InstanceNumber = "DOC" if sop_class == CDA else "SR", 1
    data.ContentDate, data.ContentTime = "20260310", "090000"
    for keyword, value in more.items():
        setattr(data, keyword, value)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID, data.file_meta.MediaStorageSOPInstanceUID = ExplicitVRLittleEndian, data.SOPInstanceUID
    return data


def encapsulated(of: Dataset, content: bytes) -> Dataset:
    padded = content + b"\0" * (len(content) % 2)
    return as_dicom(
        of, CDA, EncapsulatedDocument=padded, EncapsulatedDocumentLength=len(content), MIMETypeOfEncapsulatedDocument="text/XML"
    )


def structured(of: Dataset, text: str, replaces: Dataset | None = None) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType, item.TextValue = "CONTAINS", "TEXT", text
    data = as_dicom(
        of, ENHANCED_SR, ValueType="CONTAINER", CompletionFlag="COMPLETE", VerificationFlag="VERIFIED", ContentSequence=[item]
    )
    if replaces is not None:
        one, series, study = Dataset(), Dataset(), Dataset()
        one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = ENHANCED_SR, replaces.SOPInstanceUID
        series.ReferencedSOPSequence, series.SeriesInstanceUID = [one], replaces.SeriesInstanceUID
        study.ReferencedSeriesSequence, study.StudyInstanceUID = [series], replaces.StudyInstanceUID
        data.PredecessorDocumentsSequence = [study]
    return data


class Study:
    """A study of San Matteo that is there, and its reports."""

    def __init__(self, city: RunningCity) -> None:
        self.client = city.client("san-matteo")
        patient = Patient()
        self.image = hospital.image(patient, "san-matteo")
        self.uid = str(self.image.StudyInstanceUID)
        hospital.send(self.client, self.image)
        hospital.wait_for_studies(city, patient, 1, "san-matteo")

    def post(self, content: bytes, media_type: str = "application/hl7-cda+xml", status: int = 201) -> dict[str, Any]:
        answer = self.client.post(f"/studies/{self.uid}/reports", data=content, headers={"Content-Type": media_type})
        assert answer.status_code == status, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def upload(self, content: bytes) -> None:
        hospital.send(self.client, encapsulated(self.image, content))

    def stow(self, content: bytes) -> None:
        written = io.BytesIO()
        pydicom.dcmwrite(written, encapsulated(self.image, content), enforce_file_format=True)
        body = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + written.getvalue() + b"\r\n--x--\r\n"
        headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=x'}
        assert self.client.post("/dicomweb/studies", data=body, headers=headers).status_code == 200

    def reports(self, count: int) -> list[dict[str, Any]]:
        """Once there are `count`, newest first."""

        def found() -> list[dict[str, Any]] | None:
            listed: list[dict[str, Any]] = self.client.get(f"/studies/{self.uid}/reports").json()["reports"]
            return listed if len(listed) == count else None

        listed: list[dict[str, Any]] = wait_until(found, 30)
        return listed

    def text(self, report: dict[str, Any]) -> str:
        answer = self.client.get(f"/studies/{self.uid}/reports/{report['sop_instance_uid']}?format=text")
        assert answer.status_code == 200
        return answer.text


def test_a_document_too_large_for_an_answer_is_not_opened_by_a_browser_either(city: RunningCity) -> None:
    study = Study(city)
    study.upload(national_report("R", 1, "x" * 4_500_000))
    (report,) = study.reports(1)
    path = f"/studies/{study.uid}/series/{report['series_instance_uid']}/instances/{report['sop_instance_uid']}/rendered"
    answer = study.client.get(f"/dicomweb{path}", allow_redirects=False, headers={"Accept": "text/xml"})
    assert answer.status_code == 307
    there = requests.get(answer.headers["Location"], timeout=30)
    assert there.headers["Content-Type"] == "text/xml"
    assert there.headers["Content-Disposition"] == "attachment"  # it may hold scripts, and S3 says nothing that stops them
    assert there.content.endswith(b"</ClinicalDocument>")


def test_versions_of_a_national_report_are_ordered_whichever_way_and_in_whichever_order_they_come(city: RunningCity) -> None:
    for turn, order in enumerate(itertools.permutations((1, 2, 3))):
        study = Study(city)
        doors = itertools.islice(itertools.cycle((study.post, study.upload, study.stow)), turn, None)
        for version, door in zip(order, doors, strict=False):
            door(national_report("R", version, f"testo {version}"))
        found = study.reports(3)
        assert [(one["version"], one["newest"], one["date"]) for one in found] == [
            (3, True, "20260313"), (2, False, "20260312"), (1, False, "20260311"),
        ]  # fmt: skip
        assert len({one["document"] for one in found}) == 1
        assert [study.text(one).split("\n")[1] for one in found] == ["testo 3", "testo 2", "testo 1"]


def test_a_version_that_is_posted_late_takes_its_place_and_again_it_changes_nothing(city: RunningCity) -> None:
    study = Study(city)
    late, now = national_report("L", 1, "prima"), national_report("L", 2, "dopo")
    assert study.post(now) == study.post(now, status=200)
    posted = study.post(late)
    assert (posted["version"], posted["newest"]) == (1, False)
    assert study.post(late, status=200)["version"] == 1
    assert [one["version"] for one in study.reports(2)] == [2, 1]


def test_the_same_document_by_both_ways_stands_once_and_two_documents_stand_both(city: RunningCity) -> None:
    study = Study(city)
    for door in (study.post, study.upload):
        door(national_report("A", 1, "uno"))
    study.post(national_report("B", 1, "due"))
    found = study.reports(3)
    assert sorted(study.text(one).split("\n")[1] for one in found if one["newest"]) == ["due", "uno"]
    (copy,) = (one for one in found if not one["newest"])
    assert copy["same_as"] in {one["sop_instance_uid"] for one in found}


def test_structured_reports_are_chained_by_their_predecessors_in_any_order(city: RunningCity) -> None:
    for order in ((0, 1, 2), (2, 0, 1)):
        study = Study(city)
        first = structured(study.image, "provvisorio")
        second = structured(study.image, "definitivo", replaces=first)
        third = structured(study.image, "corretto", replaces=second)
        other = structured(study.image, "altro documento")
        for number in order:
            hospital.send(study.client, (first, second, third)[number])
        hospital.send(study.client, other)
        found = study.reports(4)
        standing = {study.text(one).strip(): one["version"] for one in found if one["newest"]}
        assert standing == {"corretto": 3, "altro documento": 1}
        (document,) = {one["document"] for one in found if one["version"] == 3}
        chain = [study.text(one).strip() for one in found if one["document"] == document]
        assert chain == ["corretto", "definitivo", "provvisorio"]


@pytest.mark.parametrize("media_type", ["text/plain; charset=utf-8", "application/pdf"])
def test_what_is_posted_again_with_other_words_replaces(city: RunningCity, media_type: str) -> None:
    study = Study(city)
    versions = [f"%PDF-1.4 {number}\n%%EOF".encode() for number in range(3)]
    for content in versions:
        study.post(content, media_type)
    assert [(one["version"], one["newest"]) for one in study.reports(3)] == [(3, True), (2, False), (1, False)]
    oldest = study.reports(3)[-1]["sop_instance_uid"]
    assert versions[0] in study.client.get(f"/studies/{study.uid}/reports/{oldest}").content


def test_a_withdrawn_version_holds_the_chain_together_and_leaves_the_one_before_it_standing(city: RunningCity) -> None:
    study = Study(city)
    for version in (1, 2, 3):
        study.post(national_report("W", version, f"testo {version}"))
    newest, middle, _ = study.reports(3)
    for gone, left in ((middle, [(3, True), (1, False)]), (newest, [(1, True)])):
        body = {"sop_instance_uids": [gone["sop_instance_uid"]], "reason": "sent in error"}
        answer = study.client.post(f"/studies/{study.uid}/withdrawals", json=body)
        assert answer.status_code in (200, 201), answer.text
        wait_until(lambda left=left: [(one["version"], one["newest"]) for one in study.reports(len(left))] == left, 20)
