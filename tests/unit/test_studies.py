"""What a study's instances add up to, whatever order they came in."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain.ports import Item
from chalicelib.domain.studies import (
    Instance,
    announced,
    first_value,
    for_deciding,
    instances,
    packed,
    reports,
    summarise,
    summarise_series,
    unpacked,
    withdrawn,
)

_TEXTS = st.sampled_from(["", "20260301", "20260302", "A", "B"])
_ELEMENTS = st.fixed_dictionaries(
    {},
    optional={
        tag: st.builds(lambda value, vr=vr: {"vr": vr, "Value": [value]} if value else {"vr": vr}, _TEXTS)
        for tag, vr in (("00080020", "DA"), ("00080060", "CS"), ("00100020", "LO"), ("00081030", "LO"), ("00180015", "CS"))
    },
)


@st.composite
def studies(draw: st.DrawFn) -> list[Instance]:
    """Up to eight instances in up to three series, each with attributes of its own."""
    count = draw(st.integers(1, 8))
    patients = st.none() | st.builds(lambda value: {"issuer": "2.16", "id": value}, st.sampled_from(["P", "Q"]))
    found = []
    for number in range(count):
        data: dict[str, Any] = {
            "sha256": f"{number:064x}",
            "size": draw(st.integers(1, 9)),
            "at": f"2026-03-0{draw(st.integers(1, 9))}T00:00:00.000Z",
            "class": draw(st.sampled_from(["1.2", "1.3", "1.2.840.10008.5.1.4.1.1.104.1"])),
            "attributes": packed(draw(_ELEMENTS)),
        }
        patient = draw(patients)
        if patient is not None:
            data["patient"] = patient
        found.append(Instance(f"1.{draw(st.integers(1, 3))}", f"1.9.{number}", data))
    return found


@given(found=studies(), seed=st.integers())
def test_the_order_in_which_instances_came_makes_no_difference(found: list[Instance], seed: int) -> None:
    shuffled = random.Random(seed).sample(found, len(found))
    assert summarise("a", "1", shuffled, set()) == summarise("a", "1", found, set())
    assert summarise_series(shuffled) == summarise_series(found)


@given(found=studies())
def test_what_is_counted_is_what_is_there(found: list[Instance]) -> None:
    summary = summarise("a", "1", found, {"f" * 64, found[0].data["sha256"]})
    assert summary["instances"] == len(found) == sum(view["instances"] for view in summarise_series(found).values())
    assert summary["bytes"] == sum(one.data["size"] for one in found)
    assert summary["missing"] == ["f" * 64]
    dates = [date for one in found if (date := first_value(one.attributes, "00080020"))]
    assert summary["date"] == min(dates, default="")
    assert json.loads(json.dumps(summary)) == summary


@given(found=studies())
def test_a_study_with_an_instance_of_nobody_is_shared_with_nobody(found: list[Instance]) -> None:
    known = {one.data["patient"]["id"] for one in found if "patient" in one.data}
    shareable = for_deciding(summarise("a", "1", found, set())).patients
    assert len(shareable) == (len(known) if all("patient" in one.data for one in found) else 0)


@given(attributes=_ELEMENTS)
def test_attributes_come_back_as_they_were_kept(attributes: dict[str, Any]) -> None:
    assert unpacked(json.loads(json.dumps(packed(attributes)))) == attributes


def test_facts_of_a_study_are_told_apart() -> None:
    items = [
        Item("F#STUDY#a#1", "E#x", {"sha256": ["1", "2"]}),
        Item("F#STUDY#a#1", "E#y", {"sha256": ["2", "3"]}),
        Item("F#STUDY#a#1", "I#1.1#1.1.1", {}),
        Item("F#STUDY#a#1", "I#1.1#1.1.2", {}),
        Item("F#STUDY#a#1", "W#1.1.2", {}),
    ]
    assert announced(items) == {"1", "2", "3"}
    assert withdrawn(items) == {"1.1.2"}
    assert [(one.series_instance_uid, one.sop_instance_uid) for one in instances(items, withdrawn(items))] == [("1.1", "1.1.1")]


def test_older_versions_make_room_for_a_report_that_stands() -> None:
    def pdf(sop: int, title: str, number: int) -> Instance:
        attributes = {"00080023": {"vr": "DA", "Value": [f"2026{sop:04}"]}, "00200013": {"vr": "IS", "Value": [number]}}
        attributes["00420010"] = {"vr": "ST", "Value": [title]}
        data = {"class": "1.2.840.10008.5.1.4.1.1.104.1", "attributes": packed(attributes)}
        return Instance("1.2.3", f"1.2.3.{sop}", data)

    listed = reports([pdf(0, "Torace", 1), *(pdf(n, "Encefalo", n) for n in range(1, 300))])
    assert [one["version"] for one in listed[:3]] == [299, 298, 297]
    assert (len(listed), listed[-1]["title"]) == (200, "Torace")
    assert [one["title"] for one in listed if one["newest"]] == ["Encefalo", "Torace"]
