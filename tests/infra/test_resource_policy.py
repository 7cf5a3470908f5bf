"""The API's resource policy, as the transform leaves it: what needs no signature, and roles of other AWS accounts.

It is decided as API Gateway documents it ("How API Gateway resource policies affect authorization workflow"): here by the local
city's reading of policies.
"""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from app import app
from infra import package as packaging
from infra import resource_policy, transform
from infra.templates import CITY, load
from local.api_gateway import resource_policy as local_policy
from local.iam import policy

Template = dict[str, Any]

MEMBER, ANOTHER, STRANGER, CITY_ACCOUNT = "222222222222", "333333333333", "444444444444", "123456789012"
API = f"arn:aws:execute-api:eu-south-1:{CITY_ACCOUNT}:local"
NAMED = {"MemberAccounts": f"{MEMBER},{ANOTHER}"}


@pytest.fixture(scope="module")
def named(sam: Template) -> Template:
    """The template of a city that names two accounts."""
    return transform.transformed(sam, NAMED)


def _policy(template: Template, accounts: bool) -> policy.Document:
    """What API Gateway is given: CloudFormation's functions carried out, and the API's ARN in its short form's place."""

    def resolved(value: Any) -> Any:
        if isinstance(value, list):
            return [inner for entry in value if (inner := resolved(entry)) is not None]
        if not isinstance(value, dict):
            return value.replace("execute-api:/", f"{API}/") if isinstance(value, str) else value
        if "Fn::If" in value:
            condition, then, otherwise = value["Fn::If"]
            assert condition == "HasMemberAccounts"
            return resolved(then if accounts else otherwise)
        if "Fn::Split" in value:
            separator, text = value["Fn::Split"]
            return text.split(separator)
        if value == {"Ref": "AWS::NoValue"}:
            return None
        return {key: resolved(inner) for key, inner in value.items()}

    made: policy.Document = resolved(template["Resources"]["RestAPI"]["Properties"]["Body"]["x-amazon-apigateway-policy"])
    return made


def _said(document: policy.Document, method: str, path: str, account: str | None = None) -> str:
    context = {} if account is None else {"aws:principalaccount": account}
    return policy.decide([document], "execute-api:Invoke", f"{API}/api/{method}{path}", context)


