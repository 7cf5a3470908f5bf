"""Priors: the side that only images tell, and what counts for an exam that is only ordered."""

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
    told = [(prior["study_date"], sided & {reason["reason"] for reason in prior["reasons"]}) for prior in found]
    assert told == [("20260302", {"same-side"}), ("20260305", {"other-side"})]
    assert [prior["laterality"] for prior in found] == ["R", "L"]


def test_an_exam_that_is_only_ordered_has_priors_too_of_both_hospitals_and_for_nobody_else(city: RunningCity) -> None:
    patient, maugeri, san_matteo = Patient(), city.client("maugeri"), city.client("san-matteo")
    hospital.send(san_matteo, hospital.image(patient, "san-matteo", date="20260301", description="TC TORACE"))
    hospital.send(san_matteo, hospital.image(patient, "san-matteo", date="20260303", description="RM GINOCCHIO", Modality="MR"))
    hospital.transfer(city, patient)
    hospital.wait_for_studies(city, patient, 2)
    path = f"/patients/{patient.at['maugeri']}/priors"
    found = maugeri.get(f"{path}?description=RX%20TORACE%20PA&modality=DX").json()["priors"]
    assert [(prior["description"], prior["owner"], prior["relevant"]) for prior in found] == [
        ("TC TORACE", "san-matteo", True), ("RM GINOCCHIO", "san-matteo", False),
    ]  # fmt: skip
    assert maugeri.get(path).status_code == 400
    assert city.client("mondino").get(f"{path}?description=TC%20TORACE").status_code == 404
