"""The packaged template's operator, institutions' boundary and alarms."""

import json
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import cfnlint
import pytest

from infra.package import ROOT
from local.iam import policy

NO_RESOURCE = {
    "cloudwatch:GetMetricData",  # a “dataset” is none of the metrics that AWS counts by itself
    "events:ListRules",
    *(f"rolesanywhere:{action}" for action in ("CreateProfile", "ImportCrl", "ListCrls", "ListTagsForResource")),
}
"""What of the operator's IAM grants on everything or not at all (Service Authorization Reference)."""
ACCOUNT = "arn:aws:rolesanywhere:eu-south-1:123456789012"

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
    statements = _operator(template)
    gives_rights = {"iam:CreateRole", "iam:PutRolePolicy", "iam:PutRolePermissionsBoundary"}
    for statement in statements:
        actions = set(_list(statement["Action"]))
        assert not actions & {"iam:DeleteRolePermissionsBoundary", "iam:AttachRolePolicy"}
        assert all("*" not in action for action in actions)
        assert actions <= NO_RESOURCE if statement["Resource"] == "*" else "*" not in _list(statement["Resource"])
        if actions & gives_rights:
            assert statement["Condition"]["StringEquals"] == {"iam:PermissionsBoundary": {"Ref": "InstitutionBoundary"}}
        if any(action.startswith("iam:") for action in actions - {"iam:PassRole"}):
            by_stacks_only = {"ForAnyValue:StringEquals": {"aws:CalledVia": "cloudformation.amazonaws.com"}}
            assert by_stacks_only.items() <= statement["Condition"].items(), "who may assume a role is changed by a stack only"


def _operator(template: Template) -> list[Template]:
    """All that the operator's role may."""
    of_the_role = [
        resource["Properties"]["PolicyDocument"]["Statement"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::IAM::ManagedPolicy" and {"Ref": "OperatorRole"} in resource["Properties"].get("Roles", [])
    ]
    assert len(of_the_role) == 2
    return [statement for statements in of_the_role for statement in statements]


def test_the_operators_rights_name_a_resource_exactly_where_iam_knows_one(template: Template) -> None:
    """By the copy of the Service Authorization Reference that cfn-lint has. A right on a resource that IAM does not ask about
    is none."""
    known = json.loads((Path(cfnlint.__file__).parent / "data" / "AdditionalSpecs" / "Policies.json").read_text("utf-8"))
    everywhere = set()
    for statement in _operator(template):
        for action in _list(statement["Action"]):
            service, name = action.split(":")
            resources = known[service]["Actions"][name.lower()].get("Resources", [])
            resources = [kind for kind in resources if kind != "dataset"]
            assert bool(resources) == (statement["Resource"] != "*"), action
            everywhere |= set() if resources else {action}
        if statement["Resource"] == "*":
            assert statement["Condition"] == {"StringEquals": {"aws:RequestedRegion": {"Ref": "AWS::Region"}}}
    assert everywhere == NO_RESOURCE


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("ListCrls", "*"),
        ("ImportCrl", "*"),
        ("GetCrl", f"{ACCOUNT}:crl/1"),
        ("UpdateCrl", f"{ACCOUNT}:crl/1"),
        ("EnableCrl", f"{ACCOUNT}:crl/1"),
    ],
)
def test_the_operator_publishes_what_was_revoked_and_takes_no_list_away(template: Template, action: str, resource: str) -> None:
    text = json.dumps(_operator(template))
    for name, value in (("Partition", "aws"), ("Region", "eu-south-1"), ("AccountId", "123456789012")):
        text = text.replace(f"${{AWS::{name}}}", value).replace(json.dumps({"Ref": f"AWS::{name}"}), json.dumps(value))
    rights: Template = {"Statement": json.loads(re.sub(r'\{"Fn::Sub": ("[^"]*")\}', r"\1", text))}
    here, elsewhere = {"aws:requestedregion": "eu-south-1"}, {"aws:requestedregion": "eu-west-1"}

    def decided(action: str, resource: str, context: dict[str, str]) -> str:
        return policy.decide([rights], f"rolesanywhere:{action}", resource, context)

    assert decided(action, resource, here) == "allow"
    if resource == "*":
        assert decided(action, resource, elsewhere) == "none"
    for taken in ("DisableCrl", "DeleteCrl", "DisableTrustAnchor", "UpdateTrustAnchor"):
        assert decided(taken, resource, here) == "none"


