"""The archive stopped while its table is replaced, and started again: every function, its schedules, its queues and its stream.

Without the sources first, what waits in a queue would be counted as tried and set aside. A function of no concurrency stays
stopped whatever a deployment makes anew in front of it.
"""

from collections.abc import Callable, Iterator
from typing import Any

from infra.deployed import OperationFailed

MOST_LOOKS = 300
"""How often it is looked whether a source has stopped or started: ten minutes, at two seconds a pause."""
_FUNCTION, _SOURCE, _RULE = "AWS::Lambda::Function", "AWS::Lambda::EventSourceMapping", "AWS::Events::Rule"


def stop(session: Any, stack: str, pause: Callable[[], None]) -> int:
    """Let nothing of a stack run any more; how many functions it has. Waits (`pause`) until its sources have stopped.

    Raises OperationFailed where they do not.
    """
    sources, rules, functions = _parts(session, stack)
    _switch(session, sources, False, pause)
    events, client = session.client("events"), session.client("lambda")
    for rule in rules:
        events.disable_rule(Name=rule)
    for function in functions:
        client.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
    return len(functions)


def start(session: Any, stack: str, pause: Callable[[], None]) -> int:
    """Let everything of a stack run again; how many functions it has. None has a concurrency of its own in the templates."""
    sources, rules, functions = _parts(session, stack)
    events, client = session.client("events"), session.client("lambda")
    for function in functions:
        client.delete_function_concurrency(FunctionName=function)
    for rule in rules:
        events.enable_rule(Name=rule)
    _switch(session, sources, True, pause)
    return len(functions)


def _switch(session: Any, sources: list[str], on: bool, pause: Callable[[], None]) -> None:
    client = session.client("lambda")
    for source in sources:
        client.update_event_source_mapping(UUID=source, Enabled=on)
    wanted = "Enabled" if on else "Disabled"
    for _ in range(MOST_LOOKS):
        if all(client.get_event_source_mapping(UUID=source)["State"] == wanted for source in sources):
            return
        pause()
    raise OperationFailed(f"An event source does not become {wanted}: look at it at AWS, and say the same again")


def _parts(session: Any, stack: str) -> tuple[list[str], list[str], list[str]]:
    """The event sources, rules and functions of a stack, by what AWS calls them."""
    resources = list(_resources(session.client("cloudformation"), stack))
    sources, rules, functions = (
        [resource["PhysicalResourceId"] for resource in resources if resource["ResourceType"] == kind]
        for kind in (_SOURCE, _RULE, _FUNCTION)
    )
    return sources, rules, functions


def _resources(cloudformation: Any, stack: str) -> Iterator[dict[str, Any]]:
    for page in cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack):
        yield from page["StackResourceSummaries"]
