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

from chalicelib.domain.italian import CODICE_FISCALE
from tests.browser import hospital
from tests.browser.hospital import Patient
from tests.harness import RunningCity, is_linked, wait_until
from tests.sharing.codes import somebodys_code

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
        document, series, study = Dataset(), Dataset(), Dataset()
        document.ReferencedSOPClassUID, document.ReferencedSOPInstanceUID = ENHANCED_SR, replaces.SOPInstanceUID
        series.ReferencedSOPSequence, series.SeriesInstanceUID = [document], replaces.SeriesInstanceUID
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

    def post(
        self, content: bytes, media_type: str = "application/hl7-cda+xml", expected: int = 201, **query: str
    ) -> dict[str, Any]:
        address, headers = f"/studies/{self.uid}/reports", {"Content-Type": media_type}
        answer = self.client.post(address, data=content, headers=headers, params=query)
        assert answer.status_code == expected, answer.text
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

        listed: list[dict[str, Any]] = wait_until(found)
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
    there = requests.get(answer.headers["Location"], timeout=60)
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
        assert [(listed["version"], listed["newest"], listed["date"]) for listed in found] == [
            (3, True, "20260313"), (2, False, "20260312"), (1, False, "20260311"),
        ]  # fmt: skip
        assert len({listed["document"] for listed in found}) == 1
        assert [study.text(listed).split("\n")[1] for listed in found] == ["testo 3", "testo 2", "testo 1"]


def test_a_version_that_is_posted_late_takes_its_place_and_again_it_changes_nothing(city: RunningCity) -> None:
    study = Study(city)
    late, now = national_report("L", 1, "prima"), national_report("L", 2, "dopo")
    assert study.post(now) == study.post(now, expected=200)
    posted = study.post(late)
    assert (posted["version"], posted["newest"]) == (1, False)
    assert study.post(late, expected=200)["version"] == 1
    assert [report["version"] for report in study.reports(2)] == [2, 1]


def test_the_same_document_by_both_ways_stands_once_and_two_documents_stand_both(city: RunningCity) -> None:
    study = Study(city)
    for door in (study.post, study.upload):
        door(national_report("A", 1, "uno"))
    study.post(national_report("B", 1, "due"))
    found = study.reports(3)
    assert sorted(study.text(version).split("\n")[1] for version in found if version["newest"]) == ["due", "uno"]
    (copy,) = (version for version in found if not version["newest"])
    assert copy["same_as"] in {version["sop_instance_uid"] for version in found}


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
        standing = {study.text(version).strip(): version["version"] for version in found if version["newest"]}
        assert standing == {"corretto": 3, "altro documento": 1}
        (document,) = {version["document"] for version in found if version["version"] == 3}
        chain = [study.text(version).strip() for version in found if version["document"] == document]
        assert chain == ["corretto", "definitivo", "provvisorio"]


@pytest.mark.parametrize("media_type", ["text/plain; charset=utf-8", "application/pdf"])
def test_what_is_posted_again_with_other_words_replaces(city: RunningCity, media_type: str) -> None:
    study = Study(city)
    versions = [f"%PDF-1.4 {number}\n%%EOF".encode() for number in range(3)]
    for content in versions:
        study.post(content, media_type)
    assert [(report["version"], report["newest"]) for report in study.reports(3)] == [(3, True), (2, False), (1, False)]
    oldest = study.reports(3)[-1]["sop_instance_uid"]
    assert versions[0] in study.client.get(f"/studies/{study.uid}/reports/{oldest}").content


KINDS = {"text/plain; charset=utf-8": "{}", "application/pdf": "%PDF-1.4 {}\n%%EOF"}


