"""The packaged template's stores and queues: what would lose, show or overwrite something."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chalicelib.services.operations.discrepancies import IN_STANDARD
from infra import cost

Template = dict[str, Any]
Resources = Callable[[str], Iterator[tuple[str, Template]]]


def test_data_outlive_the_stack(template: Template) -> None:
    for name in ("AuditAnchorBucket", "DataKey", "ImagesBucket", "InstancesQueue", "Table"):
        resource = template["Resources"][name]
        assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain"), name


def test_a_first_deployment_that_failed_leaves_nothing_that_the_next_one_meets(template: Template) -> None:
    """What outlives the stack goes with a creation that was rolled back, and has no name that two could want."""
    named = ("BucketName", "LogGroupName", "QueueName", "TableName", "TopicName", "RoleName", "FunctionName", "ManagedPolicyName")
    kept = {name: resource for name, resource in template["Resources"].items() if "DeletionPolicy" in resource}
    assert len(kept) >= 10
    assert {resource["DeletionPolicy"] for resource in kept.values()} == {"RetainExceptOnCreate"}
    assert [name for name, resource in kept.items() if set(named) & set(resource["Properties"])] == ["ImagesBucket"]


def test_the_key_is_rotated(template: Template) -> None:
    assert template["Resources"]["DataKey"]["Properties"]["EnableKeyRotation"] is True


def test_the_table_is_as_the_data_model_says(template: Template) -> None:
    table = template["Resources"]["Table"]["Properties"]
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["TableClass"] == {"Ref": "TableClass"}
    assert table["DeletionProtectionEnabled"] is True
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires", "Enabled": True}
    assert table["SSESpecification"]["KMSMasterKeyId"] == {"Fn::GetAtt": ["DataKey", "Arn"]}
    keys = {index["IndexName"]: [key["AttributeName"] for key in index["KeySchema"]] for index in table["GlobalSecondaryIndexes"]}
    assert keys == {f"gsi{n}": [f"gsi{n}pk", f"gsi{n}sk"] for n in (1, 2, 3, 4)}
    assert all(i["Projection"] == {"ProjectionType": "ALL"} for i in table["GlobalSecondaryIndexes"])
    assert [key["AttributeName"] for key in table["KeySchema"]] == ["pk", "sk"]


def test_the_bucket_is_private_versioned_and_encrypted_with_our_key(template: Template) -> None:
    bucket = template["Resources"]["ImagesBucket"]["Properties"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["BucketKeyEnabled"] is True
    assert rule["ServerSideEncryptionByDefault"] == {
        "SSEAlgorithm": "aws:kms",
        "KMSMasterKeyID": {"Fn::GetAtt": ["DataKey", "Arn"]},
    }


def test_browsers_of_any_origin_may_read_and_not_write(template: Template) -> None:
    (rule,) = template["Resources"]["ImagesBucket"]["Properties"]["CorsConfiguration"]["CorsRules"]
    assert rule["AllowedOrigins"] == ["*"]
    assert rule["AllowedMethods"] == ["GET", "HEAD"]


def test_new_instances_are_announced_to_the_queue(template: Template) -> None:
    bucket = template["Resources"]["ImagesBucket"]
    (queue,) = bucket["Properties"]["NotificationConfiguration"]["QueueConfigurations"]
    assert queue["Event"] == "s3:ObjectCreated:*"
    assert queue["Queue"] == {"Fn::GetAtt": ["InstancesQueue", "Arn"]}
    assert queue["Filter"]["S3Key"]["Rules"] == [{"Name": "prefix", "Value": "instances/"}]
    assert bucket["DependsOn"] == "InstancesQueuePolicy"


def test_the_lifecycle_removes_what_nobody_needs_and_no_hospitals_instance(template: Template) -> None:
    rules = template["Resources"]["ImagesBucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    assert [rule["Prefix"] for rule in rules if "ExpirationInDays" in rule] == ["cache/", "metadata/series/", "instances/canary/"]
    (cache,) = [rule for rule in rules if rule.get("Prefix") == "cache/"]
    assert cache["ExpirationInDays"] == 1
    assert cache["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}, "what expired would lie there as an old version"
    (kept,) = [rule for rule in rules if "Prefix" not in rule and "NoncurrentVersionExpiration" in rule]
    assert kept["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
    assert any("AbortIncompleteMultipartUpload" in rule for rule in rules)


def test_old_instances_move_to_where_they_are_read_within_milliseconds_and_nothing_else_moves(template: Template) -> None:
    """A class from which bytes have to be restored first, or that opens after hours, would make a prior wait."""
    rules = template["Resources"]["ImagesBucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    (rule,) = [rule for rule in rules if "Transitions" in rule or "Transition" in rule]
    assert (rule["Status"], rule["Prefix"]) == ("Enabled", "instances/")
    assert int(rule["ObjectSizeGreaterThan"]) + 1 == cost.SMALLEST_MOVED
    assert rule["Transitions"] == [{"StorageClass": "GLACIER_IR", "TransitionInDays": cost.MOVED_AFTER_DAYS}]
    assert IN_STANDARD.days == cost.MOVED_AFTER_DAYS


@pytest.mark.parametrize(
    ("sid", "condition"),
    [
        ("OnlyOverTls", {"Bool": {"aws:SecureTransport": "false"}}),
        ("OnlyTls12AndLater", {"NumericLessThan": {"s3:TlsVersion": "1.2"}}),
        ("ReadingAddressesDieInFiveMinutes", {"NumericGreaterThan": {"s3:signatureAge": "300000"}}),
        ("WritingAddressesDieInAQuarterOfAnHour", {"NumericGreaterThan": {"s3:signatureAge": "900000"}}),
        (
            "InstancesAreWrittenOnce",
            {"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}},
        ),
        (
            "NoOtherEncryption",
            {
                "Null": {"s3:x-amz-server-side-encryption": "false"},
                "StringNotEquals": {"s3:x-amz-server-side-encryption": "aws:kms"},
            },
        ),
    ],
)
def test_the_bucket_refuses(template: Template, sid: str, condition: dict[str, Any]) -> None:
    policy = template["Resources"]["ImagesBucketPolicy"]["Properties"]["PolicyDocument"]
    (statement,) = [entry for entry in policy["Statement"] if entry["Sid"] == sid]
    assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
    assert statement["Condition"] == condition


DELETING = ("SweepUploads", "EraseDue")
"""The functions that remove bytes; nobody else may, whatever rights he has."""


def test_nobody_but_sweep_and_erasure_deletes_an_instance_whatever_its_rights_are(template: Template) -> None:
    policy = template["Resources"]["ImagesBucketPolicy"]["Properties"]["PolicyDocument"]
    (statement,) = [entry for entry in policy["Statement"] if entry["Sid"] == "InstancesAreRemovedBySweepAndErasureOnly"]
    assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
    assert set(statement["Action"]) == {"s3:DeleteObject", "s3:DeleteObjectVersion"}
    assert statement["Resource"] == {"Fn::Sub": "${ImagesBucket.Arn}/instances/*"}
    roles = [_made_for(f"{function}Role") for function in DELETING]
    assert statement["Condition"] == {"ArnNotEquals": {"aws:PrincipalArn": roles}}
    for function in DELETING:
        assert template["Resources"][function]["Properties"]["Role"]["Fn::GetAtt"][0] == f"{function}Role"


def test_the_bucket_policy_only_refuses(template: Template) -> None:
    policy = template["Resources"]["ImagesBucketPolicy"]["Properties"]["PolicyDocument"]
    assert {statement["Effect"] for statement in policy["Statement"]} == {"Deny"}


def test_dead_letters_are_kept_longer_than_messages(template: Template) -> None:
    queue = template["Resources"]["InstancesQueue"]["Properties"]
    dead = template["Resources"]["InstancesDeadLetterQueue"]["Properties"]
    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": ["InstancesDeadLetterQueue", "Arn"]}
    assert dead["MessageRetentionPeriod"] > queue["MessageRetentionPeriod"]


def test_queues_are_encrypted_and_refuse_plain_connections(template: Template, resources: Resources) -> None:
    queues = {name for name, queue in resources("AWS::SQS::Queue") if queue["SqsManagedSseEnabled"] is True}
    assert queues == {"InstancesQueue", "InstancesDeadLetterQueue", "ProjectorDeadLetterQueue"}
    guarded = {
        queue["Ref"]
        for _, policy in resources("AWS::SQS::QueuePolicy")
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Deny" and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        for queue in policy["Queues"]
    }
    assert guarded == queues


ANNOUNCING = {"APIHandler": "ApiHandlerRole", "SweepUploads": "SweepUploadsRole"}
"""The roles of the functions that announce instances again."""


def _made_for(role: str) -> Template:
    """The role by the name that CloudFormation makes: <stack>-<logical id>-<random>."""
    return {"Fn::Sub": f"arn:${{AWS::Partition}}:iam::${{AWS::AccountId}}:role/${{AWS::StackName}}-{role}-*"}


def test_those_roles_have_the_names_that_the_queue_knows(template: Template) -> None:
    """A role that is named otherwise, or so long that CloudFormation cuts its name, could not send."""
    longest = 63 - len("-images-123456789012-eu-central-1")  # the bucket's name has the stack's too
    for function, role in ANNOUNCING.items():
        assert template["Resources"][function]["Properties"]["Role"]["Fn::GetAtt"][0] == role
        assert "RoleName" not in template["Resources"][role]["Properties"]
        assert longest + len(f"-{role}-") + 13 <= 64


def test_only_this_bucket_the_operator_and_who_announces_again_send_to_the_queue(template: Template) -> None:
    statements = template["Resources"]["InstancesQueuePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    allowed, denied = statements[0], statements[1]
    bucket = template["Resources"]["ImagesBucket"]["Properties"]["BucketName"]["Fn::Sub"]
    arn = {"Fn::Sub": "arn:${AWS::Partition}:s3:::" + bucket}
    assert allowed["Principal"] == {"Service": "s3.amazonaws.com"}
    assert allowed["Condition"]["ArnEquals"] == {"aws:SourceArn": arn}
    assert allowed["Condition"]["StringEquals"] == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    assert denied["Effect"] == "Deny"
    assert denied["Condition"] == {
        "ArnNotEquals": {
            "aws:SourceArn": arn,
            "aws:PrincipalArn": [{"Fn::GetAtt": ["OperatorRole", "Arn"]}, *map(_made_for, ANNOUNCING.values())],
        }
    }
