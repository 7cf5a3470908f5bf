"""One UID, several files, several owners: conflicts, two owners of one study, and pushed images that come back."""

from __future__ import annotations

import pytest

from chalicelib.services.ingest.summaries import read_summary
from tests.sharing.api import api_over
from tests.sharing.images import image
from tests.world import OIDS, A, B, C, World

STUDY = "1.2.1"


@pytest.fixture
def city() -> World:
    world = World((A, B, C), read_summary)
    world.send(A, image("1", STUDY, 1), image("1", STUDY, 2))
    world.settle()
    return world


def test_the_same_uid_with_other_bytes_is_a_conflict_and_what_it_says_counts_for_nothing(city: World) -> None:
    (other,) = city.send(A, image("another", STUDY, 1, comment="other bytes"))
    city.settle()
    assert city.verdict(other)["state"] == "conflict"
    assert city.handed_out(A, STUDY) == {f"{STUDY}.1.1", f"{STUDY}.1.2"}
    assert city.timeline(A, "another") is None
    assert city.found(A, ("PatientID", "another")) == set()


def test_two_owners_of_one_study_are_told_apart_and_the_callers_own_wins(city: World) -> None:
    city.send(B, image("9", STUDY, 7, comment="another study with the same UID"))
    city.open(A, "1", B)
    city.settle()
    found = city.find(B, ("StudyInstanceUID", STUDY))
    assert len(found) == 2
    with api_over(city) as api:
        answers = api.call(B, "GET", "/dicomweb/studies", [("StudyInstanceUID", STUDY)]).json
        assert {result["00080080"]["Value"][0] for result in answers} == {"San Matteo", "Maugeri"}
        urls = [result["00081190"]["Value"][0] for result in answers]
        assert sum(url.endswith(f"?owner={A}") for url in urls) == 1
        for owner, instances in ((None, 1), (B, 1), (A, 2)):
            query = [("owner", owner)] if owner else []
            shown = api.call(B, "GET", "/studies/{study}/manifest", query, study=STUDY).json
            assert (shown["owner"], len(shown["instances"])) == (owner or B, instances)
        assert api.call(B, "GET", "/studies/{study}/manifest", [("owner", C)], study=STUDY).status == 404


def test_a_study_of_ones_own_costs_and_says_the_same_beside_a_hidden_one_of_the_same_uid(city: World) -> None:
    alone = World((A, B, C), read_summary)
    answers = []
    for world in (city, alone):
        world.send(B, image("9", STUDY, 7))
        world.settle()
        with world.counted() as requests, api_over(world) as api:
            answer = api.call(B, "GET", "/dicomweb/studies/{study}/series", study=STUDY)
        answers.append((answer.status, answer.body, dict(requests)))
    assert answers[0] == answers[1]


def test_a_pushed_image_that_comes_back_is_an_echo_and_nothing_is_stored_twice(city: World) -> None:
    city.open(A, "1", B, receiving="9")
    city.settle()
    echo, new = city.send(B, image("9", STUDY, 1, comment="coerced to the receiver's number"), image("9", STUDY, 5))
    city.settle()
    assert city.verdict(echo) == city.verdict(echo) | {"state": "echo", "owner": A}
    assert city.verdict(new)["state"] == "indexed", "an instance that the owner does not have is none"
    assert city.handed_out(B, STUDY, A) == {f"{STUDY}.1.1", f"{STUDY}.1.2"}
    assert city.handed_out(B, STUDY, B) == {f"{STUDY}.1.5"}


def test_an_echo_is_one_of_the_same_study_and_of_what_one_may_see(city: World) -> None:
    city.open(A, "1", B)
    city.settle()
    (elsewhere,) = city.send(B, image("9", "1.2.2", 1).replace(b"1.2.2.1.1\0", b"1.2.1.1.1\0"))
    assert city.verdict(elsewhere)["state"] == "indexed"
    (unseen,) = city.send(C, image("5", STUDY, 1))
    assert city.verdict(unseen)["state"] == "indexed", "whoever may not see it learns nothing"


@pytest.fixture
def copied() -> World:
    """B's study, of which A has a copy of its own, with a second image that B did not send yet; B may see that copy."""
    world = World((A, B, C), read_summary)
    world.send(B, image("9", STUDY, 1, name="Wrong^Name"))
    world.settle()
    world.later(minutes=1)
    world.send(A, image("1", STUDY, 1, name="Wrong^Name"), image("1", STUDY, 2, name="Forged^Name"))
    world.settle()
    world.open(A, "1", B)
    world.settle()
    return world


def test_ones_own_correction_stands_though_another_has_a_copy_that_one_may_see(copied: World) -> None:
    (right,) = copied.send(B, image("8", STUDY, 1, name="Right^Name"))
    copied.settle()
    assert copied.verdict(right)["state"] == "indexed"
    assert copied.found(B, ("PatientID", "8")) == {STUDY}
    assert copied.found(B, ("PatientID", "9")) == set()


def test_an_image_of_ones_own_study_is_no_echo_of_what_another_put_there_before(copied: World) -> None:
    copied.later(minutes=1)
    (genuine,) = copied.send(B, image("9", STUDY, 2, name="Wrong^Name"))
    copied.settle()
    assert copied.verdict(genuine)["state"] == "indexed"
    assert copied.handed_out(B, STUDY, B) == {f"{STUDY}.1.1", f"{STUDY}.1.2"}


def test_who_added_an_image_to_a_study_that_came_from_elsewhere_sends_back_echoes_all_the_same(city: World) -> None:
    city.open(A, "1", B, receiving="9")
    city.settle()
    city.later(minutes=1)
    city.send(B, image("9", STUDY, 5))
    city.settle()
    (echo,) = city.send(B, image("9", STUDY, 1, comment="coerced"))
    assert city.verdict(echo)["state"] == "echo"


def test_images_filed_under_a_forged_issuer_open_and_hide_nothing(city: World) -> None:
    """A hospital that writes another's issuer into its files gets nothing of that patient, and takes nothing from it."""
    city.send(B, image("1", "1.2.9", 1, issuer=OIDS[A], date="20990101"))
    city.settle()
    assert city.found(B) == {"1.2.9"}
    assert city.on_timeline(B, "1", OIDS[A]) == {"1.2.9"}
    assert city.on_timeline(A, "1") == {STUDY}
    with api_over(city) as api:
        body = {"study_instance_uid": "1.2.9"}
        assert api.call(B, "POST", "/patients/{patient}/objections", body=body, patient="1").status == 404
        assert api.call(A, "POST", "/patients/{patient}/objections", body=body, patient="1").status == 404
        assert api.call(B, "GET", "/patients/{patient}/links", patient="1").status == 404
