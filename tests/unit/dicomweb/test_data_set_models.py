"""Data sets in JSON and XML: what is read, what is refused, and that one turns into the other (PS3.18 F, PS3.19 A.1)."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file

from chalicelib.dicomweb.json_model import Model, first_text, items, parse_json
from chalicelib.dicomweb.native_xml import NAMESPACE, parse_xml, to_xml
from chalicelib.domain.errors import BadRequest

SAMPLE: Model = {
    "00080018": {"vr": "UI", "Value": ["1.2.3"]},
    "00081140": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2"]}}, {}]},
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Yamada^Tarou^^Dr", "Ideographic": "山田^太郎"}, None]},
    "00104000": {"vr": "LT", "Value": ["  two\r\nlines & <tags> "]},
    "00280010": {"vr": "US", "Value": [512]},
    "00280030": {"vr": "DS", "Value": ["0.50", None, "1"]},
    "00420011": {"vr": "OB", "BulkDataURI": "https://x/?a=1&b='2'"},
    "00430010": {"vr": "LO", "Value": ["GEMS_PARM_01"]},
    "00431001": {"vr": "OB", "InlineBinary": "AAEC"},
    "00080050": {"vr": "SH"},
}


def xml(inside: str) -> bytes:
    return f'<NativeDicomModel xmlns="{NAMESPACE}">{inside}</NativeDicomModel>'.encode()


def test_json_and_xml_say_the_same() -> None:
    expected = dict(sorted(SAMPLE.items()))
    assert parse_json(json.dumps(SAMPLE).encode()) == [expected]
    assert parse_xml(to_xml(SAMPLE)) == expected


def test_xml_has_keywords_private_creators_and_the_parts_of_names() -> None:
    root = ElementTree.fromstring(to_xml(SAMPLE))
    by_tag = {child.get("tag"): child for child in root}
    assert root.tag == f"{{{NAMESPACE}}}NativeDicomModel"
    assert by_tag["00080018"].get("keyword") == "SOPInstanceUID"
    assert by_tag["00430001"].get("privateCreator") == "GEMS_PARM_01"
    assert by_tag["00430001"].get("keyword") is None
    assert [value.tag.rpartition("}")[2] for value in by_tag["00100010"]] == ["PersonName", "PersonName"]
    name = by_tag["00100010"][0]
    assert name.tag.endswith("PersonName")
    assert [e.tag.rpartition("}")[2] for e in name.iter()][1:6] == [
        "Alphabetic",
        "FamilyName",
        "GivenName",
        "NamePrefix",
        "Ideographic",
    ]
    assert by_tag["00420011"][0].get("uri") == "https://x/?a=1&b='2'"


def test_private_attributes_go_into_the_blocks_of_their_creators() -> None:
    """As others write them: without a block, beside their creator's element or without it, in any order (PS3.19 A.1.5)."""
    first = '<DicomAttribute tag="00090001" vr="LO" privateCreator="ONE"><Value number="1">a</Value></DicomAttribute>'
    other = '<DicomAttribute tag="00090001" vr="LO" privateCreator="OTHER"><Value number="1">b</Value></DicomAttribute>'
    reserved = '<DicomAttribute tag="00090010" vr="LO"><Value number="1">OTHER</Value></DicomAttribute>'
    hidden = '<DicomAttribute tag="00090010" vr="SS" privateCreator="OTHER"><Value number="1">-2</Value></DicomAttribute>'
    for order in (first + other + reserved + hidden, hidden + reserved + other + first):
        assert parse_xml(xml(order)) == {
            "00090010": {"vr": "LO", "Value": ["OTHER"]},
            "00090011": {"vr": "LO", "Value": ["ONE"]},
            "00091001": {"vr": "LO", "Value": ["b"]},
            "00091010": {"vr": "SS", "Value": [-2]},
            "00091101": {"vr": "LO", "Value": ["a"]},
        }
    for twice in (first + first, other + reserved + '<DicomAttribute tag="00091001" vr="LO"/>'):
        with pytest.raises(BadRequest, match="there twice"):
            parse_xml(xml(twice))
    creators = "".join(f'<DicomAttribute tag="00090001" vr="LO" privateCreator="{n}"/>' for n in range(241))
    with pytest.raises(BadRequest, match="no room"):
        parse_xml(xml(creators))


