"""One number, several spellings of its issuer: registered names are one patient; any other is kept apart, and that is said."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.domain import italian, keys, patients
from chalicelib.domain.filing import filing
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.services import access
from tests.sharing.api import api_over
from tests.sharing.codes import fiscal_code
from tests.sharing.images import image
from tests.world import OIDS, A, B, World

PLAIN, NAMED, OTHER, MIXED = "1.2.1", "1.2.2", "1.2.3", "1.2.4"
STUDIES = {PLAIN, NAMED, MIXED}
ADA = fiscal_code("19600315", "F")


def images(world: World) -> None:
    """A patient's number under no issuer, under the name of the PACS, under both in one study; and under a laboratory's."""
    world.arrive(A, "7", PLAIN)
    world.arrive(A, "7", NAMED, issuer="ADT1")
    world.arrive(A, "7", MIXED, f"{MIXED}.1.1")
    world.arrive(A, "7", MIXED, f"{MIXED}.1.2", issuer="adt1")
    world.arrive(A, "7", OTHER, issuer="LAB")


def name(world: World, *names: str) -> None:
    version = world.member(A).version + 1
    world.register(A, version, issuer_names=names)
    if world.table.pending[-1:] != [("F#REGISTRY", f"INSTITUTION#{A}#{version:06d}")]:
        raise AssertionError("the projector is not told of a registration")


def joined(world: World) -> None:
    """The number is one patient's for everyone who asks."""
    assert world.on_timeline(A, "7") == STUDIES
    assert world.found(A, ("PatientID", "7"), ("IssuerOfPatientID", OIDS[A])) == STUDIES
    assert world.found(B, ("PatientID", "9")) == STUDIES
    assert world.on_timeline(B, "9") == STUDIES
    for study in (*STUDIES, OTHER):
        assert world.sees(B, study) is (study in STUDIES)


def parted(world: World) -> None:
    assert world.on_timeline(A, "7") == {PLAIN, MIXED}
    assert world.found(B, ("PatientID", "9")) == {PLAIN}
    for study in (*STUDIES, OTHER):
        assert world.sees(B, study) is (study == PLAIN)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_name_of_the_issuer_joins_whenever_it_is_registered(world: World, order: tuple[int, ...]) -> None:
    """Before the images, after them, before the transfer or after it; each step seen by the projector before the next one."""

    def open_transfer() -> None:
        transfer = world.open(A, "7", B)
        world.accept(B, transfer, "9")

    steps: list[Callable[[], None]] = [lambda: images(world), lambda: name(world, "ADT1"), open_transfer]
    if order.index(2) < order.index(0):
        world.arrive(A, "7", PLAIN)  # a transfer is of somebody
    for step in order:
        steps[step]()
        world.settle()
    joined(world)


def test_a_name_that_is_taken_out_parts_them_again(world: World) -> None:
    images(world)
    transfer = world.open(A, "7", B)
    world.accept(B, transfer, "9")
    world.settle()
    parted(world)
    for _ in range(2):
        name(world, "ADT1")
        world.settle()
        joined(world)
        name(world)
        world.settle()
        parted(world)


def test_a_study_of_before_whose_view_knows_nothing_of_names_is_joined_too(world: World) -> None:
    images(world)
    world.settle()
    for item in list(world.table.memory.items().values()):
        if item.pk.startswith(("V#STUDY#", "V#SEE#")):
            for later in ("said", "aliases", "reported"):
                item.data.pop(later, None)
    transfer = world.open(A, "7", B)
    world.accept(B, transfer, "9")
    name(world, "ADT1")
    world.settle()
    joined(world)


def test_a_transfer_of_the_number_under_its_name_goes_on_when_the_name_is_registered(world: World) -> None:
    world.arrive(A, "7", NAMED, issuer="ADT1")
    transfer = world.open(A, "7", B, issuer=f"{OIDS[A]}/ADT1")
    world.accept(B, transfer, "9")
    world.settle()
    assert world.found(B, ("PatientID", "9")) == {NAMED}
    name(world, "ADT1")
    world.settle()
    world.arrive(A, "7", OTHER, issuer="ADT1")
    world.settle()
    assert world.found(B, ("PatientID", "9")) == {NAMED, OTHER}


def test_what_the_patient_objects_to_under_its_number_is_hidden_under_every_spelling(world: World) -> None:
    name(world, "ADT1")
    world.arrive(A, "7", NAMED, issuer="ADT1")
    world.open(A, "7", B)
    world.settle()
    assert world.sees(B, NAMED)
    world.object(A, "7")
    assert not world.sees(B, NAMED)
    world.settle()
    assert not world.found(B, ("PatientID", "7"))


def test_a_codice_fiscale_in_images_under_the_name_joins_the_number_itself(world: World) -> None:
    world.arrive(A, "7", PLAIN)
    world.arrive(A, "7", NAMED, issuer="ADT1", other_ids=[(ADA, italian.CODICE_FISCALE)])
    world.arrive(B, "9", "1.2.9", other_ids=[(ADA, italian.CODICE_FISCALE)])
    world.settle()
    name(world, "ADT1")
    world.settle()
    record = access.load_record(world.table, PatientIdentifier(OIDS[B], "9").hash)
    assert PatientIdentifier(OIDS[A], "7") in record.linked


