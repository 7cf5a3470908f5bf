"""The dashboard of a city: what arrives, waits, fails, takes long and costs, on one page of CloudWatch.

Figures that AWS counts by itself are read from its metrics; what only our own code knows is read from its log lines when
somebody looks, which costs by the byte that is read and nothing else: a metric of its own for each route, reason and
institution would cost more a month than the functions do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

REPORT = "REPORT"
"""The kind of line that Lambda itself writes at the end of each invocation."""
FUNCTIONS = ("APIHandler", "IndexInstances", "ProjectFacts", "RenderPixels", "AssembleBodies")
"""Whose errors, throttles and time are shown: those that people and machines wait for."""
_WIDE, _HALF, _HIGH = 24, 12, 6


@dataclass(frozen=True)
class Metric:
    """One line of a graph. `dimensions` are names and values in turn; values may hold `${…}` as `Fn::Sub` reads it."""

    namespace: str
    name: str
    dimensions: tuple[str, ...]
    statistic: str = "Sum"


@dataclass(frozen=True)
class Graph:
    """A widget of metrics, each summed up over `period` seconds."""

    title: str
    metrics: tuple[Metric, ...]
    period: int = 300


@dataclass(frozen=True)
class Lines:
    """A widget of log lines: of those in `logs` with this `message`, what `stats` makes of their `fields`."""

    title: str
    logs: tuple[str, ...]
    message: str
    fields: tuple[str, ...]
    stats: str
    chart: bool = False

    @property
    def query(self) -> str:
        """As CloudWatch Logs Insights reads it."""
        sources = " | ".join(f"SOURCE '${{{log}}}'" for log in self.logs)
        which = f'@type = "{REPORT}"' if self.message == REPORT else f'message = "{self.message}"'
        return f"{sources} | filter {which} | {self.stats}"


def _of_queue(name: str, queue: str, statistic: str = "Maximum") -> Metric:
    return Metric("AWS/SQS", name, ("QueueName", f"${{{queue}.QueueName}}"), statistic)


def _of_function(name: str, function: str, statistic: str = "Sum") -> Metric:
    return Metric("AWS/Lambda", name, ("FunctionName", f"${{{function}}}"), statistic)


def _of_api(name: str, statistic: str = "Sum") -> Metric:
    return Metric("AWS/ApiGateway", name, ("ApiName", "${AWS::StackName}", "Stage", "${RestAPI.Stage}"), statistic)


def _of_table(name: str) -> Metric:
    return Metric("AWS/DynamoDB", name, ("TableName", "${Table}"))


def _of_index(name: str, index: str) -> Metric:
    return Metric("AWS/DynamoDB", name, ("TableName", "${Table}", "GlobalSecondaryIndexName", index))


def _of_bucket(name: str, kind: str) -> Metric:
    return Metric("AWS/S3", name, ("BucketName", "${ImagesBucket}", "StorageType", kind), "Average")


def _of_city(name: str, statistic: str = "Maximum") -> Metric:
    return Metric("${AWS::StackName}", name, (), statistic)


INDEXES = ("gsi1", "gsi2", "gsi3", "gsi4")
"""DynamoDB counts what is read of an index, written to it and throttled there apart from the table's own."""
QUEUES = ("InstancesQueue", "InstancesDeadLetterQueue", "ProjectorDeadLetterQueue")
WIDGETS: tuple[Graph | Lines, ...] = (
    Graph("Arriving: objects stored", (_of_queue("NumberOfMessagesSent", "InstancesQueue", "Sum"),)),
    Lines(
        "Arriving, by institution", ("IndexerLog",), "arrived", ("institution", "objects", "bytes", "again"),
        "stats sum(objects) as came, sum(bytes) as size, sum(again) as again by institution | sort size desc",
    ),
    Lines(
        "Indexed: objects judged, and those tried again", ("IndexerLog",), "indexed", ("objects", "again"),
        "stats sum(objects) as judged, sum(again) as tried_again by bin(1h)",
    ),
    Lines(
        "Rejected, by reason", ("IndexerLog",), "rejected", ("reason", "objects"),
        "stats sum(objects) as rejections by reason | sort rejections desc",
    ),
    Graph("Waiting", tuple(_of_queue("ApproximateNumberOfMessagesVisible", queue) for queue in QUEUES)),
    Lines(
        "Waiting in the hospitals, by their signs of life", ("ExpiryLog",), "forwarders",
        ("silent", "alive", "waiting", "oldest_waiting_seconds"),
        "stats max(waiting) as instances, max(oldest_waiting_seconds) as oldest, min(alive) as heard, max(silent) as fell_silent"
        " by bin(1h)",
    ),
    Graph(
        "Age of the oldest (queue: s; stream: ms)",
        (_of_queue("ApproximateAgeOfOldestMessage", "InstancesQueue"), _of_function("IteratorAge", "ProjectFacts", "Maximum")),
    ),
    Graph(
        "Failures",
        (_of_api("5XXError"), _of_api("4XXError"), *(_of_function("Errors", function) for function in FUNCTIONS)),
    ),
    Graph("Requests, and how long they take (ms)", (_of_api("Count"), _of_api("Latency", "p50"), _of_api("Latency", "p99"))),
    Lines(
        "Latency by route (ms)", ("ApiLog",), "request", ("route", "milliseconds", "status"),
        "stats count(*) as requests, pct(milliseconds, 50) as half, pct(milliseconds, 95) as most, max(milliseconds) as longest"
        " by route | sort most desc",
    ),
    Lines(
        "Cold starts (ms)", ("ApiLog", "IndexerLog", "ProjectorLog"), REPORT, (),
        "stats count(@initDuration) as cold, count(*) as invocations, max(@initDuration) as longest by bin(1h)", chart=True,
    ),
    Graph(
        "Throttles",
        (
            *(_of_function("Throttles", function) for function in FUNCTIONS),
            _of_table("ReadThrottleEvents"),
            _of_table("WriteThrottleEvents"),
            *(_of_index(name, index) for name in ("ReadThrottleEvents", "WriteThrottleEvents") for index in INDEXES),
        ),
    ),
    Graph("Functions at once", tuple(_of_function("ConcurrentExecutions", function, "Maximum") for function in FUNCTIONS)),
    Graph(
        "Cost: the units of the table and of its indexes",
        tuple(
            metric
            for name in ("ConsumedWriteCapacityUnits", "ConsumedReadCapacityUnits")
            for metric in (_of_table(name), *(_of_index(name, index) for index in INDEXES))
        ),
    ),
    Graph("Cost: functions (ms)", tuple(_of_function("Duration", function) for function in FUNCTIONS)),
    Graph(
        "Cost: bytes stored, by class",
        (_of_bucket("BucketSizeBytes", "StandardStorage"), _of_bucket("BucketSizeBytes", "GlacierInstantRetrievalStorage")),
        period=86400,
    ),
    Lines(
        "Cost: requests and their time (ms), by institution", ("ApiLog",), "request", ("institution", "milliseconds"),
        "stats count(*) as requests, sum(milliseconds) as time by institution | sort time desc",
    ),
    Lines(
        "The canary: seconds until what it sent is found, and of it all", ("CanaryLog",), "canary",
        ("state", "found_after", "took"),
        "stats count(*) as flights, max(found_after) as found, max(took) as longest by state",
    ),
    Graph("Forwarders that fell silent; numbers proposed, and refused", (
        _of_city("SilentForwarders"), _of_city("Proposals", "Sum"), _of_city("ProposalsRefused", "Sum"),
    )),
)  # fmt: skip


def body() -> dict[str, Any]:
    """The dashboard, as the property DashboardBody of AWS::CloudWatch::Dashboard takes it."""
    widgets: list[dict[str, Any]] = []
    x = y = 0
    for widget in WIDGETS:
        width = _HALF if isinstance(widget, Graph) or not widget.chart else _WIDE
        if x + width > _WIDE:
            x, y = 0, y + _HIGH
        widgets.append({"x": x, "y": y, "width": width, "height": _HIGH, **_shown(widget)})
        x += width
    return {"Fn::Sub": json.dumps({"widgets": widgets})}


def _shown(widget: Graph | Lines) -> dict[str, Any]:
    shared = {"title": widget.title, "region": "${AWS::Region}"}
    if isinstance(widget, Graph):
        lines = [[metric.namespace, metric.name, *metric.dimensions, {"stat": metric.statistic}] for metric in widget.metrics]
        return {"type": "metric", "properties": {**shared, "metrics": lines, "period": widget.period, "view": "timeSeries"}}
    return {"type": "log", "properties": {**shared, "query": widget.query, "view": "bar" if widget.chart else "table"}}
