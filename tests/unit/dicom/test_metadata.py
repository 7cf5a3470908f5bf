"""The whole head as DICOM JSON and as XML: what pydicom makes of it, but for bulk, group lengths and zero
spacings.
"""

from __future__ import annotations

import json
import struct
import warnings
from base64 import b64decode
from typing import Any
from xml.etree import ElementTree

import pytest
from pydicom import dcmread

from chalicelib.dicom.header import read_head
from chalicelib.dicom.metadata import bulk_name, bulk_path, find_value, full_metadata
from chalicelib.dicomweb.native_xml import to_xml as native_xml
from chalicelib.domain.rejections import Rejected
from tests.unit.dicom.building import (
    BIG,
    CT,
    DEFLATED,
    JPEG,
    SEQUENCE_END,
    UNDEFINED,
    element,
    identity,
    item,
    part10,
    pixels,
    reader,
    real_files,
)

ACCEPTED = []
for _name, _path in real_files().items():
    _data = _path.read_bytes()
    try:
        read_head(reader(_data), len(_data))
        ACCEPTED.append(_name)
    except Rejected:
        pass


def metadata_of(data: bytes, threshold: int = 1024) -> dict[str, Any]:
    return full_metadata(read_head(reader(data), len(data)), bulk_name, threshold)


def with_elements(*elements: bytes) -> dict[str, Any]:
    return metadata_of(part10(identity() + b"".join(elements) + pixels()))


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_metadata_of_a_real_file_are_what_pydicom_makes_of_it(name: str) -> None:
    metadata = metadata_of(real_files()[name].read_bytes(), 1026)
    assert json.loads(json.dumps(metadata, allow_nan=False)) == metadata
    assert list(metadata) == sorted(metadata)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = dcmread(real_files()[name], force=True)
        if name == "emri_small_jpeg_2k_lossless_too_short.dcm":  # without a delimiter at its end pydicom has nothing
            assert not list(theirs)
            return
        expected = theirs.to_json_dict(
            bulk_data_threshold=1368, bulk_data_element_handler=lambda element: "", suppress_invalid_tags=True
        )
    differing = differences(metadata, expected)
    if expected_big_endian(name):  # pydicom puts the words of big endian palettes into JSON as they are
        differing = [difference for difference in differing if difference[1]["vr"] != "OW"]
    assert differing == []


def expected_big_endian(name: str) -> bool:
    return name.startswith("OBXXXX1A_expb")


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[Any]:
    found: list[Any] = []
    for tag in sorted(set(ours) | set(theirs)):
        if tag.endswith("0000") or tag > "7FE00010" or tag in ("00280030", "00181164", "7FE00010"):
            continue
        mine, other = ours.get(tag, {}), theirs.get(tag, {})
        if mine.get("vr") == "SQ" and not other:
            continue  # pydicom refuses a whole sequence for one UID with a leading zero in it
        if mine.get("vr") == "SQ":
            if len(mine.get("Value", ())) != len(other.get("Value", ())):
                found.append((tag, mine, other))
            pairs = zip(mine.get("Value", ()), other.get("Value", ()), strict=False)
            found += [(tag, difference) for pair in pairs for difference in differences(*pair)]
        elif "BulkDataURI" in mine:
            if not ({"BulkDataURI", "InlineBinary"} & set(other) or "Value" in other):
                found.append((tag, other))
        elif comparable(mine) != comparable(other):
            found.append((tag, mine, other))
    return found


def comparable(attribute: dict[str, Any]) -> Any:
    if "InlineBinary" in attribute:
        return b64decode(attribute["InlineBinary"])
    values = [value if value and value != {"Alphabetic": "^^^^"} else None for value in attribute.get("Value", ())]
    stripped = [value.strip(" \0") or None if isinstance(value, str) else value for value in values]
    return stripped if any(value is not None for value in stripped) else None