def test_characters_that_xml_cannot_hold_are_replaced() -> None:
    written = to_xml({"00104000": {"vr": "LT", "Value": ["a\x00b\x1bc"]}})
    assert parse_xml(written)["00104000"]["Value"] == ["a\ufffdb\ufffdc"]


@pytest.mark.parametrize("name", ["CT_small.dcm", "reportsi.dcm", "test-SR.dcm", "rtplan.dcm", "waveform_ecg.dcm"])
def test_a_real_instance_survives_json_and_xml(name: str) -> None:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    dataset = dcmread(path, stop_before_pixels=True)
    model = parse_json(dataset.to_json().encode())[0]
    again = parse_xml(to_xml(model))
    assert Dataset.from_json(json.dumps(again)) == Dataset.from_json(json.dumps(model))


def test_the_example_of_the_standard_with_blanks_around_its_values_is_read() -> None:
    found = parse_xml(
        b"""<?xml version="1.0" encoding="utf-8"?>
        <NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM"
          xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
          <DicomAttribute tag="00081199" vr="SQ" keyword="ReferencedSOPSequence">
            <Item number="1">
              <DicomAttribute tag="00081150" vr="UI" keyword="ReferencedSOPClassUID">
                <Value number="1">1.2.840.10008.5.1.4.1.1.2</Value>
              </DicomAttribute>
              <DicomAttribute tag="00081155" vr="UI"><Value number="1">
                  1.2.3.4</Value></DicomAttribute>
            </Item>
          </DicomAttribute>
        </NativeDicomModel>"""
    )
    assert first_text(items(found, "00081199")[0], "00081155") == "1.2.3.4"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"[1]",
        b'"text"',
        b"[null]",
        b'{"0008001": {"vr": "UI"}}',
        b'{"SOPInstanceUID": {"vr": "UI"}}',
        b'{"00080018": {}}',
        b'{"00080018": {"vr": "XX"}}',
        b'{"00080018": {"vr": ["UI"]}}',
        b'{"00080018": ["1.2"]}',
        b'{"00080018": {"vr": "UI", "Value": "1.2"}}',
        b'{"00080018": {"vr": "UI", "Value": [{"a": 1}]}}',
        b'{"00080018": {"vr": "UI", "Value": [true]}}',
        b'{"00080018": {"vr": "UI", "Value": [["1.2"]]}}',
        b'{"00100010": {"vr": "PN", "Value": [{"Alphabetic": 1}]}}',
        b'{"00100010": {"vr": "PN", "Value": [{"Other": "x"}]}}',
        b'{"00081199": {"vr": "SQ", "Value": ["x"]}}',
        b'{"7FE00010": {"vr": "OW", "BulkDataURI": 1}}',
        b'{"7FE00010": {"vr": "OW", "BulkDataURI": "a", "InlineBinary": "AA=="}}',
        b'{"00189073": {"vr": "FD", "Value": [NaN]}}',
        b'{"00280010": {"vr": "US", "Value": [1.5]}}',
        b'{"00280106": {"vr": "SS", "Value": [-1.9]}}',
        b'{"00280009": {"vr": "AT", "Value": ["zzz"]}}',
        b'{"00420011": {"vr": "OB", "InlineBinary": "!"}}',
        b"[" * 100_000,
        b'{"00081199": {"vr": "SQ", "Value": [' * 40 + b"{}" + b"]}}" * 40,
    ],
)
def test_json_that_is_no_data_set_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_json(body)


