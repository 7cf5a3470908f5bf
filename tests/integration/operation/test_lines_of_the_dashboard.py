"""What the dashboard and the alarms read of log lines is written: held against the lines of a city that works."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from infra import dashboard, templates
from infra.dashboard import Lines
from tests.harness import wait_until
from tests.integration.hospital import send
from tests.integration.operation.conftest import OperatedCity
from tests.world import image

SELDOM = {"proposal"}
"""Lines of what is tested elsewhere (tests/sharing); their names are looked for in the sources."""
TICK = {
    "version": "0", "id": "t", "detail-type": "Scheduled Event", "source": "aws.events", "account": "", "time": "", "region": "",
    "resources": [], "detail": {},
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def ticked(operated: OperatedCity) -> None:
    """The clock has called, as it does each minute."""
    operated.city.client("mondino").put(
        "/forwarder", json={"version": "1", "waiting": 41, "oldest_waiting_seconds": 7200}
    ).raise_for_status()
    operated.city.aws("lambda").invoke(FunctionName="tell_expired", Payload=json.dumps(TICK))


def arrived(operated: OperatedCity) -> tuple[int, int]:
    """Objects and bytes that came from San Matteo, as the lines say."""
    lines = [line for line in operated.log_lines() if line.get("message") == "arrived" and line["institution"] == "san-matteo"]
    return sum(int(line["objects"]) for line in lines), sum(int(line["bytes"]) for line in lines)


def test_each_line_has_the_fields_that_are_added_up(operated: OperatedCity) -> None:
    city, before = operated.city, arrived(operated)
    send(city.client("san-matteo"), image(study="1.2.3.9", patient="BOARD-1"), b"this is no DICOM" * 20)
    wanted = {widget.message: widget for widget in dashboard.WIDGETS if isinstance(widget, Lines)}
    for seldom in (dashboard.REPORT, "canary"):  # Lambda's own; of what test_canary.py lets fly
        del wanted[seldom]

    def written() -> dict[str, list[dict[str, Any]]]:
        lines: dict[str, list[dict[str, Any]]] = {}
        for line in operated.log_lines():
            lines.setdefault(str(line.get("message")), []).append(line)
        return lines

    lines = wait_until(lambda: found if set(wanted) <= set(found := written()) else None)
    for widget in dashboard.WIDGETS:
        if isinstance(widget, Lines) and widget.message in wanted:
            assert any(set(widget.fields) <= set(line) for line in lines[widget.message]), widget.title
    assert {"reason": "not-dicom", "objects": 1}.items() <= lines["rejected"][0].items()
    heard = lines["forwarders"][-1]
    told = city.aws("lambda").invoke(FunctionName="operate", Payload=json.dumps({"job": "forwarders"}))
    signs = [sign for sign in json.load(told["Payload"])["forwarders"] if sign["age_seconds"] is not None and not sign["silent"]]
    assert (heard["waiting"], heard["oldest_waiting_seconds"], heard["alive"]) == (41, 7200, len(signs))
    wait_until(lambda: (came := arrived(operated))[0] == before[0] + 2 and came[1] > before[1] + 320)


def test_each_filter_of_a_metric_names_a_line_that_is_written(operated: OperatedCity) -> None:
    operated.city.client("san-matteo").get("/institutions")
    operated.city.aws("lambda").invoke(FunctionName="erase_due", Payload=json.dumps(TICK))
    wanted = {"request", "forwarders", "erased"}
    wait_until(lambda: wanted <= {str(line.get("message")) for line in operated.log_lines()})
    lines = list(operated.log_lines())
    for resource in templates.overrides()["Resources"].values():
        if resource.get("Type") != "AWS::Logs::MetricFilter":
            continue
        if resource["Properties"]["LogGroupName"] == {"Ref": "ApiAccessLog"}:
            continue  # the gateway writes it, in the template's format: tests/infra/test_template_people.py
        pattern = resource["Properties"]["FilterPattern"]
        conditions = dict(re.findall(r'\$\.(\w+) = "?([^"&}]+?)"?(?= &&| })', pattern))
        message = conditions.pop("message")
        assert message in SELDOM or any(line.get("message") == message and set(conditions) <= set(line) for line in lines)
        if message in SELDOM:
            sources = "".join(path.read_text(encoding="utf-8") for path in (templates.FOLDER.parent / "chalicelib").rglob("*.py"))
            assert re.search(rf'logger\(\)\.info\(\s*"{message}"', sources)
