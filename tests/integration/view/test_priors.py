"""The side of an exam is read from its images where its name says none."""

from __future__ import annotations

from tests.browser import hospital
from tests.browser.hospital import Patient
from tests.harness import RunningCity


def test_the_same_side_comes_before_the_other_though_only_the_images_tell_it(city: RunningCity) -> None:
    patient, client = Patient(), city.client("maugeri")
    sides = {"20260310": "R", "20260302": "R", "20260305": "L"}
    exams = {
        date: hospital.image(patient, "maugeri", date=date, description="RX GINOCCHIO", Modality="CR", Laterality=side)
        for date, side in sides.items()
    }
    hospital.send(client, *exams.values())
    hospital.wait_for_studies(city, patient, 3)
    found = client.get(f"/studies/{exams['20260310'].StudyInstanceUID}/priors").json()["priors"]
    sided = {"same-side", "other-side"}
    told = [(prior["study_date"], sided & {one["reason"] for one in prior["reasons"]}) for prior in found]
    assert told == [("20260302", {"same-side"}), ("20260305", {"other-side"})]
    assert [prior["laterality"] for prior in found] == ["R", "L"]
