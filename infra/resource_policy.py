"""The API's resource policy: what needs no signature, and the members whose role is in an AWS account of their own.

API Gateway lets a role of the API's own account in where its IAM policies do. For a role of another account both must say so,
its IAM policies and this policy; and since there is a policy, a method without a signature is refused unless it is allowed here.
Of the own account nothing is said: allowing it would count beside its IAM policies, and past their boundary.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from infra.templates import Template

Route = tuple[str, str]
"""Method and path, as app.py writes it."""
Statement = dict[str, Any]

STAGE = "api"
THIS_API = "execute-api:"
"""How a policy within the API's own definition calls that API: API Gateway writes region, account and id when it takes it in."""
LIMIT = 8192
"""Characters that API Gateway takes of a policy, each ARN written out."""
_ARN = f"arn:aws:execute-api:eu-south-1:{'0' * 12}:{'0' * 10}"


def unsigned_routes(template: Template) -> list[Route]:
    """Each route of the packaged template that needs no signature, in order, preflights too."""
    return [route for route, operation in _routes(template) if not operation.get("security")]


def signed_routes(template: Template) -> list[Route]:
    """Each of the others, in order."""
    return [route for route, operation in _routes(template) if operation.get("security")]


def patterns(unsigned: Iterable[Route]) -> list[str]:
    """The routes as resources of a policy, what lies below a parameter as `*`, and no more of them than are needed."""
    found = {_literal(route) + ("*" if "{" in route[1] else "") for route in unsigned}
    return sorted(
        pattern for pattern in found if not any(other != pattern and _covers(other, pattern.removesuffix("*")) for other in found)
    )


def for_everybody(unsigned: Iterable[Route]) -> Statement:
    """What needs no signature, for whoever asks."""
    return {
        "Sid": "WithoutASignature",
        "Effect": "Allow",
        "Principal": "*",
        "Action": "execute-api:Invoke",
        "Resource": [f"{THIS_API}/{STAGE}/{pattern}" for pattern in patterns(unsigned)],
    }


def for_member_accounts(boundary: Template, accounts: Any) -> list[Statement]:
    """For roles of those accounts the same as `boundary`, the policy document of all other members' roles, lets these call.

    Principals are named by a condition: a principal that is an account would need a signature of every method.
    """
    return [
        {
            "Sid": f"MembersOfOtherAccounts{statement['Sid']}",
            "Effect": statement["Effect"],
            "Principal": "*",
            "Action": statement["Action"],
            "Resource": [THIS_API + arn["Fn::Sub"].partition("${RestAPI}")[2] for arn in _list(statement["Resource"])],
            "Condition": {"StringEquals": {"aws:PrincipalAccount": accounts}},
        }
        for statement in boundary["Statement"]
    ]


def boundary_of(template: Template) -> Template:
    """The policy document of the members' boundary."""
    document: Template = template["Resources"]["InstitutionBoundary"]["Properties"]["PolicyDocument"]
    return document


def with_resource_policy(template: Template) -> Template:
    """The packaged template with the policy of its API.

    It stands in SAM's `Auth`, where SAM writes the parameter's value out, so that another value makes another deployment of
    the stage: without one a changed policy changes nothing.
    """
    accounts = {"Fn::Split": [",", {"Ref": "MemberAccounts"}]}
    statements = [
        for_everybody(unsigned_routes(template)),
        *(
            {"Fn::If": ["HasMemberAccounts", statement, {"Ref": "AWS::NoValue"}]}
            for statement in for_member_accounts(boundary_of(template), accounts)
        ),
    ]
    api = template["Resources"]["RestAPI"]
    properties = {**api["Properties"], "Auth": {"ResourcePolicy": {"CustomStatements": statements}}}
    return {**template, "Resources": {**template["Resources"], "RestAPI": {**api, "Properties": properties}}}


def faults(template: Template) -> Iterator[str]:
    """A signed route that the policy opens to everybody, and a policy that leaves accounts less than half of its size."""
    opened = patterns(unsigned_routes(template))
    for method, path in signed_routes(template):
        literal = _literal((method, path))
        for pattern in opened:
            if _covers(pattern, literal) or ("{" in path and pattern.removesuffix("*").startswith(literal)):
                yield f"the API's resource policy opens {method} {path}, which needs a signature, by {pattern}"
    statements = [for_everybody(unsigned_routes(template)), *for_member_accounts(boundary_of(template), [])]
    size = len(json.dumps(statements, separators=(",", ":")).replace(f'"{THIS_API}/', f'"{_ARN}/'))
    if size > LIMIT // 2:
        yield f"the API's resource policy of {size:,} characters is over {LIMIT // 2:,}, half of what API Gateway takes"


def _routes(template: Template) -> Iterator[tuple[Route, Template]]:
    paths: dict[str, dict[str, Template]] = template["Resources"]["RestAPI"]["Properties"]["DefinitionBody"].get("paths", {})
    found = [((method.upper(), path), operation) for path, methods in paths.items() for method, operation in methods.items()]
    yield from sorted(found, key=lambda entry: entry[0])


def _literal(route: Route) -> str:
    """Method and path, as far as it is the same for every request."""
    return route[0] + route[1].partition("{")[0]


def _covers(pattern: str, literal: str) -> bool:
    return literal.startswith(pattern[:-1]) if pattern.endswith("*") else literal == pattern


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