def test_binary_values_above_the_threshold_and_the_pixels_are_referred_to() -> None:
    inside = element(0x00091010, "OB", bytes(2000))
    metadata = with_elements(element(0x00081111, "SQ", item(b"") + item(inside)), element(0x00420011, "OB", bytes(100_000)))
    assert metadata["00081111"]["Value"][1]["00091010"] == {"vr": "OB", "BulkDataURI": "00081111.1.00091010"}
    assert metadata["00420011"] == {"vr": "OB", "BulkDataURI": "00420011"}
    assert metadata["7FE00010"] == {"vr": "OW", "BulkDataURI": "7FE00010"}


@pytest.mark.parametrize(("length", "there"), [(1024, "InlineBinary"), (1026, "BulkDataURI")])
def test_a_value_of_1024_bytes_is_in_the_metadata_and_a_longer_one_is_not(length: int, there: str) -> None:
    data = part10(identity() + element(0x00420011, "OB", bytes(length)) + pixels())
    assert there in full_metadata(read_head(reader(data), len(data)), bulk_name)["00420011"]


@pytest.mark.parametrize("path", [(0x00420011,), (0x00081111, 1, 0x00091010), (0x7FE00010,), (0x00091010,)])
def test_what_is_referred_to_can_be_found_in_the_object(path: tuple[int, ...]) -> None:
    inside = element(0x00091010, "OB", b"\5" * 2000)
    data = part10(
        identity()
        + element(0x00081111, "SQ", item(b"") + item(inside))
        + inside
        + element(0x00420011, "OB", b"\5" * 100_000)
        + element(0x7FE00010, "OW", b"\5" * 500)
    )
    head = read_head(reader(data), len(data))
    found = find_value(head, path)
    assert found is not None
    assert data[found.offset : found.offset + found.length].strip(b"\5") == b""
    assert found.length in (2000, 100_000, 500)
    assert bulk_path(bulk_name(path)) == path


@pytest.mark.parametrize("path", [(0x00420011,), (0x00081111, 5, 0x00091010), (0x00080018, 0, 0x00080018)])
def test_what_is_not_there_is_not_found(path: tuple[int, ...]) -> None:
    data = part10(identity() + element(0x00081111, "SQ", item(b"")) + pixels())
    assert find_value(read_head(reader(data), len(data)), path) is None


@pytest.mark.parametrize("text", ["", "x", "7FE00010/0", "7FE0001", "../etc", "7FE00010/-1/7FE00010", "7FE00010//7FE00010"])
def test_what_is_no_path_is_none(text: str) -> None:
    assert bulk_path(text) is None


def test_a_spacing_with_a_zero_is_left_out_and_others_stay() -> None:
    assert "00280030" not in with_elements(element(0x00280030, "DS", "0\\0"))
    assert with_elements(element(0x00280030, "DS", "0.5\\0.25"))["00280030"]["Value"] == [0.5, 0.25]
    assert "00280030" not in metadata_of(real_files()["RG1_UNCR.dcm"].read_bytes())


def test_numbers_that_are_none_become_null_and_nothing_raises() -> None:
    metadata = with_elements(
        element(0x00189073, "FD", struct.pack("<d", float("nan"))),
        element(0x00200032, "DS", "1\\x\\nan"),
        element(0x00201206, "IS", "1.5"),
        element(0x00280106, "US", b"\1"),
    )
    assert metadata["00200032"] == {"vr": "DS", "Value": [1, None, None]}
    assert metadata["00189073"]["vr"] == "FD"
    assert metadata["00201206"] == {"vr": "IS"}
    json.dumps(metadata, allow_nan=False)