def _requests(routes: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Each route with something in the place of its parameters, something odd too."""
    for method, path in routes:
        for value in ("1.2.840.1", "GET", "view", "health", "a%2Fb", "x*"):
            yield method, "/".join(value if part.startswith("{") else part for part in path.split("/"))


def test_what_needs_no_signature_is_open_to_everybody_and_nothing_else_is(sam: Template, template: Template) -> None:
    """With a policy, API Gateway refuses a method without a signature unless the policy allows it."""
    document = _policy(template, accounts=False)
    for method, path in _requests(resource_policy.unsigned_routes(sam)):
        assert _said(document, method, path) == "allow", f"{method} {path}"
    signed = list(_requests(resource_policy.signed_routes(sam)))
    assert len(signed) > 500
    for method, path in signed:
        for account in (None, CITY_ACCOUNT, MEMBER):
            assert _said(document, method, path, account) == "none", f"{method} {path}"


def test_a_role_of_a_named_account_may_call_what_the_boundary_lets_the_others_call(sam: Template, named: Template) -> None:
    document = _policy(named, accounts=True)
    boundary = named["Resources"]["InstitutionBoundary"]["Properties"]["PolicyDocument"]
    written = json.loads(json.dumps(boundary).replace("${RestAPI}", "local"))
    for statement in written["Statement"]:
        listed = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        statement["Resource"] = [API + arn["Fn::Sub"].partition(":local")[2] for arn in listed]
    kept = set()
    for method, path in _requests(resource_policy.signed_routes(sam)):
        arn = f"{API}/api/{method}{path}"
        expected = policy.decide([written], "execute-api:Invoke", arn, {})
        assert _said(document, method, path, MEMBER) == _said(document, method, path, ANOTHER) == expected, f"{method} {path}"
        kept |= {method} if expected == "deny" else set()
    assert kept == {"PUT", "DELETE"}, "the registry is the operator's"


def test_roles_of_other_accounts_and_of_the_citys_own_are_not_let_in_by_it(sam: Template, named: Template) -> None:
    """Of the city's account nothing is said: it would count beside IAM, and a role would need no right of its own."""
    document = _policy(named, accounts=True)
    for method, path in _requests(resource_policy.signed_routes(sam)):
        for account in (None, STRANGER, CITY_ACCOUNT):
            assert _said(document, method, path, account) == "none", f"{account} {method} {path}"


def test_no_statement_names_a_principal_or_a_stage_of_its_own(named: Template) -> None:
    """A principal that is an account would need a signature of every method; API Gateway asks for it policy by policy."""
    (stage,) = {r["Properties"]["StageName"] for r in named["Resources"].values() if r["Type"] == "AWS::ApiGateway::Stage"}
    for statement in _policy(named, accounts=True)["Statement"]:
        assert statement["Principal"] == "*"
        assert "NotResource" not in statement
        for resource in statement["Resource"]:
            allowed = (f"{API}/{stage}/",) if statement["Effect"] == "Allow" else (f"{API}/{stage}/", f"{API}/*/")
            assert resource.startswith(allowed)


def test_other_accounts_make_another_deployment_of_the_stage(sam: Template, template: Template, named: Template) -> None:
    """A policy that changes has no effect before the stage is deployed anew."""

    def deployment(made: Template) -> str:
        (name,) = [name for name, r in made["Resources"].items() if r["Type"] == "AWS::ApiGateway::Deployment"]
        assert made["Resources"]["RestAPIapiStage"]["Properties"]["DeploymentId"] == {"Ref": name}
        return name

    fewer = transform.transformed(sam, {"MemberAccounts": MEMBER})
    assert len({deployment(made) for made in (template, named, fewer)}) == 3
    assert deployment(transform.transformed(sam, NAMED)) == deployment(named), "and the same ones the same"
    assert list(transform.lint(named)) == []


def test_the_policy_is_all_that_the_transform_adds_to_the_definition(sam: Template, template: Template) -> None:
    body = {**template["Resources"]["RestAPI"]["Properties"]["Body"]}
    del body["x-amazon-apigateway-policy"]
    assert body == sam["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]


def test_a_hundred_accounts_fit_into_what_api_gateway_takes(sam: Template) -> None:
    accounts = ",".join(f"{number:012}" for number in range(100))
    document = _policy(transform.transformed(sam, {"MemberAccounts": accounts}), accounts=True)
    assert len(json.dumps(document, separators=(",", ":")).replace(":local/", f":{'0' * 10}/")) <= resource_policy.LIMIT == 8192


def test_the_local_city_decides_by_the_same_policy(template: Template, named: Template) -> None:
    for made, accounts in ((template, []), (named, NAMED["MemberAccounts"].split(","))):
        document = local_policy.document(app.routes, load(CITY), accounts, "local")
        assert document["Statement"] == _policy(made, accounts=bool(accounts))["Statement"]


def _sign(path: str) -> Callable[[Mapping[str, Template]], None]:
    def change(paths: Mapping[str, Template]) -> None:
        for operation in paths[path].values():
            operation["security"] = [{"sigv4": []}]

    return change


@pytest.mark.parametrize("path", ["/view/timeline", "/view/{reader}/wado"])
def test_a_signed_route_beside_those_without_a_signature_is_a_fault(
    sam: Template, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transform, "faults", lambda _: ())  # takes long, and is another test's
    changed = copy.deepcopy(sam)
    _sign(path)(changed["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]["paths"])
    faults = list(packaging.template_faults(changed))
    assert f"the API's resource policy opens GET {path}, which needs a signature, by GET/view/*" in faults


def test_a_policy_over_half_of_what_api_gateway_takes_is_a_fault(sam: Template) -> None:
    changed = copy.deepcopy(sam)
    paths = changed["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]["paths"]
    paths |= {f"/open/{number}": paths["/health"] for number in range(50)}
    assert any("half of what API Gateway takes" in fault for fault in resource_policy.faults(changed))
    assert list(resource_policy.faults(sam)) == []
