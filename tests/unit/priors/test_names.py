"""Names of examinations as Italian, English, French and German systems write them, and which prior is relevant.

The floors may only rise: what a change to the table breaks elsewhere shows here.
"""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain import places, priors, procedures
from chalicelib.domain.priors import Exam
from chalicelib.domain.procedures import Procedure, understand
from chalicelib.domain.timelines import TimelineStudy

NAMES = list(csv.DictReader((Path(__file__).parent / "names.tsv").read_text("utf-8").splitlines(), delimiter="\t"))
REGIONS_FLOOR, SIDES_FLOOR = 0.99, 0.99


def modality(name: str) -> tuple[str, ...]:
    return ("PT",) if name.startswith("PET") else ()


def test_the_names_say_their_places_and_sides() -> None:
    read = [(row, understand(row["description"], "", modality(row["description"]))) for row in NAMES]
    wrong = [row["description"] for row, found in read if not exact(row["regions"], found)]
    other_side = [row["description"] for row, found in read if row["side"] != found.side]
    assert len(wrong) <= (1 - REGIONS_FLOOR) * len(NAMES), wrong
    assert len(other_side) <= (1 - SIDES_FLOOR) * len(NAMES), other_side


def exact(wanted: str, found: Procedure) -> bool:
    """An examination of the abdomen may show the pelvis too."""
    return found.regions == set(wanted.split()) or (wanted == "abdomen" and found.regions == {"abdomen", "pelvis"})


def at(description: str, modality: str = "DX", date: str = "20260101", uid: str = "1.1", **more: Any) -> Exam:
    return priors.exam(TimelineStudy(uid, "san-matteo", date, modalities=(modality,), description=description, **more))


CASES = [
    # current, modality, candidates in the order wanted (relevant ones), candidates that are not relevant
    (("TC ENCEFALO SMDC", "CT"), [], [("RX TORACE", "DX"), ("TC COLLO", "CT"), ("RM RACHIDE CERVICALE", "MR")]),
    (("RX GOMITO SX", "DX"), [("RX GOMITO SX", "DX"), ("RX GOMITO DX", "DX")], [("RX POLSO SX", "DX"), ("RX SPALLA SX", "DX")]),
    (("RM ADDOME SUP", "MR"), [("RM FEGATO", "MR"), ("TC ADDOME COMPLETO", "CT"), ("ECO EPATICA", "US")], [("RM PELVI", "MR")]),
    (("TC TORACE ADD PELVI", "CT"), [("TC TAP", "CT"), ("TC TORACE-ADDOME", "CT"), ("TC TORACE", "CT")], [("TC ENCEFALO", "CT")]),
    (("RX ANCA DX", "DX"), [("RX ANCA DX", "DX"), ("RX BACINO", "DX")], [("RX GINOCCHIO DX", "DX")]),
    (("ECO TIROIDE", "US"), [("ECO COLLO", "US"), ("TC COLLO", "CT")], [("RX RACHIDE CERVICALE", "DX"), ("ECO MAMMARIA", "US")]),
    (("PET-TC TOTAL BODY", "PT"), [("PET-CT PSMA", "PT"), ("TC TORACE", "CT")], [("RM ENCEFALO", "MR"), ("RX MANO", "DX")]),
    (("ECO RENI E VESCICA", "US"), [("ECO APPARATO URINARIO", "US"), ("URO-TC", "CT")], [("ECO MAMMELLA", "US")]),
    (("TC SENI PARANASALI", "CT"), [("TC SENI PARANASALI", "CT"), ("TC MASSICCIO FACCIALE", "CT")], [("RM SENI CON MDC", "MR")]),
    (("RX TORACE", "DX"), [("RX TORACE", "DX"), ("HRCT", "CT")], [("ECG", "ECG"), ("Lettera RX TORACE", "DOC"), ("ESAME", "DX")]),
]  # fmt: skip