def test_the_owner_is_told_of_each_unknown_name_once_and_sees_what_is_apart(world: World) -> None:
    images(world)
    world.settle()
    world.arrive(A, "8", "1.2.8", issuer="Adt1")
    world.settle()
    told = [change for change in world.changes(A) if change["kind"] == "issuer-unknown"]
    assert sorted(change["issuer_name"].casefold() for change in told) == ["adt1", "lab"]
    assert not [change for change in world.changes(B) if change["kind"] == "issuer-unknown"]
    shown = world.timeline(A, "7")
    assert shown is not None
    assert shown["apart"] == [{"issuer": f"{OIDS[A]}/ADT1", "studies": 1}, {"issuer": f"{OIDS[A]}/LAB", "studies": 1}]
    under_a_name_only = world.timeline(A, "8")
    assert under_a_name_only is not None
    assert under_a_name_only["studies"] == []
    assert under_a_name_only["apart"] == [{"issuer": f"{OIDS[A]}/Adt1", "studies": 1}]
    name(world, "ADT1")
    world.settle()
    joined_now = world.timeline(A, "7")
    assert joined_now is not None
    assert joined_now["apart"] == [{"issuer": f"{OIDS[A]}/LAB", "studies": 1}]


@pytest.mark.parametrize("issuer", [OIDS[B], "1.2.3", "RIS"])
def test_a_number_of_ones_own_is_not_there_under_an_issuer_that_is_anothers_or_nobodys(issuer: str) -> None:
    with api_over() as api:
        api.world.send(A, image("7", "1.2.7"))
        api.world.settle()
        assert api.call(A, "GET", "/patients/{patient}/timeline", [("issuer", OIDS[A])], patient="7").status == 200
        assert api.call(A, "GET", "/patients/{patient}/timeline", [("issuer", issuer)], patient="7").status == 404
        wanted = {
            "patient": {"id": "7", "issuer": issuer},
            "practitioner": {"id": "d.neri", "name": "Neri"},
            "purpose": "lettura",
        }
        assert api.call(A, "POST", "/links", body=wanted).status == 404


def test_a_system_that_makes_up_names_does_not_fill_the_feed(world: World) -> None:
    for number in range(104):
        world.arrive(A, "7", f"1.3.{number}", issuer=f"DCM4CHEE.{number}")
    world.settle()
    assert len([change for change in world.changes(A) if change["kind"] == "issuer-unknown"]) == 100


def test_what_is_apart_is_told_to_the_sender_of_a_transfer_and_to_nobody_else() -> None:
    with api_over() as api:
        for number, issuer in enumerate(("", "ADT1", "ADT1")):
            from tests.sharing.images import image

            api.world.send(A, image("7", f"1.4.{number}", issuer=issuer))
        api.world.settle()
        made = api.call(A, "POST", "/transfers", body={"patient": {"id": "7"}, "to": B, "reason": "discharge"})
        apart = [{"issuer": f"{OIDS[A]}/ADT1", "studies": 2}]
        assert made.json["apart"] == apart
        read = api.call(A, "GET", "/transfers/{transfer}", transfer=made.json["id"])
        assert read.json["apart"] == apart
        assert "apart" not in api.call(B, "GET", "/transfers/{transfer}", transfer=made.json["id"]).json
        timeline = api.call(B, "GET", "/patients/{patient}/timeline", [("issuer", OIDS[A])], patient="7")
        assert timeline.status == 200
        assert "apart" not in timeline.json


def test_names_that_change_touch_a_hospital_of_any_size_in_bounded_steps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from chalicelib.domain.errors import TryAgain
    from chalicelib.services.identity import numbering

    for number in range(30):
        world.arrive(A, "7", f"1.5.{number}", issuer="ADT1")
    world.settle()
    monkeypatch.setattr(numbering, "_PAGE", 3)
    monkeypatch.setattr(numbering, "_PAGES_AT_ONCE", 4)
    name(world, "ADT1")
    (record,) = world.table.pending
    world.table.pending = []
    deliveries = 0
    while True:
        deliveries += 1
        try:
            numbering.names_changed(world.table, record[1], world.now)
            break
        except TryAgain:
            continue
    assert deliveries == 3
    world.settle()
    assert len(world.on_timeline(A, "7")) == 30
    numbering.names_changed(world.table, record[1], world.now)  # it comes again: nothing is left to do
    assert world.table.pending == []


NUMBERS = [PatientIdentifier(issuer, value) for issuer in ("O", "O/A", "O/B", "P") for value in ("1", "2")]


def known_names(number: PatientIdentifier) -> PatientIdentifier:
    return PatientIdentifier("O", number.value) if number.issuer == "O/A" else number


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(NUMBERS), st.booleans()), max_size=8))
def test_each_instance_is_of_one_of_the_studys_patients_in_any_order(said: list[tuple[PatientIdentifier, bool]]) -> None:
    found = filing(said, known_names)
    assert found == filing(reversed(said), known_names)
    assert {number for number, _ in said} == set(found.said)
    assert all(known_names(patient) == patient for patient in found.patients)
    for number, report in said:
        assert known_names(number) in found.patients or (report and number.value in {number.value for number in found.patients})
    images_only = {known_names(number) for number, report in said if not report}
    assert images_only <= set(found.patients)


def test_a_number_is_filed_in_the_partition_where_its_owner_speaks_of_it(world: World) -> None:
    name(world, "ADT1")
    world.arrive(A, "7", NAMED, issuer="ADT1")
    own = PatientIdentifier(OIDS[A], "7")
    assert world.table.get(keys.patient_facts(own.hash), patients.filed(own, A, NAMED).sk) is not None
