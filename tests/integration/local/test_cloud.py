"""Who may do what in the emulated cloud, and what it tells about itself."""

from __future__ import annotations

import configparser
import os
import stat
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from botocore.exceptions import ClientError

from tests.harness import RunningCity, wait_until


def error(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as refused:
        call(**arguments)
    return str(refused.value.response["Error"]["Code"])


def test_everyone_may_ask_who_they_are(standin_city: RunningCity) -> None:
    for profile, role in (("maugeri", "contenitore-institution-maugeri"), ("operator", "contenitore-operator")):
        arn = standin_city.aws("sts", profile).get_caller_identity()["Arn"]
        assert arn == f"arn:aws:sts::123456789012:assumed-role/{role}/{profile}"


def test_the_administrator_can_ask_a_service_that_no_template_has(standin_city: RunningCity) -> None:
    """The start leaves them out."""
    assert standin_city.aws("ssm").describe_parameters()["Parameters"] == []
    assert standin_city.aws("ec2").describe_instances()["Reservations"] == []


def test_an_institution_can_use_no_service_with_its_own_credentials(standin_city: RunningCity) -> None:
    outputs = standin_city.outputs()
    denied = {"AccessDenied", "AccessDeniedException"}
    key = {"pk": {"S": "F#REGISTRY"}, "sk": {"S": "x"}}
    for service, operation, arguments in (
        ("dynamodb", "get_item", {"TableName": outputs["TableName"], "Key": key}),
        ("dynamodb", "list_tables", {}),
        ("s3", "list_objects_v2", {"Bucket": outputs["BucketName"]}),
        ("s3", "get_object", {"Bucket": outputs["BucketName"], "Key": "instances/maugeri/x"}),
        ("s3", "put_object", {"Bucket": outputs["BucketName"], "Key": "instances/maugeri/x", "Body": b""}),
        ("s3", "delete_object", {"Bucket": outputs["BucketName"], "Key": "instances/maugeri/x"}),
        ("sqs", "receive_message", {"QueueUrl": outputs["InstancesQueueUrl"]}),
        ("sqs", "send_message", {"QueueUrl": outputs["InstancesQueueUrl"], "MessageBody": "{}"}),
        ("iam", "list_roles", {}),
        ("cloudformation", "describe_stacks", {}),
        ("kms", "list_keys", {}),
        ("sts", "assume_role", {"RoleArn": outputs["OperatorRoleArn"], "RoleSessionName": "xx"}),
    ):
        client = standin_city.aws(service, "maugeri")
        assert error(getattr(client, operation), **arguments) in denied, (service, operation)


def test_the_operator_has_the_rights_of_its_policy_and_reads_no_patient_and_no_image(standin_city: RunningCity) -> None:
    outputs = standin_city.outputs()
    table, bucket = {"TableName": outputs["TableName"]}, {"Bucket": outputs["BucketName"]}
    operator = {name: standin_city.aws(name, "operator") for name in ("dynamodb", "s3", "sqs", "lambda", "cloudformation", "iam")}
    assert operator["dynamodb"].get_item(**table, Key={"pk": {"S": "F#REGISTRY"}, "sk": {"S": "LATEST"}})
    equals = {"KeyConditionExpression": "#pk = :pk", "ExpressionAttributeNames": {"#pk": "pk"}}
    registry = {":pk": {"S": "F#REGISTRY"}}
    assert operator["dynamodb"].query(**table, **equals, ExpressionAttributeValues=registry)
    assert operator["cloudformation"].describe_stacks(StackName="contenitore")["Stacks"]
    denied = {"AccessDenied", "AccessDeniedException"}
    patient = {"S": "F#PATIENT#0"}
    for service, operation, arguments in (
        ("dynamodb", "get_item", {**table, "Key": {"pk": patient, "sk": {"S": "x"}}}),
        ("dynamodb", "query", {**table, **equals, "ExpressionAttributeValues": {":pk": patient}}),
        ("dynamodb", "query", {**table, **equals, "ExpressionAttributeValues": registry, "IndexName": "gsi1"}),
        ("dynamodb", "put_item", {**table, "Item": {"pk": {"S": "F#REGISTRY"}, "sk": {"S": "x"}}}),
        ("dynamodb", "scan", table),
        ("s3", "get_object", {**bucket, "Key": "instances/maugeri/x"}),
        ("s3", "list_objects_v2", bucket),
        ("lambda", "invoke", {"FunctionName": "sweep_uploads", "Payload": b"{}"}),
        ("cloudformation", "delete_stack", {"StackName": "contenitore"}),
        ("iam", "create_role", {"RoleName": "contenitore-institution-x", "AssumeRolePolicyDocument": "{}"}),
        ("sqs", "send_message", {"QueueUrl": outputs["InstancesDeadLetterQueueUrl"], "MessageBody": "{}"}),
    ):
        assert error(getattr(operator[service], operation), **arguments) in denied, (service, operation)


def test_a_session_has_a_name_and_a_length_that_sts_takes(standin_city: RunningCity) -> None:
    sts = standin_city.aws("sts", "maugeri")
    role = "arn:aws:iam::123456789012:role/contenitore-institution-maugeri"
    assert sts.assume_role(RoleArn=role, RoleSessionName="dr.rossi@maugeri")["Credentials"]
    for name, seconds in (("dr rossi", 3600), ("d\u00f2c", 3600), ("xx", 7200)):
        given = {"RoleSessionName": name, "DurationSeconds": seconds}
        assert error(sts.assume_role, RoleArn=role, **given) == "ValidationError", given


def test_wrong_credentials_are_refused(standin_city: RunningCity) -> None:
    good = standin_city.credentials("operator")
    for access_key, secret, token, code in (
        (good.access_key, "wrong", good.token, "InvalidSignatureException"),
        ("ASIAUNKNOWN", good.secret_key, good.token, "UnrecognizedClientException"),
        (good.access_key, good.secret_key, "wrong", "UnrecognizedClientException"),
        (good.access_key, good.secret_key, None, "UnrecognizedClientException"),
    ):
        client = boto3.client(
            "dynamodb",
            region_name="eu-south-1",
            endpoint_url=standin_city.s3,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret,
            aws_session_token=token,
        )
        assert error(client.list_tables) == code


def test_a_role_that_does_not_exist_cannot_be_assumed(standin_city: RunningCity) -> None:
    sts = standin_city.aws("sts")
    arguments = {"RoleArn": "arn:aws:iam::123456789012:role/nobody", "RoleSessionName": "xx"}
    assert error(sts.assume_role, **arguments) == "AccessDenied"


def test_a_function_may_do_only_what_its_policy_file_says(standin_city: RunningCity) -> None:
    """.chalice/policies/api.json has no right to delete from the table."""
    answer = standin_city.client("maugeri").post("/delete", json={})
    assert answer.json() == {"code": "AccessDeniedException"}


def test_requests_are_counted_by_service_and_operation(standin_city: RunningCity) -> None:
    before = standin_city.aws_requests()
    dynamodb, bucket = standin_city.aws("dynamodb"), standin_city.outputs()["BucketName"]
    dynamodb.list_tables()
    dynamodb.list_tables()
    standin_city.aws("s3").put_object(Bucket=bucket, Key="cache/counted", Body=b"x")
    after = standin_city.aws_requests()
    for operation, count in (("dynamodb:ListTables", 2), ("s3:PutObject", 1)):
        assert after[operation] - before.get(operation, 0) == count


# The AWS files ---------------------------------------------------------------------------------------


def test_a_profile_is_all_that_aws_tools_need(standin_city: RunningCity, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", standin_city.endpoints["aws_config_file"])
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", standin_city.endpoints["aws_shared_credentials_file"])
    session = boto3.Session(profile_name="san-matteo")
    assert session.region_name == "eu-south-1"
    assert session.client("sts").get_caller_identity()["Arn"].endswith("/san-matteo")


def test_the_files_hold_secrets_and_are_the_owners_alone(standin_city: RunningCity) -> None:
    for name in ("aws_config_file", "aws_shared_credentials_file"):
        mode = Path(standin_city.endpoints[name]).stat().st_mode
        assert stat.S_IMODE(mode) == 0o600


def test_an_institution_that_is_registered_has_a_profile_at_once_and_loses_it(standin_city: RunningCity) -> None:
    operator = standin_city.client("operator")
    role = "arn:aws:iam::210987654321:role/besta"
    assert operator.put("/institutions/besta", json={"role_arn": role}).status_code == 200
    arn = standin_city.client("besta").get("/echo/x").json()["context"]["identity"]["userArn"]
    assert arn == "arn:aws:sts::210987654321:assumed-role/besta/besta"
    operator.delete("/institutions/besta")

    def profiles() -> list[str]:
        parser = configparser.RawConfigParser()
        parser.read(standin_city.endpoints["aws_shared_credentials_file"])
        return parser.sections()

    wait_until(lambda: "besta" not in profiles())
    assert set(profiles()) == {"administrator", "operator", "san-matteo", "maugeri", "mondino"}


def test_the_endpoints_are_those_of_the_contract(standin_city: RunningCity) -> None:
    endpoints = standin_city.endpoints
    port = int(endpoints["api"].rsplit(":", 1)[1])
    assert endpoints["dicomweb"] == f"{endpoints['api']}/dicomweb"
    assert [endpoints["s3"], endpoints["viewer"]] == [f"http://127.0.0.1:{port + offset}" for offset in (1, 2)]
    assert endpoints["region"] == "eu-south-1"
    assert requests.get(endpoints["viewer"], timeout=60).status_code < 500
