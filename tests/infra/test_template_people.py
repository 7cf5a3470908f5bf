"""The packaged template's operator, institutions' boundary and alarms."""

import json
from collections.abc import Callable, Iterator
from typing import Any

Template = dict[str, Any]
Resources = Callable[[str], Iterator[tuple[str, Template]]]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_the_boundary_lets_call_this_api_and_nothing_else(template: Template) -> None:
    boundary = template["Resources"]["InstitutionBoundary"]["Properties"]["PolicyDocument"]["Statement"]
    assert {action for statement in boundary for action in _list(statement["Action"])} == {"execute-api:Invoke"}
    for statement in boundary:
        for resource in _list(statement["Resource"]):
            assert "${RestAPI}/" in resource["Fn::Sub"]
    (denied,) = [statement for statement in boundary if statement["Effect"] == "Deny"]
    assert {resource["Fn::Sub"].split("/", 2)[2] for resource in denied["Resource"]} == {
        "PUT/institutions/*",
        "DELETE/institutions/*",
    }


def test_the_operator_makes_no_role_without_the_boundary(template: Template) -> None:
    statements = template["Resources"]["OperatorPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    gives_rights = {"iam:CreateRole", "iam:PutRolePolicy", "iam:PutRolePermissionsBoundary"}
    for statement in statements:
        actions = set(_list(statement["Action"]))
        assert not actions & {"iam:DeleteRolePermissionsBoundary", "iam:AttachRolePolicy"}
        assert all("*" not in action for action in actions)
        assert "*" not in _list(statement["Resource"])
        if actions & gives_rights:
            assert statement["Condition"] == {"StringEquals": {"iam:PermissionsBoundary": {"Ref": "InstitutionBoundary"}}}


def test_what_suffers_rings(resources: Resources) -> None:
    alarms = dict(resources("AWS::CloudWatch::Alarm"))
    watched = {(alarm["MetricName"], json.dumps(alarm["Dimensions"][0]["Value"])) for alarm in alarms.values()}
    for metric, source in [
        ("ApproximateNumberOfMessagesVisible", {"Fn::GetAtt": ["InstancesDeadLetterQueue", "QueueName"]}),
        ("ApproximateNumberOfMessagesVisible", {"Fn::GetAtt": ["ProjectorDeadLetterQueue", "QueueName"]}),
        ("ApproximateAgeOfOldestMessage", {"Fn::GetAtt": ["InstancesQueue", "QueueName"]}),
        ("IteratorAge", {"Ref": "ProjectFacts"}),
        ("5XXError", {"Ref": "AWS::StackName"}),
        ("Throttles", {"Ref": "APIHandler"}),
        ("Throttles", {"Ref": "IndexInstances"}),
        ("Throttles", {"Ref": "ProjectFacts"}),
    ]:
        assert (metric, json.dumps(source)) in watched
    for name, alarm in alarms.items():
        assert alarm["AlarmActions"] == [{"Ref": "AlarmsTopic"}], name
        assert alarm["AlarmDescription"], name


def test_the_alarm_on_errors_watches_the_api_by_the_name_it_has(template: Template) -> None:
    assert template["Resources"]["RestAPI"]["Properties"]["Name"] == {"Ref": "AWS::StackName"}
    dimensions = template["Resources"]["ApiErrorsAlarm"]["Properties"]["Dimensions"]
    assert dimensions[0] == {"Name": "ApiName", "Value": {"Ref": "AWS::StackName"}}
