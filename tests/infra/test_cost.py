"""What is computed of cost and capacity: by hand where one can, and as the documents say."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from infra import capacity, cost, templates, workload
from infra.package import ROOT

PRICE, ONE = workload.prices(), workload.counted()


@pytest.mark.parametrize(("command", "page"), [(cost.main, "cost.md"), (capacity.main, "capacity.md")])
def test_the_document_says_what_the_command_prints(command: object, page: str, capsys: pytest.CaptureFixture[str]) -> None:
    command([])  # type: ignore[operator]
    assert (ROOT / "docs" / page).read_text(encoding="utf-8").split("\n---\n\n", 1)[1] == capsys.readouterr().out


@pytest.mark.parametrize("lacking", ["key_month", "health_imaging", "health_imaging.archive_gb_month"])
def test_a_list_of_prices_that_lacks_one_is_named_with_it(
    lacking: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = workload.prices()
    block, _, inner = lacking.partition(".")
    del (listed[block] if inner else listed)[inner or block]
    (mine := tmp_path / "mine.json").write_text(json.dumps(listed))
    assert cost.main(["--prices", str(mine)]) == 2
    told = capsys.readouterr()
    assert told.out == "" and f"mine.json is not a list of prices as infra/prices.json: it lacks {lacking}" in told.err
    if block == "health_imaging":
        assert workload.prices(mine) == listed, "what an institution used is told without a word of another service"


def test_a_list_of_prices_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cost.main(["--prices", "nowhere.json"]) == 2
    assert capsys.readouterr().err == "cost: nowhere.json: No such file or directory\n"


def test_what_is_kept_is_all_that_came() -> None:
    """Of 100 GB a month, evenly: half a month's worth in the first, and so on; the young never more than their days."""
    assert math.isclose(sum(cost.kept(100, 1, 30)), 50)
    assert math.isclose(sum(cost.kept(100, 12, 30)), 1150)
    young, old = cost.kept(100, 60, 30)
    assert math.isclose(young, 100 * 30 / workload.DAYS)
    assert math.isclose(young + old, 5950)
    assert cost.kept(100, 1, 40)[1] == 0


def test_a_bucket_of_one_class_costs_its_bytes_and_moving_pays_from_some_month_on() -> None:
    load = workload.PAVIA
    for month in cost.MONTHS:
        (only,) = cost.storage(load, month, PRICE, None).values()
        assert math.isclose(only, load.gigabytes * (month - 0.5) * PRICE["s3_standard_gb_month"])
    month_60 = sum(cost.storage(load, 60, PRICE, cost.MOVED_AFTER_DAYS).values())
    assert month_60 < 0.3 * sum(cost.storage(load, 60, PRICE, None).values())
    assert month_60 < cost.tiered(load, 60, PRICE)
    assert cost.pays_after(cost.SMALLEST_MOVED - 120_000, PRICE) == math.inf
    assert cost.pays_after(load.slice_bytes, PRICE) < 6


def test_the_table_says_honestly_which_number_is_the_smallest() -> None:
    """Large instances: ours; small ones: HealthImaging, with a reason. Never a row that claims what it does not show."""
    films = replace(workload.PAVIA, slice_studies=0, film_studies=60_000)
    assert [row.split("|")[-2].strip() for row in cost.table(films, PRICE, ONE)[2:]] == ["ours, images", *["ours, all of it"] * 3]
    assert len(cost.reasons(films, PRICE, ONE)) == 1
    rows, told = cost.table(workload.PAVIA, PRICE, ONE)[2:], cost.reasons(workload.PAVIA, PRICE, ONE)
    for month, row in zip(cost.MONTHS, rows, strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        whole, theirs = float(cells[3]), float(cells[4])
        assert (cells[7] == "ours, all of it") is (whole < theirs)
        assert any(f"Month {month}:" in line for line in told) is (whole >= theirs)


def test_each_alarm_and_metric_of_the_templates_is_paid_for() -> None:
    told = "".join((ROOT / "infra" / name).read_text(encoding="utf-8") for name in ("city.yaml", "functions.yaml", "pixels.yaml"))
    assert told.count("Type: AWS::CloudWatch::Alarm") == cost.ALARMS
    assert told.count("Type: AWS::Logs::MetricFilter") == cost.METRICS


def test_every_price_has_its_region_date_and_source() -> None:
    for of in (PRICE, PRICE["health_imaging"]):
        assert of["region"] and of["date"] and of["source"]
    assert PRICE["health_imaging"]["offered_in_eu_south_1"] is False
    assert json.loads(workload.COUNTED.read_text(encoding="utf-8"))["date"]


def test_waiting_in_a_function_costs_many_times_what_asking_does() -> None:
    waiting = sum(cost.requests(ONE["waiting_second"].times(workload.SECONDS), PRICE).values())
    asking = sum(cost.requests(ONE["poll"].times(workload.SECONDS / workload.PAVIA.pace), PRICE).values())
    sign = sum(cost.requests(ONE["sign"].times(workload.SECONDS / 60), PRICE).values())
    assert waiting > 10 * asking
    assert sign < 0.5


def test_half_of_each_limit_is_left_for_the_city_and_for_the_region_what_nobody_raises() -> None:
    assert all(use.share <= capacity.HALF for use in capacity.uses(workload.PAVIA))
    assert all(use.share <= capacity.HALF for use in capacity.uses(workload.LOMBARDY) if not use.raised)


def test_the_stack_lets_no_more_through_than_an_account_in_milan_may_have() -> None:
    """API Gateway's quotas: 2,500 requests a second and 1,250 at once there, where older regions have 10,000 and 5,000."""
    assert (capacity.API_RATE, capacity.API_BURST) == (2500, 1250)
    settings = templates.load(templates.FUNCTIONS)["Resources"]["RestAPI"]["Properties"]["MethodSettings"]
    (of_all,) = [setting for setting in settings if setting["ResourcePath"] == "/*"]
    assert of_all["ThrottlingRateLimit"] == capacity.STACK_RATE < capacity.API_RATE
    assert of_all["ThrottlingBurstLimit"] < capacity.API_BURST


def test_what_breaks_first_is_found_where_its_limit_is_reached() -> None:
    size, first = capacity.breaks(workload.PAVIA)
    assert size > workload.LOMBARDY.hospitals / workload.PAVIA.hospitals
    assert 0.95 < first.share < 1.1
    assert capacity.lags(workload.LOMBARDY)[1] < capacity.STREAM_LAG
