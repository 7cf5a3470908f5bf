"""What it costs: AWS requests for a CT of 500 slices, counted at the emulated cloud's door (`python -m bench.cost`)."""

import pytest

from bench.cost import SLICES, ct, spend
from infra import workload
from tests.harness import RunningCity, running_city


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory):
    with running_city(tmp_path_factory.mktemp("cost")) as running:
        yield running


def test_a_ct_of_500_slices_costs_what_is_promised(city: RunningCity):
    before = city.units()
    spent = spend(city, ct())
    took = {name: (after - before[name]) / SLICES for name, after in city.units().items()}
    counted = workload.counted()["slice"]
    for name, figure in (("written", counted.written), ("read", counted.read), ("stored", counted.stored)):
        assert took[name] <= 1.15 * figure, f"the cost page starts from {figure} {name} an instance: {took}"
    assert spent["s3:PutObject"] <= SLICES + 40, spent  # the slices, and one metadata object for each batch
    assert spent["s3:GetObject"] <= SLICES, spent  # one head each
    assert not any("Scan" in name for name in spent), spent
    # 16 to 20 for the facts, one for the patient, and for each batch the views, the audit's record, the feed.
    assert spent["dynamodb:TransactWriteItems"] + spent["dynamodb:PutItem"] <= 100, spent
