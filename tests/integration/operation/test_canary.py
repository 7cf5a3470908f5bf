"""The canary flies in the local city: by its own role, through the gateway and the store, as a hospital would."""

from __future__ import annotations

import json

from infra import dashboard, onboard, operate
from tests.harness import wait_until
from tests.integration.operation.conftest import OperatedCity


def objects(operated: OperatedCity) -> set[str]:
    """The keys of what the canary sent."""
    bucket = operated.city.outputs()["BucketName"]
    listed = operated.city.aws("s3").list_objects_v2(Bucket=bucket, Prefix="instances/canary/")
    return {entry["Key"] for entry in listed.get("Contents", [])}


def test_the_canary_is_off_until_it_is_registered_and_then_sends_finds_reads_and_withdraws(operated: OperatedCity) -> None:
    city = operated.city
    operated.run(onboard.main, "canary", "--remove")  # whoever was here before
    before = objects(operated)
    assert json.loads(operated.run(operate.main, "canary", "--json", expected=1))["state"] == "off"
    flown = json.loads(operated.run(operate.main, "canary", "--join", "--json"))
    assert flown["state"] == "passed"
    assert 0 < flown["found_after"] <= flown["took"] < 60
    again = operated.run(operate.main, "canary")
    assert again.startswith("passed")

    canary = city.client("canary")  # its profile has its role's credentials
    assert canary.get("/dicomweb/studies").json() == [], "withdrawn"
    assert canary.get("/institutions").status_code == 403, "its role's policy allows what a flight needs and no more"
    listed = city.client("operator").get("/institutions").json()["institutions"]
    assert city.outputs()["CanaryRoleArn"] == next(entry["role_arn"] for entry in listed if entry["id"] == "canary")
    assert len(objects(operated) - before) == 2, "each flight is of its own"

    for hospital in ("san-matteo", "maugeri"):
        assert "canary" not in city.client(hospital).get("/institutions").text
        told = city.client(hospital).get("/changes?since=0").json()["changes"]
        assert not [change for change in told if "canary" in str(change) and change["kind"] != "membership-changed"]
    assert "canary" not in operated.run(operate.main, "forwarders")
    passed = wait_until(lambda: [line for line in operated.log_lines() if line.get("state") == "passed"])
    assert len(passed) >= 2
    (board,) = [widget for widget in dashboard.WIDGETS if isinstance(widget, dashboard.Lines) and widget.message == "canary"]
    assert all(set(board.fields) <= set(line) for line in passed)
    assert operated.run(operate.main, "reconcile", "--older-than", "0", "--institution", "canary")
