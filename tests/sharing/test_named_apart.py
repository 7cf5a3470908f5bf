"""Two who differ in nothing but the given name: twins, newborns and the unknown, under one codice fiscale."""

from __future__ import annotations

import itertools
import time

import pytest
from codicefiscale import codicefiscale

from chalicelib.domain import italian, patients
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.patients import CodeCarrier
from forwarder import stand_in
from tests.world import OIDS, A, B, World

BORN = "20240301"
ANNA = str(codicefiscale.encode("Rossi", "Anna", "F", "01/03/2024", "Pavia"))
MARCO = str(codicefiscale.encode("Rossi", "Marco", "M", "01/03/2024", "Pavia"))


def register(world: World, who: str, number: str, name: str, code: str = ANNA, sex: str = "F") -> None:
    """The hospital has an image of its patient, and its registration says this code."""
    world.arrive(who, number, f"1.2.{number}", name=name, birth=BORN, sex=sex)
    said = {"name": name, "birth_date": BORN, "sex": sex, "identifiers": [{"issuer": italian.CODICE_FISCALE, "id": code}]}
    world.make_known(who, number, **said)
    world.settle()


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_twin_under_the_others_code_is_joined_to_nobody_and_nobody_sees_her_as_the_other(
    world: World, order: tuple[int, ...]
) -> None:
    people = [(A, "1", "ROSSI^ANNA"), (A, "2", "ROSSI^GIULIA"), (B, "9", "Rossi^Anna")]
    for place in order:
        register(world, *people[place])
    world.open(A, "1", B, receiving="9")
    world.settle()
    assert world.on_timeline(A, "1") == {"1.2.1"}
    assert world.on_timeline(A, "2") == {"1.2.2"}
    assert world.on_timeline(B, "9") == {"1.2.1", "1.2.9"}
    assert not world.sees(B, "1.2.2")


@pytest.mark.parametrize(
    ("name", "other", "code", "sex"),
    [
        ("ROSSI^GEMELLA A", "ROSSI^GEMELLA B", ANNA, "F"),
        ("ROSSI^NEONATA", "ROSSI^NEONATA", ANNA, "F"),
        ("NEONATA DI^ROSSI", "NEONATA DI^ROSSI", ANNA, "F"),
        ("ROSSI^FEMMINA", "ROSSI^ANNA", ANNA, "F"),
        ("ROSSI ANNA", "ROSSI GIULIA", ANNA, "F"),
        (
            "ROSSI^ANNA MARIA",
            "ROSSI^ANNA LUCIA",
            str(codicefiscale.encode("Rossi", "Anna Maria", "F", "01/03/2024", "Pavia")),
            "F",
        ),
        ("ROSSI^MARCO", "ROSSI^MIRCO", MARCO, "M"),
    ],
)
def test_one_code_joins_no_two_who_may_be_twins(world: World, name: str, other: str, code: str, sex: str) -> None:
    register(world, A, "1", name, code, sex)
    register(world, B, "9", other, code, sex)
    world.open(A, "1", B)
    assert world.on_timeline(B, "9") == {"1.2.9"}
    assert world.transfers(B)[0]["linked_patients"] == []


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("ROSSI^ANNA", "Rossi^Anna Maria"),
        ("ROSSI^ANNA", "BIANCHI^ANNA"),
        ("ROSSI^ANNA", "Rossi Anna"),
        ("ROSSI^ANNA", "ANNA^ROSSI"),
        ("ROSSI^ANNA", "ROSSI"),
        ("ROSSI^ANNA", ""),
        ("ROSSI^NINA", "ROSSI^NINETTA"),
        ("GEMELLI^ANNA", "MASCHIO^ANNA"),
    ],
)
def test_a_name_written_in_another_way_is_joined_as_before(world: World, name: str, other: str) -> None:
    register(world, A, "1", name)
    register(world, B, "9", other)
    world.open(A, "1", B)
    world.settle()
    assert world.on_timeline(B, "9") == {"1.2.1", "1.2.9"}


@pytest.mark.parametrize(
    ("name", "other"), [("ANNAMARIA", "ANNA MARIA"), ("MARIA-GRAZIA", "MARIAGRAZIA"), ("ANNAMARIA", "Anna Maria Pia")]
)
def test_a_name_written_in_one_or_in_two_is_one(world: World, name: str, other: str) -> None:
    code = str(codicefiscale.encode("Rossi", name.replace("-", " "), "F", "01/03/2024", "Pavia"))
    register(world, A, "1", f"ROSSI^{name}", code)
    register(world, B, "9", f"Rossi^{other}", code)
    world.open(A, "1", B)
    world.settle()
    assert world.on_timeline(B, "9") == {"1.2.1", "1.2.9"}


def test_a_newborn_is_joined_once_she_has_her_name_and_her_code(world: World) -> None:
    register(world, B, "9", "ROSSI^ANNA")
    register(world, A, "1", "ROSSI^NEONATA")
    assert world.on_timeline(A, "1") == {"1.2.1"}
    register(world, A, "1", "ROSSI^ANNA")
    world.open(A, "1", B)
    world.settle()
    assert world.on_timeline(B, "9") == {"1.2.1", "1.2.9"}


def test_newborns_are_not_proposed_as_one_by_what_stands_in_for_their_names(world: World) -> None:
    for who, number in ((A, "1"), (B, "9")):
        world.arrive(who, number, f"1.2.{number}", name="ROSSI^NEONATA", birth=BORN)
    world.open(A, "1", B)
    world.settle()
    assert world.sees(B, "1.2.1")
    assert [link["identifier"]["id"] for link in world.links(B, "9")] == []


def test_a_number_of_countless_names_is_nobodys_and_is_read_in_a_moment(world: World) -> None:
    """Each of a member's images may say another name: all of them held against all would stop what projects for everybody."""
    for who, number in ((A, "1"), (B, "9")):
        register(world, who, number, "ROSSI^ANNA")
    own = [PatientIdentifier(OIDS[B], str(number)) for number in range(16)]
    words = " ".join("QWERTYUIOPASDFGHJKLZXCVBNM")
    carriers = [
        CodeCarrier(number, ANNA, BORN, "F", f"{words} ANNA {place}")
        for number in own
        for place in range(patients.MOST_NAMES + 1)
    ]
    began = time.process_time()
    assert patients.named_apart(carriers, frozenset(own), lambda given: "ANNA" in given) == set(own)
    assert time.process_time() - began < 2
    for place in range(patients.MOST_NAMES + 1):
        world.make_known(
            B,
            "9",
            name=f"ROSSI^ANNA {place}",
            birth_date=BORN,
            sex="F",
            identifiers=[{"issuer": italian.CODICE_FISCALE, "id": ANNA}],
        )
        world.settle()
    world.open(A, "1", B)
    world.settle()
    assert world.on_timeline(B, "9") == {"1.2.9"}


@pytest.mark.parametrize("name", sorted({*italian.UNNAMED, "ROSSI", "MASCHI", "ANNA"}))
def test_archive_and_forwarder_know_the_same_names_that_stand_in_for_one(name: str) -> None:
    assert (italian.NOBODY, italian.UNNAMED) == (stand_in.NOBODY, stand_in.UNNAMED)
    for whole in (f"{name}^", f"X^{name}", f"X^{name} A", f"{name} A^X"):
        assert italian.is_stand_in(whole) == stand_in.is_stand_in(whole), whole
