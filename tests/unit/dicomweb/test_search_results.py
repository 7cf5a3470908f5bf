"""What a search returns of each match (PS3.18 10.6.3.3)."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import pytest

from chalicelib.dicomweb.qido import Query, SearchScope, parse_query
from chalicelib.dicomweb.search_attributes import Level
from chalicelib.dicomweb.search_results import page, project, remaining_text, warning_header

STUDY_REQUIRED = {
    "00080020",
    "00080030",
    "00080050",
    "00080056",
    "00080061",
    "00080090",
    "00100010",
    "00100020",
    "00100030",
    "00100040",
    "0020000D",
    "00200010",
    "00201206",
    "00201208",
}
SERIES_REQUIRED = {"00080060", "0020000E", "00200011", "00201209"}
INSTANCE_REQUIRED = {"00080016", "00080018", "00080056", "00200013"}


def query(text: str, level: Level = "study", scope: SearchScope | None = None) -> Query:
    return parse_query(level, parse_qsl(text, keep_blank_values=True), scope)


def value(vr: str, *values: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)}


def test_a_study_has_every_required_attribute_even_if_unknown() -> None:
    result = project(query(""), {"0020000D": value("UI", "1.2")})
    assert set(result) == STUDY_REQUIRED
    assert result["0020000D"] == {"vr": "UI", "Value": ["1.2"]}
    assert result["00100010"] == {"vr": "PN"}
    assert result["00080056"] == {"vr": "CS", "Value": ["ONLINE"]}
    assert list(result) == sorted(result)


def test_conditional_attributes_are_there_when_known() -> None:
    known = {"00081190": value("UR", "https://x/studies/1.2"), "00080201": value("SH", "+0100")}
    assert set(project(query(""), known)) == STUDY_REQUIRED | set(known)


def test_optional_attributes_are_there_when_asked_for() -> None:
    known = {"00081030": value("LO", "CHEST"), "00101010": value("AS", "040Y")}
    assert "00081030" not in project(query(""), known)
    assert project(query("includefield=StudyDescription"), known)["00081030"] == known["00081030"]
    assert project(query("StudyDescription="), known)["00081030"] == known["00081030"]
    assert set(project(query("includefield=all"), known)) == STUDY_REQUIRED | set(known)
    assert project(query("includefield=00081030"), {})["00081030"] == {"vr": "LO"}


def test_attributes_of_entities_below_are_never_returned() -> None:
    known = {"00080060": value("CS", "CT"), "00080018": value("UI", "1.2.3")}
    assert set(project(query("includefield=00080060,00080018"), known)) == STUDY_REQUIRED
    assert set(project(query("includefield=all"), known)) == STUDY_REQUIRED


@pytest.mark.parametrize(
    ("level", "scope", "expected"),
    [
        ("series", SearchScope("1.2"), SERIES_REQUIRED | {"0020000D"}),
        ("series", SearchScope(), SERIES_REQUIRED | STUDY_REQUIRED),
        ("instance", SearchScope("1.2", "1.3"), INSTANCE_REQUIRED | {"0020000D", "0020000E"}),
        ("instance", SearchScope("1.2"), INSTANCE_REQUIRED | SERIES_REQUIRED | {"0020000D"}),
        ("instance", SearchScope(), INSTANCE_REQUIRED | SERIES_REQUIRED | STUDY_REQUIRED),
    ],
)
def test_a_result_has_what_is_required_of_entities_that_the_path_leaves_open_and_all_unique_keys(
    level: Level, scope: SearchScope, expected: set[str]
) -> None:
    assert set(project(query("", level, scope), {})) == expected


def test_a_series_returns_study_attributes_that_were_asked_for() -> None:
    known = {"00081030": value("LO", "CHEST"), "0008103E": value("LO", "PA")}
    result = project(query("includefield=00081030", "series", SearchScope("1.2")), known)
    assert set(result) == SERIES_REQUIRED | {"0020000D", "00081030", "0008103E"}


def test_request_attributes_have_their_two_required_attributes_in_each_item() -> None:
    items = [{"00400009": value("SH", "S1"), "00400007": value("LO", "text")}, {}]
    result = project(query("", "series", SearchScope("1.2")), {"00400275": value("SQ", *items)})
    assert [set(item) for item in result["00400275"]["Value"]] == [
        {"00400007", "00400009", "00401001"},
        {"00400009", "00401001"},
    ]


def test_of_a_sequence_asked_for_by_paths_only_those_attributes_are_returned() -> None:
    item = {"00080100": value("SH", "C"), "00080102": value("SH", "L"), "00080104": value("LO", "meaning")}
    result = project(
        query("includefield=0040A043.00080100,ConceptNameCodeSequence.CodeMeaning", "instance"),
        {"0040A043": value("SQ", item, item)},
    )
    assert result["0040A043"] == value("SQ", *[{"00080100": item["00080100"], "00080104": item["00080104"]}] * 2)
    whole = project(query("includefield=0040A043.00080100,0040A043", "instance"), {"0040A043": value("SQ", item)})
    assert whole["0040A043"] == value("SQ", item)


def test_what_has_no_table_is_returned_where_it_is_known() -> None:
    spacing = value("DS", 0.5, 0.5)
    search = query("includefield=PixelSpacing", "instance", SearchScope("1.2", "1.3"))
    assert project(search, {"00280030": spacing})["00280030"] == spacing
    assert "00280030" not in project(search, {})


def test_a_time_that_became_part_of_a_range_is_still_returned() -> None:
    known = {"00400245": value("TM", "10"), "00400244": value("DA", "20200101")}
    search = query("00400244=20200101-20200102&00400245=10-11", "series", SearchScope("1.2"))
    assert {"00400244", "00400245"} <= set(project(search, known))


def test_projecting_leaves_the_entity_as_it_was() -> None:
    known = {"00400275": value("SQ", {"00400009": value("SH", "S1")})}
    project(query("includefield=00400275.00401001", "series"), known)
    assert known == {"00400275": value("SQ", {"00400009": value("SH", "S1")})}


def test_pages_follow_one_another_until_an_empty_one() -> None:
    found = list(range(25))
    seen: list[int] = []
    for offset in range(0, 40, 10):
        results, remaining = page(query(f"limit=10&offset={offset}"), found)
        seen += results
        assert remaining == max(0, 25 - offset - 10)
    assert seen == found
    assert page(query("limit=0"), found) == ([], 25)


def test_the_warning_has_the_words_of_the_standard() -> None:
    service = "https://archive.example/prod/dicomweb"
    assert warning_header(service, []) is None
    assert warning_header(service, [remaining_text(7), "b"]) == (
        f"299 {service}: There are 7 additional results that can be requested, 299 {service}: b"
    )
    assert remaining_text(None) == "There are additional results that can be requested"
