"""The packaged template's functions: what feeds them, what they may do, what they write down."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chalicelib.services.projection import facts

Template = dict[str, Any]
Resources = Callable[[str], Iterator[tuple[str, Template]]]

FUNCTIONS = {
    "APIHandler", "AnchorAudit", "AssembleBodies", "Canary", "EraseDue", "IndexInstances", "Operate", "ProjectFacts", "ReadAgain",
    "RenderPixels", "SweepUploads", "TellExpired",
}  # fmt: skip
TRACING = {"xray:PutTelemetryRecords", "xray:PutTraceSegments"}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


INDEXER_SOURCE = "IndexInstancesIndexInstancesSqsEventSource"
PROJECTOR_SOURCE = "ProjectFactsProjectFactsDynamodbEventSource"


def test_every_event_source_reports_partial_batch_failures(resources: Resources) -> None:
    sources = dict(resources("AWS::Lambda::EventSourceMapping"))
    assert set(sources) == {INDEXER_SOURCE, PROJECTOR_SOURCE}
    for source in sources.values():
        assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_the_indexer_takes_batches_from_the_real_queue(template: Template) -> None:
    source = template["Resources"][INDEXER_SOURCE]["Properties"]
    assert source["EventSourceArn"] == {"Fn::GetAtt": ["InstancesQueue", "Arn"]}
    assert source["FunctionName"] == {"Ref": "IndexInstances"}
    assert (source["BatchSize"], source["MaximumBatchingWindowInSeconds"]) == (100, 1)
    assert source["ScalingConfig"]["MaximumConcurrency"] >= 2


def test_a_message_stays_invisible_for_six_times_as_long_as_the_indexer_may_run(template: Template) -> None:
    timeout = template["Resources"]["IndexInstances"]["Properties"]["Timeout"]
    window = template["Resources"][INDEXER_SOURCE]["Properties"]["MaximumBatchingWindowInSeconds"]
    queue = template["Resources"]["InstancesQueue"]["Properties"]
    assert queue["VisibilityTimeout"] >= 6 * timeout + window


FACTS = ("F#STUDY#", "F#PATIENT#", "F#TRANSFER#", "F#REGISTRY")
"""What views are made of: docs/data-model.md."""


def test_the_projector_follows_the_facts_of_studies_patients_and_transfers_in_the_real_stream(
    template: Template,
) -> None:
    source = template["Resources"][PROJECTOR_SOURCE]["Properties"]
    assert {"Fn::GetAtt": ["Table", "StreamArn"]} in source["EventSourceArn"]["Fn::If"]
    assert source["FunctionName"] == {"Ref": "ProjectFacts"}
    assert (source["BatchSize"], source["MaximumBatchingWindowInSeconds"]) == (500, 0)
    assert source["StartingPosition"] == "TRIM_HORIZON"
    patterns = [json.loads(entry["Pattern"]) for entry in source["FilterCriteria"]["Filters"]]
    assert patterns == [{"dynamodb": {"Keys": {"pk": {"S": [{"prefix": prefix} for prefix in FACTS]}}}}]


def test_a_fact_that_cannot_be_projected_is_set_aside_alone(template: Template) -> None:
    source = template["Resources"][PROJECTOR_SOURCE]["Properties"]
    assert source["BisectBatchOnFunctionError"] is True
    assert 0 < source["MaximumRetryAttempts"] < 100, "a shard is held up by each"
    assert source["DestinationConfig"]["OnFailure"] == {"Destination": {"Fn::GetAtt": ["ProjectorDeadLetterQueue", "Arn"]}}


def test_an_outage_of_twenty_minutes_loses_no_fact_and_a_long_one_not_what_waits_behind_it(template: Template) -> None:
    """Lambda gives up what is too old without handing it over once; the stream forgets after 24 hours."""
    source = template["Resources"][PROJECTOR_SOURCE]["Properties"]
    longest_pause = 8
    assert (1 + source["MaximumRetryAttempts"]) * (facts.PATIENCE_SECONDS - longest_pause) >= 20 * 60
    assert template["Resources"]["ProjectFacts"]["Properties"]["Timeout"] > 2 * facts.PATIENCE_SECONDS
    assert 12 <= source["MaximumRecordAgeInSeconds"] / 3600 <= 18, "six hours are left to hand over by hand"


@pytest.mark.parametrize(
    ("function", "rate"),
    [
        ("AnchorAudit", "rate(15 minutes)"),
        ("Canary", "rate(5 minutes)"),
        ("EraseDue", "rate(15 minutes)"),
        ("ReadAgain", "rate(1 minute)"),
        ("SweepUploads", "rate(5 minutes)"),
        ("TellExpired", "rate(1 minute)"),
    ],
)
def test_what_has_to_be_done_every_so_often_is_called_so_often(
    template: Template, resources: Resources, function: str, rate: str
) -> None:
    (name,) = [
        name
        for name, rule in resources("AWS::Events::Rule")
        if [target["Arn"] for target in rule["Targets"]] == [{"Fn::GetAtt": [function, "Arn"]}]
    ]
    assert template["Resources"][name]["Properties"]["ScheduleExpression"] == rate
    permission = template["Resources"][f"{name}Permission"]["Properties"]
    assert (permission["Principal"], permission["FunctionName"]) == ("events.amazonaws.com", {"Ref": function})
    assert permission["SourceArn"] == {"Fn::GetAtt": [name, "Arn"]}


def test_nothing_but_the_api_and_the_schedules_may_call_a_function(resources: Resources) -> None:
    for name, permission in resources("AWS::Lambda::Permission"):
        assert permission["Action"] == "lambda:InvokeFunction"
        assert permission["SourceArn"], f"anyone's {permission['Principal']} may call: {name}"
        assert permission["Principal"] in ("apigateway.amazonaws.com", "events.amazonaws.com")


def test_each_function_has_a_role_of_its_own(resources: Resources) -> None:
    roles = {name: function["Role"]["Fn::GetAtt"][0] for name, function in resources("AWS::Lambda::Function")}
    assert set(roles) == FUNCTIONS
    assert len(set(roles.values())) == len(FUNCTIONS)


def test_no_role_of_a_function_may_do_more_than_it_names(template: Template) -> None:
    for name, statement in _function_statements(template):
        if statement["Effect"] == "Deny":  # takes away, whatever else allows
            continue
        assert not {"NotAction", "NotResource"} & set(statement)
        for action in _list(statement["Action"]):
            assert "*" not in action, f"{name}: {action}"
        for resource in _list(statement["Resource"]):
            if resource == "*":  # tracing knows no resources
                assert set(_list(statement["Action"])) == TRACING, name
            else:
                text = json.dumps(resource)
                is_topic = "Ref" in resource and template["Resources"][resource["Ref"]]["Type"] == "AWS::SNS::Topic"
                assert is_topic or "Fn::GetAtt" in text or "Fn::Sub" in text, f"{name}: {resource}"


def test_the_key_is_used_through_the_stores_only(template: Template) -> None:
    used = [
        (name, statement)
        for name, statement in _function_statements(template)
        if any(action.startswith("kms:") for action in _list(statement["Action"]))
    ]
    assert {name for name, _ in used} == FUNCTIONS - {"Canary"}, "it has no store: it asks the API"
    for _, statement in used:
        assert statement["Condition"]["StringEquals"]["kms:ViaService"]
        assert statement["Resource"] == {"Fn::GetAtt": ["DataKey", "Arn"]}


def test_no_function_may_scan_the_table_and_two_alone_delete_what_they_name_by_version(template: Template) -> None:
    deleting = set()
    for name, statement in _function_statements(template):
        for action in _list(statement["Action"]):
            assert action != "dynamodb:Scan", name
            if action.startswith("s3:Delete"):
                deleting.add((name, action, statement["Resource"]["Fn::Sub"]))
            assert action not in ("s3:PutLifecycleConfiguration", "s3:PutBucketPolicy", "s3:PutBucketVersioning"), name
    assert deleting == {
        ("SweepUploads", "s3:DeleteObjectVersion", "${ImagesBucket.Arn}/instances/*"),
        ("EraseDue", "s3:DeleteObjectVersion", "${ImagesBucket.Arn}/instances/*"),
        ("EraseDue", "s3:DeleteObjectVersion", "${ImagesBucket.Arn}/metadata/*"),
    }


def test_the_api_asks_the_sweep_to_remove_by_the_name_that_it_has(template: Template) -> None:
    name = {"Fn::Sub": "${AWS::StackName}-sweep"}
    assert template["Resources"]["SweepUploads"]["Properties"]["FunctionName"] == name
    assert template["Resources"]["APIHandler"]["Properties"]["Environment"]["Variables"]["SWEEP_FUNCTION"] == name


def _function_statements(template: Template) -> Iterator[tuple[str, Template]]:
    for name in sorted(FUNCTIONS):
        role = template["Resources"][template["Resources"][name]["Properties"]["Role"]["Fn::GetAtt"][0]]
        assert "ManagedPolicyArns" not in role["Properties"]
        for policy in role["Properties"]["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                yield name, statement


def test_every_function_knows_where_things_are(resources: Resources) -> None:
    for name, function in resources("AWS::Lambda::Function"):
        variables = function["Environment"]["Variables"]
        if name == "RenderPixels":  # knows the bucket, and of nothing else
            assert variables == {"BUCKET_NAME": {"Ref": "ImagesBucket"}}
            continue
        assert variables["TABLE_NAME"] == {"Ref": "Table"}
        assert variables["BUCKET_NAME"] == {"Ref": "ImagesBucket"}
        assert variables["OPERATOR_ROLE_ARN"] == {"Fn::GetAtt": ["OperatorRole", "Arn"]}
        assert variables["POWERTOOLS_SERVICE_NAME"] == "contenitore"
        assert variables["POWERTOOLS_LOG_LEVEL"] in ("DEBUG", "INFO")


def test_the_api_gives_up_before_the_gateway_does(template: Template) -> None:
    assert template["Resources"]["APIHandler"]["Properties"]["Timeout"] <= 29


def test_every_log_group_is_made_by_the_stack_and_forgets(template: Template, resources: Resources) -> None:
    for name, function in resources("AWS::Lambda::Function"):
        group = template["Resources"][function["LoggingConfig"]["LogGroup"]["Ref"]]
        assert group["Type"] == "AWS::Logs::LogGroup"
        assert group["Properties"]["RetentionInDays"] >= 30, name
    for name, group_properties in resources("AWS::Logs::LogGroup"):
        assert "RetentionInDays" in group_properties, name
