"""The packaged template's part that keeps the audit trail: what nobody may undo."""

from typing import Any

from local.iam import policy

Template = dict[str, Any]


def _statement(template: Template, policy: str, sid: str) -> dict[str, Any]:
    statements = template["Resources"][policy]["Properties"]["PolicyDocument"]["Statement"]
    (found,) = [statement for statement in statements if statement["Sid"] == sid]
    return dict(found)


def test_anchors_are_locked_for_as_long_as_records_are_kept(template: Template) -> None:
    bucket = template["Resources"]["AuditAnchorBucket"]
    assert bucket["Properties"]["ObjectLockEnabled"] is True
    retention = bucket["Properties"]["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]
    assert retention == {"Mode": {"Ref": "AuditLockMode"}, "Years": {"Ref": "AuditRetentionYears"}}
    assert template["Parameters"]["AuditLockMode"]["Default"] == "COMPLIANCE"
    assert int(template["Parameters"]["AuditRetentionYears"]["MinValue"]) >= 2
    assert bucket["DeletionPolicy"] == "RetainExceptOnCreate"


def test_the_functions_keep_records_for_as_long_as_anchors(template: Template) -> None:
    for function in ("APIHandler", "AnchorAudit"):
        variables = template["Resources"][function]["Properties"]["Environment"]["Variables"]
        assert variables["AUDIT_RETENTION_YEARS"] == {"Ref": "AuditRetentionYears"}
        assert variables["AUDIT_ANCHOR_BUCKET"] == {"Ref": "AuditAnchorBucket"}


def test_nobody_writes_an_anchor_twice_or_shortens_its_lock(template: Template) -> None:
    once = _statement(template, "AuditAnchorBucketPolicy", "AnchorsAreWrittenOnce")
    assert (once["Effect"], once["Condition"]) == ("Deny", {"Null": {"s3:if-none-match": "true"}})
    lock = _statement(template, "AuditAnchorBucketPolicy", "NobodyShortensTheLock")
    assert (lock["Effect"], lock["Principal"]) == ("Deny", "*")
    assert {"s3:BypassGovernanceRetention", "s3:PutObjectRetention"} <= set(lock["Action"])


def test_the_years_of_the_lock_are_changed_by_an_update_of_the_stack_and_by_nothing_else(template: Template) -> None:
    statements = [
        statement | {"Resource": "*"}  # which bucket is not the question
        for statement in template["Resources"]["AuditAnchorBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    ]
    over_tls = {"aws:securetransport": "true"}

    def decided(action: str, **context: str) -> str:
        by = {name.replace("_", ":").lower(): value for name, value in context.items()}
        return policy.decide([{"Statement": statements}], action, "arn:aws:s3:::anchors", over_tls | by)

    setting = "s3:PutBucketObjectLockConfiguration"
    assert decided(setting) == "deny"
    assert decided(setting, aws_calledvia="cloudformation.amazonaws.com") == "none", "nothing denies it"
    for action in ("s3:PutObjectRetention", "s3:BypassGovernanceRetention"):
        assert decided(action, aws_calledvia="cloudformation.amazonaws.com") == "deny"


def test_the_operator_reads_the_trail_and_writes_none_of_it(template: Template) -> None:
    reading = _statement(template, "OperatorPolicy", "VerifiesTheAuditTrail")
    assert set(reading["Action"]) == {"dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:Query"}
    assert reading["Condition"] == {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["F#AUDIT#*", "F#REGISTRY"]}}
    statements = template["Resources"]["OperatorPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    for statement in statements:
        for action in statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]:
            assert not action.startswith(("dynamodb:Put", "dynamodb:Update", "dynamodb:Delete", "s3:Put", "s3:Delete"))
