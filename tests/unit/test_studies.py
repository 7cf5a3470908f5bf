"""What a study's instances add up to, whatever order they came in."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain.dicom_json import first_value
from chalicelib.domain.ports import Item
from chalicelib.domain.studies import Instance, announced, for_deciding, instances, packed, report_of, unpacked, withdrawn
from chalicelib.domain.study_totals import FORM, MAX_NUMBERS, Tally, Totals, total
from chalicelib.domain.study_views import StudyView
from chalicelib.domain.summaries import list_reports, summarise

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
        found.append(Instance.from_item(f"1.{draw(st.integers(1, 3))}", f"1.9.{number}", data))
    return found


def summary_of(totals: Totals) -> StudyView:
    """The summary of a study of which nothing was withdrawn."""
    tally = Tally(totals.study, series=len(totals.series))
    return summarise("a", "1", tally, list_reports(totals.reports.values()))


@given(found=studies(), parts=st.integers(1, 4), seed=st.integers())
def test_neither_order_nor_grouping_in_which_instances_came_makes_a_difference(
    found: list[Instance], parts: int, seed: int
) -> None:
    dice = random.Random(seed)
    batches: list[list[Instance]] = [[] for _ in range(parts)]
    for instance in dice.sample(found, len(found)):
        dice.choice(batches).append(instance)
    added = [total(batch) for batch in batches]
    while len(added) > 1:
        first, second = (added.pop(dice.randrange(len(added))) for _ in range(2))
        added.append(first + second)
    assert added[0] == total(found)
    assert summary_of(added[0]) == summary_of(total(found))


def test_totals_of_other_fields_have_another_form() -> None:
    """What an earlier release kept is counted anew, and not added to: whoever changes what is kept changes `FORM` too."""
    image = {"sha256": "0" * 64, "size": 1, "at": "2026-03-01", "class": "1.2", "attributes": {"00080060": ["CS", "CT"]}}
    kept = total([Instance.from_item("1.1", "1.2", image | {"patient": {"issuer": "2.16", "id": "P"}})]).to_item()
    fields = sorted(kept), sorted(kept["study"]), sorted(kept["study"]["said"][0]), sorted(kept["series"]["1.1"])
    text = json.dumps([*fields, sorted(Tally().to_item())])
    assert (FORM, hashlib.sha256(text.encode()).hexdigest()[:16]) == (3, "2c1dd93f71351f60")


@given(found=studies())
def test_totals_come_back_as_they_were_kept(found: list[Instance]) -> None:
    totals = total(found)
    assert Totals.from_item(json.loads(json.dumps(totals.to_item()))) == totals
    tally = Tally(
        totals.study, total(found[:2]).study, 3, tuple(totals.study.said), True, True, {"E#0": ("0f" * 8, "f0" * 8)}, ("E#1",)
    )
    assert Tally.from_item(json.loads(json.dumps(tally.to_item()))) == tally


@pytest.mark.parametrize("seed", range(5))
def test_more_patients_than_are_told_apart_make_a_study_nobodys_and_no_item_too_large(seed: int) -> None:
    def slice_of(number: int) -> Instance:
        said = {"00100020": {"vr": "LO", "Value": [f"P{number}"]}, "0020000D": {"vr": "UI", "Value": ["1"]}}
        data = {"sha256": f"{number:064x}", "size": 1, "at": "2026-03-01", "class": "1.2", "attributes": packed(said)}
        return Instance.from_item("1.1", f"1.9.{number:04}", data | {"patient": {"issuer": "2.16", "id": f"P{number}"}})

    found = [slice_of(number) for number in range(2 * MAX_NUMBERS)]
    random.Random(seed).shuffle(found)
    added = Totals()
    for start in range(0, len(found), 7):
        added += total(found[start : start + 7])
    assert added == total(found)
    assert len(summary_of(added).patients) == MAX_NUMBERS
    assert for_deciding(summary_of(added)).patients == ()
    assert added.study.firsts.place == "1.1#1.9.0000"


@given(found=studies())
def test_what_is_counted_is_what_is_there(found: list[Instance]) -> None:
    summary = summary_of(total(found))
    assert summary.instances == len(found) == sum(series.instances for series in total(found).series.values())
    assert summary.size == sum(instance.fact.size for instance in found)
    dates = [date for instance in found if (date := first_value(instance.attributes, "00080020"))]
    assert summary.study_date == min(dates, default="")
    assert StudyView.from_item(json.loads(json.dumps(summary.to_item()))) == summary


@given(found=studies())
def test_a_study_with_an_instance_of_nobody_is_shared_with_nobody(found: list[Instance]) -> None:
    known = {instance.fact.patient.value for instance in found if instance.fact.patient}
    shareable = for_deciding(summary_of(total(found))).patients
    assert len(shareable) == (len(known) if all(instance.fact.patient for instance in found) else 0)


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
    assert [(instance.series_instance_uid, instance.sop_instance_uid) for instance in instances(items, withdrawn(items))] == [
        ("1.1", "1.1.1")
    ]


def test_older_versions_make_room_for_a_report_that_stands() -> None:
    def pdf(sop: int, title: str, number: int) -> Instance:
        attributes = {"00080023": {"vr": "DA", "Value": [f"2026{sop:04}"]}, "00200013": {"vr": "IS", "Value": [number]}}
        attributes["00420010"] = {"vr": "ST", "Value": [title]}
        data = {"class": "1.2.840.10008.5.1.4.1.1.104.1", "attributes": packed(attributes)}
        return Instance.from_item("1.2.3", f"1.2.3.{sop}", data)

    listed = list_reports(map(report_of, [pdf(0, "Torace", 1), *(pdf(n, "Encefalo", n) for n in range(1, 300))]))
    assert [report.version for report in listed[:3]] == [299, 298, 297]
    assert (len(listed), listed[-1].title) == (200, "Torace")
    assert [report.title for report in listed if report.newest] == ["Encefalo", "Torace"]
