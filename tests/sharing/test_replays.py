"""The same things in every order, projected at once or at the end, end in the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import permutations
from typing import Any

import pytest

from tests.sharing.test_any_order import AFTER, BEFORE, HOSPITALS
from tests.world import OIDS, A, B, C, World


def happenings() -> Iterator[tuple[str, ...]]:
    """Every order in which a number is named after its transfer was opened."""
    for order in permutations(("study", "follow-up", "transfer", "named", "link")):
        if order.index("transfer") < order.index("named"):
            yield order


def seen(world: World) -> dict[str, object]:
    found: dict[str, object] = {}
    for who in HOSPITALS:
        found[who] = sorted(map(repr, world.find(who)))
        for number in ("a1", "a2", "b1"):
            found[f"{who} {number}"] = sorted(map(repr, world.find(who, ("PatientID", number))))
            for whose in (A, B):
                timeline = world.timeline(who, number, OIDS[whose])
                found[f"{who} {whose} {number}"] = timeline and without_ids(timeline)
    return found


def without_ids(timeline: dict[str, Any]) -> dict[str, Any]:
    """A timeline whose transfers, which have another id each time, are counted."""
    studies = [study | {"opened_by": len(study["opened_by"])} for study in timeline["studies"]]
    return timeline | {"studies": studies, "transfers": len(timeline["transfers"])}


def play(order: tuple[str, ...], late: bool) -> dict[str, object]:
    world = World(HOSPITALS, audited=False)
    for happening in order:
        if happening == "study":
            world.arrive(A, "a2", "1.2.1", date=BEFORE)
        elif happening == "follow-up":
            world.arrive(B, "b1", "1.2.2", date=AFTER)
        elif happening == "transfer":
            transfer = world.open(A, "a1", B)
        elif happening == "named":
            world.accept(B, transfer, "b1")
        elif happening == "link":
            world.confirm(A, "a1", {"id": "a2"})
        if not late:
            world.settle()
    world.settle(random.Random(7) if late else None)
    return seen(world)


@pytest.mark.parametrize("late", [False, True], ids=["projected at once", "projected at the end"])
def test_arrival_transfer_naming_and_link_end_in_the_same_whatever_comes_first(late: bool) -> None:
    answers = [play(order, late) for order in happenings()]
    assert all(answer == answers[0] for answer in answers)
    assert "1.2.1" in repr(answers[0][B])
    assert "1.2.2" in repr(answers[0][A])
    assert answers[0][C] == []
