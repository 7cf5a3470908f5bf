"""The query component of a search, from text to a frozen Query (PS3.18 8.3.4, 10.6.1.2)."""

from __future__ import annotations

import subprocess
import sys
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.dicomweb.matching import Empty, Moments, Names, Numbers, Texts, Uids, Universal, parse_match
from chalicelib.dicomweb.qido import MAX_LIMIT, MAX_OFFSET, Query, SearchScope, parse_query
from chalicelib.dicomweb.range_matching import Range
from chalicelib.dicomweb.search_attributes import ATTRIBUTES, Level
from chalicelib.domain.attributes import ITEM_VRS
from chalicelib.domain.errors import BadRequest


def query(text: str, level: Level = "study", scope: SearchScope | None = None) -> Query:
    return parse_query(level, parse_qsl(text, keep_blank_values=True), scope)


def refused(text: str, level: Level = "study") -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        query(text, level)
    return caught.value


def test_tag_and_keyword_name_the_same_attribute() -> None:
    by_tag = query("00100020=11235813&00080020=20130509")
    assert by_tag == query("PatientID=11235813&StudyDate=20130509")
    assert by_tag.key("00100020").match == Texts(("11235813",))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("00400275.00400009", ("00400275", "00400009")),
        ("RequestAttributesSequence.ScheduledProcedureStepID", ("00400275", "00400009")),
        ("RequestAttributesSequence.00401001", ("00400275", "00401001")),
    ],
)
def test_an_attribute_in_a_sequence_is_named_by_its_path(written: str, path: tuple[str, ...]) -> None:
    found = query(f"{written}=X1", "series")
    assert [(k.path, k.match) for k in found.keys] == [(path, Texts(("X1",)))]


def test_three_levels_of_a_path_with_mixed_forms() -> None:
    found = query("OtherPatientIDsSequence.IssuerOfPatientIDQualifiersSequence.00400032=2.16.840")
    assert found.included == {("00101002", "00100024", "00400032")}


@pytest.mark.parametrize(
    "written",
    [
        "StudyInstanceUID=1.2,1.3",
        "StudyInstanceUID=1.2%5C1.3",
        "StudyInstanceUID=1.2&0020000D=1.3",
        "0020000d=1.3,1.2",
    ],
)
def test_a_list_of_uids_may_be_written_with_comma_backslash_or_repeats(written: str) -> None:
    assert query(written).keys[0].match == Uids(frozenset({"1.2", "1.3"}))


@pytest.mark.parametrize("written", ["PatientID=1&PatientID=2", "PatientID=1&00100020=1", "limit=1&limit=2"])
def test_any_other_parameter_given_twice_is_refused(written: str) -> None:
    assert refused(written).parameter in ("PatientID", "00100020", "limit")


def test_modalities_joined_by_a_comma_mean_one_of_them_and_with_multiplevaluematching_all() -> None:
    assert query("ModalitiesInStudy=CT%2CMR").keys[0].match == Texts(("CT", "MR"))
    assert query("ModalitiesInStudy=CT%5CMR&multiplevaluematching=true").keys[0].match == Texts(("CT", "MR"), True)


def test_a_comma_in_a_text_is_part_of_it() -> None:
    assert query("StudyDescription=CHEST%2C+PA").keys[0].match == Texts(("CHEST, PA",))


@pytest.mark.parametrize("value", ["", "*", "**", "%20"])
def test_an_empty_value_or_a_lone_star_matches_everything_and_asks_for_the_attribute(value: str) -> None:
    assert query(f"StudyDescription={value}").keys[0].match == Universal()
    assert query(f"StudyDate={value}").keys[0].match == Universal()


