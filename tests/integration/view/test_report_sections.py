"""A report's sections, whichever way it came: text by its headings, CDA by LOINC and titles, SR by its concept names."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset

from tests.browser import hospital
from tests.browser.hospital import Patient
from tests.harness import RunningCity, wait_until
from tests.integration.view.test_reading_session import Browser
from tests.integration.view.test_report_versions import ENHANCED_SR, Study, as_dicom

TEXT = "Quesito: tosse.\nREPERTO\nNulla.\nConclusioni: nei limiti."
CDA = """<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1.2.3.4"/><title>Referto</title><component><structuredBody>
  <component><section><code code="29299-5" codeSystem="2.16.840.1.113883.6.1"/><title>Perch\u00e9</title><text>tosse.</text>
  </section></component>
  <component><section><code code="18782-3"/><text><paragraph>Nulla.</paragraph></text>
    <component><section><title>Mediastino</title><text>In asse.</text></section></component></section></component>
  <component><section><title>CONCLUSIONI</title><text>nei limiti.</text></section></component>
  </structuredBody></component></ClinicalDocument>"""


@pytest.fixture
def study(city: RunningCity) -> Study:
    return Study(city)


def read(city: RunningCity, study: Study, sop: str) -> dict[str, Any]:
    browser = Browser(city, hospital.link(city, "san-matteo", study_instance_uids=[study.uid])["url"])
    return once_there(browser, f"/view/studies/{study.uid}/reports/{sop}")


def once_there(browser: Browser, address: str) -> dict[str, Any]:
    """A report, once the study's view has it."""
    answer = wait_until(lambda: found if (found := browser.get(address)).status_code == 200 else None)
    report: dict[str, Any] = answer.json()
    return report


def sections(answer: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(section["kind"], section["title"], section["text"]) for section in answer["sections"]]


def test_text(city: RunningCity, study: Study) -> None:
    made = study.post(TEXT.encode(), "text/plain; charset=utf-8")
    answer = read(city, study, made["sop_instance_uid"])
    assert answer["text"] == TEXT
    assert sections(answer) == [
        ("question", "Quesito", "tosse."),
        ("findings", "REPERTO", "Nulla."),
        ("impression", "Conclusioni", "nei limiti."),
    ]


def test_cda(city: RunningCity, study: Study) -> None:
    made = study.post(CDA.encode())
    assert sections(read(city, study, made["sop_instance_uid"])) == [
        ("question", "Perch\u00e9", "tosse."),
        ("findings", "", "Nulla."),
        ("", "Mediastino", "In asse."),
        ("impression", "CONCLUSIONI", "nei limiti."),
    ]


def content(relationship: str, value_type: str, code: str, name: str, **more: Any) -> Dataset:
    item, concept = Dataset(), Dataset()
    concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning = code, "DCM", name
    item.RelationshipType, item.ValueType, item.ConceptNameCodeSequence = relationship, value_type, [concept]
    for keyword, value in more.items():
        setattr(item, keyword, value)
    return item


def test_a_structured_report(city: RunningCity, study: Study) -> None:
    observer = content("HAS OBS CONTEXT", "PNAME", "121008", "Person Observer Name", PersonName="VERDI^MARIO")
    finding = content("CONTAINS", "TEXT", "121071", "Finding", TextValue="Nulla.")
    findings = content("CONTAINS", "CONTAINER", "121070", "Findings", ContinuityOfContent="SEPARATE", ContentSequence=[finding])
    conclusion = content("CONTAINS", "TEXT", "121076", "Esito", TextValue="nei limiti.")
    data = as_dicom(
        study.image, ENHANCED_SR, ValueType="CONTAINER", CompletionFlag="COMPLETE", VerificationFlag="VERIFIED",
        ContentSequence=[observer, findings, conclusion],
    )  # fmt: skip
    hospital.send(study.client, data)
    assert sections(read(city, study, str(data.SOPInstanceUID))) == [
        ("", "", "Person Observer Name: VERDI^MARIO"),
        ("findings", "Findings", "Finding: Nulla."),
        ("impression", "Esito", "nei limiti."),
    ]


