"""A study with instances of two patients: each under its own number and name wherever it goes out, and the study marked."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.sharing.api import Api, api_over
from tests.sharing.images import image
from tests.world import OIDS, A, B, World

STUDY, OTHER = "1.2.40", "1.2.41"
ADA = {"number": "A1", "name": "Alfa^Anna", "birth": "19400101", "sop": f"{STUDY}.1.1"}
BEA = {"number": "B1", "name": "Beta^Bea", "birth": "19800808", "sop": f"{STUDY}.1.2"}
MARK = "00111001"


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    """One series with an image of each; both patients were transferred to B, which has a number for Bea only."""
    with api_over() as made:
        world = made.world
        for number, person in enumerate((ADA, BEA), 1):
            world.send(A, image(person["number"], STUDY, number, name=person["name"], birth=person["birth"]))
        world.send(A, image("A1", OTHER, name=ADA["name"], birth=ADA["birth"]))
        world.settle()
        for person in (ADA, BEA):
            asked = {"patient": {"id": person["number"]}, "to": B, "reason": "discharge"}
            opened = made.call(A, "POST", "/transfers", body=asked)
            assert opened.status == 201
            if person is BEA:
                named = made.call(
                    B, "PUT", "/transfers/{transfer}/receiving-patient", body={"id": "MG-7"}, transfer=opened.json["id"]
                )
                assert named.status == 200
        world.now = datetime.now(UTC)
        world.settle()
        yield made


def shown(result: dict[str, Any]) -> tuple[str, str, str]:
    """Number, name and birth date."""
    return result["00100020"]["Value"][0], result["00100010"]["Value"][0]["Alphabetic"], result["00100030"]["Value"][0]


def expected(who: str, person: dict[str, str]) -> tuple[str, str, str]:
    number = "MG-7" if who == B and person is BEA else person["number"]
    return number, person["name"], person["birth"]


SEARCHES = [
    (lambda who, person: [("PatientID", expected(who, person)[0])]),
    (lambda who, person: [("PatientID", expected(who, person)[0]), ("StudyInstanceUID", STUDY)]),
    (lambda who, person: [("PatientName", person["name"])]),
    (lambda who, person: [("PatientName", person["name"][:4] + "*"), ("StudyDate", "20260101")]),
    (lambda who, person: [("PatientBirthDate", person["birth"]), ("StudyInstanceUID", STUDY)]),
    (lambda who, person: [("PatientBirthDate", person["birth"]), ("ModalitiesInStudy", "CT"), ("StudyDate", "20260101")]),
]


@pytest.mark.parametrize("who", [A, B])
@pytest.mark.parametrize("person", [ADA, BEA], ids=["ada", "bea"])
@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_for_a_patient_answers_that_patient_at_every_level(
    api: Api, search: Any, person: dict[str, str], who: str
) -> None:
    query = search(who, person)
    for level in ("studies", "series", "instances"):
        found = [
            result
            for result in api.call(who, "GET", f"/dicomweb/{level}", [*query, ("includefield", "all")]).json
            if result["0020000D"]["Value"] == [STUDY]
        ]
        assert len(found) == 1, (level, found)
        assert shown(found[0]) == expected(who, person)
        assert found[0][MARK]["Value"] == [2]
        if level == "instances":
            assert found[0]["00080018"]["Value"] == [person["sop"]]


@pytest.mark.parametrize("who", [A, B])
def test_a_number_that_finds_a_patient_without_being_shown_finds_that_patient(api: Api, who: str) -> None:
    if who == B:
        (row,) = api.call(B, "GET", "/dicomweb/studies", [("PatientID", "B1")]).json
        assert shown(row) == expected(B, BEA)
        (result,) = api.call(B, "GET", "/dicomweb/instances", [("PatientID", "B1"), ("includefield", "all")]).json
        assert result["00080018"]["Value"] == [BEA["sop"]]


@pytest.mark.parametrize("who", [A, B])
def test_each_instance_and_its_metadata_are_under_its_own_patient(api: Api, who: str) -> None:
    every = api.call(who, "GET", "/dicomweb/studies/{study}/instances", [("includefield", "all")], study=STUDY).json
    assert {result["00080018"]["Value"][0]: shown(result) for result in every} == {
        person["sop"]: expected(who, person) for person in (ADA, BEA)
    }
    for route in ("", "/series/{series}"):
        named = {"study": STUDY} | ({"series": f"{STUDY}.1"} if route else {})
        metadata = api.call(who, "GET", f"/dicomweb/studies/{{study}}{route}/metadata", **named).json
        assert {result["00080018"]["Value"][0]: shown(result) for result in metadata} == {
            person["sop"]: expected(who, person) for person in (ADA, BEA)
        }
        for result in metadata:
            original = [item["04000550"]["Value"][0]["00100020"]["Value"] for item in result.get("04000561", {}).get("Value", [])]
            assert original == ([["B1"]] if who == B and result["00080018"]["Value"] == [BEA["sop"]] else [])


@pytest.mark.parametrize("who", [A, B])
def test_the_study_comes_once_however_many_of_its_patients_a_search_means(api: Api, who: str) -> None:
    for query in (
        [],
        [("StudyInstanceUID", STUDY)],
        [("PatientName", "*a")],
        [("ModalitiesInStudy", "CT")],
        [("PatientID", "*1")],
    ):
        found = [result["0020000D"]["Value"][0] for result in api.call(who, "GET", "/dicomweb/studies", query).json]
        assert found.count(STUDY) == 1, query


@pytest.mark.parametrize("who", [A, B])
@pytest.mark.parametrize("person", [ADA, BEA], ids=["ada", "bea"])
def test_the_timeline_of_each_is_headed_by_that_patient_and_says_that_the_study_is_of_two(
    api: Api, person: dict[str, str], who: str
) -> None:
    number, name, birth = expected(who, person)
    issuer = [] if who == A or person is BEA else [("issuer", OIDS[A])]
    timeline = api.call(who, "GET", "/patients/{patient}/timeline", issuer, patient=number).json
    assert (timeline["patient"]["name"], timeline["patient"]["birth_date"]) == (name, birth)
    counts = {study["study_instance_uid"]: study["number_of_patients"] for study in timeline["studies"]}
    assert counts == {STUDY: 2} | ({OTHER: 1} if person is ADA else {})


def test_a_study_of_one_patient_has_no_mark(api: Api) -> None:
    (row,) = api.call(A, "GET", "/dicomweb/studies", [("StudyInstanceUID", OTHER), ("includefield", "all")]).json
    assert MARK not in row


def test_the_mark_names_its_private_creator_in_json_and_in_xml(api: Api) -> None:
    (row,) = api.call(A, "GET", "/dicomweb/studies", [("StudyInstanceUID", STUDY)]).json
    assert row["00110010"] == {"vr": "LO", "Value": ["CONTENITORE"]}
    accept = {"Accept": 'multipart/related; type="application/dicom+xml"'}
    answer = api.call(A, "GET", "/dicomweb/studies", [("StudyInstanceUID", STUDY)], headers=accept)
    assert answer.status == 200
    assert b'tag="00110001" vr="US" privateCreator="CONTENITORE"' in answer.body  # in place of the block (PS3.19 A.1.5)


def test_what_is_burned_into_a_picture_is_the_patient_of_that_image(api: Api) -> None:
    jobs: list[Any] = []
    decoder = api.archive.pixels

    class Watching:
        def run(self, job: Any) -> Any:
            jobs.append(job)
            return decoder.run(job)

    with api_over(api.world, pixels=Watching()) as watched:
        _burned(watched, jobs)


def _burned(api: Api, jobs: list[Any]) -> None:
    for who, person in itertools.product((A, B), (ADA, BEA)):
        jobs.clear()
        names = {"study": STUDY, "series": f"{STUDY}.1", "instance": person["sop"]}
        route = "/dicomweb/studies/{study}/series/{series}/instances/{instance}/rendered"
        query = [("annotation", "patient"), ("window", f"40,{400 + len(who)},linear")]
        answer = api.call(who, "GET", route, query, headers={"Accept": "image/png"}, **names)
        assert answer.status in (200, 307), answer.body
        number, name, birth = expected(who, person)
        assert [job["annotations"] for job in jobs] == [[name, number, birth]]


def test_a_link_undone_shows_the_number_of_the_images_again(world: World) -> None:
    for instance, person in enumerate((ADA, BEA), 1):
        world.arrive(A, person["number"], STUDY, f"{STUDY}.1.{instance}", name=person["name"], birth=person["birth"])
        transfer = world.open(A, person["number"], B)
        world.accept(B, transfer, f"MG-{person['number']}")
    world.settle()
    (link,) = [link for link in world.links(B, "MG-B1") if link["status"] == "confirmed"]
    numbers = {result["00080018"]["Value"][0]: result["00100020"]["Value"][0] for result in world.find(B, level="instance")}
    assert numbers == {f"{STUDY}.1.1": "MG-A1", f"{STUDY}.1.2": "MG-B1"}
    world.undo(B, "MG-B1", link["link"])
    for settled in (False, True):
        if settled:
            world.settle()
        numbers = {result["00080018"]["Value"][0]: result["00100020"]["Value"][0] for result in world.find(B, level="instance")}
        assert numbers == {f"{STUDY}.1.1": "MG-A1", f"{STUDY}.1.2": "B1"}
        assert world.found(B, ("PatientID", "MG-B1")) == set()


def test_a_study_of_very_many_patients_still_fits_and_is_found_under_each(world: World) -> None:
    for number in range(60):
        world.arrive(A, f"P{number:02d}", STUDY, f"{STUDY}.1.{number}", name=f"Nome^{number:02d}")
    world.settle()
    for number in (0, 7, 8, 59):
        (row,) = world.find(A, ("PatientID", f"P{number:02d}"))
        assert row["00100020"]["Value"] == [f"P{number:02d}"]
        (result,) = world.find(A, ("PatientID", f"P{number:02d}"), level="instance")
        assert (result["00100020"]["Value"], result["00080018"]["Value"]) == ([f"P{number:02d}"], [f"{STUDY}.1.{number}"])
    assert len(world.find(A, level="instance")) == 60
    largest = max(len(json.dumps(item.data)) for item in world.table.memory.items().values())
    assert largest < 300_000
