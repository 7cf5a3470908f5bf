"""Limits of the routes that need no signature, so that a flood of them leaves the functions to who is known.

API Gateway counts each method of a stage for itself, and can be told so route by route only. Which routes these are is read
from the API's own definition: one that is added is limited by that alone.
"""

from __future__ import annotations

from typing import Any

from infra.templates import Template

Limit = tuple[int, int]
"""Requests a second, and at once."""

IMAGES: Limit = (300, 1000)
"""Where a viewer fetches hundreds of frames for one study, for a whole city's readers."""
READING: Limit = (100, 400)
"""What a page or viewer asks for a few times for each study."""
OPENING: Limit = (20, 100)
"""What a person does once, and a program that guesses tokens as often as it can."""
HEALTH: Limit = (50, 100)

_BELOW_A_STUDY = ("/frames/", "/bulkdata/", "/instances/{instance}", "/rendered", "/thumbnail")


def limit(path: str) -> Limit:
    """The limit of a route without a signature."""
    if path == "/health":
        return HEALTH
    if path.startswith("/view/session"):
        return OPENING
    return IMAGES if any(part in path for part in _BELOW_A_STUDY) else READING


def public_routes(template: Template) -> list[tuple[str, str]]:
    """(method, path) of each route that a function answers without a signature, in order."""
    paths: dict[str, dict[str, Any]] = template["Resources"]["RestAPI"]["Properties"]["DefinitionBody"].get("paths", {})
    return sorted(
        (method.upper(), path)
        for path, operations in paths.items()
        for method, operation in operations.items()
        if not operation.get("security") and operation["x-amazon-apigateway-integration"]["type"] != "mock"
    )


def with_public_limits(template: Template) -> Template:
    """The packaged template, in which each of those routes has its own limit."""
    properties = template["Resources"]["RestAPI"]["Properties"]
    general = properties["MethodSettings"][0]
    own = [
        {
            **general,
            "HttpMethod": method,
            "ResourcePath": "/" + path.replace("/", "~1"),  # as a stage's settings are written
            "ThrottlingRateLimit": limit(path)[0],
            "ThrottlingBurstLimit": limit(path)[1],
        }
        for method, path in public_routes(template)
    ]
    api = template["Resources"]["RestAPI"] | {"Properties": {**properties, "MethodSettings": [general, *own]}}
    return {**template, "Resources": {**template["Resources"], "RestAPI": api}}
