"""What is kept of an instance is what it says, in Unicode, clipped to what a table row may hold."""

from __future__ import annotations

import json
from datetime import date
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from chalicelib.dicom.header import read_head
from chalicelib.dicom.summary import ATTRIBUTES_LIMIT, LONG_LIMIT, summarise
from chalicelib.domain.attributes import KEPT
from chalicelib.domain.instance_summary import InstanceSummary, StatedIdentifier
from tests.unit.dicom.building import element, identity, item, part10, pixels, reader, real_files


def summary_of(data: bytes) -> InstanceSummary:
    return summarise(read_head(reader(data), len(data)))


def with_elements(*elements: bytes) -> InstanceSummary:
    return summary_of(part10(identity() + b"".join(elements) + pixels()))


def value(summary: InstanceSummary, tag: str) -> Any:
    return summary.attributes.get(tag, {}).get("Value")


def size(attributes: dict[str, Any]) -> int:
    return len(json.dumps(attributes, ensure_ascii=False, separators=(",", ":")).encode())


NAMES = {
    "chrArab": "قباني^لنزار",
    "chrFren": "Buc^Jérôme",
    "chrGerm": "Äneas^Rüdiger",
    "chrGreek": "Διονυσιος",
    "chrH31": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "chrH32": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    "chrHbrw": "שרון^דבורה",
    "chrI2": "Hong^Gildong=洪^吉洞=홍^길동",
    "chrRuss": "Люкceмбypг",
    "chrX1": "Wang^XiaoDong=王^小東",
    "chrX2": "Wang^XiaoDong=王^小东",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_unicode_in_its_three_groups_whatever_the_character_set(name: str) -> None:
    summary = summary_of(real_files()[f"charset_files/{name}.dcm"].read_bytes())
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), NAMES[name].split("="), strict=False)
    assert value(summary, "00100010") == [dict(groups)]


@pytest.mark.parametrize("charset", ["unicode_escape", "punycode", "undefined", "zlib", "rot13", "ISO_IR 999"])
def test_a_codec_that_dicom_does_not_know_is_not_used(charset: str) -> None:
    head = element(0x00080005, "CS", charset)
    data = part10(head + identity() + element(0x00100010, "PN", b"A\\u0041\xe8") + pixels())
    assert value(summary_of(data), "00100010") == [{"Alphabetic": "A"}, {"Alphabetic": "u0041è"}]


def test_identifiers_of_the_patient_come_with_their_issuers() -> None:
    qualifiers = element(0x00100024, "SQ", item(element(0x00400032, "UT", "1.2.3") + element(0x00400033, "CS", "ISO")))
    other = item(element(0x00100020, "LO", "N2") + element(0x00100021, "LO", "MAUGERI") + qualifiers)
    summary = with_elements(
        element(0x00100021, "LO", "SAN MATTEO"),
        qualifiers,
        element(0x00101000, "LO", "N3\\N4"),
        element(0x00101002, "SQ", other + item(element(0x00100021, "LO", "NOBODY"))),
    )
    assert summary.patient == StatedIdentifier("P1", "SAN MATTEO", "1.2.3")
    others = StatedIdentifier("N3"), StatedIdentifier("N4"), StatedIdentifier("N2", "MAUGERI", "1.2.3")
    assert summary.other_ids == others


def test_an_image_without_patient_id_has_none() -> None:
    assert summary_of(part10(identity(patient="") + pixels())).patient.id == ""


@pytest.mark.parametrize(
    ("tag", "vr", "written", "kept"),
    [
        (0x00080020, "DA", "20260230", None),
        (0x00080020, "DA", "yesterday", None),
        (0x00080020, "DA", "2026.01.31", ["20260131"]),
        (0x00080030, "TM", "2561", None),
        (0x00080030, "TM", "10:21:00", ["102100"]),
        (0x00080030, "TM", "1021", ["1021"]),
        (0x00080030, "TM", "102100.123456", ["102100.123456"]),
        (0x00200011, "IS", "one", None),
        (0x00200011, "IS", "1_0", None),
        (0x00200011, "IS", " +7 ", [7]),
        (0x00200013, "IS", "99999999999999999999", None),
        (0x00080008, "CS", "ORIGINAL\\\\AXIAL", ["ORIGINAL", None, "AXIAL"]),
        (0x00081030, "LO", "  Torace  ", ["Torace"]),
        (0x00081030, "LO", "x" * 100, ["x" * 100]),
        (0x00081030, "LO", "x" * 1024, ["x" * 1024]),
        (0x00081030, "LO", "x" * 1025, ["x" * 1024]),
        (0x00080008, "CS", "\\".join("ABCDEFGH"), list("ABCDEFGH")),
        (0x00080008, "CS", "\\".join("ABCDEFGHI"), list("ABCDEFGH")),
    ],
)
def test_a_value_is_kept_as_it_is_valid_or_left_out(tag: int, vr: str, written: str, kept: Any) -> None:
    assert value(with_elements(element(tag, vr, written)), f"{tag:08X}") == kept