def test_the_operator_may_look_where_the_runbook_sends_it_and_reads_no_image_there(template: Template) -> None:
    allowed: dict[str, list[Any]] = {}
    looks = template["Resources"]["OperatorLooksPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    for statement in looks:
        for action in _list(statement["Action"]):
            allowed[action] = _list(statement["Resource"])
    assert set(allowed) == {
        "logs:FilterLogEvents", "logs:GetLogEvents", "logs:GetQueryResults", "logs:StartQuery",
        "cloudwatch:GetDashboard", "cloudwatch:GetMetricData", "events:ListRules", "sns:ListSubscriptionsByTopic",
    }  # fmt: skip
    logs = {name for name, resource in template["Resources"].items() if resource["Type"] == "AWS::Logs::LogGroup"}
    for action in ("FilterLogEvents", "GetLogEvents", "GetQueryResults", "StartQuery"):
        assert allowed[f"logs:{action}"] == [{"Fn::GetAtt": [name, "Arn"]} for name in _in_order(allowed[f"logs:{action}"])]
        assert set(_in_order(allowed[f"logs:{action}"])) == logs
    runbook = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    named = {template["Outputs"][name]["Value"]["Ref"] for name in re.findall(r"output `(\w+(?:LogName|TopicArn))`", runbook)}
    assert len(named) > 8
    assert named <= logs | {resource["Ref"] for resource in allowed["sns:ListSubscriptionsByTopic"]}


def _in_order(resources: list[Any]) -> list[str]:
    return [resource["Fn::GetAtt"][0] for resource in resources]


@pytest.mark.parametrize("name", ["OperatorPolicy", "OperatorLooksPolicy"])
def test_a_policy_of_the_operators_is_not_too_long_for_iam(template: Template, name: str) -> None:
    """6,144 characters without white space, references as long as they get."""
    document = json.dumps(template["Resources"][name]["Properties"]["PolicyDocument"], separators=(",", ":"))
    lengths = {"Partition": 3, "Region": 10, "AccountId": 12, "StackName": 30}
    for variable, length in lengths.items():
        document = document.replace(f"${{AWS::{variable}}}", "x" * length)
    document = re.sub(r'\{"Fn::Sub":("[^"]*")\}', r"\1", document)
    document = re.sub(r'\{"(?:Ref|Fn::GetAtt)":[^}]*\}', json.dumps("x" * 130), document)
    assert len(document) < 6144


def test_what_suffers_rings(resources: Resources) -> None:
    alarms = dict(resources("AWS::CloudWatch::Alarm"))
    single = [alarm for alarm in alarms.values() if "MetricName" in alarm]
    watched = {(alarm["MetricName"], json.dumps(alarm["Dimensions"][0]["Value"])) for alarm in single if "Dimensions" in alarm}
    for metric, source in [
        ("ApproximateNumberOfMessagesVisible", {"Fn::GetAtt": ["InstancesDeadLetterQueue", "QueueName"]}),
        ("ApproximateNumberOfMessagesVisible", {"Fn::GetAtt": ["ProjectorDeadLetterQueue", "QueueName"]}),
        ("ApproximateAgeOfOldestMessage", {"Fn::GetAtt": ["InstancesQueue", "QueueName"]}),
        ("IteratorAge", {"Ref": "ProjectFacts"}),
        ("Throttles", {"Ref": "APIHandler"}),
        ("Throttles", {"Ref": "IndexInstances"}),
        ("Throttles", {"Ref": "ProjectFacts"}),
    ]:
        assert (metric, json.dumps(source)) in watched
    for name, alarm in alarms.items():
        assert alarm["AlarmActions"] == [{"Ref": "AlarmsTopic"}], name
        assert alarm["AlarmDescription"], name


def test_guessing_at_numbers_is_counted_and_rings(template: Template) -> None:
    """By the lines of the API's log that say so: `message`, `route` and `status` are fields of it (`api/pipeline.py`)."""
    found = template["Resources"]
    counted, refused, alarm = (
        found[name]["Properties"] for name in ("ProposalsMetric", "ProposalsRefusedMetric", "ProposalsAlarm")
    )
    for metric in (counted, refused):
        assert metric["LogGroupName"] == {"Ref": "ApiLog"}
    assert counted["FilterPattern"] == '{ $.message = "proposal" }'
    assert refused["FilterPattern"] == '{ $.message = "request" && $.route = "POST /transfers" && $.status = 429 }'
    (what,) = refused["MetricTransformations"]
    assert (alarm["Namespace"], alarm["MetricName"]) == (what["MetricNamespace"], what["MetricName"])
    assert alarm["Threshold"] == 0


def _counted(template: Template, metric: str, status: int) -> bool:
    """Whether a metric filter counts the access log's line of an answer: texts are compared as CloudWatch Logs does."""
    found = template["Resources"]
    assert found[metric]["Properties"]["LogGroupName"] == {"Ref": "ApiAccessLog"}
    (log,) = [entry["Properties"]["AccessLogSetting"] for entry in found.values() if entry["Type"] == "AWS::ApiGateway::Stage"]
    assert log["DestinationArn"] == {"Fn::GetAtt": ["ApiAccessLog", "Arn"]}
    line = json.loads(re.sub(r"\$context\.[A-Za-z.]+", lambda name: str(status) if name[0] == "$context.status" else "-",
                             log["Format"]))  # fmt: skip
    terms = found[metric]["Properties"]["FilterPattern"].strip("{ }").split(" && ")
    compared = [re.fullmatch(r'\$\.(\w+) (!?=) "([^"]*)"', term) for term in terms]
    return all(term and fnmatchcase(line[term[1]], term[3]) == (term[2] == "=") for term in compared)


def test_an_answer_that_no_input_may_cause_rings_and_one_that_is_meant_does_not(template: Template) -> None:
    """503 is answered by design: it rang in ordinary use, and true faults drowned in it."""
    alarm, (what,) = (
        template["Resources"]["ApiErrorsAlarm"]["Properties"],
        template["Resources"]["ApiErrorsMetric"]["Properties"]["MetricTransformations"],
    )
    assert (alarm["Namespace"], alarm["MetricName"]) == (what["MetricNamespace"], what["MetricName"])
    assert (alarm["Threshold"], alarm["EvaluationPeriods"], alarm["Statistic"], what["MetricValue"]) == (0, 1, "Sum", "1")
    ringing = {status for status in (200, 307, 404, 429, 500, 502, 503, 504) if _counted(template, "ApiErrorsMetric", status)}
    assert ringing == {500, 502, 504}


def test_an_api_that_is_busy_for_a_quarter_of_an_hour_rings(template: Template) -> None:
    alarm = template["Resources"]["ApiBusyAlarm"]["Properties"]
    (what,) = template["Resources"]["ApiBusyMetric"]["Properties"]["MetricTransformations"]
    busy, asked = (metric["MetricStat"] for metric in alarm["Metrics"] if "MetricStat" in metric)
    assert busy["Metric"] == {"Namespace": what["MetricNamespace"], "MetricName": what["MetricName"]}
    assert {status for status in (200, 404, 500, 503, 504) if _counted(template, "ApiBusyMetric", status)} == {503}
    assert template["Resources"]["RestAPI"]["Properties"]["Name"] == {"Ref": "AWS::StackName"}
    assert asked["Metric"]["Dimensions"][0] == {"Name": "ApiName", "Value": {"Ref": "AWS::StackName"}}
    assert (busy["Period"], asked["Period"], alarm["EvaluationPeriods"]) == (60, 60, 15)
    (share,) = [metric["Expression"] for metric in alarm["Metrics"] if "Expression" in metric]
    assert (share, alarm["Threshold"]) == ("100 * FILL(busy, 0) / asked", 10)


def test_what_runs_by_the_clock_and_does_not_run_rings(template: Template, resources: Resources) -> None:
    """A function that nothing calls any more has no errors either: no figure is a bad one."""
    by_clock = {target["Arn"]["Fn::GetAtt"][0] for _, rule in resources("AWS::Events::Rule") for target in rule["Targets"]}
    assert {"AnchorAudit", "SweepUploads", "TellExpired"} <= by_clock
    watching = {
        alarm["Dimensions"][0]["Value"]["Ref"]: alarm
        for _, alarm in resources("AWS::CloudWatch::Alarm")
        if alarm.get("MetricName") == "Errors"
    }
    for name in by_clock:
        assert watching[name]["TreatMissingData"] == "breaching", name


def test_an_emergency_that_reaches_nobody_rings(template: Template) -> None:
    alarm = template["Resources"]["EmergenciesUnheardAlarm"]["Properties"]
    topic = {"Fn::GetAtt": ["EmergenciesTopic", "TopicName"]}
    counted = {
        metric["Id"]: metric["MetricStat"]["Metric"]["MetricName"] for metric in alarm["Metrics"] if "MetricStat" in metric
    }
    assert counted == {"told": "NumberOfMessagesPublished", "heard": "NumberOfNotificationsDelivered"}
    assert all(
        metric["MetricStat"]["Metric"]["Dimensions"] == [{"Name": "TopicName", "Value": topic}]
        for metric in alarm["Metrics"]
        if "MetricStat" in metric
    )


def test_a_city_where_nobody_hears_of_emergencies_or_alarms_is_not_deployed(template: Template) -> None:
    """Rules are asserted by CloudFormation before anything is made: decided here as it decides them."""
    (assertion,) = template["Rules"]["SomebodyHearsOfIt"]["Assertions"]
    defaults = {name: parameter.get("Default") for name, parameter in template["Parameters"].items()}

    def decided(**given: str) -> bool:
        return _asserted(assertion["Assert"], defaults | given)

    assert not decided()
    assert not decided(AlarmEmail="a@example.org")
    assert not decided(EmergencyEmail="a@example.org")
    assert decided(AlarmEmail="a@example.org", EmergencyEmail="b@example.org")
    assert decided(SubscribedByHand="yes")
    mail = template["Resources"]["EmergenciesByMail"]
    assert mail["Properties"] == {
        "TopicArn": {"Ref": "EmergenciesTopic"},
        "Protocol": "email",
        "Endpoint": {"Ref": "EmergencyEmail"},
    }


def _asserted(expression: Any, parameters: dict[str, Any]) -> Any:
    """A rule's assertion with these parameters (CloudFormation User Guide, "Rules section": Equals, Not, And, Or, Ref)."""
    if not isinstance(expression, dict):
        return expression
    ((name, of),) = expression.items()
    if name == "Ref":
        return parameters[of]
    values = [_asserted(operand, parameters) for operand in of]
    return {
        "Fn::Equals": lambda: values[0] == values[1],
        "Fn::Not": lambda: not values[0],
        "Fn::And": lambda: all(values),
        "Fn::Or": lambda: any(values),
    }[name]()


def test_two_operators_are_two_persons_where_the_deployment_says_so(template: Template) -> None:
    """IAM User Guide, "IAM and AWS STS condition context keys" (sts:RoleSessionName) and "Policy elements: Variables" (which
    principals have aws:username, and what aws:userid is of each)."""
    parameter = template["Parameters"]["OperatorSessionName"]
    role = template["Resources"]["OperatorRole"]["Properties"]["AssumeRolePolicyDocument"]
    (statement,) = role["Statement"]
    assert role["Version"] == "2012-10-17", "an earlier one takes a variable for its letters"
    conditions = {name: template["Conditions"][name] for name in ("OperatorsAreUsers", "OperatorsNameThemselves")}

    def trusted(**given: str) -> Any:
        said = {"OperatorSessionName": parameter["Default"]} | given
        found = statement["Condition"]
        while "Fn::If" in found:
            condition, then, otherwise = found["Fn::If"]
            found = then if _asserted(conditions[condition], said) else otherwise
        return found

    assert trusted() == {"Ref": "AWS::NoValue"}, "as it was"
    assert parameter["AllowedValues"] == ["anything", "user-name", "callers-session"]
    assert trusted(OperatorSessionName="user-name") == {"StringEquals": {"sts:RoleSessionName": "${aws:username}"}}
    assert trusted(OperatorSessionName="callers-session") == {"StringLike": {"aws:userid": "*:${sts:RoleSessionName}"}}


def test_the_operators_role_takes_no_other_name_from_within(template: Template) -> None:
    """A session that may assume its own role again chooses another name."""
    statements = template["Resources"]["OperatorPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert not [action for statement in statements for action in _list(statement["Action"]) if action.startswith("sts:")]
    assert [
        name for name in template["Resources"]["OperatorRole"]["Properties"] if name in ("Policies", "ManagedPolicyArns")
    ] == []