@pytest.mark.parametrize(("current", "relevant", "never"), CASES, ids=[case[0][0] for case in CASES])
def test_the_relevant_ones_come_in_order_and_no_other_is_relevant(
    current: tuple[str, str], relevant: list[tuple[str, str]], never: list[tuple[str, str]]
) -> None:
    others = [at(*exam, "20250601", f"1.{number}") for number, exam in enumerate(relevant)]
    others += [at(*exam, "20260228", f"2.{number}") for number, exam in enumerate(never)]
    ranked = priors.rank(at(*current, "20260301", "9"), others[::-1])
    assert [prior.exam.study_instance_uid for prior in ranked if prior.relevant] == [f"1.{n}" for n in range(len(relevant))]
    assert {prior.exam.study_instance_uid for prior in ranked if not prior.relevant} == {f"2.{n}" for n in range(len(never))}


def test_what_is_not_understood_is_an_answer_of_its_own_and_never_relevant() -> None:
    ranked = priors.rank(at("ESAME", "DX", "20260301", "9"), [at("ESAME", uid="1"), at("RX TORACE", uid="2")])
    assert not any(prior.relevant for prior in ranked)
    assert all("region-not-recognised" in prior.reasons for prior in ranked)


def test_evidence_is_taken_in_order_and_not_added_up() -> None:
    assert understand("RX GINOCCHIO DX", "CHEST", ("DX",)).regions == {"knee"}
    assert understand("RX GINOCCHIO", "", ("DX",), codes=("SCT|39607008",)) == Procedure(
        frozenset({"chest"}), frozenset({"radiography"}), evidence="code"
    )
    assert understand("Studio", "", ("CT",), series=("Torace 1.0", "Topogramma")).evidence == "series"
    assert understand("Studio", "HEAD", ("CT",), body_parts=("NECK",)).regions == {"head", "neck"}
    assert understand("Studio", "", ("MG", "SR")) == Procedure(
        frozenset({"breast"}), frozenset({"mammography"}), evidence="modality"
    )
    assert understand("Studio", "", ("CT",)).evidence == ""


def test_every_defined_term_of_the_standard_has_its_places_and_code() -> None:
    terms = procedures.body_parts()
    assert len(terms) == 317
    assert terms["CHESTABDPELVIS"] == {"chest", "abdomen", "pelvis"}
    assert understand("", "C SPINE", ("DX",)).regions == understand("", "CSPINE", ("DX",)).regions == {"cervical-spine"}
    assert {place for named in terms.values() for place in named} <= places.ABOVE.keys()


def test_a_hospital_adds_phrases_of_its_own() -> None:
    own = procedures.vocabulary([("protocollo lago", ["knee"]), ("torace pronto", ["chest"])], {"99SM|0815": ["hand"]})
    assert understand("Protocollo LAGO sx", "", ("MR",), own=own).regions == {"knee"}
    assert understand("X", "", ("DX",), codes=("99SM|0815",), own=own).regions == {"hand"}
    with pytest.raises(ValueError, match="no such place"):
        procedures.vocabulary([("x", ["nowhere"])])


def test_two_hundred_exams_are_ranked_in_twenty_milliseconds() -> None:
    procedures.standard()
    names = [row["description"] for row in NAMES] * 2
    spent = []
    for attempt in range(3):
        exams = [at(f"{name} {attempt}", uid=f"1.{number}") for number, name in enumerate(names[:200])]
        begun = time.process_time()
        priors.rank(exams[0], exams)
        spent.append(time.process_time() - begun)
    assert min(spent) < 0.02


@given(st.text(max_size=600))
def test_a_name_of_any_length_is_read_within_bounds(name: str) -> None:
    assert len(procedures.tokens(name)) <= 400


@given(st.sampled_from(sorted(places.ABOVE)), st.sampled_from(sorted(places.ABOVE)))
def test_lying_above_or_below_is_mutual(one: str, other: str) -> None:
    assert places.meets(one, other) == places.meets(other, one)
    assert places.meets(one, one)
