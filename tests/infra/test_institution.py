"""The stack of one institution: a role that calls the API's routes and nothing else."""

import json
from fnmatch import fnmatchcase
from typing import Any

import pytest

from infra import transform
from infra.templates import ACCOUNT, CITY, INSTITUTION, load

API = "arn:aws:execute-api:eu-south-1:123456789012:abc123"


@pytest.fixture(scope="module")
def role() -> dict[str, Any]:
    properties: dict[str, Any] = load(INSTITUTION)["Resources"]["Role"]["Properties"]
    return properties


def _decide(statements: list[dict[str, Any]], request: str) -> bool:
    """Whether these statements let a request pass: an explicit denial wins (IAM, policy evaluation logic)."""
    names = {
        "${AWS::Partition}": "aws",
        "${AWS::Region}": "eu-south-1",
        "${AWS::AccountId}": "123456789012",
        "${ApiId}": "abc123",
        "${RestAPI}": "abc123",
    }

    def matches(statement: dict[str, Any]) -> bool:
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        for resource in resources:
            pattern = resource["Fn::Sub"]
            for name, value in names.items():
                pattern = pattern.replace(name, value)
            if fnmatchcase(f"{API}/{request}", pattern):
                return True
        return False

    effects = {statement["Effect"] for statement in statements if matches(statement)}
    return effects == {"Allow"}


@pytest.mark.parametrize(
    ("request_line", "allowed"),
    [
        ("api/GET/studies/1.2.3/manifest", True),
        ("api/GET/institutions", True),
        ("api/POST/uploads", True),
        ("api/POST/dicomweb/studies", True),
        ("api/PUT/transfers/t1/receiving-patient", True),
        ("api/DELETE/transfers/t1", True),
        ("api/PATCH/transfers/t1", True),
        ("api/PUT/patients/p1", True),
        ("api/PUT/institutions/besta", False),
        ("api/DELETE/institutions/maugeri", False),
        ("other/GET/studies", False),
    ],
)
def test_an_institution_may_call(role: dict[str, Any], request_line: str, allowed: bool) -> None:
    (policy,) = role["Policies"]
    boundary = load(CITY)["Resources"]["InstitutionBoundary"]["Properties"]["PolicyDocument"]["Statement"]
    own = policy["PolicyDocument"]["Statement"]
    assert _decide(own, request_line) is allowed
    assert (_decide(own, request_line) and _decide(boundary, request_line)) is allowed


def test_the_role_has_no_right_but_to_call_the_api(role: dict[str, Any]) -> None:
    statements = role["Policies"][0]["PolicyDocument"]["Statement"]
    assert {statement["Action"] for statement in statements} == {"execute-api:Invoke"}
    assert "ManagedPolicyArns" not in role
    assert role["PermissionsBoundary"] == {"Ref": "InstitutionBoundaryArn"}
    assert role["MaxSessionDuration"] == 12 * 3600


def test_a_certificate_is_bound_to_its_name_and_its_authority(role: dict[str, Any]) -> None:
    choices = [entry["Fn::If"] for entry in role["AssumeRolePolicyDocument"]["Statement"]]
    (statement,) = [choice[1] for choice in choices if choice[0] == "HasCertificate"]
    assert statement["Principal"] == {"Service": "rolesanywhere.amazonaws.com"}
    assert set(statement["Action"]) == {"sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"}
    assert statement["Condition"] == {
        "StringEquals": {"aws:PrincipalTag/x509Subject/CN": {"Ref": "CertificateCommonName"}},
        "ArnEquals": {"aws:SourceArn": {"Ref": "TrustAnchorArn"}},
    }


def test_the_stack_wants_somebody_who_may_assume_the_role() -> None:
    rules = load(INSTITUTION)["Rules"]
    assert set(rules) == {"SomebodyMayAssumeTheRole", "AnAnchorNeedsACommonName"}


@pytest.mark.parametrize("path", [ACCOUNT, CITY, INSTITUTION], ids=lambda path: path.name)
def test_templates_that_are_deployed_as_they_are_lint_clean(path: Any) -> None:
    assert list(transform.lint(load(path))) == []


def test_short_forms_are_read_as_cloudformation_reads_them() -> None:
    text = json.dumps(load(CITY)["Resources"]["ImagesBucketPolicy"])
    assert '{"Ref": "ImagesBucket"}' in text
    assert '{"Fn::GetAtt": ["ImagesBucket", "Arn"]}' in text
    assert '{"Fn::Sub": "${ImagesBucket.Arn}/*"}' in text
