"""The table of what is kept agrees with the dictionary, and with what searches must match and return."""

from __future__ import annotations

import subprocess
import sys

from pydicom.datadict import dictionary_VR, keyword_for_tag

from chalicelib.dicom.attributes import KEPT
from chalicelib.dicomweb.search_attributes import ATTRIBUTES, COMPUTED
from chalicelib.domain import studies


def test_every_kept_attribute_is_the_dictionarys() -> None:
    for kept in KEPT:
        assert (kept.keyword, kept.vr) == (keyword_for_tag(kept.tag), dictionary_VR(kept.tag))


def test_no_attribute_is_kept_twice() -> None:
    assert len({kept.tag for kept in KEPT}) == len(KEPT)


def test_what_a_search_matches_or_returns_is_kept_or_computed() -> None:
    kept = {row.json_tag for row in KEPT}
    assert [row.keyword for row in ATTRIBUTES.values() if row.tag not in kept | COMPUTED] == []


def test_what_is_kept_of_a_study_or_series_is_in_its_summary() -> None:
    shown = {"patient": studies.PATIENT_AND_STUDY, "study": studies.PATIENT_AND_STUDY, "series": studies.SERIES}
    assert [kept.keyword for kept in KEPT if kept.level != "instance" and kept.json_tag not in shown[kept.level]] == []


def test_the_tables_cost_no_import_of_pydicom() -> None:
    modules = "chalicelib.dicom.attributes, chalicelib.dicom.limits, chalicelib.domain.rejections"
    code = f"import sys, {modules}; print('pydicom' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