@pytest.mark.parametrize("media_type", KINDS)
def test_versions_are_in_the_order_in_which_they_were_written_whenever_they_come(city: RunningCity, media_type: str) -> None:
    """Whatever comes first, second, third; and each again, which changes nothing."""
    written = [("20260110083000", "preliminary"), ("2026-01-10T09:00:00+01:00", "final"), ("20260110103000", "corrected")]
    for order in [*itertools.permutations(range(3))][:: 1 if media_type.startswith("text") else 5]:
        study = Study(city)

        def post(number: int, expected: int, study: Study = study) -> dict[str, Any]:
            date, said = written[number]
            return study.post(KINDS[media_type].format(said).encode(), media_type, expected, date=date, status=said)

        posted = {number: post(number, 201) for number in order}
        found = study.reports(3)
        listed = [
            (version["status"], version["version"], version["newest"], version["date"], version["time"]) for version in found
        ]
        assert listed == [
            ("corrected", 3, True, "20260110", "103000"),
            ("final", 2, False, "20260110", "090000"),
            ("preliminary", 1, False, "20260110", "083000"),
        ]
        assert [version["sop_instance_uid"] for version in found] == [posted[number]["sop_instance_uid"] for number in (2, 1, 0)]
        assert [version.get("preliminary", False) for version in found] == [False, False, True]
        for number in range(3):
            assert post(number, 200)["newest"] is (number == 2)
        assert len(study.reports(3)) == 3


CDA_AT = """<?xml version="1.0" encoding="UTF-8"?><ClinicalDocument xmlns="urn:hl7-org:v3"><title>Referto</title>
  <effectiveTime value="{}"/><component><structuredBody><component><section><text>{}</text></section></component>
  </structuredBody></component></ClinicalDocument>"""


