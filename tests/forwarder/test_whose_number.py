"""Which number is certain enough to accept a transfer under it with one click."""

from __future__ import annotations

import pytest

from forwarder.stand_in import are_two
from forwarder.web.whose_number import ANOTHER, DIFFERS, UNKNOWN, UNSURE, compare, doubts

ADA = {"name": "Bianchi^Ada", "birth_date": "19600315", "sex": "F"}


@pytest.mark.parametrize(
    ("ours", "linked", "asked"),
    [
        (ADA, [], []),
        (ADA | {"name": "BIANCHI^Ada Maria"}, [], []),
        (ADA | {"name": ""}, [], []),
        (ADA | {"name": "Rossi^Ada"}, [], [DIFFERS]),
        (ADA | {"birth_date": "19600316"}, [], [DIFFERS]),
        (ADA | {"sex": "M"}, [], [DIFFERS]),
        (ADA | {"birth_date": ""}, [], [UNSURE]),
        (None, [], [UNKNOWN]),
        (ADA, ["2"], [ANOTHER]),
        (None, ["2"], [ANOTHER, UNKNOWN]),
        (None, ["1"], []),
        (ADA | {"name": "Rossi^Ada"}, ["1", "2"], []),
        (ADA | {"birth_date": ""}, ["1"], []),
        (ADA | {"birth_date": "19600316"}, ["1"], [DIFFERS]),
    ],
)
def test_a_number_is_certain_where_it_is_linked_or_known_and_agrees(ours, linked, asked) -> None:
    assert doubts(compare(ours or {}, ADA), linked, "1", known=ours is not None) == asked


@pytest.mark.parametrize("name", ["Rossi^Neonata", "GEMELLO A^ROSSI", "SCONOSCIUTO^SCONOSCIUTO", "Rossi^Femmina"])
def test_two_who_are_called_by_what_stands_in_for_a_name_are_asked_about(name: str) -> None:
    called = ADA | {"name": name}
    assert doubts(compare(called, called), [], "1", known=True) == [UNSURE]
    assert doubts(compare(called | {"name": ""}, called), [], "1", known=True) == [UNSURE]
    assert doubts(compare(called, called), ["1"], "1", known=True) == []


def test_the_first_of_january_1900_is_nobodys_birth_date() -> None:
    unknown = ADA | {"birth_date": "19000101"}
    assert doubts(compare(unknown, unknown), [], "1", known=True) == [UNSURE]


@pytest.mark.parametrize(
    ("name", "birth_date", "two"),
    [
        ("Neri^Ugo", "19310807", True),
        ("Bianchi^Ugo", "19310807", True),
        ("BIANCHI^ADA", "19310807", False),
        ("Bianchi^Ada Maria=白^アダ", "19310807", False),
        ("Neri^Ugo", "19600315", False),
        ("Neri^Ugo", "", False),
        ("", "19310807", False),
        ("SCONOSCIUTO", "20260101", False),
        ("Neri^Ugo", "19000101", False),
    ],
)
def test_two_persons_are_who_differ_in_name_and_birth_date(name: str, birth_date: str, two: bool):
    assert are_two(ADA["name"], ADA["birth_date"], name, birth_date) is two
    assert are_two(name, birth_date, ADA["name"], ADA["birth_date"]) is two