def test_words_of_a_big_endian_object_are_little_endian_in_json() -> None:
    body = b"".join(
        element(tag, vr, text, order=">")
        for tag, vr, text in [
            (0x00080016, "UI", CT),
            (0x00080018, "UI", "1.2.3.4.5"),
            (0x0020000D, "UI", "1.2.3"),
            (0x0020000E, "UI", "1.2.3.4"),
            (0x00281201, "OW", b"\1\2\3\4"),
        ]
    )
    assert b64decode(metadata_of(part10(body, BIG))["00281201"]["InlineBinary"]) == b"\2\1\4\3"


def test_metadata_of_a_deflated_object_are_read() -> None:
    assert metadata_of(part10(identity() + pixels(), DEFLATED))["00100020"]["Value"] == ["P1"]


def test_an_icon_in_fragments_is_bulk() -> None:
    icon = element(0x7FE00010, "OB", b"", UNDEFINED) + item(b"") + item(b"\xff\xd8\xff\xd9") + SEQUENCE_END
    metadata = metadata_of(part10(identity() + element(0x00880200, "SQ", item(icon)) + pixels(), JPEG))
    assert metadata["00880200"]["Value"][0]["7FE00010"]["BulkDataURI"] == "00880200.0.7FE00010"


def parsed(metadata: dict[str, Any]) -> ElementTree.Element:
    return ElementTree.fromstring(native_xml(metadata))


@pytest.mark.parametrize("name", ACCEPTED[::7])
def test_the_xml_of_a_real_file_has_all_of_its_json(name: str) -> None:
    metadata = metadata_of(real_files()[name].read_bytes())
    root = parsed(metadata)
    assert root.tag == "{http://dicom.nema.org/PS3.19/models/NativeDICOM}NativeDicomModel"
    for child, tag in zip(root, metadata, strict=True):
        block = child.get("privateCreator") and f"{tag[:4]}00{tag[4:6]}"  # in place of which its creator is named
        assert child.get("tag") == (f"{tag[:4]}00{tag[6:]}" if block else tag)
        assert not block or metadata[block]["Value"] == [child.get("privateCreator")]
    assert [child.get("vr") for child in root] == [attribute["vr"] for attribute in metadata.values()]
    for child, attribute in zip(root, metadata.values(), strict=True):
        numbered = [part.get("number") for part in child if part.get("number")]
        values = attribute.get("Value", [])
        assert numbered == [str(number) for number, value in enumerate(values, 1) if value is not None]


def test_xml_writes_names_values_items_bulk_and_private_creators() -> None:
    document = native_xml(
        {
            "00081111": {"vr": "SQ", "Value": [{"00080050": {"vr": "SH", "Value": ["<&>"]}}]},
            "00090010": {"vr": "LO", "Value": ["ACME"]},
            "00091001": {"vr": "UN", "InlineBinary": "AAE="},
            "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Rossi^Anna^^Dott.", "Ideographic": "羅"}]},
            "00280010": {"vr": "US", "Value": [512]},
            "7FE00010": {"vr": "OW", "BulkDataURI": "http://x/?a=1&b=2"},
        }
    ).decode()
    for part in (
        '<DicomAttribute tag="00081111" vr="SQ" keyword="ReferencedPerformedProcedureStepSequence"><Item number="1">',
        '<Value number="1">&lt;&amp;&gt;</Value>',
        '<DicomAttribute tag="00090001" vr="UN" privateCreator="ACME"><InlineBinary>AAE=</InlineBinary>',
        "<Alphabetic><FamilyName>Rossi</FamilyName><GivenName>Anna</GivenName><NamePrefix>Dott.</NamePrefix></Alphabetic>",
        "<Ideographic><FamilyName>羅</FamilyName></Ideographic>",
        '<Value number="1">512</Value>',
        '<BulkData uri="http://x/?a=1&amp;b=2"/>',
    ):
        assert part in document


def test_characters_that_xml_cannot_carry_do_not_break_the_document() -> None:
    root = parsed({"00081030": {"vr": "LO", "Value": ["a\x00b\x1b\ufffe]]>"]}})
    assert root[0][0].text == "a\ufffdb\ufffd\ufffd]]>"