def test_two_quotation_marks_match_no_value_only_when_asked_for() -> None:
    assert query('AccessionNumber=""&emptyvaluematching=true').keys[0].match == Empty()
    assert query('AccessionNumber=""').keys[0].match == Texts(('""',))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("20200115", Range("20200115", "20200115")),
        ("2020.01.15", Range("20200115", "20200115")),
        ("20200101-20200131", Range("20200101", "20200131", True)),
        ("20200101-", Range("20200101", None, True)),
        ("-20200131", Range(None, "20200131", True)),
        (" 20200101 - 20200131 ", Range("20200101", "20200131", True)),
    ],
)
def test_dates_and_their_ranges(written: str, expected: Range) -> None:
    assert query(f"StudyDate={written}").keys[0].match == Moments("DA", expected)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("10", Range("100000000000", "105959999999")),
        ("1030", Range("103000000000", "103059999999")),
        ("10:30:15", Range("103015000000", "103015999999")),
        ("103015.25", Range("103015250000", "103015259999")),
        ("1030-12", Range("103000000000", "125959999999", True)),
        ("-235960", Range(None, "235960999999", True)),
    ],
)
def test_times_cover_what_they_leave_open(written: str, expected: Range) -> None:
    assert query(f"StudyTime={written}").keys[0].match == Moments("TM", expected)


@pytest.mark.parametrize(
    ("written", "first", "last"),
    [
        ("2020", "20200101000000000000", "20201231235959999999"),
        ("202002", "20200201000000000000", "20200229235959999999"),
        ("20200115", "20200115000000000000", "20200115235959999999"),
        ("2020011510", "20200115100000000000", "20200115105959999999"),
        ("20200115103015.5", "20200115103015500000", "20200115103015599999"),
        ("20200115103015+0200", "20200115083015000000", "20200115083015999999"),
        ("20200115-0500", "20200115050000000000", "20200116045959999999"),
        ("2000-2010", "20000101000000000000", "20101231235959999999"),
        ("20200115103015-0500-20200116", "20200115153015000000", "20200116235959999999"),
        ("20200115-20200116-0500", "20200115000000000000", "20200117045959999999"),
        ("20200115-", "20200115000000000000", None),
        ("-20200115103015+0100", None, "20200115093015999999"),
    ],
)
def test_datetimes_with_offsets_and_ranges(written: str, first: str | None, last: str | None) -> None:
    match = parse_match("DT", written)
    assert isinstance(match, Moments)
    assert (match.range.first, match.range.last) == (first, last)


def test_numbers_are_compared_by_value() -> None:
    plain, padded = query("SeriesNumber=1", "series"), query("SeriesNumber=01", "series")
    assert plain.keys[0].match == padded.keys[0].match
    assert isinstance(plain.keys[0].match, Numbers)


def test_names_keep_their_component_groups() -> None:
    assert query("PatientName=YAMADA^TARO%3D山田^太郎").keys[0].match == Names((("YAMADA^TARO", "山田^太郎"),), False)
    assert query("PatientName=Rossi^M*&fuzzymatching=true").keys[0].match == Names((("Rossi^M*",),), True)


