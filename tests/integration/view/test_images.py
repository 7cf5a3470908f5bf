"""The images of an exam are told with what they are put beside each other by."""

from __future__ import annotations

from typing import Any

from pydicom.uid import generate_uid

from tests.browser import drawn, hospital
from tests.browser.hospital import Patient
from tests.harness import RunningCity
from tests.integration.view.test_reading_session import Browser


def _images(city: RunningCity, patient: Patient, study: object) -> dict[str, Any]:
    browser = Browser(city, str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]))
    found: dict[str, Any] = browser.get(f"/view/studies/{study}/images").json()
    return found


def test_a_film_tells_its_view_spacing_and_window(city: RunningCity) -> None:
    patient, client = Patient(), city.client("maugeri")
    film = drawn.film(patient, "maugeri", "20261129", drawn.AURORA, Laterality="R")
    hospital.send(client, film)
    hospital.wait_for_studies(city, patient, 1)
    answer = _images(city, patient, film.StudyInstanceUID)
    (image,) = answer["series"][0]["instances"]
    assert answer["places"] == ["chest"]
    assert (image["view"], image["laterality"], image["image_type"]) == ("PA", "R", ["ORIGINAL", "PRIMARY"])
    assert (image["spacing"], image["at_detector"], image["window"]) == ([0.3, 0.3], True, [2047.5, 3276.0])
    assert not {"fault", "position", "orientation", "frame"} & set(image)


def test_a_viewer_that_asks_for_the_series_of_an_exam_hears_of_all(city: RunningCity) -> None:
    patient, client, study = Patient(), city.client("maugeri"), generate_uid()
    clips = []
    for number in range(1, 103):
        clip = hospital.image(patient, "maugeri", "CT_small.dcm", "20261129", "ECO CUORE", StudyInstanceUID=study)
        clip.Modality, clip.SeriesNumber, clip.SeriesDescription = "US", number, f"CLIP {number}"
        clips.append(clip)
    for at in range(0, len(clips), 20):
        hospital.send(client, *clips[at : at + 20])
    hospital.wait_for_studies(city, patient, 1)
    browser = Browser(city, str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]))
    found = browser.fetch(f"/dicomweb/studies/{study}/series").json()
    assert {series["0020000E"]["Value"][0] for series in found} == {str(clip.SeriesInstanceUID) for clip in clips}
    assert len(browser.fetch(f"/dicomweb/studies/{study}/series?limit=7").json()) == 7
    assert len(client.get(f"/dicomweb/studies/{study}/series").json()) == 100


def test_a_slice_tells_where_it_lies_and_a_broken_image_why_it_is_not_drawn(city: RunningCity) -> None:
    patient, client = Patient(), city.client("maugeri")
    scout, first, second = drawn.ct(patient, "maugeri", "20261129", 0, 2, StudyDescription="TC TORACE ADDOME")
    second.BitsStored = 17
    hospital.send(client, scout, first, second)
    hospital.wait_for_studies(city, patient, 1)
    answer = _images(city, patient, first.StudyInstanceUID)
    localizer, axial = answer["series"]
    assert answer["places"] == ["chest", "abdomen"]
    assert localizer["instances"][0]["image_type"][2] == "LOCALIZER"
    assert (axial["kernel"], axial["thickness"]) == ("B30f", 5.0)
    whole, broken = axial["instances"]
    assert (whole["position"], whole["orientation"], whole["spacing"]) == ([-160, -160, 0], [1, 0, 0, 0, 1, 0], [2.5, 2.5])
    assert whole["frame"] == localizer["instances"][0]["frame"]
    assert "fault" not in whole
    assert "cannot be stored" in broken["fault"]
