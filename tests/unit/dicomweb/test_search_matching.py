"""Which entities a search finds, and which index may look for them (PS3.4 C.2.2.2, PS3.18 8.3.4)."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chalicelib.dicomweb import person_names
from chalicelib.dicomweb.matching import matches_element, parse_match
from chalicelib.dicomweb.qido import Attributes, Query, SearchScope, matches, parse_query
from chalicelib.dicomweb.search_attributes import ATTRIBUTES, RETURNED_ONLY, Level
from chalicelib.dicomweb.search_plan import (
    ByAccession,
    ByDate,
    ByModality,
    ByName,
    ByPatient,
    ByStudy,
    Everything,
    selective_key,
)


def query(text: str, level: Level = "study", scope: SearchScope | None = None) -> Query:
    return parse_query(level, parse_qsl(text, keep_blank_values=True), scope)


def entity(**values: Any) -> Attributes:
    tags = {row.keyword: row for row in ATTRIBUTES.values()}
    return {tags[k].tag: {"vr": tags[k].vr, "Value": v if isinstance(v, list) else [v]} for k, v in values.items()}


def found(text: str, level: Level = "study", **values: Any) -> bool:
    return matches(query(text, level), entity(**values))


STUDY = entity(
    StudyDate="20200115",
    StudyTime="103015.5",
    AccessionNumber="A-1",
    ModalitiesInStudy=["CT", "SR"],
    PatientName={"Alphabetic": "Nicolò^Mario Andrea"},
    PatientID="P-77",
    StudyInstanceUID="1.2.3",
    StudyDescription="CHEST, PA",
    NumberOfStudyRelatedInstances=3,
)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", True),
        ("PatientID=P-77", True),
        ("PatientID=p-77", False),
        ("PatientID=P-7", False),
        ("PatientID=P-7*", True),
        ("PatientID=?-77", True),
        ("PatientID=%20P-77%20", True),
        ("StudyInstanceUID=1.2.3", True),
        ("StudyInstanceUID=1.2.4,1.2.3", True),
        ("StudyInstanceUID=1.2", False),
        ("ModalitiesInStudy=CT", True),
        ("ModalitiesInStudy=MR", False),
        ("ModalitiesInStudy=MR%5CCT", True),
        ("ModalitiesInStudy=MR%5CCT&multiplevaluematching=true", False),
        ("ModalitiesInStudy=SR%5CCT&multiplevaluematching=true", True),
        ("StudyDescription=chest*", False),
        ("StudyDescription=*,%20PA", True),
        ("StudyDate=20200115", True),
        ("StudyDate=20200101-20200131", True),
        ("StudyDate=20200115-20200115", True),
        ("StudyDate=20200116-", False),
        ("StudyDate=-20200115", True),
        ("StudyTime=10", True),
        ("StudyTime=1030", True),
        ("StudyTime=103015", True),
        ("StudyTime=103016-", False),
        ("StudyTime=-103015", True),
        ("StudyDate=20200114-20200116&StudyTime=2300-0100", True),
        ("StudyDate=20200115-20200116&StudyTime=1100-0900", False),
        ("StudyDate=20200115&StudyTime=1000-1100", True),
        ("StudyDate=-20200115&StudyTime=-1000", False),
        ("StudyDate=-20200116&StudyTime=-1000", True),
        ("NumberOfStudyRelatedInstances=03", True),
        ("PatientName=NICOL%C3%92^MARIO%20ANDREA", True),
        ("PatientName=NICOLO^MARIO%20ANDREA", False),
        ("PatientName=nicol*", True),
        ("PatientName=nicol*&PatientID=P-78", False),
        ("PatientName=mario*", False),
        ("PatientName=NICOL%C3%92", False),
        ("PatientName=nicolo&fuzzymatching=true", True),
        ("PatientName=mario%20nico&fuzzymatching=true", True),
        ("PatientName=andrea&fuzzymatching=true", True),
        ("PatientName=andreas&fuzzymatching=true", False),
        ("PatientName=*ario&fuzzymatching=true", True),
        ("PatientName=mario%20mario&fuzzymatching=true", False),
        ("ReferringPhysicianName=Bianchi", False),
        ("ReferringPhysicianName=*", True),
        ('ReferringPhysicianName=""&emptyvaluematching=true', True),
        ('AccessionNumber=""&emptyvaluematching=true', False),
        ("StudyID=", True),
    ],
)
def test_a_study_is_found_by_each_kind_of_matching(written: str, expected: bool) -> None:
    assert matches(query(written), STUDY) is expected


def test_the_key_without_groups_is_compared_with_the_group_of_its_script() -> None:
    name = {"Alphabetic": "YAMADA^TARO", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}
    assert found("PatientName=yamada*", PatientName=name)
    assert found("PatientName=山田*", PatientName=name)
    assert found("PatientName=やまだ^*", PatientName=name)
    assert found("PatientName=*%3D山田^太郎", PatientName=name)
    assert not found("PatientName=*%3D山本*", PatientName=name)
    assert found("PatientName=%3D%3Dやまだ^たろう", PatientName=name)


def test_blanks_and_trailing_delimiters_of_a_name_mean_nothing() -> None:
    assert found("PatientName=ROSSI^MARIO", PatientName={"Alphabetic": "Rossi ^ Mario^^^ "})
    assert found("PatientName=ROSSI^MARIO^^", PatientName={"Alphabetic": "Rossi^Mario"})
    assert found("PatientName=ROSSI^*", PatientName={"Alphabetic": "Rossi"})


def test_a_name_with_german_and_nordic_letters_is_found_without_them() -> None:
    for key in ("strass", "sorensen", "lukasz"):
        name = {"Alphabetic": "Straße Sørensen^Łukasz"}
        assert found(f"PatientName={key}&fuzzymatching=true", PatientName=name)


def test_keys_in_one_sequence_have_to_match_in_one_of_its_items() -> None:
    items = [
        {"00400009": {"vr": "SH", "Value": ["S1"]}, "00401001": {"vr": "SH", "Value": ["R1"]}},
        {"00400009": {"vr": "SH", "Value": ["S2"]}, "00401001": {"vr": "SH", "Value": ["R2"]}},
    ]
    for text, expected in (
        ("00400275.00400009=S1&00400275.00401001=R1", True),
        ("00400275.00400009=S1&00400275.00401001=R2", False),
        ("RequestAttributesSequence.00401001=R*", True),
        ('00400275.00400009=""&emptyvaluematching=true', False),
    ):
        assert found(text, "series", RequestAttributesSequence=items) is expected
    assert not found("00400275.00400009=S1", "series")
    assert found('00400275.00400009=""&emptyvaluematching=true', "series")


def test_numbers_written_as_text_are_numbers() -> None:
    assert found("SeriesNumber=1", "series", SeriesNumber="01")
    assert not found("SeriesNumber=1", "series", SeriesNumber="one")


def test_a_study_can_be_ruled_out_before_its_series_are_read() -> None:
    search = query("PatientID=P-77&Modality=MR", "series")
    assert matches(search, STUDY, "study")
    assert not matches(search, entity(Modality="CT"), "series")


def test_a_stored_value_that_is_no_date_is_not_found_by_date() -> None:
    assert not found("StudyDate=19000101-", StudyDate="yesterday")
    assert not found("StudyDate=19000101-&StudyTime=00-", StudyTime="10")
    assert found("StudyDate=20200101-20200131&StudyTime=00-23", StudyDate="20200101")


def test_a_datetime_with_an_offset_is_compared_in_utc() -> None:
    match = parse_match("DT", "20200115083015")
    assert matches_element(match, {"vr": "DT", "Value": ["20200115103015+0200"]})


def test_wild_cards_take_linear_work() -> None:
    text = "a" * 1000
    assert not person_names.glob("*a" * 500 + "b", text)


@given(st.text(alphabet="ab*?", max_size=8), st.text(alphabet="ab", max_size=8))
def test_wild_cards_mean_what_the_standard_says(pattern: str, text: str) -> None:
    def slow(p: str, t: str) -> bool:
        if not p:
            return not t
        if p[0] == "*":
            return slow(p[1:], t) or (bool(t) and slow(p, t[1:]))
        return bool(t) and p[0] in ("?", t[0]) and slow(p[1:], t[1:])

    assert person_names.glob(pattern, text) is slow(pattern, text)


NAMES = st.text(alphabet="aAbßØòÒòłſİı ^-'x山", min_size=1, max_size=10)


@given(NAMES, NAMES, st.sampled_from(["", "*", "^*", "?"]))
def test_what_matches_literally_matches_fuzzily_and_lies_under_the_prefix(name: str, start: str, wildcard: str) -> None:
    assume(person_names.tidy(name))
    value = {"Alphabetic": name}
    text = start + wildcard
    literal = parse_query("study", [("PatientName", text)])
    fuzzy = parse_query("study", [("PatientName", text), ("fuzzymatching", "true")])
    if not matches(literal, entity(PatientName=value)):
        return
    assert matches(fuzzy, entity(PatientName=value))
    plan = selective_key(literal)
    if isinstance(plan, ByName):
        assert person_names.name_key(value).startswith(plan.prefix)


@given(NAMES, st.integers(0, 10))
def test_every_beginning_of_a_name_finds_it_through_the_index(name: str, length: int) -> None:
    start = person_names.tidy(name)[:length]
    assume(start.strip("^ "))
    assume("*" not in start and "?" not in start)
    value = {"Alphabetic": name}
    search = parse_query("study", [("PatientName", start + "*")])
    plan = selective_key(search)
    if isinstance(plan, ByName) and matches(search, entity(PatientName=value)):
        assert person_names.name_key(value).startswith(plan.prefix)


@given(st.one_of(st.none(), st.text(), st.lists(st.integers()), st.dictionaries(st.text(), st.text())))
def test_any_stored_value_is_compared_without_harm(value: object) -> None:
    for tag, row in ATTRIBUTES.items():
        if row.vr == "SQ" or tag in RETURNED_ONLY:
            continue
        sample = {"DA": "20200101-", "TM": "10", "DT": "2020", "UI": "1.2", "AS": "018Y"}.get(row.vr, "1")
        search = parse_query("instance", [(tag, sample)])
        assert matches(search, {tag: {"vr": row.vr, "Value": [value]}}) in (True, False)
        assert not matches(search, {tag: {"vr": row.vr}})


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", Everything()),
        ("limit=101&offset=0&fuzzymatching=false", Everything()),
        ("StudyInstanceUID=1.3,1.2&PatientID=7", ByStudy(("1.2", "1.3"))),
        ("AccessionNumber=A1&PatientID=7", ByAccession("A1")),
        ("PatientID=7&StudyDate=20200101", ByPatient("7")),
        ("PatientID=7*&StudyDate=20200101", ByDate("20200101", "20200101")),
        ("PatientID=*7*", Everything()),
        ("PatientID=*", Everything()),
        ("PatientName=Nicolò^M*", ByName("NICOLO^M")),
        ("PatientName=ROSSI^MARIO^ANNA*", ByName("ROSSI^MARIO")),
        ("PatientName=ROSSI^*", ByName("ROSSI")),
        ("PatientName=R?SSI", ByName("R")),
        ("PatientName=Ro*&StudyDate=20200101-", ByDate("20200101", None)),
        ("PatientName=Ros*&StudyDate=20200101-", ByName("ROS")),
        ("PatientName=*rossi*", Everything()),
        ("PatientName=rossi&fuzzymatching=true", Everything()),
        ("PatientName=山田*", Everything()),
        ("PatientName=ROSSI%3DX", Everything()),
        ("StudyDate=20200101-20200131", ByDate("20200101", "20200131")),
        ("StudyDate=20200101-20200131&StudyTime=10-12", ByDate("20200101", "20200131")),
        ("ModalitiesInStudy=CT", ByModality(("CT",), None, None)),
        ("ModalitiesInStudy=CT%5CMR&StudyDate=20200101-", ByModality(("CT", "MR"), "20200101", None)),
        ("ModalitiesInStudy=C*&StudyDate=20200101-", ByDate("20200101", None)),
        ("ModalitiesInStudy=CT&PatientID=7", ByPatient("7")),
        ("ModalitiesInStudy=" + "%5C".join(f"M{number}" for number in range(11)), Everything()),
    ],
)
def test_the_plan_takes_the_most_selective_key(written: str, expected: object) -> None:
    assert selective_key(query(written)) == expected


def test_the_modality_of_a_series_finds_its_studies() -> None:
    assert selective_key(query("Modality=CT", "series")) == ByModality(("CT",), None, None)
    assert selective_key(query("Modality=CT&ModalitiesInStudy=MR", "series")) == ByModality(("MR",), None, None)


def test_a_study_in_the_path_is_the_plan() -> None:
    assert selective_key(query("PatientID=7", "series", SearchScope("1.2.3"))) == ByStudy(("1.2.3",))