def test_tags_are_written_in_upper_case_and_in_order_and_group_lengths_are_dropped() -> None:
    found = parse_json(b'{"7fe00010": {"vr": "OW"}, "00080000": {"vr": "UL", "Value": [1]}, "0008103e": {"vr": "LO"}}')
    assert [list(model) for model in found] == [["0008103E", "7FE00010"]]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<x/>",
        b"<NativeDicomModel>",
        b'<!DOCTYPE x [<!ENTITY a "b">]><NativeDicomModel/>',
        b'<!DOCTYPE NativeDicomModel SYSTEM "file:///etc/passwd"><NativeDicomModel/>',
        b'<?xml version="1.0" encoding="nonsense"?><NativeDicomModel/>',
        xml('<DicomAttribute tag="0008" vr="UI"/>'),
        xml('<DicomAttribute tag="00080018" vr="XX"/>'),
        xml('<DicomAttribute tag="00080018" vr="UI"/><DicomAttribute tag="00080018" vr="UI"/>'),
        xml('<DicomAttribute tag="00080018" vr="UI"><DicomAttribute tag="00080016" vr="UI"/></DicomAttribute>'),
        xml('<DicomAttribute tag="00080018" vr="UI"><Item number="1"/></DicomAttribute>'),
        xml('<DicomAttribute tag="00081199" vr="SQ"><Value number="1">x</Value></DicomAttribute>'),
        xml('<DicomAttribute tag="00280010" vr="US"><Value number="1">x</Value></DicomAttribute>'),
        xml('<DicomAttribute tag="00189073" vr="FD"><Value number="1">inf</Value></DicomAttribute>'),
        xml('<DicomAttribute tag="00100010" vr="PN"><FamilyName>x</FamilyName></DicomAttribute>'),
        xml('<DicomAttribute tag="00100010" vr="PN"><PersonName><FamilyName>x</FamilyName></PersonName></DicomAttribute>'),
        xml('<DicomAttribute tag="00420011" vr="OB"><BulkData uri="a"/><InlineBinary>AA==</InlineBinary></DicomAttribute>'),
        xml('<DicomAttribute tag="00420011" vr="OB"><InlineBinary>AA=</InlineBinary></DicomAttribute>'),
        xml("<NativeDicomModel/>"),
        xml("<Value/>"),
        xml('<DicomAttribute tag="00081199" vr="SQ"><Item>' * 40 + "</Item></DicomAttribute>" * 40),
    ],
)
def test_xml_that_is_no_data_set_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_xml(body)


def test_an_error_names_the_tag_and_not_the_value() -> None:
    with pytest.raises(BadRequest) as caught:
        parse_json(b'{"00100010": {"vr": "PN", "Value": [{"Secret": "Rossi"}]}}')
    assert "00100010" in caught.value.detail
    assert "Rossi" not in caught.value.detail


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), min_size=1, max_size=12)
GROUP = TEXT.map(lambda text: text.strip("^ ")).filter(bool)
TRIMMED = TEXT.map(str.strip).filter(bool)


def element(vr: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.lists(st.one_of(st.none(), values), max_size=3).map(
        lambda found: {"vr": vr, "Value": found} if found else {"vr": vr}
    )


ELEMENTS = st.one_of(
    element("LO", TRIMMED),
    element("LT", TEXT),
    element("US", st.integers(0, 65535)),
    element("SL", st.integers(-(2**31), 2**31 - 1)),
    element("FD", st.floats(allow_nan=False, allow_infinity=False)),
    element("PN", st.dictionaries(st.sampled_from(["Alphabetic", "Ideographic", "Phonetic"]), GROUP, min_size=1)),
    st.builds(lambda uri: {"vr": "OW", "BulkDataURI": uri}, TRIMMED),
)
TAGS = st.from_regex(r"[0-9A-F]{4}[0-9A-F]{3}[1-9A-F]", fullmatch=True)
MODELS = st.recursive(
    st.dictionaries(TAGS, ELEMENTS, max_size=4),
    lambda inner: st.dictionaries(
        TAGS, st.lists(inner, min_size=1, max_size=2).map(lambda i: {"vr": "SQ", "Value": i}), max_size=3
    ),
    max_leaves=8,
)


@given(MODELS)
def test_every_data_set_survives_xml_and_json(model: Model) -> None:
    assert parse_xml(to_xml(model)) == parse_json(json.dumps(model).encode())[0]


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for read in (parse_json, parse_xml):
        try:
            read(body)
        except BadRequest:
            continue


def test_views_of_a_larger_body_are_read_as_well_as_bytes() -> None:
    padded = b"xx" + json.dumps(SAMPLE).encode()
    assert parse_json(memoryview(padded)[2:]) == parse_json(padded[2:])
