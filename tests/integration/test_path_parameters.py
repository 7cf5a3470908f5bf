"""A patient's number in a path: percent-encoded by the client, handed on so by the gateway, and decoded once, by us."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.harness import Client, RunningCity
from tests.integration.exactly import ask
from tests.integration.hospital import new_uid, send, visible
from tests.world import image

NUMBERS = ("PV 12/34", "PV+12", "PV%2F12", "PV%12", "É-7", "a.b;c=d&e?f#g", "{x}", "100%")
"""Numbers that hospitals write, or that a second decoding, none, or a proxy would make another one of."""


def at(number: str, below: str) -> str:
    """The address of something of a patient."""
    return f"/patients/{quote(number, safe='')}/{below}"


@pytest.fixture(scope="module")
def hospital(city: RunningCity) -> Client:
    return city.client("san-matteo")


@pytest.fixture(scope="module")
def studies(hospital: Client) -> dict[str, str]:
    """A study of each number."""
    made = {number: new_uid() for number in NUMBERS}
    contents = [image(study=study, patient=number, charset="ISO_IR 192") for number, study in made.items()]
    assert {status["state"] for status in send(hospital, *contents)} == {"indexed"}
    for study in made.values():
        visible(hospital, study)
    return made


@pytest.mark.parametrize("number", NUMBERS)
def test_a_patient_of_any_number_has_a_timeline_a_report_of_accesses_and_links(
    hospital: Client, studies: dict[str, str], number: str
) -> None:
    timeline = hospital.get(at(number, "timeline"))
    assert timeline.status_code == 200, timeline.text
    assert [study["study_instance_uid"] for study in timeline.json()["studies"]] == [studies[number]]
    accesses = hospital.get(at(number, "accesses")).json()["accesses"]
    assert accesses, "an empty report of accesses of a patient who was looked at"
    assert hospital.get(at(number, "links")).status_code == 200


def test_an_objection_of_a_patient_with_a_slash_in_the_number_hides_what_was_shared(
    city: RunningCity, hospital: Client, studies: dict[str, str]
) -> None:
    number = "PV 12/34"
    body = {"patient": {"id": number}, "to": "maugeri", "reason": "rehabilitation"}
    assert hospital.post("/transfers", json=body).status_code == 201
    receiver = city.client("maugeri")
    assert receiver.get(f"/studies/{studies[number]}/manifest").status_code == 200
    objection = hospital.post(at(number, "objections"), json={})
    assert objection.status_code == 201, objection.text
    assert receiver.get(f"/studies/{studies[number]}/manifest").status_code == 404
    listed = hospital.get(at(number, "objections")).json()["objections"]
    assert len(listed) == 1
    assert hospital.delete(at(number, "objections/" + listed[0]["id"])).status_code == 200
    assert receiver.get(f"/studies/{studies[number]}/manifest").status_code == 200


def test_what_was_encoded_twice_is_another_number(hospital: Client, studies: dict[str, str]) -> None:
    assert hospital.get(at(quote("PV 12/34", safe=""), "timeline")).status_code == 404


@pytest.mark.parametrize("part", ["%zz", "a%", "a%2", "%ff", "%c3%28", "%ED%A0%80", "%F5%80%80%80", "%C0%AF"])
@pytest.mark.parametrize(
    ("path", "parameter"),
    [("/patients/{}/timeline", "patient"), ("/studies/{}/manifest", "study"), ("/transfers/{}", "transfer"),
     ("/dicomweb/studies/1.2/series/{}/metadata", "series"), ("/view/{}/dicomweb/studies", "reader")],
)  # fmt: skip
def test_what_is_no_percent_encoded_text_is_refused_by_name(city: RunningCity, path: str, parameter: str, part: str) -> None:
    answer = ask(city, None if path.startswith("/view") else "san-matteo", path.format(part))
    assert answer.status == 400, answer.text
    said = answer.json()
    assert (said["type"], said["parameter"]) == ("urn:contenitore:problem:bad-request", parameter)
    assert part not in answer.text


def test_addresses_in_answers_are_right_however_the_path_was_written(
    city: RunningCity, hospital: Client, studies: dict[str, str]
) -> None:
    study = studies["PV 12/34"]
    for written in (study, "".join(f"%{ord(letter):02x}" for letter in study)):
        answer = ask(city, "san-matteo", f"/dicomweb/studies/{written}/series")
        assert answer.status == 200, answer.text
        (series,) = answer.json()
        assert series["00081190"]["Value"][0].startswith(f"{hospital.api}/dicomweb/studies/{study}/series/")
