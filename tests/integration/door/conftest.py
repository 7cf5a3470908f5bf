"""A city whose hospitals' doors are open, and a patient who is in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness import running_city
from tests.integration.door.doors import Doors, Patient


@pytest.fixture(scope="package")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    with running_city(tmp_path_factory.mktemp("city"), forwarders=True) as city:
        yield Doors(city)


@pytest.fixture
def patient(doors: Doors) -> Patient:
    return Patient(doors)
