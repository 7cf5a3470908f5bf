"""The prior that a radiologist would take out of the drawer comes first, and the page can say why."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain import priors, procedures
from chalicelib.domain.priors import Exam
from chalicelib.domain.timelines import TimelineStudy


def exam(description: str, modality: str, date: str = "20260101", owner: str = "san-matteo", **more: Any) -> Exam:
    uid = more.pop("uid", f"1.{abs(hash((description, modality, date, owner))) % 10**9}")
    return priors.exam(TimelineStudy(uid, owner, date, modalities=(modality,), description=description, **more))


def best(current: Exam, *others: Exam) -> Exam:
    return priors.rank(current, list(others))[0].exam


@pytest.mark.parametrize(
    ("description", "region"),
    [
        ("RX TORACE PA", "chest"), ("Chest X-ray", "chest"), ("TC torace senza e con mdc", "chest"), ("CT THORAX W/O", "chest"),
        ("HRCT polmoni", "chest"), ("TC ENCEFALO SENZA MDC", "head"), ("RM cranio", "head"), ("MRI Brain", "head"),
        ("HEAD CT", "head"), ("ECOGRAFIA ADDOME COMPLETO", "abdomen"), ("US Abdomen", "abdomen"), ("Eco epatica", "abdomen"),
        ("RX BACINO", "pelvis"), ("RX ginocchio dx", "knee"), ("Knee left", "knee"),
        ("RM rachide lombosacrale", "lumbar-spine"),
        ("Mammografia bilaterale", "breast"), ("RX MANO SIN", "hand"), ("Ecocardiogramma", "heart"), ("RX anca", "hip"),
        ("PET-TC total-body", "whole-body"), ("RX spalla", "shoulder"), ("TC COLLO", "neck"),
    ],
)  # fmt: skip
def test_names_of_procedures_in_italian_and_english_say_the_region(description: str, region: str) -> None:
    assert region in procedures.understand(description, "", ()).regions


@pytest.mark.parametrize(
    ("description", "kind"),
    [
        ("RX TORACE", "radiography"), ("TC ADDOME", "ct"), ("TAC cranio", "ct"), ("RMN encefalo", "mr"),
        ("Risonanza ginocchio", "mr"),
        ("Ecografia tiroidea", "ultrasound"), ("Ecocolordoppler TSA", "ultrasound"), ("PET/CT", "pet"),
        ("Scintigrafia ossea", "nuclear"),
    ],
)  # fmt: skip
def test_names_of_procedures_say_the_kind_where_the_modality_does_not(description: str, kind: str) -> None:
    assert kind in procedures.understand(description, "", ("OT", "SR")).kinds


def test_the_modality_decides_the_kind_and_reports_are_none() -> None:
    assert procedures.understand("RX TORACE", "", ("CT", "SR")).kinds == {"ct"}


@pytest.mark.parametrize(
    ("description", "side"),
    [
        ("RX GINOCCHIO DX", "right"), ("DX TORACE", ""), ("RX ginocchio sinistro", "left"), ("Left knee", "left"),
        ("RX ginocchia bilaterale", "both"), ("RX MANO DX E SIN", "both"), ("RX TORACE", ""),
    ],
)  # fmt: skip
def test_the_side_is_understood_and_dx_before_a_region_is_radiography(description: str, side: str) -> None:
    assert procedures.understand(description, "", ()).side == side


def test_the_laterality_of_the_images_wins_over_words() -> None:
    assert procedures.understand("RX ginocchio", "KNEE", ("DX",), "L").side == "left"


def test_accents_case_and_punctuation_do_not_matter() -> None:
    assert procedures.understand("rx  TORACE_pa (2 proiezioni)", "", ()).regions == {"chest"}
    assert "abdomen" in procedures.understand("ADDÒME", "", ()).regions


def test_same_region_and_modality_beats_a_newer_exam_of_something_else() -> None:
    current = exam("RX TORACE PA", "CR", "20260310", "maugeri")
    old_chest, new_head = exam("Chest X-ray", "DX", "20240101"), exam("TC ENCEFALO", "CT", "20260309")
    assert best(current, new_head, old_chest) == old_chest


def test_same_region_by_another_modality_beats_same_modality_of_another_region() -> None:
    current = exam("TC TORACE", "CT", "20260310")
    assert best(current, exam("TC ENCEFALO", "CT"), exam("RX TORACE", "CR")).procedure.regions == {"chest"}


def test_of_equals_the_newer_one_wins_and_the_same_side_before_that() -> None:
    current = exam("RX GINOCCHIO DX", "DX", "20260310")
    left, right = exam("RX GINOCCHIO SIN", "DX", "20260309"), exam("RX GINOCCHIO DX", "DX", "20240101")
    assert best(current, left, right) == right
    older = exam("RX GINOCCHIO DX", "DX", "20230101")
    assert [prior.exam for prior in priors.rank(current, [older, left, right])] == [right, older, left]


def test_a_tie_goes_to_the_other_hospital() -> None:
    current = exam("RX TORACE", "CR", "20260310", "maugeri")
    ours, theirs = exam("RX TORACE", "CR", "20260301", "maugeri", uid="1.1"), exam("RX TORACE", "CR", "20260301", uid="1.2")
    assert best(current, ours, theirs) == theirs


def test_later_exams_and_the_exam_itself_are_no_priors() -> None:
    current = exam("RX TORACE", "CR", "20260310", study_time="100000")
    later = exam("RX TORACE", "CR", "20260310", study_time="110000", uid="1.5")
    earlier = exam("RX TORACE", "CR", "20260310", study_time="090000", uid="1.6")
    undated = exam("RX TORACE", "CR", "", uid="1.7")
    assert [prior.exam for prior in priors.rank(current, [current, later, undated, earlier])] == [earlier, undated]


def test_reasons_come_with_both_languages() -> None:
    current = exam("RX TORACE", "CR", "20260310", "maugeri")
    (prior,) = priors.rank(current, [exam("Chest PA", "DX", "20260305")])
    assert prior.reasons == ("same-region", "same-modality", "within-a-week", "other-hospital")
    assert all(reason["it"] and reason["en"] and reason["it"] != reason["en"] for reason in priors.reasons(prior.reasons))


@given(st.randoms(use_true_random=False))
def test_the_ranking_does_not_depend_on_the_order_of_the_timeline(order: random.Random) -> None:
    current = exam("RX TORACE", "CR", "20260310")
    others = [exam("RX TORACE", "CR", f"202601{day:02d}", uid=f"1.{day}") for day in range(1, 9)] + [exam("TC ADDOME", "CT")]
    shuffled = order.sample(others, k=len(others))
    assert priors.rank(current, shuffled) == priors.rank(current, others)


@given(st.text(max_size=60), st.text(max_size=16), st.lists(st.text(max_size=4), max_size=3))
def test_any_text_is_understood_without_an_error(description: str, body_part: str, modalities: list[str]) -> None:
    procedures.understand(description, body_part, tuple(modalities))
