"""The table of attributes, and the names of tags, agree with the dictionary (PS3.6) and with the standard's tables."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydicom.datadict import dictionary_VR, keyword_for_tag

from chalicelib.domain import attributes, tags
from chalicelib.domain.attributes import ITEM_VRS, TABLE
from chalicelib.domain.tags import Tag


def test_every_tag_of_the_standard_has_the_dictionarys_name() -> None:
    names = {name: tag for name, tag in vars(tags).items() if isinstance(tag, Tag)}
    assert len(names) > 100
    own = {name for name, tag in names.items() if tag.number >> 16 & 1}  # the archive's own, in private groups
    assert [name for name, tag in names.items() if name not in own and keyword_for_tag(tag.number) != name] == []


def test_every_row_has_the_dictionarys_vr() -> None:
    assert [row.keyword for row in TABLE if row.vr != dictionary_VR(row.tag.number)] == []
    assert [tag for tag, vr in ITEM_VRS.items() if vr != dictionary_VR(int(tag, 16))] == []


def test_no_attribute_has_two_rows_and_what_is_kept_stands_first() -> None:
    assert len({row.tag for row in TABLE}) == len(TABLE)
    assert [row.kept for row in TABLE] == sorted((row.kept for row in TABLE), reverse=True)


def test_what_is_kept_of_items_is_what_is_matched_in_them() -> None:
    assert {tag for row in TABLE for tag in row.items} == set(ITEM_VRS)
    assert [row.keyword for row in TABLE if row.items and (row.vr != "SQ" or not row.kept)] == []


def test_whose_the_patient_is_is_kept_and_goes_into_reports() -> None:
    """Else a report that is added to a study splits its patient (PS3.3 C.7.1.1)."""
    whose = {tags.PatientID, tags.IssuerOfPatientID, tags.IssuerOfPatientIDQualifiersSequence}
    assert whose <= attributes.IN_REPORTS & set(attributes.PATIENT_AND_STUDY)
    study = "StudyInstanceUID StudyDate StudyTime AccessionNumber StudyID StudyDescription ReferringPhysicianName"
    person = "PatientName PatientBirthDate PatientSex IssuerOfAccessionNumberSequence"
    assert whose | {getattr(tags, keyword) for keyword in f"{study} {person}".split()} == attributes.IN_REPORTS


@pytest.mark.parametrize(
    ("kind", "keywords"),
    [
        ("PATIENT", "PatientID PatientName PatientBirthDate PatientSex"),
        ("STUDY", "StudyDate StudyTime AccessionNumber StudyID StudyDescription StudyInstanceUID"),
        ("SERIES", "Modality SeriesNumber SeriesDescription SeriesInstanceUID"),
        ("IMAGE", "InstanceNumber ImageType"),
        ("RT PLAN", "InstanceNumber ContentDate ContentTime"),
    ],
)
def test_a_directory_record_has_the_keys_of_its_kind(kind: str, keywords: str) -> None:
    assert set(attributes.directory_keys(kind)) == {getattr(tags, keyword) for keyword in keywords.split()}


def test_the_tables_cost_no_import_of_pydicom() -> None:
    modules = "chalicelib.domain.attributes, chalicelib.dicom.limits, chalicelib.domain.rejections"
    code = f"import sys, {modules}; print('pydicom' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
