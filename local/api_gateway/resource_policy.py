"""The API's resource policy as the packaged template has it, made of the app's own routes and of `infra/city.yaml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infra import resource_policy
from infra.resource_policy import Route
from infra.templates import Template
from local.emulation.moto_patches import ACCOUNT, REGION
from local.iam import policy


def unsigned_routes(routes: Mapping[str, Mapping[str, Any]]) -> list[Route]:
    """The app's routes without an authorizer, and the preflights that Chalice adds where there are none."""
    found = [(method, path) for path, methods in routes.items() for method, route in methods.items() if route.authorizer is None]
    preflights = [
        ("OPTIONS", path)
        for path, methods in routes.items()
        if "OPTIONS" not in methods and any(route.cors is not None for route in methods.values())
    ]
    return sorted([*found, *preflights])


def document(
    routes: Mapping[str, Mapping[str, Any]], city: Template, member_accounts: Sequence[str], api_id: str
) -> policy.Document:
    """The policy with the API's ARN written in, as API Gateway does when it takes the API's definition in."""
    boundary = resource_policy.boundary_of(city)
    statements = [
        resource_policy.for_everybody(unsigned_routes(routes)),
        *(resource_policy.for_member_accounts(boundary, list(member_accounts)) if member_accounts else []),
    ]
    api = f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{api_id}"
    made = {
        "Statement": [
            {**statement, "Resource": [api + name.removeprefix(resource_policy.THIS_API) for name in statement["Resource"]]}
            for statement in statements
        ]
    }
    policy.check(made)
    return made