def test_a_wrong_vr_in_the_file_does_not_change_what_an_attribute_is() -> None:
    summary = with_elements(element(0x00081030, "US", b"ab"), element(0x00080060, "SQ", b""), element(0x00200011, "FD", bytes(8)))
    assert value(summary, "00081030") == ["ab"]
    assert value(summary, "00080060") is None


def test_a_report_says_what_it_is() -> None:
    summary = summary_of(real_files()["test_files/test-SR.dcm"].read_bytes())
    assert value(summary, "0040A043")[0]["00080104"] == {"vr": "LO", "Value": ["Diagnosis"]}
    assert value(summary, "0040A491") == ["COMPLETE"]
    assert (summary.rows, summary.pixel_offset) == (0, 0)


def test_real_images_keep_all_of_their_attributes() -> None:
    for name in ("test_files/CT_small.dcm", "693_UNCI.dcm", "RG1_UNCR.dcm", "US1_UNCI.dcm", "eCT_Supplemental.dcm"):
        summary = summary_of(real_files()[name].read_bytes())
        assert summary.dropped == ()
        assert 300 < size(summary.attributes) < ATTRIBUTES_LIMIT


def test_what_has_no_room_is_dropped_by_importance_and_named() -> None:
    full = [element(kept.tag.number, kept.vr, "山" * 64) for kept in KEPT if kept.vr in ("LO", "SH") and kept.level != "patient"]
    data = part10(element(0x00080005, "CS", "ISO_IR 192") + identity() + b"".join(full) + pixels())
    summary = summary_of(data)
    assert size(summary.attributes) <= ATTRIBUTES_LIMIT
    assert "00080050" in summary.attributes
    assert "00081010" in summary.dropped


def test_of_long_values_8_kb_are_kept() -> None:
    long = [element(kept.tag.number, kept.vr, "x" * 1024) for kept in KEPT if kept.vr in ("LO", "SH") and kept.level != "patient"]
    sizes = [summary_of(part10(identity() + b"".join(long[:count]) + pixels())) for count in range(len(long) + 1)]
    whole = [size(summary.attributes) for summary in sizes if not summary.dropped]
    assert 7000 < max(whole) <= 8192, "what has room is whole"
    assert len(whole) < len(sizes) and max(size(summary.attributes) for summary in sizes) <= LONG_LIMIT == 8192


def test_reading_a_value_through_pydicom_first_changes_nothing() -> None:
    data = real_files()["test_files/CT_small.dcm"].read_bytes()
    head = read_head(reader(data), len(data))
    before = summarise(head)
    for _ in head.dataset.iterall():
        pass
    assert summarise(head) == before


text = st.text(
    st.characters(codec="utf-8", exclude_characters="\\^=", exclude_categories=("Cc", "Zs", "Zl", "Zp")),
    min_size=1,
    max_size=40,
)


@given(
    name=text,
    patient_id=text,
    description=text,
    day=st.dates(date(1900, 1, 1), date(2100, 1, 1)),
    number=st.integers(0, 2**31 - 1),
    kind=st.lists(st.sampled_from(["ORIGINAL", "PRIMARY", "AXIAL", "MPR"]), min_size=1, max_size=4),
    syntax=st.sampled_from([ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]),
)
def test_what_pydicom_wrote_is_what_is_kept(
    name: str, patient_id: str, description: str, day: date, number: int, kind: list[str], syntax: Any
) -> None:
    written = Dataset()
    written.SpecificCharacterSet = "ISO_IR 192"
    written.SOPClassUID, written.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4.5"
    written.StudyInstanceUID, written.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    written.PatientName, written.PatientID, written.StudyDescription = name, patient_id, description
    written.StudyDate, written.InstanceNumber, written.ImageType = f"{day:%Y%m%d}", number, kind
    written.Rows, written.Columns, written.NumberOfFrames = 12, 34, 5
    written.file_meta = FileMetaDataset()
    written.file_meta.TransferSyntaxUID = syntax
    file = BytesIO()
    written.save_as(file, enforce_file_format=True)
    summary = summary_of(file.getvalue())
    assert summary.transfer_syntax_uid == syntax
    assert (summary.rows, summary.columns, summary.number_of_frames) == (12, 34, 5)
    assert summary.patient.id == patient_id
    assert value(summary, "00100010") == [{"Alphabetic": name}]
    assert value(summary, "00081030") == [description]
    assert value(summary, "00080020") == [f"{day:%Y%m%d}".rjust(8, "0")]
    assert value(summary, "00200013") == [number]
    assert value(summary, "00080008") == kind