@pytest.mark.parametrize("media_type", [*KINDS, "application/hl7-cda+xml"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_in_the_hour_that_comes_twice_the_offset_tells_which_version_is_the_later(
    city: RunningCity, media_type: str, order: tuple[int, ...]
) -> None:
    study, written = Study(city), ["20261025025000+0200", "20261025021000+0100"]

    def post(number: int, expected: int) -> dict[str, Any]:
        if media_type.startswith("application/hl7"):
            return study.post(CDA_AT.format(written[number], number).encode(), media_type, expected)
        return study.post(KINDS[media_type].format(number).encode(), media_type, expected, date=written[number])

    posted = {number: post(number, 201)["sop_instance_uid"] for number in order}
    found = study.reports(2)
    assert [version["sop_instance_uid"] for version in found] == [posted[1], posted[0]]
    assert [(version["time"], version["newest"]) for version in found] == [("021000", True), ("025000", False)]
    for number in order:
        assert post(number, 200)["newest"] is (number == 1)


def test_one_text_of_the_same_time_in_both_of_the_repeated_hours_is_two_versions(city: RunningCity) -> None:
    study = Study(city)
    first, second = (
        study.post(b"uguale", "text/plain", date=f"20261025021000{offset}")["sop_instance_uid"] for offset in ("+0100", "+0200")
    )
    assert [report["sop_instance_uid"] for report in study.reports(2)] == [first, second]


def test_of_two_of_one_moment_the_status_tells_the_later(city: RunningCity) -> None:
    study = Study(city)
    for status in ("corrected", "final", "preliminary"):
        study.post(status.encode(), "text/plain", date="20260110", status=status)
    assert [report["status"] for report in study.reports(3)] == ["corrected", "final", "preliminary"]
    assert [report["newest"] for report in study.reports(3)] == [True, False, False]


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_a_preliminary_of_a_time_never_heads_the_final_of_which_only_the_day_is_known(city: RunningCity, order: Any) -> None:
    study = Study(city)
    said = [("20260110090000", "preliminary"), ("20260110110000", "preliminary"), ("20260110", "final")]
    for number in order:
        study.post(b"testo", "text/plain", date=said[number][0], status=said[number][1])
    found = study.reports(3)
    assert [(report["status"], report["time"], report["newest"]) for report in found] == [
        ("final", "", True), ("preliminary", "110000", False), ("preliminary", "090000", False)
    ]  # fmt: skip


@pytest.mark.parametrize("order", [*itertools.permutations(range(4))][::5])
def test_a_corrected_version_replaces_all_documents_of_its_report(city: RunningCity, order: Any) -> None:
    study, text = Study(city), "text/plain"
    first = {"date": "20260110100000", "status": "final", "report": "R"}
    second = {"date": "20260110110000", "status": "corrected", "report": "R"}
    pdf = b"%PDF-1.4 {}\n%%EOF"
    sent = [(b"uno", text, {**first, "document": "R"}), (pdf, "application/pdf", {**first, "document": "R"}),
            (pdf, "application/pdf", {**first, "document": "R-2"}),
            (pdf, "application/pdf", {**second, "document": "R"})]  # fmt: skip
    for number in order:
        content, media_type, query = sent[number]
        study.post(content, media_type, **query)
    found = study.reports(4)
    assert [report["status"] for report in found if report["newest"]] == ["corrected"]
    assert found[0]["newest"] and len({report["document"] for report in found}) == 1
    study.post(b"altro", text, date="20260110120000", status="final", document="S", replaces="R")
    assert [report["status"] for report in study.reports(5) if report["newest"]] == ["final"]


def test_a_date_is_the_one_that_was_said_however_early_and_a_text_may_have_other_parameters(city: RunningCity) -> None:
    study = Study(city)
    study.post(b"antico", "text/plain; format=flowed; charset=UTF-8", date="0999-05-05")
    assert [report["date"] for report in study.reports(1)] == ["09990505"]
    study.post(b"latino", "text/plain; charset=iso-8859-1; format=flowed", expected=415)


def test_what_is_sent_without_a_date_counts_as_written_now_and_again_it_changes_nothing(city: RunningCity) -> None:
    study = Study(city)
    study.post(b"prima", "text/plain")
    study.post(b"molto prima", "text/plain", date="20200101")
    study.post(b"dopo", "text/plain")
    study.post(b"dopo", "text/plain", expected=200)
    assert [study.text(report) for report in study.reports(3) if report["newest"]] == ["dopo"]
    assert [study.text(report) for report in study.reports(3)] == ["dopo", "prima", "molto prima"]
    study.post(b"prima", "text/plain")  # it is the newest no more: this is a fourth version
    assert study.text(study.reports(4)[0]) == "prima"


def test_an_addendum_stands_beside_what_it_adds_to_until_a_whole_report_comes(city: RunningCity) -> None:
    study = Study(city)
    study.post(b"addendum", "text/plain", date="20260111", status="addendum")
    study.post(b"referto", "text/plain", date="20260110", status="final")
    assert sorted(study.text(report) for report in study.reports(2) if report["newest"]) == ["addendum", "referto"]
    study.post(b"tutto", "text/plain", date="20260112", status="corrected")
    assert [study.text(report) for report in study.reports(3) if report["newest"]] == ["tutto"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_document_that_stands_in_for_others_replaces_all_their_versions_in_any_order(city: RunningCity, order: Any) -> None:
    study = Study(city)
    chain: list[dict[str, str]] = [{"document": "A"}, {"document": "B", "replaces": "A"}, {"document": "C", "replaces": "B"}]
    for number in order:
        study.post(f"testo {number}".encode(), "text/plain", date=f"2026011{number}", **chain[number])
    found = study.reports(3)
    assert [(study.text(version), version["newest"]) for version in found] == [
        ("testo 2", True),
        ("testo 1", False),
        ("testo 0", False),
    ]
    assert len({version["document"] for version in found}) == 1


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("date", "2026-13-01"), ("date", "10/01/2026"), ("date", "20260110T9"), ("date", "2026-0110"), ("date", "yesterday"),
        ("date", "00000101"), ("date", "20260110103000+9999"), ("status", "F"), ("replaces", ",".join("abcdefghijklmnopq")),
        ("report", "x" * 65),
    ],
)  # fmt: skip
def test_a_parameter_that_says_nothing_is_named(city: RunningCity, parameter: str, value: str) -> None:
    study = _STUDIES.setdefault(id(city), Study(city))
    answer = study.client.post(
        f"/studies/{study.uid}/reports", data=b"x", headers={"Content-Type": "text/plain"}, params={parameter: value}
    )
    assert answer.status_code == 400
    assert parameter in answer.json()["detail"]


_STUDIES: dict[int, Study] = {}

LONG = "\n".join(f"Riga {number}: nessuna lesione, perciò è così." for number in range(90_000))


def test_a_text_of_megabytes_is_read_back_whole(city: RunningCity) -> None:
    study = Study(city)
    for count, text in enumerate(("x" * 65_535, "x" * 65_536 + "!", LONG), 1):
        assert len(text.encode()) < 4_400_000
        posted = study.post(text.encode(), "text/plain; charset=utf-8")
        study.reports(count)
        path = f"/studies/{study.uid}/reports/{posted['sop_instance_uid']}"
        assert study.client.get(path).text == text
        assert study.client.get(path, params={"format": "text"}).text == text


def test_a_long_text_of_many_lines_fits_the_pages_answer_or_is_refused_as_too_large(city: RunningCity) -> None:
    study, text = Study(city), "a" + "\n" * 4_390_000 + "b"
    posted = study.post(text.encode(), "text/plain; charset=utf-8")
    study.reports(1)
    link = hospital.link(city, "san-matteo", study_instance_uids=[study.uid])
    token = str(link["url"]).rpartition("#")[2]
    anyone = city.client(None)
    key = anyone.post("/view/session", json={"token": token}).json()["key"]
    path = f"/view/studies/{study.uid}/reports/{posted['sop_instance_uid']}"
    for coding, status in (("gzip", 200), ("identity", 413)):
        headers = {"Authorization": f"Bearer {key}", "Accept-Encoding": coding}
        answer = anyone.get(path, headers=headers)
        assert answer.status_code == status
        assert status != 200 or answer.json()["text"] == text


def test_stored_structured_reports_and_documents_of_megabytes_are_read_whole_or_refused_as_too_large(city: RunningCity) -> None:
    study = Study(city)
    sections = [f"sezione {number} " + "x" * 70_000 for number in range(9)]
    many = structured(study.image, "")
    for section in sections:
        item = Dataset()
        item.RelationshipType, item.ValueType, item.TextValue = "CONTAINS", "TEXT", section
        many.ContentSequence.append(item)
    long_one = structured(study.image, LONG)
    long_one.SpecificCharacterSet = "ISO_IR 192"
    too_long = structured(study.image, "x" * 5_000_000)
    for report in (many, long_one, too_long):
        hospital.send(study.client, report)
    paragraphs = "".join(f"<paragraph>paragrafo {number}</paragraph>" for number in range(100_000))
    study.upload(national_report("N", 1, f"</paragraph>{paragraphs}<paragraph>fine"))
    found = {report["sop_instance_uid"]: report for report in study.reports(4)}
    assert study.text(found[many.SOPInstanceUID]).split("\n") == sections
    assert study.text(found[long_one.SOPInstanceUID]) == LONG
    answer = study.client.get(f"/studies/{study.uid}/reports/{too_long.SOPInstanceUID}")
    assert answer.status_code == 413
    (narrative,) = (report for report in found.values() if report["kind"] == "cda")
    lines = study.text(narrative).split("\n")
    assert lines[1:100_001] == [f"paragrafo {number}" for number in range(100_000)]
    assert lines[100_001] == "fine"


@pytest.mark.parametrize("media_type", ["text/plain", "application/pdf", "application/hl7-cda+xml"])
@pytest.mark.parametrize("content", [b"", b" \n", b"\xef\xbb\xbf", b"\0" * 10, "però".encode("latin-1"), b"%PDF-", b"<a>"])
def test_what_is_no_report_is_refused(city: RunningCity, media_type: str, content: bytes) -> None:
    if media_type == "text/plain" and content in (b"%PDF-", b"<a>"):
        return
    _STUDIES.setdefault(id(city), Study(city)).post(content, media_type, 400)


def test_a_withdrawn_version_holds_the_chain_together_and_leaves_the_one_before_it_standing(city: RunningCity) -> None:
    study = Study(city)
    for version in (1, 2, 3):
        study.post(national_report("W", version, f"testo {version}"))
    newest, middle, _ = study.reports(3)
    for gone, left in ((middle, [(3, True), (1, False)]), (newest, [(1, True)])):
        body = {"sop_instance_uids": [gone["sop_instance_uid"]], "reason": "sent in error"}
        answer = study.client.post(f"/studies/{study.uid}/withdrawals", json=body)
        assert answer.status_code in (200, 201), answer.text
        wait_until(lambda left=left: [(report["version"], report["newest"]) for report in study.reports(len(left))] == left)


def plain_report(name: str, hour: int, text: str, *, appends_to: str = "", patients: dict[str, str] | None = None) -> bytes:
    """A CDA document without a set: its moment orders it."""
    related = f'<relatedDocument typeCode="APND"><parentDocument><id root="{ROOT}" extension="{appends_to}"/></parentDocument>'
    ids = "".join(f'<id root="{root}" extension="{number}"/>' for root, number in (patients or {}).items())
    return f"""<?xml version="1.0" encoding="UTF-8"?><ClinicalDocument xmlns="urn:hl7-org:v3">
      <id root="{ROOT}" extension="{name}"/><code code="68604-8" codeSystem="2.16.840.1.113883.6.1"/><title>Referto</title>
      <effectiveTime value="20260310{hour:02d}00+0100"/><recordTarget><patientRole>{ids}</patientRole></recordTarget>
      {f"{related}</relatedDocument>" if appends_to else ""}<component><structuredBody><component><section>
      <text><paragraph>{text}</paragraph></text></section></component></structuredBody></component></ClinicalDocument>""".encode()


@pytest.mark.parametrize("way", ["post", "upload"])
def test_a_document_that_appends_to_another_puts_nothing_away(city: RunningCity, way: str) -> None:
    study = Study(city)
    send = getattr(study, way)
    send(plain_report("A1", 9, "referto"))
    send(plain_report("A2", 10, "integrazione", appends_to="A1"))
    listed = study.reports(2)
    assert [report["newest"] for report in listed] == [True, True]
    assert sorted(report.get("status", "") for report in listed) == ["", "addendum"]


def test_what_a_document_appends_counts_for_more_than_the_status_beside_it(city: RunningCity) -> None:
    study = Study(city)
    study.post(plain_report("B1", 9, "referto"), status="final")
    assert study.post(plain_report("B2", 10, "integrazione", appends_to="B1"), status="final")["status"] == "addendum"
    assert [report["newest"] for report in study.reports(2)] == [True, True]


def test_a_document_that_says_that_it_is_of_another_patient_is_refused(city: RunningCity) -> None:
    study, issuer = Study(city), "2.16.840.1.113883.2.9.99.1.4.1"
    number, mine = str(study.image.PatientID), somebodys_code("19510314", "F")
    study.post(plain_report("C1", 9, "di un altro", patients={issuer: "SOMEBODY-ELSE"}), expected=409)
    study.post(plain_report("C2", 9, "suo", patients={"1.2.3.4": "a number of somebody else's", issuer: f"00{number}"}))
    known = {"birth_date": "1951-03-14", "sex": "F", "identifiers": [{"issuer": CODICE_FISCALE, "id": mine}]}
    assert study.client.put(f"/patients/{number}", json=known).status_code == 200
    wait_until(lambda: is_linked(study.client, number))
    another = somebodys_code("19710220", "M")
    study.post(plain_report("C3", 10, "di un altro", patients={CODICE_FISCALE: another}), expected=409)
    study.post(plain_report("C4", 11, "suo", patients={issuer: number, CODICE_FISCALE: mine}))
    assert len(study.reports(2)) == 2
