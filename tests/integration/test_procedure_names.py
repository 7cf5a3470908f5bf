"""A hospital's own names of examinations, by the public door: they make its exams comparable at once."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset

from tests.browser import hospital as by_api
from tests.harness import Client, RunningCity, wait_until
from tests.integration.hospital import new_uid, send, visible
from tests.world import image

OWN = [{"phrase": "lastra letto 3", "places": ["chest"]}]


def exam(client: Client, patient: str, date: str, description: str) -> str:
    study = new_uid()
    send(client, image(study=study, patient=patient, date=date, description=description, modality="DX"))
    visible(client, study)
    return study


def priors(client: Client, study: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"/studies/{study}/priors").json()["priors"]
    return found


def not_understood(client: Client) -> dict[str, int]:
    answer = client.get("/procedure-names").json()
    return {row["name"]: row["studies"] for row in answer["not_understood"]}


def test_an_own_name_makes_exams_comparable_and_is_no_longer_listed(city: RunningCity) -> None:
    client, patient = city.client("mondino"), f"MO-{new_uid()}"
    exam(client, patient, "20260101", "LASTRA LETTO 3")
    current = exam(client, patient, "20260110", "RX TORACE")
    assert [prior["relevant"] for prior in priors(client, current)] == [False]
    assert wait_until(lambda: not_understood(client).get("LASTRA LETTO 3")) == 1
    assert client.put("/procedure-names", json={"names": OWN}).json() == {"names": OWN, "codes": []}
    assert [prior["relevant"] for prior in priors(client, current)] == [True]
    answer = client.get("/procedure-names").json()
    assert answer["names"] == OWN and "chest" in answer["places"]
    assert "LASTRA LETTO 3" not in not_understood(client)
    assert city.client("maugeri").get("/procedure-names").json()["names"] == []
    assert client.put("/procedure-names", json={}).json() == {"names": [], "codes": []}
    assert [prior["relevant"] for prior in priors(client, current)] == [False]


WRONG: list[Any] = [
    None,
    [],
    {"more": []},
    {"names": "x"},
    {"names": [{"phrase": "x", "places": ["nowhere"]}]},
    {"names": [{"phrase": "torace"}]},
    {"names": [{"phrase": "", "places": ["chest"]}]},
    {"names": [{"phrase": "!!", "places": ["chest"]}]},
    {"names": [{"phrase": "x" * 101, "places": ["chest"]}]},
    {"names": [{"phrase": "x\n", "places": ["chest"]}]},
    {"names": [{"phrase": "to*", "places": ["chest"]}]},
    {"names": OWN * 1001},
    {"codes": [{"code": "0815", "places": ["hand"]}]},
    {"names": [{"phrase": "torace", "places": [["chest"]]}]},
    {"names": [{"phrase": 5, "places": []}]},
]


@pytest.mark.parametrize("body", WRONG)
def test_what_is_no_table_is_refused_by_name_and_changes_nothing(city: RunningCity, body: Any) -> None:
    client = city.client("mondino")
    before = client.get("/procedure-names").json()["names"]
    answer = client.put("/procedure-names", json=body)
    assert answer.status_code == 400, answer.text
    assert client.get("/procedure-names").json()["names"] == before


def test_what_series_protocols_body_parts_and_codes_say_places_an_exam_whose_name_says_nothing(city: RunningCity) -> None:
    client, patient = city.client("mondino"), by_api.Patient()
    patient.at["mondino"] = f"MO-{new_uid()}"
    coded = Dataset()
    coded.CodeValue, coded.CodingSchemeDesignator, coded.CodeMeaning = "51185008", "SCT", "Chest"
    said: list[dict[str, Any]] = [
        {"SeriesDescription": "TORACE 1.0 POLMONE"},
        {"ProtocolName": "Thorax^Routine"},
        {"BodyPartExamined": "CHEST"},
        {"ProcedureCodeSequence": [coded]},
        {"AnatomicRegionSequence": [coded]},
    ]
    for keyword in ("SeriesDescription", "ProtocolName", "BodyPartExamined"):
        for attributes in said:
            attributes.setdefault(keyword, "")
    films = [
        by_api.image(patient, "mondino", date=f"2026010{n}", description="ESAME", **attributes)
        for n, attributes in enumerate(said, 1)
    ]
    wrong_part = {"SeriesDescription": "ENCEFALO", "ProtocolName": "", "BodyPartExamined": "CHEST"}
    head = by_api.image(patient, "mondino", date="20260106", description="ESAME", **wrong_part)
    current = by_api.image(
        patient, "mondino", date="20260110", description="RX TORACE", SeriesDescription="", BodyPartExamined=""
    )
    by_api.send(client, *films, head, current)
    for dataset in (*films, head, current):
        visible(client, str(dataset.StudyInstanceUID))
    answer = client.get(f"/studies/{current.StudyInstanceUID}/priors?limit=50").json()["priors"]
    found = {prior["study_instance_uid"]: prior["relevant"] for prior in answer}
    assert found == {str(dataset.StudyInstanceUID): True for dataset in films} | {str(head.StudyInstanceUID): False}
