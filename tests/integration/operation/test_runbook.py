"""The commands of docs/runbook.md, each run as it stands there."""

from __future__ import annotations

import json
import re
import shlex
from itertools import pairwise
from typing import Any

import boto3
import pytest
from botocore.validate import ParamValidator

from infra import audit, operate
from tests.harness import ROOT
from tests.integration.hospital import send
from tests.integration.operation.conftest import OperatedCity
from tests.world import image

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
OURS = list(dict.fromkeys(re.findall(r"python -m infra\.((?:operate|audit) [^`\n]+)", RUNBOOK)))
COMMANDS = {"operate": operate.main, "audit": audit.main}
AWS = [line.strip() for line in RUNBOOK.replace("\\\n", "").splitlines() if line.startswith("    aws ")]
ONLY_WHERE_IT_IS_DEPLOYED = {"cloudformation", "dynamodbstreams", "events", "logs", "sns"}
"""The functions, their logs and their clock are in no stack of the local city, whose streams have no API, nor has it mails: these
are held against AWS's own description."""


def test_there_are_commands() -> None:
    assert {command.split()[0] for command in OURS} == {"operate", "audit"}
    assert len(OURS) >= 7
    assert len(AWS) >= 5


@pytest.mark.parametrize("command", OURS)
def test_a_command_of_ours_does_what_is_asked(operated: OperatedCity, command: str) -> None:
    name, *arguments = shlex.split(command)
    if arguments == ["canary"]:
        arguments.append("--join")  # nobody did, in this city
    if name == "operate":
        operated.run(COMMANDS[name], *arguments)
        return
    code_of_no_anchor_yet = 3
    assert COMMANDS[name]([arguments[0], *operated.where, *arguments[1:]]) in (0, code_of_no_anchor_yet)


def test_what_an_administrator_types_to_find_a_fact_that_was_not_projected(operated: OperatedCity) -> None:
    """The commands in their order, each placeholder filled with what the one before answered, as a person would."""
    city = operated.city
    send(city.client("maugeri"), image(study="1.2.3", patient="RUNBOOK-1"))
    known = {
        "PROJECTOR-DEAD-LETTER-QUEUE": city.outputs()["ProjectorDeadLetterQueueUrl"],
        "PROJECT-FACTS": "project_facts",
        "STREAM": "arn:aws:dynamodb:eu-south-1:123456789012:table/t/stream/2026-11-30T00:00:00.000",
        "SHARD": "shardId-00000001700000000000-00000000",
    }
    answers: dict[str, Any] = {}
    for command in AWS:
        _, service, operation, *options = shlex.split(command)
        parameters = {name: known.get(value, value) for name, value in _parameters(options).items()}
        if service in ONLY_WHERE_IT_IS_DEPLOYED:
            _described(service, operation, parameters)
        else:
            client = city.aws(service)
            answers[operation] = getattr(client, operation.replace("-", "_"))(**parameters)
    assert answers["receive-message"].get("Messages", []) == []
    assert json.loads(answers["invoke"]["Payload"].read()) == {"batchItemFailures": []}


def _described(service: str, operation: str, parameters: dict[str, Any]) -> None:
    """That AWS describes this call, with these parameters and all that it needs."""
    client = boto3.client("s3" if service == "s3api" else service, region_name="eu-south-1")
    model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[operation.replace("-", "_")])
    members = model.input_shape.members if model.input_shape is not None else {}
    names = {name.lower(): name for name in members}
    given = {
        names.get(name.lower(), name): _as_typed(members.get(names.get(name.lower(), "")), value)
        for name, value in parameters.items()
    }
    problems = ParamValidator().validate(given, model.input_shape) if model.input_shape is not None else None
    assert problems is None or not problems.has_errors(), f"{service} {operation}: {problems.generate_report()}"


def _as_typed(shape: Any, value: str) -> Any:
    """As the command line reads a value for a shape; a switch has none."""
    kind = shape.type_name if shape is not None else "string"
    if kind == "integer":
        return int(value)
    if kind == "structure":
        return dict(pair.split("=") for pair in value.split(","))
    return [value] if kind == "list" else True if kind == "boolean" else value


FIRST = (ROOT / "docs" / "first-deployment.md").read_text(encoding="utf-8")
FIRST_AWS = [line.strip() for line in FIRST.splitlines() if line.startswith("      aws ")]


@pytest.mark.parametrize("command", FIRST_AWS, ids=lambda command: " ".join(command.split()[1:3]))
def test_what_is_tried_at_a_first_deployment_is_a_call_that_aws_has(command: str) -> None:
    _, service, operation, *options = shlex.split(command.replace("ACCOUNT", "123456789012"))
    _described(service, operation, _parameters(options))


AFTER_A_FAILED_ONE = re.findall(
    r"^ {6}(aws .+)", (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8").split("## Updates and rollback")[1], re.MULTILINE
)


def test_what_is_typed_after_a_first_deployment_that_failed_is_what_aws_has_and_lets_the_table_go() -> None:
    calls: dict[str, list[str]] = {}
    for command in AFTER_A_FAILED_ONE:
        _, service, operation, *options = shlex.split(command)
        parameters = _parameters([option.replace("--no-deletion", "--deletion") for option in options])
        _described(service, operation, parameters)
        calls[operation] = options
    assert list(calls)[-4:] == ["update-table", "delete-table", "delete-stack", "schedule-key-deletion"]
    assert "--no-deletion-protection-enabled" in calls["update-table"]


def test_each_line_of_the_first_deployments_list_has_its_command() -> None:
    entries = FIRST.split("- [ ] ")[1:]
    assert len(entries) >= 14
    assert all("\n      aws " in entry or "\n      python -m infra." in entry for entry in entries)
    known = {"operate": operate.COMMANDS, "onboard": {"prova"}, "audit": {"verify"}}
    for name, rest in re.findall(r"python -m infra\.(operate|onboard|audit) (\S+)", FIRST):
        assert rest in known[name]


def _parameters(options: list[str]) -> dict[str, str]:
    """The command line's options as the SDK names them, without those that are the command line's own."""
    own = {"--query", "--output", "--cli-binary-format"}
    pairs = [(name, value) for name, value in pairwise([*options, "--"]) if name.startswith("--")]
    named = {re.sub(r"-(\w)", lambda found: found[1].upper(), "-" + name[2:]): value for name, value in pairs if name not in own}
    return {name: value for name, value in named.items() if value}