@pytest.mark.parametrize(
    ("written", "parameter"),
    [
        ("StudyDate=2020-01-15", "StudyDate"),
        ("StudyDate=20200230", "StudyDate"),
        ("StudyDate=20200131-20200101", "StudyDate"),
        ("StudyDate=-", "StudyDate"),
        ("00080020=lastweek", "00080020"),
        ("StudyTime=2460", "StudyTime"),
        ("StudyInstanceUID=1.2.abc", "StudyInstanceUID"),
        ("StudyInstanceUID=1.2*", "StudyInstanceUID"),
        ("StudyInstanceUID=" + "1" * 65, "StudyInstanceUID"),
        ("StudyInstanceUID=" + ",".join(f"1.{n}" for n in range(101)), "StudyInstanceUID"),
        ("PatientID=" + "x" * 1025, "PatientID"),
        ("PatientID=a%00b", "PatientID"),
        ("PatientName=a%3Db%3Dc%3Dd", "PatientName"),
        ("PatientAge=18", "PatientAge"),
        ("NumberOfStudyRelatedSeries=1_0", "NumberOfStudyRelatedSeries"),
        ("NumberOfStudyRelatedInstances=two", "NumberOfStudyRelatedInstances"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("limit=1.5", "limit"),
        ("limit=%D9%A1", "limit"),
        ("offset=-1", "offset"),
        ("fuzzymatching=perhaps", "fuzzymatching"),
        ("emptyvaluematching=", "emptyvaluematching"),
        ("multiplevaluematching=1", "multiplevaluematching"),
        ("includefield=Study%20Date", "includefield"),
        ("includefield=0008003", "includefield"),
        ("Modality=CT", "Modality"),
        ("SOPInstanceUID=1.2", "SOPInstanceUID"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_name_of_the_parameter(written: str, parameter: str) -> None:
    error = refused(written)
    assert error.parameter == parameter
    assert parameter in error.detail


def test_an_error_never_repeats_the_value() -> None:
    assert "19991231-x" not in refused("PatientBirthDate=19991231-x").detail
    assert "ROSSI" not in refused("PatientName=ROSSI%3Da%3Db%3Dc%3Dd").detail


@pytest.mark.parametrize(
    ("written", "parameter"),
    [
        ("PatientName=M%FCller*", "PatientName"),
        ("00400275.00400009=%e9", "00400275.00400009"),
        ("includefield=%FF", "includefield"),
        ("owner=%C3%28", "owner"),
        ("foo=%FF", "foo"),
        ("Patient%FFName=x", None),
        ("a%0d%0ab=%FF", None),
    ],
)
def test_what_is_no_utf_8_is_refused_and_not_looked_for(written: str, parameter: str | None) -> None:
    assert refused(written).parameter == parameter
    assert query("PatientName=M%C3%BCller*").key("00100010") is not None


def test_more_parameters_or_includefields_than_allowed_are_refused() -> None:
    refused("&".join("PatientID=1" for _ in range(101)))
    assert refused("includefield=" + ",".join(["00100020"] * 301)).parameter == "includefield"


def test_an_unknown_parameter_is_ignored_with_a_warning() -> None:
    found = query("foo=1&PatientID=7")
    assert [k.path for k in found.keys] == [("00100020",)]
    assert found.warnings == ("foo is not a supported query parameter. It was ignored.",)


def test_a_warning_cannot_carry_what_a_parameter_name_smuggles_in() -> None:
    assert query("x%0d%0aSet-Cookie:a=1").warnings == ("A parameter is not a supported query parameter. It was ignored.",)


@pytest.mark.parametrize(
    "written",
    ["00180050=1.5", "00231001=1", "TimezoneOffsetFromUTC=%2B0100", "00400275.00400002=1", "PatientWeight=7"],
)
def test_an_attribute_that_is_no_matching_key_is_returned_but_not_matched(written: str) -> None:
    found = query(written, "instance")
    assert found.keys == ()
    assert len(found.included) == len(found.warnings) == 1


def test_a_keyword_outside_the_tables_is_found_in_the_dictionary() -> None:
    assert query("includefield=PixelSpacing", "instance").included == {("00280030",)}


def test_the_character_set_is_never_a_key() -> None:
    found = query("SpecificCharacterSet=ISO_IR%20192")
    assert (found.keys, found.warnings) == ((), ())


def test_includefields_may_be_repeated_or_listed_or_all() -> None:
    paths = {("00081048",), ("00081049",), ("00081060",)}
    assert query("includefield=00081048,00081049,00081060").included == paths
    assert query("includefield=00081048&includefield=00081049&includefield=NameOfPhysiciansReadingStudy").included == paths
    assert query("includefield=00400275.00400009").included == {("00400275", "00400009")}
    assert query("includefield=all").include_all
    assert len(query("&".join(f"includefield={tag:08X}" for tag in range(0x00181000, 0x00181000 + 250))).included) == 250
    assert query("includefield=").included == frozenset()


def test_an_includefield_that_no_dictionary_knows_is_ignored_with_a_warning() -> None:
    found = query("includefield=NoSuchAttribute")
    assert found.included == frozenset()
    assert len(found.warnings) == 1


def test_limit_and_offset_have_their_defaults_and_the_maximum() -> None:
    assert (query("").limit, query("").offset) == (100, 0)
    assert (query("limit=0").limit, query("limit=7&offset=14").offset) == (0, 14)
    assert query("limit=1000").limit == query("limit=1001").limit == query(f"limit={'9' * 400}").limit == MAX_LIMIT == 1000
    assert query(f"offset={'9' * 400}").offset == MAX_OFFSET


def test_parameters_of_other_parts_are_no_search() -> None:
    found = query("accept=application/dicom%2Bjson&charset=utf-8&owner=maugeri")
    assert (found.keys, found.warnings, found.owner) == ((), (), "maugeri")


def test_what_ohif_asks_for_its_study_list_and_for_priors() -> None:
    listed = query("limit=101&offset=0&fuzzymatching=false&includefield=00081030,00080060,00080090,00100030")
    assert (listed.limit, listed.offset, listed.fuzzy, listed.keys, listed.warnings) == (
        101,
        0,
        False,
        (),
        (),
    )
    assert listed.included == {("00081030",), ("00080060",), ("00080090",), ("00100030",)}
    filtered = query(
        "limit=101&offset=0&fuzzymatching=true&includefield=00081030%2C00080060&00100010=*rossi*&00100020=*12*"
        "&00080050=*A7*&00081030=*chest*&00080061=CT%2CMR&StudyDate=20200101-20201231"
    )
    assert {k.path[0] for k in filtered.keys} == {
        "00100010",
        "00100020",
        "00080050",
        "00081030",
        "00080061",
        "00080020",
    }
    assert query("limit=101&offset=0&StudyInstanceUID=1.2.3%5C1.2.4").keys[0].match == Uids(frozenset({"1.2.3", "1.2.4"}))
    assert query("00100020=P-77").keys[0].match == Texts(("P-77",))


def test_what_weasis_asks_with_the_issuer() -> None:
    found = query("00100020=P-77&00100021=2.16.840.1.113883.2.9.4.3.2&includefield=00080020,00080030,00080050,00080061")
    assert [k.path for k in found.keys] == [("00100020",), ("00100021",)]


@pytest.mark.parametrize(
    ("date", "time", "first", "last"),
    [
        ("20060705-20060707", "1000-1800", "20060705100000000000", "20060707180059999999"),
        ("20060705-", "1000-", "20060705100000000000", None),
        ("-20060707", "-1800", None, "20060707180059999999"),
    ],
)
def test_ranges_of_date_and_time_of_the_same_form_are_one(date: str, time: str, first: str, last: str) -> None:
    found = query(f"StudyDate={date}&StudyTime={time}")
    assert [k.path for k in found.keys] == [("00080020",)]
    assert (found.moments[0].range.first, found.moments[0].range.last) == (first, last)


@pytest.mark.parametrize(("date", "time"), [("20060705", "1000-1800"), ("20060705-20060707", "1000"), ("20060705-", "-1800")])
def test_ranges_of_other_forms_stay_apart(date: str, time: str) -> None:
    found = query(f"StudyDate={date}&StudyTime={time}")
    assert [k.path for k in found.keys] == [("00080020",), ("00080030",)]
    assert found.moments == ()


def test_every_required_matching_attribute_is_a_key() -> None:
    required = {
        "study": "00080020 00080030 00080050 00080061 00080090 00100010 00100020 0020000D 00200010",
        "series": "00080060 0020000E 00200011 00400244 00400245 00400275",
        "instance": "00080016 00080018 00200013",
    }  # Table 10.6.1-5
    for level, tags in required.items():
        assert {ATTRIBUTES[tag].level for tag in tags.split()} == {level}
    assert {"00400009", "00401001"} <= set(ITEM_VRS)


def test_a_sequence_is_no_key_itself() -> None:
    assert refused("RequestAttributesSequence=1", "series").parameter == "RequestAttributesSequence"


def test_the_usual_searches_need_no_dictionary() -> None:
    code = (
        "import sys; from chalicelib.dicomweb.qido import parse_query;"
        "parse_query('study', [('PatientID', '1'), ('00080060.x', ''), ('includefield', 'StudyID')]);"
        "assert 'pydicom' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@given(
    st.lists(
        st.tuples(
            st.one_of(
                st.sampled_from([*ATTRIBUTES, "limit", "offset", "includefield", "fuzzymatching", "00400275.00400009"]),
                st.text(max_size=12),
            ),
            st.one_of(
                st.text(max_size=40),
                st.from_regex(r"[0-9.*?\\,=^+-]{0,24}", fullmatch=True),
            ),
        ),
        max_size=5,
    ),
    st.sampled_from(["study", "series", "instance"]),
)
def test_any_parameters_are_read_or_refused_and_nothing_else(params: list[tuple[str, str]], level: Level) -> None:
    try:
        found = parse_query(level, params)
    except BadRequest:
        return
    assert 0 <= found.limit <= MAX_LIMIT
    assert all(text.isprintable() for text in found.warnings)
