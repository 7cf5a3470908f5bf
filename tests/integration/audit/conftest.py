"""A city whose audit trail tests may ruin, and a patient of two hospitals in the shared one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser import hospital
from tests.browser.hospital import Patient
from tests.harness import RunningCity, running_city


@pytest.fixture(scope="module")
def own_city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCity]:
    """A city of this module's own."""
    with running_city(tmp_path_factory.mktemp("audited")) as running:
        yield running


class Shared:
    """A patient with one study at San Matteo, transferred to Maugeri."""

    def __init__(self, city: RunningCity) -> None:
        self.city, self.patient = city, Patient()
        image = hospital.image(self.patient, "san-matteo", description="TC TORACE")
        self.study = str(image.StudyInstanceUID)
        self.owner, self.viewer = city.client("san-matteo"), city.client("maugeri")
        self.number, self.number_there = self.patient.at["san-matteo"], self.patient.at["maugeri"]
        hospital.send(self.owner, image)
        self.transfer = hospital.transfer(city, self.patient)
        hospital.wait_for_studies(city, self.patient, 1)


@pytest.fixture
def shared(city: RunningCity) -> Shared:
    return Shared(city)
