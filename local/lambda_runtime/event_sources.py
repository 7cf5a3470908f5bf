"""Which queue and which stream feed which function, read from the app and from what is merged over its
template."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from chalice.app import DynamoDBEventConfig, ScheduledEventConfig, SQSEventConfig
from chalice.utils import to_cfn_resource_name

from local.emulation.moto_patches import ACCOUNT, REGION
from local.faults import Faults
from local.lambda_runtime.event_source_mappings import Pump, QueueSource, StreamSource, queue_pump, stream_pump
from local.lambda_runtime.functions import Function
from local.lambda_runtime.schedule import period, schedule_pump
from local.state import State

if TYPE_CHECKING:
    from moto.cloudformation.models import Stack

QUEUE_WORKERS = 2


def pumps(
    app: Any, functions: dict[str, Function], overrides: dict[str, Any], stack: Stack, state: State, faults: Faults
) -> list[Pump]:
    """Two pumps for each queue, one for each stream and each schedule of the app."""
    made: list[Pump] = []
    for source in app.event_sources:
        function = functions[source.name]
        if isinstance(source, SQSEventConfig):
            settings, queue = queue_source(source, overrides), queue_named(queue_arn(source, overrides, stack))
            made += [queue_pump(settings, queue, function, f"{source.name}-{n}", faults) for n in range(QUEUE_WORKERS)]
        elif isinstance(source, DynamoDBEventConfig):
            made.append(stream_pump(stream_source(source, overrides, stack), function, state, faults))
        elif isinstance(source, ScheduledEventConfig):
            expression = source.schedule_expression
            text = expression if isinstance(expression, str) else expression.to_string()
            made.append(schedule_pump(function, period(text), state))
        else:
            raise ValueError(f"The local city has no event source of this kind: {source.name}")
    return made


def queue_named(arn: str) -> Any:
    """The emulator's queue."""
    from moto.sqs.models import sqs_backends

    return sqs_backends[ACCOUNT][REGION].get_queue(arn.split(":")[-1])


def queue_arn(source: SQSEventConfig, overrides: dict[str, Any], stack: Stack) -> str:
    properties = _properties(source.name, "SqsEventSource", overrides)
    return resolve(properties.get("Queue"), stack) or source.queue_arn or ""


def queue_source(source: SQSEventConfig, overrides: dict[str, Any]) -> QueueSource:
    properties = _properties(source.name, "SqsEventSource", overrides)
    return QueueSource(
        batch_size=int(properties.get("BatchSize", source.batch_size)),
        window=float(properties.get("MaximumBatchingWindowInSeconds", source.maximum_batching_window_in_seconds or 0)),
        reports_failures="ReportBatchItemFailures" in properties.get("FunctionResponseTypes", []),
    )


def stream_source(source: DynamoDBEventConfig, overrides: dict[str, Any], stack: Stack) -> StreamSource:
    properties = _properties(source.name, "DynamodbEventSource", overrides)
    arn = resolve(properties.get("Stream"), stack) or source.stream_arn
    filters = properties.get("FilterCriteria", {}).get("Filters", [])
    retries = int(properties.get("MaximumRetryAttempts", -1))
    max_age = float(properties.get("MaximumRecordAgeInSeconds", -1))
    failure = properties.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
    dead_letters = resolve(failure, stack)
    destination = queue_named(dead_letters) if dead_letters else None
    return StreamSource(
        consumer=source.name,
        table_name=arn.split(":table/")[1].split("/")[0],
        batch_size=int(properties.get("BatchSize", source.batch_size)),
        filters=[json.loads(entry["Pattern"]) for entry in filters],
        reports_failures="ReportBatchItemFailures" in properties.get("FunctionResponseTypes", []),
        bisect=bool(properties.get("BisectBatchOnFunctionError", False)),
        retries=None if retries < 0 else retries,
        max_age=None if max_age < 0 else max_age,
        on_failure=partial(send, destination) if destination is not None else None,
    )


def send(queue: Any, body: str) -> None:
    """A message into a queue of the emulator."""
    from moto.sqs.models import sqs_backends

    sqs_backends[ACCOUNT][REGION].send_message(queue.name, body)


def environment(name: str, overrides: dict[str, Any], stack: Stack) -> dict[str, str]:
    """The variables that the template gives to a function (by its logical id)."""
    properties = overrides["Resources"].get(name, {}).get("Properties", {})
    variables = properties.get("Environment", {}).get("Variables", {})
    defaults = {name: parameter.get("Default", "") for name, parameter in overrides.get("Parameters", {}).items()}
    return {
        key: defaults[value["Ref"]] if isinstance(value, dict) and value.get("Ref") in defaults else resolve(value, stack) or ""
        for key, value in variables.items()
    }


def invoked(functions: dict[str, Function], overrides: dict[str, Any], stack: Stack) -> dict[str, Function]:
    """The functions by the names under which they are invoked: the app's, and the template's where it gives one."""
    found = dict(functions)
    for name, function in functions.items():
        properties = overrides["Resources"].get(to_cfn_resource_name(name), {}).get("Properties", {})
        found[str(resolve(properties.get("FunctionName", name), stack))] = function
    return found


def resolve(value: Any, stack: Stack) -> str | None:
    """A literal, `Ref`, `Fn::GetAtt`, or the last branch of an `Fn::If` whose condition the local city does
    not set."""
    if value is None or isinstance(value, str):
        return value
    if "Fn::Sub" in value:
        from moto.cloudformation.parsing import clean_json

        return str(clean_json(value, stack.resource_map))
    if "Fn::If" in value:
        return resolve(value["Fn::If"][2], stack)
    if "Ref" in value:
        found = stack.resource_map[value["Ref"]]
        return str(getattr(found, "physical_resource_id", found))
    if "Fn::GetAtt" in value:
        logical_id, attribute = value["Fn::GetAtt"]
        return str(stack.resource_map[logical_id].get_cfn_attribute(attribute))
    raise ValueError(f"The local city cannot resolve {value!r}")


def _properties(name: str, suffix: str, overrides: dict[str, Any]) -> dict[str, Any]:
    logical_id = to_cfn_resource_name(name)
    function = overrides["Resources"].get(logical_id, {}).get("Properties", {})
    properties: dict[str, Any] = function.get("Events", {}).get(f"{logical_id}{suffix}", {}).get("Properties", {})
    return properties
