"""The dashboard shows what there is: metrics that AWS counts of resources of the stack, and fields of lines that are written."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from infra import dashboard, templates
from infra.dashboard import Graph, Lines

COUNTED = {
    "AWS/SQS": {"NumberOfMessagesSent", "ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"},
    "AWS/Lambda": {"Errors", "Throttles", "Duration", "IteratorAge", "ConcurrentExecutions", "Invocations"},
    "AWS/ApiGateway": {"Count", "Latency", "4XXError", "5XXError"},
    "AWS/DynamoDB": {"ReadThrottleEvents", "WriteThrottleEvents", "ConsumedReadCapacityUnits", "ConsumedWriteCapacityUnits"},
    "AWS/S3": {"BucketSizeBytes"},
}
"""What each service counts by itself (its developer guide, "metrics and dimensions")."""


@pytest.fixture(scope="module")
def shown(template: dict[str, Any]) -> list[dict[str, Any]]:
    body = template["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    widgets: list[dict[str, Any]] = json.loads(body)["widgets"]
    return widgets


def test_every_metric_is_counted_by_a_service_or_by_a_filter_of_ours(template: dict[str, Any], shown: Any) -> None:
    ours = {
        change["MetricName"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Logs::MetricFilter"
        for change in resource["Properties"]["MetricTransformations"]
    }
    seen = [line for widget in shown if widget["type"] == "metric" for line in widget["properties"]["metrics"]]
    assert len(seen) > 30
    for namespace, name, *_ in seen:
        assert name in (ours if namespace == "${AWS::StackName}" else COUNTED[namespace]), (namespace, name)


def test_what_dynamodb_counts_of_the_table_is_shown_of_each_index_too(template: dict[str, Any], shown: Any) -> None:
    """Its developer guide: with TableName alone a metric leaves the indexes out."""
    indexes = {index["IndexName"] for index in template["Resources"]["Table"]["Properties"]["GlobalSecondaryIndexes"]}
    seen: dict[str, set[str]] = {}
    for widget in shown:
        for namespace, name, *dimensions in widget["properties"].get("metrics", []):
            if namespace == "AWS/DynamoDB":
                named = dict(zip(dimensions[:-1:2], dimensions[1:-1:2], strict=True))
                seen.setdefault(name, set()).add(named.get("GlobalSecondaryIndexName", "the table"))
    assert set(seen) == COUNTED["AWS/DynamoDB"]
    assert all(places == {"the table", *indexes} for places in seen.values()), seen


def test_what_a_widget_names_is_a_resource_of_the_stack(template: dict[str, Any]) -> None:
    body = template["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    for name in set(re.findall(r"\$\{([^}]+)\}", body)):
        assert name.startswith("AWS::") or name.split(".")[0] in template["Resources"], name


def test_the_operator_sees_what_was_asked_for() -> None:
    titles = " ".join(widget.title.lower() for widget in dashboard.WIDGETS)
    for wanted in ("arriving", "indexed", "rejected, by reason", "waiting", "age", "failures", "latency by route", "cold starts",
                   "throttles", "cost: requests and their time (ms), by institution"):  # fmt: skip
        assert wanted in titles


def test_a_query_uses_the_fields_that_it_says(template: dict[str, Any]) -> None:
    """So that the test in the running city (test_lines_of_the_dashboard.py) holds the queries against real lines."""
    for widget in dashboard.WIDGETS:
        if isinstance(widget, Lines) and widget.message != dashboard.REPORT:
            names = set(re.findall(r"(?:sum|pct|max|avg)\((\w+)|\bby (\w+)(?:, (\w+))?", widget.stats))
            used = {name for found in names for name in found if name} - {"bin"}
            assert used <= set(widget.fields), widget.title
        if isinstance(widget, Graph):
            assert widget.metrics


def test_no_figure_is_paid_for_by_the_route(template: dict[str, Any]) -> None:
    """Detailed metrics of API Gateway are billed as custom metrics: several for each of some hundred methods."""
    (stage,) = [
        resource["Properties"] for resource in template["Resources"].values() if resource["Type"] == "AWS::ApiGateway::Stage"
    ]
    assert not any(settings["MetricsEnabled"] for settings in stage["MethodSettings"])


def test_a_budget_tells_before_it_is_used_up() -> None:
    """By mail, in us-east-1: eu-south-1 has no such resource. `make check` lints it for there."""
    template = templates.load(templates.BUDGET)
    (budget,) = template["Resources"].values()
    assert budget["Properties"]["Budget"]["BudgetLimit"] == {"Amount": {"Ref": "MonthlyUsd"}, "Unit": "USD"}
    kinds = {}
    for entry in budget["Properties"]["NotificationsWithSubscribers"]:
        kinds[entry["Notification"]["NotificationType"]] = entry["Notification"]["Threshold"]
        assert entry["Subscribers"] == [{"SubscriptionType": "EMAIL", "Address": {"Ref": "AlarmEmail"}}]
    assert kinds == {"ACTUAL": 80, "FORECASTED": 100}
