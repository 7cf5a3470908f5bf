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


def test_what_is_asked_all_day_keeps_its_budget(city: RunningCity):
    """Signs of life, the feed, a search with its audit: each writes what the cost page says of it, and no more."""
    hospital, times = city.client("maugeri"), 20
    for name, ask in (
        ("sign", lambda: hospital.put("/forwarder", json={"version": "1"})),
        ("poll", lambda: hospital.get("/changes?since=now")),
        ("question", lambda: hospital.get("/dicomweb/studies?PatientID=BUDGET-1")),
    ):
        assert ask().status_code == 200
        before = city.units()["written"]
        for _ in range(times):
            ask()
        written = (city.units()["written"] - before) / times
        assert written <= 1.15 * workload.counted()[name].written + 0.1, f"{name}: {written}"
