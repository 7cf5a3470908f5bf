"""What the views say of studies is read as it was written, and as earlier releases wrote it."""

from __future__ import annotations

import json
from typing import Any

from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.report_versions import ListedReport
from chalicelib.domain.study_views import SearchFace, SearchRow, SeriesView, StudyView

PAVIA, OTHER = PatientIdentifier("2.16.1", "SM-1"), PatientIdentifier("2.16.2", "MG-1")
DATE = {"00080020": {"vr": "DA", "Value": ["20260301"]}}

OF_AN_EARLIER_RELEASE: dict[str, Any] = {
    "owner": "san-matteo", "study": "1.2", "attributes": DATE, "patients": [{"issuer": "2.16.1", "id": "SM-1"}],
    "anonymous": False, "date": "20260301", "modalities": ["CT"], "sop_classes": ["1.2.840.10008.5.1.4.1.1.2"],
    "body_parts": ["CHEST"], "series": 2, "instances": 40, "bytes": 4000, "changed_at": "2026-03-01T10:00:00Z",
    "missing": ["0f" * 32],
    "reports": [{
        "sop_instance_uid": "1.2.9", "series_instance_uid": "1.2.8", "kind": "pdf", "title": "Referto", "date": "20260301",
        "time": "", "version": 1, "newest": True,
    }],
}  # fmt: skip


def kept(item: dict[str, Any]) -> dict[str, Any]:
    """An item as the table has it."""
    loaded: dict[str, Any] = json.loads(json.dumps(item))
    return loaded


def test_a_view_is_read_as_it_was_written() -> None:
    report = ListedReport(
        "1.2.9", "1.2.8", "cda", "Referto", "20260301", "1030", 2, True, "d0c", "preliminary", True, "1.2.7", "Nulla."
    )
    view = StudyView(
        owner="san-matteo", study_instance_uid="1.2", study_date="20260301", patients=(PAVIA, OTHER), said=(PAVIA,),
        aliases={PAVIA.hash: ["a" * 32]}, reported=("b" * 32,), former=("c" * 32,), linked=("d" * 32,), attributes=DATE,
        persons={PAVIA.hash: DATE}, modalities=("CT",), reports=(report,), sop_classes=("1.3",), body_parts=("CHEST",),
        laterality="B", views=("AP",), series_names=("Torace",), codes=("99SM|1",), series=2, instances=3, images=2, frames=5,
        size=99, changed_at="2026-03-01T10:00:00Z", incomplete=True, reader=4, corrected=1, withdrawn=2, unread=("00080020",),
        rows=(("V#SEE#a#1.2", "san-matteo"),), rows_digest="e", tally="f", unsettled=True,
    )  # fmt: skip
    assert StudyView.from_item(kept(view.to_item())) == view


def test_a_view_of_an_earlier_release_is_read_and_keeps_what_only_that_release_said() -> None:
    view = StudyView.from_item(OF_AN_EARLIER_RELEASE)
    assert (view.patients, view.instances, view.size, view.images, view.reader) == ((PAVIA,), 40, 4000, None, 1)
    assert [report.newest for report in view.reports] == [True]
    again = view.to_item()
    assert {name: again[name] for name in OF_AN_EARLIER_RELEASE} == OF_AN_EARLIER_RELEASE
    assert not {"images", "frames", "tally", "incomplete", "unsettled"} & again.keys()


def test_a_row_is_read_as_it_was_written_and_says_nothing_that_is_empty() -> None:
    face = SearchFace(None, PAVIA, DATE)
    plain = SearchRow(owner="a", study_instance_uid="1.2", study_date="20260301", patients=(PAVIA,), said=(PAVIA,), face=face)
    item = plain.to_item()
    assert item == {
        "owner": "a", "study": "1.2", "date": "20260301", "patients": [{"issuer": "2.16.1", "id": "SM-1"}], "anonymous": False,
        "attributes": DATE, "found_as": {"issuer": "2.16.1", "id": "SM-1"}, "linked": [], "former": [],
    }  # fmt: skip
    assert SearchRow.from_item(kept(item)).said == ()
    faces = SearchFace(PAVIA, OTHER, DATE), SearchFace(OTHER, OTHER, DATE)
    several = SearchRow(owner="a", study_instance_uid="1.2", patients=(PAVIA, OTHER), face=faces[0], faces=faces)
    assert SearchRow.from_item(kept(several.to_item())) == several


def test_a_row_of_nobodys_study_is_found_under_no_number() -> None:
    row = SearchRow(owner="a", study_instance_uid="1.2", anonymous=True, face=SearchFace(None, None, DATE))
    assert row.to_item()["found_as"] == {"issuer": "", "id": ""}
    assert SearchRow.from_item(kept(row.to_item())) == row


def test_a_series_of_an_earlier_release_says_no_patients() -> None:
    view = SeriesView.from_item("1.2.3", {"attributes": DATE, "instances": 4, "digest": "d"})
    assert (view.instances, view.patients, view.digest) == (4, (), "d")