def coded(value: str, meaning: str, keyword: str = "CodeValue") -> Dataset:
    code = Dataset()
    setattr(code, keyword, value)
    code.CodingSchemeDesignator, code.CodeMeaning = "99X", meaning
    return code


def number(name: str, value: str | None, unit: Dataset | None, why: str = "") -> Dataset:
    measured = Dataset()
    if value is not None:
        measured.NumericValue, measured.MeasurementUnitsCodeSequence = value, [unit]
    more = {"NumericValueQualifierCodeSequence": [coded("114009", why)]} if why else {}
    return content("CONTAINS", "NUM", "1", name, MeasuredValueSequence=[measured] if value is not None else [], **more)


def test_nothing_that_a_structured_report_says_is_left_out(city: RunningCity, study: Study) -> None:
    items = [
        number("Ejection Fraction", None, None, "Value unknown"),
        number("Diameter", None, None),
        number("Velocity", "4", coded("m/s", "metres a second"), "Value out of range"),
        number("Heart rate", "72", coded("{H.B.}/min", "beats a minute")),
        number("Cardiothoracic ratio", "0.55", coded("1", "no units")),
        content("CONTAINS", "CODE", "121071", "Finding", ConceptCodeSequence=[coded("A" * 30, "", "LongCodeValue")]),
        content("CONTAINS", "CODE", "121072", "Second finding", ConceptCodeSequence=[coded("B-1", "")]),
    ]
    data = as_dicom(
        study.image,
        ENHANCED_SR,
        ValueType="CONTAINER",
        CompletionFlag="COMPLETE",
        VerificationFlag="VERIFIED",
        ContentSequence=items,
    )
    hospital.send(study.client, data)
    assert read(city, study, str(data.SOPInstanceUID))["text"].splitlines() == [
        "Ejection Fraction: Value unknown",
        "Diameter: \u2014",
        "Velocity: 4 m/s (Value out of range)",
        "Heart rate: 72 beats a minute",
        "Cardiothoracic ratio: 0.55",
        f"Finding: {'A' * 30}",
        "Second finding: B-1",
    ]


def test_a_text_longer_than_anybody_writes_is_not_split(city: RunningCity, study: Study) -> None:
    made = study.post(TEXT.encode() + b"\n" + b"x" * 500_000, "text/plain; charset=utf-8")
    answer = read(city, study, made["sop_instance_uid"])
    assert answer["sections"] == []
    assert answer["text"].startswith(TEXT)


def test_a_cited_exam_is_named_to_who_may_see_it_and_to_nobody_else(city: RunningCity) -> None:
    patient = Patient()
    prior = hospital.image(patient, "san-matteo", date="20251026")
    current = hospital.image(patient, "maugeri", date="20260310")
    hospital.send(city.client("san-matteo"), prior)
    hospital.send(city.client("maugeri"), current)
    hospital.wait_for_studies(city, patient, 1)
    report = city.client("maugeri").post(
        f"/studies/{current.StudyInstanceUID}/reports",
        data=b"Reperto: invariato rispetto a TC del 26/10 e RM del 26/10.",
        headers={"Content-Type": "text/plain; charset=utf-8"},
    )
    address = f"/view/studies/{current.StudyInstanceUID}/reports/{report.json()['sop_instance_uid']}"

    def cited() -> list[tuple[str, list[dict[str, str]]]]:
        browser = Browser(city, hospital.link(city, patient={"id": patient.at["maugeri"]})["url"])
        (section,) = once_there(browser, address)["sections"]
        return [(citation["text"], citation["studies"]) for citation in section["citations"]]

    assert cited() == [("rispetto a TC del 26/10", []), ("RM del 26/10", [])]
    hospital.transfer(city, patient)
    hospital.wait_for_studies(city, patient, 2)
    meant = {"study_instance_uid": str(prior.StudyInstanceUID), "owner": "san-matteo"}
    assert cited() == [("rispetto a TC del 26/10", [meant]), ("RM del 26/10", [])]
